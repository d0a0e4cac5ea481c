"""The command `leaks`: a count and the samples, as text and as JSON, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from actors.images import encode_image
from flawforge.cli import app
from tests.train.data.data_sets import write_tar

IMAGES = [
    encode_image(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)) for seed in (0, 1)
]


def test_leaks(tmp_path: Path):
    data = write_tar(
        tmp_path / "data.tar", ("a.png", IMAGES[0]), ("b.png", IMAGES[1]), ("b.json", b'{"caption": "A dog"}')
    )
    test = write_tar(tmp_path / "test.tar", ("c.png", IMAGES[0]), ("c.json", b'{"caption": "a  dog"}'))
    arguments = ["leaks", str(data), "--against", str(test)]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "data": str(data),
        "samples": 2,
        "leaks": [
            {"sample": f"file://{data}, a", "how": "same bytes", "test": f"file://{test}, c"},
            {"sample": f"file://{data}, b", "how": "same caption", "test": f"file://{test}, c"},
        ],
    }
    text = CliRunner().invoke(app, [*arguments, "--no-captions"])
    assert text.exit_code == 1 and "1 of 2 samples" in text.output and "same bytes" in text.output


def test_none(tmp_path: Path):
    data, test = (
        write_tar(tmp_path / f"{number}.tar", (f"{number}.png", image)) for number, image in enumerate(IMAGES)
    )
    done = CliRunner().invoke(app, ["leaks", str(data), "--against", str(test)])
    assert done.exit_code == 0 and "0 of 1 samples" in done.output
