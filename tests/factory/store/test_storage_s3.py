"""Outputs in a bucket, through a network and a server that fail: what is seen is whole, what passes is borne with."""

from __future__ import annotations

import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, repeat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import LockLostError, OutputError
from factory.output.lock import Lock
from factory.store.retries import Patience
from factory.store.storage import Storage
from tests.object_store import FAULTS, reached_at, scripted, seeded

ONE_ATTEMPT = {"AWS_MAX_ATTEMPTS": "1"}
"""For botocore, so that what is tested is our own doing."""

SHORT = Patience(seconds=1.0, first=0.01, longest=0.05)
QUICK = Patience(seconds=60.0, first=0.01, longest=0.05)
DATA = os.urandom(300_000)


@pytest.fixture
def reached(proxy):
    with reached_at(proxy.endpoint, **ONE_ATTEMPT):
        yield


@pytest.fixture
def storage(reached, bucket):
    return Storage(f"s3://{bucket}/made/out", QUICK)


def test_a_file_is_published_once(storage, s3, bucket):
    assert storage.empty() and storage.local is None
    assert storage.publish("shards/000000.tar", DATA)
    assert not storage.publish("shards/000000.tar", b"late")
    assert s3.objects(bucket) == {"made/out/shards/000000.tar": 300_000}
    assert storage.read("shards/000000.tar") == DATA == s3.bytes_of(bucket, "made/out/shards/000000.tar")
    storage.replace("shards/000000.tar", b"mended")
    assert storage.read("shards/000000.tar") == b"mended"
    assert storage.names("shards") == ["000000.tar"] and storage.empty(besides=("shards",))


def test_what_is_absent(storage):
    assert not storage.exists("plan.parquet") and storage.names("stats") == [] and storage.tidy() == 0
    storage.remove("plan.parquet")
    for read in (storage.read, storage.open):
        with pytest.raises(OutputError, match=rf"{storage.url}: plan\.parquet is missing"):
            read("plan.parquet")


def test_a_folder_made_in_a_web_console_is_empty(storage, s3, bucket):
    s3.client.put_object(Bucket=bucket, Key="made/out/", Body=b"")
    assert storage.empty() and storage.names("") == []


def test_removing_takes_a_file_and_not_its_neighbours(storage, s3, bucket):
    for path in ("stats/000000.json", "stats/000000.json.old", "stats"):
        storage.publish(path, b"{}")
    storage.remove("stats/000000.json")
    storage.remove("stats")
    assert list(s3.objects(bucket)) == ["made/out/stats/000000.json.old"]


def test_large_files_go_up_in_parts_and_are_created_once(storage, s3, bucket, proxy):
    large = DATA * 360  # 108 MB; below 100 MiB s3fs sends one request
    proxy.schedule = lambda method, size: next(faults) if size > 1_000_000 else ""
    faults = chain(["", "cut upload"], repeat(""))
    assert storage.publish("shards/000000.tar", large)
    assert proxy.faults == {"cut upload": 1}
    assert not storage.publish("shards/000000.tar", b"late")
    assert s3.bytes_of(bucket, "made/out/shards/000000.tar") == large


def test_a_file_of_this_machine_is_uploaded(storage, s3, bucket, proxy, tmp_path):
    (tmp_path / "drawn").write_bytes(DATA)
    proxy.schedule = scripted("cut upload", "500 after", method="PUT")
    storage.settle("plan.parquet", tmp_path / "drawn")
    assert s3.bytes_of(bucket, "made/out/plan.parquet") == DATA and proxy.faults.total() == 2


@pytest.mark.parametrize("fault", ["drop", "500", "503", "429", "cut upload"])
def test_a_write_that_failed_is_done_again(storage, s3, bucket, proxy, fault):
    proxy.schedule = scripted(fault, fault, method="PUT")
    assert storage.publish("shards/000000.tar", DATA)
    assert proxy.faults == {fault: 2}
    assert s3.bytes_of(bucket, "made/out/shards/000000.tar") == DATA


@pytest.mark.parametrize("fault", ["500 after", "drop after"])
def test_a_write_that_succeeded_unnoticed_is_no_failure(storage, s3, bucket, proxy, fault):
    proxy.schedule = scripted(fault, method="PUT")
    assert storage.publish("shards/000000.tar", DATA), "ours, although the second attempt found it there"
    proxy.schedule = scripted(fault, method="PUT")
    storage.replace("manifest.json", b"{}")
    assert proxy.faults == {fault: 2}
    assert s3.objects(bucket) == {"made/out/manifest.json": 2, "made/out/shards/000000.tar": 300_000}


