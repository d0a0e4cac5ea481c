"""A file in an object store, read at any offset, in pieces of exactly the requested length."""

from __future__ import annotations

import io
import os
from collections.abc import Callable


class RemoteFile(io.RawIOBase):
    """For `io.BufferedReader`, which requests pieces.

    Args:
        fetch: the bytes from a start to before an end.
        size: of the whole file, in bytes.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch, self._size, self._at = fetch, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"cannot seek to {origin + offset}, before the start")
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills as much of the buffer as the file has left; 0 at its end."""
        end = min(self._size, self._at + len(buffer))
        if self._at >= end:
            return 0
        data = self._fetch(self._at, end)
        buffer[: len(data)] = data
        self._at = end
        return len(data)
