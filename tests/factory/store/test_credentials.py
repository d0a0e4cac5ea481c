"""Sources whose URLs hold secrets: they are read, and nothing that is written or printed holds one."""

from __future__ import annotations

import base64
import http.server
import io
import logging
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.errors import RecipeError, SourceError
from factory.maintain.verify import verify
from factory.output.identity import Identity
from factory.output.plan import read_plan
from factory.output.reference import Raw
from factory.recipe.recipe import Recipe, parse_recipe
from factory.sources import open_source
from factory.store import credentials, remote
from factory.store.credentials import remember, reveal
from factory.store.retries import Patience
from factory.store.storage import Storage
from tests.mutations.build import build

RECIPE = """
name: private
source: {kind: KIND, urls: URLS, size: 64, fields: {image: [IMAGE], mask: MASK}}
regions: {kind: source, smallest_area: 0.002}
corruption: {method: blur, target: image, prompt: empty}
verify: {least_inside: 0, most_outside: 1}
output: {samples_per_shard: 2}
"""


def png(mode: str, colour: object) -> bytes:
    image, inner = Image.new(mode, (64, 64), 0), Image.new(mode, (20, 20), colour)  # type: ignore[arg-type]
    image.paste(inner, (10, 10))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def files() -> dict[str, bytes]:
    image, mask, packed, rows = png("RGB", (200, 10, 10)), png("L", 255), io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in (("a.png", image), ("a.mask.png", mask), ("b.png", image), ("b.mask.png", mask)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    pq.write_table(pa.table({"png": ["b.png", "sub/c.png"], "mask": [mask, mask]}), rows)
    found = dict.fromkeys(("a.png", "b.png", "sub/c.png", "d.png"), image)
    found |= {"x-000.tar": packed.getvalue(), "x-001.tar": packed.getvalue(), "rows.parquet": rows.getvalue()}
    return {f"/data/{name}": data for name, data in found.items()}


class Private(http.server.BaseHTTPRequestHandler):
    """Gives files, and parts of them, to who knows the secret: as a password, or anywhere in the query."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    secret: str

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        login = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        body, status = self.files.get(parts.path), 200
        if self.secret not in unquote(parts.query) and self.secret not in login:
            body, status = b"who are you?", 403
        elif body is None:
            body, status = b"", 404
        elif "Range" in self.headers:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            body, status = body[first : last + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"1"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[tuple[int, type[Private]]]:
    handler = type("Given", (Private,), {"files": files(), "secret": "SECRET-1"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port, handler
        server.shutdown()


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, type[Private]]]:
    monkeypatch.setattr(remote, "PATIENCE", Patience(0.3, 0.001, 0.01))
    monkeypatch.setattr(credentials, "_exact", {})
    monkeypatch.setattr(credentials, "_patterns", {})
    with serving() as found:
        yield found


def recipe(kind: str, urls: list[str]) -> Recipe:
    text = RECIPE.replace("KIND", kind).replace("URLS", str(urls)).replace("IMAGE", "png")
    mask = "mask" if kind == "parquet" else "mask.png"
    return parse_recipe(text.replace("MASK", mask), "private.yaml")


def urls_of(kind: str, port: int, secret: str) -> list[str]:
    here = f"127.0.0.1:{port}/data"
    return {
        "images": [
            f"http://user:{secret}@{here}/a.png",
            f"http://{here}/b.png?X-Amz-Date=2026{secret}&X-Amz-Signature={secret}%2F",
            f"http://{here}/{{d,sub/c}}.png?sv=1&sig={secret}",
        ],
        "webdataset": [f"http://{here}/x-{{000..001}}.tar?X-Goog-Signature={secret}"],
        "parquet": [f"http://user:{secret}@{here}/rows.parquet"],
    }[kind]


def all_text(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes().decode("latin-1")
        if path.suffix == ".parquet":
            yield path, str(pq.read_table(path).to_pylist()) + str(pq.read_metadata(path).metadata)


@pytest.mark.parametrize(("kind", "items"), [("images", 4), ("webdataset", 4), ("parquet", 2)])
def test_a_build_publishes_no_secret(
    tmp_path: Path,
    private: tuple[int, type[Private]],
    kind: str,
    items: int,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="factory")
    port, handler = private
    first = recipe(kind, urls_of(kind, port, "SECRET-1"))
    build(tmp_path / "out", first)
    storage = Storage(str(tmp_path / "out"))
    verdict = verify(storage)
    assert verdict.sound
    read = [raw for _, raw in open_source(first.source, 0).read(list(open_source(first.source, 0).list()))]
    assert [type(raw) for raw in read] == [Raw] * items
    for path, text in all_text(tmp_path / "out"):
        assert "SECRET" not in text, path
    assert "127.0.0.1" in (tmp_path / "out/README.md").read_text()
    assert "SECRET" not in repr(first) + str(first)
    reported = capfd.readouterr()
    assert "SECRET" not in reported.out + reported.err
    assert "SECRET" not in caplog.text

    # A renewed signature is the same data set, and its plan can be read with it.
    handler.secret = "SECRET-2"
    second = recipe(kind, urls_of(kind, port, "SECRET-2"))
    assert Identity.of(second).digest == Identity.of(first).digest
    source, plan = open_source(second.source, 0), read_plan(storage)
    planned = [item for number in range(plan.shards) for item in plan.shard(number)]
    assert list(source.list()) == planned
    assert [type(raw) for _, raw in source.read(planned)] == [Raw] * items
    handler.secret = "SECRET-3"
    with pytest.raises(SourceError, match="may not be read") as caught:
        list(open_source(second.source, 0).list())
    assert "SECRET" not in str(caught.value)


def test_a_mistake_in_a_recipe_shows_no_secret() -> None:
    for wrong in (["https://u:SECRET@h/a.png?sig=SECRET", 3], {"a": "https://h/a?token=SECRET"}):
        with pytest.raises(RecipeError) as caught:
            recipe("images", wrong)  # type: ignore[arg-type]
        assert "SECRET" not in str(caught.value)


def test_secrets_return_to_the_urls_that_had_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_exact", {})
    monkeypatch.setattr(credentials, "_patterns", {})
    written = [
        "https://h/{000..010}.tar?sig=A",
        "https://h/{011..020}.tar?sig=B",
        "https://u:p@h/folder",
        "https://u:q@h/glob/**/*.png",
        "https://h/one.png?token=C&id=1",
        "https://h/plain.png",
    ]
    remember(written)
    assert reveal("https://h/003.tar") == "https://h/003.tar?sig=A"
    assert reveal("https://h/011.tar") == "https://h/011.tar?sig=B"
    assert reveal("https://h/021.tar") == "https://h/021.tar"
    assert reveal("https://h/folder/x/y.png") == "https://u:p@h/folder/x/y.png"
    assert reveal("https://h/folder2/y.png") == "https://h/folder2/y.png"
    assert reveal("https://h/glob/x/y/z.png") == "https://u:q@h/glob/x/y/z.png"
    assert reveal("https://h/one.png?id=1") == written[4]
    assert reveal("https://other/003.tar") == "https://other/003.tar"
    assert reveal("https://h/plain.png") == "https://h/plain.png"
    remember(["https://h/one.png?token=D&id=1"])
    assert reveal("https://h/one.png?id=1") == "https://h/one.png?token=D&id=1"
    with pytest.raises(SourceError, match=r"source\.urls names https://h/a twice") as caught:
        remember(["https://h/a?key=X1", "https://h/a?key=X2"])
    assert "X1" not in str(caught.value)
