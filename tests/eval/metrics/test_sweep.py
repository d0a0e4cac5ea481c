"""Counts at many thresholds: the same as thresholding for each."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics import counts
from eval.metrics.sweep import counts_at_thresholds, reached, reached_histogram


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_counts_are_those_of_each_threshold(dtype: type[np.floating]):
    rng = np.random.default_rng(0)
    thresholds = (0.0, 0.02, 0.3, 0.5, 0.98, 1.0)
    scores = rng.random((9, 9)).astype(dtype)
    scores[0, : len(thresholds)] = thresholds
    truth, counted = rng.random((9, 9)) < 0.4, rng.random((9, 9)) < 0.8
    levels = reached(scores, thresholds)
    table = reached_histogram(levels, truth & counted, counted, len(thresholds))
    found = counts_at_thresholds(table)
    for place, threshold in enumerate(thresholds):
        wanted = counts((truth & counted)[None], ((scores >= threshold) & counted)[None])[0]
        assert found[place].tolist() == wanted.tolist()
    assert table.sum() == counted.sum()
    together = counts_at_thresholds(np.stack([table, 2 * table]))
    assert np.array_equal(together, np.stack([found, 2 * found]))
