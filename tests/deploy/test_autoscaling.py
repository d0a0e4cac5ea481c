"""Autoscaling from zero: the nodes of cluster.yaml, made here by Ray's fake provider, come for a build and leave."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.clusters import SMALL, Head, head, here, ports
from tests.patience import seconds, until

ROOT = Path(__file__).parents[2]
FAKE_HEAD = "ray.head.default"
"""The provider gives its head this type, whatever the configuration says."""

# Publishing shards stands in for the model: it needs no CUDA, and so may ask for the GPUs of fake nodes.
RECIPE = (
    SMALL
    + """\
execution:
  patience: 900
  load: {cpus: 0.1}
  select: {cpus: 0.1}
  corrupt: {cpus: 0.5}
  write: {cpus: 0.1, gpus: 1}
"""
)


def faked(gcs_address: str) -> dict[str, Any]:
    """cluster.yaml with nodes that are processes here, fewer CPUs, and no patience with idle ones."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    types = config["available_node_types"]
    for name, node in types.items():
        node["node_config"] = {}
        if name != "head":
            node["resources"].update(CPU=1, object_store_memory=100_000_000)
    types[FAKE_HEAD] = types.pop("head")
    return {
        "cluster_name": config["cluster_name"],
        "max_workers": config["max_workers"],
        "upscaling_speed": config["upscaling_speed"],
        "idle_timeout_minutes": 0.2,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": gcs_address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {},
        "available_node_types": types,
        "head_node_type": FAKE_HEAD,
        **{key: [] for key in config if key.endswith("_commands")},
        "file_mounts": {},
        "cluster_synced_files": [],
    }


@pytest.fixture
def cluster(tmp_path) -> Iterator[Head]:
    (port,) = ports(1)
    config = tmp_path / "cluster.json"
    config.write_text(json.dumps(faked(f"{here()}:{port}")))
    environment = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "PYTHONPATH": str(ROOT)}
    options = (f"--autoscaling-config={config}", "--num-cpus=0", "--num-gpus=0")
    with head(tmp_path, *options, port=port, environment=environment) as running:
        yield running


def gpus(cluster: Head) -> float:
    """GPUs of the nodes that are alive.

    Asked over HTTP: a program that joins picks any of the nodes, which all have one address here, and keeps it awake.
    """
    token = cluster.token.read_text()
    request = urllib.request.Request(
        f"{cluster.jobs}/api/v0/nodes", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=seconds(60)) as answer:
        nodes = json.load(answer)["data"]["result"]["result"]
    return sum(node["resources_total"].get("GPU", 0.0) for node in nodes if node["state"] == "ALIVE")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_gpu_workers_come_for_a_build_and_leave_after_it(cluster, tmp_path):
    assert gpus(cluster) == 0
    (tmp_path / "small.yaml").write_text(RECIPE)
    command = [
        "python",
        "-m",
        "flawforge",
        "build",
        "small.yaml",
        "--out",
        "out",
        "--address",
        cluster.address,
    ]
    with (tmp_path / "build.log").open("wb") as log:
        build = subprocess.Popen(
            command,
            env={**cluster.environment, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        until(
            lambda: gpus(cluster),
            lambda count: count == 1,
            within=300,
            every=2,
            unless=lambda: (tmp_path / "build.log").read_text() if build.poll() is not None else "",
        )
        code = build.wait(seconds(600))
    finally:
        build.kill()
        build.wait()
    assert code == 0, (tmp_path / "build.log").read_text()
    published = sorted(path.name for path in (tmp_path / "out" / "shards").iterdir())
    assert published == ["000000.tar", "000001.tar"]
    until(lambda: gpus(cluster), lambda count: count == 0, within=300, every=2)
