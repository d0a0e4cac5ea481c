"""The label of an artifact map under a policy for what the data set leaves open.

RichHF-18k does not store how many annotators marked an image, and some maps fit several numbers. Nor does the paper say
what "two of three" means for other numbers than three. So each choice has a name, and every sample records which of
them decided about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from actors.config import Config
from actors.errors import Reject
from eval.richhf.levels import MOST_PEOPLE, infer_people, marks_in
from eval.richhf.record import Map

USUAL = 3
"""How many annotators marked most images of RichHF-18k."""

Decided = Literal["exact", "ambiguous", "unexplained"]
"""Whether the levels fit one number of annotators, several, or none."""


class LabelPolicy(Config):
    """The choices that a map leaves open."""

    ambiguous: Literal["three", "fewest", "most", "reject"] = Field(
        default="three",
        description="annotators of a map that fits several numbers: three if it fits three, else the fewest above; the "
        "fewest; the most; or reject the image",
    )
    unexplained: Literal["reject", "three"] = Field(
        default="reject",
        description="a map that fits no number: reject the image, or assume three annotators",
    )
    votes: Literal["share", "two", "majority"] = Field(
        default="share",
        description="annotators who must have marked a pixel: two thirds, rounded up; two; or more than half",
    )
    least_annotators: int = Field(
        default=USUAL, ge=1, le=MOST_PEOPLE, description="reject images that fewer annotators marked"
    )
    empty: Literal["keep", "reject"] = Field(
        default="keep", description="images in which no pixel has enough votes"
    )

    def wanted(self, people: int) -> int:
        """How many of the annotators must have marked a pixel; 2 of 3 under every policy."""
        match self.votes:
            case "share":
                return -(-2 * people // 3)
            case "two":
                return min(2, people)
            case "majority":
                return people // 2 + 1


@dataclass(frozen=True)
class Annotators:
    """How many annotators marked an image.

    Attributes:
        number: as the policy decides; 0 where it decides to reject the image.
        fits: the numbers that the levels fit, ascending.
        decided: what the levels say; a policy decides unless it is `exact`.
    """

    number: int
    fits: tuple[int, ...]
    decided: Decided


def annotators_of(map_: Map, policy: LabelPolicy) -> Annotators:
    """How many annotators marked an image, by the levels of its artifact map and a policy."""
    fits = infer_people(map_.levels, lossy=map_.lossy)
    if not fits:
        return Annotators(USUAL if policy.unexplained == "three" else 0, fits, "unexplained")
    if len(fits) == 1:
        return Annotators(fits[0], fits, "exact")
    return Annotators(_among(fits, policy), fits, "ambiguous")


def check_annotators(annotators: Annotators, policy: LabelPolicy) -> None:
    """Rejects an image that the policy does not keep.

    Raises:
        Reject: `unexplained_map`, `ambiguous_map` or `few_annotators`.
    """
    fits = ", ".join(map(str, annotators.fits))
    if annotators.number == 0 and annotators.decided == "unexplained":
        raise Reject("unexplained_map", f"its levels fit no number of annotators from 1 to {MOST_PEOPLE}")
    if annotators.number == 0:
        raise Reject("ambiguous_map", f"its levels fit several numbers of annotators: {fits}")
    if annotators.number < policy.least_annotators:
        raise Reject(
            "few_annotators",
            f"{annotators.number} annotators marked it (its levels fit {fits}); {policy.least_annotators} are wanted",
        )


def votes_in(map_: Map, people: int, policy: LabelPolicy) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """The label of a map, and its soft form.

    Args:
        map_: of artifacts.
        people: how many marked it.
        policy: says how many of them must have marked a pixel.

    Returns:
        bool [H, W], where enough of them did; uint8 [H, W], 255 times the share that did, rounded.

    Raises:
        Reject: `no_votes`, where the policy does not keep empty labels.
    """
    marks = marks_in(map_.levels, people)
    mask = marks >= policy.wanted(people)
    if policy.empty == "reject" and not mask.any():
        raise Reject("no_votes", f"no pixel was marked by {policy.wanted(people)} of {people} annotators")
    levels = np.rint(255 * np.arange(people + 1) / people).astype(np.uint8)
    return mask, levels[marks]


def _among(fits: Sequence[int], policy: LabelPolicy) -> int:
    match policy.ambiguous:
        case "three":
            return next((number for number in fits if number >= USUAL), fits[-1])
        case "fewest":
            return fits[0]
        case "most":
            return fits[-1]
        case "reject":
            return 0
