"""The same file is the same item, however its URL is spelled and wherever that stands in the list."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import SourceError
from factory.output.reference import Raw, Reference, Source
from factory.sources.images import ImagesSource
from factory.sources.parquet import ParquetSource
from factory.sources.webdataset import WebDatasetSource

Open = Callable[[Sequence[str]], Source]


def images(urls: Sequence[str]) -> Source:
    return ImagesSource(urls)


def tars(urls: Sequence[str]) -> Source:
    return WebDatasetSource(urls)


def rows(urls: Sequence[str]) -> Source:
    return ParquetSource(urls, image=["image"])


def write(path: Path, kind: Open) -> None:
    """A file with two items, or an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind is images:
        path.with_suffix(".png").write_bytes(str(path).encode())
    elif kind is rows:
        pq.write_table(pa.table({"image": [b"1", b"2"]}), path.with_suffix(".parquet"))
    else:
        with tarfile.open(path.with_suffix(".tar"), "w") as archive:
            for name in ("1.png", "2.png"):
                archive.addfile(tarfile.TarInfo(name), io.BytesIO())


def keys_by_place(listed: Sequence[Reference], folder: Path) -> dict[tuple[str, str], str]:
    """Keys by file, below the folder and with links resolved, and by place in it."""
    found = {
        (os.path.realpath(one.url.removeprefix("file://")).removeprefix(f"{folder}/"), one.member): one.key
        for one in listed
    }
    assert len(found) == len(listed), "an item came twice"
    assert len(set(found.values())) == len(found), "a key came twice"
    return found


SPELLINGS = [
    ["{0}/b", "{0}/a"],
    ["{0}/{{b,a}}"],
    ["{0}"],
    ["{0}/**/*"],
    ["{0}/*/*.*"],
    ["{0}/[ab]/"],
    ["file://{0}/a/", "{0}/./b", "{0}/b/"],
    ["{0}/a/../a", "{0}//b"],
    ["./a", "b/"],
    ["linked/a", "{0}/b"],
    ["{0}/a", "linked/a", "linked/b/**", "{0}/a/*"],
]


@pytest.mark.parametrize("kind", [images, tars, rows])
@pytest.mark.parametrize("urls", SPELLINGS)
def test_keys_do_not_depend_on_the_urls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Open, urls: list[str]
) -> None:
    home = tmp_path / "home"
    for name in ("a/1", "a/2", "b/1", "b/2"):
        write(home / name, kind)
    (tmp_path / "linked").symlink_to("home")
    monkeypatch.chdir(home)
    expected = keys_by_place(list(kind([f"{home}/a", f"{home}/b"]).list()), home)
    assert len(expected) == (4 if kind is images else 8)
    wanted = [
        url.replace("linked", str(tmp_path / "linked")) if url.startswith("linked") else url.format(home)
        for url in urls
    ]
    assert keys_by_place(list(kind(wanted).list()), home) == expected


@pytest.mark.parametrize(
    ("urls", "duplicates"),
    [
        (["{0}/a", "{0}/a"], 2),
        (["{0}/a/*", "{0}/a"], 2),
        (["{0}/a", "{0}/a/"], 2),
        (["{0}/a", "file://{0}/a", "{0}/a/./"], 4),
        (["{0}/a", "{0}/a/1.png"], 1),
        (["{0}/{{a,a}}"], 2),
        (["{0}/folder-link", "{0}/a"], 2),
        (["{0}/a", "{0}/folder-link/*.png"], 2),
        (["{0}/a", "{0}/file-link.png"], 1),
        (["{0}/0-file-link.png", "{0}/a/1.png"], 1),
        (["{0}/a", "{0}/folder-link/1.png"], 1),
        (["{0}/links", "{0}/a"], 2),
    ],
)
def test_a_file_that_several_urls_lead_to(tmp_path: Path, urls: list[str], duplicates: int) -> None:
    write(tmp_path / "a/1", images)
    write(tmp_path / "a/2", images)
    (tmp_path / "folder-link").symlink_to("a")
    (tmp_path / "file-link.png").symlink_to("a/2.png")
    (tmp_path / "0-file-link.png").symlink_to("folder-link/1.png")
    (tmp_path / "links").mkdir()
    for name in ("1.png", "other.png"):
        (tmp_path / "links" / name).symlink_to("../a/1.png")
    source = ImagesSource([url.format(tmp_path) for url in urls])
    found = keys_by_place(list(source.list()), tmp_path)
    assert set(found) <= {("a/1.png", ""), ("a/2.png", "")}
    assert source.skipped == {"duplicate": duplicates}


