"""Cells of Parquet files that come from elsewhere: what they must not reach, and servers that misbehave."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import Reject, SourceError
from factory.output.reference import Raw
from factory.sources import cell
from factory.sources.images import ImagesSource
from factory.sources.parquet import ParquetSource
from factory.store import remote, web
from factory.store.retries import Patience
from tests.factory.store.fake_web import Web, fake_web

SECRET = b"SECRET-of-this-machine"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server, and limits that make a test short."""
    monkeypatch.setattr(cell, "WEB_PATIENCE", Patience(2.5, 0.001, 0.05))
    monkeypatch.setattr(remote, "PATIENCE", Patience(0.3, 0.001, 0.01))
    monkeypatch.setattr(web, "GRACE", 3.0)
    monkeypatch.setattr(web, "LARGEST_BODY", 1 << 20)
    web.forget_clients()
    with fake_web() as served:
        yield served
    web.forget_clients()


def ends(folder: Path, cells: Sequence[Any], **options: Any) -> list[str]:
    """For every cell `read` with its bytes, or its reason; a message is short and holds no secret."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": pa.array(cells)}), folder / "rows.parquet")
    source = ParquetSource([str(folder / "rows.parquet")], image=["image"], **options)
    found = []
    for _, raw in source.read(list(source.list())):
        if isinstance(raw, Reject):
            assert len(raw.detail) < 1000
            assert "SECRET" not in raw.detail
            assert "secret body" not in raw.detail
        found.append(raw.reason if isinstance(raw, Reject) else f"read {raw.image.decode()}")
    return found


def test_private_files_of_a_disk_are_never_read(tmp_path: Path) -> None:
    private, folder = tmp_path / "private.png", tmp_path / "data"
    private.write_bytes(SECRET)
    folder.mkdir()
    (folder / "link.png").symlink_to(private)
    (folder / "up").symlink_to(tmp_path)
    os.link(private, folder / "beside.png")
    cells = [
        str(private),
        f"file://{private}",
        f"local://{private}",
        f"FILE://{private}",
        f"file:///{private}",
        f"/{private}",
        "../private.png",
        "./x/../../private.png",
        "%2e%2e/private.png",
        "link.png",
        "up/private.png",
        "/proc/self/environ",
        "~/.ssh/id_rsa",
        "beside.png",
    ]
    *refused, home, beside = ends(folder, cells)
    assert refused == ["url_not_allowed"] * len(refused)
    assert home == "missing", "a tilde is a name like any other"
    assert beside == f"read {SECRET.decode()}", "it lies beside its file, whoever put it there"


def test_servers_that_the_recipe_does_not_allow_are_never_asked(tmp_path: Path, server: Web) -> None:
    port = server.root.rpartition(":")[2]
    hosts = [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::ffff:127.0.0.1]",
    ]
    hosts += ["\uff11\uff12\uff17.0.0.1", "127.0.0.1.", "user@127.0.0.1", "[::ffff:7f00:1]", "[::1]"]
    cells = [f"http://{host}:{port}/ok/a" for host in hosts]
    assert ends(tmp_path, cells) == ["url_not_allowed"] * len(cells)
    # A protocol alone names no host: private addresses stay out of reach, however they are spelt.
    assert set(ends(tmp_path, cells, allow=["http://"])) <= {"url_not_allowed", "bad_url"}
    metadata = ["169.254.169.254", "2852039166", "[fd00:ec2::254]", "[::ffff:a9fe:a9fe]"]
    cells = [f"http://{host}/latest/meta-data/" for host in metadata]
    refused = ["url_not_allowed", "bad_url", "url_not_allowed", "url_not_allowed"]
    assert ends(tmp_path, cells, allow=["http://"]) == refused
    assert not server.asked
    assert ends(tmp_path, [f"{server.root}/ok/a"], allow=[server.root]) == ["read /ok/a"]
    assert ends(tmp_path, [f"http://localhost:{port}/ok/b"], allow=[f"http://localhost:{port}"]) == [
        "read /ok/b"
    ]


def test_the_address_that_is_connected_to_counts(
    tmp_path: Path, server: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name whose first answer is public and whose second is not, as in DNS rebinding."""
    import aiohttp

    answers = [["203.0.113.9", "127.0.0.1"], ["127.0.0.1"]]

    async def resolve(self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            {"hostname": host, "host": one, "port": port, "family": 2, "proto": 0, "flags": 0}
            for one in found
        ]

    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", resolve)
    port = server.root.rpartition(":")[2]
    assert (
        ends(tmp_path, [f"http://rebound.example:{port}/ok/a"] * 2, allow=["http://"])
        == ["url_not_allowed"] * 2
    )
    assert not server.asked


