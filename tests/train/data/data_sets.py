"""Small data sets for the tests of training: outputs made by hand, and foreign tars."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from actors.batch import Sample
from factory.output.shards.reader import read_shard
from tests.factory.maintain.outputs import JUDGE, by_hand, sample
from train.data.data_set import DataSet
from train.data.reading import Encoded, Reader

Files = Mapping[str, bytes]


def output(folder: Path, *shards: str, original: bool = True, judged: bool = False) -> Path:
    """A finished output.

    Args:
        shards: a letter for each item, `a` for an accepted and `r` for a rejected one; all but the last of one length.
        judged: whether the samples have a judged map.
    """
    items: list[list[Sample]] = []
    for number, letters in enumerate(shards):
        items.append(
            [
                sample(
                    f"s{number}i{row}",
                    f"tinytown:{row}",
                    rejected="unchanged" if letter == "r" else "",
                    side=8 + row,
                    judged=judged,
                )
                for row, letter in enumerate(letters)
            ]
        )
    by_hand(folder, items, original=original, changes=[JUDGE] if judged else [])
    return folder


def content(folder: Path) -> dict[str, Files]:
    """The members of every sample of an output by key, as the reader of whole shards gives them."""
    return {
        one.key: one.members for tar in sorted(folder.glob("shards/*.tar")) for one in read_shard(str(tar))
    }


def write_tar(path: Path, *entries: tuple[str, bytes], format: int = tarfile.GNU_FORMAT) -> Path:
    """A tar of other programs, with a folder and a link that are no samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in entries:
            header = tarfile.TarInfo(name)
            header.size, header.mtime, header.uname = len(data), 1_700_000_000, "somebody"
            tar.addfile(header, io.BytesIO(data))
    return path


def entries(*stems: str, size: int = 700) -> Sequence[tuple[str, bytes]]:
    """An image, a mask and a text for each stem; the bytes are no images, and of other lengths for every stem."""
    return [
        (f"{stem}.{extension}", f"{stem} {extension} ".encode() * (size // 20 + len(stem)))
        for stem in stems
        for extension in ("png", "mask.png", "txt")
    ]


def everything(data_set: DataSet, reader: Reader) -> dict[str, Encoded]:
    """Every sample of a data set by key, in the order of its shards."""
    found = [reader.read(shard, row) for shard, count in enumerate(data_set.counts) for row in range(count)]
    assert len({one.key for one in found}) == len(found)
    return {one.key: one for one in found}
