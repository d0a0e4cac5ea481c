"""Deleting an output in order to begin anew: files with names that a build makes, and no others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from actors.errors import OutputError
from factory.output.identity import PATH as IDENTITY
from factory.output.layout import CRASH_MARK, CRASH_MARKS, HARDWARE, RUNS, SCANS, VERSIONS
from factory.store.fence import LOCK
from factory.store.remote import read_ahead
from factory.store.storage import Storage

Names = Mapping[str, re.Pattern[str]]
"""Names of files by folder; the empty name is the output itself."""

OURS: Names = {
    CRASH_MARKS: CRASH_MARK,
    RUNS: re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}\.jsonl?"),
    "stats": re.compile(r"\d{6,}\.json"),
    "splits": re.compile(r"(train|val)\.txt"),
    HARDWARE: re.compile(r"(select|corrupt|predict)\.json"),
    "index": re.compile(r"\d{6,}\.parquet"),
    "shards": re.compile(r"\d{6,}\.tar"),
    VERSIONS: re.compile(r"\d{4}\.(plan\.parquet|recipe\.yaml|identity\.json)"),
    SCANS: re.compile(r"\d{4}\.parquet"),
    "": re.compile(r"manifest\.json|README\.md|gallery\.html|recipe\.yaml|plan\.parquet"),
}
"""Names of the files that a build makes, by folder.

They are deleted in this order, sidecars before the shards, and the identity last of all, so that a kill in the middle
leaves an output that is still ours, and no shard that seems done.
"""

_AT_ONCE = 16
MOST_NAMED = 5
"""Files of others that a message names."""


def check_clearable(storage: Storage, ours: Names = OURS) -> None:
    """Raises OutputError where a folder of the output is a symbolic link: what it leads to is not ours to delete."""
    for folder in filter(None, ours):
        if storage.is_link(folder):
            raise OutputError(
                f"{storage.url}/{folder} is a symbolic link, and overwriting does not delete behind links; nothing was "
                "changed: remove the link, or choose another folder"
            )


def clear(storage: Storage, ours: Names = OURS, *, last: str = IDENTITY) -> str:
    """Delete what a build, or a training, made.

    Args:
        storage: the output.
        ours: names of the files to delete, by folder, in the order of deletion.
        last: the file that is deleted after all others, since it tells whose the output is.

    Returns:
        What was left, as a sentence; empty where nothing is left.

    Raises:
        OutputError: a folder is a symbolic link, or a file cannot be deleted.
        LockLostError: another run has taken the output over.
    """
    check_clearable(storage, ours)
    for folder, pattern in ours.items():
        paths = [f"{folder}/{name}".lstrip("/") for name in storage.names(folder) if pattern.fullmatch(name)]
        for _ in read_ahead(storage.remove, paths, _AT_ONCE):
            pass
        if folder:
            storage.remove_empty(folder)
    storage.remove(last)
    return _left(storage, ours)


def _left(storage: Storage, ours: Names) -> str:
    left: list[str] = []
    for entry in storage.entries():
        if entry in ours:
            left += [f"{entry}/{name}" for name in storage.names(entry)] or [entry]
        elif entry != LOCK:
            left.append(entry)
    return _sentence(storage, left)


def _sentence(storage: Storage, left: Sequence[str]) -> str:
    if not left:
        return ""
    more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
    return f"{storage.url}: left alone, since Flawforge did not make it: {', '.join(left[:MOST_NAMED])}{more}"
