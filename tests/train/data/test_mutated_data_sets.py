"""Damaged manifests, indexes and tars: an error of ours or the sound bytes, and never a traceback."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from actors.errors import FlawforgeError
from factory.store.storage import Storage
from tests.train.data.data_sets import entries, everything, output, write_tar
from train.data.catalogue import open_data_set
from train.data.data_set import DataSet
from train.data.reading import Reader

FILES = ("out/manifest.json", "out/index/000000.parquet", "out/shards/000000.tar", "tars/x.tar")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Cut, or with bytes that are changed (anywhere, or near the end, where Parquet has its footer), lost or added."""
    place = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + data[place + rng.randrange(1, 64) :]
        case 2:
            return data[:place] + rng.randbytes(rng.randrange(1, 64)) + data[place:]
        case kind:
            changed = bytearray(data)
            for _ in range(4):
                changed[rng.randrange(0 if kind == 3 else max(0, len(data) - 600), len(data))] = (
                    rng.randrange(256)
                )
            return bytes(changed)


@pytest.mark.parametrize("opened_before", [True, False])
def test_damaged_files(tmp_path: Path, opened_before: bool) -> None:
    output(tmp_path / "out", "ara")
    write_tar(tmp_path / "tars/x.tar", *entries("a", "b"))
    cache = Storage(str(tmp_path / "cache"))

    def opened(name: str) -> DataSet:
        return open_data_set("x", str(tmp_path / name), label="intersection", cache=cache)

    known = {name: opened(name) for name in ("out", "tars")}
    sound = {name: everything(one, Reader(one)) for name, one in known.items()}
    paths = [
        *FILES,
        *(str(path.relative_to(tmp_path)) for path in sorted((tmp_path / "cache").rglob("*.parquet"))),
    ]
    assert len(paths) == 6
    whole = {path: (tmp_path / path).read_bytes() for path in paths}
    ends = Counter[str]()
    for number in range(120):
        path, rng = paths[number % len(paths)], random.Random(number)
        name = "out" if path.startswith("out/") else "tars"
        (tmp_path / path).write_bytes(mutated(whole[path], rng))
        try:
            data_set = known[name] if opened_before else opened(name)
            found = everything(data_set, Reader(data_set, cache=cache))
        except FlawforgeError:
            ends["error"] += 1
        else:
            # Pixels are not hashed; keys and the number of bytes are those that were indexed.
            lengths = [(key, len(one.image), len(one.label)) for key, one in found.items()]
            ends["sound"] += 1
            if opened_before:
                assert lengths == [(key, len(one.image), len(one.label)) for key, one in sound[name].items()]
        for each, data in whole.items():
            if each == path or each.startswith("cache/"):
                (tmp_path / each).write_bytes(data)
    assert ends["error"] > 30 and ends["sound"] > 20