def test_a_write_that_failed_while_another_was_first_leaves_that_one(storage, s3, bucket, proxy):
    def other_is_first(method: str, size: int) -> str:
        if method != "PUT" or proxy.faults:
            return ""
        s3.client.put_object(Bucket=bucket, Key="made/out/identity.json", Body=b"theirs")
        return "drop"

    proxy.schedule = other_is_first
    assert not storage.publish("identity.json", b"mine!!")
    assert s3.bytes_of(bucket, "made/out/identity.json") == b"theirs"


@pytest.mark.parametrize(
    "fault", ["drop", "500", "503", "429", "cut download", "short download", "drop after"]
)
def test_a_read_that_failed_is_done_again(storage, s3, bucket, proxy, fault):
    s3.client.put_object(Bucket=bucket, Key="made/out/shards/000000.tar", Body=DATA)
    proxy.schedule = scripted(fault, fault, method="GET")
    assert storage.read("shards/000000.tar") == DATA
    assert proxy.faults == {fault: 2}


@pytest.mark.parametrize("ask", [lambda storage: storage.exists("there"), lambda storage: storage.names("")])
def test_no_answer_is_not_taken_for_absence(storage, s3, bucket, proxy, ask):
    s3.client.put_object(Bucket=bucket, Key="made/out/there", Body=b"x")
    proxy.schedule = scripted(*["500", "503", "drop", "429"] * 2)
    assert ask(storage)
    assert proxy.faults.total() == 8


def test_deleting_is_done_again(storage, s3, bucket, proxy):
    s3.client.put_object(Bucket=bucket, Key="made/out/stats/0.json", Body=b"x")
    proxy.schedule = scripted("500", "drop after", "503", method="DELETE")
    storage.remove("stats/0.json")
    assert s3.objects(bucket) == {} and proxy.faults.total() >= 2


@pytest.fixture
def taken_over(storage, s3, bucket, proxy):
    """Has another run take the lock at the moment at which a change arrives, after the look at the lock."""

    def now(method: str, size: int) -> str:
        if method in ("PUT", "DELETE"):
            s3.client.put_object(Bucket=bucket, Key="made/out/lock.json", Body=b'{"run": "theirs"}')
        return ""

    with Lock(storage) as lock:
        lock.storage.replace("manifest.json", b"before")
        proxy.schedule = now
        yield lock.storage
        proxy.schedule = scripted()


def test_whoever_is_taken_over_before_a_write_takes_it_back(taken_over, s3, bucket):
    with pytest.raises(LockLostError, match="taken over by another run"):
        taken_over.publish("shards/000000.tar", DATA)
    assert "made/out/shards/000000.tar" not in s3.objects(bucket)


@pytest.mark.parametrize("change", ["publish", "settle", "replace", "remove"])
def test_whoever_was_taken_over_changes_nothing(taken_over, s3, bucket, change):
    with pytest.raises(LockLostError):
        taken_over.remove("runs/1.json")
    before = s3.objects(bucket)
    arguments = () if change == "remove" else (DATA,)
    with pytest.raises(LockLostError):
        getattr(taken_over, change)("manifest.json", *arguments)
    assert s3.objects(bucket) == before
    assert s3.bytes_of(bucket, "made/out/manifest.json") == b"before"


def test_the_lock_of_another_run_is_not_given_back(storage, s3, bucket):
    with Lock(storage) as lock:
        s3.client.put_object(Bucket=bucket, Key="made/out/lock.json", Body=b'{"run": "theirs"}')
        with pytest.raises(LockLostError):
            lock.storage.check()
    assert s3.bytes_of(bucket, "made/out/lock.json") == b'{"run": "theirs"}'


def test_parquet_is_read_by_pieces_through_faults(storage, s3, bucket, proxy):
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, pa.schema([("number", pa.int64()), ("noise", pa.binary())])) as writer:
        for group in range(8):
            rows = {"number": [group] * 500, "noise": [os.urandom(1000) for _ in range(500)]}
            writer.write_table(pa.table(rows))
    s3.client.put_object(Bucket=bucket, Key="made/out/plan.parquet", Body=buffer.getvalue())
    proxy.schedule = seeded(3, 0.4)
    with storage.open("plan.parquet") as stream:
        table = pq.ParquetFile(stream).read_row_group(5)
    assert table.equals(pq.ParquetFile(buffer).read_row_group(5)) and proxy.faults.total() >= 1


