"""The gallery: one HTML file to judge a run by eye, with nothing in it that points outside."""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from actors.foreign_text import shown_in_html
from actors.images import read_mask
from eval.outline import outline_path

LARGEST_PIXELATED = 128
"""Images up to this width are shown with hard pixels at whole multiples; wider ones are scaled smoothly."""

CHANGED_COLOUR = (232, 62, 140)
"""Colour of changed pixels. The style sheet has it once more, for the legend."""


@dataclass(frozen=True)
class Tile:
    """One planned sample as the gallery shows it.

    Attributes:
        key: the sample's key.
        status: `accepted` or `rejected`.
        stage, reason, detail: who rejected it and why; empty when accepted.
        caption, source: as in the sample.
        metrics: figures by name; nan is shown as not measured.
        before, after: the clean and the corrupted image as PNG or JPEG; None where it was never made.
        mask, changed, judged: 1-bit PNG, white is inside; None where it was never made.
        scores: a score map over the image, as PNG or JPEG, of predictions.
    """

    key: str
    status: Literal["accepted", "rejected"]
    stage: str
    reason: str
    detail: str
    caption: str
    source: str
    metrics: Mapping[str, float]
    before: bytes | None
    after: bytes | None
    mask: bytes | None
    changed: bytes | None
    scores: bytes | None = None
    judged: bytes | None = None

    @property
    def group(self) -> str:
        """What the tile is filtered by; no reason can be taken for `accepted`."""
        return "accepted" if self.status == "accepted" else f"rejected:{self.reason}"

    @property
    def verdict(self) -> str:
        """The group in words, for a badge."""
        if self.status == "accepted":
            return "accepted"
        return self.reason.replace("_", " ") or "no reason given"


@dataclass(frozen=True)
class Figure:
    """A figure of the run, such as `Figure("accepted", "912", "of 1,000 planned")`."""

    label: str
    value: str
    note: str = ""


def gallery_page(
    *,
    title: str,
    figures: Sequence[Figure],
    tiles: Sequence[Tile],
    notes: Sequence[str] = (),
    legend: str = "changed pixels",
    largest_bytes: int = 20_000_000,
) -> str:
    """Builds the gallery as one HTML document that loads nothing and can be mailed, stored or opened offline.

    Everything given is text, never markup. A Content-Security-Policy admits only this page's own script and
    style, so a hostile caption stays a caption even if the escaping were to fail.

    Args:
        title: heading of the page.
        figures: what the run came to, shown above the tiles.
        tiles: the samples, in the order to show them.
        notes: sentences below the figures.
        legend: what the colour over the images means.
        largest_bytes: size of the document, in UTF-8, above which tiles are left out. Every group (accepted,
            and each reject reason) keeps the same share of its tiles, at least one where it fits, spread
            evenly over its order, and the page states how many are shown.

    Raises:
        ValueError: an image or a mask of a tile cannot be read; the message names the tile.
    """
    shots = [_shots(tile) for tile in tiles]
    template = TEMPLATES.get_template("gallery_tile.html")
    parts = [
        template.render(number=number, tile=tile, figures=_metrics(tile), **shot)
        for number, (tile, shot) in enumerate(zip(tiles, shots, strict=True))
    ]
    style = _asset("gallery_page.css") + "".join(
        f".w{width} {{ --natural: {width}px; }}\n" for width in sorted({w for s in shots for w in _widths(s)})
    )
    script = _asset("gallery_page.js")

    def page(kept: Sequence[int], body: str) -> str:
        return TEMPLATES.get_template("gallery_page.html").render(
            title=title,
            figures=figures,
            notes=notes,
            legend=legend,
            chips=_chips(tiles[index] for index in kept),
            shown=len(kept),
            total=len(tiles),
            limit=f"{largest_bytes / 1e6:.3g} MB",
            body=Markup(body),
            style=Markup(style),
            script=Markup(script),
            style_hash=_hash(style),
            script_hash=_hash(script),
        )

    frame = len(page(range(len(tiles)), "").encode())
    kept = _fitting(
        [tile.group for tile in tiles],
        [len(part.encode()) for part in parts],
        room=largest_bytes - frame - _SENTENCE,
    )
    return page(kept, "".join(parts[index] for index in kept))


