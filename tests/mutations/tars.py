"""Mutated tars: names, links, sizes and headers that lie, holes, cuts, flipped bits."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from functools import cache

from tests.mutations.inputs import ACCEPTED, Tar, kind
from tests.mutations.pictures import flipped, mask_png, plain
from tests.mutations.tar_blocks import BLOCK, END, header, member, padded, pax, record, sample, summed, whole

NO_MASK = frozenset({"no_mask"})
BOTH = {"first": ACCEPTED, "last": ACCEPTED}


def listed(name: str, data: bytes, skipped: dict[str, int] | None = None, **samples: frozenset[str]) -> Tar:
    return Tar(name, data, "listed", {**BOTH, **samples}, skipped or {})


@kind("tar: names that lead out of it", 18)
def _traversal(number: int, rng: random.Random) -> Tar:
    names = [
        "../up.jpg", "../../canary/kept.jpg", "/abs.jpg", "a/../../up.jpg", "../" * 30 + "etc/up.jpg",
        "./../up.jpg",
        "//net/share.jpg", "a/..", "..", "/", "a/../b.jpg", "../../out/shards/000000.tar", "/dev/null.jpg",
        "/proc/self/mem.jpg",
        "x/../../canary/kept.txt", "/etc/../etc/up.jpg", "../.jpg", "/.jpg",
    ]  # fmt: skip
    return listed(
        "tar: names that lead out of it", whole(member(names[number], plain("JPEG"))), {"unsafe_name": 1}
    )


@kind("tar: links that lead out of it", 12)
def _links(number: int, rng: random.Random) -> Tar:
    targets = [
        b"../../canary/kept.jpg",
        b"/etc/passwd",
        b"link.jpg",
        b"../../canary",
        b"first.jpg",
        b"/dev/zero",
    ]
    link = header("link.jpg", 0, b"21"[number % 2 : number % 2 + 1], targets[number // 2])
    through = member("link.jpg/x.jpg", plain("JPEG"))
    return listed(
        "tar: links that lead out of it", whole(link, through), {"link": 1}, **{"link.jpg/x": NO_MASK}
    )


@kind("tar: links and folders with a size, and no data", 4)
def _sized(number: int, rng: random.Random) -> Tar:
    """As some writers of tars leave them."""
    one = header("odd", 5_000, [b"5", b"1", b"2", b"6"][number], b"first.jpg")
    skipped = [{}, {"link": 1}, {"link": 1}, {"not_a_file": 1}][number]
    return listed("tar: links and folders with a size, and no data", whole(one), skipped)


@kind("tar: devices, pipes, folders, unknown types", 10)
def _devices(number: int, rng: random.Random) -> Tar:
    types = [b"3", b"4", b"6", b"5", b"7", b"\0", b"Z", b"V", b"M", b"9"]
    data = plain("JPEG") if number > 3 else b""
    one = member("odd.jpg", data, types[number])
    name = "tar: devices, pipes, folders, unknown types"
    if types[number] in (b"7", b"\0"):
        return listed(name, whole(one), odd=NO_MASK)
    return listed(name, whole(one), {} if types[number] == b"5" else {"not_a_file": 1})


@kind("tar: keys that come twice or in pieces", 12)
def _keys(number: int, rng: random.Random) -> Tar:
    name, jpg, mask = "tar: keys that come twice or in pieces", plain("JPEG"), mask_png()
    only_a, both = {"a": ACCEPTED}, {"a": ACCEPTED, "b": ACCEPTED}
    made: list[tuple[bytes, dict[str, int], dict[str, frozenset[str]]]] = [
        (member("a.jpg", jpg) + member("a.jpg", b"-") + member("a.mask.png", mask), {"duplicate_member": 1}, only_a),
        (sample("a") + sample("a"), {"duplicate_member": 3}, only_a),
        (sample("a") + sample("b") + sample("a"), {"duplicate_key": 1}, both),
        (member("a.jpg", jpg) + sample("b") + member("a.mask.png", mask), {}, both),
        (member("a.mask.png", mask) + sample("b") + member("a.jpg", jpg), {}, both),
        (member("a.b.jpg", jpg), {"no_image": 1}, {}), (member("a.b/c.jpg", jpg), {}, {"a.b/c": NO_MASK}),
        (member("a.jpg", jpg) + member("A.mask.png", mask), {"no_image": 1}, {"a": NO_MASK}),
        (member("a.jpg", jpg) + member("a.JPG", b"other"), {"ambiguous_case": 1}, {"a": NO_MASK}),
        (member(".a.jpg", jpg) + member("noext", jpg), {"hidden": 1, "no_extension": 1}, {}),
        (member("a.png", plain("PNG")) + member("a.jpg", jpg) + member("a.webp", b""), {}, {"a": NO_MASK}),
        (member("a.jpg", b"") + member("a.mask.png", mask), {}, {"a": frozenset({"empty"})}),
    ]  # fmt: skip
    data, skipped, samples = made[number]
    return listed(name, whole(data), skipped, **samples)


@kind("tar: large pax headers", 12)
def _large_pax(number: int, rng: random.Random) -> Tar:
    name, one = "tar: large pax headers", header("x.jpg", len(plain("JPEG"))) + padded(plain("JPEG"))
    long = "n" * 300
    made: list[tuple[bytes, str, dict[str, int], dict[str, frozenset[str]]]] = [
        (pax(record(b"path", b"n" * 300 + b".jpg")), "listed", {}, {long: NO_MASK}),
        (pax(record(b"path", b"n" * 9_000 + b".jpg")), "listed", {"unsafe_name": 1}, {}),
        (pax(record(b"path", b"../up.jpg")), "listed", {"unsafe_name": 1}, {}),
        (pax(record(b"SCHILY.xattr.user.x", b"\0\xff" * 15_000)), "listed", {}, {"x": NO_MASK}),
        (pax(b"".join(record(b"k%d" % place, b"v") for place in range(2_000))), "listed", {}, {"x": NO_MASK}),
        (pax(record(b"comment", b"c" * 3_000_000)), "refused", {}, {}),
        (pax(record(b"comment", b"c"), size=2**33 - 1), "refused", {}, {}),
        (pax(record(b"comment", b"c"), size=b"\x80" + bytes(4) + (2**40).to_bytes(7, "big")), "refused", {}, {}),
        (pax(record(b"comment", b"c"), size=b"\x80" + b"\x7f" + b"\xff" * 10), "refused", {}, {}),
        (pax(record(b"comment", b"c"), size=b"\xff" * 12), "refused", {}, {}),
        (pax(record(b"comment", b"x" * 40), b"g"), "listed", {}, {"x": NO_MASK}),
        (pax(b"".join(record(b"comment", b"c" * 200) for _ in range(20_000)), b"g"), "refused", {}, {}),
    ]  # fmt: skip
    head, ends, skipped, samples = made[number]
    data = whole(head + one)
    return listed(name, data, skipped, **samples) if ends == "listed" else Tar(name, data, ends)


@kind("tar: pax headers of nothing but digits", 4)
def _digits(number: int, rng: random.Random) -> Tar:
    """What takes a careless reader time by the square of their length (CVE-2024-6232), or memory."""
    bodies = [
        b"1" * 60_000, b"1" * 1_000_000, record(b"comment", b"1" * 60_000), b"2 " * 30_000 + b"a=",
    ]  # fmt: skip
    return Tar("tar: pax headers of nothing but digits", whole(pax(bodies[number]) + sample("x")), "refused")


@kind("tar: sizes in pax headers", 12)
def _pax_sizes(number: int, rng: random.Random) -> Tar:
    name, right = "tar: sizes in pax headers", len(plain("JPEG"))
    value = [
        b"%d" % right, b"0%d" % right, b" %d " % right, b"%d" % (right + 2_000), b"%d" % 2**60, b"-1",
        b"-99999999", b"0",
        b"many", b"1e3", b"", b"9" * 200,
    ][number]  # fmt: skip
    data = whole(pax(record(b"size", value)) + header("x.jpg", right) + padded(plain("JPEG")))
    return listed(name, data, x=NO_MASK) if number < 3 else Tar(name, data, "refused")


@kind("tar: broken pax headers", 50)
def _broken_pax(number: int, rng: random.Random) -> Tar:
    name = "tar: broken pax headers"
    fixed = [
        b"0 path=x\n", b"999999999 path=x\n", b"-5 path=x\n", b"path=x\n", b"12 path=x.jpg", b"6 path\n",
        b"10 =empty\n",
        record(b"path", b"a\0b.jpg"), record(b"path", b"\xff\xfe.jpg"),
        record(b"hdrcharset", b"BINARY") + record(b"path", b"\xff.jpg"),
        record(b"hdrcharset", b"\xff"), record(b"GNU.sparse.map", b"1,2,x"), record(b"GNU.sparse.size", b"x"),
        record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0"), record(b"mtime", b"nan"),
        record(b"path", b""),
        record(b"GNU.sparse.realsize", b"-7"), record(b"GNU.sparse.name", b"../up.jpg"),
        record(b"GNU.sparse.map", b""), b"",
    ]  # fmt: skip
    if number < len(fixed):
        body = fixed[number]
    else:
        sound = (
            record(b"path", b"x.jpg") + record(b"size", b"%d" % len(plain("JPEG"))) + record(b"mtime", b"1.5")
        )
        body = flipped(sound, rng, 0, 1 << 20)
    return Tar(name, whole(pax(body) + header("x.jpg", len(plain("JPEG"))) + padded(plain("JPEG"))), "either")


@kind("tar: GNU's long names", 14)
def _long_names(number: int, rng: random.Random) -> Tar:
    name, one = "tar: GNU's long names", header("x.jpg", len(plain("JPEG"))) + padded(plain("JPEG"))

    def long(text: bytes, size: int | bytes | None = None, type_: bytes = b"L") -> bytes:
        return header("././@LongLink", len(text) if size is None else size, type_) + padded(text)

    huge = b"\x80" + bytes(4) + (2**40).to_bytes(7, "big")
    made: list[tuple[bytes, str, dict[str, int], str]] = [
        (long(b"n" * 300 + b".jpg\0"), "listed", {}, "n" * 300),
        (long(b"n" * 300 + b".jpg"), "listed", {}, "n" * 300),
        (long(b"n" * 5_000 + b".jpg\0"), "listed", {"unsafe_name": 1}, ""),
        (long(b"../" * 99 + b"x.jpg\0"), "listed", {"unsafe_name": 1}, ""),
        (long(b"k" * 300 + b"\0", type_=b"K"), "listed", {}, "x"),
        (long(b"short.jpg\0"), "listed", {}, "short"),
        (long(b"", 0), "listed", {"no_extension": 1}, ""), (long(b"x.jpg\0", huge), "refused", {}, ""),
        (long(b"n" * 9_000_000 + b"\0"), "refused", {}, ""),
        (long(b"x\0", b"\xff" * 12), "refused", {}, ""), (long(b"a.jpg\0") * 3_000, "refused", {}, ""),
        (long(b"a.jpg\0", huge, b"K"), "refused", {}, ""),
        (long(b"a.jpg\0")[:BLOCK], "refused", {}, ""), (long(b"a.jpg\0", 2**33 - 1), "refused", {}, ""),
    ]  # fmt: skip
    head, ends, skipped, stem = made[number]
    data = whole(head + one)
    if number == 12:  # the name's own block is the next header, and what follows lies anywhere
        return Tar(name, data, "either")
    return (
        listed(name, data, skipped, **({stem: NO_MASK} if stem else {}))
        if ends == "listed"
        else Tar(name, data, ends)
    )


@kind("tar: sparse files", 8)
def _sparse(number: int, rng: random.Random) -> Tar:
    name, one = "tar: sparse files", header("x.jpg", BLOCK) + bytes(BLOCK)
    old = bytearray(header("x.jpg", BLOCK, b"S"))
    old[386:410] = b"%011o\0" % 0 + b"%011o\0" % BLOCK
    old[482] = 1 if number == 4 else 0
    map_ = (
        record(b"GNU.sparse.major", b"0")
        + record(b"GNU.sparse.minor", b"1")
        + record(b"GNU.sparse.size", b"9000")
    )
    late = (
        record(b"GNU.sparse.major", b"1")
        + record(b"GNU.sparse.minor", b"0")
        + record(b"GNU.sparse.realsize", b"9000")
    )
    numbers = b"1\n0\n512\n".ljust(BLOCK, b"\0")
    made = [
        (pax(map_ + record(b"GNU.sparse.map", b"8000,512")) + one, "listed"),
        (pax(late) + header("x.jpg", 2 * BLOCK) + numbers + bytes(BLOCK), "listed"),
        (pax(late) + header("x.jpg", 2 * BLOCK) + b"9" * 300 + bytes(212 + BLOCK), "refused"),
        (summed(bytes(old)) + bytes(BLOCK), "listed"), (summed(bytes(old)) + bytes(BLOCK), "either"),
        (pax(late) + header("x.jpg", 2 * BLOCK) + b"99999999\n" + b"1\n" * 200 + bytes(103 + BLOCK), "refused"),
        (pax(map_ + record(b"GNU.sparse.map", b"0,%d" % 2**62)) + one, "listed"),
        (pax(map_ + record(b"GNU.sparse.map", b"5")) + one, "either"),
    ]  # fmt: skip
    data, ends = made[number]
    return listed(name, whole(data), {"sparse_file": 1}) if ends == "listed" else Tar(name, whole(data), ends)


@kind("tar: cut", 72)
def _cut(number: int, rng: random.Random) -> Tar:
    """In the end mark's first block, in the data, in a header, between them."""
    data = whole()
    body = len(data) - len(END)
    if number < 12:
        length = body + [0, 1, 100, 511][number % 4]
    elif number < 30:
        length = number * 37 % BLOCK
    elif number < 45:
        length = rng.randrange(1, body // BLOCK) * BLOCK
    else:
        length = rng.randrange(BLOCK, body)
    return Tar("tar: cut", data[:length], "refused")


@kind("tar: cut in the second block of its end mark", 3)
def _short_end(number: int, rng: random.Random) -> Tar:
    return listed("tar: cut in the second block of its end mark", whole()[: -[1, 500, 512][number]])


@cache
def headers(data: bytes) -> list[int]:
    """Where the headers of a sound tar of plain members begin."""
    at, found = 0, []
    while data[at]:
        found.append(at)
        at += BLOCK + len(padded(bytes(int(data[at + 124 : at + 135], 8))))
    return found


@kind("tar: a bit of a header flipped", 100)
def _flipped(number: int, rng: random.Random) -> Tar:
    data = bytearray(whole())
    at = headers(bytes(data))[number % 6]
    where = rng.choice([place for place in range(BLOCK) if not 148 <= place < 156])
    data[at + where] ^= 1 << rng.randrange(8)
    return Tar("tar: a bit of a header flipped", bytes(data), "refused")


@kind("tar: a bit of a checksum flipped", 30)
def _sum_flipped(number: int, rng: random.Random) -> Tar:
    data = bytearray(whole())
    at = headers(bytes(data))[number % 6]
    data[at + 148 + rng.randrange(6)] ^= 1 << rng.randrange(3)
    return Tar("tar: a bit of a checksum flipped", bytes(data), "refused")


@kind("tar: bits of a header flipped, its checksum mended", 120)
def _mended(number: int, rng: random.Random) -> Tar:
    data = whole()
    at = headers(data)[number % 6]
    first, end = [(0, 100), (124, 136), (156, 157), (257, 265), (0, BLOCK)][number % 5]
    one = summed(flipped(data[at : at + BLOCK], rng, first, end))
    return Tar(
        "tar: bits of a header flipped, its checksum mended", data[:at] + one + data[at + BLOCK :], "either"
    )


@kind("tar: a hole of zeros in it", 20)
def _hole(number: int, rng: random.Random) -> Tar:
    """One header lost is one end mark, and what follows would go missing without a word."""
    data = whole(sample("second"))
    at = headers(data)[1 + number % 7]
    length = BLOCK * (1 + number % 3)
    return Tar("tar: a hole of zeros in it", data[:at] + bytes(length) + data[at + length :], "refused")


@kind("tar: something after its end", 10)
def _after(number: int, rng: random.Random) -> Tar:
    name = "tar: something after its end"
    more = [whole(), bytes(8192) + whole(), sample("late"), bytes(BLOCK) + sample("late") + END]
    if number < 4:
        return Tar(name, whole() + more[number], "refused")
    rest = [
        bytes(8192),
        bytes(3_000_000),
        b"the rest of an old block",
        rng.randbytes(7168),
        b"\n",
        bytes(700),
    ]
    return listed(name, whole() + rest[number - 4])


@kind("tar: bits of images flipped", 40)
def _data_flipped(number: int, rng: random.Random) -> Tar:
    data = whole()
    starts = headers(data)
    at, end = starts[3] + BLOCK, starts[3] + BLOCK + len(plain("JPEG"))
    ends = frozenset(
        {"accepted", "damaged", "not_an_image", "too_many_pixels", "too_small", "too_long", "mask_size"}
    )
    return Tar(
        "tar: bits of images flipped",
        flipped(data, rng, at, end),
        "listed",
        {"first": ACCEPTED, "last": ends},
    )


@kind("tar: a tar in a tar", 4)
def _nested(number: int, rng: random.Random) -> Tar:
    inner = whole()
    for _ in range(number):
        inner = member("inner.tar", inner) + END
    return listed("tar: a tar in a tar", whole(member("inner.tar", inner)), {"no_image": 1})


@kind("tar: compressed", 10)
def _compressed(number: int, rng: random.Random) -> Tar:
    pack = [
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda data: b"\x28\xb5\x2f\xfd" + data,
        lambda data: b"PK\x03\x04" + data,
    ]
    return Tar("tar: compressed", pack[number % 5](whole() if number < 5 else bytes(10_000_000)), "refused")


@kind("tar: sizes of members", 16)
def _sizes(number: int, rng: random.Random) -> Tar:
    name, right = "tar: sizes of members", len(plain("JPEG"))
    sound = [
        b"%011o\0" % right, b"%011o " % right, b" %o " % right, b"%012o" % right,
        b"\x80" + right.to_bytes(11, "big"),
    ]  # fmt: skip
    wrong = [
        b"\x80" + (2**60).to_bytes(11, "big"), b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\xff" * 10 + b"\0\0",
        b"-0000000001\0",
        b"9" * 11 + b"\0", b"many bytes\0\0", b"7" * 12, b"%011o\0" % (right - 600),
        b"%011o\0" % (right + 600), b"\x80" + (2**63).to_bytes(11, "big"),
    ]  # fmt: skip
    field = [*sound, *wrong][number]
    data = whole(header("x.jpg", field.ljust(12, b"\0")) + padded(plain("JPEG")))
    return listed(name, data, x=NO_MASK) if number < len(sound) else Tar(name, data, "refused")


@kind("tar: nothing in it", 8)
def _nothing(number: int, rng: random.Random) -> Tar:
    name = "tar: nothing in it"
    if number < 3:
        return Tar(name, [b"", b"\0", bytes(511)][number], "refused")
    return Tar(name, bytes([BLOCK, 1024, 10_240, 1_000_000, 700][number - 3]), "listed")


@kind("tar: random bytes", 20)
def _random(number: int, rng: random.Random) -> Tar:
    data = rng.randbytes([1, 100, 512, 1024, 100_000][number % 5])
    texts = [
        b"<html>" * 1000,
        b"version https://git-lfs.github.com/spec/v1\n",
        plain("PNG"),
        b"!<arch>\n" + bytes(600),
    ]
    return Tar("tar: random bytes", texts[number] if number < len(texts) else data, "refused")


@kind("tar: of the old forms", 6)
def _old(number: int, rng: random.Random) -> Tar:
    magic = [bytes(8), b"ustar  \0", b"ustar\00000", b"nonsense", b"ustar\0\0\0", b"USTAR\00000"][number]
    one = header("x.jpg", len(plain("JPEG")), b"\0" if number == 0 else b"0", magic=magic) + padded(
        plain("JPEG")
    )
    return listed("tar: of the old forms", whole(one), x=NO_MASK)


@kind("tar: many tiny members", 2)
def _many(number: int, rng: random.Random) -> Tar:
    count = [3_000, 20_000][number]
    data = whole(b"".join(header(f"{place:06d}.x", 0) for place in range(count)))
    return listed("tar: many tiny members", data, {"no_image": count})
