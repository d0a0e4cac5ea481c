"""Pools on a cluster whose GPUs are pretended: where the workers land, and what is refused."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from actors.errors import BuildError
from actors.stage_names import StageName
from factory.build import build
from factory.pipeline.cluster import check_resources
from factory.recipe.recipe import Pool, Recipe, parse_recipe
from tests.patience import seconds

RECIPE = """
name: pools
source: {kind: tinytown, size: 64, limit: 16, first_seed: 7000}
regions: {kind: source}
corruption: {method: blur, target: image}
output: {samples_per_shard: 1}
execution:
  load: {cpus: 0.25}
  select: {cpus: 0.5, gpus: 0.5}
  corrupt: {cpus: 0.25, gpus: 0.25, smallest: 4, largest: 4}
  write: {cpus: 0.25}
"""


def recipe(*changes: str) -> Recipe:
    return parse_recipe(RECIPE, "pools.yaml", changes)


def told_where(path: str) -> Callable[[], None]:
    """Every stage writes down on which node it is, and which GPUs it was given. The corruption loads no model.

    A corruption worker waits for the other three, or the first ones would do all of the work.
    """
    patience = seconds(120)

    def hook() -> None:
        import os
        import time

        from actors.batch import METRICS
        from factory.pipeline import stages

        def corrupt(samples):
            for sample in samples:
                sample.corrupted, sample.changed = sample.image, sample.mask
                sample.attempts, sample.verified, sample.metrics = 1, True, dict.fromkeys(METRICS, 0.5)
            return samples

        stages.Corrupt.make = lambda self: corrupt
        stages.Corrupt.roles = ()  # no GPU to check

        for name in ("Load", "SelectRegions", "Corrupt", "Write"):
            stage = getattr(stages, name)

            def noted(self, table, work=stage.__call__, name=name):
                here = ray.get_runtime_context()
                line = [
                    name,
                    here.get_node_id(),
                    here.get_actor_id(),
                    os.environ.get("CUDA_VISIBLE_DEVICES", ""),
                ]
                with Path(path).open("a") as file:
                    file.write(json.dumps(line) + "\n")
                deadline = time.monotonic() + patience
                while name == "Corrupt" and time.monotonic() < deadline:
                    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
                    if len({actor for stage, _, actor, _ in records if stage == name}) == 4:
                        break
                    time.sleep(0.1)
                return work(self, table)

            stage.__call__ = noted

    return hook


@pytest.fixture(scope="module")
def ledger(no_ray_before: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A head without CPUs, a node with CPUs alone, and one with two GPUs and just the CPUs for their work."""
    from ray.cluster_utils import Cluster

    path = tmp_path_factory.mktemp("pools") / "ledger"
    path.touch()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 100_000_000},
    )
    cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    cluster.add_node(num_cpus=2, num_gpus=2, object_store_memory=100_000_000)
    ray.init(
        address=cluster.address,
        logging_level="error",
        log_to_driver=False,
        runtime_env={"worker_process_setup_hook": told_where(str(path))},
    )
    yield path
    ray.shutdown()
    cluster.shutdown()


def test_fractions_of_gpus_land_where_gpus_are(ledger: Path, tmp_path: Path):
    total = build(recipe(), str(tmp_path / "out"))
    assert total.complete and total.accepted == 16
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    with_gpus = next(node["NodeID"] for node in ray.nodes() if node["Resources"].get("GPU"))
    share = {"SelectRegions": 0.5, "Corrupt": 0.25}
    workers: dict[str, dict[str, str]] = defaultdict(dict)
    for stage, node, actor, gpus in lines:
        assert (stage in share) <= (node == with_gpus), f"{stage} on a node without GPUs"
        workers[stage][actor] = gpus
    assert {stage: len(found) for stage, found in workers.items()} == {
        "Load": 1, "SelectRegions": 1, "Corrupt": 4, "Write": 1
    }  # fmt: skip
    load: dict[str, float] = defaultdict(float)
    for stage, part in share.items():
        for gpus in workers[stage].values():
            assert gpus in ("0", "1"), "one GPU for each, or a part of it"
            load[gpus] += part
    assert set(workers["Load"].values()) | set(workers["Write"].values()) == {""}
    assert sum(load.values()) == 1.5 and max(load.values()) <= 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["execution.corrupt.gpus=1"], r"require 4\.5 GPUs .*corrupt 4 x 1.*the cluster has 2: lower"),
        (["execution.corrupt.cpus=1"], r"require 5 CPUs .*the cluster has 3: lower execution\.\*\.cpus"),
    ],
)
@pytest.mark.timeout(60)
def test_more_than_the_cluster_can_give_is_refused(
    ledger: Path, tmp_path: Path, changes: list[str], words: str
):
    before = ledger.read_text()
    with pytest.raises(BuildError, match=words):
        build(recipe(*changes), str(tmp_path / "out"))
    assert ledger.read_text() == before


@pytest.mark.timeout(60)
def test_pools_of_another_recipe_are_checked(ledger: Path):
    def pools(workers: int) -> dict[StageName, Pool]:
        return {StageName.SELECT: Pool(gpus=1, smallest=workers, largest=workers)}

    words = r"require 3 GPUs \(select 3 x 1\), the cluster has 2: lower training\.\*\.gpus or training\.\*\.smallest"
    with pytest.raises(BuildError, match=words):
        check_resources(pools(3), section="training")
    assert check_resources(pools(2))["GPU"] == 2
