"""Names of images from outside: matched with files that were listed, and never followed."""

from __future__ import annotations

import pytest

from eval.coco.naming import Names, candidates, is_path, shared
from eval.imports.folder import ImageFile

FILES = [
    ImageFile(f"file:///images/{path}", f"file:///images/{path}", path, "1")
    for path in ("a.jpg", "train/a.jpg", "train/b.jpg", "deep/train/b.jpg", "only/c.jpg")
]


def found(name: str, by: Names) -> list[str]:
    return [file.path for file in candidates([name], FILES, by)[0]]


@pytest.mark.parametrize(
    ("name", "by_path", "by_tail"),
    [
        ("a.jpg", ["a.jpg"], ["a.jpg", "train/a.jpg"]),
        ("./train//a.jpg", ["train/a.jpg"], ["train/a.jpg"]),
        ("train\\b.jpg", ["train/b.jpg"], ["train/b.jpg", "deep/train/b.jpg"]),
        ("deep/train/b.jpg", ["deep/train/b.jpg"], ["deep/train/b.jpg"]),
        ("images/c.jpg", [], ["only/c.jpg"]),
        ("..\\..\\label-studio\\media\\upload\\4\\c.jpg", [], ["only/c.jpg"]),
        ("/data/local-files/?d=set/only/c.jpg", [], ["only/c.jpg"]),
        ("C:\\set\\c.jpg", [], ["only/c.jpg"]),
        ("https://example.org/c.jpg", [], ["only/c.jpg"]),
        ("train/../a.jpg", [], ["a.jpg", "train/a.jpg"]),
        ("none.jpg", [], []),
        ("..", [], []),
        ("/", [], []),
        (".", [], []),
    ],
)
def test_names(name: str, by_path: list[str], by_tail: list[str]):
    assert found(name, "path") == by_path
    assert found(name, "tail") == by_tail


def test_which_names_are_paths():
    assert all(map(is_path, ("a.jpg", "a/b.jpg", "a\\b.jpg", "./a.jpg", "a/b:c.jpg")))
    assert not any(
        map(is_path, ("/a", "\\a", "../a", "a/../b", "C:/a", "C:\\a", "https://x/a", "file:///a", ".."))
    )


def test_files_that_two_names_mean():
    several = candidates(["x/c.jpg", "y/c.jpg", "train/a.jpg"], FILES, "tail")
    assert shared(several) == {"file:///images/only/c.jpg"}
