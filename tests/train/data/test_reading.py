"""Reading single samples: the bytes, against readers of whole tars, and no more of them than are needed."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from actors.errors import BadSample, SourceError, TrainingError
from factory.store import remote
from factory.store.storage import Storage
from tests.object_store import S3, reached_at
from tests.train.data.counted import CountedFiles, counted, forget
from tests.train.data.data_sets import content, entries, everything, output, write_tar
from train.data.catalogue import open_data_set
from train.data.data_set import DataSet
from train.data.labels import MAPS, Label
from train.data.order import Order
from train.data.reading import Reader
from train.data.samples import decode


@pytest.mark.parametrize("original", [True, False])
@pytest.mark.parametrize("label", list(MAPS))
def test_the_samples_of_an_output(tmp_path: Path, label: Label, original: bool) -> None:
    """Among rejected items, and with a shard in which all are."""
    judged = label == "judged"
    folder = output(tmp_path / "out", "aara", "rrrr", "raaa", "ar", original=original, judged=judged)
    data_set = open_data_set("x", str(folder), label=label, cache=None)
    assert (data_set.kind, data_set.counts, data_set.samples) == ("output", (3, 0, 3, 1), 7)
    expected = content(folder)
    found = everything(data_set, Reader(data_set))
    assert list(found) == list(expected)
    for key, one in found.items():
        assert one.image == expected[key]["image.png"]
        assert one.label == {part: expected[key][f"{part}.png"] for part in MAPS[label]}
    assert found["s2i1"].where == f"{folder}/shards/000002.tar, s2i1"


@pytest.mark.parametrize("label", list(MAPS))
def test_the_samples_of_an_output_with_a_judge(tmp_path: Path, label: Label) -> None:
    folder = output(tmp_path / "out", "aar", "raa", judged=True)
    data_set = open_data_set("x", str(folder), label=label, cache=None)
    found, expected = everything(data_set, Reader(data_set)), content(folder)
    for key, one in found.items():
        wanted = {part: expected[key][f"{part}.png"] for part in MAPS[label]}
        assert (one.image, one.label) == (expected[key]["image.png"], wanted)


def test_a_sample_without_a_judged_map_is_named(tmp_path: Path) -> None:
    """As in an output that was merged from one with a judge and one without."""
    data_set = open_data_set("x", str(output(tmp_path / "out", "a")), label="judged", cache=None)
    one = Reader(data_set).read(0, 0)
    with pytest.raises(
        BadSample, match=r"s0i0: the sample has no judged, and the label of its data set is judged"
    ):
        decode(one, "judged")


@pytest.mark.parametrize("dialect", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("kept", [True, False])
def test_the_samples_of_foreign_tars(tmp_path: Path, dialect: int, kept: bool) -> None:
    """Long names, other scripts, capitals, scattered files, a large file between, and what is no sample."""
    long = f"{'a' * 90}/{'b' * 60}"
    name = "x" if dialect == tarfile.USTAR_FORMAT else "straße/日本"
    (between,) = [("s1.bin", bytes(3 << 20))]
    first, second = entries(long, name, "dir/plain"), entries("s1")
    write_tar(tmp_path / "a/0.tar", *first, ("README", b"x"), (".hidden.png", b"x"), format=dialect)
    write_tar(
        tmp_path / "a/1.tar",
        ("s2.PNG", b"capitals"),
        second[0],
        between,
        ("s2.Mask.png", b"a mask"),
        second[1],
        ("s3.mask.png", b"alone"),
        ("s4.json", b"{}"),
        ("s5.png", b""),
        format=dialect,
    )
    cache = Storage(str(tmp_path / "cache")) if kept else None
    data_set = open_data_set("x", str(tmp_path / "a"), label="mask", cache=cache)
    assert (data_set.kind, data_set.counts) == ("tars", (3, 4))
    assert data_set.skipped == {"no_extension": 1, "hidden": 1, "no_image": 1}
    found = everything(data_set, Reader(data_set, cache=cache))
    with tarfile.open(tmp_path / "a/0.tar") as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    for stem in (long, name, "dir/plain"):
        one = found[f"000000/{stem}"]
        assert (one.image, one.label) == (read[f"{stem}.png"], {"mask": read[f"{stem}.mask.png"]})
    assert found["000001/s2"].image == b"capitals" and found["000001/s2"].label == {"mask": b"a mask"}
    assert found["000001/s1"].image == second[0][1] and found["000001/s1"].label == {"mask": second[1][1]}
    assert found["000001/s3"].image == b"" and found["000001/s3"].label == {"mask": b"alone"}
    assert found["000001/s5"].image == b"" and found["000001/s5"].label == {}
    assert found["000001/s5"].where == f"file://{tmp_path}/a/1.tar, s5"


def test_threads_and_forgotten_tars(tmp_path: Path) -> None:
    """Two tars are held open and one index is kept, so that they are closed while others read."""
    folder = output(tmp_path / "out", *["aaaaa"] * 12)
    data_set = open_data_set("x", str(folder), label="mask", cache=None)
    reader, expected = Reader(data_set, open_tars=2, index_bytes=1), content(folder)
    order = Order([data_set.counts], [1], seed=3, digests=[data_set.digest], streams=12)

    def read(position: int) -> bool:
        draw = order.at(position)
        one = reader.read(draw.shard, draw.row)
        return one.image == expected[one.key]["image.png"]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(600)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[type[CountedFiles]]:
    output(tmp_path / "out", *["ara"] * 40)
    for number in range(40):
        write_tar(tmp_path / f"tars/{number:02}.tar", *entries(f"a{number}", f"b{number}"))
    with counted(tmp_path) as files:
        yield files


def read_at(data_set: DataSet, cache: Storage | None, positions: range) -> None:
    """As a training reads that is resumed at the first of the positions."""
    reader = Reader(data_set, cache=cache)
    order = Order([data_set.counts], [1], seed=0, digests=[data_set.digest], streams=8, block=4)
    for position in positions:
        draw = order.at(position)
        reader.read(draw.shard, draw.row)


def test_an_output_is_opened_by_one_read_and_shards_when_they_are_needed(store: type[CountedFiles]) -> None:
    data_set = open_data_set("x", "counted://out", label="mask", cache=None)
    assert store.reads == {"manifest.json": 1} and not store.listings
    read_at(data_set, None, range(8))
    tars = {name for name in store.reads if name.endswith(".tar")}
    # Eight streams begin in as many shards: eight samples, one range of bytes each.
    assert len(tars) == 8 and all(store.reads[name] == 1 for name in tars)
    assert {name for name in store.reads if name.endswith(".parquet")} == {
        name.replace(".tar", ".parquet") for name in tars
    }
    assert not store.listings


def test_a_range_is_that_of_the_members_needed(store: type[CountedFiles]) -> None:
    """For all but the last, a header of 512 bytes and the data filled up to 512; a header and the data of the last."""
    for label in MAPS.keys() - {"judged"}:
        data_set = open_data_set("x", "counted://out", label=label, cache=None)
        reader = Reader(data_set)
        one = reader.read(3, 1)
        full = [len(one.image), *(len(data) for data in one.label.values())]
        if label == "changed":  # the mask lies between
            full.insert(
                1,
                len(
                    Reader(open_data_set("x", "counted://out", label="mask", cache=None))
                    .read(3, 1)
                    .label["mask"]
                ),
            )
        forget()
        reader.read(3, 1)
        padded = sum(512 + size + -size % 512 for size in full[:-1])
        assert store.reads == {"000003.tar": 1} and store.bytes["000003.tar"] == padded + 512 + full[-1]


@pytest.mark.parametrize("url", ["counted://out", "counted://tars"])
def test_resuming_late_reads_no_more_than_resuming_early(
    store: type[CountedFiles], tmp_path: Path, url: str
) -> None:
    """80 samples in a pass, all of nearly one size: positions 10 passes and 10,000 passes on."""
    cache = Storage(str(tmp_path / "cache"))
    data_set = open_data_set("x", url, label="mask", cache=cache)
    sums = []
    for first in (100 * 8, 100_000 * 8):
        forget()
        read_at(data_set, cache, range(first, first + 80))
        sums.append((store.reads.total(), store.bytes.total(), store.listings.total()))
    assert sums[0] == sums[1] and sums[0][2] == 0


def test_from_a_bucket_and_from_a_disk_the_same(
    s3: S3, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = output(tmp_path / "out", "aara", "rrrr", "aaa")
    for number in range(3):
        write_tar(tmp_path / f"tars/{number:02}.tar", *entries(f"a{number}", f"b{number}"))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            s3.client.put_object(Bucket=bucket, Key=str(path.relative_to(tmp_path)), Body=path.read_bytes())
    with reached_at(s3.endpoint):
        for name in ("out", "tars", "tars/{00..02}.tar", "tars/0[01].tar"):
            found = []
            for root, cache in (
                (str(tmp_path), tmp_path / "cache"),
                (f"s3://{bucket}", f"s3://{bucket}/cache"),
            ):
                storage = Storage(str(cache))
                for _ in range(2):  # the second time from the index that is kept
                    data_set = open_data_set("x", f"{root}/{name}", label="mask", cache=storage)
                    read = everything(data_set, Reader(data_set, cache=storage))
                    files = [(one.key, one.image, one.label) for one in read.values()]
                    found.append((data_set.digest, data_set.counts, files))
            assert found[0] == found[1] == found[2] == found[3] and found[0][2]
    assert folder.exists()


def test_a_missing_shard(tmp_path: Path) -> None:
    folder = output(tmp_path / "out", "aa", "aa")
    data_set = open_data_set("x", str(folder), label="mask", cache=None)
    (folder / "shards/000001.tar").unlink()
    reader = Reader(data_set)
    assert reader.read(0, 0).key == "s0i0"
    with pytest.raises(
        TrainingError, match=f"sample s1i1: {folder}/shards/000001.tar is missing; bring the shard"
    ):
        reader.read(1, 1)
    (folder / "index/000000.parquet").unlink()
    assert reader.read(0, 1).key == "s0i1"
    with pytest.raises(
        TrainingError, match=f"{folder}/index/000000.parquet is missing; bring the shard back"
    ):
        Reader(data_set).read(0, 0)


def test_a_truncated_tar(tmp_path: Path) -> None:
    folder = output(tmp_path / "out", "aa", "aa")
    data_set = open_data_set("x", str(folder), label="mask", cache=None)
    tar = folder / "shards/000001.tar"
    data, early = tar.read_bytes(), Reader(data_set)
    early.read(1, 0)
    tar.write_bytes(data[:3000])
    words = f"sample s1i1: {tar} has 3,000 bytes, and should have {len(data):,}: it was cut short; bring"
    with pytest.raises(TrainingError, match=words):
        Reader(data_set).read(1, 1)
    # One that held the tar open when it was cut.
    with pytest.raises(
        TrainingError, match=rf"{tar}, s1i1: the tar ends at byte [\d,]+; bring the shard back"
    ):
        early.read(1, 1)


def test_a_replaced_tar(tmp_path: Path) -> None:
    """Another tar of the same size, with the same samples in another order; and another index."""
    folder = output(tmp_path / "out", "aaa")
    data_set = open_data_set("x", str(folder), label="mask", cache=None)
    tar = folder / "shards/000000.tar"
    samples = list(content(folder).items())
    again = [(f"{key}.{name}", data) for key, files in samples[::-1] for name, data in files.items()]
    size = tar.stat().st_size
    write_tar(tar, *again, format=tarfile.USTAR_FORMAT)
    assert tar.stat().st_size == size
    with pytest.raises(TrainingError) as caught:
        Reader(data_set).read(0, 0)
    assert str(caught.value).startswith(
        f"{tar}, s0i0: at byte 0 of the tar is 's0i2.image.png' of {len(again[0][1]):,} bytes, and 's0i0.image.png' of "
    )
    assert "was replaced since it was indexed; bring the shard back" in str(caught.value)
    tar.write_bytes(b"x" * size)
    with pytest.raises(
        TrainingError, match=f"{tar}, s0i1: at byte .* of the tar is no header of a file, and"
    ):
        Reader(data_set).read(0, 1)
    tar.write_bytes(bytes(size + 512))
    with pytest.raises(TrainingError, match=r"s0i1: .* should have .*: it was replaced"):
        Reader(data_set).read(0, 1)


def test_an_index_that_does_not_fit(tmp_path: Path) -> None:
    many = "a" * 14  # whose original images take more than what a tar is filled up with, 10,240 bytes
    folder = output(tmp_path / "out", many, "ara")
    data_set = open_data_set("x", str(folder), label="mask", cache=None)
    index = folder / "index/000000.parquet"
    whole = index.read_bytes()
    shutil.copy(folder / "index/000001.parquet", index)
    with pytest.raises(
        TrainingError, match=f"{index}: it has 2 accepted samples, the manifest 14; `flawforge ver"
    ):
        Reader(data_set).read(0, 0)
    output(tmp_path / "other", many, original=False)
    shutil.copy(tmp_path / "other/index/000000.parquet", index)
    with pytest.raises(TrainingError, match=f"{index}: its files do not add up to the .* bytes of the tar"):
        Reader(data_set).read(0, 0)
    for data in (b"", b"PAR1", whole[:-100], whole[:200] + bytes(len(whole) - 200)):
        index.write_bytes(data)
        with pytest.raises(TrainingError, match=f"{index}: it (cannot be read|has other columns)"):
            Reader(data_set).read(0, 0)


def test_a_foreign_tar_that_changed_after_it_was_opened(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "t/x.tar", *entries("a", "b"))
    cache = Storage(str(tmp_path / "cache"))
    data_set = open_data_set("x", str(tar), label="mask", cache=cache)
    write_tar(tar, *entries("b", "a"))
    with pytest.raises(
        TrainingError, match=f"file://{tar}, a: at byte 0 of the tar is 'b.png' of .*, and 'a.png'"
    ):
        Reader(data_set, cache=cache).read(0, 0)
    write_tar(tar, *entries("a", "b"), *entries("c", size=9000))
    with pytest.raises(TrainingError, match=f"sample a: file://{tar} has .* should have .*: it was replaced"):
        Reader(data_set, cache=cache).read(0, 0)
    with pytest.raises(TrainingError, match=f"file://{tar} has 3 samples, and had 2; bring the shard back"):
        Reader(data_set).read(0, 0)
    tar.write_bytes(tar.read_bytes()[:1500])
    with pytest.raises(SourceError, match=f"file://{tar} is damaged after byte"):
        Reader(data_set).read(0, 0)
    tar.unlink()
    with pytest.raises(TrainingError, match=f"file://{tar}: the tar is gone"):
        Reader(data_set).read(0, 0)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LARGEST_FILE", 2000)
    tar = write_tar(tmp_path / "x.tar", ("a.png", bytes(2000)), ("b.png", bytes(2001)))
    reader = Reader(open_data_set("x", str(tar), label="none", cache=None))
    assert reader.read(0, 0).image == bytes(2000)
    with pytest.raises(
        BadSample, match=f"file://{tar}, b: image: the file has 2,001 bytes; at most 2,000"
    ) as caught:
        reader.read(0, 1)
    assert caught.value.reason == "image_too_large"
