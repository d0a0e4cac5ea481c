"""Corruptors with the settings that most tests share."""

from __future__ import annotations

from typing import Any

from actors.corruption.config import CorruptionConfig
from actors.corruption.corruptor import Corruptor
from actors.corruption.judge import Judge, Scores
from actors.corruption.judge_config import JudgeConfig
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


def corruptor(
    model: DiffusionModel, *, seed: int = 7, scores: Scores | None = None, **changes: Any
) -> Corruptor:
    """A corruptor with `CORRUPTION` and `VERIFY`, where `changes` sets no key of either.

    Args:
        scores: of the judge that `changes` names.
    """
    if changes.get("target") == "image":
        changes.setdefault("inversion", InversionConfig())
    verify = {key: changes.pop(key) for key in list(changes) if key in VerifierConfig.model_fields}
    config: JudgeConfig | None = verify.get("judge")
    return Corruptor(
        model,
        CorruptionConfig(**{**dict(CORRUPTION), **changes}),
        VerifierConfig(**{**dict(VERIFY), **verify}),
        seed=seed,
        judge=Judge(config, scores, threshold=0.5) if config and scores else None,
    )
