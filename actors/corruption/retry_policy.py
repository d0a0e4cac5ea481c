"""Which draw follows on which verdict, and which rows share a batch: plain rules, no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Draw:
    """One corruption of a sample.

    Attributes:
        steps: k, how deep the latent is that it breaks; 0 is the image latent itself.
        attempt: draws of the sample before it, at any k. The seed follows from it.
        tries: draws of the sample before it at this k.
    """

    steps: int
    attempt: int = 0
    tries: int = 0


@dataclass(frozen=True)
class Ladder:
    """The inversion steps at which a sample is tried, and how often at each.

    Attributes:
        steps: k, rising, at least one.
        attempts: draws at each k.

    Raises:
        ValueError: no steps, steps that do not rise, or no attempts.
    """

    steps: tuple[int, ...]
    attempts: int = 1

    def __post_init__(self) -> None:
        if not self.steps or any(
            after <= before for before, after in zip(self.steps, self.steps[1:], strict=False)
        ):
            raise ValueError(f"the inversion steps of a ladder are {list(self.steps)}; they must rise")
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}; allowed: 1 or more")

    @property
    def first(self) -> Draw:
        """What every sample begins with."""
        return Draw(self.steps[0])

    def after(self, draw: Draw, reason: str) -> Draw | None:
        """The draw that follows on a refused one, or None where the sample has failed.

        Another one at the same k while there are attempts left. Then `unchanged` goes deeper, if it can. `spilled`
        does not: the deeper the latent, the more of the picture is made anew, so it would only spill more.

        Args:
            draw: the one that was refused.
            reason: why, as `actors.corruption.verifier.judge` names it.
        """
        if draw.tries + 1 < self.attempts:
            return Draw(draw.steps, draw.attempt + 1, draw.tries + 1)
        deeper = [steps for steps in self.steps if steps > draw.steps]
        if reason == "unchanged" and deeper:
            return Draw(deeper[0], draw.attempt + 1)
        return None


@dataclass(frozen=True)
class Row:
    """A row of a batch of resampling.

    Attributes:
        place: of the sample in its shard.
        draw: what is done to its latent; None is its passage without corruption, the baseline of its verdicts.
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
        baselines: (place, k) for every baseline that is there. One that is not comes right before its draw.
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
