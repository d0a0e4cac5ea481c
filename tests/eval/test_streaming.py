"""A streamed evaluation: the figures of the array path, in any order, with memory for counts alone."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pytest

from actors.errors import EvaluationError
from actors.masks import Mask
from eval.blind import BlindFigures
from eval.evaluate import CANDIDATES, best_threshold, evaluate, random_iou
from eval.labelled import LabelledSample
from eval.streaming import MOST_WAITING, StreamedEvaluation, batches

RNG = np.random.default_rng(0)
TRUTH = RNG.random((20, 9, 11)) < 0.3
SCORES = np.clip(RNG.random((20, 9, 11)) * 0.7 + 0.3 * TRUTH, 0, 1).astype(np.float32)
SCORES[0, 0, :5] = (0.02, 0.5, 0.98, 0.0, 1.0)  # on the candidates themselves
OBJECTS = np.random.default_rng(1).integers(0, 3, TRUTH.shape).astype(np.uint8)
IGNORED = (RNG.random((20, 9, 11)) < 0.2) & ~TRUTH


def streamed(
    order: list[int],
    thresholds: tuple[float, ...] = CANDIDATES,
    *,
    ignored: bool = False,
    pixels: int = 1 << 25,
) -> StreamedEvaluation:
    found = StreamedEvaluation(thresholds, baseline_pixels=pixels)
    for number in order:
        mask = Mask(TRUTH[number], IGNORED[number] if ignored else None)
        found.add(number, mask, SCORES[number], where=f"image {number}")
    return found


@pytest.mark.parametrize("ignored", [False, True])
def test_the_figures_of_the_array_path(ignored: bool):
    order = [*range(7, 20), *range(7)]
    found = streamed(order, ignored=ignored)
    assert found.images == found.baseline_images == 20
    for threshold in (0.02, 0.3, 0.5, 0.98):
        wanted = evaluate(TRUTH, SCORES, threshold, ignored=IGNORED if ignored else None)
        for name, value in asdict(wanted).items():
            assert asdict(found.evaluation(threshold))[name] == pytest.approx(value, abs=1e-12), name
        predicted = threshold <= SCORES
        wanted_at_random = random_iou(TRUTH, predicted, ignored=IGNORED if ignored else None)
        assert asdict(found.random_iou(threshold)) == pytest.approx(asdict(wanted_at_random), abs=1e-12)
    if not ignored:
        assert found.best_threshold() == best_threshold(TRUTH, SCORES)
    assert found.ignored_pixels == (IGNORED.sum() if ignored else 0) and found.pixels == TRUTH.size


def test_one_threshold_is_as_good_as_many():
    one, many = streamed(list(range(20)), (0.4,)), streamed(list(range(20)))
    assert one.evaluation(0.4) == many.evaluation(0.4) and one.random_iou(0.4) == many.random_iou(0.4)
    unsorted = streamed(list(range(20)), (0.9, 0.4, 0.1))
    assert unsorted.evaluation(0.4) == many.evaluation(0.4)
    assert unsorted.best_threshold() in (0.9, 0.4, 0.1)


def test_images_of_several_sizes_by_hand():
    found = StreamedEvaluation((0.5,))
    found.add(0, Mask(np.ones((2, 2), np.bool_)), np.array([[0.9, 0.9], [0.1, 0.5]]), where="a")
    found.add(1, Mask(np.zeros((1, 6), np.bool_)), np.array([[0.5, 0.4, 0.2, 0.1, 0.0, 0.0]]), where="b")
    evaluation = found.evaluation(0.5)
    assert evaluation.iou_fg.value == pytest.approx(3 / 5)
    assert evaluation.iou_per_image.value == pytest.approx((3 / 4 + 0) / 2)
    assert evaluation.miou_2class.value == pytest.approx((3 / 5 + 5 / 7) / 2)
    assert evaluation.precision.value == evaluation.recall.value == pytest.approx(3 / 4)
    # 2 at 0.9, both true; 2 at 0.5, one of them true; then 0.4 and 0.2; 2 at 0.1, one of them true.
    assert evaluation.average_precision == pytest.approx((2 * 2 / 2 + 3 / 4 + 4 / 8) / 4)
    # Each keeps its own regions: all of the first is true wherever they go, nothing of the second.
    assert found.random_iou(0.5).value == pytest.approx(3 / 5)


def test_the_baseline_of_a_sample():
    """Any order gives the same sample; its baseline is that of its images."""
    found, again = (streamed(order, pixels=6 * 99) for order in (list(range(20)), list(range(19, -1, -1))))
    assert found.baseline_images == again.baseline_images == 6 and found.images == 20
    assert found.random_iou(0.5) == again.random_iou(0.5)
    chosen = found._sample.numbers
    assert chosen != list(range(6))
    assert found.random_iou(0.5) == random_iou(TRUTH[chosen], SCORES[chosen] >= 0.5)
    assert found.evaluation(0.5) == streamed(list(range(20))).evaluation(0.5)
    assert streamed([0, 1], pixels=1).baseline_images == 1


@pytest.mark.parametrize("rows", [1 << 14, 10])
@pytest.mark.parametrize("pixels", [1 << 25, 6 * 99])
def test_seven_parts_equal_the_whole(rows: int, pixels: int):
    """With the counts of all images, or with sums only; the baseline's sample is the same, too."""
    whole = StreamedEvaluation(baseline_pixels=pixels, rows=rows)
    parts = [StreamedEvaluation(baseline_pixels=pixels, rows=rows) for _ in range(7)]
    for number in range(20):
        for one in (whole, parts[number * 3 % 7]):
            one.add(
                number,
                Mask(TRUTH[number], IGNORED[number]),
                SCORES[number],
                where="",
                objects=OBJECTS[number],
                artifact_score=float(number % 6),
            )
    merged = parts[4]
    for part in (*parts[:4], *parts[5:]):
        merged.merge(part)
    assert merged.images == 20 and merged.ignored_pixels == whole.ignored_pixels
    assert merged.best_threshold() == whole.best_threshold()
    ours, wanted = (asdict(one.evaluation(0.3)) for one in (merged, whole))
    for name, value in wanted.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name
    ours, wanted = asdict(merged.threshold_free()), asdict(whole.threshold_free())
    assert ours.pop("image_auroc") == pytest.approx(wanted.pop("image_auroc"), nan_ok=True)
    assert ours == wanted
    assert merged.random_iou(0.3) == whole.random_iou(0.3)
    assert merged.objects(0.3) == whole.objects(0.3) and merged.objects(0.3).images == 20
    assert merged.human_scores() == whole.human_scores() and merged.human_scores().images == 20
    assert asdict_of(merged.blind()) == pytest.approx(asdict_of(whole.blind()), abs=1e-12)
    assert (merged.score_table == whole.score_table).all() and merged.score_pairs == whole.score_pairs


