"""Damaged files of an output, for `verify`: sidecars, indexes, plans, identities, manifests, cards, recipes, tars.

Every damage follows from a seed. It is either found, or it is harmless: the file then says what it said before.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from factory.store.storage import Storage

FILES = (
    "stats/000000.json",
    "index/000000.parquet",
    "shards/000000.tar",
    "plan.parquet",
    "identity.json",
    "manifest.json",
    "README.md",
    "recipe.yaml",
)

Mutate = Callable[[bytes, random.Random], bytes]

_NESTED = b"[" * 20_000
_ODD: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "0",
    "\0",
    "x" * 100_000,
    [],
    {},
    [[]],
    {"a": 1},
)


@dataclass(frozen=True)
class Damage:
    """A damaged file.

    Attributes:
        name: of the way and the file, for messages.
        path: of the file in the output.
        data: its content.
    """

    name: str
    path: str
    data: bytes

    def apply(self, storage: Storage) -> None:
        storage.replace(self.path, self.data)


def damages(storage: Storage, count: int, seed: str = "outputs") -> list[Damage]:
    """The first `count` damages of a sound output, the same for every run."""
    return [_damage(storage, FILES[n % len(FILES)], random.Random(f"{seed} {n}")) for n in range(count)]


def _damage(storage: Storage, path: str, rng: random.Random) -> Damage:
    data = storage.read(path)
    ways = [*_BYTES, *_BY_SUFFIX.get(path.rpartition(".")[2], ())]
    way = rng.choice(ways)
    return Damage(f"{way.__name__.strip('_')} of {path}", path, way(data, rng))


def _flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 8))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _left_out(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    return data[:begin] + data[begin + rng.randrange(1, 64) :]


def _repeated(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    part = data[begin : begin + rng.randrange(1, 600)]
    return data[:begin] + part + data[begin:]


def _zeroed(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.randrange(1, 64))
    return data[:begin] + bytes(end - begin) + data[end:]


def _extended(data: bytes, rng: random.Random) -> bytes:
    return data + rng.choice((b"\0", b"\n", b" ", b"{}", b"\xff\xfe", bytes(512), data))


def _replaced(data: bytes, rng: random.Random) -> bytes:
    return rng.choice(
        (b"", b"\0" * len(data), rng.randbytes(len(data)), _NESTED, b"null", b"\xef\xbb\xbf" + data)
    )


def _json_value(data: bytes, rng: random.Random) -> bytes:
    """One value of a JSON document is another one, of any type."""
    document = json.loads(data)
    place: object = document
    while True:
        assert isinstance(place, dict | list)
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(keys)
        inner = place[key]  # type: ignore[index]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
            place = inner
            continue
        place[key] = rng.choice(_ODD)  # type: ignore[index]
        return _dumped(document)


def _json_key(data: bytes, rng: random.Random) -> bytes:
    """A key is left out, added or written twice."""
    document = json.loads(data)
    key = rng.choice(list(document))
    way = rng.randrange(3)
    if way == 0:
        del document[key]
        return _dumped(document)
    if way == 1:
        return _dumped({**document, "licence": "none"})
    return data.replace(b"{", f"{{{json.dumps(key)}: null, ".encode(), 1)


def _dumped(document: object) -> bytes:
    return json.dumps(document).encode()


def _table_value(data: bytes, rng: random.Random) -> bytes:
    """One cell of a table is another one, or null; what the file says of itself stays."""
    file = pq.ParquetFile(io.BytesIO(data))
    rows = file.read().to_pylist()
    row, name = rng.choice(rows), rng.choice(file.schema_arrow.names)
    kind = file.schema_arrow.field(name).type
    values: dict[pa.DataType, tuple[object, ...]] = {
        pa.string(): ("", "x" * 50_000, "../x", "\0", "item-1", None),
        pa.float64(): (float("nan"), float("inf"), -1.0, 2.0, None),
        pa.bool_(): (True, False, None),
        pa.binary(): (b"", b"\x89PNG", rng.randbytes(100), None),
    }
    row[name] = rng.choice(values.get(kind, (0, -1, 2**31 - 1, None)))
    return _written(rows, file)


def _table_rows(data: bytes, rng: random.Random) -> bytes:
    """Rows are left out, repeated or in another order."""
    file = pq.ParquetFile(io.BytesIO(data))
    rows = file.read().to_pylist()
    way = rng.randrange(3)
    if way == 0:
        del rows[rng.randrange(len(rows))]
    elif way == 1:
        rows.append(rng.choice(rows))
    else:
        rng.shuffle(rows)
    return _written(rows, file)


def _table_note(data: bytes, rng: random.Random) -> bytes:
    """What a plan says of itself is another text."""
    file = pq.ParquetFile(io.BytesIO(data))
    metadata = dict(file.metadata.metadata)
    note = metadata.get(b"flawforge", b'{"runs": [], "skipped": {}, "first": 0, "retries": false}')
    damaged = rng.choice((_json_value, _json_key, _flipped, _cut))(note, rng)
    return _written(file.read().to_pylist(), file, damaged)


def _written(rows: list[dict[str, object]], file: pq.ParquetFile, note: bytes | None = None) -> bytes:
    buffer = io.BytesIO()
    note = note if note is not None else file.metadata.metadata.get(b"flawforge")
    with pq.ParquetWriter(buffer, file.schema_arrow) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=file.schema_arrow))
        if note is not None:
            writer.add_key_value_metadata({b"flawforge": note})
    return buffer.getvalue()


def _yaml_line(data: bytes, rng: random.Random) -> bytes:
    """A line is left out, repeated, or has another value or indentation."""
    lines = data.split(b"\n")
    place = rng.randrange(len(lines) - 1)
    key, colon, _ = lines[place].partition(b":")
    changed: list[bytes] = rng.choice(
        (
            [],
            [lines[place]] * 2,
            [b"  " + lines[place]],
            [b"\t" + lines[place]],
            [
                key
                + colon
                + b" "
                + rng.choice((b"*a", b"&a 1", b"!!python/none", b"010", b"[", b"{<<: *a}", b"'"))
            ],
            [
                key
                + colon
                + b" "
                + rng.choice((b"0x" + b"f" * 9_000, b".nan", b"~", b'"\\ud800"', b"x" * 20_000))
            ],
        )
    )
    return b"\n".join([*lines[:place], *changed, *lines[place + 1 :]])


_BYTES: tuple[Mutate, ...] = (_flipped, _cut, _left_out, _repeated, _zeroed, _extended, _replaced)
_BY_SUFFIX: dict[str, tuple[Mutate, ...]] = {
    "json": (_json_value, _json_value, _json_value, _json_key, _json_key),
    "parquet": (_table_value, _table_value, _table_rows, _table_note),
    "yaml": (_yaml_line, _yaml_line, _yaml_line, _yaml_line),
    "md": (_yaml_line, _yaml_line),
}
