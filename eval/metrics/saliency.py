"""Saliency measures of a predicted map against the map that people marked, as RichHF reports them.

What the truth leaves undefined (nan) does not count: all but MSE where the truth is empty, CC where it is the same
everywhere, AUC-Judd where it is positive everywhere. What a prediction leaves undefined counts as no relation: a
constant prediction has CC 0, NSS 0 and AUC-Judd 0.5.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError
from eval.metrics.bootstrap import REPLICATES, Interval, ResampledSums, Values, ratio
from eval.metrics.ranking import weighted_auroc

EPSILON = 1e-8

Maps = NDArray[np.floating]


@dataclass(frozen=True)
class Saliency:
    """The measures of one image; nan where its truth leaves one undefined.

    Attributes:
        cc: Pearson's correlation.
        sim: sum of min(p, g), both scaled to the sum 1.
        kld: sum of g log(g / (p + e) + e), both scaled to the sum 1, e = 1e-8.
        nss: mean, where g > 0, of the prediction with its mean taken away and divided by its population deviation.
        auc_judd: AUROC of the prediction for g > 0, ties counting half.
        mse: mean squared difference.
        mse_empty: the same, where the truth is empty; else nan.
    """

    cc: float
    sim: float
    kld: float
    nss: float
    auc_judd: float
    mse: float
    mse_empty: float


def saliency(truth: Maps, predicted: Maps, counted: NDArray[np.bool_] | None = None) -> Saliency:
    """The measures of a predicted map.

    Args:
        truth: 0 to 1, [H, W].
        predicted: 0 to 1, [H, W].
        counted: bool [H, W], pixels that are not ignored; None counts all.

    Raises:
        EvaluationError: shapes that differ, no pixel that counts, or values that are not numbers from 0 to 1.
    """
    if truth.shape != predicted.shape:
        raise EvaluationError(f"the maps must have one shape: found {truth.shape} and {predicted.shape}")
    chosen = np.ones(truth.shape, np.bool_) if counted is None else counted
    g, p = truth[chosen].astype(np.float64), predicted[chosen].astype(np.float64)
    if not g.size:
        raise EvaluationError("a map without any pixel that counts cannot be scored")
    for name, one in (("truth", g), ("prediction", p)):
        if not (one.min() >= 0 and one.max() <= 1):  # nan is neither
            raise EvaluationError(
                f"the {name} must be numbers from 0 to 1; found {one.min():g} to {one.max():g}"
            )
    mse, nan = float(((p - g) ** 2).mean()), float("nan")
    marked = g > 0
    if not marked.any():
        return Saliency(nan, nan, nan, nan, nan, mse, mse)
    shares = p / p.sum() if p.any() else p
    truth_shares = g / g.sum()
    standard = _standardised(p)
    return Saliency(
        cc=nan if _is_constant(g) else float((standard * _standardised(g)).mean()),
        sim=float(np.minimum(shares, truth_shares).sum()),
        kld=float((truth_shares * np.log(truth_shares / (shares + EPSILON) + EPSILON)).sum()),
        nss=float(standard[marked].mean()),
        auc_judd=float(weighted_auroc(marked, p, np.ones((1, len(p))))[0]),
        mse=mse,
        mse_empty=nan,
    )


class SaliencyMeans:
    """Means over images of the measures of `Saliency`, each over the images where it is defined; memory is fixed.

    Args:
        seed, replicates: see `eval.metrics.bootstrap.ResampledSums`.
    """

    NAMES = tuple(field.name for field in fields(Saliency))

    def __init__(self, *, seed: int = 0, replicates: int = REPLICATES) -> None:
        self._sums = ResampledSums(2 * len(self.NAMES), seed=seed, replicates=replicates)

    def add(self, number: int, found: Saliency) -> None:
        """Add an image; `number` as for `ResampledSums.add`."""
        values = np.array(list(asdict(found).values()))
        defined = ~np.isnan(values)
        self._sums.add(number, np.concatenate([np.where(defined, values, 0), defined]))

    def merge(self, other: SaliencyMeans) -> None:
        """Add what another worker has of other images; raises EvaluationError for another seed."""
        self._sums.merge(other._sums)

    def figures(self) -> dict[str, Interval]:
        """The mean of each measure by its name; nan where no image defines it."""
        return {name: self._mean(place) for place, name in enumerate(self.NAMES)}

    def images(self) -> dict[str, int]:
        """Over how many images each mean is taken."""
        counts = self._sums.totals[len(self.NAMES) :]
        return {name: int(count) for name, count in zip(self.NAMES, counts, strict=True)}

    def _mean(self, place: int) -> Interval:
        def mean(sums: Values) -> Values:
            return ratio(sums[:, place], sums[:, len(self.NAMES) + place])

        return self._sums.interval(mean)


def _is_constant(values: Values) -> bool:
    # Exact: the deviation of equal numbers need not come out as 0.
    return bool(values.min() == values.max())


def _standardised(values: Values) -> Values:
    if _is_constant(values):
        return np.zeros_like(values)
    centred = values - values.mean()
    standard: Values = centred / np.sqrt((centred**2).mean())
    return standard
