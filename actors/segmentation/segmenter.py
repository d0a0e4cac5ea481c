"""A two-class UperNet in the transformers folder layout: how likely each pixel is an artifact."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import UperNetConfig, UperNetForSemanticSegmentation

from actors.device import device_for
from actors.errors import ModelError
from actors.model_files import ModelFolder
from actors.models import open_folder
from actors.segmentation.normalisation import IMAGENET_MEAN, IMAGENET_STD, Normalisation
from actors.weights import check_forward, explained, load_network, usable

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Segmenter",
    "load_two_classes",
    "load_upernet",
    "normalisation_of",
    "smallest_side",
]

_KIND = "UperNetForSemanticSegmentation"
_SUPPORTED = f"a segmenter is a {_KIND} of transformers, as `flawforge train` writes it"
_CLEAN = r"clean|background|normal|real|authentic|intact|ok|good|none|(no|not|non)[ _-]?\w*"
_ARTIFACT = r"(\w+[ _-])?(artifacts?|artefacts?|defects?|flaws?|anomal(y|ies)|fake|corrupted|corruption)"
_PROBE = 64
"""Pixels along the side of the image that a network is tried with."""


class Segmenter:
    """Loads a checkpoint once; calls give scores.

    Args:
        checkpoint: a shipped name, a folder, or a hub id in the local cache; class 1 is the artifact.
        revision: of a hub id.
        batch_size: rows of every network call; the last ones are padded, so that neighbours do not matter.
        device: `cpu` or `cuda`.
        dtype: of the network: `float32`, `bfloat16` or `float16`; the scores are float32.

    Raises:
        ModelError: weights are missing or do not fit, or the classes are not clean and artifact.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        revision: str | None = None,
        batch_size: int = 8,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        net, self.normalise = load_two_classes(checkpoint, revision)
        self.device = device_for(device)
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.net = net.to(self.device, self.dtype)
        self.batch_size = batch_size

    @torch.no_grad()
    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, H, W, 3] to the artifact's probability, float32 [N, H, W]."""
        scores = []
        for first in range(0, len(images), self.batch_size):
            rows = images[first : first + self.batch_size]
            padded = np.zeros((self.batch_size, *images.shape[1:]), np.uint8)
            padded[: len(rows)] = rows
            pixels = torch.from_numpy(padded).permute(0, 3, 1, 2).float()
            logits = self.net(self.normalise(pixels).to(self.device, self.dtype)).logits
            scores.append(logits.float().softmax(1)[: len(rows), 1].cpu().numpy())
        return np.concatenate(scores)


def load_two_classes(
    checkpoint: str, revision: str | None = None
) -> tuple[UperNetForSemanticSegmentation, Normalisation]:
    """A network of the classes clean and artifact, frozen, in float32 and evaluation mode, and how it takes pixels.

    Args:
        checkpoint: a shipped name, a folder, or a hub id in the local cache.
        revision: of a hub id.

    Raises:
        ModelError: see `Segmenter`.
    """
    folder = open_folder(checkpoint, revision, config="config.json")
    net = _load(folder, two_classes=True)
    return net.requires_grad_(False).eval(), Normalisation.of(folder)


def smallest_side(config: UperNetConfig) -> int:
    """Pixels that a side of an image must have at least: a smaller one has no place on the coarsest stage.

    ConvNeXt halves its patches once per further stage and rounds down; the other backbones pad.
    """
    backbone = config.backbone_config
    if backbone.model_type not in ("convnext", "convnextv2"):
        return 1
    return int(backbone.patch_size * 2 ** (len(backbone.depths) - 1))


def load_upernet(
    checkpoint: str, revision: str | None = None, *, drop_path: float | None = None
) -> UperNetForSemanticSegmentation:
    """A UperNet of any number of classes in float32, whatever the precision on disk, in evaluation mode.

    Args:
        checkpoint: a shipped name, a folder, or a hub id in the local cache.
        revision: of a hub id.
        drop_path: largest rate of stochastic depth; None takes the checkpoint's.

    Raises:
        ModelError: there are no such weights, or they are not those of a UperNet.
    """
    folder = open_folder(checkpoint, revision, config="config.json")
    return _load(folder, two_classes=False, drop_path=drop_path)


