"""Maps of other programs, found by the keys of their images wherever they lie; what does not fit is reported."""

from __future__ import annotations

import re
from pathlib import Path

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from actors.errors import EvaluationError, FlawforgeError, SourceError
from actors.images import encode_mask
from eval.predictions.predictions import Predictions
from tests.eval.predictions.test_score_map import NOISE, npy, png
from tests.eval.test_labelled import tar_of, write

SIZE = (3, 4)


def scores(number: int) -> NDArray[np.float32]:
    return np.full(SIZE, number / 8, np.float32)


def found(predictions: Predictions, key: str) -> float:
    """The one score of a map that is the same everywhere."""
    values = predictions.scores_for(key, SIZE, f"image {key}")
    assert values is not None and values.shape == SIZE
    (value,) = np.unique(values).tolist()
    return float(value)


def test_maps_of_tars_and_folders_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "tars").mkdir()
    write(tmp_path / "tars" / "1.tar", ("c.npy", npy(scores(3))), ("a.map.npy", npy(scores(1))))
    everywhere = np.full(SIZE, 2 * 65535 // 8, np.uint16)
    inside = ("folder/b.mask.png", encode_mask(np.zeros(SIZE, np.bool_)))
    write(tmp_path / "tars" / "0.tar", inside, ("folder/b.json", b"{"), ("folder/b.map.png", png(everywhere)))
    folder = tmp_path / "maps" / "deep"
    folder.mkdir(parents=True)
    (folder / "d.png").write_bytes(png(np.full(SIZE, 51, np.uint8)))
    (folder / "e.v2.npy").write_bytes(npy(scores(5)))
    (folder / "f.mask.png").write_bytes(encode_mask(np.ones(SIZE, np.bool_)))
    (folder / "notes.txt").write_text("not looked at")
    predictions = Predictions([str(tmp_path / "tars"), str(tmp_path / "maps")])
    assert predictions.maps == predictions.unused == 6
    values = {key: found(predictions, key) for key in ("a", "deep/d", "c", "deep/e.v2", "folder/b")}
    wanted = {"a": 1 / 8, "deep/d": 0.2, "c": 3 / 8, "deep/e.v2": 5 / 8, "folder/b": 0.25}
    assert values == pytest.approx(wanted, abs=1 / 65535)
    assert list(predictions.unused_keys()) == ["deep/f"] and predictions.masks == 0
    assert found(predictions, "deep/f") == 1 and predictions.unused == 0 and predictions.masks == 1
    predictions.check()
    assert len(predictions.notes()) == 1 and "1 maps are masks" in predictions.notes()[0]


def test_any_store_globs_and_single_files(tmp_path: Path) -> None:
    with fsspec.open("memory://maps-of-tests/x-0.tar", "wb") as stream:
        stream.write(tar_of([("a.npy", npy(scores(1)))]))
    with fsspec.open("memory://maps-of-tests/y/b.npy", "wb") as stream:
        stream.write(npy(scores(2)))
    assert found(Predictions(["memory://maps-of-tests/x-{0..0}.tar"]), "a") == 1 / 8
    assert found(Predictions(["memory://maps-of-tests/y"]), "b") == 2 / 8
    (tmp_path / "one.NPY").write_bytes(npy(scores(3)))
    assert found(Predictions([str(tmp_path / "one.NPY")]), "one") == 3 / 8
    assert found(Predictions([str(tmp_path / "o*")]), "one") == 3 / 8


def test_images_without_a_map(tmp_path: Path) -> None:
    url = write(tmp_path / "a.tar", ("a.npy", npy(scores(1))), ("z.npy", npy(scores(2))))
    predictions = Predictions([url])
    assert found(predictions, "a") == 1 / 8
    for number in range(7):
        assert predictions.scores_for(f"m{number}", SIZE, f"set.tar, m{number}") is None
    with pytest.raises(EvaluationError) as error:
        predictions.check()
    words = "7 images have no map: set.tar, m0; .*; set.tar, m4; and 2 more; maps without an image: z"
    assert re.match(words, str(error.value)) and "zero" in str(error.value) and "skip" in str(error.value)
    zero = Predictions([url], missing="zero")
    assert found(zero, "m") == 0
    zero.check()
    assert zero.notes()[0] == "1 images have no map and are scored 0 everywhere"
    skip = Predictions([url], missing="skip")
    assert skip.scores_for("m", SIZE, "m") is None
    with pytest.raises(EvaluationError, match="none of the 1 images has a map; maps without an image: a, z"):
        skip.check()
    assert found(skip, "a") == 1 / 8
    skip.check()
    assert (
        skip.missing == 1
        and "left out" in skip.notes()[0]
        and "1 of 2 maps belong to none" in skip.notes()[1]
    )


def test_one_key_twice(tmp_path: Path) -> None:
    first = write(tmp_path / "a.tar", ("a.npy", npy(scores(1))))
    second = write(tmp_path / "b.tar", ("a.map.png", png(np.zeros(SIZE, np.uint8))))
    with pytest.raises(
        EvaluationError, match=r"a\.tar, a\.npy and .*b\.tar, a\.map\.png are both a map of 'a'"
    ):
        Predictions([first, second])
    two = write(tmp_path / "c.tar", ("a.npy", npy(scores(1))), ("a.map.png", b""))
    with pytest.raises(EvaluationError, match="are two maps of one image"):
        Predictions([two])
    again = write(tmp_path / "d.tar", ("a.npy", b""), ("b.npy", b""), ("a.npy", b""))
    with pytest.raises(EvaluationError, match=r"d\.tar, a: it has npy twice"):
        Predictions([again])
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    (folder / "a.npy").write_bytes(b"")
    with pytest.raises(EvaluationError, match=r"a\.(png|npy) and .*a\.(png|npy) are two maps"):
        Predictions([str(folder)])
    predictions = Predictions([first])
    found(predictions, "a")
    with pytest.raises(EvaluationError, match="image 2: another image has the key 'a' too"):
        predictions.scores_for("a", SIZE, "image 2")


@pytest.mark.parametrize("of", [(3, 5), (4, 3), (1, 1)])
def test_maps_of_another_size(tmp_path: Path, of: tuple[int, int]) -> None:
    url = write(tmp_path / "a.tar", ("a.npy", npy(np.full(of, 0.5, np.float32))))
    with pytest.raises(EvaluationError) as error:
        Predictions([url]).scores_for("a", SIZE, "set.tar, a")
    assert f"a.npy is {of[1]} x {of[0]} pixels, the image 4 x 3; " in str(error.value)
    assert "set.tar, a: the map" in str(error.value) and "resize" in str(error.value)
    assert found(Predictions([url], resize="bilinear"), "a") == 0.5


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.npy", npy(np.array([[np.nan]])), "NaN"),
        ("a.npy", npy(np.array([[1.5]])), "from 1.5 to 1.5"),
        ("a.npy", npy([[{}]], pickled=True), "a pickle is never loaded"),
        ("a.map.png", png(NOISE)[:99], "cannot be decoded"),
        ("a.map.png", b"", "no bytes"),
        ("a.mask.png", png(np.full((8, 8), 100, np.uint8)), "a mask has 0 and 1"),
    ],
)
def test_maps_that_cannot_be_read(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    predictions = Predictions([write(tmp_path / "maps.tar", (name, data))])
    with pytest.raises(EvaluationError) as error:
        predictions.scores_for("a", SIZE, "image")
    assert f"maps.tar, {name}: " in str(error.value) and message in str(error.value)


def test_names_from_outside_lead_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret.npy"
    secret.write_bytes(npy(scores(1)))
    (tmp_path / "maps").mkdir()
    url = write(tmp_path / "maps" / "a.tar", ("../secret.npy", npy(scores(2))), ("a.npy", npy(scores(3))))
    predictions = Predictions([url], missing="skip")
    assert predictions.maps == 1
    for key in ("../secret", str(secret).removesuffix(".npy"), "maps/../secret", "a.npy"):
        assert predictions.scores_for(key, SIZE, key) is None


def test_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no map")
    with pytest.raises(
        SourceError, match=r"found no tars, or files NAME\.png or NAME\.npy; passed over: 1 txt"
    ):
        Predictions([str(tmp_path)])
    with pytest.raises(SourceError, match="no such file"):
        Predictions([str(tmp_path / "missing.tar")])
    with pytest.raises(SourceError, match=r"a\.tar: no member is a map"):
        Predictions([write(tmp_path / "a.tar", ("a.txt", b"text"))])
    data = tar_of([("a.npy", npy(scores(1)))])
    (tmp_path / "cut.tar").write_bytes(data[:700])
    with pytest.raises(FlawforgeError, match=r"cut\.tar is damaged"):
        Predictions([str(tmp_path / "cut.tar")])


def test_maps_that_have_gone_or_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy(scores(1)))
    predictions = Predictions([str(tmp_path)])
    monkeypatch.setattr("eval.predictions.listing.LARGEST_MAP", 100)
    with pytest.raises(EvaluationError, match=r"a\.npy: 176 bytes; at most 100 are read"):
        predictions.scores_for("a", SIZE, "a")
    monkeypatch.undo()
    gone = Predictions([str(tmp_path)])
    path.unlink()
    with pytest.raises(EvaluationError, match=r"a\.npy: it has gone since it was listed"):
        gone.scores_for("a", SIZE, "a")


def test_masks_that_are_called_maps_are_noticed(tmp_path: Path) -> None:
    levels = np.zeros(SIZE, np.uint8)
    levels[0] = 1
    predictions = Predictions([write(tmp_path / "a.tar", ("a.map.png", png(levels)))])
    assert predictions.scores_for("a", SIZE, "a") is not None
    assert "are these masks" in predictions.notes()[0]
