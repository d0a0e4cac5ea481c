"""Builds into a bucket, through a network and a server that fail, killed and resumed: the bytes of a disk."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray

from factory.build import build
from factory.maintain.verify import verify
from factory.recipe.recipe import parse_recipe
from factory.store.storage import Storage
from tests.commands import kill, start, start_held_back
from tests.factory.maintain.outputs import by_the_stages
from tests.integration.conftest import WITHOUT_UNET, content_of
from tests.object_store import S3, reached_at, seeded
from tests.patience import seconds, until

SHARDS = 6
RECIPE = WITHOUT_UNET.replace("limit: 20", f"limit: {2 * SHARDS}")
"""Every shard has a tar, since every item is accepted."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    """sha256 by path of what the stages make on a disk, in this process: no Ray, no network."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    by_the_stages(out, parse_recipe(RECIPE, "small.yaml"))
    return content_of(out)


class Watch:
    """Polls a bucket from a thread, as an impatient reader would, and reads every new file.

    Attributes:
        contents: sha256 of every content that a file was observed with, by key.
        problems: files whose content does not fit their name.
    """

    def __init__(self, s3: S3, bucket: str) -> None:
        self.s3, self.bucket = s3, bucket
        self.looks = 0
        self.contents: dict[str, set[str]] = {}
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
            self.contents.setdefault(key, set()).add(hashlib.sha256(data).hexdigest())
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
            assert watch.contents[f"flaws/{path}"] == {sha256}, path
    for key in (path for path in final if path.startswith("stats/")):
        sidecar = json.loads(s3.bytes_of(bucket, f"flaws/{key}"))
        number = Path(key).stem
        for record, path in (("tar", f"shards/{number}.tar"), ("index", f"index/{number}.parquet")):
            assert (sidecar[record] or {}).get("sha256") == final.get(path), path
    with reached_at(s3.endpoint):
        verdict = verify(Storage(f"s3://{bucket}/flaws"))
    assert (
        verdict.sound
        and verdict.done == verdict.shards == SHARDS
        and verdict.accepted == verdict.planned == 2 * SHARDS
    )


def done(s3: S3, bucket: str) -> int:
    return sum(key.startswith("flaws/stats/") for key in s3.objects(bucket))


def command(folder: Path, bucket: str) -> tuple[str, ...]:
    recipe = folder / "small.yaml"
    recipe.write_text(RECIPE)
    return ("build", str(recipe), "--out", f"s3://{bucket}/flaws")


def until_two_are_done(s3: S3, bucket: str, run: subprocess.Popen[str]) -> None:
    until(
        lambda: done(s3, bucket),
        lambda count: count >= 2,
        unless=lambda: "the build has ended" if run.poll() is not None else "",
    )


def test_a_killed_build_through_a_faulty_network_has_the_bytes_of_a_disk(
    tmp_path, s3, bucket, proxy, undisturbed
):
    """The last shard is held back until the kill."""
    build_it = command(tmp_path, bucket)
    proxy.schedule = seeded(11, 0.15)
    with reached_at(proxy.endpoint) as environment, Watch(s3, bucket) as watch:
        first = start_held_back(tmp_path / "gate", SHARDS - 1, *build_it, environment=environment)
        until_two_are_done(s3, bucket, first)
        kill(first)
        assert 2 <= done(s3, bucket) < SHARDS
        again = start(*build_it, environment=environment)
        printed, _ = again.communicate(timeout=seconds(600))
        assert again.returncode == 0, printed
    check(s3, bucket, watch, undisturbed)
    print(f"{proxy.requests} requests, {dict(proxy.faults)}, {watch.looks} looks")
    assert proxy.faults.total() > 10 and watch.looks > 10


@pytest.mark.slow
def test_an_outage_of_20_seconds_under_many_faults_is_borne_with(tmp_path, s3, bucket, proxy, undisturbed):
    """The last shard is held back until the outage is over."""
    build(parse_recipe(RECIPE, "small.yaml"), str(tmp_path / "local"))
    ray.shutdown()
    assert content_of(tmp_path / "local") == undisturbed
    gate = tmp_path / "gate"
    proxy.schedule = faults = seeded(12, 0.3)
    with reached_at(proxy.endpoint) as environment, Watch(s3, bucket) as watch:
        run = start_held_back(gate, SHARDS - 1, *command(tmp_path, bucket), environment=environment)
        until_two_are_done(s3, bucket, run)
        proxy.schedule = lambda method, size: "503"
        time.sleep(20)
        assert run.poll() is None and done(s3, bucket) < SHARDS
        proxy.schedule = faults
        gate.touch()
        printed, _ = run.communicate(timeout=seconds(600))
        assert run.returncode == 0, printed
    check(s3, bucket, watch, undisturbed)
    print(f"{proxy.requests} requests, {dict(proxy.faults)}, {watch.looks} looks")
