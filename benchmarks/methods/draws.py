"""Every corruption of tinytown scenes at every depth, all from one inversion per scene, and the verifier's verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from actors.corruption.methods import CHANCE, METHODS, draw_noise, to_latent_mask
from actors.corruption.round_trip import Inverted, RoundTrip
from actors.corruption.verifier import Verifier, difference
from actors.images import encode_image, encode_mask, read_image, read_mask
from actors.seeding import seed_for
from factory.pipeline.stages import image_selector, load, region_selector
from factory.recipe.recipe import Recipe
from factory.sources import open_source

DRAWS = 3
"""Draws of a method of `CHANCE` at most, while the verifier refuses."""

LEVELS = (10, 20)
"""k at whose noise level `noise` corrupts the image latent itself; the other methods have no level for it."""

Images = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Case:
    """A clean scene and its region: uint8 [64, 64, 3] and bool [64, 64]."""

    key: str
    caption: str
    image: Images
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Setting:
    """A corruption: at depth k = `steps`, where 0 is the image latent, with noise of the level of k = `level`."""

    method: str
    steps: int
    level: int

    @property
    def draws(self) -> int:
        return DRAWS if self.method in CHANCE else 1


@dataclass(frozen=True)
class Outcome:
    """One draw of one scene.

    Attributes:
        key: of the scene.
        setting: what was done.
        attempt: draws before it with the same setting; the seed follows from it.
        change_inside, change_outside, difference_inside, difference_outside: as of
            `actors.corruption.verifier.Verifier.measure`, against the round trip without corruption.
        reason: why the verifier refuses it, or an empty string.
        reason_alone: the same, judged against the autoencoder alone.
        picture: PNG.
    """

    key: str
    setting: Setting
    attempt: int
    change_inside: float
    change_outside: float
    difference_inside: float
    difference_outside: float
    reason: str
    reason_alone: str
    picture: bytes

    @property
    def name(self) -> tuple[str, Setting, int]:
        """Identifies the draw among all others."""
        return self.key, self.setting, self.attempt


def settings(steps: Sequence[int]) -> list[Setting]:
    """Every setting: all methods at every k, and all on the image latent."""
    direct = [
        Setting(method, 0, level)
        for method in METHODS
        for level in (LEVELS if method == "noise" else LEVELS[:1])
    ]
    return direct + [Setting(method, k, k) for k in steps for method in METHODS]


def cases(recipe: Recipe, count: int) -> list[Case]:
    """The first scenes of a recipe's source on which its region selector accepts a region."""
    source, select = open_source(recipe.source, recipe.seed), image_selector(recipe)
    regions = region_selector(recipe)
    references = iter(source.list())
    found: list[Case] = []
    while len(found) < count and (group := list(islice(references, recipe.regions.batch_size))):
        for sample in regions(load(source, group, select)):
            if not sample.rejected:
                assert sample.image is not None and sample.mask is not None
                image, mask = read_image(sample.image), read_mask(sample.mask)
                found.append(Case(sample.key, sample.caption, image, mask))
    return found[:count]


def measure(
    round_trip: RoundTrip, group: Sequence[Case], verifier: Verifier, steps: Sequence[int], run_seed: int
) -> list[Outcome]:
    """All draws of a batch of scenes: the first of every setting, and more of those by chance that are refused.

    The image of the method `none` is the round trip without corruption, against which all others are judged.

    Args:
        round_trip: the model.
        group: scenes, one batch.
        verifier: judges every draw.
        steps: every k, rising.
        run_seed: of the recipe.
    """
    images = np.stack([case.image for case in group])
    masks = torch.from_numpy(np.stack([case.mask for case in group]))
    height, width = (side // round_trip.model.vae_scale_factor for side in masks.shape[1:])
    inverted = round_trip.invert(images, to_latent_mask(masks, height, width), steps)
    at = {k: round_trip.resampled(inverted.at[k], inverted.prompts, k) for k in (0, *steps)}
    outcomes = []
    for setting in settings(steps):
        rows = list(range(len(group)))
        for number in range(setting.draws):
            if not rows:
                break
            if setting.method == "none":
                corrupted = at[setting.steps][rows]
            else:
                seeds = [seed_for(run_seed, group[row].key, "corrupt", number) for row in rows]
                corrupted = _drawn(round_trip, inverted[rows], setting, seeds)
            made = [
                _judged(group[row], setting, number, (at[setting.steps][row], at[0][row]), image, verifier)
                for row, image in zip(rows, corrupted, strict=True)
            ]
            outcomes += made
            rows = [row for row, one in zip(rows, made, strict=True) if one.reason]
    return outcomes


def save_cases(found: Sequence[Case], path: Path) -> None:
    """Writes scenes as Parquet, whole or not at all."""
    rows = [
        {
            "key": case.key,
            "caption": case.caption,
            "image": encode_image(case.image),
            "mask": encode_mask(case.mask),
        }
        for case in found
    ]
    save(rows, path)


def read_cases(path: Path) -> list[Case]:
    """What `save_cases` wrote."""
    rows = pq.read_table(path).to_pylist()
    return [
        Case(row["key"], row["caption"], read_image(row["image"]), read_mask(row["mask"])) for row in rows
    ]


def save_outcomes(outcomes: Sequence[Outcome], path: Path) -> None:
    """Writes draws as Parquet, whole or not at all."""
    save([_flat(outcome) for outcome in outcomes], path)


def read_outcomes(path: Path) -> list[Outcome]:
    """What `save_outcomes` wrote."""
    rows = pq.read_table(path).to_pylist()
    return [Outcome(setting=Setting(*(row.pop(name) for name in _SETTING)), **row) for row in rows]


def save(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Rows as a Parquet file that appears under its name only when it is whole."""
    unfinished = path.with_suffix(".unfinished")
    pq.write_table(pa.Table.from_pylist(list(rows)), unfinished)
    unfinished.replace(path)


_SETTING = ("method", "steps", "level")


def _flat(outcome: Outcome) -> dict[str, Any]:
    row = asdict(outcome)
    setting: dict[str, Any] = row.pop("setting")
    return setting | row


def _drawn(round_trip: RoundTrip, inverted: Inverted, setting: Setting, seeds: list[int]) -> Images:
    noise = draw_noise(seeds, tuple(inverted.clean.shape[1:]))
    latents = round_trip.draw(inverted, setting.method, setting.steps, noise, level=setting.level)
    return round_trip.resampled(latents, inverted.prompts, setting.steps)


def _judged(
    case: Case,
    setting: Setting,
    number: int,
    baselines: tuple[Images, Images],
    image: Images,
    verifier: Verifier,
) -> Outcome:
    """Judges an image against its round trip without corruption, and against the autoencoder alone."""
    both = [verifier.measure(difference(baseline, image), case.mask)[1] for baseline in baselines]
    reasons = [why.reason if (why := verifier.judge(metrics)) else "" for metrics in both]
    figures = {
        name: both[0][name]
        for name in ("change_inside", "change_outside", "difference_inside", "difference_outside")
    }
    return Outcome(
        case.key,
        setting,
        number,
        reason=reasons[0],
        reason_alone=reasons[1],
        picture=encode_image(image),
        **figures,
    )