def test_an_outage_while_parquet_is_read_is_not_called_damage(reached, s3, bucket, proxy):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"noise": [os.urandom(1000) for _ in range(4000)]}), buffer)
    s3.client.put_object(Bucket=bucket, Key="plan.parquet", Body=buffer.getvalue())
    with Storage(f"s3://{bucket}", SHORT).open("plan.parquet") as stream:
        plan = pq.ParquetFile(stream)
        proxy.schedule = lambda method, size: "503"
        with pytest.raises(OutputError, match="Slow Down"):
            plan.read_row_group(0)


def test_hundreds_of_operations_through_one_fault_in_three(storage, s3, bucket, proxy, caplog):
    caplog.set_level(logging.DEBUG, "factory.store.retries")
    proxy.schedule = seeded(7, 0.33)
    contents = {f"shards/{number:06d}.tar": os.urandom(1 + 997 * number) for number in range(30)}
    assert all(storage.publish(path, data) for path, data in contents.items())
    assert storage.names("shards") == [path.removeprefix("shards/") for path in contents]
    assert all(storage.read(path) == data for path, data in contents.items())
    assert not any(storage.publish(path, data + b"?") for path, data in contents.items())
    assert {path: s3.bytes_of(bucket, f"made/out/{path}") for path in contents} == contents
    assert len(s3.objects(bucket)) == 30
    assert set(proxy.faults) == set(FAULTS)
    retries = [record for record in caplog.records if "attempt" in record.message]
    print(f"{len(retries)} retries, {proxy.requests} requests, {dict(proxy.faults)}")
    assert len(retries) > 30


@pytest.mark.parametrize(
    ("fault", "words"),
    [("drop", "onnection"), ("500", "500 InternalError"), ("503", "503 SlowDown"), ("429", "429")],
)
def test_a_lasting_outage_is_reported(reached, bucket, proxy, fault, words):
    proxy.schedule = lambda method, size: fault
    storage = Storage(f"s3://{bucket}/out", SHORT)
    with ThreadPoolExecutor(3) as threads:  # Each of them gives up after a second.
        written = threads.submit(storage.publish, "shards/000000.tar", DATA)
        read = threads.submit(storage.read, "shards/000000.tar")
        listed = threads.submit(storage.names, "stats")
    with pytest.raises(OutputError) as reported:
        written.result()
    assert str(reported.value).startswith(f"s3://{bucket}/out: cannot write shards/000000.tar: ")
    assert words in str(reported.value) and "gave up after 1 seconds of attempts" in str(reported.value)
    with pytest.raises(OutputError, match=r"cannot read shards/000000\.tar"):
        read.result()
    with pytest.raises(OutputError, match="cannot list stats"):
        listed.result()


def test_no_server_is_reported(bucket):
    with (
        reached_at("http://127.0.0.1:9", **ONE_ATTEMPT),
        pytest.raises(OutputError, match="gave up after 1 sec"),
    ):
        Storage(f"s3://{bucket}/out", SHORT).exists("identity.json")


def test_a_missing_bucket_is_reported_at_once(reached, proxy):
    storage = Storage("s3://nowhere-at-all/out", Patience(seconds=3600))
    for act in (lambda: storage.publish("lock.json", b"{}"), lambda: storage.read("plan.parquet")):
        with pytest.raises(
            OutputError, match="there is no bucket 'nowhere-at-all'; create it, or correct the URL"
        ):
            act()


def test_no_permission_is_reported_at_once(storage, proxy, monkeypatch):
    monkeypatch.setitem(
        __import__("tests.object_store").object_store.STATUS, "403", ("AccessDenied", "Forbidden")
    )
    proxy.schedule = lambda method, size: "403"
    for act in (lambda: storage.publish("lock.json", b"{}"), lambda: storage.exists("identity.json")):
        with pytest.raises(OutputError, match=r"access is denied: .*grant it .*PutObject"):
            act()
    assert proxy.requests <= 4


def test_no_credentials_are_reported_at_once(bucket, s3, monkeypatch, tmp_path):
    with reached_at(s3.endpoint):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(
            OutputError, match=r"cannot write lock\.json: there are no credentials for it: set AWS_"
        ):
            Storage(f"s3://{bucket}/out", Patience(seconds=3600)).publish("lock.json", b"{}")