def normalisation_of(checkpoint: str, revision: str | None = None) -> Normalisation:
    """How a checkpoint wants its pixels.

    Raises:
        ModelError: there is no such checkpoint, or it asks for what is not supported.
    """
    return Normalisation.of(open_folder(checkpoint, revision, config="config.json"))


def _load(
    folder: ModelFolder, *, two_classes: bool, drop_path: float | None = None
) -> UperNetForSemanticSegmentation:
    document = folder.config("config.json")
    _check_kind(folder, document)
    if drop_path is not None:
        document["backbone_config"]["drop_path_rate"] = drop_path
    folder.refuse_adapters("", folder.weights(""))
    with explained(folder, ""):
        config = UperNetConfig.from_dict(usable(folder, "", document))
        classes = int(config.num_labels)
    if two_classes:
        if classes != 2:
            raise ModelError(
                f"the segmenter {folder.name} has {classes} classes; two are wanted: clean, artifact"
            )
        _check_labels(folder, document)
    # Training alone uses the auxiliary head.
    unused = None if config.use_auxiliary_head else r"auxiliary_head\."
    net = load_network(UperNetForSemanticSegmentation, config, folder, "", dtype=torch.float32, unused=unused)
    image = torch.zeros(1, 3, _PROBE, _PROBE)
    check_forward(folder, "", lambda: net(image).logits, (1, classes, _PROBE, _PROBE))
    return net


def _check_kind(folder: ModelFolder, config: dict[str, Any]) -> None:
    """Refuses everything but a UperNet on a backbone whose architecture the folder itself states."""
    kind, architectures = config.get("model_type"), config.get("architectures") or [_KIND]
    if kind != "upernet" or architectures != [_KIND]:
        found = architectures[0] if isinstance(architectures, list) and kind != "upernet" else architectures
        raise ModelError(
            f"the segmenter {folder.name} is a {kind!r} model ({found}), which is not supported: {_SUPPORTED}"
        )
    backbone = config.get("backbone_config")
    kind = backbone.get("model_type") if isinstance(backbone, dict) else None
    if not isinstance(kind, str) or kind == "timm_backbone":
        raise folder.error(
            folder.path / "config.json",
            f"has no backbone_config with a model_type of transformers ({kind!r})",
            "save the whole model again with save_pretrained",
        )


def _check_labels(folder: ModelFolder, config: dict[str, Any]) -> None:
    """Refuses a checkpoint in which class 1 may be something else than the artifact."""
    labels = config.get("id2label")
    if labels is None:
        return
    advice = (
        'set id2label to {"0": "clean", "1": "artifact"} if that is what the classes are, else train it anew'
    )
    path = folder.path / "config.json"
    if not isinstance(labels, dict) or set(labels) != {"0", "1"}:
        raise folder.error(path, f"has id2label {labels!r}; the classes are 0 and 1", advice)
    clean, artifact = (str(labels[number]).strip().lower() for number in "01")
    numbers = config.get("label2id")
    known = numbers if isinstance(numbers, dict) else {}
    swapped = any(known.get(str(labels[number]), int(number)) != int(number) for number in "01")
    unnamed = (clean, artifact) in (("label_0", "label_1"), ("0", "1"))
    clean_first, artifact_second = re.fullmatch(_CLEAN, clean), re.fullmatch(_ARTIFACT, artifact)
    reverse = re.fullmatch(_CLEAN, artifact) or (re.fullmatch(_ARTIFACT, clean) and not clean_first)
    if swapped or reverse or not (unnamed or clean_first or artifact_second):
        raise folder.error(
            path,
            f"names class 0 {clean!r} and class 1 {artifact!r}{' and the other way round in label2id' * swapped}; "
            "class 1 must be the artifact",
            advice,
        )
