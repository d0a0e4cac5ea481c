"""The images of Pick-a-Pic v1: where they are in its Parquet files, by the uids of RichHF-18k, and their bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import Reject
from eval.richhf.git_lfs import refuse_pointer_file
from factory.output.reference import Raw, Reference
from factory.sources.listing import Wanted, extension_of, extension_reason, find
from factory.sources.parquet import ParquetSource
from factory.sources.parquet_file import ParquetRows, is_text
from factory.store import remote

REPOSITORY = "yuvalkirstain/pickapic_v1"
"""Of Pick-a-Pic v1 on the hub."""

SPLITS = {"train": "train", "dev": "train", "test": "test"}
"""The split of Pick-a-Pic that holds the images of each split of RichHF-18k."""

CAPTION = "caption"
_UIDS = ("image_0_uid", "image_1_uid")
_IMAGES = ("jpg_0", "jpg_1")
_EXTENSION = "parquet"
_SETTING = "the join with RichHF-18k"
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class ImagePlace:
    """Where an image is.

    Attributes:
        url: of the Parquet file, without secrets.
        version: the file's state, see `factory.store.remote.version_of`.
        group, row: the row group, and the row in it.
        side: 0 or 1, the image of the pair.
    """

    url: str
    version: str
    group: int
    row: int
    side: int

    @property
    def member(self) -> str:
        """The place in its file, as `factory.sources.parquet` reads it."""
        return json.dumps({"group": self.group, "row": self.row})

    def encoded(self) -> dict[str, object]:
        """For the plan."""
        return asdict(self)


def urls_of(images: str, split: str) -> list[str]:
    """The Parquet files with the images of a split of RichHF-18k.

    Args:
        images: a folder with `train-*.parquet` and `test-*.parquet` as on the hub, or files or a glob, which are taken
            as they are.
        split: a key of `SPLITS`.
    """
    if images.lower().endswith(f".{_EXTENSION}") or "*" in images:
        return [images]
    return [f"{images.rstrip('/')}/{SPLITS[split]}-*.{_EXTENSION}"]


def find_images(
    urls: Sequence[str], uids: Collection[str], skipped: Counter[str]
) -> Iterator[tuple[str, ImagePlace]]:
    """Streams uids with their places, each uid once, in the order of the files.

    An image is part of several pairs; the first counts. Only the columns of uids are read, and no file after the one
    that holds the last uid.

    Args:
        urls: see `urls_of`.
        uids: those that are looked for.
        skipped: counts files that are passed over, by reason.

    Raises:
        SourceError: no Parquet file is found, one is damaged, or has no columns of uids.
    """
    wanted = Wanted(
        "Parquet files", lambda name: None if extension_of(name, [_EXTENSION]) else extension_reason(name)
    )
    missing = set(uids)
    values = pa.array(sorted(missing), pa.string())
    for found in find(urls, wanted, skipped):
        if not missing:
            return
        refuse_pointer_file(found.url, found.info)
        rows, version = ParquetRows(found.url, found.info), remote.version_of(found.info)
        for name in _UIDS:
            rows.check(_SETTING, name, is_text, "text")
        for group in range(len(rows.sizes)):
            for row, side, uid in _rows_with(rows, group, values):
                if uid in missing:
                    missing.remove(uid)
                    yield uid, ImagePlace(found.url, version, group, row, side)


def _rows_with(rows: ParquetRows, group: int, uids: pa.Array) -> Iterator[tuple[int, int, str]]:
    """Row, side and uid, in the order of the rows, of the images that have one of the uids."""
    first = 0
    for batch in rows.batches(group, _UIDS, _ROWS_AT_ONCE):
        columns = [batch.column(name).cast(pa.string()) for name in _UIDS]
        hits = [pc.indices_nonzero(pc.is_in(column, value_set=uids)).to_pylist() for column in columns]
        for row, side in sorted((row, side) for side, found in enumerate(hits) for row in found):
            yield first + row, side, columns[side][row].as_py()
        first += len(batch)


class Images:
    """Reads images in the order of their places, neighbours in a row group together."""

    def __init__(self) -> None:
        self._sources = [ParquetSource([], image=[column], caption=CAPTION) for column in _IMAGES]

    def read(self, places: Sequence[ImagePlace | None]) -> Iterator[Raw | Reject | None]:
        """Streams image and caption for each place; None for None.

        Raises:
            SourceError: a file has changed since the place was found, is gone or damaged, or has no such column.
            OSError: the store failed.
        """
        streams = [
            source.read([_reference(place) for place in places if place is not None and place.side == side])
            for side, source in enumerate(self._sources)
        ]
        for place in places:
            yield None if place is None else next(streams[place.side])[1]


def _reference(place: ImagePlace) -> Reference:
    return Reference("", place.url, place.member, "", place.version)
