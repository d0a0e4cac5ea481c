"""The gallery of an imported set: a fair sample of its images, with the outlines of their masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.errors import OutputError
from eval.gallery import LARGEST_SHARDS, LARGEST_SIDE, LARGEST_TILES, PATH, evenly
from eval.gallery_page import Figure, Tile, gallery_page
from eval.imports.index import read_rows
from eval.imports.labelled_set import IMAGE, MASK
from factory.output.manifest import Progress, progress, read_sidecars
from factory.output.plan import read_plan
from factory.output.shards.previews import shrink
from factory.output.shards.reader import read_shard_of
from factory.output.shards.records import ITEM_COLUMNS
from factory.store.storage import Storage

_OWN = {name for name, _ in ITEM_COLUMNS}
_FILES = ("_bytes", "_sha256")


def write_import_gallery(storage: Storage, title: str, *, tiles: int = LARGEST_TILES) -> int:
    """Writes `gallery.html` and returns how many items it shows.

    Items come evenly from at most `LARGEST_SHARDS` evenly spaced shards. A fifth of the places is for rejected items,
    of which there is no image.

    Raises:
        OutputError: the output has no shards, or they cannot be shown.
    """
    plan = read_plan(storage)
    sidecars = read_sidecars(storage)
    numbers = evenly(list(sidecars), LARGEST_SHARDS)
    shown: list[Tile] = []
    for place, number in enumerate(numbers):
        quota = tiles * (place + 1) // len(numbers) - tiles * place // len(numbers)
        shown += _tiles(storage, number, quota)
    total = progress(plan, sidecars)
    try:
        page = gallery_page(
            title=title, figures=_figures(total), tiles=shown, notes=_notes(total, len(shown)), legend=""
        )
    except ValueError as error:  # an image with a sound header and a damaged body
        raise OutputError(f"{storage.url}: {error}; run flawforge verify") from error
    storage.replace(PATH, page.encode())
    return len(shown)


def _figures(total: Progress) -> list[Figure]:
    return [
        Figure("imported", f"{total.accepted:,}", f"of {total.planned:,} planned"),
        Figure("rejected", f"{total.rejected:,}", "each with a reason"),
        Figure("shards", f"{total.done:,}", f"of {total.shards:,}"),
    ]


def _notes(total: Progress, shown: int) -> list[str]:
    notes = [
        f"A sample of {shown} of {total.accepted + total.rejected:,} items, evenly over the shards. The outline is "
        "that of the mask."
    ]
    if not total.complete:
        notes.append(f"The import is not finished: {total.done} of {total.shards} shards are there.")
    return notes


def _tiles(storage: Storage, number: int, quota: int) -> Iterator[Tile]:
    rows = read_rows(storage, number)
    accepted = [row for row in rows if row["status"] == "accepted"]
    rejected = [row for row in rows if row["status"] != "accepted"]
    share = max(1, quota // 5) if accepted else quota
    refused = evenly(rejected, share if rejected else 0)
    chosen = {str(row["key"]): row for row in evenly(accepted, quota - len(refused))}
    if chosen:
        for sample in read_shard_of(storage, number):
            if sample.key in chosen:
                images = {"after": sample.members.get(IMAGE), "mask": sample.members.get(MASK)}
                yield _tile(chosen[sample.key], images, sample.shard)
    for row in refused:
        yield _tile(row, {}, storage.url)


def _tile(row: dict[str, Any], images: dict[str, bytes | None], where: str) -> Tile:
    try:
        small = shrink(images, LARGEST_SIDE)
    except ValueError as error:
        raise OutputError(f"{where} {row['key']}: {error}; run flawforge verify") from error
    figures = {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and name not in _OWN and not name.endswith(_FILES)
    }
    return Tile(
        key=str(row["key"]),
        status="accepted" if row["status"] == "accepted" else "rejected",
        stage=str(row["stage"] or ""),
        reason=str(row["reason"] or ""),
        detail=str(row["detail"] or ""),
        caption=str(row["caption"] or ""),
        source=str(row["source"] or ""),
        metrics=figures,
        before=None,
        after=small.get("after"),
        mask=small.get("mask"),
        changed=None,
    )
