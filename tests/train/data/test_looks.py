"""Hashes of outputs and of foreign tars: every sample in its place, with its caption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from actors.images import decode_image, encode_image
from actors.perceptual_hash import perceptual_hash
from eval.leaks import TEST_CROPS, caption_hash, content_hash
from tests.train.data.data_sets import content, output, write_tar
from train.data.catalogue import open_data_set
from train.data.looks import looks_of, places_of


def test_an_output(tmp_path: Path) -> None:
    """Rejected items have no place; captions are those of the index."""
    folder = output(tmp_path / "out", "ara", "rrr", "aa")
    data = open_data_set("out", str(folder), label="mask", cache=None)
    found = looks_of(data, None, TEST_CROPS)
    assert places_of(data).tolist() == [[0, 0], [0, 1], [2, 0], [2, 1]]
    files = content(folder)
    keys = ["s0i0", "s0i2", "s2i0", "s2i1"]
    images = [files[key]["image.png"] for key in keys]
    assert found.contents.tolist() == [content_hash(image) for image in images]
    assert found.looks.shape == (4, len(TEST_CROPS)) and found.readable.all()
    assert found.looks[:, 0].tolist() == [perceptual_hash(decode_image(image)) for image in images]
    captions = {}
    for index in sorted(folder.glob("index/*.parquet")):
        captions |= {row["key"]: row["caption"] for row in pq.read_table(index).to_pylist()}
    assert found.captions.tolist() == [caption_hash(captions[key] or "") for key in keys]


def test_foreign_tars(tmp_path: Path) -> None:
    """A caption belongs to its image, wherever its file is in the tar; one that is not JSON is none."""
    image = encode_image(np.zeros((8, 8, 3), np.uint8))
    tar = write_tar(
        tmp_path / "a.tar",
        ("b.json", b'{"caption": "two"}'),
        ("a.png", image),
        ("b.png", image),
        ("c.png", image),
        ("c.json", b"{"),
        ("a.json", b'{"caption": "one"}'),
        ("d.json", b'{"caption": "no image"}'),
    )
    found = looks_of(open_data_set("a", str(tar), label="none", cache=None), None)
    assert found.captions.tolist() == [caption_hash("two"), caption_hash("one"), 0]
    assert len(set(found.contents.tolist())) == 1
