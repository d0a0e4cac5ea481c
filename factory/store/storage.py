"""The output folder, on a disk or in a bucket. Files become visible only as a whole."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from actors.errors import OutputError
from actors.redaction import redact
from factory.store.bucket import Bucket
from factory.store.fence import Check, Fence, unfenced
from factory.store.local_folder import LocalFolder
from factory.store.retries import Patience


class Storage:
    """A folder at any fsspec URL, with atomic writes: a file is visible as a whole or not at all.

    Every method raises OutputError, with the place, the cause and what to do, where a disk or a store refuses. What may
    pass (time-outs, lost connections, cut transfers, answers 429 and 5xx of a store) is tried again before.

    Args:
        url: a local path, or `s3://bucket/folder` and the like.
        patience: how long failed requests to a store in the network are retried.
        run: the run that writes, by its name in the lock. Every change then checks that it still holds the lock, and
            raises LockLostError where it does not; see `factory.store.fence`. Empty for readers.
    """

    def __init__(self, url: str, patience: Patience | None = None, *, run: str = "") -> None:
        self.url = url.rstrip("/") or "/"
        if "::" in url:
            raise OutputError(f"{url}: chained URLs cannot be an output; give the folder itself")
        try:
            # Listings are not cached: other processes write here.
            files, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise OutputError(f"{url}: {error}") from error
        self._folder: LocalFolder | Bucket
        if isinstance(files, LocalFileSystem):
            self._folder = LocalFolder(Path(root))
            # Workers of a cluster have a working folder of their own.
            self.url = self._folder.url
        else:
            self._folder = Bucket(files, str(root).rstrip("/"), redact(self.url), patience or Patience())

        self.run, self.patience = run, patience
        self.check: Check = Fence(self._folder.read, self._folder.exists, self.url, run) if run else unfenced

    @property
    def local(self) -> Path | None:
        """The folder as a path, where it is on a disk."""
        return self._folder.root if isinstance(self._folder, LocalFolder) else None

    def exists(self, path: str) -> bool:
        return self._folder.exists(path)

    def read(self, path: str) -> bytes:
        """Read a file; raise OutputError if it is missing."""
        return self._folder.read(path)

    def open(self, path: str) -> IO[bytes]:
        """Opens a file for reading at any offset. Reading, too, raises OutputError."""
        return self._folder.open(path)

    def names(self, folder: str) -> list[str]:
        """File names in a folder, sorted; empty where there is no such folder."""
        return sorted(name for name in self._folder.names(folder) if not name.startswith("."))

    def empty(self, besides: Collection[str] = ()) -> bool:
        """Whether nothing is in the output but the named files and hidden ones."""
        return all(name in besides or name.startswith(".") for name in self._folder.top())

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of the files in a folder by name; empty where there is no such folder."""
        sizes = self._folder.sizes(folder)
        return {name: size for name, size in sorted(sizes.items()) if not name.startswith(".")}

    def entries(self) -> list[str]:
        """Names of the files and folders at the top of the output, sorted, without hidden ones."""
        return sorted(name for name in self._folder.top() if not name.startswith("."))

    def is_link(self, path: str) -> bool:
        """Whether a file or folder of the output is a symbolic link."""
        return self.local is not None and (self.local / path).is_symlink()

    def publish(self, path: str, data: bytes | Path, *, stays: Callable[[], bool] = lambda: False) -> bool:
        """Write a file that must not exist yet.

        Args:
            data: its content, or a file of this machine that holds it.
            stays: called if the lock turns out to be lost after the file was written: whether the run that has taken
                over may count on the file. Otherwise it is removed again.

        Returns:
            False, with nothing changed, where the file exists already: a late writer never replaces it. In a bucket, a
            file that holds these very bytes counts as written by this call.
        """
        return self._folder.publish(path, data, self.check, stays)

    def settle(self, path: str, data: bytes | Path) -> None:
        """Like `publish`, after removing what an earlier run has left under that name.

        It is never replaced in place: a run that lost its lock could not undo that.
        """
        if not self.publish(path, data):
            self.remove(path)
            if not self.publish(path, data):
                raise OutputError(
                    f"{self.url}: another run writes {path} at this moment; run the same command again"
                )

    def replace(self, path: str, data: bytes) -> None:
        """Writes a file whole, over an older one if there is one."""
        self._folder.replace(path, data, self.check)

    def remove(self, path: str) -> None:
        """Delete a file of this output; a missing one is not an error."""
        self._folder.remove(path, self.check)

    def remove_if_same(self, path: str, data: bytes) -> None:
        """Deletes a file that still has this content."""
        self._folder.remove_if_same(path, data)

    def remove_empty(self, folder: str) -> None:
        """Deletes a folder of a disk in which nothing is left."""
        if isinstance(self._folder, LocalFolder):
            self._folder.remove_empty(folder)

    def tidy(self) -> int:
        """Clears what killed writers left on a disk more than an hour ago; how many files that were.

        A bucket shows nothing of theirs. What it keeps of unfinished uploads is for the bucket's lifecycle rules.
        """
        return self._folder.tidy() if isinstance(self._folder, LocalFolder) else 0
