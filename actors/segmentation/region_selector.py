"""Chooses the regions to corrupt: from the source's own masks, by a segmentation model, or none at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.batch import Sample
from actors.connected import connected
from actors.errors import Reject
from actors.images import encode_mask, read_image, read_mask
from actors.seeding import seed_for
from actors.segmentation.regions_config import RegionsConfig
from actors.segmentation.scoring import Scores, scored
from actors.stage_names import StageName


class RegionSelector:
    """Fills `mask`, or rejects. Works on any number of samples; rejected ones pass through.

    Args:
        config: kind of the regions, threshold, areas and batch size. With the kind `none` every mask is empty, also
            where the source gives one, and nothing is rejected.
        scores: of the segmenter that the config names, see `actors.segmentation.scoring`; None for the other kinds.
        seed: of the run; which regions are chosen follows from it and from the sample's key.
    """

    def __init__(self, config: RegionsConfig, scores: Scores | None = None, *, seed: int = 0) -> None:
        self.config = config
        self.scores = scores
        self.seed = seed

    def __call__(self, samples: Sequence[Sample]) -> list[Sample]:
        alive = [sample for sample in samples if not sample.rejected]
        if self.config.kind == "none":
            for sample in alive:
                assert sample.image is not None, sample.key
                sample.mask = encode_mask(np.zeros(read_image(sample.image).shape[:2], np.bool_))
            return list(samples)
        if self.scores is not None:
            found = scored(
                alive,
                self.scores,
                batch_size=self.config.batch_size,
                stage=StageName.SELECT_REGION,
                network="segmenter",
            )
            for sample, score in found:
                sample.mask = encode_mask(score >= self.config.threshold)
        for sample in alive:
            if sample.rejected:
                continue
            try:
                self._check(sample)
                if self.config.share < 1:
                    self._choose(sample)
            except Reject as why:
                sample.reject(StageName.SELECT_REGION, why)
        return list(samples)

    def _check(self, sample: Sample) -> None:
        if sample.mask is None:
            raise Reject(
                "no_mask", "the source gives no mask for this item, and the recipe asks for its masks"
            )
        area = float(read_mask(sample.mask).mean())
        if area == 0:
            raise Reject("no_region", "no pixel is inside the region")
        if area < self.config.smallest_area:
            raise Reject(
                "region_too_small",
                f"the region has {area:.2%} of the image; at least {self.config.smallest_area:.2%}",
            )
        if area > self.config.largest_area:
            raise Reject(
                "region_too_large",
                f"the region has {area:.2%} of the image; at most {self.config.largest_area:.2%}",
            )

    def _choose(self, sample: Sample) -> None:
        """Keeps a random part of the regions: each with probability `share`, by a draw in [0, 1) below it.

        Where these cover less than `smallest_area`, the regions with the next larger draws are kept as well, so that
        `share` rejects no image.
        """
        assert sample.mask is not None
        number, sample.candidates = connected(read_mask(sample.mask))
        areas = np.bincount(number.ravel(), minlength=sample.candidates + 1)[1:] / number.size
        draws = [
            seed_for(self.seed, sample.key, "region", place) / 2**63 for place in range(sample.candidates)
        ]
        kept: list[int] = []
        for place in np.argsort(draws, kind="stable"):
            if draws[place] >= self.config.share and kept and areas[kept].sum() >= self.config.smallest_area:
                break
            kept.append(int(place))
        sample.regions = len(kept)
        sample.mask = encode_mask(np.isin(number, np.add(kept, 1)))
