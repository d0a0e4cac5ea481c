"""Rank correlation with the scores of annotators, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from eval.human_scores import ScorePairs


def test_against_scipy_from_parts():
    rng = np.random.default_rng(0)
    predicted = rng.integers(0, 20, 60) / 20  # with ties
    human = 1 - predicted + rng.normal(0, 0.3, 60)
    whole, parts = ScorePairs(), [ScorePairs(), ScorePairs()]
    for number in range(60):
        whole.add(number, float(predicted[number]), float(human[number]))
        parts[number % 2].add(number, float(predicted[number]), float(human[number]))
    parts[1].merge(parts[0])
    found = whole.figures()
    assert found.images == 60
    assert found.spearman.value == pytest.approx(spearmanr(predicted, human).statistic, abs=1e-12)
    assert found.spearman.low < found.spearman.value < found.spearman.high < 0
    assert parts[1].figures() == found


def test_none_without_scores_and_a_sample_of_many():
    assert ScorePairs().figures() is None
    few = ScorePairs(most=7)
    for number in range(50):
        few.add(number, number / 50, number / 50)
    assert few.figures().images == 7 and few.figures().spearman.value == pytest.approx(1)