def test_redirects_pass_the_gate(tmp_path: Path, server: Web) -> None:
    port = server.root.rpartition(":")[2]
    cells = {
        "/to//ok/a": "read /ok/a",
        f"/to/{server.root}/ok/b": "read /ok/b",
        f"/to/http://localhost:{port}/ok/c": "url_not_allowed",
        "/to/http://169.254.169.254/latest": "url_not_allowed",
        "/to/file:///etc/passwd": "url_not_allowed",
        "/to/ftp://127.0.0.1/x": "url_not_allowed",
        "/to/http://u:p@127.0.0.1/x": "url_not_allowed",
        "/to//to//to//ok/d": "read /ok/d",
    }
    found = ends(tmp_path, [server.root + path for path in cells], allow=[server.root])
    assert dict(zip(cells, found, strict=True)) == cells
    assert "/ok/c" not in server.asked
    loop = ["/to/" * 9 + "/ok/e"]
    assert ends(tmp_path, [server.root + path for path in loop], allow=[server.root]) == ["not_served"]


def test_servers_that_misbehave_cost_their_item_only(tmp_path: Path, server: Web) -> None:
    cells = {
        "/ok/a": "read /ok/a",
        "/endless/a": "too_many_bytes",
        "/gzip/64": "not_served",
        "/slow/a": "timed_out",
        "/silent/a": "timed_out",
        "/status/403": "not_permitted",
        "/status/404": "missing",
        "/status/418": "not_served",
        "/status/500": "not_served",
        "/ok/b": "read /ok/b",
    }
    found = ends(tmp_path, [server.root + path for path in cells], allow=[server.root])
    assert dict(zip(cells, found, strict=True)) == cells


def test_a_network_that_is_down_rejects_nothing(tmp_path: Path, server: Web) -> None:
    with pytest.raises(OSError, match="see whether the network is well"):
        ends(tmp_path, ["http://127.0.0.1:9/ok/a"], allow=["http://127.0.0.1:9"])
    with pytest.raises(OSError, match="answers 503"):
        ends(tmp_path, [f"{server.root}/status/503"], allow=[server.root])


def test_image_files_on_such_servers(server: Web) -> None:
    paths = {"/ok/a.png": "read", "/slow/b.png": "timed_out", "/endless/c.png": "too_many_bytes"}
    source = ImagesSource([server.root + path for path in paths])
    read = source.read(
        sorted(source.list(), key=lambda item: list(paths).index(item.url.removeprefix(server.root)))
    )
    assert [raw.reason if isinstance(raw, Reject) else "read" for _, raw in read] == list(paths.values())


def test_lists_of_links_are_bounded_too(server: Web) -> None:
    for path, words in (("endless", "more than"), ("gzip", "compressed")):
        with pytest.raises(SourceError, match=words):
            list(ImagesSource([f"{server.root}/{path}/64/*.png"]).list())
    with pytest.raises(SourceError, match="whole files only"):
        list(ParquetSource([f"{server.root}/endless/rows.parquet"], image=["image"]).list())