def test_two_links_to_a_file_outside_are_one_item(tmp_path: Path) -> None:
    write(tmp_path / "pool/1", images)
    for name in ("x.png", "y.png"):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).symlink_to("../pool/1.png")
    source = ImagesSource([str(tmp_path / "set")])
    (item,) = source.list()
    assert item.url == f"file://{tmp_path}/set/x.png"
    assert source.skipped == {"duplicate": 1}


def test_a_link_with_a_mask_of_its_own_is_an_item_of_its_own(tmp_path: Path) -> None:
    """One image, several masks: what a folder of links is for. Links beside a link are those of the same item."""
    write(tmp_path / "pool/1", images)
    (tmp_path / "pool/1.mask.png").write_bytes(b"mask")
    (tmp_path / "set").mkdir()
    for name in "xyz":
        (tmp_path / f"set/{name}.png").symlink_to("../pool/1.png")
    (tmp_path / "set/x.mask.png").write_bytes(b"left")
    (tmp_path / "set/y.mask.png").write_bytes(b"right")
    (tmp_path / "set/z.mask.png").symlink_to("../pool/1.mask.png")
    for urls in (["set", "pool"], ["**"], ["pool/*", "set/*"]):
        source = ImagesSource([f"{tmp_path}/{url}" for url in urls], mask="mask.png")
        listed = list(source.list())
        assert [raw.mask for _, raw in source.read(listed) if isinstance(raw, Raw)] == [
            b"mask",
            b"left",
            b"right",
        ]
        assert len({item.key for item in listed}) == 3
        assert source.skipped == {"mask": 4, "duplicate": 1}
    alone = ImagesSource([f"{tmp_path}/set"], mask="mask.png")
    assert [item.key for item in alone.list()][:2] == [item.key for item in listed][1:]


@pytest.fixture
def bucket() -> Iterator[str]:
    store = fsspec.filesystem("memory")
    store.store.clear()
    for name in ("a/1.png", "a/b/1.png", "c/1.png"):
        store.pipe_file(f"/bucket/{name}", b"x")
    yield "memory://bucket"
    store.store.clear()


def test_keys_in_a_bucket(bucket: str) -> None:
    def keys(*urls: str) -> dict[str, str]:
        source = ImagesSource([f"{bucket}{url}" for url in urls])
        return {item.url: item.key for item in source.list()}

    expected = keys("")
    assert len(set(expected.values())) == 3
    for urls in (["/c", "/a"], ["/**"], ["/*/1.png", "/a/b/"], ["/c", "/a/b", "/a/1.png"]):
        assert keys(*urls) == expected


def test_names_of_other_urls_are_other_items(tmp_path: Path) -> None:
    """Their keys were the same when each was the first URL of its list."""
    write(tmp_path / "a/1", images)
    write(tmp_path / "b/1", images)
    (one,), (other,) = (ImagesSource([f"{tmp_path}/{name}"]).list() for name in "ab")
    assert one.key != other.key


def test_a_url_with_a_nul_character(tmp_path: Path) -> None:
    for url in (f"{tmp_path}/a\0b.png", f"{tmp_path}/a\0/*.png"):
        with pytest.raises(SourceError, match="NUL character"):
            list(ImagesSource([url]).list())
