"""Everything that is known of one item: plan, shard, status, figures, files."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from actors.errors import OutputError
from factory.maintain.made_by import MadeBy
from factory.maintain.search import Place, find
from factory.maintain.verify_index import check_row, read_index
from factory.maintain.verify_sample import check_sample
from factory.output.identity import Identity
from factory.output.manifest import done_shards
from factory.output.plan import read_plan, shard_name
from factory.output.provenance import part_at, parts_of
from factory.output.shards.previews import NAMES
from factory.output.shards.reader import read_shard_of
from factory.output.shards.records import MEMBERS, index_path, read_sidecar, tar_path
from factory.store.storage import Storage

NOT_MADE = "not made yet"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
Rows = Callable[[Storage, int], Sequence[dict[str, object]]]
"""Reads the rows of a shard's index, by its number."""

_PREVIEWS = {f"preview_{name}": name for name in NAMES}


@dataclass(frozen=True)
class File:
    """A file of a sample, or a preview of a rejected item from the index.

    Attributes:
        name: its extension in the tar, or its column in the index.
        bytes, sha256: of its content.
        size: width and height of an image, None for any other file.
    """

    name: str
    bytes: int
    sha256: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Item:
    """What an output knows of an item.

    Attributes:
        key: of the item.
        plan: its row of the plan, with its shard and its place there.
        made_by: recipe name and digest of what made its shard, and the output that it came from where that is
            another one.
        shard: the shard's files, counts and seconds; empty where it is not made yet.
        status: `accepted`, `rejected` or `not made yet`.
        index: its row of the index without the previews: stage, reason, detail, seed, attempts, figures.
        about: the sample's JSON, or None.
        files: of the sample; for a rejected item, its previews.
        problems: what is wrong with the sample, as `verify` reports it.
        content: of the files, by name.
    """

    key: str
    plan: Mapping[str, object]
    made_by: Mapping[str, str]
    shard: Mapping[str, object]
    status: str
    index: Mapping[str, object]
    about: Mapping[str, object] | None
    files: tuple[File, ...]
    problems: tuple[str, ...]
    content: Mapping[str, bytes]

    @property
    def document(self) -> dict[str, Any]:
        """All but the content, as JSON has it."""
        own = {name: value for name, value in vars(self).items() if name != "content"}
        return {**own, "files": [vars(file) for file in self.files]}


def _check_built(
    key: str, row: Mapping[str, object], content: Mapping[str, bytes], identity: Identity, url: str
) -> Iterator[str]:
    made_by = MadeBy.of(identity, url)
    yield from check_row(row, made_by)
    yield from check_sample(key, row, content, made_by)


@dataclass(frozen=True)
class Form:
    """What differs between outputs of builds and of imports.

    Attributes:
        rows: reads the index of a shard.
        check: what is wrong with a sample: from its key, row, files, the identity that made it, and the output's URL.
    """

    rows: Rows = read_index
    check: Callable[[str, Mapping[str, object], Mapping[str, bytes], Identity, str], Iterable[str]] = (
        _check_built
    )


def inspect(storage: Storage, key: str, form: Form | None = None) -> Item:
    """Looks an item up.

    Args:
        storage: the output.
        key: of the item.
        form: of the output; None is that of a build.

    Raises:
        OutputError: no item has this key (the message names similar ones), or what knows of it is damaged.
    """
    form = form or Form()
    plan = read_plan(storage)
    place = find(plan, key)
    part = part_at(parts_of(storage, plan), place.shard)
    origin = {"recipe": part.name, "digest": part.identity.digest}
    if part.url != storage.url:
        origin["output"] = part.url
    known: dict[str, Any] = {
        "key": key,
        "plan": {"shard": place.shard, "row": place.row, **vars(place.reference)},
        "made_by": origin,
    }
    if place.shard not in done_shards(storage):
        nothing: dict[str, Any] = {
            "shard": {},
            "index": {},
            "about": None,
            "files": (),
            "problems": (),
            "content": {},
        }
        return Item(status=NOT_MADE, **nothing, **known)
    row = index_row(storage, place, form.rows)
    status = str(row["status"])
    if status == "accepted":
        content = sample_files(storage, place.shard, key)
        problems = tuple(form.check(key, row, content, part.identity, storage.url))
    else:
        content = {name: data for name in _PREVIEWS if isinstance(data := row.get(name), bytes)}
        problems = ()
    return Item(
        status=status,
        shard=_shard(storage, place.shard),
        index={name: value for name, value in row.items() if name not in _PREVIEWS},
        about=_about(content.get("json")),
        files=tuple(_file(name, data) for name, data in content.items()),
        problems=problems,
        content=content,
        **known,
    )


def write_images(item: Item, folder: Path, members: Sequence[str] = MEMBERS) -> list[Path]:
    """Write an item's images and JSON into a folder, and return the files.

    Only members with names that Flawforge itself gives are written, so that no name from a tar ever becomes a path.
    `inspect` shows the others.

    Args:
        item: to write.
        folder: is created.
        members: names that the output's form has.

    Raises:
        OutputError: the key is not of the form that all keys have, or the folder cannot be written.
    """
    if not _KEY.fullmatch(item.key):
        raise OutputError(f"the key {item.key!r} is not of the form that keys have; nothing was written")
    names = {
        **{name: name for name in members},
        **{column: f"{name}.{_ending(item.content.get(column, b''))}" for column, name in _PREVIEWS.items()},
    }
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, ending in names.items():
            if name in item.content:
                path = folder / f"{item.key}.{ending}"
                path.write_bytes(item.content[name])
                written.append(path)
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror or error}") from error
    return written


def index_row(storage: Storage, place: Place, rows: Rows = read_index) -> dict[str, object]:
    """An item's row of its shard's index, whose rows `rows` reads.

    Raises:
        OutputError: the index is missing or damaged, or has no such row.
    """
    for row in rows(storage, place.shard):
        if row["key"] == place.reference.key:
            return row
    raise OutputError(
        f"{storage.url}: {index_path(place.shard)} has no row for {place.reference.key}; run flawforge verify"
    )


def _shard(storage: Storage, number: int) -> dict[str, object]:
    sidecar = read_sidecar(storage, number)
    return {
        "name": shard_name(number),
        "tar": tar_path(number) if sidecar.tar else None,
        "bytes": sidecar.tar.bytes if sidecar.tar else 0,
        "sha256": sidecar.tar.sha256 if sidecar.tar else None,
        "planned": sidecar.planned,
        "accepted": sidecar.accepted,
        "rejected": sidecar.rejected,
        "seconds": dict(sidecar.seconds),
    }


def sample_files(storage: Storage, number: int, key: str) -> dict[str, bytes]:
    """Content of a sample's files by extension, empty where the tar has none. The tar is read up to the sample.

    Raises:
        OutputError: the tar is missing or damaged.
    """
    found = (sample.members for sample in read_shard_of(storage, number) if sample.key == key)
    return dict(next(found, {}))


def _file(name: str, data: bytes) -> File:
    size = None
    if name != "json":
        try:
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
                size = image.size
        except Exception:  # Pillow raises many kinds on damaged files; check_sample reports them
            size = None
    return File(name, len(data), hashlib.sha256(data).hexdigest(), size)


def _about(data: bytes | None) -> dict[str, object] | None:
    try:
        document = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _ending(data: bytes) -> str:
    """The extension of a preview: PNG, or JPEG where it was shrunk."""
    return "png" if data.startswith(b"\x89PNG") else "jpg"
