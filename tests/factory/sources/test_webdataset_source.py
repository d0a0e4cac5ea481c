"""WebDataset tars as a source: what is one sample, and reading without walking through the tar."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import fsspec
import pytest
import webdataset
from fsspec.implementations.local import LocalFileSystem

from actors.errors import Reject, SourceError
from factory.output.reference import Raw, Reference
from factory.recipe.source import Filter
from factory.sources import webdataset as module
from factory.sources.choice import Choice
from factory.sources.webdataset import WebDatasetSource
from factory.store import remote


def write(path: Path, *entries: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def sample(stem: str) -> list[tuple[str, bytes]]:
    text = f'{{"prompt": "a {stem}"}}'.encode()
    return [
        (f"{stem}.png", f"image {stem}".encode()),
        (f"{stem}.mask.png", b"mask " + stem.encode()),
        (f"{stem}.json", text),
    ]


def open_source(*urls: Path | str, **options: object) -> WebDatasetSource:
    return WebDatasetSource([str(url) for url in urls], **options)  # type: ignore[arg-type]


def read(source: WebDatasetSource, references: Sequence[Reference]) -> list[Raw | Reject]:
    return [raw for _, raw in source.read(references)]


@pytest.fixture
def bucket() -> Iterator[str]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield "memory://bucket"
    files.store.clear()


def test_samples_of_several_tars(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"data-{number:03d}.tar", *sample(f"{number}a"), *sample(f"{number}b"))
    (tmp_path / "data.idx").touch()
    source = open_source(f"{tmp_path}/data-{{000..002}}.tar", mask="mask.png", caption="json:prompt")
    listed = list(source.list())
    assert [reference.url[-8:] for reference in listed] == [f"-{n:03d}.tar"[-8:] for n in (0, 0, 1, 1, 2, 2)]
    assert all(re.fullmatch(r"data-00\d_\da?b?-[0-9a-f]{16}", reference.key) for reference in listed)
    assert len({reference.key for reference in listed}) == 6
    stems = ["0a", "0b", "1a", "1b", "2a", "2b"]
    assert read(source, listed) == [
        Raw(b"image %b" % s.encode(), b"mask %b" % s.encode(), f"a {s}") for s in stems
    ]
    assert not source.skipped
    same = [reference.key for reference in open_source(tmp_path, mask="mask.png").list()]
    assert same == [reference.key for reference in listed]


def test_grouping_is_that_of_the_webdataset_package(tmp_path: Path) -> None:
    names = [
        "a.png",
        "a.mask.png",
        "b.v2.png",
        "d.x/c.png",
        "d.x/c.txt",
        "./e.PNG",
        "f/a.png",
        "g.image.png",
        "g.png",
    ]
    tar = write(tmp_path / "x.tar", *((name, name.encode()) for name in names))
    expected = {
        item["__key__"]: item["png"]
        for item in webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False)
        if "png" in item
    }
    source = open_source(tar, image=["png"])
    listed = list(source.list())
    found = {module._planned(reference).stem: raw.image for reference, raw in source.read(listed)}  # type: ignore[union-attr]
    assert found == expected
    assert len(found) == 5
    assert source.skipped == {"no_image": 1}, "b.v2.png has the extension v2.png"


def test_the_first_of_the_wanted_extensions(tmp_path: Path) -> None:
    tar = write(
        tmp_path / "x.tar", ("a.jpg", b"jpg"), ("a.png", b"png"), ("b.jpg", b"jpg"), ("c.image.png", b"own")
    )
    source = open_source(tar, image=["PNG", "image.png", "jpg"])
    assert [raw.image for raw in read(source, list(source.list()))] == [b"png", b"jpg", b"own"]  # type: ignore[union-attr]


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    tar = write(
        tmp_path / "x.tar",
        *[("a.png", b"1"), ("a.png", b"2"), ("b.txt", b""), ("c.png", b"3"), ("a.png", b"4")],
        *[("README", b""), ("d/.hidden.png", b""), (".e.png", b""), ("../f.png", b""), ("__g__/h.png", b"5")],
    )
    source = open_source(tar)
    assert [raw.image for raw in read(source, list(source.list()))] == [b"1", b"3", b"5"]  # type: ignore[union-attr]
    assert source.skipped == {
        "duplicate_member": 1, "duplicate_key": 1, "no_image": 1,
        "no_extension": 1, "hidden": 2, "unsafe_name": 1,
    }  # fmt: skip


PARTS = ("jpg", "mask.png", "json")


def parts(*names: str) -> list[tuple[str, bytes]]:
    """Members whose bytes are their names; JSON has its name in a field."""
    return [
        (
            name,
            f'{{"prompt": "{name}", "width": {name[1]}}}'.encode()
            if name.endswith("json")
            else name.encode(),
        )
        for name in names
    ]


@pytest.mark.parametrize(
    "names",
    [
        [f"s{n}.{part}" for some in (("jpg", "mask.png"), ("json",)) for n in range(4) for part in some],
        [f"s{n}.{part}" for part in PARTS for n in range(4)],
        [f"s{n}.{part}" for part in PARTS[::-1] for n in range(4)],
        [f"s{n}.{part}" for part in PARTS for n in (0, 1, 2, 3)[:: -1 if part == "json" else 1]],
        [
            "s0.jpg",
            "s1.json",
            "s1.mask.png",
            "s2.jpg",
            "s3.jpg",
            "s2.json",
            "s3.json",
            "s3.mask.png",
            "s0.mask.png",
            "s2.mask.png",
            "s1.jpg",
            "s0.json",
        ],
    ],
    ids=["json at the end", "by extension", "reversed", "there and back", "interleaved"],
)
def test_members_of_a_sample_may_lie_apart(tmp_path: Path, names: list[str]) -> None:
    tar = write(tmp_path / "x.tar", *parts(*names))
    choice = Choice(filters=(Filter(field="width", least=1),))
    source = open_source(tar, mask="mask.png", caption="json:prompt", choice=choice)
    found = {raw.image: raw for raw in read(source, list(source.list())) if isinstance(raw, Raw)}
    assert found == {
        f"s{n}.jpg".encode(): Raw(f"s{n}.jpg".encode(), f"s{n}.mask.png".encode(), f"s{n}.json")
        for n in (1, 2, 3)
    }
    assert source.skipped == {"filtered": 1}


@pytest.mark.parametrize(
    ("names", "skipped", "captions"),
    [
        # The second and third of three samples of one key; what comes after them may be of any.
        (
            ["a1.jpg", "b2.jpg", "a1.jpg", "b2.json", "a1.jpg", "b2.txt"],
            {"duplicate_key": 2},
            ["", "b2.json"],
        ),
        (["a1.jpg", "b2.jpg", "a1.jpg", "b2.json", "a1.json"], {"duplicate_key": 2}, ["", "b2.json"]),
        (["a1.jpg", "a1.json", "b2.jpg", "a1.jpg", "a1.json"], {"duplicate_key": 1}, ["a1.json", ""]),
        (["a1.jpg", "a1.jpg", "a1.json", "b2.jpg"], {"duplicate_member": 1}, ["a1.json", ""]),
        (["a1.json", "b2.json", "a1.txt", "b2.jpg"], {"no_image": 1}, ["b2.json"]),
    ],
)
def test_samples_of_one_key(
    tmp_path: Path, names: list[str], skipped: dict[str, int], captions: list[str]
) -> None:
    source = open_source(write(tmp_path / "x.tar", *parts(*names)), caption="json:prompt")
    raws = read(source, list(source.list()))
    assert [raw.caption for raw in raws if isinstance(raw, Raw)] == captions
    assert source.skipped == skipped


@pytest.mark.parametrize(
    ("names", "image", "mask", "ambiguous"),
    [
        (["IMG_1.JPG", "IMG_1.MASK.PNG", "IMG_1.JSON"], "IMG_1.JPG", "IMG_1.MASK.PNG", 0),
        (["IMG_1.jpg", "IMG_1.Mask.Png", "IMG_1.mask.PNG"], "IMG_1.jpg", "IMG_1.Mask.Png", 1),
        (["IMG_1.mask.PNG", "IMG_1.JPG", "IMG_1.Mask.Png"], "IMG_1.JPG", "IMG_1.Mask.Png", 1),
        (["IMG_1.JPG", "IMG_1.jpg", "IMG_1.MASK.PNG", "IMG_1.mask.png"], "IMG_1.jpg", "IMG_1.mask.png", 2),
        (["IMG_1.JPG", "img_1.mask.png"], "IMG_1.JPG", None, 0),
    ],
)
def test_extensions_in_any_case(
    tmp_path: Path, names: list[str], image: str, mask: str | None, ambiguous: int
) -> None:
    source = open_source(write(tmp_path / "x.tar", *((n, n.encode()) for n in names)), mask="mask.png")
    (raw,) = read(source, list(source.list()))
    assert raw == Raw(image.encode(), mask and mask.encode(), "")
    assert source.skipped["ambiguous_case"] == ambiguous


def test_names_from_outside_make_sound_keys(tmp_path: Path) -> None:
    odd = ["a b", "ü", "日本", "x" * 300, 'quote"\\', "-", "a_b", "pipe|;$(x)"]
    tar = tmp_path / "odd name (1).tar"
    write(tar, *((f"{name}.png", name.encode()) for name in odd))
    with tarfile.open(tar, "a", encoding="latin-1") as archive:
        info = tarfile.TarInfo("caf\xe9.png")
        archive.addfile(info)
    source = open_source(tar)
    listed = list(source.list())
    assert len({reference.key for reference in listed}) == len(odd) + 1
    for reference in listed:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", reference.key)
        reference.member.encode()
    assert [raw.image.decode() for raw in read(source, listed)] == [*odd, ""]  # type: ignore[union-attr]


def test_limit_ends_the_listing_early(tmp_path: Path) -> None:
    write(tmp_path / "0.tar", *sample("a"), *sample("b"))
    (tmp_path / "1.tar").write_bytes(b"damaged")
    assert len(list(open_source(tmp_path, choice=Choice(limit=2)).list())) == 2
    with pytest.raises(SourceError, match=r"1\.tar is damaged"):
        list(open_source(tmp_path, choice=Choice(limit=3)).list())


@pytest.mark.parametrize("order", [1, -1])
def test_neighbours_are_read_by_one_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: int
) -> None:
    tar = write(tmp_path / "x.tar", *(entry for n in range(50) for entry in sample(f"{n:02d}")))
    source = open_source(tar, mask="mask.png", caption="json:prompt")
    listed = list(source.list())[::order]
    requests: list[tuple[int, int]] = []
    whole = LocalFileSystem.cat_file

    def cat_file(self: LocalFileSystem, path: str, start: int, end: int) -> bytes:
        requests.append((start, end))
        return bytes(whole(self, path, start=start, end=end))

    monkeypatch.setattr(LocalFileSystem, "cat_file", cat_file)
    assert [raw.caption for raw in read(source, listed)] == [f"a {n:02d}" for n in range(50)][::order]  # type: ignore[union-attr]
    assert len(requests) == 1
    assert requests[0][1] - requests[0][0] < tar.stat().st_size


def test_requests_are_bounded_and_leave_out_what_nobody_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BYTES_AT_ONCE", 3000)
    monkeypatch.setattr(module, "_LARGEST_GAP", 1500)
    entries = []
    for n in range(6):
        entries += [(f"{n}.png", bytes([n]) * 700), (f"{n}.npy", bytes(9000)), (f"{n}.txt", b"t%d" % n)]
    entries += [(f"z{n}.png", bytes([n]) * 700) for n in range(7)]
    source = open_source(write(tmp_path / "x.tar", *entries), caption="txt")
    requests: list[int] = []
    whole = LocalFileSystem.cat_file

    def cat_file(self: LocalFileSystem, path: str, start: int, end: int) -> bytes:
        requests.append(end - start)
        return bytes(whole(self, path, start=start, end=end))

    monkeypatch.setattr(LocalFileSystem, "cat_file", cat_file)
    raws = read(source, list(source.list()))
    assert [(raw.image[0], len(raw.image), raw.caption) for raw in raws] == [  # type: ignore[union-attr]
        *((n, 700, f"t{n}") for n in range(6)), *((n, 700, "") for n in range(7)),
    ]  # fmt: skip
    assert max(requests) <= 3000
    assert sum(requests) < 6 * 800 + 7 * 700 + 7 * 1500


def test_reading_in_any_order_across_tars(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.tar", *(entry for n in range(5) for entry in sample(f"{number}-{n}")))
    source = open_source(tmp_path, mask="mask.png", caption="json:prompt")
    listed = sorted(source.list(), key=lambda reference: reference.key[::-1])
    pairs = list(source.read(listed))
    assert [reference for reference, _ in pairs] == listed
    for reference, raw in pairs:
        stem = module._planned(reference).stem
        assert raw == Raw(f"image {stem}".encode(), f"mask {stem}".encode(), f"a {stem}")


def test_a_tar_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    data = write(tmp_path / "x.tar", *sample("a"), *sample("b")).read_bytes()
    fsspec.filesystem("memory").pipe_file("/bucket/x.tar", data)
    source = open_source(f"{bucket}/*.tar", caption="json:prompt")
    listed = list(source.list())
    assert [reference.url for reference in listed] == ["memory://" + "/bucket/x.tar"] * 2
    assert read(source, listed) == [Raw(b"image a", None, "a a"), Raw(b"image b", None, "a b")]


def test_members_that_lack_something(tmp_path: Path) -> None:
    entries = [
        ("a.png", b""),
        ("b.png", b"b"),
        ("b.json", b"{}"),
        ("c.png", b"c"),
        ("c.json", b'{"prompt": null}'),
    ]
    source = open_source(write(tmp_path / "x.tar", *entries), caption="json:prompt", mask="mask.png")
    empty, no_field, null = read(source, list(source.list()))
    assert empty == Raw(b"", None, "")
    assert isinstance(no_field, Reject)
    assert no_field.reason == "bad_caption"
    assert null == Raw(b"c", None, "")


def test_members_that_are_too_large_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LARGEST_FILE", 100)
    monkeypatch.setattr(module, "LARGEST_CAPTION", 10)
    entries = [
        ("a.png", bytes(101)),
        ("b.png", b"b"),
        ("b.txt", bytes(11)),
        ("c.png", b"c"),
        ("d.png", bytes(200)),
    ]
    source = open_source(write(tmp_path / "x.tar", *entries), caption="txt")
    found = read(source, list(source.list()))
    assert [raw.reason if isinstance(raw, Reject) else raw.image for raw in found] == [
        "too_many_bytes", "bad_caption", b"c", "too_many_bytes",
    ]  # fmt: skip


def test_a_tar_that_changed_or_went_stops_the_run(tmp_path: Path) -> None:
    tar = write(tmp_path / "x.tar", *sample("a"))
    source = open_source(tar)
    listed = list(source.list())
    os.utime(tar, (1, 1))
    with pytest.raises(SourceError, match=r"changed since it was planned: .*x\.tar"):
        read(source, listed)
    tar.unlink()
    with pytest.raises(SourceError, match=r"gone since it was planned: .*x\.tar"):
        read(source, listed)


def test_a_store_that_answers_short_fails_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(write(tmp_path / "x.tar", *sample("a")))
    listed = list(source.list())
    monkeypatch.setattr(LocalFileSystem, "cat_file", lambda *_, **__: b"x")
    with pytest.raises(OSError, match="got 1"):
        read(source, listed)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz"])
def test_compressed_tars_are_not_passed_over(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / name, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(SourceError, match="gunzip"):
        list(open_source(tmp_path).list())


def test_listing_reads_headers_and_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = write(tmp_path / "x.tar", *((f"{n}.png", bytes(3_000_000)) for n in range(4)))
    read_bytes = 0

    class Counting(io.FileIO):
        def read(self, size: int = -1) -> bytes:
            nonlocal read_bytes
            data = super().read(size)
            read_bytes += len(data)
            return data

    monkeypatch.setattr(LocalFileSystem, "open", lambda self, path, *_, **__: Counting(path))
    assert len(list(open_source(tar).list())) == 4
    assert read_bytes < 20_000


def test_shards_of_a_build_can_be_a_source(tmp_path: Path) -> None:
    stem = "tinytown-000000003"
    entries = [(f"{stem}.{part}", part.encode()) for part in ("image.png", "mask.png", "changed.png", "json")]
    source = open_source(write(tmp_path / "000000.tar", *entries), image=["image.png"], mask="mask.png")
    assert read(source, list(source.list())) == [Raw(b"image.png", b"mask.png", "")]
    assert source.skipped == Counter()


def test_what_is_reported_of_a_name_that_is_not_utf8_is(tmp_path: Path) -> None:
    tar = tmp_path / "0.tar"
    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name, size in (
            ("caf\xe9.png", 1),
            ("caf\xe9.json", 1),
            ("\xff.png", 1),
            ("\xff.json", (1 << 20) + 1),
        ):
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(b"{" * size))
    source = open_source(tar, caption="json:prompt")
    details = [why.detail for why in read(source, list(source.list())) if isinstance(why, Reject)]
    assert [detail.encode().decode() for detail in details] == details
    assert details[0].startswith("caf\\udce9.json is not JSON")
    assert details[1].startswith("the caption of \\udcff has 1,048,577 bytes")
