"""Web servers as a store: bodies of bounded size at a bounded pace, never decompressed, redirects one at a time."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.asyn import sync

from actors.errors import EncodedAnswerError, Reject, TooManyBytesError
from actors.redaction import redact
from factory.store.addresses import Reach, socket_factory
from factory.store.retries import chain

if TYPE_CHECKING:
    import aiohttp

LARGEST_BODY = 64 << 20
"""Bytes above which an answer to a request for a whole file is not read. Eight are read at once, and kept in memory."""

GRACE = 20.0
"""Seconds for connecting, for the head of an answer, between two pieces of a body, and before `SLOWEST` holds."""

SLOWEST = 64 << 10
"""Bytes per second that a body must bring on average."""

_LONGEST = 300.0
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_COMPRESSED = re.compile(r"gzip|deflate|\bbr\b|zstd|compress", re.IGNORECASE)
_REDIRECTS = (301, 302, 303, 307, 308)


def forget_clients() -> None:
    """Lets the next request use new connections, with the limits that then hold."""
    _files.cache_clear()
    _client_of.cache_clear()


class SlowServerError(TimeoutError):
    """A server took the connection and then answered too slowly, or not at all."""


@dataclass(frozen=True)
class Redirect:
    """A server's answer that the file is elsewhere."""

    location: str


def options(protocol: str) -> dict[str, Any]:
    """Options for fsspec's file system of a protocol; empty for all but web servers."""
    return {"get_client": _client_of(Reach.ANY)} if protocol in ("http", "https") else {}


def get(url: str, reach: Reach) -> bytes | Redirect:
    """The body of a file, by one request that follows no redirect.

    Args:
        url: of a file.
        reach: which addresses its host may have.

    Raises:
        Reject: `url_not_allowed`, an address is out of reach; `bad_url`, such as one of a host that cannot be.
        FileNotFoundError: there is no such file.
        TooManyBytesError, SlowServerError, EncodedAnswerError: see these classes.
        aiohttp.ClientError: anything else.
    """
    files = _files(reach)
    answer: bytes | Redirect = sync(files.loop, _get, files, url)
    if isinstance(answer, bytes):
        _last.received = time.monotonic()
    return answer


def received_since(moment: float) -> bool:
    """Whether any file has come from a web server since a moment of `time.monotonic`: then the network is well."""
    return _last.received > moment


def is_slow(error: BaseException) -> bool:
    """Whether a request failed since its server, once connected, took too long."""
    return any(
        isinstance(one, SlowServerError) or type(one).__name__ == "SocketTimeoutError" for one in chain(error)
    )


@dataclass
class _Last:
    """When this process last received a whole file."""

    received: float = float("-inf")


_last = _Last()


async def _get(files: Any, url: str) -> bytes | Redirect:
    session = await files.set_session()
    try:
        async with asyncio.timeout(GRACE * 2):  # connecting has a limit of its own, and an error of its own
            answer = await session.get(files.encode_url(url), allow_redirects=False)
    except ValueError:  # of yarl, or of the codec of host names
        raise Reject("bad_url", f"{redact(url):.200} is not a URL that can be asked for") from None
    except TimeoutError as error:
        if type(error).__name__ == "ConnectionTimeoutError":
            raise
        raise SlowServerError(f"{url}: no answer within {GRACE:g} seconds") from error
    async with answer:
        if answer.status in _REDIRECTS and "Location" in answer.headers:
            return Redirect(answer.headers["Location"])
        files._raise_not_found_for_status(answer, url)
        return bytes(await answer.read())


@cache
def _files(reach: Reach) -> Any:
    return fsspec.filesystem("http", skip_instance_cache=True, get_client=_client_of(reach))


@cache
def _client_of(reach: Reach) -> Callable[..., Any]:
    async def client(**options: Any) -> aiohttp.ClientSession:
        import aiohttp

        connector = None
        if reach is not Reach.ANY:
            # One address after the other: the race of several hides why one was refused.
            connector = aiohttp.TCPConnector(socket_factory=socket_factory(reach), happy_eyeballs_delay=None)
        return aiohttp.ClientSession(
            **options,
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),  # otherwise a worker keeps the cookies of every host
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
            response_class=_bounded(),
            timeout=aiohttp.ClientTimeout(total=_LONGEST, sock_connect=GRACE, sock_read=GRACE),
        )

    return client


@cache
def _bounded() -> type[aiohttp.ClientResponse]:
    """A response whose body is read with limits, whoever reads it: fsspec reads bodies and lists of links whole."""
    import aiohttp

    class Bounded(aiohttp.ClientResponse):
        async def read(self) -> bytes:
            if self._body is None:
                try:
                    self._body = await _body(self)
                except BaseException:
                    self.close()
                    raise
            return self._body

    return Bounded


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    requested = _RANGE.fullmatch(answer.request_info.headers.get("Range", ""))
    most = LARGEST_BODY if requested is None else int(requested[2]) - int(requested[1]) + 1
    encoding = answer.headers.get("Content-Encoding", "")
    if _COMPRESSED.search(encoding) and answer.ok:
        raise EncodedAnswerError(
            f"{answer.url}: the answer is compressed ({encoding[:40]}), which was not asked for"
        )
    if answer.ok and (answer.content_length or 0) > most:
        raise TooManyBytesError(
            f"{answer.url}: {answer.content_length:,} bytes, where at most {most:,} are read"
        )
    began = time.monotonic()
    with (
        io.BytesIO() as body
    ):  # closed after an error, too, which otherwise keeps it for as long as a reject lives
        async for piece in answer.content.iter_any():
            body.write(piece)
            if body.tell() > most:
                raise TooManyBytesError(f"{answer.url}: more than {most:,} bytes")
            if time.monotonic() - began > GRACE + body.tell() / SLOWEST:
                raise SlowServerError(
                    f"{answer.url}: {body.tell():,} bytes in {time.monotonic() - began:.0f} seconds"
                )
        return body.getvalue()
