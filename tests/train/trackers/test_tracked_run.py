"""What a tracker gets of a training."""

from __future__ import annotations

from tests.train.small import recipe_of
from train.trackers.tracked_run import TrackedRun


def test_the_id_is_that_of_the_training_in_its_output() -> None:
    recipe = recipe_of("net")
    first = TrackedRun.of(recipe, "a" * 64, "s3://bucket/out")
    assert len(first.id) == 32 and int(first.id, 16)
    others = [
        TrackedRun.of(recipe, "b" * 64, "s3://bucket/out"),
        TrackedRun.of(recipe, "a" * 64, "s3://bucket/other"),
    ]
    assert len({first.id, *(other.id for other in others)}) == 3
    again = TrackedRun.of(recipe_of("net", execution={"workers": 2}), "a" * 64, "s3://bucket/out")
    assert again.id == first.id


def test_the_config_is_the_recipe_without_secrets() -> None:
    url = "https://user:5ecret@host/x.tar?X-Amz-Signature=5ecret"
    run = TrackedRun.of(recipe_of("net", data=[{"name": "made", "url": url}]), "a" * 64, "out")
    assert run.config["data"][0]["url"] == "https://host/x.tar"
    assert (run.name, run.config["optimizer"]["betas"], run.config["batch"]) == ("small", [0.9, 0.999], 8)
    assert "5ecret" not in str(run)
