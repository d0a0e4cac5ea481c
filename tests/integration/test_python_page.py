"""The examples of docs/python.md, of the README's Python section and of the docstrings run as they stand."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flawforge
from tinytown.render import render
from tinytown.scene import sample_scene

pytestmark = pytest.mark.usefixtures("ray_here")

ROOT = Path(__file__).parents[2]
SCENE = render(sample_scene(1))
MASK = SCENE.things == 1
"""A fifth of the image, of which half changes at k = 20, and nothing outside."""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the module: the second build of `out/small` finds it complete."""
    return tmp_path_factory.mktemp("workplace")


def run(text: str, section: str, names: dict[str, object]) -> dict[str, object]:
    """Execute the Python blocks of a page from a heading on, and return their variables."""
    blocks = re.findall(r"^```python\n(.*?)^```$", text[text.index(section) :], re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(compile(block, section, "exec"), names)
    return names


def test_the_page(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(workplace)
    Image.fromarray(SCENE.image).save("scene.png")
    names = run((ROOT / "docs/python.md").read_text(), "# From Python", {})
    assert names["total"].planned == 8 and names["total"].accepted > 0
    assert (workplace / "out/small/gallery.html").is_file() and (workplace / "out/preview.html").is_file()
    assert names["trained"].steps == 60 and (workplace / "out/detector/model.safetensors").is_file()
    assert names["report"].evaluation.images == names["total"].accepted
    assert names["images"].grad.abs().sum() > 0
    assert Image.open("corrupted.png").size == (64, 64)
    assert re.search(r"^[\d.]+% of the pixels changed$", capsys.readouterr().out, re.MULTILINE)


def test_the_readme(workplace: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(workplace)
    page = (ROOT / "README.md").read_text()
    section = re.search(r"^## From Python$.*?(?=^## )", page, re.DOTALL | re.MULTILINE)
    assert section
    names = run(section[0], "## From Python", {"image": SCENE.image, "mask": MASK})
    assert names["total"].complete and names["verdict"].sound
    changed = names["changed"]
    assert isinstance(changed, np.ndarray) and changed[MASK].mean() > 0.2
    assert isinstance(names["corrupted"], np.ndarray)


def test_the_docstrings(workplace: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(workplace)
    given = {"image": SCENE.image, "mask": MASK}
    tried = 0
    for name in ("build", "preview", "verify", "train", "evaluate", "load_reward", "Corruptor"):
        finder = doctest.DocTestFinder(recurse=False)
        for example in finder.find(getattr(flawforge, name), name, globs=dict(given)):
            result = doctest.DocTestRunner().run(example)
            assert result.failed == 0 and result.attempted > 0, name
            tried += 1
    assert tried == 7
