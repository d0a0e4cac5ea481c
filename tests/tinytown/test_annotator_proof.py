"""The annotator's figures on images that went through the VAE: clean ones, and ones with known damage."""

from __future__ import annotations

import pytest

from tests.tinytown.planted import KINDS
from tests.tinytown.proof import measure, measure_clean, outside_share

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


def test_clean_renders_stay_almost_unmarked():
    shares = measure_clean(200)
    print(f"\nclean renders: {shares.mean():.2%} of the area marked, at most {shares.max():.1%}")
    assert shares.mean() <= 0.01


def test_planted_damage_is_found_where_it_is():
    findings = []
    for kind in KINDS:
        findings.append(measure(kind, 100))
        print(f"\n{findings[-1]}", end="")
    outside = outside_share(findings)
    print(f"\noutside, all kinds: {outside:.1%}")
    missed = [str(finding) for finding in findings if finding.found < 0.9 * finding.plants]
    assert not missed
    assert outside <= 0.1
