"""A two-class UperNet in the transformers folder layout: how likely each pixel is an artifact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from numpy.typing import NDArray
from transformers import UperNetForSemanticSegmentation

from actors.device import device_for
from actors.errors import ModelError
from actors.models import is_hub_id, locate

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Segmenter:
    """Loads a checkpoint once; calls give scores.

    Args:
        checkpoint: a shipped name, a folder, or a hub id in the local cache; class 1 is the artifact.
        revision: of a hub id.
        batch_size: rows of every network call; the last ones are padded, so that neighbours do not matter.
        device: `cpu` or `cuda`.

    Raises:
        ModelError: no safetensors weights, or not two classes.
    """

    def __init__(
        self, checkpoint: str, *, revision: str | None = None, batch_size: int = 8, device: str = "cpu"
    ) -> None:
        net = load_upernet(checkpoint, revision)
        if net.config.num_labels != 2:
            raise ModelError(
                f"the segmenter {checkpoint} has {net.config.num_labels} classes; two are wanted: clean, artifact"
            )
        self.device = device_for(device)
        self.net = net.requires_grad_(False).eval().to(self.device)
        self.batch_size = batch_size
        mean, std = _normalisation(locate(checkpoint, revision), revision)
        self._mean = torch.tensor(mean).view(1, 3, 1, 1)
        self._std = torch.tensor(std).view(1, 3, 1, 1)

    @torch.no_grad()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, H, W, 3] to the artifact's probability, float32 [N, H, W]."""
        scores = []
        for first in range(0, len(images), self.batch_size):
            rows = images[first : first + self.batch_size]
            padded = np.zeros((self.batch_size, *images.shape[1:]), np.uint8)
            padded[: len(rows)] = rows
            pixels = torch.from_numpy(padded).permute(0, 3, 1, 2).float() / 255
            logits = self.net(((pixels - self._mean) / self._std).to(self.device)).logits
            scores.append(logits.softmax(1)[: len(rows), 1].cpu().numpy())
        return np.concatenate(scores)


def load_upernet(checkpoint: str, revision: str | None = None) -> UperNetForSemanticSegmentation:
    """A UperNet in float32, whatever the precision on disk, in evaluation mode.

    Args:
        checkpoint: a shipped name, a folder, or a hub id in the local cache.
        revision: of a hub id.

    Raises:
        ModelError: there are no such weights, or they are no safetensors of a UperNet.
    """
    place = locate(checkpoint, revision)
    offline = {"revision": revision, "local_files_only": True} if is_hub_id(place) else {}
    try:
        return UperNetForSemanticSegmentation.from_pretrained(
            place, use_safetensors=True, dtype=torch.float32, **offline
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"cannot load the segmenter {checkpoint}: {error}") from error


def _normalisation(place: str, revision: str | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that the checkpoint's own preprocessor names, else ImageNet's."""
    name = "preprocessor_config.json"
    found = try_to_load_from_cache(place, name, revision=revision) if is_hub_id(place) else Path(place) / name
    path = Path(found) if isinstance(found, str | Path) else None
    if path is None or not path.exists():
        return IMAGENET_MEAN, IMAGENET_STD
    config = json.loads(path.read_text())
    return tuple(config.get("image_mean", IMAGENET_MEAN)), tuple(config.get("image_std", IMAGENET_STD))
