"""The KubeRay files: their fields, what Ray's autoscaler reads from them, and that image and entrypoint exist."""

from __future__ import annotations

import copy
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from factory.recipe.recipe import SHIPPED, load_recipe
from flawforge.cli import app
from tests.deploy.kuberay import RAY_CLUSTER, RAY_JOB

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GIB = 2**30


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "deploy" / name).read_text())


@pytest.fixture
def cluster() -> dict[str, Any]:
    return read("raycluster.yaml")


@pytest.fixture
def job() -> dict[str, Any]:
    return read("rayjob.yaml")


@pytest.fixture
def training() -> dict[str, Any]:
    return read("rayjob-training.yaml")


def test_fields_have_the_names_and_places_that_kuberay_documents(cluster, job, training):
    jsonschema.validate(cluster, RAY_CLUSTER)
    jsonschema.validate(job, RAY_JOB)
    jsonschema.validate(training, RAY_JOB)


@pytest.mark.parametrize(
    ("path", "name", "other"),
    [
        ((), "entrypoint", "entryPoint"),
        ((), "rayClusterSpec", "rayClusterConfig"),
        ((), "shutdownAfterJobFinishes", "shutdownAfterJobFinished"),
        (("rayClusterSpec",), "enableInTreeAutoscaling", "enableAutoscaling"),
        (("rayClusterSpec", "workerGroupSpecs", 1), "groupName", "name"),
        (("rayClusterSpec", "workerGroupSpecs", 1), "minReplicas", "minWorkers"),
        (("rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0), "image", "images"),
    ],
)
def test_another_name_is_found(job, path, name, other):
    place = job["spec"]
    for step in path:
        place = place[step]
    place[other] = place.pop(name)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, RAY_JOB)


def test_a_start_parameter_that_is_no_text_is_found(cluster):
    # KubeRay refuses `num-cpus: 0`; it has to be "0".
    cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(jsonschema.ValidationError, match="0 is not of type 'string'"):
        jsonschema.validate(cluster, RAY_CLUSTER)


def test_job_and_standing_cluster_are_the_same_cluster(cluster, job):
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]


def test_a_training_has_the_same_pods(cluster, training):
    spec = training["spec"]["rayClusterSpec"]
    (gpu,) = spec["workerGroupSpecs"]
    standing = next(group for group in cluster["spec"]["workerGroupSpecs"] if group["groupName"] == "gpu")
    counts = ("replicas", "minReplicas", "maxReplicas")
    assert {**gpu, **{name: standing[name] for name in counts}} == standing
    for name in ("headGroupSpec", "rayVersion", "authOptions"):
        assert spec[name] == cluster["spec"][name]


def test_a_training_starts_with_a_gpu_for_every_worker(training):
    """KubeRay submits a job once all replicas run; without its autoscaler, none of them leaves."""
    spec = training["spec"]["rayClusterSpec"]
    (gpu,) = spec["workerGroupSpecs"]
    words = shlex.split(training["spec"]["entrypoint"])
    workers = int(words[words.index("--workers") + 1])
    assert gpu["replicas"] == gpu["minReplicas"] == gpu["maxReplicas"] == workers == 8
    assert "enableInTreeAutoscaling" not in spec


def test_what_a_job_for_training_runs(job, training):
    from train.recipe import load_training, with_data

    *program, command, recipe, data, data_url, out, out_url = shlex.split(training["spec"]["entrypoint"])[:9]
    assert (program, data, out) == (["python", "-m", "flawforge"], "--data", "--out")
    arguments = shlex.split(training["spec"]["entrypoint"])[4:]
    given = typer.main.get_command(app).commands[command].make_context(command, arguments).params
    assert (given["address"], given["workers"]) == ("auto", "8")
    assert not Path(recipe).is_absolute() and workdir() == "/opt/flawforge"
    loaded = with_data(load_training(ROOT / recipe, [f"execution.workers={given['workers']}"]), [data_url])
    assert loaded.execution.gpus == 1
    built = shlex.split(job["spec"]["entrypoint"])
    assert data_url == built[built.index("--out") + 1] != out_url


def test_what_ray_s_autoscaler_reads_from_it(cluster):
    resource = copy.deepcopy(cluster)
    resource["metadata"]["namespace"] = "default"
    config = _derive_autoscaling_config_from_ray_cr(resource)
    types = config["available_node_types"]
    assert {
        name: (one["min_workers"], one["max_workers"], one["resources"]) for name, one in types.items()
    } == {
        "headgroup": (0, 0, {"CPU": 0, "memory": 8 * GIB}),
        "cpu": (1, 4, {"CPU": 6, "memory": 24 * GIB}),
        "gpu": (0, 8, {"CPU": 6, "GPU": 1, "memory": 24 * GIB}),
    }
    assert config["idle_timeout_minutes"] == 5.0


def test_pods_ask_for_what_they_may_use_and_never_restart_as_another_node(cluster):
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"name": "metrics", "containerPort": 8080} in container["ports"]
        assert group["rayStartParams"]["metrics-export-port"] == "8080"
    assert cluster["spec"]["authOptions"] == {"mode": "token"}


def test_the_ray_of_the_files_is_that_of_the_image(cluster):
    pinned = dict(line.split("==") for line in constraints())
    assert cluster["spec"]["rayVersion"] == pinned["ray"]


def constraints() -> list[str]:
    return [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]


def test_the_image_is_the_one_that_the_dockerfile_builds(cluster):
    images = {
        container["image"]
        for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    }
    assert images == {f"flawforge:{PROJECT['version']}"}
    built = re.search(r"--tag REGISTRY/(\S+)", (ROOT / "deploy" / "Dockerfile").read_text())
    assert built is not None and {built[1]} == images


def test_the_entrypoint_exists_and_its_recipe_holds(job, cluster):
    program, command, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert PROJECT["scripts"][program] == "flawforge.cli:main"
    group = typer.main.get_command(app)
    context = group.commands[command].make_context(command, arguments)
    given = context.params
    assert given["recipe"] in SHIPPED
    # Without it, a build starts a Ray of its own inside the head's pod.
    assert given["address"] == "auto"
    recipe = load_recipe(given["recipe"], given["set_"])
    assert recipe.regions.checkpoint is not None
    assert recipe.regions.checkpoint.startswith(workdir())
    (gpus,) = (group for group in cluster["spec"]["workerGroupSpecs"] if group["groupName"] == "gpu")
    assert recipe.execution.corrupt.gpus * recipe.execution.corrupt.largest == gpus["maxReplicas"]


def workdir() -> str:
    found = re.search(r"^WORKDIR (\S+)$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]
