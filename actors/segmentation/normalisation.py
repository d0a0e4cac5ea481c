"""How a segmenter's checkpoint wants its pixels: rescaling and mean, from `preprocessor_config.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from actors.model_files import ModelFolder

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILE = "preprocessor_config.json"
_ADVICE = "correct the field, or remove the file where the network takes ImageNet's mean and deviation"
_SMALLEST, _LARGEST = 1e-6, 1e6
"""Of the numbers; what lies beyond would only overflow."""

_SWAPS = ("do_flip_channel_order", "do_channel_flip", "rescale_offset", "offset")
"""Settings that change pixels in ways that are not supported."""


@dataclass(frozen=True)
class Normalisation:
    """Pixels x in 0 to 255 become (x / divisor - mean) / std.

    Attributes:
        divisor: 255 brings pixels to 0 to 1.
        mean, std: one number per channel.
    """

    divisor: float = 255.0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @classmethod
    def of(cls, folder: ModelFolder) -> Normalisation:
        """What the folder's own preprocessor states; ImageNet's where it has none.

        Raises:
            ModelError: a field has no meaning, or one that is not supported.
        """
        path = folder.path / FILE
        if not path.exists() and not path.is_symlink():
            return cls()
        config = folder.config(FILE)
        for name in ("do_normalize", "do_rescale", *_SWAPS):
            if not isinstance(config.get(name, False), bool):
                raise folder.error(path, f"has {name} {config[name]!r}, which must be true or false", _ADVICE)
        swap = next((name for name in _SWAPS if config.get(name)), None)
        if swap is not None:
            raise folder.error(path, f"has {swap} true, which is not supported", "take another checkpoint")
        divisor = _divisor(folder, config) if config.get("do_rescale", True) else 1.0
        if not config.get("do_normalize", True):
            return cls(divisor, (0.0,) * 3, (1.0,) * 3)
        if "image_mean" not in config and "image_std" not in config:
            return cls(divisor)
        mean, std = (_three(folder, config, name) for name in ("image_mean", "image_std"))
        if min(std) < _SMALLEST:
            raise folder.error(path, f"has image_std {list(std)}; every number must be above 0", _ADVICE)
        return cls(divisor, mean, std)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Float pixels [B, 3, H, W] in 0 to 255 to what the network takes; the same shape."""
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (pixels / self.divisor - mean) / std


def _divisor(folder: ModelFolder, config: Mapping[str, Any]) -> float:
    factor = config.get("rescale_factor", 1 / 255)
    if not _number(factor) or factor < _SMALLEST:
        raise folder.error(
            folder.path / FILE, f"has rescale_factor {factor!r}; a number above 0 is required", _ADVICE
        )
    nearest = round(1 / factor)
    # 1/255 as a decimal number is 255 exactly: x / 255 and x * (1/255) differ in the last bit.
    return float(nearest) if math.isclose(nearest, 1 / factor, rel_tol=1e-6) else 1 / factor


def _three(folder: ModelFolder, config: Mapping[str, Any], name: str) -> tuple[float, ...]:
    value: Any = config.get(name)
    if isinstance(value, list) and len(value) == 3 and all(_number(number) for number in value):
        return tuple(float(number) for number in value)
    if _number(value):
        return (float(value),) * 3
    what = f"has {name} {value!r}" if name in config else f"has no {name}"
    raise folder.error(folder.path / FILE, f"{what}; three numbers are required", _ADVICE)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
