"""What the errors of object stores mean, and what to do about them. Drivers hide many of the stores' codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from factory.store.retries import answer, chain

ANONYMOUS = """where the bucket is public, set FSSPEC_S3='{"anon": true}' on every machine to read it without a login"""
_S3_LOGIN = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role"
_NO_CREDENTIALS = f"there are no credentials for it: {_S3_LOGIN}"
_EXPIRED = "the credentials have expired: get new ones (aws sso login, or a session token), then run the same command"
_UNKNOWN_KEY = "the store does not know the access key: correct AWS_ACCESS_KEY_ID or AWS_PROFILE"
_BAD_SIGNATURE = (
    "the secret key does not belong to the access key: correct AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
)
_SKEWED = (
    "the clock of this machine is wrong by more than the store allows: synchronise it (NTP), then run again"
)
_ARCHIVED = (
    "the object is archived (such as GLACIER), and cannot be read until it is restored; or leave it out"
)
_REGION = "the bucket is in another region<which>: set AWS_DEFAULT_REGION to it, or the endpoint to that of the bucket"
_NO_BUCKET = "there is no such bucket: correct the URL, or create the bucket"
_DENIED = (
    "access is denied: the credentials are valid and lack the right; grant it (on S3 GetObject and ListBucket to read, "
    "PutObject and DeleteObject to write)"
)
_REFUSED = (
    "the store refused the request without a reason: most often a token has expired or the region is wrong"
)
_GOOGLE_LOGIN = "run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
_AZURE_LOGIN = "run az login, or set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or a SAS token"

_CODES = {
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"), _EXPIRED
    ),
    **dict.fromkeys(("InvalidToken", "InvalidClientTokenId", "InvalidSecurity"), _EXPIRED),
    **dict.fromkeys(("InvalidAccessKeyId", "NotSignedUp"), _UNKNOWN_KEY),
    "SignatureDoesNotMatch": _BAD_SIGNATURE,
    "RequestTimeTooSkewed": _SKEWED,
    **dict.fromkeys(("InvalidObjectState", "BlobArchived", "BlobBeingRehydrated"), _ARCHIVED),
    **dict.fromkeys(("PermanentRedirect", "TemporaryRedirect", "Redirect", "301", "307"), _REGION),
    **dict.fromkeys(("AuthorizationHeaderMalformed", "IllegalLocationConstraintException"), _REGION),
    **dict.fromkeys(("NoSuchBucket", "InvalidBucketName", "ContainerNotFound"), _NO_BUCKET),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem", "403"), _DENIED),
    **dict.fromkeys(("AuthorizationPermissionMismatch", "AuthorizationFailure"), _DENIED),
    **dict.fromkeys(("AuthenticationFailed", "NoAuthenticationInformation"), f"log in again: {_AZURE_LOGIN}"),
    "400": _REFUSED,
}
"""By the store's own code, of S3 and Azure. Answers to HEAD have no body, and so only a status as their code."""

_NAMES = {
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError"), _NO_CREDENTIALS),
    "ProfileNotFound": "there is no such AWS profile: correct AWS_PROFILE",
    "NoRegionError": "no region is set: set AWS_DEFAULT_REGION",
    **dict.fromkeys(("TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError"), _EXPIRED),
    "DefaultCredentialsError": f"there are no credentials for it: {_GOOGLE_LOGIN}",
    "RefreshError": f"the credentials have expired: {_GOOGLE_LOGIN}",
    **dict.fromkeys(
        ("ClientAuthenticationError", "CredentialUnavailableError"),
        f"the credentials were not accepted: {_AZURE_LOGIN}",
    ),
}
"""By the names of the drivers' classes, which need not be installed: botocore, google.auth, azure."""


@dataclass(frozen=True)
class Meaning:
    """What a store's error means.

    Attributes:
        words: the cause and what to do.
        archived: whether the single object is archived.
        no_bucket: whether there is no such bucket.
        vague: whether the store gave no reason, as in answers to HEAD.
        perhaps_public: whether a reader may do without credentials, see `ANONYMOUS`.
    """

    words: str
    archived: bool = False
    no_bucket: bool = False
    vague: bool = False
    perhaps_public: bool = False


def meaning(error: BaseException) -> Meaning | None:
    """The meaning of a store's error; None if it is not one that a user can fix."""
    status, code = answer(error)
    if code in _CODES:
        words, region = _CODES[code], _region(error)
        return Meaning(
            f"{words.replace('<which>', f' ({region})' if region else '')} ({code})",
            archived=words is _ARCHIVED,
            no_bucket=words is _NO_BUCKET,
            vague=code.isdigit(),
            perhaps_public=words is _DENIED or words is _UNKNOWN_KEY,
        )
    names = {kind.__name__ for one in chain(error) for kind in type(one).__mro__}
    words = next((words for name, words in _NAMES.items() if name in names), "")
    if not words and status in (401, 403) and any(name == "HttpError" for name in names):  # gcsfs
        words = f"access is denied: grant it, or {_GOOGLE_LOGIN}"
    return Meaning(words, perhaps_public=words is _NO_CREDENTIALS) if words else None


def clearer(files: Any, path: str, error: Exception) -> Exception:
    """The store's error with its reason: answers to HEAD have none, so the request is repeated with another method.

    Args:
        files: the fsspec file system.
        path: of the file or folder that was looked up.
        error: what the look-up raised.
    """
    found, inside = meaning(error), "/" in path.strip("/")
    is_missing_bucket = not inside and answer(error)[1] == "404"
    if not is_missing_bucket and (found is None or not found.vague):
        return error
    try:
        if inside:
            files.cat_file(path, start=0, end=1)
        else:
            files.ls(path, detail=False)
    except Exception as again:  # every store's driver has its own kinds
        explained = meaning(again)
        return again if explained is not None and not explained.vague else error
    return error


def _region(error: BaseException) -> str:
    for one in chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            return str(headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region", ""))
    return ""
