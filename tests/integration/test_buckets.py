"""Builds into a bucket, through a network and a server that fail, killed and resumed: the bytes of a disk."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray

from factory.build import build
from factory.recipe import parse_recipe
from factory.shards.check import verify
from factory.storage import Storage
from tests.factory.care.outputs import by_the_stages
from tests.integration.conftest import SMALL, content_of
from tests.object_store import S3, reached_at, seeded

RECIPE = (
    SMALL.replace("limit: 20", "limit: 12")
    .replace("inversion_steps: 12", "inversion_steps: 4")
    .replace("attempts: 2", "attempts: 1, on_failure: keep")
    .replace("samples_per_shard: 5", "samples_per_shard: 2")
)
"""The small build with less work in it and more files: every shard has a tar."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    """sha256 by path of what the stages make on a disk, in this process: no Ray, no network."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    by_the_stages(out, parse_recipe(RECIPE, "small.yaml"))
    return content_of(out)


class Watch:
    """Looks into a bucket again and again from beside, as a reader would who cannot wait, and reads what is new there.

    Attributes:
        seen: sha256 of every content that was ever seen of a file, by key.
        problems: what could not be read as the file that its name says.
    """

    def __init__(self, s3: S3, bucket: str) -> None:
        self.s3, self.bucket = s3, bucket
        self.looks = 0
        self.seen: dict[str, set[str]] = {}
        self.problems: list[str] = []
        self._states: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        pages = self.s3.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        for item in [item for page in pages for item in page.get("Contents", ())]:
            key, state = item["Key"], f"{item['ETag']} {item['LastModified']}"
            if self._states.get(key) == state:
                continue
            try:
                data = self.s3.bytes_of(self.bucket, key)
            except self.s3.client.exceptions.NoSuchKey:
                continue
            self._states[key] = state
            self.seen.setdefault(key, set()).add(hashlib.sha256(data).hexdigest())
            try:
                read_whole(key, data)
            except Exception as error:
                self.problems.append(f"{key}, {len(data)} bytes: {error!r}")
        self.looks += 1

    def _run(self) -> None:
        while not self._over.wait(0.4):
            self.look()


def read_whole(key: str, data: bytes) -> None:
    """Raises where the content is not all of a file of this name."""
    if key.endswith(".tar"):
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            sizes = [len(tar.extractfile(member).read()) - member.size for member in tar]
        assert sizes and not any(sizes) and data.endswith(bytes(1024)), "no end of the archive"
    elif key.endswith(".parquet"):
        pq.read_table(io.BytesIO(data))
    elif key.endswith(".json"):
        json.loads(data)


def check(s3: S3, bucket: str, watch: Watch, undisturbed: dict[str, str]) -> None:
    """What is in the bucket is what the disk has, and nobody ever saw anything else of it."""
    assert watch.problems == []
    final = {
        key.removeprefix("flaws/"): hashlib.sha256(s3.bytes_of(bucket, key)).hexdigest()
        for key in s3.objects(bucket)
    }
    assert {path: final.get(path) for path in undisturbed} == undisturbed and len(undisturbed) == 14
    for path, sha256 in final.items():
        if path.startswith(("shards/", "index/", "stats/")) or path in undisturbed:
            assert watch.seen[f"flaws/{path}"] == {sha256}, path
    for key in (path for path in final if path.startswith("stats/")):
        sidecar = json.loads(s3.bytes_of(bucket, f"flaws/{key}"))
        number = Path(key).stem
        for record, path in (("tar", f"shards/{number}.tar"), ("index", f"index/{number}.parquet")):
            assert (sidecar[record] or {}).get("sha256") == final.get(path), path
    with reached_at(s3.endpoint):
        verdict = verify(Storage(f"s3://{bucket}/flaws"))
    assert verdict.sound and verdict.done == verdict.shards == 6 and verdict.accepted == verdict.planned == 12


def start(recipe: Path, bucket: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flawforge", "build", str(recipe), "--out", f"s3://{bucket}/flaws"]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def done(s3: S3, bucket: str) -> int:
    return sum(key.startswith("flaws/stats/") for key in s3.objects(bucket))


def test_a_killed_build_through_a_faulty_network_has_the_bytes_of_a_disk(
    tmp_path, s3, bucket, proxy, undisturbed
):
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    proxy.schedule = seeded(11, 0.15)
    with reached_at(proxy.endpoint) as environment, Watch(s3, bucket) as watch:
        first = start(recipe, bucket, environment)
        while done(s3, bucket) < 2:
            assert first.poll() is None, "the build ended before it could be killed"
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)  # driver, raylet and all workers
        first.wait()
        assert 2 <= done(s3, bucket) < 6, "the kill came after the end"
        assert start(recipe, bucket, environment).wait() == 0
    check(s3, bucket, watch, undisturbed)
    print(f"{proxy.requests} requests, {dict(proxy.faults)}, {watch.looks} looks")
    assert proxy.faults.total() > 10 and watch.looks > 10


@pytest.mark.slow
def test_an_outage_of_20_seconds_under_many_faults_is_borne_with(tmp_path, s3, bucket, proxy, undisturbed):
    build(parse_recipe(RECIPE, "small.yaml"), str(tmp_path / "local"))
    ray.shutdown()
    assert content_of(tmp_path / "local") == undisturbed
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE)
    proxy.schedule = faults = seeded(12, 0.3)
    with reached_at(proxy.endpoint) as environment, Watch(s3, bucket) as watch:
        run = start(recipe, bucket, environment)
        while done(s3, bucket) < 2:
            assert run.poll() is None
            time.sleep(0.05)
        proxy.schedule = lambda method, size: "503"
        time.sleep(20)
        assert run.poll() is None and done(s3, bucket) < 6
        proxy.schedule = faults
        assert run.wait() == 0
    check(s3, bucket, watch, undisturbed)
    print(f"{proxy.requests} requests, {dict(proxy.faults)}, {watch.looks} looks")
