"""Validation: the same figures as `eval` gives for the same scores."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from actors.errors import BadSample
from actors.images import encode_image
from actors.segmentation.normalisation import Normalisation
from eval import metrics
from eval.evaluate import CANDIDATES, best_threshold
from tests.train.data.data_sets import write_tar
from tests.train.small import data_of, tar_of
from train import segmentation_validation
from train.data.reading import Reader
from train.distributed import Workers
from train.segmentation_validation import validate

PLAIN = Normalisation(1.0, (0.0,) * 3, (1.0,) * 3)


class RedAsScore(nn.Module):
    """The artifact's probability is the red channel by 255; remembers the shapes that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, pixels: Tensor) -> SimpleNamespace:
        self.shapes.append(tuple(pixels.shape))
        score = (pixels[:, 0].double() / 255).clamp(1e-12, 1 - 1e-12)
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(score), score.logit()], 1).float())


def scores_of(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.no_grad():
        logits = RedAsScore()(torch.from_numpy(images).permute(0, 3, 1, 2).float()).logits
    return np.asarray(logits.softmax(1)[:, 1])


def drawn(count: int, side: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Red is higher within the mask, with much overlap."""
    rng = np.random.default_rng(seed)
    masks = rng.random((count, side, side)) < 0.3
    images = rng.integers(0, 200, (count, side, side, 3), dtype=np.uint8)
    images[masks] += 55
    return images, masks


def reader_of(tar: Path) -> Reader:
    return Reader(data_of(tar))


def test_the_figures_of_eval(tmp_path: Path) -> None:
    images, masks = drawn(20, 16, 0)
    reader = reader_of(tar_of(tmp_path / "v.tar", list(zip(images, masks, strict=True))))
    found = validate(RedAsScore(), reader, PLAIN, Workers(), decoders=2)
    scores = scores_of(images)
    threshold = best_threshold(masks, scores)
    table = metrics.counts(masks, scores >= threshold)
    assert found.threshold == threshold and found.value == found.figures["iou_fg"]
    assert found.figures == {
        "iou_fg": pytest.approx(metrics.pooled_iou(table)),
        "threshold": threshold,
        "iou_fg_at_0.5": pytest.approx(metrics.pooled_iou(metrics.counts(masks, scores >= 0.5))),
        "precision": pytest.approx(metrics.precision(table).value),
        "recall": pytest.approx(metrics.recall(table).value),
    }
    assert 0.2 < found.value < 0.9 and threshold != 0.5


def test_a_score_on_a_threshold_reaches_it() -> None:
    """Scores are float32, and so is every candidate."""
    thresholds = torch.tensor(CANDIDATES)
    scores = torch.stack([thresholds, thresholds.nextafter(torch.zeros(()))]).view(2, 1, -1)
    labels = torch.tensor([[1] * 49, [0] * 49]).view(2, 1, -1)
    table = segmentation_validation._histogram(scores, labels, thresholds)
    assert table.tolist() == [[1.0] * 49 + [0.0], [0.0] + [1.0] * 49]


def test_unequal_sizes_and_all_workers_together(tmp_path: Path) -> None:
    sets = [drawn(5, 16, 1), drawn(3, 24, 2), drawn(2, 16, 3)]
    pairs = [pair for images, masks in sets for pair in zip(images, masks, strict=True)]
    reader = reader_of(tar_of(tmp_path / "v.tar", pairs))
    net = RedAsScore()
    found = validate(net, reader, PLAIN, Workers(), decoders=1)
    assert net.shapes == [(5, 3, 16, 16), (3, 3, 24, 24), (2, 3, 16, 16)]
    curve = []
    for threshold in CANDIDATES:
        sums = sum(metrics.counts(masks, scores_of(images) >= threshold).sum(0) for images, masks in sets)
        curve.append(float(sums[0] / sums.sum()))
    assert found.value == pytest.approx(max(curve)) and found.threshold == CANDIDATES[int(np.argmax(curve))]

    class Collected(Workers):
        """Sums up what the workers before it had."""

        def total(self, values: object) -> Tensor:
            tables.append(torch.as_tensor(values))
            return sum(tables, torch.zeros(2, 50, dtype=torch.float64))

    tables: list[Tensor] = []
    for rank in range(4):
        shared = validate(RedAsScore(), reader, PLAIN, Collected(rank, 4), decoders=1)
    assert shared == found and all(table.sum() > 0 for table in tables)


def test_ignored_pixels_do_not_count(tmp_path: Path) -> None:
    """The left half is ignored: the right half alone has the same counts."""
    images, masks = drawn(4, 16, 4)
    labels = np.where(masks, 1, 0).astype(np.int64)
    labels[:, :, :8] = 255
    scores = torch.from_numpy(scores_of(images))
    thresholds = torch.tensor(CANDIDATES)
    table = segmentation_validation._histogram(scores, torch.from_numpy(labels), thresholds)
    half = segmentation_validation._histogram(
        scores[:, :, 8:], torch.from_numpy(labels[:, :, 8:]), thresholds
    )
    assert torch.equal(table, half) and int(table.sum()) == 4 * 16 * 8


@pytest.mark.parametrize(
    ("masks", "red", "figures"),
    [
        # Nothing is there and nothing is found: 1 by the rule of eval. The smallest threshold of equals.
        (0, 0, {"iou_fg": 1, "threshold": 0.02, "iou_fg_at_0.5": 1, "precision": 1, "recall": 1}),
        (0, 255, {"iou_fg": 0, "threshold": 0.02, "iou_fg_at_0.5": 0, "precision": 0, "recall": 0}),
        (1, 0, {"iou_fg": 0, "threshold": 0.02, "iou_fg_at_0.5": 0, "precision": 0, "recall": 0}),
        (1, 255, {"iou_fg": 1, "threshold": 0.02, "iou_fg_at_0.5": 1, "precision": 1, "recall": 1}),
    ],
)
def test_extremes(tmp_path: Path, masks: int, red: int, figures: dict[str, float]) -> None:
    image = np.full((8, 8, 3), red, np.uint8)
    reader = reader_of(tar_of(tmp_path / "v.tar", [(image, np.full((8, 8), masks, np.bool_))]))
    assert validate(RedAsScore(), reader, PLAIN, Workers(), decoders=1).figures == figures


def test_large_images_go_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation_validation, "_LARGEST", 600)
    images, masks = drawn(5, 16, 5)
    net = RedAsScore()
    reader = reader_of(tar_of(tmp_path / "v.tar", list(zip(images, masks, strict=True))))
    validate(net, reader, PLAIN, Workers(), decoders=1)
    assert [shape[0] for shape in net.shapes] == [2, 2, 1]
    monkeypatch.setattr(segmentation_validation, "_LARGEST", 10)
    net = RedAsScore()
    validate(net, reader, PLAIN, Workers(), decoders=1)
    assert [shape[0] for shape in net.shapes] == [1] * 5


def test_a_bad_sample_is_named(tmp_path: Path) -> None:
    tar = write_tar(
        tmp_path / "v.tar", ("a.png", encode_image(np.zeros((8, 8, 3), np.uint8))), ("a.mask.png", b"x")
    )
    with pytest.raises(BadSample, match=f"{tar}, a: mask: the mask: not a PNG"):
        validate(RedAsScore(), reader_of(tar), PLAIN, Workers(), decoders=1)
