"""The example of docs/evaluating.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from eval.human_scores import PAIRS
from eval.labelled import IMAGES, MASK, OBJECTS
from eval.metrics.objects import BROKEN_SHARE, INTACT_SHARE
from eval.object_sample import OBJECTS as MOST_OBJECTS
from tests.labelled_tars import random_sample, write_tar

PAGE = (Path(__file__).parents[2] / "docs/evaluating.md").read_text()


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    write_tar(tmp_path / "mine" / "0.tar", {f"k{n}": random_sample(rng, clean=n == 2) for n in range(3)})
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(compile(block, "docs/evaluating.md", "exec"), names)
    assert re.match(r"IoU_fg [\d.]+%, marked on clean images [\d.]+%\n", capsys.readouterr().out)
    assert (tmp_path / "out/report/index.html").is_file()
    figures, missed = names["figures"], names["most_missed"]
    assert isinstance(figures, dict) and figures["evaluation"]["images"] == 3
    assert isinstance(missed, list) and set(missed) == {"k0", "k1", "k2"} and missed[-1] == "k2"


def test_names_and_numbers_of_the_page():
    for name in (*IMAGES, MASK, OBJECTS):
        assert f"`KEY.{name}`" in PAGE
    words = " ".join(PAGE.split())
    assert f"more than {MOST_OBJECTS:,} objects" in words and f"more than {PAIRS:,} images" in words
    assert f"more than {BROKEN_SHARE:.0%}".replace("%", " %") in words
    assert f"at most {INTACT_SHARE:.0%}".replace("%", " %") in words
