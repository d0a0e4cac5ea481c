"""Where a file or folder is, however its URL was spelled: this decides which files are the same."""

from __future__ import annotations

import os
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from factory.store import hub


def is_local(files: Any) -> bool:
    """Whether a file system is that of this machine's disks."""
    return isinstance(files, LocalFileSystem)


def real_path(files: Any, path: str) -> str:
    """A path on a disk without `.`, `..`, repeated slashes and linked folders, or on the hub without its revision.

    A link to a file keeps its own name. If its target, or that of a revision, is exchanged, the file counts as changed.
    """
    if hub.is_hub(files):
        return hub.without_revision(path)
    if not is_local(files):
        return path
    if os.path.isdir(path):  # noqa: PTH112  # Path's raises where a folder may not be entered
        return os.path.realpath(path)
    folder, _, name = path.rpartition("/")
    return f"{os.path.realpath(folder or '/').rstrip('/')}/{name}"


def target_of(files: Any, path: str) -> str:
    """The path of the file that a link on a disk leads to; other stores have no links."""
    return os.path.realpath(path) if is_local(files) else path
