"""The settings of an inversion: their defaults, and which of them a mode has."""

from __future__ import annotations

import pytest

from actors.diffusion.inversion_config import InversionConfig


def test_defaults_are_the_published_ones():
    assert InversionConfig().mode == "fast"
    for mode in ("published", "renoise"):
        assert InversionConfig(mode=mode).resolved == (9, True, True)
    ddim = InversionConfig(mode="published", iterations=0, averaging=False, regularisation=False)
    assert ddim.resolved == (0, False, False)


def test_regularised_inversion_draws_and_allows_no_guidance():
    assert InversionConfig(mode="published").regularised
    assert not InversionConfig(mode="published").allows_guidance
    for config in (InversionConfig(), InversionConfig(mode="renoise", regularisation=False)):
        assert not config.regularised and config.allows_guidance


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "exact"}, "mode\n  Input should be 'fast', 'renoise' or 'published'"),
        ({"iterations": 4}, "iterations\n  allowed: nothing, since corruption.inversion.mode is fast"),
        ({"averaging": False}, "averaging\n  allowed: nothing, since corruption.inversion.mode is fast"),
        ({"regularisation": False}, "regularisation\n  allowed: nothing, since corruption.inversion.mode is"),
        ({"iterations": 0, "regularisation": True}, "2 validation errors"),
        ({"mode": "published", "iterations": -1}, "iterations\n  Input should be greater than or equal to 0"),
        ({"mode": "published", "extra": 1}, "extra\n  allowed: 0, unless corruption.inversion.mode is fast"),
        ({"mode": "renoise", "extra": 1}, "extra\n  allowed: 0, unless corruption.inversion.mode is fast"),
        ({"extra": -1}, "extra\n  Input should be greater than or equal to 0"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        InversionConfig(**settings)
