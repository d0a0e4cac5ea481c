"""`ray job submit --working-dir .` does what a local run does, and nobody is let in without the token."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from factory.store.storage import Storage
from tests.deploy.clusters import BIN, SMALL, Head, head, run, status, stranger
from tests.integration.conftest import content_of
from tests.train.small import drawn, loop_of, losses_of, tar_of
from tests.upernet import save_upernet
from train import progress
from train.recipe import load_training

ROOT = Path(__file__).parents[2]
PACKAGES = ("actors", "eval", "factory", "flawforge", "recipes", "tinytown", "train")
RECIPE = f"""{SMALL}execution: {{corrupt: {{cpus: 0.5}}}}
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy that stands still while others edit, with things around it that a job must not bring along."""
    place = tmp_path_factory.mktemp("checkout")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".rayignore", "pyproject.toml"):
        shutil.copy(ROOT / name, place / name)
    for name in (".git/pack", ".venv/lib/big", "out/shards/000000.tar", "tests/golden/big", "docs/page.png"):
        (place / name).parent.mkdir(parents=True)
        (place / name).write_bytes(b"not for the cluster")
    (place / "small.yaml").write_text(RECIPE)
    return place


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, checkout) -> Iterator[Head]:
    with head(tmp_path_factory.mktemp("head"), "--num-cpus=2", "--num-gpus=0") as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def joining(cluster, tmp_path_factory) -> Iterator[Future[CompletedProcess[str]]]:
    """A program without the token that tries to join, which Ray does for 20 seconds, beside the other tests."""
    program = f"import ray; ray.init({cluster.address!r}, log_to_driver=False); print('joined')"
    home = tmp_path_factory.mktemp("stranger")
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(run, ["python", "-c", program], stranger(home), home)


def submit(cluster: Head, checkout: Path, *entrypoint: str, environment=None):
    command = [str(BIN / "ray"), "job", "submit", "--address", cluster.jobs, "--working-dir", ".", "--"]
    return run([*command, *entrypoint], environment or cluster.environment, checkout)


@pytest.mark.slow
def test_a_training_as_a_job_with_two_workers_has_the_losses_of_one_process(cluster, checkout, tmp_path):
    tar_of(tmp_path / "small.tar", drawn(10))
    (checkout / "training.yaml").write_text(f"""\
name: small
kind: detector
iterations: 8
batch: 4
data: [{{name: small, url: {tmp_path}/small.tar}}]
model: {{checkpoint: {save_upernet(tmp_path / "net")}, batch_norm: frozen, drop_path: 0.0}}
optimizer: {{learning_rate: 1.0e-3, warm_up: 2}}
precision: float64
execution: {{workers: 2, cpus: 0.5, save_every: 3}}
""")
    train = ["python", "-m", "flawforge", "train", "training.yaml", "--out", str(tmp_path / "job")]
    job = submit(cluster, checkout, *train, "--address", "auto")
    assert job.returncode == 0, job.stdout
    assert "trained 8 steps" in job.stdout
    log = [json.loads(line) for line in (tmp_path / "job/log.jsonl").read_text().splitlines()]
    recipe = load_training(checkout / "training.yaml")
    loop_of(recipe, tmp_path / "small.tar", tmp_path / "local").run()
    losses = losses_of(tmp_path / "local")
    assert len(losses) == 8 and losses[-1] < losses[0]
    assert [line["loss"] for line in log] == pytest.approx(losses, rel=0, abs=1e-8)
    last = progress.read(Storage(str(tmp_path / "job")))
    assert last is not None and (last.phase, last.step, last.workers) == ("finished", 8, 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_job_makes_the_bytes_of_a_local_build(cluster, checkout, tmp_path):
    build = ["python", "-m", "flawforge", "build", "small.yaml", "--out"]
    job = submit(cluster, checkout, *build, str(tmp_path / "job"), "--address", "auto")
    assert job.returncode == 0, job.stdout
    local = run([*build, str(tmp_path / "local")], stranger(tmp_path), checkout)
    assert local.returncode == 0, local.stdout
    made = content_of(tmp_path / "job")
    assert {"shards/000000.tar", "index/000001.parquet", "plan.parquet", "identity.json"} <= set(made)
    assert made == content_of(tmp_path / "local")


def test_a_job_brings_code_and_weights_and_nothing_else(cluster, checkout):
    job = submit(cluster, checkout, "sh", "-c", "ls -A && python -m flawforge plan small.yaml")
    assert job.returncode == 0, job.stdout
    assert "small: 4 items in 2 shards of 2" in job.stdout
    entries = set(job.stdout.split())
    assert {*PACKAGES, "pyproject.toml", "small.yaml"} <= entries
    assert not entries & {".git", ".venv", "out", "tests", "docs"}


def test_without_the_token_a_job_is_refused(cluster, checkout, tmp_path):
    mark = tmp_path / "mark"
    refused = submit(cluster, checkout, "touch", str(mark), environment=stranger(tmp_path))
    assert refused.returncode != 0
    assert "authentication" in refused.stdout.lower()
    assert not mark.exists()


def test_the_job_port_wants_the_token(cluster):
    url = f"{cluster.jobs}/api/jobs/"
    assert status(url) == 401
    assert status(url, "0" * 64) == 403
    assert status(url, cluster.token.read_text()) == 200


def test_without_the_token_a_program_cannot_join(joining: Future[CompletedProcess[str]]):
    refused = joining.result()
    assert refused.returncode != 0 and "joined" not in refused.stdout
    assert "AuthenticationError" in refused.stdout
