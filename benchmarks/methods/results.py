"""Draws put in order: by setting, by ladder, and what the factory would have spent on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from actors.corruption.methods import METHODS
from actors.corruption.retry_policy import RetryPolicy
from actors.diffusion.unet_cost import fast_evaluations
from benchmarks.methods.draws import Outcome, Setting


@dataclass(frozen=True)
class Climb:
    """A scene's way up the ladder.

    Attributes:
        last: the draw that was accepted, or the last that was refused.
        accepted: whether it was.
        steps: every k at which it was tried.
    """

    last: Outcome
    accepted: bool
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Bill:
    """Draws of all scenes with one setting of the factory.

    Attributes:
        scenes: how many were tried.
        accepted: how many of them were accepted.
        rows: UNet evaluations of all of them.
    """

    scenes: int
    accepted: int
    rows: int

    @property
    def each(self) -> float | None:
        """UNet evaluations per accepted scene."""
        return self.rows / self.accepted if self.accepted else None


class Results:
    """All draws of a run.

    Args:
        outcomes: in any order of settings, in the scenes' own order.
    """

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        self._by_name = {outcome.name: outcome for outcome in outcomes}
        self.keys = list(dict.fromkeys(key for key, _, _ in self._by_name))
        self.steps = tuple(sorted({setting.steps for _, setting, _ in self._by_name} - {0}))
        self.direct = [
            setting for setting in dict.fromkeys(s for _, s, _ in self._by_name) if setting.steps == 0
        ]

    def draws(self, key: str, setting: Setting) -> list[Outcome]:
        """A scene's draws with a setting, the first one first."""
        numbers = range(setting.draws)
        return [
            self._by_name[key, setting, number]
            for number in numbers
            if (key, setting, number) in self._by_name
        ]

    def first(self, setting: Setting) -> list[Outcome]:
        """The first draw of every scene."""
        return [self._by_name[key, setting, 0] for key in self.keys]

    def climbs(self, method: str, *, alone: bool = False) -> list[Climb]:
        """Every scene's way up all k with one draw at each, by the rules of
        `actors.corruption.retry_policy.RetryPolicy`.

        The draws are the first ones of the settings with these k.

        Args:
            method: a name in `METHODS`.
            alone: judge against the autoencoder alone.
        """
        policy = RetryPolicy(self.steps)
        found = []
        for key in self.keys:
            draw, steps = policy.first, []
            while True:
                steps.append(draw.steps)
                last = self._by_name[key, at(method, draw.steps), 0]
                reason = last.reason_alone if alone else last.reason
                following = policy.after(draw, reason) if reason else None
                if following is None:
                    break
                draw = following
            found.append(Climb(last, not reason, tuple(steps)))
        return found

    def bill(self, setting: Setting, *, draws: int = 1, alone: bool = False) -> Bill:
        """One k and up to `draws` draws. `alone` judges first draws against the autoencoder, without a round trip."""
        made = [self.draws(key, setting)[:draws] for key in self.keys]
        accepted = sum(not (each[-1].reason_alone if alone else each[-1].reason) for each in made)
        k = setting.steps
        round_trips = len(made) * (not alone) + sum(map(len, made))
        return Bill(len(made), accepted, len(made) * sum(fast_evaluations(k)) + round_trips * k)

    def ladder_bill(self, method: str, *, alone: bool = False) -> Bill:
        """The ladder of all k: one deep inversion, then a draw and (not `alone`) a round trip at every k tried."""
        found = self.climbs(method, alone=alone)
        tried = sum(sum(climb.steps) for climb in found)
        rows = len(found) * sum(fast_evaluations(self.steps[-1])) + tried * (1 if alone else 2)
        return Bill(len(found), sum(climb.accepted for climb in found), rows)


def at(method: str, steps: int) -> Setting:
    """The setting of a method at k."""
    return Setting(method, steps, steps)


def corrupting() -> Sequence[str]:
    """All methods that change anything."""
    return [method for method in METHODS if method != "none"]
