"""Mutated cells: bytes as their author means them, or a reason; what lies elsewhere is never read."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import Reject
from factory.sources.parquet import ParquetSource
from tests.mutations.cells import CANARY, CANARY_FILE, FILES, KNOWN, LINKS, Cell, cells

PER_KIND = 40


class Listening(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET


@pytest.fixture
def listening() -> Iterator[tuple[int, list[str]]]:
    asked: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Given", (Listening,), {"asked": asked})) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


def lay_out(root: Path) -> Path:
    """The folder of the Parquet file, with its neighbours, and the canary's beside it."""
    folder = root / "data"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    (root / "canary").mkdir()
    (root / "canary" / CANARY_FILE).write_bytes(CANARY)
    return folder


def check(one: Cell, raw: object) -> str:
    """What became of a cell; raises where that is wrong."""
    if isinstance(raw, Reject):
        assert raw.reason in one.ends, (one, raw.reason, raw.detail)
        assert 0 < len(raw.detail) < 1000
        assert CANARY.decode() not in raw.detail
        return raw.reason
    data = raw.image  # type: ignore[attr-defined]
    assert CANARY not in data, one
    if one.meant is None:
        assert "read" in one.ends, one
        assert data in FILES.values(), one
    else:
        assert data == one.meant, one
    return "read"


def test_mutated_cells(tmp_path: Path, listening: tuple[int, list[str]]) -> None:
    port, asked = listening
    folder = lay_out(tmp_path)
    names = {"{here}": str(folder), "{canary}": str(tmp_path / "canary"), "{port}": str(port)}
    made = list(cells(PER_KIND))
    texts, binary = (
        [one for one in made if isinstance(one.held, str)],
        [one for one in made if isinstance(one.held, bytes)],
    )

    def filled(one: Cell) -> str | bytes:
        held = one.held
        for name, value in names.items():
            held = held.replace(name, value) if isinstance(held, str) else held
        return held

    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "text": (texts, pa.array([filled(one) for one in texts])),
        "bytes": (binary, pa.array([filled(one) for one in binary], pa.binary())),
        "paths": (texts, pa.array([{"bytes": None, "path": filled(one)} for one in texts], struct)),
    }
    outcomes: Counter[tuple[str, str]] = Counter()
    for name, (wanted, column) in columns.items():
        pq.write_table(pa.table({"image": column}), folder / f"{name}.parquet")
        source = ParquetSource([str(folder / f"{name}.parquet")], image=["image"])
        found = [raw for _, raw in source.read(list(source.list()))]
        outcomes.update((one.kind, check(one, raw)) for one, raw in zip(wanted, found, strict=True))
    assert not asked
    ends = {end for _, end in outcomes}
    assert ends <= KNOWN | {"read"}
    assert {"read", "missing", "url_not_allowed", "bad_url", "base64"} <= ends
    assert outcomes["beside", "read"] == 2 * PER_KIND
