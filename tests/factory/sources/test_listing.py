"""Finding files: what is found under a URL, in which order, and what is counted instead."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from actors.errors import SourceError
from factory.sources.listing import Wanted, expand, extension_of, extension_reason, find

PNG = Wanted("PNG files", lambda name: None if name.endswith(".png") else extension_reason(name))


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode("utf-8", "surrogateescape"))


def names(urls: list[str], below: Path | str, skipped: Counter[str] | None = None) -> list[str]:
    """Paths of what is found, from a folder on."""
    found = find(urls, PNG, Counter() if skipped is None else skipped)
    return [one.place.removeprefix(f"file://{below}").removeprefix(f"{below}").lstrip("/") for one in found]


@pytest.fixture
def bucket() -> Iterator[str]:
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield "memory://bucket"
    store.store.clear()


@pytest.mark.parametrize(
    ("url", "written_out"),
    [
        ("a", ["a"]),
        ("a-{000..002}.tar", ["a-000.tar", "a-001.tar", "a-002.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{0..2}", ["0", "1", "2"]),
        ("{1..002}", ["001", "002"]),
        ("{5..5}", ["5"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("x{,y}", ["x", "xy"]),
        ("{a}", ["{a}"]),
        ("{a..c}", ["{a..c}"]),
        ("{1..3..2}-{-1..2}", ["{1..3..2}-{-1..2}"]),
        ("{00..2}", ["00", "01", "02"]),
        ("{1..3,4}", ["1..3", "4"]),
        ("{a\\,b}", ["a\\", "b"]),
        ("{{a,b}", ["{a", "{b"]),
        ("{{a,b},c}", ["{a,c}", "{b,c}"]),
        ("a{.tar", ["a{.tar"]),
    ],
)
def test_braces(url: str, written_out: list[str]) -> None:
    assert list(expand(url)) == written_out


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("{3..1}", "backwards"),
        ("{0..9999}/{0..9999}", "100,000,000"),
        ("{0..9999999999}", "10,000,000,000 URLs; at most 1,000,000"),
        ("{a,b}" * 40, "1,048,576 URLs"),
        (f"{{0..{'9' * 5000}}}", "more than 20 digits"),
        (f"{{{'0' * 5000}..1}}", "more than 20 digits"),
    ],
)
def test_senseless_braces(url: str, words: str) -> None:
    """`expand` refuses them before it makes the first URL."""
    with pytest.raises(SourceError, match=words):
        expand(url)


def test_a_folder_gives_all_below_it_sorted_as_urls(tmp_path: Path) -> None:
    make(
        tmp_path, "b.png", "a/z.png", "a-b.png", "a.png", "a0.png", "a/b/c.png", "Z.png", "é ü#?.png", "t.txt"
    )
    skipped: Counter[str] = Counter()
    found = list(find([str(tmp_path)], PNG, skipped))
    urls = [item.url for item in found]
    assert urls == sorted(urls)
    assert sorted(item.url.removeprefix(f"file://{tmp_path}/") for item in found) == sorted(
        ["b.png", "a/z.png", "a-b.png", "a.png", "a0.png", "a/b/c.png", "Z.png", "é ü#?.png"]
    )
    assert urls[0] == f"file://{tmp_path}/Z.png"
    assert skipped == {"txt": 1}
    for item in found:
        files, path = fsspec.core.url_to_fs(item.url)
        assert f"file://{tmp_path}/{files.cat_file(path).decode()}" == item.url, (
            "the URL leads back to the file"
        )


def test_listing_is_the_same_in_a_bucket_and_on_a_disk(tmp_path: Path, bucket: str) -> None:
    there = ["b.png", "a/z.png", "a-b.png", "a/b/c.png", ".hidden.png", ".git/x.png", "a/readme.md"]
    make(tmp_path, *there)
    for name in there:
        fsspec.filesystem("memory").pipe_file(f"/bucket/{name}", b"x")
    for pattern in ("", "/", "/*.png", "/**/*.png", "/a/**", "/*/z.png", "/{a,b}*.png", "/[ab]*", "/a/?.png"):
        on_disk, in_bucket = Counter[str](), Counter[str]()
        assert names([f"{tmp_path}{pattern}"], tmp_path, on_disk) == names(
            [f"{bucket}{pattern}"], "memory:///bucket", in_bucket
        )
        assert on_disk == in_bucket


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png", "b.png"]),
        ("*/*.png", ["f/c.png", "g/d.png"]),
        ("**/*.png", ["a.png", "b.png", "f/c.png", "f/h/e.png", "g/d.png"]),
        ("f/**", ["f/c.png", "f/h/e.png"]),
        ("**/e.png", ["f/h/e.png"]),
        ("[ab].png", ["a.png", "b.png"]),
        ("?/*", ["f/c.png", "g/d.png"]),
        ("{f,g}/*.png", ["f/c.png", "g/d.png"]),
        ("{f,g}/", ["f/c.png", "f/h/e.png", "g/d.png"]),
        ("?/", ["f/c.png", "f/h/e.png", "g/d.png"]),
        ("{a,b}.png", ["a.png", "b.png"]),
        ("b.png", ["b.png"]),
        ("*.{png,jpg}", ["a.png", "b.png"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    make(tmp_path, "a.png", "b.png", "f/c.png", "g/d.png", "f/h/e.png", "f/c.txt")
    assert names([f"{tmp_path}/{pattern}"], tmp_path) == expected


def test_names_that_look_like_patterns(tmp_path: Path) -> None:
    make(tmp_path, "set[1]/a.png", "set1/b.png", "why?.png", "{x}.png")
    assert names([f"{tmp_path}/set[1]"], tmp_path) == ["set[1]/a.png"]
    assert names([f"{tmp_path}/why?.png"], tmp_path) == ["why?.png"]
    assert names([f"{tmp_path}/{{x}}.png"], tmp_path) == ["{x}.png"]
    assert names([f"{tmp_path}/set[1]/*.png"], tmp_path) == ["set1/b.png"], "a pattern where there is a star"


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.png", ".b.png", ".git/c.png", "d.GIF", "e", "f/g.txt", "f/h.txt")
    make(tmp_path.parent, "outside/x.png")
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    (tmp_path / "folder.png").symlink_to(tmp_path.parent / "outside")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    skipped: Counter[str] = Counter()
    assert names([str(tmp_path)], tmp_path, skipped) == ["a.png"]
    assert skipped == {
        "duplicate": 1,
        "hidden": 2, "gif": 1, "no_extension": 1, "txt": 2,
        "broken_link": 2, "linked_folder": 2, "not_a_file": 1,
    }  # fmt: skip


def test_a_linked_file_has_the_version_of_what_it_links_to(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "here/x.txt")
    (tmp_path / "here/b.png").symlink_to(tmp_path / "a.png")
    (one,), (other,) = (find([f"{tmp_path}/{url}"], PNG, Counter()) for url in ("a.png", "here"))
    assert other.url == f"file://{tmp_path}/here/b.png"
    assert one.info["mtime"] == other.info["mtime"]
    assert one.info["size"] == other.info["size"] == len("a.png")


def test_names_that_are_not_utf8_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / os.fsdecode(b"caf\xe9.png")).touch()
    skipped: Counter[str] = Counter()
    assert names([str(tmp_path)], tmp_path, skipped) == ["a.png"]
    assert skipped == {"name_not_utf8": 1}


def test_urls_are_merged_and_no_file_comes_twice(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "a/2.png", "b/1.png", "c/1.png")
    skipped: Counter[str] = Counter()
    urls = [f"{tmp_path}/c", f"{tmp_path}/a/*.png", f"{tmp_path}/**/1.png"]
    found = [item.url.removeprefix(f"file://{tmp_path}/") for item in find(urls, PNG, skipped)]
    assert found == ["a/1.png", "a/2.png", "b/1.png", "c/1.png"]
    assert skipped == {"duplicate": 2}


@pytest.mark.parametrize(
    "url", ["nowhere", "nowhere/*.png", "empty", "*.jpg", "texts", "{000..002}.png", "a.txt"]
)
def test_a_url_that_leads_to_nothing(tmp_path: Path, url: str) -> None:
    make(tmp_path, "a.png", "texts/a.txt", "000.png", "a.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError) as caught:
        names([str(tmp_path / "a.png"), f"{tmp_path}/{url}"], tmp_path)
    assert str(tmp_path) in str(caught.value)
    if url == "{000..002}.png":
        assert "001.png" in str(caught.value), "the first that is missing is named"
    if url == "texts":
        assert "PNG files" in str(caught.value)
        assert "1 txt" in str(caught.value)


def test_folders_are_not_looked_into_before_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *(f"{folder}/{name}.png" for folder in range(9) for name in range(3)))
    listed: list[str] = []
    whole = LocalFileSystem.ls

    def ls(self: LocalFileSystem, path: str, detail: bool = False) -> object:
        listed.append(Path(path).name)
        return whole(self, path, detail=detail)

    monkeypatch.setattr(LocalFileSystem, "ls", ls)
    search = find([f"{tmp_path}/{{0..8}}"], PNG, Counter())
    for _ in range(4):
        next(search)
    assert listed == ["0", "1"]


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.png", "secret/b.png")
    whole = LocalFileSystem.ls

    def ls(self: LocalFileSystem, path: str, detail: bool = False) -> object:
        if path.endswith("secret"):
            raise PermissionError(path)
        return whole(self, path, detail=detail)

    monkeypatch.setattr(LocalFileSystem, "ls", ls)
    with pytest.raises(SourceError, match=r"secret may not be read"):
        names([str(tmp_path)], tmp_path)


def test_unknown_and_chained_protocols() -> None:
    for url in ("nosuch://x/y.png", "zip://*::file:///x.zip"):
        with pytest.raises(SourceError, match=url[:6]):
            names([url], "")


def test_relative_paths_start_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "photos/a.png", "photos/b/c.png")
    monkeypatch.chdir(tmp_path)
    for urls in (["photos"], ["./photos"], ["photos/"], ["photos/**/*.png"]):
        assert names(urls, tmp_path) == ["photos/a.png", "photos/b/c.png"]
    assert names(["**/*.png"], tmp_path) == ["photos/a.png", "photos/b/c.png"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a.GIF", "gif"), ("a", "no_extension"), ("a.", "no_extension"), ("a.png.", "no_extension")],
)
def test_a_file_without_a_wanted_extension_has_a_reason(tmp_path: Path, name: str, reason: str) -> None:
    make(tmp_path, "x.png", name)
    skipped: Counter[str] = Counter()
    assert names([str(tmp_path)], tmp_path, skipped) == ["x.png"]
    assert skipped == {reason: 1}


def test_the_longest_extension_counts() -> None:
    assert extension_of("A.IMAGE.PNG", ["png", "image.png"]) == "image.png"
    assert extension_of("png", ["png"]) is None
    assert extension_of("a.jpg", ["png"]) is None


def test_names_that_look_like_chained_urls_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b::c.png", "d::e/f.png", "g:h.png")
    skipped: Counter[str] = Counter()
    assert names([str(tmp_path)], tmp_path, skipped) == ["a.png", "g:h.png"]
    assert skipped == {"name_with_colons": 2}


def test_odd_names_in_a_bucket_lead_back_to_their_files(bucket: str) -> None:
    store = fsspec.filesystem("memory")
    odd = ["line\nbreak.png", "a/\u202egnp.png", "a/100%.png", "a#b/?c.png", "sp ace/ .png", "q&a=b;c.png"]
    for name in odd:
        store.pipe_file(f"/bucket/{name}", name.encode())
    skipped: Counter[str] = Counter()
    found = list(find([bucket], PNG, skipped))
    assert {store.cat_file(fsspec.core.url_to_fs(one.url)[1]).decode() for one in found} == set(odd)
    assert not skipped
