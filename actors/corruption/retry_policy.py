"""The retry policy: which draw follows a refused one, and which rows share a batch. Plain rules, no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

DEEPER_HELPS = frozenset({"unchanged", "legal", "broken_before"})
"""Reasons of the verifier and the judge that more inversion steps may mend: more of the region is drawn anew."""


@dataclass(frozen=True)
class Draw:
    """One draw of a corruption of a sample.

    Attributes:
        steps: k, the inversion steps of the latent that is corrupted; 0 is the image latent itself.
        number: draws of the sample before it, at any k. The seed follows from it.
        number_at_k: draws of the sample before it at this k.
    """

    steps: int
    number: int = 0
    number_at_k: int = 0


@dataclass(frozen=True)
class RetryPolicy:
    """At which inversion steps a sample is drawn, and how often at each.

    Attributes:
        steps: every k, rising, at least one; see `actors.corruption.config.CorruptionConfig.steps`.
        draws_per_step: draws at each k, at least one.
    """

    steps: tuple[int, ...]
    draws_per_step: int = 1

    @property
    def first(self) -> Draw:
        """The first draw of every sample."""
        return Draw(self.steps[0])

    def after(self, draw: Draw, reason: str) -> Draw | None:
        """The draw that follows a refused one, or None where the sample has failed.

        First the remaining draws at the same k. Then what needs more change (`unchanged`, `legal`, `broken_before`)
        goes on to a larger k, if there is one. `spilled` does not: a larger k regenerates more of the image, and would
        spill more.

        Args:
            draw: the one that was refused.
            reason: why, as `actors.corruption.verifier.Verifier.judge` or `actors.corruption.judge` names it.
        """
        if draw.number_at_k + 1 < self.draws_per_step:
            return Draw(draw.steps, draw.number + 1, draw.number_at_k + 1)
        deeper = [steps for steps in self.steps if steps > draw.steps]
        if reason in DEEPER_HELPS and deeper:
            return Draw(deeper[0], draw.number + 1)
        return None


@dataclass(frozen=True)
class Row:
    """A row of a batch of resampling.

    Attributes:
        place: of the sample in its shard.
        draw: of its corruption; None is its round trip without corruption, the baseline of its verdicts.
    """

    place: int
    draw: Draw | None


def deal(
    pending: Mapping[int, Draw], baselines: Set[tuple[int, int]], size: int
) -> Iterator[tuple[int, list[Row]]]:
    """A round: every pending draw in batches, k by k in rising order, and in a batch in the samples' order.

    A batch is filled from the whole shard, so draws that are made again share batches whatever samples they belong
    to. It follows from the arguments alone, never from what was done first.

    Args:
        pending: the next draw of samples that have one, by the sample's place.
        baselines: (place, k) for every baseline that exists. A missing one is made just before its draw.
        size: most rows of a batch.

    Yields:
        k and the rows of a batch, 1 to `size` of them.
    """
    for steps in sorted({draw.steps for draw in pending.values()}):
        rows: list[Row] = []
        for place, draw in sorted(pending.items()):
            if draw.steps == steps:
                rows += (
                    [Row(place, draw)]
                    if (place, steps) in baselines
                    else [Row(place, None), Row(place, draw)]
                )
        for first in range(0, len(rows), size):
            yield steps, rows[first : first + size]
