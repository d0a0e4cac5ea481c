"""What a data set's label is made of, and the files of a sample that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Label = Literal["mask", "changed", "intersection", "none"]
"""Where the artifacts are: in the mask, where the image was changed, where both are; or nowhere, in clean images."""

Part = Literal["image", "mask", "changed"]
"""A file of a sample that training reads."""

PARTS: tuple[Part, ...] = ("image", "mask", "changed")

MAPS: Mapping[Label, tuple[Part, ...]] = {
    "mask": ("mask",),
    "changed": ("changed",),
    "intersection": ("mask", "changed"),
    "none": (),
}
"""The maps that a label is made of."""
