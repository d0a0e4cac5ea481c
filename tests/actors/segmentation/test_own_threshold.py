"""The threshold that a training has chosen, and what is wrong with the file that has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.errors import ModelError
from actors.models import fingerprint
from actors.segmentation.own_threshold import own_threshold
from tests.upernet import save_upernet


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_upernet(tmp_path_factory.mktemp("model") / "net")


def test_it_is_read_and_is_part_of_the_fingerprint_that_asks_for_it(saved: Path):
    plain = fingerprint(str(saved))
    (saved / "metrics.json").write_text(json.dumps({"threshold": 0.06, "step": 3}))
    assert own_threshold(str(saved), setting="x") == 0.06
    assert fingerprint(str(saved)) == plain
    first = fingerprint(str(saved), beside=("metrics.json",))
    (saved / "metrics.json").write_text(json.dumps({"threshold": 0.07, "step": 3}))
    assert len({plain, first, fingerprint(str(saved), beside=("metrics.json",))}) == 3
    assert fingerprint(str(saved), beside=("none.json",)) == plain


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "has no threshold of its own, since it has no metrics.json: set verify.judge.threshold to "),
        (
            {},
            "metrics.json has no threshold: it was trained without a validation: set verify.judge.threshold",
        ),
        ({"threshold": None}, "it was trained without a validation"),
        ({"threshold": 1}, "has the threshold 1; it is above 0 and below 1: set verify.judge.threshold"),
        ({"threshold": True}, "has the threshold True"),
        ({"threshold": "0.5"}, "has the threshold '0.5'"),
        ([0.5], "holds a JSON list, not an object"),
    ],
)
def test_what_is_wrong_is_named(saved: Path, content: object, what: str):
    file = saved / "metrics.json"
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_text(json.dumps(content))
    with pytest.raises(ModelError) as caught:
        own_threshold(str(saved), setting="verify.judge.threshold")
    assert what in str(caught.value)


def test_a_folder_that_is_missing():
    with pytest.raises(ModelError, match="no model at 'nowhere'"):
        own_threshold("nowhere", setting="x")
