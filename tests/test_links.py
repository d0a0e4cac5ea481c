"""Every relative link of the documentation leads to a file of the checkout, and to a heading that exists."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

from tests.commands import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def targets(text: str) -> list[str]:
    """Destinations of the links and images of a page, those of reference links too; code is no link."""
    inline = [
        token
        for block in MarkdownIt("commonmark").enable("table").parse(text)
        for token in block.children or []
    ]
    found = [token.attrGet("href") or token.attrGet("src") for token in inline]
    return [str(target) for target in found if target]


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a page: small letters, without punctuation, numbered where they repeat."""
    blocks = MarkdownIt("commonmark").parse(text)
    found: set[str] = set()
    for heading, content in pairwise(blocks):
        if heading.type == "heading_open":
            words = "".join(token.content for token in content.children or [])
            name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            later = (f"{name}-{number}" for number in range(1, 100))
            found.add(name if name not in found else next(one for one in later if one not in found))
    return found


def broken(page: Path, root: Path = ROOT) -> list[str]:
    """The targets in a page that lead nowhere, or out of the checkout `root`."""
    wrong = []
    for target in targets(page.read_text()):
        if re.match(r"[a-z][a-z+.-]*:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = page.parent / path if path else page
        if not file.exists() or not file.resolve().is_relative_to(root):
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(file.read_text()):
            wrong.append(f"{target}: no such heading")
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_resolve(page: Path) -> None:
    assert broken(page) == []


def test_what_counts_as_a_link(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Two `runs`, one: output\n\n## Same\n\n## Same\n\n"
        "[a](#two-runs-one-output) [b](#same-1) [c](#same-2) [d](missing.md) ![e](missing.png) [f][ref]\n\n"
        "`[code](missing.md)` [web](https://example.org/missing) [out](/etc/hostname)\n\n"
        "| a |\n|---|\n| [table](gone.md) |\n\n[ref]: other.md\n"
    )
    wrong = ["#same-2: no such heading", *(f"{name}: no such file" for name in ("missing.md", "missing.png"))]
    wrong += [f"{name}: no such file" for name in ("other.md", "/etc/hostname", "gone.md")]
    assert broken(page, tmp_path) == wrong
