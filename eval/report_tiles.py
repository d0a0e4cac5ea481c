"""Images of a report: the truth and the prediction as outlines, and the scores as a heat map beside it."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.gallery_page import LARGEST_PIXELATED
from eval.labelled import LabelledSample, stream_tar
from eval.outline import outline_path
from eval.part import PER_TAR, Job
from eval.showcase import Row
from eval.streaming import batches

LARGEST_SIDE = 384
"""Pixels; larger images are shrunk."""

LONGEST_OUTLINE = 40_000
"""Characters of an outline; a longer one is drawn from a mask of half the size, and so on."""

_STOPS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_COLOURS = np.array(
    [[40, 40, 60], [80, 50, 140], [200, 60, 110], [250, 140, 60], [255, 240, 120]], np.float64
)
"""Of scores; the style sheet has them once more, for the legend."""


@dataclass(frozen=True)
class Picture:
    """An image as the page holds it."""

    uri: str
    width: int
    height: int

    @property
    def style(self) -> str:
        """Class of the style sheet that decides how it is scaled."""
        return "pixelated" if max(self.width, self.height) <= LARGEST_PIXELATED else "smooth"


@dataclass(frozen=True)
class Tile:
    """One image of a section.

    Attributes:
        row: its row in `images.parquet`.
        image, heat: the image, and its scores over a dark version of it.
        truth, predicted: outlines as SVG path data; empty where there is nothing.
        truth_box, predicted_box: view boxes of the two.
    """

    row: Row
    image: Picture
    heat: Picture
    truth: str
    predicted: str
    truth_box: str
    predicted_box: str


def tiles_of(rows: Sequence[Row], job: Job, threshold: float) -> dict[int, Tile]:
    """Read and score the images of some rows once more, and return their tiles by number.

    Args:
        rows: of images of the job.
        job: source of images and scores.
        threshold: from which a pixel is predicted.
    """
    wanted: dict[int, dict[int, Row]] = defaultdict(dict)
    for row in rows:
        wanted[row["number"] // PER_TAR][row["number"] % PER_TAR] = row
    score = job.source.open()
    found = {}
    for tar, places in sorted(wanted.items()):
        read = list(stream_tar(job.tars[tar], reading=job.reading, places=places))
        order = [place for place, _ in read]
        for batch in batches((sample for _, sample in read), job.source.batch_size):
            scores = score([sample for _, sample in batch])
            for (at, sample), one in zip(batch, scores, strict=True):
                row = places[order[at]]
                assert one is not None, "an image with a row has scores"
                found[row["number"]] = _tile(row, sample, one, threshold)
    return found


def _tile(row: Row, sample: LabelledSample, scores: NDArray[np.float32], threshold: float) -> Tile:
    image = Image.fromarray(sample.image)
    heat = Image.fromarray(_heat(sample.image, scores))
    predicted = scores >= threshold
    if sample.mask.ignored is not None:
        predicted &= ~sample.mask.ignored
    truth_path, truth_box = _outline(sample.mask.inside)
    predicted_path, predicted_box = _outline(predicted)
    return Tile(row, _picture(image), _picture(heat), truth_path, predicted_path, truth_box, predicted_box)


def heat_colours(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Colours of scores, 0 to 255: [..., 3] of [...]."""
    return np.stack([np.interp(scores, _STOPS, _COLOURS[:, channel]) for channel in range(3)], axis=-1)


def _heat(image: NDArray[np.uint8], scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Scores in colour, with the image's brightness showing through."""
    grey = image.mean(axis=-1, keepdims=True) / 255
    colours = heat_colours(scores) * (0.45 + 0.55 * grey)
    rounded: NDArray[np.uint8] = colours.round().astype(np.uint8)
    return rounded


def _picture(image: Image.Image) -> Picture:
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    kind = "png" if max(image.size) <= LARGEST_PIXELATED else "jpeg"
    image.save(buffer, kind.upper(), **({} if kind == "png" else {"quality": 85}))
    uri = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(uri, *image.size)


def _outline(mask: NDArray[np.bool_]) -> tuple[str, str]:
    """Path data and view box of a mask, coarser for one whose outline is too long."""
    while max(mask.shape) > LARGEST_SIDE:
        mask = mask[::2, ::2]
    path = outline_path(mask)
    while len(path) > LONGEST_OUTLINE:
        mask = mask[::2, ::2]
        path = outline_path(mask)
    return path, f"0 0 {mask.shape[1]} {mask.shape[0]}"


def facts_of(row: Row) -> Mapping[str, str]:
    """What a tile states below its image."""
    pixels = max(1, row["pixels"])
    if not row["truth_pixels"]:
        return {"marked": _percent(row["marked_area"])}
    facts = {
        "IoU": f"{100 * row['iou']:.0f}",
        "artifact": _percent(row["truth_area"]),
        "marked": _percent(row["marked_area"]),
        "missed": _percent(row["false_negatives"] / pixels),
        "wrong": _percent(row["false_positives"] / pixels),
    }
    if row["artifact_score"] is not None:
        facts["annotators' score"] = f"{row['artifact_score']:.2f}"
    return facts


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