def asdict_of(blind: dict[str, BlindFigures]) -> dict[str, float]:
    return {
        f"{name} {measure} {end}": getattr(getattr(figures, measure), end)
        for name, figures in blind.items()
        for measure in ("iou_fg", "average_precision")
        for end in ("value", "low", "high")
    }


def test_many_images_leave_sums_only():
    """The figures are the same, the intervals nearly; memory does not depend on the number of images."""
    kept, summed = streamed(list(range(20))), StreamedEvaluation(rows=5)
    for number in range(20):
        summed.add(number, Mask(TRUTH[number]), SCORES[number], where="")
    assert summed._counts._rows is None
    wanted, found = asdict(kept.evaluation(0.3)), asdict(summed.evaluation(0.3))
    for name in ("iou_fg", "miou_2class", "iou_per_image", "f1", "precision", "recall", "recall_per_image"):
        assert found[name]["value"] == pytest.approx(wanted[name]["value"], abs=1e-12)
        for end in ("low", "high"):
            assert found[name][end] == pytest.approx(wanted[name][end], abs=0.01)
    assert found["without_region"] == wanted["without_region"]
    assert summed.best_threshold() == kept.best_threshold()


def test_parts_that_do_not_fit_each_other():
    with pytest.raises(EvaluationError, match="both have the image number 3"):
        streamed([1, 3]).merge(streamed([3, 4]))
    with pytest.raises(EvaluationError, match="same thresholds and seed"):
        streamed([1]).merge(streamed([2], (0.4,)))


