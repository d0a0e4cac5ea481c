"""`verify` finds every forgery of the catalogue, but those that the docs say cannot be known."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from factory.maintain.verify import verify
from factory.store.storage import Storage
from tests.factory.maintain.forger import sound_output
from tests.factory.maintain.forgeries import FORGERIES, Forgery

DOCS = Path(__file__).parents[3] / "docs" / "looking-after.md"
CAUGHT = [one for one in FORGERIES if not one.documented]
UNKNOWABLE = [one for one in FORGERIES if one.documented]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return sound_output(tmp_path_factory.mktemp("sound") / "out")


@pytest.fixture
def output(sound: Storage, tmp_path: Path) -> Storage:
    shutil.copytree(sound.url, tmp_path / "out")
    return Storage(str(tmp_path / "out"))


def test_the_output_is_sound_before(sound: Storage):
    verdict = verify(sound)
    assert verdict.sound and verdict.problems == verdict.notes == ()
    assert (verdict.accepted, verdict.rejected) == (7, 1)


@pytest.mark.parametrize("forgery", CAUGHT, ids=lambda forgery: forgery.name)
def test_a_forgery_is_found(output: Storage, forgery: Forgery):
    forgery.make(output)
    verdict = verify(output)
    assert not verdict.sound
    found = [
        one for one in verdict.problems if one.where.startswith(forgery.where) and forgery.what in one.what
    ]
    assert found, "\n".join(map(str, verdict.problems))


@pytest.mark.parametrize("forgery", UNKNOWABLE, ids=lambda forgery: forgery.name)
def test_what_cannot_be_known_is_said_in_the_docs(output: Storage, forgery: Forgery):
    forgery.make(output)
    assert verify(output).sound
    assert forgery.documented in " ".join(DOCS.read_text().split())


def test_the_catalogue_is_long_enough():
    assert len(CAUGHT) >= 30 and len({one.name for one in FORGERIES}) == len(FORGERIES)
