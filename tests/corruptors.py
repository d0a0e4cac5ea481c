"""Corruptors with the settings that most tests share."""

from __future__ import annotations

from typing import Any

from actors.corruption.config import CorruptionConfig
from actors.corruption.corruptor import Corruptor
from actors.corruption.verifier_config import VerifierConfig
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.model import DiffusionModel

ONE_ITERATION = InversionConfig(mode="renoise", iterations=1, averaging=False, regularisation=False)
"""Two UNet evaluations per inversion step."""

CORRUPTION = CorruptionConfig(inversion_steps=6, inversion=ONE_ITERATION, batch_size=4)
VERIFY = VerifierConfig(changed_threshold=0.3, least_inside=0.05, most_outside=1.0, margin=0)
UNCHANGED = {"changed_threshold": 0.99, "least_inside": 1.0}
"""Limits of the verifier by which every draw is refused as unchanged."""

SPILLED = {"changed_threshold": 1e-6, "least_inside": 0.0, "most_outside": 0.0}
"""Limits of the verifier by which every draw is refused as spilled."""


def corruptor(model: DiffusionModel, *, seed: int = 7, **changes: Any) -> Corruptor:
    """A corruptor with `CORRUPTION` and `VERIFY`, where `changes` sets no key of either."""
    if changes.get("target") == "image":
        changes.setdefault("inversion", InversionConfig())
    verify = {key: changes.pop(key) for key in list(changes) if key in VerifierConfig.model_fields}
    return Corruptor(
        model,
        CorruptionConfig(**{**dict(CORRUPTION), **changes}),
        VerifierConfig(**{**dict(VERIFY), **verify}),
        seed=seed,
    )
