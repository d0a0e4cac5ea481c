"""Members of tars from outside: places are right, names are not trusted, damage is never passed over."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections import Counter
from pathlib import Path

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


def block(name: str, size: int | bytes, kind: bytes = b"0") -> bytes:
    """A header by POSIX, without `tarfile`; `size` may be the field itself."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    head = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"0" * 11 + b"\0"
    rest = kind + bytes(100) + b"ustar\00000" + bytes(247)
    return head + b"%06o\0 " % sum(head + b" " * 8 + rest) + rest


def extended(kind: bytes, body: bytes, size: int | bytes | None = None) -> bytes:
    """A tar of one empty file, with a header before it that extends its own."""
    padding = bytes(-len(body) % 512)
    extension = block("extension", len(body) if size is None else size, kind) + body + padding
    return extension + block("a.png", 0) + bytes(1024)


def base_256(size: int) -> bytes:
    return b"\x80" + size.to_bytes(11, "big")


@pytest.mark.parametrize("kind", [b"x", b"g", b"X", b"L", b"K"])
@pytest.mark.parametrize("size", [(1 << 20) + 1, 2**33 - 1, base_256(2**40), base_256(2**62), b"\xff" * 12])
def test_a_header_is_not_read_for_as_long_as_it_promises(kind: bytes, size: int | bytes) -> None:
    with pytest.raises(SourceError, match=r"promises to go on for .* bytes"):
        walk(extended(kind, b"a.jpg\0", size))


@pytest.mark.parametrize(
    "body",
    [
        b"1" * 1_000_000, b"2 " * 500_000 + b"a=", b"300020 comment=" + b"7" * 300_004 + b"\n", b"8 path=x\n",
        b"11 path=x\n ", b"12 path=x\n", b"0 path=x\n", b"path=x\n", b"7 path\n", b"x" * 512,
    ],
)  # fmt: skip
def test_pax_headers_are_well_formed_or_refused(body: bytes) -> None:
    """Some of these keep `tarfile` busy for hours, or fill the memory: the search is quadratic (CVE-2024-6232)."""
    with pytest.raises(SourceError, match="a pax header"):
        walk(extended(b"x", body))


def test_global_pax_headers_do_not_pile_up() -> None:
    """`tarfile` copies them for every member."""
    few = b"".join(b"10 k%03d=v\n" % number for number in range(900))
    assert len(walk(extended(b"g", few))) == 1
    many = b"".join(b"11 k%04d=v\n" % number for number in range(1001))
    with pytest.raises(SourceError, match="1,001 names"):
        walk(extended(b"g", many))


def test_well_formed_pax_headers_are_heeded() -> None:
    body = b"14 path=b.png\n" + b"29 SCHILY.xattr.user.x=\xff=\n\0 \n" + b"20 mtime=1234567.25\n"
    assert [member.name for member in walk(extended(b"x", body))] == ["b.png"]
    assert [member.name for member in walk(extended(b"x", body + b"\0\0"))] == ["b.png"]


def test_sizes_without_data_do_not_hide_what_follows() -> None:
    """Links and folders have a size in some tars and no data; a sparse file is larger than what is stored of it."""
    map_ = b"22 GNU.sparse.major=0\n" + b"22 GNU.sparse.minor=1\n" + b"24 GNU.sparse.size=9000\n"
    sparse = map_ + b"27 GNU.sparse.map=8000,512\n"
    data = block("folder", 5000, b"5") + block("hard.png", 5000, b"1") + block("soft.png", 5000, b"2")
    data += block("pax", len(sparse), b"x") + sparse.ljust(512, b"\0") + block("sparse.png", 512) + bytes(512)
    skipped: Counter[str] = Counter()
    found = walk(data + block("a.png", 3) + b"abc".ljust(512, b"\0") + bytes(1024), skipped)
    assert [(member.name, member.offset, member.size) for member in found] == [("a.png", len(data) + 512, 3)]
    assert skipped == {"link": 2, "sparse_file": 1}


def test_a_member_that_is_larger_than_any_file_is_refused(tmp_path: Path) -> None:
    """On a disk one cannot even seek there, which is no fault of the disk."""
    path = tmp_path / "x.tar"
    path.write_bytes(block("a.png", base_256(2**62)) + bytes(2048))
    with path.open("rb") as stream, pytest.raises(SourceError, match="more than there are"):
        list(members(stream, "file:///x.tar", Counter()))


def test_nothing_is_hidden_behind_an_end_mark() -> None:
    """A hole of zeros, or tars one after another: readers of tars stop there, and what follows goes missing."""
    one = tar(("a.png", b"x"), ("b.png", b"y"), ("c.png", b"z"))
    hole = one[:1024] + bytes(512) + one[1536:]
    for data in (hole, one + one, one + bytes(100_000 - 100_000 % 512) + one):
        with pytest.raises(SourceError, match="after what looks like its end"):
            walk(data)
    for rest in (b"", bytes(1_000_000), b"left over from the last record" * 100):
        assert len(walk(one + rest)) == 3
