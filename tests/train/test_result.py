"""The result: a folder that opens in plain transformers, with its figures and its card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped, unused-ignore]
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoImageProcessor, UperNetForSemanticSegmentation

from actors.errors import OutputError
from actors.segmentation.segmenter import Segmenter
from factory.store.storage import Storage
from tests.train.small import data_of, drawn, lines_of, loop_of, recipe_of, tar_of
from tests.upernet import save_upernet
from train import checkpoint
from train.identity import TrainingIdentity
from train.recipe import TrainingRecipe, with_data
from train.result import write_result
from train.segmenter import starting_point
from train.trained import is_finished, read_trained

PREPROCESSOR = {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.2, 0.1]}


class Finished:
    """A small training with a validation and averaged weights, whose recipe has relative paths."""

    def __init__(self, folder: Path, **changes: object) -> None:
        save_upernet(folder / "net", labels=5)
        (folder / "net/preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
        tar = tar_of(folder / "small.tar", drawn(8))
        self.recipe: TrainingRecipe = with_data(
            recipe_of(
                "net",
                iterations=4,
                precision="float32",
                validation={"url": "small.tar", "every": 2},
                execution={"log_samples": True, "save_every": 2},
                **changes,
            ),
            ["small.tar"],
        )
        self.out = folder / "out"
        self.storage = Storage(str(self.out))
        self.identity = TrainingIdentity.of(self.recipe, [data_of(tar)], data_of(tar))
        self.state = loop_of(self.recipe, tar, self.out, validation=tar, digest=self.identity.digest).run()
        self.log, self.samples = lines_of(self.out), lines_of(self.out, "samples")
        write_result(self.storage, self.recipe, self.identity)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return Finished(folder)


def test_it_opens_in_plain_transformers(finished: Finished) -> None:
    net = UperNetForSemanticSegmentation.from_pretrained(finished.out)
    assert net.config.id2label == {0: "clean", 1: "artifact"} and net.config.num_labels == 2
    assert finished.state.best is not None
    weights = load_file(finished.out / f"checkpoints/{finished.state.best.step:06d}.model.safetensors")
    ours = {name.removeprefix("net."): value for name, value in weights.items()}
    found = net.state_dict()
    assert found.keys() == ours.keys() and all(
        torch.equal(found[name], value) for name, value in ours.items()
    )
    assert all(value.dtype == torch.float32 for value in found.values() if value.is_floating_point())
    # Our own reader gives the probabilities of these logits, with the pixels of the checkpoint.
    image = drawn(1, seed=7)[0][0]
    processor = AutoImageProcessor.from_pretrained(finished.out)
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    mean, deviation = np.array(PREPROCESSOR["image_mean"]), np.array(PREPROCESSOR["image_std"])
    assert np.allclose(pixels[0].permute(1, 2, 0), (image / 255 - mean) / deviation, atol=1e-5)
    with torch.no_grad():
        expected = net.eval()(pixels).logits.softmax(1)[0, 1]
    scores = Segmenter(str(finished.out))(image[None])[0]
    assert np.allclose(scores, expected.numpy(), atol=1e-5)


def test_it_can_be_trained_further(finished: Finished) -> None:
    _, normalisation, new = starting_point(
        finished.recipe.model.model_copy(update={"checkpoint": str(finished.out)}), seed=0
    )
    assert new == [] and normalisation.mean == (0.5, 0.4, 0.3) and normalisation.std == (0.25, 0.2, 0.1)
    assert normalisation.divisor == pytest.approx(255)


def test_the_figures(finished: Finished) -> None:
    trained, best = read_trained(finished.storage), finished.state.best
    assert is_finished(finished.storage) and best is not None
    assert (trained.step, trained.steps) == (best.step, 4) and trained.validation == best.figures
    assert trained.threshold == best.threshold == best.figures["threshold"]
    assert trained.loss == finished.log[-1]["loss"]  # the last tenth of four steps
    assert trained.seconds == pytest.approx(sum(line["seconds"] for line in finished.log))
    assert trained.new_weights == ["decode_head.classifier.weight", "decode_head.classifier.bias"]
    assert trained.digest == finished.identity.digest and trained.skipped == {}


def test_logs_are_one_file_each(finished: Finished) -> None:
    for name, lines in (("log.jsonl", finished.log), ("samples.jsonl", finished.samples)):
        assert [json.loads(line) for line in (finished.out / name).read_text().splitlines()] == lines
    assert len(finished.log) == 4 and len(finished.samples) == 32


def test_the_card(finished: Finished) -> None:
    card = ModelCard.load(finished.out / "README.md")
    front = yaml.safe_load((finished.out / "README.md").read_text().split("---")[1])
    assert front == {
        "library_name": "transformers",
        "model_name": "small",
        "pipeline_tag": "image-segmentation",
        "tags": ["flawforge", "image-artifacts", "detector"],
    }
    trained = read_trained(finished.storage)
    assert trained.validation is not None
    assert (
        f"pooled IoU_fg is {trained.validation['iou_fg']:.1%} at the threshold {trained.threshold:.2f}"
        in card.text
    )
    assert f"{trained.step} steps of 8 images from `small.tar`. Class 1 is the artifact." in card.text
    assert f"| small | 8 | mask | 1 | `{finished.identity.data[0].digest[:16]}` |" in card.text
    assert "It began with the weights `net@" in card.text


def test_no_file_names_a_place_of_this_machine(
    finished: Finished, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = [path for path in finished.out.rglob("*") if path.is_file()]
    assert len(names) > 8
    places = [str(tmp_path_factory.getbasetemp()), str(Path.home()), str(Path(__file__).parents[2])]
    for path in names:
        assert not any(place.encode() in path.read_bytes() for place in places if place != "/"), path


def test_without_validation_it_is_the_last_checkpoint_and_the_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finished = Finished(tmp_path, ema=0.5)
    plain = finished.recipe.model_copy(update={"validation": None})
    last = checkpoint.read_state(finished.storage, 4).model_copy(update={"best": None})
    finished.storage.remove("checkpoints/000004.json")
    checkpoint.commit(finished.storage, last)
    write_result(finished.storage, plain, finished.identity)
    trained = read_trained(finished.storage)
    assert (trained.step, trained.threshold, trained.validation) == (4, None, None)
    assert "IoU_fg" not in (finished.out / "README.md").read_text()
    average = load_file(finished.out / "checkpoints/000004.ema.safetensors")
    found = load_file(finished.out / "model.safetensors")
    assert all(torch.equal(value, average[f"module.net.{name}"]) for name, value in found.items())


def test_a_finished_float64_training_is_stored_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_upernet(tmp_path / "net")
    tar = tar_of(tmp_path / "small.tar", drawn(8))
    recipe = with_data(recipe_of("net", iterations=1), ["small.tar"])
    identity = TrainingIdentity.of(recipe, [data_of(tar)], None)
    loop_of(recipe, tar, tmp_path / "out", digest=identity.digest).run()
    write_result(Storage(str(tmp_path / "out")), recipe, identity)
    found = load_file(tmp_path / "out/model.safetensors")
    exact = load_file(tmp_path / "out/checkpoints/000001.model.safetensors")
    assert exact["net.decode_head.classifier.weight"].dtype == torch.float64
    for name, value in found.items():
        if value.is_floating_point():
            assert value.dtype == torch.float32 and torch.equal(value, exact[f"net.{name}"].float())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"step": 1}', b"[" * 100_000])
def test_damaged_figures(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "metrics.json").write_bytes(data)
    with pytest.raises(OutputError, match=f"{tmp_path}: metrics.json is damaged: "):
        read_trained(Storage(str(tmp_path)))


def test_damaged_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finished = Finished(tmp_path)
    (finished.out / "metrics.json").unlink()
    path = finished.out / "log/000004.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(OutputError, match=r"log/000004.jsonl is damaged"):
        write_result(finished.storage, finished.recipe, finished.identity)
    assert not is_finished(finished.storage)
    state = checkpoint.read_state(finished.storage, 4)
    record = checkpoint.write_tensors(finished.storage, 4, "model", {"net.more": torch.zeros(1)})
    finished.storage.remove("checkpoints/000004.json")
    best = state.best.model_copy(update={"step": 4}) if state.best else None
    checkpoint.commit(finished.storage, state.model_copy(update={"files": {"model": record}, "best": best}))
    with pytest.raises(OutputError, match=r"the checkpoint of step 4 does not fit"):
        write_result(finished.storage, finished.recipe, finished.identity)
    assert not is_finished(finished.storage)