def test_clean_images_and_threshold_free_figures_by_hand():
    found = StreamedEvaluation((0.5,))
    truth = np.array([[1, 1, 0, 0]], np.bool_)
    found.add(0, Mask(truth), np.array([[1.0, 0, 1, 0]]), where="")
    found.add(1, Mask(~np.ones_like(truth)), np.array([[1.0, 0, 0, 0]]), where="")
    found.add(2, Mask(~np.ones_like(truth)), np.zeros((1, 4)), where="")
    evaluation = found.evaluation(0.5)
    assert evaluation.clean is not None and evaluation.clean.images == 2
    assert evaluation.clean.area.value == 1 / 8 and evaluation.clean.marked.value == 1 / 2
    assert evaluation.f1_per_image.value == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert evaluation.without_region == pytest.approx(1 / 3)
    free = found.threshold_free()
    assert free.auroc.value == pytest.approx((8 + 2 / 2 + 8 / 2) / 20)  # one positive beats 8 and ties 2
    assert free.average_precision.value == pytest.approx((1 / 3 + 2 / 12) / 2)
    assert free.brier.value == pytest.approx(3 / 12) and free.calibration_error.value == pytest.approx(
        1 / 12 + 2 / 12
    )
    assert free.image_auroc.value == free.image_average_precision.value == 1  # 1/2 against 1/4 and 0
    only = StreamedEvaluation((0.5,))
    only.add(0, Mask(truth), np.zeros((1, 4)), where="")
    assert only.evaluation(0.5).clean is None


@pytest.mark.parametrize("wrong", [math.nan, -0.1, 1.5])
def test_scores_that_are_none(wrong: float):
    with pytest.raises(EvaluationError, match=r"a\.tar, b: scores must be numbers from 0 to 1"):
        StreamedEvaluation().add(0, Mask(TRUTH[0]), np.full((9, 11), wrong), where="a.tar, b")
    with pytest.raises(EvaluationError, match=r"a\.tar, b: scores \(9, 10\) and mask \(9, 11\)"):
        StreamedEvaluation().add(0, Mask(TRUTH[0]), np.zeros((9, 10)), where="a.tar, b")
    with pytest.raises(EvaluationError, match="no images"):
        StreamedEvaluation().evaluation(0.5)


def samples(sizes: list[tuple[int, int]]) -> Iterator[LabelledSample]:
    for number, size in enumerate(sizes):
        yield LabelledSample(
            "", str(number), "", np.zeros((*size, 3), np.uint8), Mask(np.zeros(size, np.bool_))
        )


def test_batches_of_equal_sizes():
    found = list(batches(samples([(4, 4)] * 7), 3))
    assert [[number for number, _ in batch] for batch in found] == [[0, 1, 2], [3, 4, 5], [6]]


def test_batches_of_mixed_sizes():
    """Every image once, one size a batch; images of rare sizes do not wait for ever."""
    sizes = (
        [(4, 4 + number % 5) for number in range(200)] + [(9, 9)] + [(4, 10 + number) for number in range(30)]
    )
    found = list(batches(samples(sizes), 3))
    assert sorted(number for batch in found for number, _ in batch) == list(range(231))
    for batch in found:
        assert len({sample.image.shape for _, sample in batch}) == 1 and len(batch) <= 3
    assert [len(batch) for batch in found[:60]] == [3] * 60
    place = next(place for place, batch in enumerate(found) if batch[0][0] == 200)
    assert place < len(found) - 3 * MOST_WAITING


def test_images_are_not_kept():
    """Of 300 images, those that wait for a batch and those of the baseline are alive, and no others."""
    made: list[weakref.ref[np.ndarray]] = []
    most = 0

    def tracked() -> Iterator[LabelledSample]:
        for sample in samples([(8, 8 + number % 3) for number in range(300)]):
            made.append(weakref.ref(sample.image))
            yield sample

    found = StreamedEvaluation((0.5,), baseline_pixels=10 * 80)
    for batch in batches(tracked(), 4):
        for number, sample in batch:
            found.add(number, sample.mask, np.zeros(sample.mask.inside.shape, np.float32), where="")
        most = max(most, sum(image() is not None for image in made))
    assert found.images == len(made) == 300 and most <= (MOST_WAITING + 2) * 4
    assert found.baseline_images <= 12
