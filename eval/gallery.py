"""The gallery of an output: a fair sample of its shards, as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from actors.batch import JUDGED_AREA, METRICS
from actors.errors import OutputError
from eval.gallery_page import Figure, Tile, gallery_page
from factory.maintain.verify_index import read_index
from factory.output.manifest import Progress, progress, read_sidecars
from factory.output.plan import read_plan
from factory.output.provenance import identity_of
from factory.output.shards.further import COUNTS, JUDGED
from factory.output.shards.previews import NAMES, shrink
from factory.output.shards.reader import read_shard_of
from factory.output.shards.records import index_path
from factory.store.storage import Storage

PATH = "gallery.html"
LARGEST_TILES = 200
LARGEST_SHARDS = 40
LARGEST_SIDE = 384
"""Pixels; larger images are shrunk, so that 200 samples stay under 20 MB."""


def write_gallery(storage: Storage, title: str, *, tiles: int = LARGEST_TILES) -> int:
    """Writes `gallery.html` and returns how many samples it shows.

    Samples come evenly from at most `LARGEST_SHARDS` evenly spaced shards. A fifth of the places is for rejected
    items, of which the index keeps a few small images per reason and shard.

    Raises:
        OutputError: the output has no shards, or they cannot be shown.
    """
    plan = read_plan(storage)
    sidecars = read_sidecars(storage)
    shown: list[Tile] = []
    numbers = evenly(list(sidecars), LARGEST_SHARDS)
    for place, number in enumerate(numbers):
        quota = tiles * (place + 1) // len(numbers) - tiles * place // len(numbers)
        shown += _shard_tiles(storage, number, quota, has_tar=sidecars[number].tar is not None)
    total = progress(plan, sidecars)
    identity = identity_of(storage, plan)
    try:
        page = gallery_page(
            title=title,
            figures=_figures(total, _corruptions(identity.content)),
            tiles=shown,
            notes=_notes(total, len(shown)),
        )
    except ValueError as error:  # an image with a sound header and a damaged body
        raise OutputError(f"{storage.url}: {error}; run flawforge verify") from error
    storage.replace(PATH, page.encode())
    return len(shown)


def _corruptions(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The corruption of every recipe that an output's identity knows: one, or one for each part of a merged output."""
    parts = content.get("parts")
    return (
        [content["corruption"]]
        if parts is None
        else [part["identity"]["content"]["corruption"] for part in parts]
    )


def _figures(total: Progress, corruptions: Sequence[dict[str, Any]]) -> list[Figure]:
    judged = total.accepted + total.rejected
    per_sample = total.unet_rows / total.accepted if total.accepted else 0.0
    return [
        Figure("accepted", f"{total.accepted:,}", f"of {total.planned:,} planned"),
        Figure("rejected", f"{total.rejected:,}", "each with a reason"),
        Figure("accept rate", f"{total.accepted / judged:.1%}" if judged else "-"),
        Figure("shards", f"{total.done:,}", f"of {total.shards:,}"),
        Figure(
            "corruption",
            ", ".join(dict.fromkeys(str(one["method"]) for one in corruptions)),
            "; ".join(dict.fromkeys(f"{_depth(one)}, {one['model']}" for one in corruptions)),
        ),
        Figure("UNet evaluations", f"{per_sample:.0f}", "per accepted sample"),
    ]


def _depth(corruption: dict[str, Any]) -> str:
    if corruption["target"] == "image":
        return "image latent"
    return "k = " + ", ".join(map(str, [corruption["inversion_steps"], *corruption["deeper"]]))


def _notes(total: Progress, shown: int) -> list[str]:
    notes = [f"A sample of {shown} of {total.accepted + total.rejected:,} items, evenly over the shards."]
    if not total.complete:
        notes.append(f"The run is not finished: {total.done} of {total.shards} shards are there.")
    return notes


def _shard_tiles(storage: Storage, number: int, quota: int, *, has_tar: bool) -> Iterator[Tile]:
    rows = read_index(storage, number)
    rejected = [row for row in rows if row["status"] == "rejected"]
    accepted = [row for row in rows if row["status"] == "accepted"]
    with_images = [row for row in rejected if row["preview_before"] is not None]
    chosen = evenly(with_images or rejected, max(1, quota // 5) if rejected else 0)
    if not has_tar:
        chosen = evenly(with_images or rejected, quota)
    if has_tar:
        chosen_rows = {str(row["key"]): row for row in evenly(accepted, quota - len(chosen))}
        for sample in read_shard_of(storage, number):
            if sample.key not in chosen_rows:
                continue
            images = {
                "before": sample.members.get("original.png"),
                "after": sample.members.get("image.png"),
                "mask": sample.members.get("mask.png"),
                "changed": sample.members.get("changed.png"),
                "judged": sample.members.get(JUDGED),
            }
            yield _tile(chosen_rows[sample.key], images, sample.shard)
    for row in chosen:
        previews = {name: row.get(f"preview_{name}") for name in NAMES}
        yield _tile(row, previews, f"{storage.url}: {index_path(number)}")


def _tile(row: dict[str, Any], images: dict[str, bytes | None], where: str) -> Tile:
    try:
        small = shrink(images, LARGEST_SIDE)
    except ValueError as error:
        raise OutputError(f"{where} {row['key']}: {error}; run flawforge verify") from error
    names = [*METRICS, *(name for name in (JUDGED_AREA, *COUNTS) if name in row)]
    metrics = {name: float(row[name]) if row[name] is not None else float("nan") for name in names}
    return Tile(
        key=row["key"],
        status=row["status"],
        stage=row["stage"],
        reason=row["reason"],
        detail=row["detail"],
        caption=row["caption"],
        source=row["source"],
        metrics=metrics,
        **small,
    )


def evenly(rows: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the rows, at even distances."""
    if count >= len(rows):
        return list(rows)
    return [rows[int(place)] for place in np.linspace(0, len(rows) - 1, count).round()] if count > 0 else []
