"""Image files as a source: keys, sidecars, and files that change or go."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from actors.errors import Reject, SourceError
from factory.output.reference import Raw, Reference
from factory.recipe.source import Filter
from factory.sources.choice import Choice
from factory.sources.images import ImagesSource
from factory.store import remote


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"bytes of {name}".encode())
    return folder


def keys(folder: Path | Sequence[str]) -> list[str]:
    urls = [str(folder)] if isinstance(folder, Path) else folder
    return [reference.key for reference in ImagesSource(urls).list()]


def read(source: ImagesSource, references: Sequence[Reference]) -> list[Raw | Reject]:
    return [raw for _, raw in source.read(references)]


def test_every_file_that_looks_like_an_image(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.JPG", "c/d.jpeg", "c/e.webp", "f.gif", "g.txt", "h.PNG.bak")
    (tmp_path / "text.png").write_text("I am a text")
    (tmp_path / "empty.png").touch()
    source = ImagesSource([str(tmp_path)])
    listed = list(source.list())
    there = ["a.png", "b.JPG", "c/d.jpeg", "c/e.webp", "empty.png", "text.png"]
    assert [reference.url for reference in listed] == [f"file://{tmp_path}/{name}" for name in there]
    assert source.skipped == {"gif": 1, "txt": 1, "bak": 1}
    assert [raw.image for raw in read(source, listed) if isinstance(raw, Raw)] == [
        (tmp_path / name).read_bytes() for name in there
    ]


def test_keys_are_fit_for_shards_and_unlike(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a.png",
        "a.jpg",
        "b/c d.e.png",
        "c_d_e.png",
        f"{'long/' * 40}x.png",
        "日本.png",
        "中国.png",
        "-.png",
    )
    found = keys(tmp_path)
    assert len(set(found)) == 8
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", key) for key in found)
    assert sum(key.startswith("a-") for key in found) == 2
    assert sum(key.startswith("c_d_e-") for key in found) == 2


def test_equal_names_in_several_folders_have_keys_of_their_own(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "b/1.png")
    found = keys([f"{tmp_path}/a", f"{tmp_path}/b"])
    assert len(set(found)) == 2
    assert [key.rpartition("-")[0] for key in found] == ["1", "1"]
    assert len(set(keys([f"{tmp_path}/{{a,b}}/*.png"]))) == 2


def test_limit_takes_the_first_in_order(tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}.png" for name in "dbeac"))
    listed = list(ImagesSource([str(tmp_path)], choice=Choice(limit=3)).list())
    assert [reference.url[-5:] for reference in listed] == ["a.png", "b.png", "c.png"]


def test_captions_and_masks_beside_the_images(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "x/c.v2.jpg", "a.mask.png", "x/c.v2.mask.png", "c.gif")
    (tmp_path / "a.txt").write_text(" a red car \n")
    (tmp_path / "x/c.v2.txt").write_bytes(b"caf\xe9")
    source = ImagesSource([str(tmp_path)], mask="mask.png", caption="txt")
    listed = list(source.list())
    assert [Path(reference.url).name for reference in listed] == ["a.png", "b.png", "c.v2.jpg"]
    assert source.skipped == {"mask": 2, "caption": 2, "gif": 1}
    first, second, third = read(source, listed)
    assert first == Raw(b"bytes of a.png", b"bytes of a.mask.png", "a red car")
    assert second == Raw(b"bytes of b.png", None, "")
    assert isinstance(third, Reject)
    assert third.reason == "bad_caption"
    assert "c.v2.txt" in third.detail


@pytest.mark.parametrize(
    ("names", "mask", "caption", "ambiguous"),
    [
        (["IMG_0.JPG", "IMG_0.TXT", "IMG_0.MASK.PNG"], "MASK.PNG", "TXT", 0),
        (["IMG_0.JPG", "IMG_0.txt", "IMG_0.mask.PNG"], "mask.PNG", "txt", 0),
        (["IMG_0.jpeg", "IMG_0.Txt", "IMG_0.Mask.Png"], "Mask.Png", "Txt", 0),
        (["IMG_0.JPG", "IMG_0.TXT", "IMG_0.txt"], None, "txt", 1),
        (["IMG_0.JPG", "IMG_0.tXT", "IMG_0.TXt", "IMG_0.TXT"], None, "TXT", 2),
        (["IMG_0.JPG", "img_0.txt", "IMG_0.x.txt", "Img_0.MASK.PNG"], None, None, 0),
        (["a.jpg", "a.TXT", "a.txt"], None, "txt", 1),
        (["ß.JPG", "ß.TXT", "SS.TXT"], None, "TXT", 0),
        (["İ.JPG", "İ.TXT"], None, "TXT", 0),
    ],
)
def test_files_beside_an_image_in_any_case(
    tmp_path: Path, names: list[str], mask: str | None, caption: str | None, ambiguous: int
) -> None:
    make(tmp_path, *names)
    stem = names[0].partition(".")[0]
    source = ImagesSource([f"{tmp_path}/*"], mask="mask.png", caption="txt")
    listed = list(source.list())
    assert read(source, listed) == [
        Raw(
            f"bytes of {names[0]}".encode(),
            f"bytes of {stem}.{mask}".encode() if mask else None,
            f"bytes of {stem}.{caption}" if caption else "",
        )
    ]
    assert source.skipped.pop("ambiguous_case", 0) == ambiguous
    assert sum(source.skipped.values()) == len(names) - 1
    if ambiguous:
        return
    (tmp_path / names[1]).write_bytes(b"other")
    if mask or caption:
        with pytest.raises(SourceError, match="changed since it was planned"):
            read(source, listed)


@pytest.mark.parametrize("extension", ["txt", "TXT", "Txt"])
def test_files_beside_an_image_that_is_given_alone(tmp_path: Path, extension: str) -> None:
    make(tmp_path, "a.png", f"a.{extension}")
    source = ImagesSource([f"{tmp_path}/a.png"], caption="txt")
    assert read(source, list(source.list())) == [Raw(b"bytes of a.png", None, f"bytes of a.{extension}")]


def test_a_recipe_with_capitals(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "a.MASK.PNG", "b.png", "b.mask.png", "c.png", "c.MASK.PNG", "c.mask.png")
    source = ImagesSource([str(tmp_path)], mask="MASK.PNG")
    masks = [raw.mask for raw in read(source, list(source.list())) if isinstance(raw, Raw)]
    assert masks == [b"bytes of a.MASK.PNG", b"bytes of b.mask.png", b"bytes of c.MASK.PNG"]
    assert source.skipped == {"mask": 4, "ambiguous_case": 1}


@pytest.mark.parametrize("name", ["a.JSON", "a.Json", "a.json"])
def test_filters_look_at_metadata_in_any_case(tmp_path: Path, name: str) -> None:
    make(tmp_path, "a.png", "b.png")
    (tmp_path / name).write_text('{"width": 5}')
    choice = Choice(filters=(Filter(field="width", least=3),))
    source = ImagesSource([str(tmp_path)], choice=choice)
    assert [Path(item.url).name for item in source.list()] == ["a.png"]
    assert source.skipped == {"filter_field_missing": 1, "metadata": 1}


def test_order_is_that_of_the_references(tmp_path: Path) -> None:
    make(tmp_path, *(f"{number:03d}.png" for number in range(60)))
    source = ImagesSource([str(tmp_path)])
    listed = list(source.list())[::-1]
    pairs = list(source.read(listed))
    assert [reference for reference, _ in pairs] == listed
    assert all(raw.image.decode().endswith(Path(reference.url).name) for reference, raw in pairs)  # type: ignore[union-attr]


def test_a_deleted_file_is_a_reject_and_an_unmounted_disk_is_not(tmp_path: Path) -> None:
    source = ImagesSource([str(make(tmp_path / "disk", "a.png", "b.png", "c.png"))])
    listed = list(source.list())
    (tmp_path / "disk/b.png").unlink()
    first, second, third = read(source, listed)
    assert isinstance(first, Raw)
    assert isinstance(third, Raw)
    assert isinstance(second, Reject)
    assert second.reason == "missing"
    shutil.rmtree(tmp_path / "disk")
    with pytest.raises(SourceError, match="not mounted"):
        read(source, listed)


@pytest.mark.parametrize("change", ["bytes", "touched", "caption", "new_mask", "lost_caption"])
def test_a_changed_file_stops_the_run(tmp_path: Path, change: str) -> None:
    make(tmp_path, "a.png", "a.txt")
    source = ImagesSource([str(tmp_path)], mask="mask.png", caption="txt")
    listed = list(source.list())
    assert isinstance(read(source, listed)[0], Raw)
    match change:
        case "bytes":
            (tmp_path / "a.png").write_bytes(b"longer than it was before")
        case "touched":
            os.utime(tmp_path / "a.png", (1, 1))
        case "caption":
            (tmp_path / "a.txt").write_bytes(b"another caption")
        case "new_mask":
            make(tmp_path, "a.mask.png")
        case _:
            (tmp_path / "a.txt").unlink()
    with pytest.raises(SourceError, match=r"changed since it was planned: .*a\.png"):
        read(source, listed)


def test_versions_in_listings_and_look_ups_agree(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    os.utime(tmp_path / "a.png", (0, 0))
    (reference,) = ImagesSource([str(tmp_path)]).list()
    assert reference.version == "14-0.0"
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/shelf/a.png", b"12345")
    source = ImagesSource(["memory://shelf"])
    assert read(source, list(source.list())) == [Raw(b"12345", None, "")]
    memory.store.clear()


def test_an_etag_is_the_version() -> None:
    assert remote.version_of({"ETag": '"abc"', "size": 3, "mtime": 1.0}) == "abc"
    assert remote.version_of({"etag": "CAE=", "size": 3}) == "CAE="
    assert remote.version_of({"size": 3, "LastModified": None}) == "3-"


def test_files_that_are_too_large_are_not_read(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "b.txt")
    os.truncate(tmp_path / "a.png", remote.LARGEST_FILE + 1)
    os.truncate(tmp_path / "b.txt", (1 << 20) + 1)
    source = ImagesSource([str(tmp_path)], caption="txt")
    first, second = read(source, list(source.list()))
    assert isinstance(first, Reject)
    assert isinstance(second, Reject)
    assert (first.reason, second.reason) == ("too_many_bytes", "bad_caption")


@pytest.mark.parametrize(("fault", "raised"), [(TimeoutError, TimeoutError), (PermissionError, SourceError)])
def test_faults_of_the_store_are_not_the_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[OSError], raised: type[Exception]
) -> None:
    def cat_file(*_: object, **__: object) -> bytes:
        raise fault("no")

    source = ImagesSource([str(make(tmp_path, "a.png", "b.png"))])
    listed = list(source.list())
    monkeypatch.setattr(LocalFileSystem, "cat_file", cat_file, raising=False)
    with pytest.raises(raised):
        read(source, listed)


@pytest.mark.parametrize("what", ["pipe", "folder", "loop", "device", "broken"])
def test_only_files_count_as_captions_and_masks(tmp_path: Path, what: str) -> None:
    """Whoever opens a pipe waits for ever; and the listing and the read must agree, or the source has changed."""
    make(tmp_path, "a.png", "b.png")
    for name in ("a.txt", "a.mask.png"):
        match what:
            case "pipe":
                os.mkfifo(tmp_path / name)
            case "folder":
                (tmp_path / name).mkdir()
            case "loop":
                (tmp_path / name).symlink_to(name)
            case "device":
                (tmp_path / name).symlink_to("/dev/zero")
            case "broken":
                (tmp_path / name).symlink_to("nowhere")
    source = ImagesSource([str(tmp_path)], mask="mask.png", caption="txt")
    assert read(source, list(source.list())) == [
        Raw(b"bytes of a.png", None, ""),
        Raw(b"bytes of b.png", None, ""),
    ]


def test_beside_the_longest_name_is_nothing(tmp_path: Path) -> None:
    name = "x" * 251 + ".png"
    make(tmp_path, name)
    for url in (tmp_path, tmp_path / name):
        source = ImagesSource([str(url)], mask="mask.png", caption="txt")
        assert read(source, list(source.list())) == [Raw(f"bytes of {name}".encode(), None, "")]
