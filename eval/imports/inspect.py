"""`flawforge inspect` on imported sets: one item, with its files checked as `flawforge verify` checks them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from eval.imports.index import Row, read_rows
from eval.imports.verify import check_sample
from factory.maintain import inspect as items
from factory.maintain.inspect import Form, Item
from factory.output.identity import Identity
from factory.store.storage import Storage

_MEMBER = re.compile(r"[a-z]{1,32}\.png|json")
"""What the members of every set are called."""


def inspect_import(storage: Storage, key: str) -> Item:
    """Looks an item of an imported set up; see `factory.maintain.inspect.inspect`."""
    return items.inspect(storage, key, Form(read_rows, _check))


def write_images(item: Item, folder: Path) -> list[Path]:
    """Writes an item's files into a folder; see `factory.maintain.inspect.write_images`."""
    return items.write_images(item, folder, [name for name in item.content if _MEMBER.fullmatch(name)])


def _check(key: str, row: Row, content: Mapping[str, bytes], identity: Identity, url: str) -> Iterator[str]:
    return check_sample(key, content, row, identity.digest)