@dataclass(frozen=True)
class _Shot:
    """An image as the page holds it."""

    uri: str
    width: int
    height: int

    @property
    def classes(self) -> str:
        return f"w{self.width} pixelated" if self.width <= LARGEST_PIXELATED else f"w{self.width}"


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    finalize=shown_in_html,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

_SENTENCE = 400
"""Bytes reserved for the sentence that states how many tiles are shown."""


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _shots(tile: Tile) -> dict[str, object]:
    """The part of the template's variables that comes from the images."""
    mask = _read_mask(tile, "mask", tile.mask)
    changed = _read_mask(tile, "changed", tile.changed)
    judged = _read_mask(tile, "judged", tile.judged)
    return {
        "before": _image(tile, "before", tile.before),
        "after": _image(tile, "after", tile.after),
        "scores": _image(tile, "scores", tile.scores),
        "changed": None if changed is None else _map(changed),
        "judged": None if judged is None else _map(judged),
        "share": "" if changed is None else f"{100 * changed.mean():.3g} %",
        "judged_share": "" if judged is None else f"{100 * judged.mean():.3g} %",
        "outline": "" if mask is None else outline_path(mask),
        "box": "" if mask is None else f"0 0 {mask.shape[1]} {mask.shape[0]}",
    }


def _widths(shots: Mapping[str, object]) -> list[int]:
    return [shot.width for shot in shots.values() if isinstance(shot, _Shot)]


def _image(tile: Tile, name: str, data: bytes | None) -> _Shot | None:
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            kind = {"PNG": "image/png"}.get(image.format or "", "image/jpeg")
            return _Shot(_data_uri(kind, data), image.width, image.height)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"tile {tile.key!r}: its image {name!r} is not a PNG or JPEG: {error}") from None


def _read_mask(tile: Tile, name: str, data: bytes | None) -> NDArray[np.bool_] | None:
    if data is None:
        return None
    try:
        return read_mask(data)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"tile {tile.key!r}: its map {name!r} cannot be read as PNG: {error}") from None


def _map(changed: NDArray[np.bool_]) -> _Shot:
    """The map with coloured pixels on a transparent ground, to lie on the page or over an image."""
    image = Image.fromarray(changed.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, *CHANGED_COLOUR])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=1, transparency=0)
    return _Shot(_data_uri("image/png", buffer.getvalue()), image.width, image.height)


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _metrics(tile: Tile) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), "not measured" if np.isnan(value) else f"{value:.4g}")
        for name, value in tile.metrics.items()
    ]


def _chips(tiles: Iterable[Tile]) -> list[tuple[str, str, int]]:
    """Group, words and count of every filter but 'all': accepted first, then reasons by count."""
    counts = Counter((tile.group, tile.verdict) for tile in tiles)
    chips = [(group, words, count) for (group, words), count in counts.items()]
    return sorted(chips, key=lambda chip: (chip[0] != "accepted", -chip[2], chip[1]))


def _fitting(groups: Sequence[str], sizes: Sequence[int], *, room: int) -> list[int]:
    """Places of the tiles that fit into `room` bytes, in their order, with an equal share of every group.

    Tiles are offered in an order of which every beginning is fair, and taken while they fit.
    """
    members: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    offers = [
        (rank / len(places), number, places[index])
        for number, places in enumerate(members.values())
        for rank, index in enumerate(_spread(len(places)))
    ]
    kept: list[int] = []
    for _, _, place in sorted(offers):
        if sizes[place] <= room:
            kept.append(place)
            room -= sizes[place]
    return sorted(kept)


def _spread(count: int) -> list[int]:
    """The numbers below `count` by their reversed bits: every beginning of that order is spread evenly."""
    bits = max(1, (count - 1).bit_length())
    turned = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits))
    return [number for number in turned if number < count]
