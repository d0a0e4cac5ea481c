"""How well a small classifier separates injected artifacts from wild ones: AUC 0.5 is chance, 1 is perfect.

The classifier is trained on some images and tested on others. Everything is drawn from a seed, so that the same
crops give the same figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from actors.connected import connected
from actors.errors import EvaluationError
from eval.metrics import Interval

SIDE = 24
"""Of a crop, in pixels."""

SMALLEST = 12
"""Pixels that a region needs in order to be cropped."""

FOLDS = 5
STEPS = 600
"""Of training, for each fold."""

_BATCH, _LEARNING_RATE = 64, 3e-3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Crops:
    """Square cut-outs around regions.

    Attributes:
        images: uint8 [N, SIDE, SIDE, 3].
        groups: int64 [N], the number of the image that each comes from.
    """

    images: NDArray[np.uint8]
    groups: NDArray[np.int64]

    def of(self, groups: NDArray[np.int64]) -> Crops:
        """The crops of some images only."""
        chosen = np.isin(self.groups, groups)
        return Crops(self.images[chosen], self.groups[chosen])


def crop(images: NDArray[np.uint8], masks: NDArray[np.bool_], *, most: int = 3) -> Crops:
    """Cuts out a square around every region.

    Args:
        images: uint8 [N, H, W, 3], at least `SIDE` pixels wide and high.
        masks: bool [N, H, W]; a region is a component of neighbours, by corners too, of at least `SMALLEST` pixels.
        most: regions per image at most; the largest are taken.

    Returns:
        Crops centred on the middle of each region's bounding box, moved where they would reach out of the image.
    """
    cut, groups = [], []
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        labels, count = connected(mask)
        places = ndimage.find_objects(labels)
        areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        for region in np.argsort(-areas, kind="stable")[:most]:
            if areas[region] < SMALLEST:
                break
            rows, columns = places[region]
            top = _first(rows, image.shape[0])
            left = _first(columns, image.shape[1])
            cut.append(image[top : top + SIDE, left : left + SIDE])
            groups.append(number)
    crops = np.stack(cut) if cut else np.zeros((0, SIDE, SIDE, 3), np.uint8)
    return Crops(crops, np.array(groups, np.int64))


def auc(positive: Floats, negative: Floats) -> float:
    """Share of pairs in which the positive has the higher score; equal scores count half.

    Args:
        positive, negative: scores, float [N] and [M], neither of them empty.
    """
    return float(_wins(positive, negative).mean())


def tell_apart(
    injected: Crops, wild: Crops, *, seed: int = 0, steps: int = STEPS, draws: int = 1000
) -> Interval:
    """AUC of a small network that separates injected from wild crops; none is trained on the image that it judges.

    Scores of different networks have different scales, so only pairs of one fold are compared.

    Args:
        injected, wild: of at least `FOLDS` images each.
        seed: of folds, training and bootstrap.
        steps: of training.
        draws: of the bootstrap over images, which gives the 95 % interval; the networks are not trained anew.

    Raises:
        EvaluationError: too few images.
    """
    rng = np.random.default_rng(seed)
    folds = [_folds(crops, rng) for crops in (injected, wild)]
    wins, pairs = [], []
    for fold in range(FOLDS):
        inside = [crops.of(each[fold]) for crops, each in zip((injected, wild), folds, strict=True)]
        others = [
            crops.of(np.concatenate(each[:fold] + each[fold + 1 :]))
            for crops, each in zip((injected, wild), folds, strict=True)
        ]
        net = _train(others[0].images, others[1].images, steps, seed * FOLDS + fold)
        won = _wins(*(_scores(net, crops.images) for crops in inside))
        by_image = [_membership(crops.groups) for crops in inside]
        wins.append(by_image[0].T @ won @ by_image[1])
        pairs.append(by_image[0].T @ np.ones_like(won) @ by_image[1])
    value = sum(one.sum() for one in wins) / sum(one.sum() for one in pairs)
    spread = [_resampled(wins, pairs, rng) for _ in range(draws)]
    low, high = np.quantile(spread, (0.025, 0.975))
    return Interval(float(value), float(low), float(high))


def halves(crops: Crops, *, seed: int = 0) -> tuple[Crops, Crops]:
    """Two halves by image, for the control: both are of one kind, so they cannot be separated."""
    groups = np.random.default_rng(seed).permutation(np.unique(crops.groups))
    middle = len(groups) // 2
    return crops.of(groups[:middle]), crops.of(groups[middle:])


def _first(place: slice, side: int) -> int:
    middle = (place.start + place.stop) // 2
    return int(min(max(middle - SIDE // 2, 0), side - SIDE))


def _folds(crops: Crops, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    groups = np.unique(crops.groups)
    if len(groups) < FOLDS:
        raise EvaluationError(f"there are crops of {len(groups)} images; at least {FOLDS} are needed")
    return [part.astype(np.int64) for part in np.array_split(rng.permutation(groups), FOLDS)]


def _wins(positive: Floats, negative: Floats) -> Floats:
    """For every pair 1 where the positive has the higher score, 0.5 where they are equal: [N, M]."""
    won: Floats = (np.sign(positive[:, None] - negative[None, :]) + 1) / 2
    return won


def _membership(groups: NDArray[np.int64]) -> Floats:
    """1 where a crop is of an image: [crops, images]."""
    member: Floats = (groups[:, None] == np.unique(groups)[None, :]).astype(np.float64)
    return member


def _resampled(wins: list[Floats], pairs: list[Floats], rng: np.random.Generator) -> float:
    """The AUC after drawing each fold's images anew; `wins` and `pairs` are [injected images, wild images]."""
    won = total = 0.0
    for win, pair in zip(wins, pairs, strict=True):
        times = [rng.multinomial(count, np.full(count, 1 / count)) for count in win.shape]
        won += float(times[0] @ win @ times[1])
        total += float(times[0] @ pair @ times[1])
    return won / total


def _train(injected: NDArray[np.uint8], wild: NDArray[np.uint8], steps: int, seed: int) -> nn.Module:
    """A network of 19,000 weights; every batch holds as many crops of either kind, half of them mirrored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            # The first layer keeps every pixel: what gives injection away may be a texture.
            *(nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32), nn.ReLU()),
            *(nn.Conv2d(32, 48, 3, stride=2, padding=1), nn.GroupNorm(4, 48), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(48, 1)),
        )
        pools = [_tensor(injected), _tensor(wild)]
        optimizer = torch.optim.AdamW(net.parameters(), lr=_LEARNING_RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps)
        truth = torch.arange(_BATCH) < _BATCH // 2
        for _ in range(steps):
            batch = torch.cat([pool[torch.randint(len(pool), (_BATCH // 2,))] for pool in pools])
            mirrored = torch.rand(_BATCH) < 0.5
            batch[mirrored] = batch[mirrored].flip(3)
            loss = F.binary_cross_entropy_with_logits(net(batch)[:, 0], truth.float())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.no_grad()
def _scores(net: nn.Module, images: NDArray[np.uint8]) -> Floats:
    """Logits, float64 [N]; the mean of a crop and its mirror image."""
    pixels = _tensor(images)
    both: Floats = (net(pixels) + net(pixels.flip(3)))[:, 0].double().numpy()
    return both


def _tensor(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)
