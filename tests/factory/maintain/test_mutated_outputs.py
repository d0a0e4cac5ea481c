"""Damaged files of an output: `verify` finds each or it is harmless, without a traceback and in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mutations.outputs import FILES

REPOSITORY = Path(__file__).parents[3]
MOST_MIB = 1024
PROGRAM = r"""
import json, sys, traceback
from pathlib import Path
from actors.errors import FlawforgeError
from factory.maintain.inspect import inspect
from factory.output.card import PATH as CARD
from factory.recipe.text import read_mapping
from factory.maintain.verify import verify
from tests.factory.maintain.forger import sound_output
from tests.mutations.outputs import damages
from tests.peak_memory import peak_mib

storage = sound_output(Path(sys.argv[1]))
before = {path: storage.read(path) for path in {one.path for one in damages(storage, 64)}}


def harmless(path, data):
    old = before[path]
    if path.startswith("stats/"):  # seconds are nobody's business but the clock's
        return {**json.loads(data), "seconds": 0} == {**json.loads(old), "seconds": 0}
    if path == "recipe.yaml":
        new, was = (read_mapping(text.decode("utf-8-sig"), path) for text in (data, old))
        return all(new.get(key) == was[key] for key in was if key not in ("limits", "execution"))
    if path == CARD:  # what the front matter has beside the fields that say how to read the shards
        (_, front, body), (_, _, was) = (text.decode().split("---\n", 2) for text in (data, old))
        found = read_mapping(front, path)
        return body == was and "configs" in found and "dataset_info" in found
    return data == old


def reported(work):
    try:
        return work()
    except FlawforgeError as error:
        return str(error)
    except BaseException:
        return "TRACEBACK " + traceback.format_exc()


found = []
for damage in damages(storage, int(sys.argv[2])):
    damage.apply(storage)
    verdict = reported(lambda: verify(storage))
    words = verdict if isinstance(verdict, str) else "\n".join(map(str, verdict.problems))
    if not isinstance(verdict, str) and verdict.sound:
        words = "harmless" if harmless(damage.path, damage.data) else "PASSED"
    also = reported(lambda: inspect(storage, "item-0"))
    found.append((damage.name, damage.path, words, also if isinstance(also, str) else ""))
    storage.replace(damage.path, before[damage.path])
assert verify(storage).sound
print(json.dumps({"found": found, "peak_mib": peak_mib()}))
"""


@pytest.mark.parametrize("count", [96, pytest.param(500, marks=pytest.mark.slow)])
def test_damage_is_found_or_harmless(tmp_path: Path, count: int):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path / "out"), str(count)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    found = report["found"]
    assert len(found) == count and {path for _, path, _, _ in found} == set(FILES)
    wrong = [
        one for one in found if one[2].startswith(("PASSED", "TRACEBACK")) or one[3].startswith("TRACEBACK")
    ]
    assert not wrong, "\n\n".join(map(str, wrong))
    assert all(words for _, _, words, _ in found)
    assert Counter(words == "harmless" for _, _, words, _ in found)[True] < count // 4
    assert report["peak_mib"] < MOST_MIB
