"""How many UNet evaluations an inversion makes at each of its steps. No torch here, so that planning stays light."""

from __future__ import annotations

EARLY = 250
"""Timestep below which ReNoise makes fewer iterations, and averages them from the first one on."""

MOST_EARLY = 5
"""Iterations at most below `EARLY`."""

_FAST = (1, 5, 2)


def fast_evaluations(inversion_steps: int, extra: int = 0) -> tuple[int, ...]:
    """Evaluations at each step in mode `fast`, chosen by measurement: see docs/inversion.md.

    The second step goes where the noise grows most for its size (5 times, for 50 steps of Stable Diffusion), and the
    fixed point converges slowest; from the fourth one on, extrapolation starts so close that one evaluation will do.

    Args:
        inversion_steps: k.
        extra: further evaluations of every step.
    """
    return tuple(count + extra for count in (_FAST + (1,) * inversion_steps)[:inversion_steps])


def iterated_evaluations(timestep: int, iterations: int, *, regularised: bool) -> int:
    """Evaluations of one step in the modes `published` and `renoise`; regularisation needs one more."""
    count = min(MOST_EARLY, iterations) if timestep < EARLY else iterations
    return count + 1 + regularised
