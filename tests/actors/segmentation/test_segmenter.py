"""Segmenter checkpoints: only weights and classes that are meant become scores; all else is refused with its cause."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

from actors.errors import ModelError
from actors.segmentation.segmenter import Segmenter
from tests.model_folders import LFS_POINTER, Weights, change, drop, edit, poisoned, shard, weights_of
from tests.upernet import save_upernet

IMAGES = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
HEAD = "decode_head.classifier.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_upernet(tmp_path / "net")


def scores(folder: Path) -> np.ndarray:
    return Segmenter(str(folder), batch_size=2)(IMAGES)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Segmenter(str(folder))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_the_prefix_of_a_compiled_or_distributed_network_is_taken_off(folder, prefix, caplog):
    wanted = scores(folder)
    change(weights_of(folder), lambda weights: {prefix + name: value for name, value in weights.items()})
    with caplog.at_level(logging.WARNING):
        found = scores(folder)
    assert np.array_equal(found, wanted)
    assert prefix.split(".")[0] in caplog.text


def without(*names: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if name not in names}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            without(HEAD, "decode_head.classifier.bias"),
            r"lacks 2 weights, such as decode_head\.classifier\.bias, decode_head\.classifier\.weight \(",
        ),
        (
            lambda weights: {("net." + name): value for name, value in weights.items()},
            r"lacks \d+ weights, .*; it has \d+ weights that do not belong to it, such as net\.",
        ),
        (
            lambda weights: {**weights, HEAD: torch.zeros(150, 8, 1, 1)},
            r"another shape than its config\.json says, .*classifier\.weight \[150, 8, 1, 1\] instead of \[2, 8, ",
        ),
        (
            lambda weights: poisoned(weights, HEAD, math.nan),
            r"NaN or infinite weights in decode_head\.classifier\.weight",
        ),
        (lambda weights: poisoned(weights, HEAD, math.inf), "NaN or infinite weights"),
        (
            lambda weights: poisoned(weights, "decode_head.bottleneck.batch_norm.running_var", math.nan),
            "NaN or infinite weights in decode_head.bottleneck.batch_norm.running_var",
        ),
        (lambda weights: {**weights, HEAD: weights[HEAD].to(torch.int8)}, r"holds I8 numbers in decode_head"),
        (lambda weights: {**weights, HEAD: weights[HEAD].to(torch.float8_e4m3fn)}, r"holds F8_E4M3 numbers"),
        (
            lambda weights: {**weights, "neck.weight": torch.zeros(2)},
            "1 weights that do not belong to it, such as neck.weight",
        ),
        (lambda weights: {}, "lacks 122 weights"),
    ],
)
def test_weights_that_are_not_those_of_the_network(folder, damage, message):
    change(weights_of(folder), damage)
    refused(folder, message)


def test_tensors_that_nothing_needs_do_no_harm(folder):
    wanted = scores(folder)
    extra = {
        "auxiliary_head.classifier.weight": torch.zeros(2, 8, 1, 1),
        "backbone.position_ids": torch.arange(5),
    }
    change(weights_of(folder), lambda weights: {**weights, **extra})
    assert np.array_equal(scores(folder), wanted)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"0": "artifact", "1": "clean"}, "names class 0 'artifact' and class 1 'clean'"),
        ({"0": "Artefacts", "1": "background"}, "class 1 must be the artifact"),
        ({"0": "no artifact", "1": "no_defect"}, "class 1 must be the artifact"),
        ({"0": "road", "1": "car"}, "names class 0 'road' and class 1 'car'"),
        ({"1": "clean", "2": "artifact"}, "has id2label .*; the classes are 0 and 1"),
        ({"0": "background"}, "has 1 classes; two are wanted"),
        ({str(number): f"thing {number}" for number in range(150)}, "has 150 classes; two are wanted"),
    ],
)
def test_classes_that_are_not_clean_and_artifact(folder, labels, message):
    edit(
        folder / "config.json",
        id2label=labels,
        label2id={name: int(number) for number, name in labels.items()},
    )
    refused(folder, message)


def test_labels_that_contradict_each_other(folder):
    edit(
        folder / "config.json",
        id2label={"0": "clean", "1": "artifact"},
        label2id={"artifact": 0, "clean": 1},
    )
    refused(folder, "the other way round in label2id")


@pytest.mark.parametrize(
    "labels",
    [
        ("clean", "artifact"),
        ("background", "region"),
        ("LABEL_0", "LABEL_1"),
        ("ok", "visual artefacts"),
        ("x", "fake"),
    ],
)
def test_classes_that_are(folder, labels):
    wanted = scores(folder)
    edit(
        folder / "config.json",
        id2label=dict(zip("01", labels, strict=True)),
        label2id={name: number for number, name in enumerate(labels)},
    )
    assert np.array_equal(scores(folder), wanted)


def test_one_class(folder):
    drop(folder / "config.json", "id2label")
    drop(folder / "config.json", "label2id")
    edit(folder / "config.json", num_labels=1)
    refused(folder, "has 1 classes; two are wanted")


def test_models_of_another_kind(tmp_path: Path):
    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 2}
    classifier = tmp_path / "classifier"
    ConvNextForImageClassification(ConvNextConfig(**sizes)).save_pretrained(classifier)
    refused(
        classifier,
        "is a 'convnext' model .ConvNextForImageClassification., which is not supported: a segmenter is a UperNet",
    )
    segformer = tmp_path / "segformer"
    sizes = {
        "hidden_sizes": [8] * 4,
        "depths": [1] * 4,
        "num_attention_heads": [1] * 4,
        "decoder_hidden_size": 8,
    }
    SegformerForSemanticSegmentation(SegformerConfig(**sizes)).save_pretrained(segformer)
    refused(segformer, "is a 'segformer' model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone_config": None}, "has no backbone_config with a model_type"),
        ({"backbone_config": {"model_type": "timm_backbone"}}, r"no backbone_config .*'timm_backbone'"),
        ({"backbone_config": {"model_type": "nonsense"}}, "its configuration is not valid"),
        ({"hidden_size": "8"}, "its configuration is not valid"),
        ({"hidden_size": 16}, "weights of another shape than its config.json says"),
        ({"pool_scales": []}, "lacks|weights of another shape|that do not belong"),
        ({"use_auxiliary_head": True}, "lacks .* weights, such as auxiliary_head"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "has a quantization_config"),
        ({"architectures": "UperNet"}, "is not supported"),
    ],
)
def test_configurations_that_do_not_fit(folder, changes, message):
    edit(folder / "config.json", **changes)
    refused(folder, message)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFS_POINTER, "is a Git LFS pointer in the place of the file: run `git lfs pull`"),
        (b"", "is empty"),
        (b"\xff\xfe\x00{", "is cut off or is not a safetensors file|is not JSON"),
        (b"[" * 100_000, "is cut off or is not a safetensors file|is not JSON"),
        (b"[1, 2]", "is cut off or is not a safetensors file|holds a JSON list, not an object"),
    ],
)
def test_files_that_are_not_what_their_name_says(folder, name, content, message):
    (folder / name).write_bytes(content)
    refused(folder, f"{name} ({message})")


def test_a_file_that_is_cut_off(folder):
    path = weights_of(folder)
    path.write_bytes(path.read_bytes()[:-100])
    refused(folder, "model.safetensors is cut off or is not a safetensors file")


def test_weights_in_shards(folder):
    wanted = scores(folder)
    first, second = shard(weights_of(folder))
    assert np.array_equal(scores(folder), wanted)
    kept, index = second.read_bytes(), folder / "model.safetensors.index.json"
    second.unlink()
    refused(folder, f"{second.name} does not exist, and model.safetensors.index.json names it")
    second.write_bytes(first.read_bytes())
    refused(folder, f"{first.name} holds other tensors|{second.name} holds other tensors")
    second.write_bytes(kept)
    for broken, message in (
        ({"weight_map": {"a": "../net/model.safetensors"}}, "which is not a file name"),
        ({"weight_map": [1]}, "has no weight_map"),
        ({}, "has no weight_map"),
    ):
        index.write_text(json.dumps(broken))
        refused(folder, message)


def test_half_precision_weights_and_those_of_a_variant(folder):
    path = weights_of(folder)
    change(
        path,
        lambda weights: {
            name: value.half() if value.is_floating_point() else value for name, value in weights.items()
        },
    )
    wanted = scores(folder)
    path.rename(path.with_name("model.fp16.safetensors"))
    assert np.array_equal(scores(folder), wanted)


def test_a_pipe_in_the_place_of_weights_does_not_block(folder):
    path = weights_of(folder)
    path.unlink()
    os.mkfifo(path)
    refused(folder, "model.safetensors is not a regular file")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_mean", None, "has image_mean None; three numbers are required"),
        ("image_std", None, "has image_std None"),
        ("image_std", [0.2, 0.0, 0.2], r"has image_std \[0.2, 0.0, 0.2\]; every number must be above 0"),
        ("image_std", [-1, 1, 1], "every number must be above 0"),
        ("image_mean", [0.5], r"has image_mean \[0.5\]; three numbers"),
        ("image_mean", [0.5] * 4, "three numbers"),
        ("image_mean", "ImageNet", "has image_mean 'ImageNet'"),
        ("image_mean", [True, 0, 0], "three numbers"),
        ("image_mean", {"r": 0.5}, "three numbers"),
        ("do_normalize", None, "has do_normalize None, which must be true or false"),
        ("do_rescale", "false", "has do_rescale 'false'"),
        ("rescale_factor", None, "has rescale_factor None"),
        ("rescale_factor", 0, "has rescale_factor 0"),
        ("rescale_factor", "1/255", "has rescale_factor '1/255'"),
        ("do_flip_channel_order", True, "do_flip_channel_order true, which is not supported"),
    ],
)
def test_a_preprocessor_that_has_no_meaning(folder, field, value, message):
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, field: value})
    )
    refused(folder, message)


def test_a_preprocessor_without_deviation(folder):
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3}))
    refused(folder, "has no image_std; three numbers are required")


@pytest.mark.parametrize(
    ("config", "divisor", "mean", "std"),
    [
        ({}, 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ({"do_normalize": False, "image_mean": None}, 255, (0, 0, 0), (1, 1, 1)),
        ({"image_mean": 0.5, "image_std": [0.5, 0.25, 1]}, 255, (0.5, 0.5, 0.5), (0.5, 0.25, 1)),
        ({"rescale_factor": 0.00392156862745098}, 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (
            {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]},
            127.5,
            (1, 1, 1),
            (1, 1, 1),
        ),
        (
            {"do_rescale": False, "image_mean": [128, 128, 128], "image_std": [64, 64, 64]},
            1,
            (128,) * 3,
            (64,) * 3,
        ),
    ],
)
def test_pixels_are_normalised_as_the_preprocessor_states(folder, config: dict[str, Any], divisor, mean, std):
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    segmenter = Segmenter(str(folder), batch_size=2)
    taken = []
    segmenter.net.register_forward_pre_hook(lambda _, arguments: taken.append(arguments[0]))
    segmenter(IMAGES)
    wanted = (IMAGES.astype(np.float64) / divisor - np.array(mean)) / np.array(std)
    assert np.allclose(taken[0].numpy().transpose(0, 2, 3, 1), wanted, rtol=1e-5, atol=1e-5)


def test_two_loads_give_the_same_network(folder):
    first, second = (Segmenter(str(folder)).net.state_dict() for _ in range(2))
    stored = load_file(weights_of(folder))
    assert all(
        torch.equal(first[name], second[name]) and torch.equal(first[name], stored[name]) for name in stored
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_nearly_the_same_scores_in_float32(folder: Path, dtype: str):
    found = Segmenter(str(folder), batch_size=2, dtype=dtype)(IMAGES)
    assert found.dtype == np.float32 and not np.array_equal(found, scores(folder))
    assert np.abs(found - scores(folder)).max() < 0.05
