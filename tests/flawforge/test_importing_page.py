"""docs/importing.md: the commands of masks and COCO files, and the Python blocks, as they stand."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.coco_files import (
    HEIGHT,
    WIDTH,
    annotation,
    corners,
    read_samples,
    rectangle,
    write_coco,
    write_image,
)
from tests.commands import ROOT, run
from tests.eval.mask_folders.test_data_set import write_mask

PAGE = (ROOT / "docs/importing.md").read_text()
INSIDE = rectangle(5, 5, 20, 20)


def commands(section: str) -> list[list[str]]:
    """The commands of a section of the page, without `flawforge`."""
    text = PAGE[PAGE.index(f"## {section}\n") :].split("\n## ")[0]
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("flawforge ")]


def do(section: str) -> None:
    found = commands(section)
    assert found
    for command in found:
        done = run(*command)
        assert done.returncode == 0, done.stderr


def test_masks_in_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_image(Path("pal4vst/images/test/a.jpg"))
    write_mask(Path("pal4vst/labels/test/a.png"), INSIDE)
    write_image(Path("mine/a.jpg"))
    write_image(Path("mine/b.jpg"))
    write_mask(Path("mine/a_mask.png"), INSIDE)
    do("Masks in folders")
    assert np.array_equal(read_samples(Path("data/pal4vst-test"))["a"]["mask.png"], INSIDE)
    mine = {name: sample["mask.png"].any() for name, sample in read_samples(Path("data/mine")).items()}
    assert mine == {"a": True, "b": False}


def test_coco_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_image(Path("coco/images/a.jpg"))
    marks = [
        annotation(1, 1, [corners(5, 5, 20, 20)]),
        annotation(2, 1, [corners(0, 0, 60, 40)], category_id=2),
    ]
    categories = [{"id": 1, "name": "limb"}, {"id": 2, "name": "whole"}]
    entry = {"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}
    write_coco(Path("coco/annotations.json"), [entry], marks, categories)
    do("COCO files")
    assert read_samples(Path("data/coco"))["a.jpg"]["mask.png"].all()
    assert np.array_equal(read_samples(Path("data/limbs"))["a.jpg"]["mask.png"], INSIDE)


def test_x_aigd_and_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Two rows as the set's own reader takes them: an image, its size, and labels with points; one is clean."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for number, labels in enumerate(([(5, 5, 20, 20), (30, 5, 50, 35)], [])):
        write_image(Path("image.png"), number)
        points = [np.reshape(corners(*box), (-1, 2)).astype(float).tolist() for box in labels]
        rows.append(
            {
                "generator": "flux/dev",
                "uid": str(number),
                "image": {"bytes": Path("image.png").read_bytes(), "path": None},
                "labels": [{"label": "low-level-texture", "points": one} for one in points],
                "width": WIDTH,
                "height": HEIGHT,
            }
        )
    Path("x-aigd/data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), "x-aigd/data/labeled_test-00000-of-00001.parquet")
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        exec(compile(block, "docs/importing.md", "exec"), {})
    samples = read_samples(Path("data/x-aigd"))
    both = INSIDE | rectangle(30, 5, 50, 35)
    assert np.array_equal(samples["000000.png"]["mask.png"], both)
    assert not samples["000001.png"]["mask.png"].any()
    assert json.loads(Path("x-aigd/annotations.json").read_text())["categories"] == [
        {"id": 0, "name": "low-level-texture"}
    ]
    assert capsys.readouterr().out.startswith("2 {'images': 2")
