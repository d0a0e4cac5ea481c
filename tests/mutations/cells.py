"""Cells of Parquet files, the same on every run, each with what its author means: bytes, or a refusal.

The text of a cell may hold `{here}` (the folder of the Parquet file), `{canary}` (a folder beside it, with files that
must never be read) and `{port}` (of a web server that must never be asked).
"""

from __future__ import annotations

import random
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

CANARY = b"canary: read by nobody"
CANARY_FILE = "private.png"

FILES = {
    name: f"bytes of {name}".encode()
    for name in (
        "a.png",
        "sub/b.png",
        "sub/deep/c.png",
        "with space.png",
        "per%20cent.png",
        "hash#mark.png",
        "question?mark.png",
        "\u00e4\u00f6\u4e2d\u6587.png",
        "a..b.png",
        "...png",
        "~.png",
        "back:colon.png",
    )
}
"""Beside the Parquet file."""

LINKS = {
    "link.png": f"../canary/{CANARY_FILE}",
    "up": "..",
    "root": "/",
    "loop.png": "loop.png",
    "in.png": "a.png",
}
"""Symbolic links beside the Parquet file, by name; only the last of them stays inside."""

REFUSED = frozenset({"url_not_allowed", "bad_url"})
KNOWN = REFUSED | {"missing", "no_image", "base64", "too_many_bytes", "bad_cell"}
"""Every reason for which a cell of these may be rejected."""

