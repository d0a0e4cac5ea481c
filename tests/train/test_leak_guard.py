"""The guard before a training: what a test set also has is refused, left out or allowed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors.errors import TrainingError
from actors.images import encode_image, encode_mask
from factory.store.storage import Storage
from tests.train.data.data_sets import write_tar
from tests.train.small import recipe_of
from tinytown.render import render
from tinytown.scene import sample_scene
from train.data.catalogue import DataSet, open_data_set
from train.data.looks import looks_of, places_of
from train.data.reading import Reader
from train.leak_guard import find, keep_apart
from train.recipe import TrainingRecipe

PICTURES = [np.asarray(render(sample_scene(seed)).image) for seed in range(12)]


def jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=70)
    return stream.getvalue()


def tar_of(path: Path, *images: np.ndarray | bytes, captions: dict[int, str] | None = None) -> Path:
    """Samples s0, s1, ... with empty masks."""
    members = []
    for number, image in enumerate(images):
        data = image if isinstance(image, bytes) else encode_image(image)
        extension = "jpg" if data.startswith(b"\xff\xd8") else "png"
        members += [
            (f"s{number}.{extension}", data),
            (f"s{number}.mask.png", encode_mask(np.zeros((64, 64), np.bool_))),
        ]
        if number in (captions or {}):
            members.append((f"s{number}.json", json.dumps({"caption": (captions or {})[number]}).encode()))
    return write_tar(path, *members)


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Of 6 samples s1 is a test image, s3 one that was encoded again, s4 has a test caption."""
    tar = tar_of(
        tmp_path / "data.tar",
        PICTURES[5],
        PICTURES[0],
        PICTURES[6],
        jpeg(PICTURES[1]),
        PICTURES[7],
        PICTURES[8],
        captions={2: "a tree", 4: "A red  car"},
    )
    return open_data_set("mine", str(tar), label="mask", cache=None)


@pytest.fixture
def validation(tmp_path: Path) -> DataSet:
    tar = tar_of(tmp_path / "v.tar", *PICTURES[:4], captions={0: "a dog", 2: "a red car"})
    return open_data_set("validation", str(tar), label="mask", cache=None)


def recipe(**changes: object) -> TrainingRecipe:
    return recipe_of("unused", data=[{"name": "mine"}], keep_apart={"shared": "refuse", **changes})


def test_they_are_refused(data: DataSet, validation: DataSet) -> None:
    with pytest.raises(TrainingError) as refused:
        keep_apart(recipe(), [data], validation)
    message = str(refused.value)
    assert "3 of the 6 samples of the data set mine are in a test set, too" in message
    for part in (
        "1 with the same bytes in validation",
        "1 with the same image in validation",
        "1 with the same caption in validation",
        "data.tar, s1 (same bytes as ",
        "v.tar, s0)",
        "data.tar, s3 (same image as ",
        "data.tar, s4 (same caption as ",
        "keep_apart.shared: drop",
    ):
        assert part in message


def test_they_are_left_out(data: DataSet, validation: DataSet) -> None:
    told: list[str] = []
    (kept,) = keep_apart(recipe(shared="drop"), [data], validation, tell=told.append)
    assert kept.samples == 3 and kept.counts == (3,) and kept.left_out == {0: (1, 3, 4)}
    assert len(told) == 1 and told[0].startswith("3 of the 6 samples of the data set mine")
    assert kept.digest != data.digest
    again = DataSet.from_json(kept.to_json())
    assert again == kept
    keys = [Reader(again).read(0, row).key for row in range(3)]
    assert keys == ["000000/s0", "000000/s2", "000000/s5"]


def test_without_captions_and_without_looking(data: DataSet, validation: DataSet) -> None:
    (kept,) = keep_apart(recipe(shared="drop", captions=False), [data], validation, tell=lambda _: None)
    assert kept.left_out == {0: (1, 3)}
    assert keep_apart(recipe(shared="allow"), [data], validation) == [data]
    assert keep_apart(recipe(), [data], None) == [data]


def test_further_test_sets(data: DataSet, tmp_path: Path) -> None:
    other = tar_of(tmp_path / "other.tar", PICTURES[9], PICTURES[8])
    (kept,) = keep_apart(recipe(shared="drop", tests=[str(other)]), [data], None, tell=lambda _: None)
    assert kept.left_out == {0: (5,)}
    clean = tar_of(tmp_path / "clean.tar", *PICTURES[9:])
    assert keep_apart(recipe(tests=[str(clean)]), [data], None) == [data]


def test_nothing_is_left(validation: DataSet) -> None:
    with pytest.raises(TrainingError, match="nothing is left of the data set validation"):
        keep_apart(recipe(shared="drop"), [validation], validation, tell=lambda _: None)


def test_hashes_are_kept_in_the_output(data: DataSet, tmp_path: Path) -> None:
    cache = Storage(str(tmp_path / "out"))
    first = looks_of(data, cache)
    (table,) = (tmp_path / "out/index").glob("looks-*.parquet")
    (tmp_path / "data.tar").rename(tmp_path / "gone.tar")
    again = looks_of(data, cache)
    for name, value in vars(first).items():
        assert np.array_equal(getattr(again, name), value), name
    assert places_of(data).tolist() == [[0, row] for row in range(6)]
    (tmp_path / "gone.tar").rename(tmp_path / "data.tar")
    table.write_bytes(table.read_bytes()[:-100])
    assert np.array_equal(looks_of(data, cache).looks, first.looks)


def test_images_that_cannot_be_read_are_no_leaks(tmp_path: Path, validation: DataSet) -> None:
    """Two of them are not equal to each other, and what becomes of them is decided by `bad_samples`."""
    tar = tar_of(tmp_path / "bad.tar", b"\x89PNG nothing", PICTURES[5])
    bad = open_data_set("bad", str(tar), label="mask", cache=None)
    looks = looks_of(bad, None)
    assert looks.readable.tolist() == [False, True]
    assert keep_apart(recipe(), [bad], bad_and_good(tmp_path)) == [bad]


def bad_and_good(tmp_path: Path) -> DataSet:
    tar = tar_of(tmp_path / "bv.tar", b"\x89PNG nothing", PICTURES[6])
    return open_data_set("validation", str(tar), label="mask", cache=None)


def test_without_a_training(data: DataSet, validation: DataSet) -> None:
    samples, found = find(data.url, [validation.url], captions=False)
    assert samples == 6
    assert [(one.sample[-2:], one.how, one.test[-2:]) for one in found] == [
        ("s1", "same bytes", "s0"),
        ("s3", "same image", "s1"),
    ]
