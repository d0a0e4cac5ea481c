"""Sources in a bucket, through a network and a server that fail."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import Reject, SourceError
from factory.output.reference import Raw, Reference, Source
from factory.recipe.source import Filter
from factory.sources.choice import Choice
from factory.sources.images import ImagesSource
from factory.sources.parquet import ParquetSource
from factory.sources.webdataset import WebDatasetSource
from factory.store import remote
from factory.store.retries import Patience
from tests.object_store import S3, FaultyProxy, reached_at, scripted, seeded

IMAGES = [os.urandom(20_000) for _ in range(12)]


@pytest.fixture(autouse=True)
def reached(proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remote, "PATIENCE", Patience(60, 0.01, 0.05))
    monkeypatch.setattr(remote, "PAUSE_BEFORE_SECOND_LOOK", 0.01)
    with reached_at(proxy.endpoint, AWS_MAX_ATTEMPTS="1"):
        yield


def read(source: Source, references: Sequence[Reference]) -> list[Raw | Reject]:
    return [raw for _, raw in source.read(references)]


def put(s3: S3, bucket: str) -> None:
    """The same images as files with captions in JSON, in a tar, and in a Parquet file."""
    archive, rows = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for number, data in enumerate(IMAGES):
            document = f'{{"prompt": "image {number}", "width": {number}}}'.encode()
            for name, part in ((f"{number:02}.png", data), (f"{number:02}.json", document)):
                s3.client.put_object(Bucket=bucket, Key=f"files/{name}", Body=part)
                info = tarfile.TarInfo(name)
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))
    columns = {"image": IMAGES, "text": [f"image {number}" for number in range(12)], "width": range(12)}
    pq.write_table(pa.table(columns), rows, row_group_size=5)
    s3.client.put_object(Bucket=bucket, Key="x.tar", Body=archive.getvalue())
    s3.client.put_object(Bucket=bucket, Key="x.parquet", Body=rows.getvalue())


def test_a_network_in_trouble_changes_nothing(s3: S3, bucket: str, proxy: FaultyProxy) -> None:
    put(s3, bucket)
    choice = Choice(filters=(Filter(field="width", least=2),))
    sources: list[Source] = [
        ImagesSource([f"s3://{bucket}/files"], caption="json:prompt", choice=choice),
        WebDatasetSource([f"s3://{bucket}/*.tar"], caption="json:prompt", choice=choice),
        ParquetSource([f"s3://{bucket}/*.parquet"], image=["image"], caption="text", choice=choice),
    ]
    wanted = [Raw(data, None, f"image {number}") for number, data in enumerate(IMAGES)][2:]
    plain = [list(source.list()) for source in sources]
    proxy.schedule = seeded(5, 0.25)
    for source, references in zip(sources, plain, strict=True):
        assert list(source.list()) == references
        assert source.skipped["filtered"] == 2
        assert read(source, references) == wanted
    assert sum(proxy.faults.values()) > 20


def test_a_change_is_noticed_by_its_etag(s3: S3, bucket: str) -> None:
    put(s3, bucket)
    source = ImagesSource([f"s3://{bucket}/files"])
    listed = list(source.list())
    assert listed[0].version == s3.client.head_object(Bucket=bucket, Key="files/00.png")["ETag"].strip('"')
    s3.client.put_object(Bucket=bucket, Key="files/00.png", Body=os.urandom(20_000))
    with pytest.raises(SourceError, match=r"changed since it was planned: s3://.*/files/00\.png"):
        read(source, listed)


def test_what_is_gone_is_asked_for_twice(s3: S3, bucket: str, proxy: FaultyProxy) -> None:
    put(s3, bucket)
    source = ImagesSource([f"s3://{bucket}/files"])
    listed = list(source.list())
    s3.client.delete_object(Bucket=bucket, Key="files/00.png")
    proxy.schedule = scripted("503", "500", "drop")
    first, second = read(source, listed[:2])
    assert isinstance(first, Reject)
    assert first.reason == "missing"
    assert second == Raw(IMAGES[1], None, "")


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    for source in (ImagesSource([f"s3://{bucket}-not"]), ParquetSource([f"s3://{bucket}-not"], image=["a"])):
        with pytest.raises(SourceError, match=f"s3://{bucket}-not: there is no such bucket: correct the URL"):
            list(source.list())


def test_keys_that_are_no_paths_of_a_disk(s3: S3, bucket: str) -> None:
    """Every object is an item whose URL leads back to it, or is counted: itself, or the folder that it is in."""
    items = [
        "a/d.png",
        "p%20 q.png",
        "h#a.png",
        "q?b.png",
        "back\\s.png",
        "pl+us.png",
        "tab\t.png",
        "esc\x1b.png",
    ]
    items += ["a b/ü:1.png", "b*[c].png"]
    counted = {
        "folder_without_name": ["a//c.png", "t///u.png", "/lead.png", "e//"],
        "name_ends_in_slash": ["dir.png/"],
        "hidden": ["x/./y.png", "x/../z.png"],
        "name_with_version": ["v?versionId=3.png"],
        "name_with_colons": ["z::y.png"],
    }
    for key in (*items, *(key for keys in counted.values() for key in keys)):
        s3.client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.client.put_object(Bucket=bucket, Key="a/", Body=b"")
    source = ImagesSource([f"s3://{bucket}"])
    listed = list(source.list())
    assert {raw.image.decode() for raw in read(source, listed) if isinstance(raw, Raw)} == set(items)
    assert len(listed) == len(items)
    assert source.skipped == {reason: len(keys) for reason, keys in counted.items()}
    for name in ("a//c.png", "/lead.png"):
        single = ImagesSource([f"s3://{bucket}/{name}"])
        assert read(single, list(single.list())) == [Raw(name.encode(), None, "")]
    for url in ("a//*.png", "a//", "/*.png", "t//**/u.png"):
        with pytest.raises(SourceError, match=r"folder without a name \(`//`\) cannot be listed"):
            list(ImagesSource([f"s3://{bucket}/{url}"]).list())
    with pytest.raises(SourceError, match="1 folder_without_name"):
        list(ImagesSource([f"s3://{bucket}/t"]).list())
