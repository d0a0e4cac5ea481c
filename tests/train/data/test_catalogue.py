"""Opening data sets: what a URL stands for, the index of foreign tars, digests, and what cannot be trained on."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tinytown
from actors.errors import SourceError, TrainingError
from factory.store.storage import Storage
from tests.train.data.counted import CountedFiles, counted, forget
from tests.train.data.data_sets import entries, everything, output, write_tar
from train.data.catalogue import check_same, open_data_set
from train.data.data_set import DataSet
from train.data.reading import Reader
from train.data.shard_index import PartNames


def opened(url: Path | str, cache: Storage | None = None, name: str = "x") -> DataSet:
    return open_data_set(name, str(url), label="mask", cache=cache)


def test_what_urls_stand_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = output(tmp_path / "out", "aa", "ra")
    for number in range(3):
        write_tar(tmp_path / f"tars/{number}.tar", *entries(*"abc"[: number + 1]))
    (tmp_path / "tars/notes.txt").touch()
    assert opened(out).counts == opened(f"{out}/").counts == (2, 1)
    assert opened(f"file://{out}").digest == opened(out).digest
    # Tars of an output that are named themselves are foreign ones: each has all that its manifest knows of it.
    assert (opened(out / "shards/*.tar").kind, opened(out / "shards/*.tar").counts) == ("tars", (2, 1))
    assert opened(tmp_path / "tars").counts == (1, 2, 3) and opened(tmp_path / "tars").skipped == {"txt": 1}
    assert opened(tmp_path / "tars/{1..2}.tar").counts == (2, 3)
    assert opened(tmp_path / "tars/[12].tar").counts == (2, 3)
    assert opened(tmp_path / "tars/2.tar").counts == (3,)
    assert opened(f"{Path(tinytown.__file__).parent}/splits/labelled").samples == 100
    monkeypatch.chdir(tmp_path)
    assert opened("out").url == str(out) and opened("tars/1.tar").url == str(tmp_path / "tars/1.tar")


def test_a_data_set_travels_as_json(tmp_path: Path) -> None:
    names = PartNames(image=("jpg", "png"), mask="seg.png")
    write_tar(
        tmp_path / "x.tar", ("a.png", b"a png"), ("a.jpg", b"a jpg"), ("a.seg.png", b"a mask"), ("b", b"")
    )
    data_set = open_data_set("x", str(tmp_path / "x.tar"), label="intersection", cache=None, names=names)
    again = DataSet.from_json(data_set.to_json())
    assert again == data_set and again.names == names and again.skipped == {"no_extension": 1}
    one = Reader(again).read(0, 0)
    assert (one.image, one.label) == (b"a jpg", {"mask": b"a mask"})


def test_the_index_is_made_once(tmp_path: Path) -> None:
    for number in range(5):
        write_tar(tmp_path / f"tars/{number}.tar", *entries(f"a{number}", "b"), ("none", b""))
    cache = Storage(str(tmp_path / "cache"))
    with counted(tmp_path) as store:
        first = opened("counted://tars", cache)
        assert set(store.reads) == {f"{number}.tar" for number in range(5)} and len(store.listings) == 1
        forget()
        second = opened("counted://tars", cache)
        assert second == first and second.skipped == {"no_extension": 5}
        assert not store.reads and len(store.listings) == 1
        # An opening that was stopped has left the tars' own indexes, and no summary of all.
        (summary,) = (tmp_path / "cache/index").glob("tars-*.parquet")
        summary.unlink()
        assert opened("counted://tars", cache) == first and not store.reads
        forget()
        assert everything(first, Reader(first, cache=cache))
        assert store.reads == {f"{number}.tar": 2 for number in range(5)}  # a range for each of two samples


def test_an_index_is_made_anew_for_what_changed(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"tars/{number}.tar", *entries(f"a{number}", "b"))
    cache = Storage(str(tmp_path / "cache"))
    with counted(tmp_path) as store:
        before = opened("counted://tars", cache)
        changed = write_tar(tmp_path / "new.tar", *entries("a1", "c", "d"))
        CountedFiles().pipe_file("/tars/1.tar", changed.read_bytes())
        forget()
        after = opened("counted://tars", cache)
        assert set(store.reads) == {"1.tar"} and after.counts == (2, 3, 2)
        with pytest.raises(
            TrainingError, match="the data set x has changed since the checkpoint: it had 6 samples"
        ):
            check_same([before.record], [after])
        # Other names of members are another index.
        forget()
        masks = open_data_set(
            "x", "counted://tars", label="none", cache=cache, names=PartNames(image=("mask.png",))
        )
        assert len(store.reads) == 3 and masks.digest != after.digest
        assert Reader(masks, cache=cache).read(0, 0).image.startswith(b"a0 mask.png")
    # One that is damaged is made anew as well.
    for path in (tmp_path / "cache/index").iterdir():
        path.write_bytes(b"PAR1 and no more")
    with counted(tmp_path):
        assert opened("counted://tars", cache) == before


def test_digests_are_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    out = output(tmp_path / "out", "aar", "aa")
    write_tar(tmp_path / "tars/0.tar", *entries("a", "b"))
    write_tar(tmp_path / "tars/1.tar", *entries("a", "c"))
    shutil.copytree(tmp_path, tmp_path / "moved")
    for name in ("out", "tars"):
        here, there = opened(tmp_path / name), opened(tmp_path / "moved" / name)
        assert here.digest == there.digest and here.url != there.url
        check_same([json.loads(json.dumps(here.record))], [there])
    assert len({opened(tmp_path / "tars" / name).digest for name in ("0.tar", "1.tar", "*.tar")}) == 3
    assert opened(output(tmp_path / "other", "aaa", "a")).digest != opened(out).digest


def test_keys_that_several_tars_have_are_samples_of_their_own(tmp_path: Path) -> None:
    """As for the source `webdataset`; within a tar, the first one counts."""
    write_tar(tmp_path / "0.tar", *entries("a", "b"), ("a.png", b"another"))
    write_tar(tmp_path / "1.tar", *entries("a"))
    data_set = opened(tmp_path)
    assert list(everything(data_set, Reader(data_set))) == ["000000/a", "000000/b", "000001/a"]
    assert data_set.skipped == {"duplicate_key": 1}


class _Server(http.server.SimpleHTTPRequestHandler):
    """Serves ranges, as web servers do and this one of Python's does not."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path.partition("?")[0]))
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if "sig=secret" not in self.path or not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        if asked:
            data = data[int(asked[1]) : int(asked[2]) + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return None

    def do_HEAD(self) -> None:
        path = Path(self.translate_path(self.path.partition("?")[0]))
        if "sig=secret" not in self.path or not path.is_file():
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(_Server, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_from_a_web_server_with_a_signature_that_is_not_published(tmp_path: Path, web: str) -> None:
    out = output(tmp_path / "out", "aar", "a")
    write_tar(tmp_path / "tars/0.tar", *entries("a", "b"))
    cache = Storage(str(tmp_path / "cache"))
    for name in ("out", "tars/{0..0}.tar"):
        data_set, local = opened(f"{web}/{name}?sig=secret", cache), opened(tmp_path / name)
        assert data_set.digest == local.digest and "secret" not in json.dumps(data_set.record)
        read, expected = everything(data_set, Reader(data_set, cache=cache)), everything(local, Reader(local))
        assert {key: (one.image, one.label) for key, one in read.items()} == {
            key: (one.image, one.label) for key, one in expected.items()
        }
        assert all("secret" not in one.where for one in read.values())
    (out / "shards/000001.tar").unlink()
    data_set = opened(f"{web}/out?sig=secret")
    with pytest.raises(TrainingError, match=f"{web}/out/shards/000001.tar is missing") as caught:
        Reader(data_set).read(1, 0)
    assert "secret" not in str(caught.value)


def edited(out: Path, **fields: Any) -> None:
    document = json.loads((out / "manifest.json").read_bytes())
    (out / "manifest.json").write_text(json.dumps({**document, **fields}))


def test_outputs_that_cannot_be_trained_on(tmp_path: Path) -> None:
    out = output(tmp_path / "out", "aa", "ra")
    manifest = (out / "manifest.json").read_bytes()
    shards = json.loads(manifest)["shards"]
    damaged = f"{out}: manifest.json is damaged, or not of a Flawforge output: "
    for fields, words in (
        (
            {"complete": False},
            f"{out}: manifest.json is of an output that is not finished; finish it with `flawfo",
        ),
        (
            {"schema_version": 2},
            f"{out}: manifest.json has schema version 2, this Flawforge reads 3 only; use the",
        ),
        ({"schema_version": "3"}, f"{damaged}schema_version: Input should be a valid integer"),
        ({"shards": [{"name": "000000"}]}, f"{damaged}shards.0.url: Field required"),
        (
            {"shards": shards[::-1]},
            f"{damaged}its shard 0 is another one, or its fields do not fit each other",
        ),
        ({"shards": shards[:1]}, f"{damaged}its shards do not have as many samples as its totals"),
        ({"shards": [{**shards[0], "url": "../x.tar"}]}, f"{damaged}its shard 0 is another one"),
        ({"shards": [{**shards[0], "sha256": None}]}, f"{damaged}its shard 0 is another one"),
        (
            {"shards": [{**shards[0], "bytes": 1 << 60}]},
            f"{damaged}shards.0.bytes: Input should be less than",
        ),
        ({"totals": {}}, f"{damaged}totals.accepted: Field required"),
    ):
        (out / "manifest.json").write_bytes(manifest)
        edited(out, **fields)
        with pytest.raises(TrainingError) as caught:
            opened(out)
        assert str(caught.value).startswith(words)
    for data in (b"", b"{}", b"[" * 100_000, manifest[:-10], b"\xff"):
        (out / "manifest.json").write_bytes(data)
        with pytest.raises(TrainingError, match=re.escape(damaged)):
            opened(out)
    (out / "manifest.json").unlink()
    with pytest.raises(
        TrainingError, match=r"the output is not finished, it has no manifest\.json; finish it with"
    ):
        opened(out)


def test_empty_data_sets(tmp_path: Path) -> None:
    out = output(tmp_path / "out", "rr")
    with pytest.raises(TrainingError) as caught:
        opened(out, name="human")
    assert str(caught.value) == (
        f"the data set human has no samples: {out}; everything in it was rejected, see `flawforge inspect`"
    )
    tar = write_tar(tmp_path / "x.tar", ("a.json", b"{}"), ("b", b""))
    with pytest.raises(TrainingError) as caught:
        opened(tar, name="human")
    assert str(caught.value) == (
        f"the data set human has no samples: {tar}; passed over: 1 no_extension, 1 no_image"
    )
    with pytest.raises(SourceError, match="found no tars; passed over: 1 parquet"):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty/x.parquet").touch()
        opened(tmp_path / "empty")
    with pytest.raises(SourceError, match="nothing: there is no such file or folder"):
        opened(tmp_path / "nothing")
    with pytest.raises(SourceError, match="is damaged after byte"):
        (tmp_path / "cut.tar").write_bytes(tar.read_bytes()[:700])
        opened(tmp_path / "cut.tar", Storage(str(tmp_path / "cache")))
    assert not list((tmp_path / "cache").rglob("*.parquet"))


def test_what_a_checkpoint_was_trained_on(tmp_path: Path) -> None:
    human = opened(output(tmp_path / "a", "aar", "aa"), name="human")
    clean = opened(output(tmp_path / "b", "aa"), name="clean")
    check_same([human.record, clean.record], [human, clean])
    with pytest.raises(TrainingError) as caught:
        check_same([human.record], [human, clean])
    assert str(caught.value) == (
        "the checkpoint was trained on the data sets human, in this order, and the recipe has human, clean; go on with "
        "the same ones, or begin a new training in another folder"
    )
    with pytest.raises(
        TrainingError, match="the data sets human, clean, in this order, and the recipe has clean, hum"
    ):
        check_same([human.record, clean.record], [clean, human])
    other = opened(output(tmp_path / "c", "aaa", "a"), name="human")
    with pytest.raises(TrainingError) as caught:
        check_same([human.record, clean.record], [other, clean])
    assert str(caught.value) == (
        f"the data set human has changed since the checkpoint: it had 4 samples in 2 shards, digest "
        f"{human.digest[:16]}, from {tmp_path}/a; now it has 4 samples in 2 shards, digest {other.digest[:16]}, from "
        f"{tmp_path}/c. Go on with the same data, or begin a new training in another folder"
    )
    with pytest.raises(
        TrainingError, match="the checkpoint's record of its data sets is damaged: digest Field req"
    ):
        check_same([{"name": "human", "url": "", "shards": 1, "samples": 1}], [human])
