"""Items that end the process that works on them are found and set aside; everything else is made as ever."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from factory.build import build
from factory.maintain.verify import verify
from factory.recipe.recipe import parse_recipe
from factory.store.storage import Storage
from tests.integration.conftest import SMALL

POISON = ("tinytown-000000500", "tinytown-000000505")
CHANGES = ("source.limit=8", "output.samples_per_shard=4", "execution.passes=2")


@pytest.fixture
def poisoned_ray(
    no_ray_before,
):
    import ray

    def poison() -> None:
        """Runs in every worker before its first task; a closure, since workers cannot import the tests."""
        from actors import image_selector

        select = image_selector.ImageSelector.__call__

        def deadly(self, sample, image, mask):
            if sample.key in keys:
                os._exit(11)
            return select(self, sample, image, mask)

        image_selector.ImageSelector.__call__ = deadly

    keys = POISON
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"worker_process_setup_hook": poison},
    )
    yield
    ray.shutdown()


def index_of(out: Path) -> dict[str, dict[str, object]]:
    rows = [row for path in sorted(out.glob("index/*")) for row in pq.read_table(path).to_pylist()]
    return {row["key"]: row for row in rows}


@pytest.mark.slow
def test_items_that_kill_are_set_aside(tmp_path, poisoned_ray):
    build(parse_recipe(SMALL, "small.yaml", CHANGES), str(tmp_path / "poisoned"))
    import ray

    ray.shutdown()
    build(parse_recipe(SMALL, "small.yaml", CHANGES), str(tmp_path / "healthy"))
    poisoned, healthy = index_of(tmp_path / "poisoned"), index_of(tmp_path / "healthy")
    assert list(poisoned) == list(healthy)
    for key, row in poisoned.items():
        if key in POISON:
            assert (row["status"], row["stage"], row["reason"]) == ("rejected", "load", "killed_process")
        else:
            assert row == healthy[key]
    assert verify(Storage(str(tmp_path / "poisoned"))).sound
    assert not (tmp_path / "poisoned" / "attempts").exists()
