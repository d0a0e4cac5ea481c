"""Members of tars from outside: places are right, names are not trusted, damage is never passed over."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections import Counter

import numpy as np
import pytest

from actors.errors import SourceError
from factory.sources.tar_members import Member, members


def tar(*entries: tuple[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def walk(data: bytes, skipped: Counter[str] | None = None) -> list[Member]:
    return list(members(io.BytesIO(data), "file:///x.tar", Counter() if skipped is None else skipped))


ENTRIES = [
    ("a.png", b"first"),
    ("folder/b.json", b"{}" * 300),
    ("n" * 200 + ".png", b"long name"),
    ("e.png", b""),
]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_places_lead_to_the_bytes(form: int) -> None:
    entries = [entry for entry in ENTRIES if form != tarfile.USTAR_FORMAT or len(entry[0]) < 100]
    data = tar(*entries, form=form)
    found = walk(data)
    assert [(member.name, data[member.offset : member.offset + member.size]) for member in found] == entries


def test_a_tar_with_nothing_in_it() -> None:
    assert walk(tar()) == []


def test_only_regular_files_with_harmless_names() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in [
            ("good.png", tarfile.REGTYPE), ("old.png", tarfile.AREGTYPE), ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE), ("dev.png", tarfile.CHRTYPE), ("block.png", tarfile.BLKTYPE),
            ("pipe.png", tarfile.FIFOTYPE), ("folder.png", tarfile.DIRTYPE),
            ("/etc/abs.png", tarfile.REGTYPE), ("../up.png", tarfile.REGTYPE),
            ("a/../../up.png", tarfile.REGTYPE), ("a/..b/ok.png", tarfile.REGTYPE),
            ("x" * 5000 + ".png", tarfile.REGTYPE),
        ]:  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    skipped: Counter[str] = Counter()
    assert [member.name for member in walk(buffer.getvalue(), skipped)] == [
        "good.png",
        "old.png",
        "a/..b/ok.png",
    ]
    assert skipped == {"link": 2, "not_a_file": 3, "unsafe_name": 4}


def test_sparse_files_have_no_one_place() -> None:
    info = tarfile.TarInfo("sparse.png")
    info.size = 512
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": "9000",
                        "GNU.sparse.map": "8000,512"}  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(bytes(512)))
    skipped: Counter[str] = Counter()
    assert walk(buffer.getvalue(), skipped) == []
    assert skipped == {"sparse_file": 1}


@pytest.mark.parametrize(
    ("data", "tool"),
    [
        (gzip.compress(tar(*ENTRIES)), "gunzip"),
        (bz2.compress(tar(*ENTRIES)), "bunzip2"),
        (lzma.compress(tar(*ENTRIES)), "unxz"),
        (b"\x28\xb5\x2f\xfd rest", "unzstd"),
        (b"PK\x03\x04 rest", "unzip"),
    ],
)
def test_compressed_tars_are_refused_with_a_way_out(data: bytes, tool: str) -> None:
    with pytest.raises(SourceError, match=tool) as caught:
        walk(data)
    assert "file:///x.tar" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"short", b"<html>" * 1000, tar(("a.png", b"x"))[:300]])
def test_what_is_no_tar(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"x\.tar is damaged"):
        walk(data)


def test_a_tar_cut_short_anywhere_is_refused() -> None:
    """Three members of three blocks each: a header and two of data. The end mark begins at block nine."""
    data = tar(*((f"{name}.png", bytes([65]) * 1000) for name in "abc"))
    for length in [*range(100, 9 * 512, 300), 3 * 512, 6 * 512, 9 * 512, 9 * 512 + 100]:
        with pytest.raises(SourceError, match="damaged"):
            walk(data[:length])
    assert len(walk(data[: 10 * 512])) == 3


def test_a_damaged_header_in_the_middle_is_refused() -> None:
    """`tarfile` itself takes it for the end, and what follows would go missing without a word."""
    data = bytearray(tar(*((f"{name}.png", b"x") for name in "abc")))
    data[2 * 512 + 3] ^= 1
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert len(archive.getnames()) == 1
    with pytest.raises(SourceError, match="no header at byte 1,024"):
        walk(bytes(data))


def test_sizes_below_nothing_do_not_turn_it_around() -> None:
    data = bytearray(tar(("a.png", b"x" * 600), ("b.png", b"y")))
    data[124:136] = b"\xff" * 12  # -1 in GNU's base 256
    header = bytes(data[:148]) + b" " * 8 + bytes(data[156:512])
    data[148:156] = f"{sum(header):06o}\0 ".encode()
    with pytest.raises(SourceError, match="damaged"):
        walk(bytes(data))


def test_mutated_tars_end_in_members_or_an_error() -> None:
    rng = np.random.default_rng(0)
    whole = tar(*ENTRIES, form=tarfile.PAX_FORMAT)
    ends = Counter[str]()
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        if rng.random() < 0.3:
            del data[int(rng.integers(len(data))) :]
        try:
            found = walk(bytes(data))
            assert all(0 < member.offset <= member.offset + member.size <= len(data) for member in found)
            ends["members"] += 1
        except SourceError:
            ends["error"] += 1
    assert min(ends.values()) > 20, ends
