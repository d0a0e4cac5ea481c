"""Workers of a real Ray whose model cache is not the driver's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from actors.errors import FlawforgeError
from factory.build import build
from factory.recipe.recipe import parse_recipe
from tests.hub_cache import add_snapshot, use_cache

TINY = Path(__file__).parents[1] / "golden" / "tiny_sd"
RECIPE = """
name: cheap
source: {kind: tinytown, size: 64, limit: 4, first_seed: 7000}
regions: {kind: source}
corruption: {model: org/tiny, method: blur, target: image, batch_size: 2}
verify: {least_inside: 0, most_outside: 1}
output: {samples_per_shard: 2}
execution: {corrupt: {cpus: 0.5}}
"""


@pytest.mark.usefixtures("no_ray_before")
def test_workers_with_another_revision_end_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    import ray

    old, new = "a" * 40, "b" * 40
    add_snapshot(tmp_path / "driver", "org/tiny", old, TINY)
    other = Path(shutil.copytree(TINY, tmp_path / "changed"))
    add_snapshot(tmp_path / "workers", "org/tiny", new, other)
    use_cache(monkeypatch, tmp_path / "driver")
    variables = {"HF_HUB_CACHE": str(tmp_path / "workers")}
    ray.init(
        address="local",
        include_dashboard=False,
        logging_level="error",
        log_to_driver=False,
        runtime_env={"env_vars": variables},
    )
    try:
        with pytest.raises(FlawforgeError) as caught:
            build(parse_recipe(RECIPE, "cheap.yaml"), str(tmp_path / "out"))
    finally:
        ray.shutdown()
    assert type(caught.value).__name__ == "WorkerError"
    assert f"models.corruption: org/tiny@{old} -> org/tiny@{new}" in str(caught.value)
    assert "going on with what is missing" not in caplog.text
    assert not list((tmp_path / "out").glob("stats/*"))
