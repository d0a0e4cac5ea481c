"""The settings of a corruption: what they name exists, and what does not fit together is refused."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from actors.corruption.config import CorruptionConfig
from actors.corruption.methods import METHODS
from actors.corruption.verifier_config import VerifierConfig
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.model import DTYPES

PUBLISHED = InversionConfig(mode="published")


def test_every_name_stands_for_something():
    names = {key: get_args(CorruptionConfig.model_fields[key].annotation) for key in ("method", "dtype")}
    assert names == {"method": tuple(METHODS), "dtype": tuple(DTYPES)}


def test_every_k_at_which_a_region_may_be_drawn():
    assert CorruptionConfig().steps == (10,)
    assert CorruptionConfig(inversion_steps=5, deeper=[8, 13]).steps == (5, 8, 13)
    assert CorruptionConfig(target="image").steps == (0,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "melt"}, "method\n  Input should be 'noise', 'gaussian'"),
        ({"target": "sky"}, "target\n  Input should be 'intermediate' or 'image'"),
        ({"target": "image", "deeper": [20]}, "deeper\n  allowed: nothing but the default, since"),
        ({"inversion_steps": 51}, r"inversion_steps\n  allowed: at most inference_steps \(50\)"),
        ({"inversion_steps": 0}, "inversion_steps\n  Input should be greater than or equal to 1"),
        ({"deeper": [20, 60]}, r"deeper\n  allowed: whole numbers that rise, above inversion_steps \(10\)"),
        ({"deeper": [20, 15]}, r"deeper\n  allowed: whole numbers that rise, above inversion_steps \(10\)"),
        ({"deeper": [10]}, r"deeper\n  allowed: whole numbers that rise, above inversion_steps \(10\)"),
        ({"guidance_scale": 0.5}, "guidance_scale\n  Input should be greater than or equal to 1"),
        (
            {"guidance_scale": 2.0, "prompt": "caption", "inversion": PUBLISHED},
            "guidance_scale\n  allowed: 1 with regularised inversion",
        ),
        ({"guidance_scale": 2.0}, "prompt\n  allowed: caption, since guidance_scale leads away from"),
    ],
)
def test_impossible_corruptions(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        CorruptionConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baseline": "sky"}, "baseline\n  Input should be 'passage', 'autoencoder' or 'original'"),
        ({"attempts": 0}, "attempts\n  Input should be greater than or equal to 1"),
        ({"limits": 1}, "limits\n  Extra inputs are not permitted"),
    ],
)
def test_impossible_verdicts(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        VerifierConfig(**settings)
