"""Hugging Face's hub as a store: fresh look-ups, single ranges, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from actors.errors import NoBucketError, SourceError
from factory.store.retries import chain

_ACCESS = "log in with `hf auth login`, or set HF_TOKEN"
_MEANINGS = {
    "GatedRepoError": f"the repository is gated: ask for access on its page on the hub, then {_ACCESS}",
    "RepositoryNotFoundError": (
        f"the hub shows no such repository: write hf://datasets/OWNER/NAME/...; where it is private, {_ACCESS}"
    ),
    "BucketNotFoundError": f"the hub shows no such bucket; where it is private, {_ACCESS}",
    "DisabledRepoError": "the hub has disabled this repository",
    "RevisionNotFoundError": "the repository has no such revision; write hf://datasets/OWNER/NAME@REVISION/...",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, so that nothing can be read from the hub; unset it",
    "HFValidationError": "not the name of a repository; write hf://datasets/OWNER/NAME/...",
    "HfUriError": "not a place on the hub; write hf://datasets/OWNER/NAME/...",
}
"""By name, the most specific first: other sources need no such package."""

_ABSENT = (
    "RepositoryNotFoundError",
    "BucketNotFoundError",
    "RevisionNotFoundError",
    "HFValidationError",
    "HfUriError",
)

_REVISION = re.compile(r"((?:[a-z]+/)?[^/@]+/[^/@]+)@(?!refs)[^/]+(?=/|$)")
"""In a path. Names in `refs/` (conversions, pull requests) are of branches with other files."""


def without_revision(path: str) -> str:
    """A path without the branch, tag or commit that it names: the same file at another time."""
    return _REVISION.sub(r"\1", path, count=1) if _REVISION.match(path) else path


def is_hub(files: Any) -> bool:
    """Whether a file system is the hub's."""
    return bool(files.protocol == "hf")


def info(files: Any, path: str) -> Mapping[str, Any]:
    """The present state of a file or folder on the hub.

    Its file system caches listings in spite of its options, and a plain refresh leaves the file's id out.
    """
    whole = not files.resolve_path(path).path
    found: Mapping[str, Any] = files.info(path) if whole else files.info(path, refresh=True, expand_info=True)
    return found


def entries(files: Any, folder: str) -> list[Mapping[str, Any]]:
    """What lies in a folder now; nothing of it stays in memory."""
    listed: list[Mapping[str, Any]] = files.ls(folder, detail=True, refresh=True)
    files.dircache.clear()
    return listed


def part(files: Any, path: str, start: int, end: int) -> bytes:
    """The bytes from `start` to before `end`, by one request; the file system would list the folder before."""
    place = files.resolve_path(path)
    if not hasattr(place, "repo_id"):  # a bucket
        return bytes(files.cat_file(path, start=start, end=end, cache_type="none", size=end))
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    url = hf_hub_url(
        place.repo_id,
        place.path_in_repo,
        repo_type=place.repo_type,
        revision=place.revision,
        endpoint=files.endpoint,
    )
    headers = {
        **build_hf_headers(token=files.token),
        "Range": f"bytes={start}-{end - 1}",
        "Accept-Encoding": "identity",
    }
    answer = get_session().get(url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
    hf_raise_for_status(answer)
    return bytes(answer.content)


def explained(url: str, error: BaseException) -> SourceError | None:
    """The error of a source for a lasting error of the hub; None for any other error."""
    names = {kind.__name__ for one in chain(error) for kind in type(one).__mro__}
    name = next((name for name in _MEANINGS if name in names), None)
    if name is None:
        return None
    return (NoBucketError if name in _ABSENT else SourceError)(f"{url}: {_MEANINGS[name]}")
