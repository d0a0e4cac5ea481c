"""The judge inside the retry ladder: what is drawn again, what it sees, in which batches. A model without networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actors.batch import Sample
from actors.corruption.judge_config import JudgeConfig
from actors.images import encode_image, encode_mask, read_image, read_mask
from actors.seeding import seed_for
from tests.corruptors import SPILLED, UNCHANGED, corruptor
from tests.exact_model import ExactModel
from tinytown.render import render
from tinytown.scene import sample_scene

JUDGE = JudgeConfig(kind="detector", folder="x", least_pixels=5, batch_size=3)
ANY: dict[str, Any] = {"changed_threshold": 1e-6, "least_inside": 0.0, "judge": JUDGE}
"""Every draw is measured as changed."""


@pytest.fixture(scope="module")
def model() -> ExactModel:
    return ExactModel()


def samples(*seeds: int) -> list[Sample]:
    mask = np.zeros((64, 64), bool)
    mask[16:40, 20:44] = True
    images = {seed: encode_image(render(sample_scene(seed)).image) for seed in seeds}
    return [Sample(f"s{seed}", "", image=images[seed], mask=encode_mask(mask)) for seed in seeds]


class Marking:
    """Marks a corner of the region, 3 x 3 pixels, in images that it is asked to; notes the rows of every call."""

    def __init__(self, *images: bytes | None) -> None:
        self.images = [read_image(image) for image in images if image]
        self.calls: list[int] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(len(images))
        scores = np.zeros(images.shape[:3], np.float32)
        for row, image in enumerate(images):
            if any(np.array_equal(image, one) for one in self.images):
                scores[row, 20:23, 24:27] = 0.5
        return scores


def draws(model: ExactModel, number: int, **changes: Any) -> list[bytes | None]:
    """What a number of draws of a sample give, whatever is accepted."""
    never = {**changes, "changed_threshold": 0.99, "least_inside": 1.0, "judge": None}
    return [
        corruptor(model, **never, attempts=count)(samples(1))[0].corrupted for count in range(1, number + 1)
    ]


def test_what_is_legal_is_drawn_again(model: ExactModel):
    first, second = draws(model, 2)
    assert first != second
    scores = Marking(second)
    (found,) = corruptor(model, scores=scores, attempts=3, **ANY)(samples(1))
    assert found.verified and found.attempts == 2 and found.corrupted == second
    assert found.seed == seed_for(7, "s1", "corrupt", 1)
    assert (found.regions, found.broken_regions) == (1, 1)
    wanted = np.zeros((64, 64), bool)
    wanted[20:23, 24:27] = True
    assert np.array_equal(read_mask(found.judged), wanted & read_mask(found.changed))
    assert found.metrics["judged_area"] == read_mask(found.judged).sum() / 4096 > 0
    assert scores.calls == [2, 1]  # the baseline is marked once


def test_what_stays_legal_is_rejected_after_the_last_draw(model: ExactModel):
    (found,) = corruptor(model, scores=Marking(), attempts=2, deeper=[8], **ANY)(samples(1))
    assert (found.stage, found.reason, found.attempts) == ("verify", "legal", 4)
    assert found.inversion_steps == 8 and not found.verified
    assert found.detail == (
        "the judge finds no artifact: it marks 0 changed pixels of a region that it did not mark before; at least 5 "
        "are required"
    )
    assert found.unet_rows == 8 * 2 + (6 + 8) + 2 * (6 + 8)


@pytest.mark.parametrize("baseline", ["passage", "autoencoder", "original"])
def test_what_is_marked_in_the_baseline_already_is_not_accepted(model: ExactModel, baseline: str):
    (draw,) = draws(model, 1)
    round_trip = corruptor(model, method="none", least_inside=0.0)(samples(1))[0].corrupted
    decoded = corruptor(model, method="none", target="image", least_inside=0.0)(samples(1))[0].corrupted
    before = {"passage": round_trip, "autoencoder": decoded, "original": samples(1)[0].image}[baseline]
    (found,) = corruptor(model, scores=Marking(draw, before), baseline=baseline, **ANY)(samples(1))
    assert (found.stage, found.reason, found.attempts) == ("verify", "broken_before", 1)
    (found,) = corruptor(model, scores=Marking(draw), baseline=baseline, **ANY)(samples(1))
    assert found.verified


def test_the_baseline_of_every_k_is_marked_once(model: ExactModel):
    scores = Marking()
    corruptor(model, scores=scores, attempts=2, deeper=[8], **ANY)(samples(1))
    assert scores.calls == [2, 1, 2, 1]
    scores = Marking()
    corruptor(model, scores=scores, attempts=2, deeper=[8], baseline="autoencoder", **ANY)(samples(1))
    assert scores.calls == [2, 1, 1, 1]


def test_the_judge_sees_full_batches_and_nothing_that_is_refused_already(model: ExactModel):
    scores = Marking()
    corruptor(model, scores=scores, **ANY)(samples(1, 2, 3, 4, 5))
    assert scores.calls == [6, 4]  # three draws and their baselines, then two
    unseen = Marking()
    for limits in (UNCHANGED, SPILLED):
        corruptor(model, scores=unseen, judge=JUDGE, **limits)(samples(1, 2))
    assert unseen.calls == []


def test_failures_that_are_kept_are_judged_too(model: ExactModel):
    (draw,) = draws(model, 1)
    for marked, broken in ((draw, 1), (None, 0)):
        (found,) = corruptor(
            model, scores=Marking(marked), judge=JUDGE, on_failure="keep", most_outside=1.0, margin=0,
            changed_threshold=1e-6, least_inside=1.1 - 0.1,
        )(samples(1))  # fmt: skip
        assert not found.rejected and found.judged is not None
        assert found.broken_regions == broken and found.verified == bool(broken)


def test_neighbours_do_not_matter(model: ExactModel):
    marked = draws(model, 2)[1]
    together = corruptor(model, scores=Marking(marked), attempts=3, **ANY)(samples(3, 1, 2))
    (alone,) = corruptor(model, scores=Marking(marked), attempts=3, **ANY)(samples(1))
    assert (together[1].corrupted, together[1].judged) == (alone.corrupted, alone.judged)
    assert together[1].unet_rows == alone.unet_rows and together[0].reason == together[2].reason == "legal"


def test_scores_that_are_not_finite_reject_the_sample(model: ExactModel):
    first, second = samples(1), samples(1, 2)
    drawn = corruptor(model)(first)[0].corrupted
    assert drawn is not None

    class Broken(Marking):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            scores = super().__call__(images)
            return np.where(scores > 0, np.inf, scores)

    broken, sound = corruptor(model, scores=Broken(drawn), **ANY)(second)
    assert (broken.stage, broken.reason, broken.metrics) == ("verify", "not_finite", {})
    assert broken.detail == "the judge's scores hold NaN or infinity"
    assert sound.reason == "legal"


def test_without_a_judge_nothing_is_judged(model: ExactModel):
    (found,) = corruptor(model)(samples(1))
    assert found.judged is None and (found.regions, found.broken_regions) == (0, 0)
    assert "judged_area" not in found.metrics
