"""What a corruption changed, measured and judged against its baseline (`verify.baseline`): the uncorrupted round trip,
the image through the autoencoder alone, or the clean image.

`flawforge verify`, which checks an output, is in `factory.maintain`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from actors.corruption.verifier_config import VerifierConfig
from actors.errors import Reject


class Verifier:
    """Measures what a corruption changed, and accepts or refuses it.

    Args:
        config: the limits.
        vae_scale_factor: image pixels per latent pixel along one side; `config.margin` is in latent pixels.

    Attributes:
        margin: pixels around the mask that are not judged: a decoder spreads every change by a few latent pixels.
    """

    def __init__(self, config: VerifierConfig, *, vae_scale_factor: int) -> None:
        self.config = config
        self.margin = config.margin * vae_scale_factor

    def measure(
        self, distance: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], dict[str, float]]:
        """The map of changed pixels, bool [H, W], and the figures named in `actors.batch.METRICS`.

        Shares are of pixels: `mask_area` and `changed_area` of the whole image, `change_inside` of the mask,
        `change_outside` of what lies beyond mask and margin. `difference_*` are means over the same places. With an
        empty mask (a clean negative) what is inside is 0, and `change_outside` equals `changed_area`.

        Args:
            distance: see `difference`.
            mask: bool [H, W], the region.
        """
        changed = distance >= self.config.changed_threshold
        outside = ~widen(mask, self.margin)
        return changed, {
            "mask_area": float(mask.mean()),
            "changed_area": float(changed.mean()),
            "change_inside": _mean(changed[mask]),
            "change_outside": _mean(changed[outside]),
            "difference_inside": _mean(distance[mask]),
            "difference_outside": _mean(distance[outside]),
        }

    def judge(self, metrics: dict[str, float]) -> Reject | None:
        """Why a corruption is refused, or None where it is accepted.

        One that is both is `spilled`: a larger k would spill more.
        """
        inside, outside = metrics["change_inside"], metrics["change_outside"]
        if outside > self.config.most_outside:
            return Reject("spilled", self._spilled(outside, clean=not metrics["mask_area"]))
        if inside < self.config.least_inside:
            return Reject(
                "unchanged",
                f"{inside:.1%} of the region changed; at least {self.config.least_inside:.1%} is asked",
            )
        return None

    def _spilled(self, outside: float, *, clean: bool) -> str:
        most = self.config.most_outside
        if clean:  # its limit may be a few pixels of a large image
            return f"{100 * outside:.3g}% of a clean negative changed; at most {100 * most:.3g}% is allowed"
        return (
            f"{outside:.1%} of the image beyond {self.margin} pixels of the region changed; "
            f"at most {most:.1%} is allowed"
        )


def difference(baseline: NDArray[np.uint8], corrupted: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Difference per pixel in [0, 1]: the largest of the channels, averaged over 3x3 pixels.

    Averaging keeps single flickering pixels from counting as damage.

    Args:
        baseline: uint8 [H, W, 3], what `verify.baseline` names.
        corrupted: the same shape.

    Returns:
        float32 [H, W].
    """
    single = np.abs(baseline.astype(np.int16) - corrupted.astype(np.int16)).max(axis=2)
    padded = np.pad(single.astype(np.float32), 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / np.float32(9 * 255)


def widen(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """The mask and everything within `pixels` of it along both axes (a square neighbourhood)."""
    widened: NDArray[np.bool_] = ndimage.maximum_filter(mask, 2 * pixels + 1, mode="constant")
    return widened


def _mean(values: NDArray[np.bool_] | NDArray[np.float32]) -> float:
    """The mean, and 0 of nothing: an empty mask has no inside that could change, and a full one no outside."""
    return float(values.mean(dtype=np.float64)) if values.size else 0.0
