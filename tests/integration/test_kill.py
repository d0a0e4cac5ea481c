"""A build that is killed in the middle, and run again, ends in the bytes of an undisturbed one."""

from __future__ import annotations

from factory.output.manifest import done_shards
from factory.recipe.recipe import load_recipe
from factory.store.storage import Storage
from tests.commands import kill, start, start_held_back
from tests.factory.maintain.outputs import by_the_stages
from tests.integration.conftest import WITHOUT_UNET, content_of
from tests.patience import seconds, until

SHARDS = 10


def test_a_kill_changes_no_byte(tmp_path):
    """The last shard is held back until it has come, wherever among the others it hits."""
    recipe, gate = tmp_path / "small.yaml", tmp_path / "gate"
    recipe.write_text(WITHOUT_UNET)
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    by_the_stages(undisturbed, load_recipe(recipe))
    storage = Storage(str(disturbed))
    command = ("build", str(recipe), "--out", str(disturbed))
    killed = start_held_back(gate, SHARDS - 1, *command)
    until(
        lambda: done_shards(storage),
        lambda done: len(done) >= 1,
        within=300,
        every=0.02,
        unless=lambda: "the build has ended" if killed.poll() is not None else "",
    )
    kill(killed)
    assert 1 <= len(done_shards(storage)) < SHARDS

    finished = start(*command)
    printed, _ = finished.communicate(timeout=seconds(300))
    assert finished.returncode == 0 and "taking over the lock of process" in printed, printed
    assert content_of(disturbed) == content_of(undisturbed)
    assert not (disturbed / "lock.json").exists()
