"""A sample on its way through the factory. Encoded bytes travel, never raw pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.errors import Reject
from actors.stage_names import StageName

METRICS = (
    "mask_area",
    "changed_area",
    "change_inside",
    "change_outside",
    "difference_inside",
    "difference_outside",
)
"""Names of the figures that the verifier gives a sample; see `actors.corruption.verifier`."""

JUDGED_AREA = "judged_area"
"""Name of the further figure of a sample that was judged: the share of the image's pixels in `Sample.judged`."""


@dataclass
class Sample:
    """One planned item. It ends in a shard, or in the rejects with a stage and a reason; it is never dropped.

    Attributes:
        key: unique in the data set, letters, digits, `-` and `_` only.
        source: where it came from, for a person.
        caption: its prompt, or an empty string.
        image: the clean image as PNG, RGB, at the recipe's size.
        mask: the requested region, 1-bit PNG of the image's size; white is inside. All black in a clean negative.
        corrupted: the image with artifacts, PNG.
        changed: where `corrupted` differs from the baseline, 1-bit PNG; see `actors.corruption.verifier`.
        scores: of a detector, the artifact's probability as 16-bit grey PNG of the image's size.
        judged: what changed and is an artifact to the judge, 1-bit PNG; see `actors.corruption.judge`.
        candidates: connected regions that could have been chosen, where only a share of them is.
        regions: connected regions of `mask`, where they are counted.
        broken_regions: those that the judge finds broken.
        seed: the seed of the draw that made `corrupted`.
        attempts: draws made so far.
        inversion_steps: k of the draw that made `corrupted`; 0 where the image latent itself was corrupted.
        unet_rows: UNet evaluations spent on it.
        verified: whether the verifier accepted it; a recipe may keep samples that it did not.
        metrics: by name in `METRICS`, and `JUDGED_AREA`; of a prediction, in `actors.segmentation.marker.METRICS`.
        stage, reason, detail: set together when the item is rejected; the stage is one of `StageName`.
    """

    key: str
    source: str
    caption: str = ""
    image: bytes | None = None
    mask: bytes | None = None
    corrupted: bytes | None = None
    changed: bytes | None = None
    scores: bytes | None = None
    judged: bytes | None = None
    candidates: int = 0
    regions: int = 0
    broken_regions: int = 0
    seed: int = 0
    attempts: int = 0
    inversion_steps: int = 0
    unet_rows: int = 0
    verified: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    stage: str = ""
    reason: str = ""
    detail: str = ""

    @property
    def rejected(self) -> bool:
        """Whether a stage has rejected the item."""
        return bool(self.reason)

    def reject(self, stage: StageName, why: Reject) -> None:
        """Marks the item as rejected by a stage."""
        self.stage, self.reason, self.detail = stage, why.reason, why.detail