GREEDY = """
import sys
from factory.sources.parquet import ParquetSource
from tests.peak_memory import peak_mib
source = ParquetSource([sys.argv[1]], image=["image"], **eval(sys.argv[2]))
for _, raw in source.read(list(source.list())):
    print(getattr(raw, "reason", "read"))
print(round(peak_mib()))
"""


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Servers that never stop, and gzip bombs of 1 GiB, eight at once; what was read of them is given back."""
    with fake_web() as server:
        cells = [f"{server.root}/endless/{n}" for n in range(16)] + [f"{server.root}/gzip/1024"] * 8
        pq.write_table(pa.table({"image": cells}), tmp_path / "rows.parquet")
        command = [
            sys.executable,
            "-c",
            GREEDY,
            str(tmp_path / "rows.parquet"),
            repr({"allow": [server.root]}),
        ]
        reported = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert reported.returncode == 0, reported.stderr[-3000:]
    *found, mebibytes = reported.stdout.split()
    assert found == ["too_many_bytes"] * 16 + ["not_served"] * 8
    assert int(mebibytes) < 1024


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(250))
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(250))


def read_all(folder: Path, cells: pa.Array, **options: Any) -> list[Raw | Reject]:
    pq.write_table(pa.table({"image": cells}), folder / "rows.parquet")
    source = ParquetSource([str(folder / "rows.parquet")], image=["image"], **options)
    return [raw for _, raw in source.read(list(source.list()))]


def spellings(data: bytes) -> list[str]:
    plain = base64.b64encode(data).decode()
    return [
        plain,
        f"data:image/png;base64,{plain}",
        f"DATA:image/svg+xml;charset=utf-8;base64,{plain}",
        base64.encodebytes(data).decode(),
        plain.rstrip("="),
        base64.urlsafe_b64encode(data).decode(),
    ]


def test_base64_is_named_and_not_quoted(tmp_path: Path) -> None:
    cells = [text for data in (PNG, JPEG) for text in spellings(data * 400)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for column in (
        pa.array(cells),
        pa.array([text.encode() for text in cells]),
        pa.array([{"bytes": text.encode(), "path": None} for text in cells], struct),
    ):
        for raw in read_all(tmp_path, column):
            assert isinstance(raw, Reject)
            assert raw.reason == "base64"
            assert "set source.fields.encoding to base64" in raw.detail
            assert len(raw.detail) < 200


def test_long_text_that_is_nothing_is_not_quoted_whole(tmp_path: Path) -> None:
    for raw in read_all(tmp_path, pa.array(["x" * 1_000_000, "http://" + "y" * 1_000_000, "A" * 1_000_000])):
        assert isinstance(raw, Reject)
        assert len(raw.detail) < 1000


def test_base64_is_decoded_where_the_recipe_says_so(tmp_path: Path) -> None:
    for data in (PNG, JPEG, b"\xfb\xff\xbf" * 30, b"a"):
        column = pa.array([*spellings(data), None, " "])
        *found, null, white = read_all(tmp_path, column, base64=True)
        assert found == [Raw(data, None, "")] * 6
        assert isinstance(null, Reject)
        assert isinstance(white, Reject)
        assert (null.reason, white.reason) == ("no_image", "no_image")
    for text in ("data:image/png,plain", "images/a.png", "Q", "ab$d", "\u00e9\u00e9\u00e9\u00e9", "data:,"):
        (raw,) = read_all(tmp_path, pa.array([text]), base64=True)
        assert isinstance(raw, Reject)
        assert raw.reason == "bad_cell"
        assert text not in raw.detail


def test_names_that_no_store_can_have(tmp_path: Path) -> None:
    """A disk refuses names above 255 bytes, botocore and the hub's driver some before any request."""
    cells = ["a" * 300 + "/x.png", "b/" + "c" * 300, "s3://a b/x.png", "hf://datasets", "hf://"]
    assert ends(tmp_path, cells, allow=["s3://", "hf://"]) == ["missing", "missing", *["bad_url"] * 3]
    assert ends(tmp_path, ["s3://bucket/" + "k" * 1025], allow=["s3://"]) == ["bad_url"]
