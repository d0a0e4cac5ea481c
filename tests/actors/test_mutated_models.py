"""Damaged model folders: what loads has the weights that are stored, and works; all else is a ModelError."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from actors.diffusion.model import DiffusionModel
from actors.errors import ModelError
from actors.models import fingerprint
from actors.segmentation.segmenter import Segmenter
from tests.mutations.models import mutate, stored
from tests.upernet import save_upernet

TINY = Path(__file__).parents[1] / "golden" / "tiny_sd"
IMAGES = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
FAST, SLOW = range(100), range(100, 500)


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    """Every tensor of a network is as stored, whatever prefix its name had, and in whatever precision."""
    plain = {
        re.sub(r"^(_orig_mod\.|module\.|text_model\.)+", "", name): value for name, value in wanted.items()
    }
    return all(
        torch.equal(value, plain[name].to(value.dtype))
        for name, value in ((name.removeprefix("text_model."), value) for name, value in found.items())
    )


def diffusion(folder: Path) -> None:
    model = DiffusionModel(str(folder))
    parts = {"unet": model.unet, "vae": model.vae, **{text.part: text.network for text in model.texts}}
    for part, network in parts.items():
        assert same(network.state_dict(), stored(folder, part)), part
    fingerprint(str(folder))
    latents = model.encode(IMAGES)
    model.denoise(latents, 1, model.embed(["a red cat"]).embeds)
    model.decode(latents)


def segmenter(folder: Path) -> None:
    model = Segmenter(str(folder), batch_size=1)
    assert same(model.net.state_dict(), stored(folder, ""))
    fingerprint(str(folder))
    scores = model(IMAGES)
    assert scores.shape == (1, 64, 64) and np.isfinite(scores).all()


def check(tmp_path: Path, numbers: range) -> None:
    sound = save_upernet(tmp_path / "net")
    (sound / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    )
    refused = 0
    for number in numbers:
        work, template = (diffusion, TINY) if number % 2 else (segmenter, sound)
        folder = Path(shutil.copytree(template, tmp_path / f"{number}"))
        done = mutate(folder, number)
        try:
            work(folder)
        except ModelError as error:
            refused += 1
            assert str(folder) in str(error), (number, done)
        except Exception as error:
            raise AssertionError(f"{number}: {done}: {error!r}") from error
        shutil.rmtree(folder)
    assert len(numbers) // 2 < refused < len(numbers), "most are refused, and some do no harm"


def test_damaged_folders_load_as_stored_or_are_refused(tmp_path: Path):
    check(tmp_path, FAST)


@pytest.mark.slow
def test_many_damaged_folders_load_as_stored_or_are_refused(tmp_path: Path):
    check(tmp_path, SLOW)
