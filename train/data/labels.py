"""What a data set's label is made of, and the files of a sample that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Label = Literal["mask", "changed", "intersection", "judged", "none"]
"""Where the artifacts are: in the mask, where the image was changed, where both are, where it was changed and a judge
marks it; or nowhere, in clean images."""

Part = Literal["image", "mask", "changed", "judged"]
"""A file of a sample that training reads."""

PARTS: tuple[Part, ...] = ("image", "mask", "changed", "judged")

MAPS: Mapping[Label, tuple[Part, ...]] = {
    "mask": ("mask",),
    "changed": ("changed",),
    "intersection": ("mask", "changed"),
    "judged": ("judged",),
    "none": (),
}
"""The maps that a label is made of."""
