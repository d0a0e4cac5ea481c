"""The network of a segmentation training: a checkpoint's UperNet with a head for the classes clean and artifact."""

from __future__ import annotations

import torch
from torch import nn
from transformers import UperNetForSemanticSegmentation

from actors.errors import ModelError
from actors.segmentation.normalisation import Normalisation
from actors.segmentation.segmenter import load_upernet, normalisation_of
from train.recipe import ModelConfig

CLASSES = {0: "clean", 1: "artifact"}


def starting_point(
    settings: ModelConfig, *, seed: int
) -> tuple[UperNetForSemanticSegmentation, Normalisation, list[str]]:
    """The network to begin with, in float32 on the CPU.

    Args:
        settings: of the recipe.
        seed: of new weights.

    Returns:
        Network, the normalisation of its pixels, and which of its weights are new.

    Raises:
        ModelError: the weights are missing, unsafe, or not those of a UperNet; or its backbone has no gradient
            checkpointing.
    """
    net = load_upernet(settings.checkpoint, settings.revision, drop_path=settings.drop_path)
    normalisation = normalisation_of(settings.checkpoint, settings.revision)
    new = [] if _is_ours(net) else replace_heads(net, seed=seed)
    if settings.gradient_checkpointing:
        if not net.backbone.supports_gradient_checkpointing:
            raise ModelError(
                f"model.gradient_checkpointing: transformers cannot recompute the {type(net.backbone).__name__} of "
                f"{settings.checkpoint}; set it to false, and execution.micro_batch lower to save memory"
            )
        net.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return net, normalisation, new


def replace_heads(net: UperNetForSemanticSegmentation, *, seed: int) -> list[str]:
    """Give a network new last layers for two classes, in place; all else stays.

    Returns:
        Names of the new weights.
    """
    generator = torch.Generator().manual_seed(seed)
    new = []
    for name in ("decode_head", "auxiliary_head"):
        head = getattr(net, name)
        if head is not None:
            head.classifier = nn.Conv2d(head.classifier.in_channels, len(CLASSES), kernel_size=1)
            nn.init.normal_(head.classifier.weight, std=0.02, generator=generator)
            nn.init.zeros_(head.classifier.bias)
            new += [f"{name}.classifier.weight", f"{name}.classifier.bias"]
    net.config.id2label = dict(CLASSES)
    net.config.label2id = {label: number for number, label in CLASSES.items()}
    assert net.config.num_labels == len(CLASSES)
    return new


def _is_ours(net: UperNetForSemanticSegmentation) -> bool:
    labels = {int(number): str(label).lower() for number, label in (net.config.id2label or {}).items()}
    return labels == CLASSES
