"""The architectures of the paper at full size: one step of two images of 512 x 512 on a CPU."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from transformers import ConvNextConfig, SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

from tests.train.small import drawn, loop_of, losses_of, recipe_of, tar_of

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def like_openmmlab(kind: str) -> UperNetForSemanticSegmentation:
    """UperNet with ConvNeXt-T or Swin-T, as `openmmlab/upernet-convnext-tiny` and `upernet-swin-tiny`."""
    backbone = {
        "convnext": lambda: ConvNextConfig(
            hidden_sizes=[96, 192, 384, 768], depths=[3, 3, 9, 3], drop_path_rate=0.4, out_features=STAGES
        ),
        "swin": lambda: SwinConfig(
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=7,
            drop_path_rate=0.3,
            out_features=STAGES,
        ),
    }[kind]()
    return UperNetForSemanticSegmentation(
        UperNetConfig(
            backbone_config=backbone,
            hidden_size=512,
            num_labels=150,
            use_auxiliary_head=True,
            auxiliary_loss_weight=0.4,
            auxiliary_in_channels=384,
            auxiliary_channels=256,
        )
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["convnext", "swin"])
def test_a_step_of_two_images(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = like_openmmlab(kind)
    assert 59e6 < sum(one.numel() for one in net.parameters()) < 61e6
    net.save_pretrained(tmp_path / "net")
    del net
    recipe = recipe_of(
        tmp_path / "net",
        iterations=1,
        batch=2,
        model={"batch_norm": "per_worker", "drop_path": None},
        augmentation={"resize": (0.5, 2.0), "crop": 512},
        optimizer={"learning_rate": 6e-5},
        precision="float32",
    )
    loop_of(recipe, tar_of(tmp_path / "two.tar", drawn(2, 512)), tmp_path / "out").run()
    (loss,) = losses_of(tmp_path / "out")
    # Two classes and a head with 0.4 of the weight, all undecided: 1.4 log 2 = 0.97.
    assert 0.5 < loss < 2
    # Weights, gradients and two moments of 60 million float32 are 1 GB; the rest are activations.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 12e9
