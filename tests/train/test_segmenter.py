"""Networks to begin with: new last layers for two classes, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ConvNextConfig, SwinConfig, UperNetConfig, UperNetForSemanticSegmentation
from transformers.models.convnext.modeling_convnext import ConvNextDropPath
from transformers.models.swin.modeling_swin import SwinDropPath

from actors.errors import ModelError
from tools.tinytown.segmenter import build
from train.recipe import ModelConfig
from train.segmenter import CLASSES, replace_heads, starting_point

STAGES = ["stage1", "stage2", "stage3", "stage4"]
HEADS = [
    f"{head}.classifier.{part}" for head in ("decode_head", "auxiliary_head") for part in ("weight", "bias")
]


def like_ade20k(folder: Path, kind: str = "convnext") -> UperNetForSemanticSegmentation:
    """150 classes and an auxiliary head, as openmmlab's checkpoints have, and batch norms that have seen data."""
    torch.manual_seed(0)
    shape = {"depths": [1, 1, 2, 1], "out_features": STAGES}
    backbone = {
        "convnext": ConvNextConfig(hidden_sizes=[8, 8, 16, 16], drop_path_rate=0.4, **shape),
        "swin": SwinConfig(embed_dim=8, num_heads=[1, 1, 2, 2], window_size=7, **shape),
    }[kind]
    config = UperNetConfig(
        backbone_config=backbone,
        hidden_size=8,
        num_labels=150,
        auxiliary_in_channels={"convnext": 16, "swin": 32}[kind],
        auxiliary_channels=8,
        pool_scales=[1, 2, 3, 6],
    )
    net = UperNetForSemanticSegmentation(config)
    with torch.no_grad():
        for name, value in net.named_buffers():
            if value.is_floating_point() and "running" in name:
                value.uniform_(*((0.5, 2) if name.endswith("var") else (-1, 1)))
    net.save_pretrained(folder)
    return net.eval()


def rates_of(net: torch.nn.Module) -> list[float]:
    return [
        round(part.drop_prob, 6)
        for part in net.modules()
        if isinstance(part, ConvNextDropPath | SwinDropPath)
    ]


@pytest.mark.parametrize("kind", ["convnext", "swin"])
def test_the_last_layers_are_new_and_all_else_stays_bit_for_bit(kind: str, tmp_path: Path) -> None:
    before = like_ade20k(tmp_path, kind).state_dict()
    settings = ModelConfig(checkpoint=str(tmp_path))
    net, _, new = starting_point(settings, seed=5)
    after = net.state_dict()
    assert new == HEADS and after.keys() == before.keys()
    for name, value in after.items():
        if name in HEADS:
            assert (len(before[name]), len(value)) == (150, 2) and value.shape[1:] == before[name].shape[1:]
        else:
            assert value.dtype == before[name].dtype and torch.equal(value, before[name]), name
    assert net.config.id2label == CLASSES == {0: "clean", 1: "artifact"}
    assert net.config.label2id == {"clean": 0, "artifact": 1} and net.config.num_labels == 2
    assert net(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 2, 64, 64)
    again, other = (starting_point(settings, seed=seed)[0].state_dict() for seed in (5, 6))
    for name in HEADS[::2]:
        assert torch.equal(after[name], again[name]) and not torch.equal(after[name], other[name])
        assert (
            after[name].std() == pytest.approx(0.02, rel=0.5)
            and not after[name.replace("weight", "bias")].any()
        )


def test_a_network_without_an_auxiliary_head() -> None:
    net = build("convnext")
    assert replace_heads(net, seed=0) == HEADS[:2] and net.auxiliary_head is None


