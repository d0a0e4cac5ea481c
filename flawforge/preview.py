"""A few samples through the whole pipeline in this process: a look, and measured seconds, before a long run."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from actors.batch import METRICS, Sample
from actors.errors import Reject
from eval.gallery_page import Figure, Tile, gallery_page
from factory.outlook import outlook
from factory.recipe import Recipe
from factory.sources import open_source
from factory.stages import corruptor, image_selector, region_selector


@dataclass(frozen=True)
class Trial:
    """What one choice of inversion steps and threshold gave.

    Attributes:
        inversion_steps, threshold: the choice.
        accepted: samples.
        reasons: rejected samples by reason.
        seconds_per_item: wall time of regions and corruption in this process.
        hours_for_all: for the whole source, by one worker of this speed.
    """

    inversion_steps: int
    threshold: float
    accepted: int
    reasons: Mapping[str, int]
    seconds_per_item: float
    hours_for_all: float


@dataclass(frozen=True)
class Report:
    """A preview's figures; `seconds` are per item, by stage, of the last trial."""

    items: int
    trials: tuple[Trial, ...]
    seconds: Mapping[str, float]


def run(
    recipe: Recipe, items: int, inversion_steps: Sequence[int], thresholds: Sequence[float], page: Path
) -> Report:
    """Tries every choice on the first `items` items and writes a page with all of them side by side."""
    source = open_source(recipe.source, recipe.seed)
    began = time.monotonic()
    select = image_selector(recipe)
    loaded = []
    for reference, raw in source.read(list(islice(source.list(), items))):
        sample = Sample(reference.key, reference.url, reference.caption)
        if isinstance(raw, Reject):
            sample.reject("select_image", raw)
        else:
            sample.caption = raw.caption or sample.caption
            select(sample, raw.image, raw.mask)
        loaded.append(sample)
    seconds = {"load": (time.monotonic() - began) / len(loaded)}
    total = outlook(recipe).items
    trials, tiles = [], []
    for threshold in thresholds:
        for k in inversion_steps:
            samples, spent = _try(recipe, loaded, k, threshold)
            seconds.update({stage: value / len(loaded) for stage, value in spent.items()})
            each = sum(seconds.values())
            reasons = Counter(sample.reason for sample in samples if sample.rejected)
            accepted = sum(not sample.rejected for sample in samples)
            trials.append(Trial(k, threshold, accepted, dict(reasons), each, each * total / 3600))
            tiles += [_tile(sample, k, threshold) for sample in samples]
    tiles.sort(key=lambda tile: tile.key.split()[0])
    figures = [
        Figure(
            f"k = {trial.inversion_steps}",
            f"{trial.accepted} of {len(loaded)}",
            f"threshold {trial.threshold:g}",
        )
        for trial in trials
    ]
    notes = ["Every item once per choice. Filter by text, such as 'k=10'."]
    page.write_text(gallery_page(title=f"{recipe.name}: preview", figures=figures, tiles=tiles, notes=notes))
    return Report(len(loaded), tuple(trials), seconds)


def _try(
    recipe: Recipe, loaded: Sequence[Sample], k: int, threshold: float
) -> tuple[list[Sample], dict[str, float]]:
    changed = recipe.model_copy(
        update={
            "regions": recipe.regions.model_copy(update={"threshold": threshold}),
            "corruption": recipe.corruption.model_copy(update={"inversion_steps": k}),
        }
    )
    samples = copy.deepcopy(list(loaded))
    spent = {}
    for name, make in (("select", region_selector), ("corrupt", corruptor)):
        work = make(changed)
        began = time.monotonic()
        samples = work(samples)
        spent[name] = time.monotonic() - began
    return samples, spent


def _tile(sample: Sample, k: int, threshold: float) -> Tile:
    return Tile(
        key=f"{sample.key} k={k} threshold={threshold:g}",
        status="rejected" if sample.rejected else "accepted",
        stage=sample.stage,
        reason=sample.reason,
        detail=sample.detail,
        caption=sample.caption,
        source=sample.source,
        metrics={name: sample.metrics.get(name, float("nan")) for name in METRICS},
        before=sample.image,
        after=sample.corrupted,
        mask=sample.mask,
        changed=sample.changed,
    )
