"""Rejects images in which a detector already finds artifacts: their masks would not cover all artifacts."""

from __future__ import annotations

from collections.abc import Sequence

from actors.batch import Sample
from actors.errors import Reject
from actors.segmentation.scoring import Scores, scored
from actors.selection_config import SelectionConfig
from actors.stage_names import StageName


class ArtifactFilter:
    """Checks the clean images for artifacts. Works on any number of samples; rejected ones pass through.

    Args:
        config: the detector's threshold, and the share of the image that may already be artifacts.
        scores: the artifact's probability by the detector that the config names; see `actors.segmentation.scoring`.
        batch_size: images that are decoded and scored together.
    """

    def __init__(self, config: SelectionConfig, scores: Scores, *, batch_size: int = 8) -> None:
        assert config.largest_artifact_area is not None
        self.threshold = config.detector_threshold
        self.largest_area = config.largest_artifact_area
        self.scores = scores
        self.batch_size = batch_size

    def __call__(self, samples: Sequence[Sample]) -> list[Sample]:
        """Rejects with the reason `artifacts_already` what is above the largest area."""
        alive = [sample for sample in samples if not sample.rejected]
        found = scored(
            alive, self.scores, batch_size=self.batch_size, stage=StageName.SELECT, network="detector"
        )
        for sample, score in found:
            self._check(sample, float((score >= self.threshold).mean()))
        return list(samples)

    def _check(self, sample: Sample, area: float) -> None:
        if area > self.largest_area:
            detail = (
                f"the detector sees artifacts on {area:.2%} of the image; at most {self.largest_area:.2%}"
            )
            sample.reject(StageName.SELECT, Reject("artifacts_already", detail))