@pytest.mark.parametrize("labels", [CLASSES, {0: "Clean", 1: "Artifact"}])
def test_our_own_classes_keep_their_head(tmp_path: Path, labels: dict[int, str]) -> None:
    like_ade20k(tmp_path / "parts")
    net, _, _ = starting_point(ModelConfig(checkpoint=str(tmp_path / "parts")), seed=0)
    net.config.id2label = dict(labels)
    net.config.label2id = {label: number for number, label in labels.items()}
    net.save_pretrained(tmp_path / "ours")
    found, _, new = starting_point(ModelConfig(checkpoint=str(tmp_path / "ours")), seed=1)
    assert new == []
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize(
    "labels", [{0: "artifact", 1: "clean"}, {0: "LABEL_0", 1: "LABEL_1"}, {0: "cat", 1: "dog"}]
)
def test_two_other_classes_do_not(tmp_path: Path, labels: dict[int, str]) -> None:
    like_ade20k(tmp_path / "parts")
    net, _, _ = starting_point(ModelConfig(checkpoint=str(tmp_path / "parts")), seed=0)
    net.config.id2label = labels
    net.config.label2id = {label: number for number, label in labels.items()}
    net.save_pretrained(tmp_path / "two")
    found, _, new = starting_point(ModelConfig(checkpoint=str(tmp_path / "two")), seed=1)
    assert new == HEADS and found.config.id2label == CLASSES


@pytest.mark.parametrize("kind", ["convnext", "swin"])
def test_stochastic_depth(kind: str, tmp_path: Path) -> None:
    """Rates rise linearly over the five blocks, from 0 to the largest."""
    like_ade20k(tmp_path, kind)
    own, _, _ = starting_point(ModelConfig(checkpoint=str(tmp_path)), seed=0)
    largest = {"convnext": 0.4, "swin": 0.1}[kind]
    assert rates_of(own) in (
        [pytest.approx(largest * block / 4, abs=1e-6) for block in range(5)],
        [pytest.approx(largest * block / 4, abs=1e-6) for block in range(1, 5)],  # no layer for a rate of 0
    )
    less, _, _ = starting_point(ModelConfig(checkpoint=str(tmp_path), drop_path=0.2), seed=0)
    assert max(rates_of(less)) == pytest.approx(0.2)
    none, _, _ = starting_point(ModelConfig(checkpoint=str(tmp_path), drop_path=0.0), seed=0)
    assert not any(rates_of(none))
    kept = own.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in none.state_dict().items())


def test_gradient_checkpointing_changes_memory_and_nothing_else(tmp_path: Path) -> None:
    like_ade20k(tmp_path, "swin")
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    gradients = []
    for checkpointed in (False, True):
        settings = ModelConfig(checkpoint=str(tmp_path), drop_path=0.0, gradient_checkpointing=checkpointed)
        net, _, _ = starting_point(settings, seed=0)
        for part in net.modules():
            part.train(not isinstance(part, torch.nn.modules.batchnorm._BatchNorm | torch.nn.Dropout))
        assert net.backbone.is_gradient_checkpointing == checkpointed
        net(image).logits.square().sum().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in net.backbone.parameters() if p.grad is not None])
        )
    assert gradients[0].abs().max() > 0 and torch.allclose(*gradients, rtol=1e-5, atol=1e-7)


def test_a_backbone_without_gradient_checkpointing(tmp_path: Path) -> None:
    like_ade20k(tmp_path)
    with pytest.raises(
        ModelError, match=r"transformers cannot recompute the ConvNextBackbone of .*; set it to false"
    ):
        starting_point(ModelConfig(checkpoint=str(tmp_path), gradient_checkpointing=True), seed=0)


def test_pixels_are_normalised_as_the_checkpoint_says(tmp_path: Path) -> None:
    like_ade20k(tmp_path)
    _, usual, _ = starting_point(ModelConfig(checkpoint=str(tmp_path)), seed=0)
    white = usual(torch.full((1, 3, 1, 1), 255.0)).flatten().tolist()
    assert white == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    preprocessor = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "rescale_factor": 1 / 255}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    _, other, _ = starting_point(ModelConfig(checkpoint=str(tmp_path)), seed=0)
    assert np.allclose(other(torch.full((1, 3, 1, 1), 255.0)).numpy(), 2)