PNG_HEAD, JPEG_HEAD = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        kind: how it was made.
        held: the value.
        meant: the bytes that it means, if it may be read.
        ends: the reasons that are right, if it may be rejected.
    """

    kind: str
    held: str | bytes
    meant: bytes | None = None
    ends: frozenset[str] = frozenset()


Make = Callable[[random.Random], Cell]
KINDS: dict[str, Make] = {}


def kind(make: Make) -> Make:
    KINDS[make.__name__] = make
    return make


def cells(count: int) -> Iterator[Cell]:
    """So many cells of every kind."""
    for name, make in KINDS.items():
        for number in range(count):
            yield make(random.Random(f"{name} {number}"))


def _spaced(text: str, draw: random.Random) -> str:
    return draw.choice(["", " ", "\t", "\n"]) + text + draw.choice(["", " ", "\n"])


@kind
def beside(draw: random.Random) -> Cell:
    """A file beside, or below, spelt in one of the ways that mean it."""
    name = draw.choice([*FILES, "in.png"])
    before = draw.choice(
        [
            "",
            "./",
            ".//",
            "{here}/",
            "file://{here}/",
            "FILE://{here}/",
            "local://{here}/",
            "file:///{here}/./",
        ]
    )
    text = before + draw.choice([name, name.replace("/", "//"), name.replace("/", "/./")])
    return Cell("beside", _spaced(text, draw), FILES[name if name in FILES else "a.png"])


@kind
def not_there(draw: random.Random) -> Cell:
    text = draw.choice(
        ["gone.png", "sub/gone.png", "nofolder/gone.png", "a.png/x", "{here}/gone.png", "x" * 300]
    )
    return Cell("not_there", text, None, frozenset({"missing"}))


@kind
def a_folder(draw: random.Random) -> Cell:
    return Cell("a_folder", draw.choice(["sub", "sub/deep/", ".", "./"]), None, REFUSED | {"missing"})


@kind
def leading_out(draw: random.Random) -> Cell:
    """The canary by a way that leads out of the folder."""
    dots = draw.choice(
        [
            "..",
            "%2e%2e",
            ".%2E",
            "%252e%252e",
            "\uff0e\uff0e",
            "\u2024\u2024",
            "..;x",
            "%25252e%2e",
            "..%2f..",
        ]
    )
    slash = draw.choice(["/", "//", "/./", "%2f", "\\", "/%2e/"])
    before = draw.choice(["", "sub/../", "./", "sub/deep/../../", "up/", "{here}/", "file://{here}/"])
    text = f"{before}{dots}{slash}canary/{CANARY_FILE}"
    return Cell("leading_out", _spaced(text, draw), None, REFUSED)


@kind
def linked_out(draw: random.Random) -> Cell:
    text = draw.choice(["link.png", "./link.png", f"up/canary/{CANARY_FILE}", "root{canary}/" + CANARY_FILE])
    return Cell("linked_out", draw.choice(["", "{here}/", "file://{here}/"]) + text, None, REFUSED)


@kind
def absolute(draw: random.Random) -> Cell:
    """The canary, or a file of the machine, by its absolute path."""
    before = draw.choice(
        ["", "/", "file://", "file:///", "local://", "FiLe://", "file://localhost", "file:////"]
    )
    path = draw.choice(["{canary}/" + CANARY_FILE, "/etc/passwd", "/proc/self/environ", "/dev/zero", "/"])
    return Cell("absolute", before + path, None, REFUSED)


@kind
def a_server(draw: random.Random) -> Cell:
    """A web server that the recipe does not allow; here it is this machine, or where clouds keep credentials."""
    hosts = [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "127.0.0.1.",
    ]
    hosts += [
        "169.254.169.254",
        "[fd00:ec2::254]",
        "metadata.google.internal",
        "\uff11\uff12\uff17.0.0.1",
        "u:p@127.0.0.1",
    ]
    protocol = draw.choice(["http", "https", "HTTP", "hTTps"])
    path = draw.choice(["a.png", "", "latest/meta-data/", "?x=1", "#y", "../a.png", "a.png?sig=abc"])
    return Cell("a_server", f"{protocol}://{draw.choice(hosts)}:{{port}}/{path}", None, REFUSED)


@kind
def another_store(draw: random.Random) -> Cell:
    protocol = draw.choice(
        ["s3", "s3a", "gs", "gcs", "abfs", "az", "hf", "ftp", "sftp", "memory", "github", "smb", "git"]
    )
    rest = draw.choice(["bucket/a.png", "", "/", "a@b/c", "bucket/../x", "datasets/o/n/a.png"])
    return Cell("another_store", f"{protocol}://{rest}", None, REFUSED)


@kind
def chained(draw: random.Random) -> Cell:
    head = draw.choice(["zip://a.png", "simplecache", "filecache", "tar://x", "reference", "dir://{canary}"])
    return Cell(
        "chained", f"{head}::{draw.choice(['file://{canary}/x.zip', 'a.zip', 'http://h/a'])}", None, REFUSED
    )


@kind
def with_control_characters(draw: random.Random) -> Cell:
    letter = draw.choice(["\0", "\n", "\r", "\t", "\x1b", "\x7f", "\u2028", "\x85"])
    return Cell("with_control_characters", f"a{letter}.png", None, REFUSED)


@kind
def base64(draw: random.Random) -> Cell:
    """An image in base64, where the recipe does not say so."""
    data = draw.choice([PNG_HEAD, JPEG_HEAD, b"RIFF0000WEBP"]) + draw.randbytes(draw.randrange(60, 5000))
    text = draw.choice([b64encode, urlsafe_b64encode])(data).decode().rstrip(draw.choice(["=", "!"]))
    text = draw.choice(["", "data:image/png;base64,", "Data:;base64,", " "]) + text
    return Cell("base64", text if draw.random() < 0.5 else text.encode(), None, frozenset({"base64"}))


@kind
def plain_bytes(draw: random.Random) -> Cell:
    """Whatever they are, they come as they are."""
    data = draw.choice([b"", PNG_HEAD, JPEG_HEAD, b"/etc/passwd", b"http://h/a"]) + draw.randbytes(
        draw.randrange(200)
    )
    return Cell("plain_bytes", data, data)


@kind
def garbage(draw: random.Random) -> Cell:
    """Any text; never a crash, and never more than a reason."""
    alphabet = draw.choice(
        ["./%:@?#[]\\~a1", "\u00e9\u4e2d\U0001f600\u202e\u0301 ab/", "0123456789abcdefABCDEF:/.[]"]
    )
    text = "".join(draw.choices(alphabet, k=draw.choice([1, 5, 30, 300, 9000])))
    return Cell("garbage", draw.choice(["", "http://", "file://", "s3://", "//"]) + text, None, KNOWN)


@kind
def mutated(draw: random.Random) -> Cell:
    """A text of another kind with letters changed; it may mean a file beside by chance."""
    source = draw.choice([beside, leading_out, linked_out, absolute, a_server, chained])(draw).held
    assert isinstance(source, str)
    letters = list(source)
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(len(letters))
        letters[place] = draw.choice(
            ["", "/", ".", "%", ":", "@", "\\", quote(letters[place]), letters[place] * 2]
        )
    return Cell("mutated", "".join(letters), None, KNOWN | {"read"})
