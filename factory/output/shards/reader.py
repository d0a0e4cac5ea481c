"""Reads shards that Flawforge has written: a stream of samples from a path or an fsspec URL, one in memory at a time.

Nothing is unpacked. Tars in any other form are refused; those of other programs are read by
`factory.sources.webdataset`.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from actors.errors import OutputError
from factory.output.shards.records import tar_path
from factory.output.shards.tar import samples
from factory.store import remote
from factory.store.storage import Storage

LARGEST_JSON = 1 << 20
"""Bytes of a JSON member."""

_BLOCK = 8 << 20
"""Bytes per request to a store in the network."""


@dataclass(frozen=True)
class ShardSample:
    """A sample of a shard.

    Attributes:
        shard: where the shard is, for messages.
        key: unique in its data set.
        members: content by extension, such as `image.png`, in the order of the tar.
    """

    shard: str
    key: str
    members: Mapping[str, bytes]

    def member(self, extension: str) -> bytes:
        """The content of a member.

        Raises:
            OutputError: the sample has no such member.
        """
        if extension not in self.members:
            raise OutputError(
                f"{self.shard}, {self.key}: {extension} is missing; it has {', '.join(self.members)}"
            )
        return self.members[extension]

    def json(self, extension: str = "json") -> dict[str, Any]:
        """The content of a JSON member.

        Raises:
            OutputError: the sample has no such member, or it is larger than `LARGEST_JSON`, or no JSON object.
        """
        data = self.member(extension)
        where = f"{self.shard}, {self.key}: {extension}"
        if len(data) > LARGEST_JSON:
            raise OutputError(f"{where} has {len(data):,} bytes; at most {LARGEST_JSON:,} are read")
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise OutputError(f"{where} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise OutputError(f"{where} holds a {type(document).__name__}, not an object")
        return document


def read_shard(url: str) -> Iterator[ShardSample]:
    """Stream the samples of a tar, in its order.

    Args:
        url: fsspec URL or path.

    Raises:
        OutputError: the tar is missing, cannot be read, is damaged, or is not of the form that Flawforge writes.
        SourceError: the store of the URL is unknown, or gives no access.
    """
    files, path = remote.open_store(url)
    try:
        info = remote.info_of(files, path)
        if info is None:
            raise OutputError(f"{url}: no such shard")
        with remote.open_file(files, path, info, _BLOCK) as stream:
            yield from _samples(stream, url)
    except OSError as error:
        raise OutputError(f"{url} cannot be read: {error}") from error


def read_shard_of(storage: Storage, number: int) -> Iterator[ShardSample]:
    """Stream the samples of a shard of an output, as `read_shard` does."""
    path = tar_path(number)
    with storage.open(path) as stream:
        yield from _samples(stream, f"{storage.url}: {path}")


def _samples(stream: IO[bytes], where: str) -> Iterator[ShardSample]:
    found = samples(stream)
    while True:
        try:
            key, members = next(found)
        except StopIteration:
            return
        except tarfile.TarError as error:
            raise OutputError(f"{where} is not a tar as it is written: {error}") from error
        yield ShardSample(where, key, members)
