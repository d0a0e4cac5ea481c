"""Trials of recipes: run a few items through the whole pipeline in this process, measure the time, write a page."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from actors.batch import METRICS, Sample
from actors.errors import SourceError
from actors.stage_names import StageName
from eval.gallery import LARGEST_SIDE
from eval.gallery_page import Figure, Tile, gallery_page
from factory.output.shards.previews import previews_of
from factory.pipeline.outlook import outlook
from factory.pipeline.stages import corruptor, image_selector, load, region_selector
from factory.recipe.recipe import Recipe
from factory.sources import open_source


@dataclass(frozen=True)
class Trial:
    """The results for one choice of inversion steps and threshold.

    Attributes:
        inversion_steps, threshold: the choice.
        accepted: samples.
        reasons: rejected samples by reason.
        seconds_per_item: wall time of regions and corruption in this process.
        hours_for_all: estimate for the whole source with one worker of this speed.
    """

    inversion_steps: int
    threshold: float
    accepted: int
    reasons: Mapping[str, int]
    seconds_per_item: float
    hours_for_all: float


@dataclass(frozen=True)
class Preview:
    """The trials of a preview; `seconds` are per item, by stage, of the last trial."""

    items: int
    trials: tuple[Trial, ...]
    seconds: Mapping[str, float]


def run_trials(recipes: Sequence[Recipe], items: int, page: Path) -> Preview:
    """Try every recipe on the first `items` items and write a page that shows all results side by side.

    Args:
        recipes: recipes with the same source and different inversion steps or thresholds.
        items: number of items to try.
        page: the HTML file to write; its folder is created.

    Raises:
        SourceError: the source has no items.
        ModelError: weights are missing, or a GPU is required and this machine has none.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    first = recipes[0]
    source = open_source(first.source, first.seed)
    total = outlook(first).items
    began = time.monotonic()
    loaded = load(source, list(islice(source.list(), items)), image_selector(first))
    if not loaded:
        raise SourceError("the source has no items to try")
    seconds: dict[str, float] = {StageName.LOAD: (time.monotonic() - began) / len(loaded)}
    trials, tiles = [], []
    for recipe in recipes:
        samples, spent = _try(recipe, loaded)
        seconds.update({stage: value / len(loaded) for stage, value in spent.items()})
        each = sum(seconds.values())
        trial = Trial(
            inversion_steps=recipe.corruption.inversion_steps,
            threshold=recipe.regions.threshold,
            accepted=sum(not sample.rejected for sample in samples),
            reasons=dict(Counter(sample.reason for sample in samples if sample.rejected)),
            seconds_per_item=each,
            hours_for_all=each * total / 3600,
        )
        trials.append(trial)
        tiles += [_tile(sample, trial) for sample in samples]
    tiles.sort(key=lambda tile: tile.key.split()[0])
    figures = [
        Figure(
            f"k = {trial.inversion_steps}",
            f"{trial.accepted} of {len(loaded)}",
            f"threshold {trial.threshold:g}",
        )
        for trial in trials
    ]
    notes = ["Every item once per choice. Filter by text, such as k=10."]
    text = gallery_page(title=f"{first.name}: preview", figures=figures, tiles=tiles, notes=notes)
    page.write_text(text, encoding="utf-8")
    return Preview(len(loaded), tuple(trials), seconds)


def _try(recipe: Recipe, loaded: Sequence[Sample]) -> tuple[list[Sample], dict[str, float]]:
    samples = copy.deepcopy(list(loaded))
    spent: dict[str, float] = {}
    for name, make in ((StageName.SELECT, region_selector), (StageName.CORRUPT, corruptor)):
        work = make(recipe)
        began = time.monotonic()
        samples = work(samples)
        spent[name] = time.monotonic() - began
    return samples, spent


def _tile(sample: Sample, trial: Trial) -> Tile:
    return Tile(
        key=f"{sample.key} k={trial.inversion_steps} threshold={trial.threshold:g}",
        status="rejected" if sample.rejected else "accepted",
        stage=sample.stage,
        reason=sample.reason,
        detail=sample.detail,
        caption=sample.caption,
        source=sample.source,
        metrics={name: sample.metrics.get(name, float("nan")) for name in METRICS},
        **previews_of(sample, LARGEST_SIDE),
    )
