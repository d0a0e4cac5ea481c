"""The gallery of a prediction: score maps over the images, with the outlines of the masks, highest scores first."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from actors.errors import OutputError
from actors.segmentation.marker import METRICS
from eval.gallery import LARGEST_SHARDS, LARGEST_SIDE, LARGEST_TILES, PATH, evenly
from eval.gallery_page import CHANGED_COLOUR, Figure, Tile, gallery_page
from eval.imports.index import read_columns
from eval.imports.labelled_set import IMAGE, MASK
from eval.predict.identity import DETECTOR
from eval.predict.samples import MAP
from factory.output.identity import Identity, read_identity
from factory.output.manifest import Progress, progress, read_sidecars
from factory.output.plan import read_plan
from factory.output.provenance import parts_of
from factory.output.shards.images import check_size
from factory.output.shards.previews import shrink
from factory.output.shards.reader import ShardSample, read_shard_of
from factory.store.storage import Storage

_COLUMNS = ("key", "source", "caption", "status", "stage", "reason", "detail", *METRICS)
_OPACITY = 0.75
"""Of the colour where the score is 1."""

Row = Mapping[str, Any]


def write_prediction_gallery(storage: Storage, *, tiles: int = LARGEST_TILES) -> int:
    """Writes `gallery.html` and returns how many images it shows.

    Of at most `LARGEST_SHARDS` evenly spaced shards, half of the tiles show the images with the highest scores, the
    others are spread evenly over the ranks of the rest. A few rejected images come last.

    Raises:
        OutputError: the output is damaged.
    """
    plan, (identity, _) = read_plan(storage), read_identity(storage)
    sidecars = read_sidecars(storage)
    numbers = evenly(list(sidecars), LARGEST_SHARDS)
    rows: dict[int, list[Row]] = {
        number: read_columns(storage, number, _COLUMNS).to_pylist() for number in numbers
    }
    accepted = [(number, row) for number in numbers for row in rows[number] if row["status"] == "accepted"]
    rejected = [row for number in numbers for row in rows[number] if row["status"] == "rejected"]
    left_out = evenly(rejected, tiles // 5)
    chosen = _chosen(accepted, tiles - len(left_out))
    shown = [
        *sorted(_tiles(storage, chosen), key=lambda tile: -tile.metrics["score"]),
        *(_bare(row, "rejected") for row in left_out),
    ]
    total = progress(plan, sidecars)
    try:
        page = gallery_page(
            title=parts_of(storage, plan)[0].name,
            figures=_figures(total, identity, [row for _, row in accepted]),
            tiles=shown,
            notes=_notes(total, identity, len(shown), len(numbers)),
            legend="score",
        )
    except ValueError as error:  # an image with a sound header and a damaged body
        raise OutputError(f"{storage.url}: {error}; run flawforge verify") from error
    storage.replace(PATH, page.encode())
    return len(shown)


def _chosen(accepted: Sequence[tuple[int, Row]], count: int) -> dict[int, dict[str, Row]]:
    """The rows to show by shard and key."""
    ranked = sorted(accepted, key=lambda one: (-one[1]["score"], one[1]["key"]))
    top = min(len(ranked), -(-count // 2))
    found: dict[int, dict[str, Row]] = {}
    for number, row in (*ranked[:top], *evenly(ranked[top:], count - top)):
        found.setdefault(number, {})[row["key"]] = row
    return found


def _tiles(storage: Storage, chosen: Mapping[int, Mapping[str, Row]]) -> Iterator[Tile]:
    for number, rows in chosen.items():
        for sample in read_shard_of(storage, number):
            if sample.key in rows:
                yield _tile(sample, rows[sample.key])


def _tile(sample: ShardSample, row: Row) -> Tile:
    try:
        small = shrink({"mask": sample.member(MASK)}, LARGEST_SIDE)
        image, overlay = _images(sample)
    except (ValueError, OSError) as error:
        raise OutputError(f"{sample.shard}, {sample.key}: {error}; run flawforge verify") from error
    metrics = {name: float(row[name]) for name in METRICS}
    tile = replace(_bare(row, "accepted"), metrics=metrics, mask=small["mask"])
    # Without the image, the map stands in its place.
    return replace(tile, after=image, scores=overlay) if image else replace(tile, after=overlay)


def _bare(row: Row, status: Literal["accepted", "rejected"]) -> Tile:
    """A tile without images and figures."""
    return Tile(
        key=row["key"],
        status=status,
        stage=row["stage"],
        reason=row["reason"],
        detail=row["detail"],
        caption=row["caption"],
        source=row["source"],
        metrics={},
        before=None,
        after=None,
        mask=None,
        changed=None,
    )


def _images(sample: ShardSample) -> tuple[bytes | None, bytes]:
    """The image, if the sample has it, and the score map over it; both at most `LARGEST_SIDE` pixels a side."""
    check_size(sample.member(MAP))
    with Image.open(io.BytesIO(sample.member(MAP)), formats=("PNG",)) as stored:
        scores = Image.fromarray(np.asarray(stored).astype(np.float32) / 65535)
    scores.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BILINEAR)
    data = sample.members.get(IMAGE)
    under = Image.new("RGB", scores.size, (128, 128, 128))
    if data is not None:
        data = shrink({"after": data}, LARGEST_SIDE)["after"]
        assert data is not None
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            under = image.convert("RGB").resize(scores.size)
    share = np.clip(np.asarray(scores), 0, 1)[..., None] * _OPACITY
    blended = np.asarray(under) * (1 - share) + np.array(CHANGED_COLOUR) * share
    buffer = io.BytesIO()
    small = max(scores.size) < LARGEST_SIDE
    overlay = Image.fromarray(blended.round().astype(np.uint8))
    overlay.save(buffer, **({"format": "PNG"} if small else {"format": "JPEG", "quality": 85}))
    return data, buffer.getvalue()


def _figures(total: Progress, identity: Identity, rows: Sequence[Row]) -> list[Figure]:
    threshold = identity.content["predict"]["detector"]["threshold"]
    marked = np.mean([row["regions"] > 0 for row in rows]) if rows else float("nan")
    area = np.mean([row["marked_area"] for row in rows]) if rows else float("nan")
    return [
        Figure("images", f"{total.accepted:,}", f"of {total.planned:,} planned"),
        Figure("rejected", f"{total.rejected:,}", "each with a reason"),
        Figure("shards", f"{total.done:,}", f"of {total.shards:,}"),
        Figure("detector", identity.models[DETECTOR].partition("@")[0], f"threshold {threshold:g}"),
        Figure("with a marked region", f"{marked:.1%}" if rows else "-", f"of {len(rows):,} images"),
        Figure("marked area", f"{area:.2%}" if rows else "-", "mean of these images"),
    ]


def _notes(total: Progress, identity: Identity, shown: int, shards: int) -> list[str]:
    notes = [
        f"A sample of {shown} of {total.accepted + total.rejected:,} images, from {shards} shards, by falling score: "
        "half of them have the highest scores there, the others are spread evenly over the rest."
    ]
    if identity.content["predict"]["output"]["image"] == "leave_out":
        notes.append("The output has no images; score maps are shown over grey.")
    if not total.complete:
        notes.append(f"The run is not finished: {total.done} of {total.shards} shards exist.")
    return notes
