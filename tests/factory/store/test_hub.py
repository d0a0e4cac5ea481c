"""Data set repositories on the hub: all kinds of files, fresh look-ups, and errors in words."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import Reject, SourceError
from factory.output.reference import Raw, Reference, Source
from factory.sources.images import ImagesSource
from factory.sources.parquet import ParquetSource
from factory.sources.webdataset import WebDatasetSource
from factory.store import remote
from factory.store.hub import without_revision
from factory.store.retries import Patience
from tests.fake_hub import FakeHub, hub_at_hand


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(remote, "PATIENCE", Patience(5, 0.01, 0.05))
    monkeypatch.setattr(remote, "PAUSE_BEFORE_SECOND_LOOK", 0.01)
    with hub_at_hand() as server:
        yield server


def read(source: Source, references: Sequence[Reference]) -> list[Raw | Reject]:
    return [raw for _, raw in source.read(references)]


def parquet(**columns: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def tar(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def test_every_kind_of_source(hub: FakeHub) -> None:
    hub.files["org/cats"] = {
        "README.md": b"# cats",
        "photos/a.png": b"image a",
        "photos/a.txt": b"a cat",
        "photos/more/b.png": b"image b",
        "data/train-0.parquet": parquet(image=[b"image c", b"image d"], text=["c", "d"]),
        "data/train-1.parquet": parquet(image=[b"image e"], text=["e"]),
        "tars/000.tar": tar(x_png=b"image x", x_txt=b"an x", y_png=b"image y"),
    }
    root = "hf://datasets/org/cats"
    images = ImagesSource([f"{root}/photos"], caption="txt")
    listed = list(images.list())
    assert [item.url for item in listed] == [f"{root}/photos/a.png", f"{root}/photos/more/b.png"]
    assert read(images, listed) == [Raw(b"image a", None, "a cat"), Raw(b"image b", None, "")]

    rows = ParquetSource([f"{root}/data/train-*.parquet"], image=["image"], caption="text")
    listed = list(rows.list())
    assert [item.key.rpartition("-")[0] for item in listed] == ["train-0_0", "train-0_1", "train-1_0"]
    assert read(rows, listed) == [Raw(f"image {name}".encode(), None, name) for name in "cde"]
    assert len(list(ParquetSource([root], image=["image"]).list())) == 3, "the whole repository"
    assert len(list(ParquetSource([f"{root}@main/data"], image=["image"]).list())) == 3

    tars = WebDatasetSource([f"{root}/tars/{{000..000}}.tar"], caption="txt")
    listed = list(tars.list())
    assert read(tars, listed) == [Raw(b"image x", None, "an x"), Raw(b"image y", None, "")]


def test_a_file_that_changes_or_goes_is_noticed(hub: FakeHub) -> None:
    files = hub.files["org/cats"] = {
        "a.png": b"image a",
        "b.png": b"image b",
        "t.parquet": parquet(image=[b"x"]),
    }
    images = ImagesSource(["hf://datasets/org/cats"])
    rows = ParquetSource(["hf://datasets/org/cats/t.parquet"], image=["image"])
    listed, row = list(images.list()), list(rows.list())
    del files["b.png"]
    first, second = read(images, listed)
    assert first == Raw(b"image a", None, "")
    assert isinstance(second, Reject)
    assert second.reason == "missing"
    files["a.png"] = b"image A"
    with pytest.raises(SourceError, match=r"changed since it was planned: hf://datasets/org/cats/a\.png"):
        read(images, listed[:1])
    files["t.parquet"] = parquet(image=[b"y"])
    with pytest.raises(SourceError, match=r"changed since it was planned: .*t\.parquet"):
        read(rows, row)


def test_trouble_that_passes_is_borne_with(hub: FakeHub) -> None:
    hub.files["org/cats"] = {"a.png": b"image a"}
    images = ImagesSource(["hf://datasets/org/cats"])
    listed = list(images.list())
    hub.faults = [500, 429]
    assert read(images, listed) == [Raw(b"image a", None, "")]
    assert hub.faults == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("hf://datasets/org/dogs", "shows no such repository.*OWNER/NAME.*hf auth login"),
        ("hf://datasets/org/dogs/*.parquet", "shows no such repository"),
        ("hf://datasets/org/cats@v9/a.parquet", "no such revision"),
        ("hf://datasets/org/cats/b.parquet", "no such file or folder"),
        ("hf://datasets/cats", "hf://datasets/OWNER/NAME"),
        ("hf://datasets/org/gated", "gated: ask for access on its page.*HF_TOKEN"),
    ],
)
def test_errors_say_what_to_do(hub: FakeHub, url: str, words: str) -> None:
    hub.files["org/cats"] = hub.files["org/gated"] = {"a.parquet": parquet(image=[b"x"])}
    hub.gated = {"org/gated"}
    with pytest.raises(SourceError, match=words) as caught:
        list(ParquetSource([url], image=["image"]).list())
    assert url.partition("/*")[0] in str(caught.value)


def test_images_behind_a_gate_stop_the_run(hub: FakeHub) -> None:
    hub.files["org/gated"] = {"a.png": b"image a"}
    hub.gated = {"org/gated"}
    images = ImagesSource(["hf://datasets/org/gated"])
    listed = list(images.list())
    with pytest.raises(SourceError, match="gated"):
        read(images, listed)


def test_offline_mode_is_named(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE is set"):
        list(ImagesSource(["hf://datasets/org/cats"]).list())


def test_a_revision_is_not_part_of_a_key(hub: FakeHub) -> None:
    hub.files["org/cats"] = hub.files["org/cats@v1"] = {"a.png": b"image a", "b/c.png": b"image c"}
    root = "hf://datasets/org/cats"
    plain = ImagesSource([root])
    keys = [item.key for item in plain.list()]
    for urls in ([f"{root}@main"], [f"{root}@main/b", f"{root}@main/*.png"], [f"{root}@v1/**"]):
        pinned = ImagesSource(urls)
        listed = list(pinned.list())
        assert [item.key for item in listed] == keys
        assert listed[0].url.startswith(root + ("@v1/" if "v1" in urls[0] else "@main/")), (
            "and the file is read in that revision"
        )
        assert read(pinned, listed) == [Raw(b"image a", None, ""), Raw(b"image c", None, "")]
    twice = ImagesSource([f"{root}@main", root])
    assert [item.key for item in twice.list()] == keys
    assert twice.skipped == {"duplicate": 2}


@pytest.mark.parametrize(
    ("path", "without"),
    [
        ("datasets/o/n@main/a@b/c.png", "datasets/o/n/a@b/c.png"),
        ("datasets/o/n@v1", "datasets/o/n"),
        ("datasets/o/n/a@b/c.png", "datasets/o/n/a@b/c.png"),
        ("datasets/o/n@refs/convert/parquet/x", "datasets/o/n@refs/convert/parquet/x"),
        ("datasets/o/n@refs%2Fpr%2F1/x", "datasets/o/n@refs%2Fpr%2F1/x"),
        ("o/n@v1/x", "o/n/x"),
    ],
)
def test_paths_without_their_revision(path: str, without: str) -> None:
    assert without_revision(path) == without


def test_two_revisions_of_one_file(hub: FakeHub) -> None:
    hub.files["org/cats"] = {"a.png": b"image a", "b.png": b"image b"}
    hub.files["org/cats@v1"] = {"a.png": b"image a", "b.png": b"another"}
    both = ImagesSource(["hf://datasets/org/cats", "hf://datasets/org/cats@v1"])
    with pytest.raises(
        SourceError, match=r"cats(@v1)?/b\.png and hf://.*/b\.png are two revisions of one file"
    ):
        list(both.list())
