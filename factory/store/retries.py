"""Patience with stores in the network: what may pass is tried again, after growing, random pauses."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from actors.redaction import scrub

log = logging.getLogger(__name__)

SECONDS_BEFORE_WARNING = 10.0
"""Seconds of trouble after which the log has a warning; single errors are common."""

_PASSING_STATUS = {408, 409, 416, 425, 429}
_PASSING_CODES = {
    "BadDigest",
    "IncompleteBody",
    "NoSuchUpload",
    "RequestTimeout",
    "SlowDown",
    "XAmzContentSHA256Mismatch",
}
"""What S3 answers with a 400 or 404 to an upload that was cut short, came late or was cleared away."""

_LASTING_CODES = {"BlobArchived", "BlobBeingRehydrated"}
"""What Azure answers with a 409 for as long as a blob is in its archive."""

_LASTING_ERRORS = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
    PermissionError,
)
_LASTING_NUMBERS = {
    errno.EACCES,
    errno.EINVAL,
    errno.EMSGSIZE,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOSYS,
    errno.EPERM,
    errno.EROFS,
}
_TRANSPORT_ERRORS = {
    "ChecksumError of botocore",
    "ClientError of aiohttp",
    "ConnectionError of botocore",
    "CredentialRetrievalError of botocore",
    "FlexibleChecksumError of botocore",
    "HTTPClientError of botocore",
    "RequestException of requests",
    "ResponseParserError of botocore",
    "TransportError of httpx",
    "TransportError of httpx2",
}
"""By name: which of these packages are installed depends on the stores that a user has."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How long failed requests to a store are retried.

    Attributes:
        seconds: after which no new attempt is made.
        first, longest: bounds of the pause before the second attempt and before any; a pause is drawn evenly
            between zero and its bound, which doubles from attempt to attempt.
    """

    seconds: float = 120.0
    first: float = 0.25
    longest: float = 20.0


def persist(attempt: Callable[[], Result], what: str, patience: Patience) -> Result:
    """Calls `attempt` until it succeeds, fails for good, or patience is at its end; then raises its last error.

    Args:
        attempt: must be harmless to repeat, also where it has succeeded unnoticed.
        what: names the work in the log.
    """

    def report(state: RetryCallState) -> None:
        spent, error = state.seconds_since_start or 0.0, state.outcome and state.outcome.exception()
        level = logging.WARNING if spent > SECONDS_BEFORE_WARNING else logging.DEBUG
        words = (scrub(what), state.attempt_number, spent, scrub(str(error)))
        log.log(level, "%s: attempt %d failed after %.0f s: %s", *words)

    retrying = Retrying(
        retry=retry_if_exception(may_pass),
        wait=wait_random_exponential(multiplier=patience.first, max=patience.longest),
        stop=stop_after_delay(patience.seconds),
        before_sleep=report,
        reraise=True,
    )
    return retrying(attempt)


def may_pass(error: BaseException) -> bool:
    """Whether another attempt may succeed: time-outs, lost connections, cut transfers, 429 and 5xx.

    A store's answer counts before the Python error that its driver made of it.
    """
    status, code = answer(error)
    if code in _PASSING_CODES:
        return True
    if code in _LASTING_CODES:
        return False
    if status is not None:
        return status in _PASSING_STATUS or (status >= 500 and status != 501)
    if isinstance(error, _LASTING_ERRORS):
        return False
    if isinstance(error, OSError):
        return error.errno not in _LASTING_NUMBERS
    return any(
        f"{base.__name__} of {base.__module__.partition('.')[0]}" in _TRANSPORT_ERRORS
        for base in type(error).__mro__
    )


def answer(error: BaseException) -> tuple[int | None, str]:
    """The HTTP status that a store answered with and its own name for it, as far as the error has them."""
    for one in chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, Mapping):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return status, str(response.get("Error", {}).get("Code", ""))
        for holder, name in ((one, "status"), (one, "status_code"), (one, "code"), (response, "status_code")):
            status = getattr(holder, name, None)  # aiohttp, Azure, Google, requests
            if isinstance(status, int) and 400 <= status < 600:
                code = getattr(one, "error_code", None) or ""  # Azure, whose codes are an enum
                return status, str(getattr(code, "value", code))
    return None, ""


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
