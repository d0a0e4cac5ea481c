"""The blocks of docs/reading-shards.md as they stand, run in processes that cannot import any code of ours."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from actors.images import read_mask
from factory.maintain.verify import verify
from tests.factory.maintain.outputs import by_hand, sample
from tests.patience import seconds

PAGE = (Path(__file__).parents[2] / "docs/reading-shards.md").read_text()
PLACES = ("out/quickstart", "http://example.org/flaws", "s3://bucket/flaws")
HERE = (sys.executable, "-S")
"""Without the hooks by which our packages are installed; the third-party ones are found by their folder."""


def make_output(folder: Path) -> Path:
    """Twenty items in five shards: one reject in the second, nothing but rejects in the third."""
    rejected = {5, 8, 9, 10, 11}
    items = [
        sample(f"item-{n}", f"file-{n}.png", rejected="unchanged" if n in rejected else "", side=48)
        for n in range(20)
    ]
    for item in items:
        item.metrics["mask_area"] = float(read_mask(item.mask).mean())
    storage = by_hand(folder, [items[at : at + 4] for at in range(0, 20, 4)])
    assert verify(storage).sound and storage.names("shards") == [f"00000{n}.tar" for n in (0, 1, 3, 4)]
    return folder


def block(heading: str, nth: int = 0, language: str = "python") -> str:
    """A block below a heading of the page; a language of "" means a block of commands."""
    _, found, rest = PAGE.partition(f"\n## {heading}\n")
    assert found, heading
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", rest.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
    return [text for name, text in blocks if name == language][nth]


def put(code: str, old: str, new: str) -> str:
    """Replaces what occurs exactly once."""
    assert code.count(old) == 1, (old, code)
    return code.replace(old, new)


def run(
    code: str,
    place: str | None,
    folder: Path,
    more: str = "",
    *,
    command: Sequence[str] = HERE,
    **environment: str,
) -> list[str]:
    """The lines that a block prints, run elsewhere, with a place put in; `more` is run after it.

    Args:
        code: the block.
        place: of the output, in place of the page's; None for a block that reads something else.
        folder: the working folder.
        more: code to append.
        command: what runs a script: an interpreter, or a launcher of several.
        environment: more variables.
    """
    named = [name for name in PLACES if name in code]
    assert len(named) == (place is not None)
    for name in named:
        code = put(code, name, str(place))
    script = folder / "block.py"
    script.write_text(code + more)
    path = os.pathsep.join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    packages = {"PYTHONPATH": path} if command[0] == sys.executable else {}
    caches = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script)],
        cwd=folder,
        env={**outside, **packages, **caches, **environment},
        capture_output=True,
        text=True,
        timeout=seconds(300),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def found(lines: list[str]) -> list[list]:
    """What the appended code reports, in a line after FOUND."""
    (line,) = [line for line in lines if line.startswith("FOUND ")]
    return json.loads(line.removeprefix("FOUND "))
