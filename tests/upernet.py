"""A tiny UperNet folder in the layout of the real checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation


def save_upernet(folder: Path, *, labels: int = 2, bias: float | None = None) -> Path:
    """Random weights; with a bias, every pixel has the logits (0, bias) whatever the image."""
    torch.manual_seed(0)
    backbone = ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = UperNetConfig(
        backbone_config=backbone,
        hidden_size=8,
        num_labels=labels,
        use_auxiliary_head=False,
        pool_scales=[1, 2],
    )
    net = UperNetForSemanticSegmentation(config)
    if bias is not None:
        with torch.no_grad():
            net.decode_head.classifier.weight.zero_()
            net.decode_head.classifier.bias.copy_(torch.tensor([0.0, bias]))
    net.save_pretrained(folder)
    return folder
