"""95 % intervals over images: a bootstrap of rows in memory, and one of running sums whose memory is fixed.

Both resample images, never pixels: the pixels of an image are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError

RESAMPLES = 2000
CONFIDENCE = 0.95

REPLICATES = 1000
"""Resamples of `ResampledSums`."""

_AT_ONCE = 200
"""Resamples whose weights are held at a time."""

_BUFFERED = 64
"""Images whose rows wait for one matrix product."""

Values = NDArray[np.float64]
Measure = Callable[[Values], Values]
"""Figures [R] of column sums [R, C], or [...] of [..., C]; nan where a figure is undefined."""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % percentile bootstrap interval over images."""

    value: float
    low: float
    high: float


def bootstrap(table: NDArray[np.int64] | Values, measure: Measure, seed: int, resamples: int) -> Interval:
    """A measure of the column sums, and its percentiles over images drawn with replacement.

    Args:
        table: [N, C], a row per image.
        measure: gives [R] for sums [R, C].
        seed: of the resamples. Tables of equally many images are resampled alike.
        resamples: their number.
    """
    return resampled(table, seed, resamples)(measure)


def resampled(
    table: NDArray[np.int64] | Values, seed: int = 0, resamples: int = RESAMPLES
) -> Callable[[Measure], Interval]:
    """`bootstrap` for several measures of the same table, whose images are drawn once."""
    rows = table.astype(np.float64)
    whole = rows.sum(axis=0)[None]
    sums = np.concatenate([weights @ rows for weights in resample_weights(len(rows), seed, resamples)])
    return lambda measure: interval_of(float(measure(whole)[0]), measure(sums))


def resample_weights(images: int, seed: int, resamples: int) -> Iterator[Values]:
    """How often every image is drawn in each resample: float64 [R, N], a block of resamples at a time."""
    rng = np.random.default_rng(seed)
    even = np.full(images, 1 / images)
    for first in range(0, resamples, _AT_ONCE):
        weights = rng.multinomial(images, even, size=min(_AT_ONCE, resamples - first))
        yield weights.astype(np.float64)


def interval_of(value: float, replicates: Values) -> Interval:
    """A figure with the percentiles of its replicates; undefined ones (nan) are left out, all nan if all are."""
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return Interval(value, float("nan"), float("nan"))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


class ResampledSums:
    """Sums over images, plain and in Poisson resamples: intervals whose memory does not grow with the images.

    In each resample an image has a weight drawn from a Poisson distribution of mean 1, which depends on the seed
    and the image's number only (Chamandy et al., "Estimating uncertainty for massive data streams", 2012). So parts
    of a set add up to the whole, in any order, and two detectors are resampled alike. Sums of whole numbers below
    2^53 are exact.

    Args:
        columns: numbers per image.
        seed: of the weights.
        replicates: number of resamples.
    """

    def __init__(self, columns: int, *, seed: int = 0, replicates: int = REPLICATES) -> None:
        self.seed, self.images = seed, 0
        self._totals = np.zeros(columns)
        self._resampled = np.zeros((replicates, columns))
        self._numbers: list[int] = []
        self._rows: list[Values] = []

    def add(self, number: int, row: NDArray[np.float64] | NDArray[np.int64]) -> None:
        """Add an image.

        Args:
            number: of the image, not negative and unique in the set, whichever worker adds it.
            row: [C].
        """
        self.images += 1
        self._numbers.append(number)
        self._rows.append(row.astype(np.float64))
        if len(self._rows) == _BUFFERED:
            self._flush()

    def merge(self, other: ResampledSums) -> None:
        """Add what another worker has of other images of the same set.

        Raises:
            EvaluationError: its seed, columns or replicates are others.
        """
        if (self.seed, self._resampled.shape) != (other.seed, other._resampled.shape):
            raise EvaluationError(
                f"only sums of the same seed, replicates and columns can be merged: found seed {self.seed} with "
                f"{self._resampled.shape}, and seed {other.seed} with {other._resampled.shape}"
            )
        self._flush()
        other._flush()
        self.images += other.images
        self._totals += other._totals
        self._resampled += other._resampled

    @property
    def totals(self) -> Values:
        """Plain sums, float64 [C]."""
        self._flush()
        return self._totals.copy()

    def value(self, measure: Measure) -> float:
        """A measure of the plain sums."""
        return float(measure(self.totals[None])[0])

    def replicates(self, measure: Measure) -> Values:
        """The measure in every resample, float64 [R]."""
        self._flush()
        return np.concatenate(
            [
                measure(self._resampled[first : first + _AT_ONCE])
                for first in range(0, len(self._resampled), _AT_ONCE)
            ]
        )

    def interval(self, measure: Measure) -> Interval:
        """A measure with its interval."""
        return interval_of(self.value(measure), self.replicates(measure))

    def _flush(self) -> None:
        if not self._rows:
            return
        rows = np.stack(self._rows)
        weights = np.stack([self._weights(number) for number in self._numbers])
        self._totals += rows.sum(axis=0)
        self._resampled += weights.T @ rows
        self._numbers, self._rows = [], []

    def _weights(self, number: int) -> Values:
        rng = np.random.default_rng((self.seed, number))
        return rng.poisson(1.0, len(self._resampled)).astype(np.float64)


def ratio(part: Values, whole: Values) -> Values:
    """`part / whole`, nan where `whole` is 0."""
    undefined = np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan)
    divided: Values = np.divide(part, whole, out=undefined, where=whole != 0)
    return divided
