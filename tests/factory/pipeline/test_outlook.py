"""UNet evaluations that a plan promises, added up by hand, and equal to what the corruptor counts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.batch import Sample
from actors.errors import ModelError
from actors.images import encode_image, encode_mask
from factory.build import build
from factory.pipeline.outlook import outlook, unet_rows
from factory.pipeline.stages import corruptor
from factory.recipe.recipe import Recipe, parse_recipe
from flawforge.cli import main
from tests.model_folders import edit
from tinytown.render import render
from tinytown.scene import sample_scene

SMALL = """\
name: small
source: {kind: tinytown, size: 64, limit: 3}
regions: {kind: source}
corruption: {batch_size: 2}
verify: {least_inside: 0, most_outside: 1}
"""
PLAIN = ("corruption.inversion.averaging=false", "corruption.inversion.regularisation=false")
CASES = [
    # k = 10, fast: 1 + 5 + 2 + 7 x 1
    ((), 35, "inversion 15, round trip 10, resampling 10"),
    (("corruption.inversion_steps=5",), 20, "inversion 10, round trip 5, resampling 5"),
    (
        ("corruption.inversion_steps=5", "corruption.deeper=[10, 20]"),
        35,
        "inversion to k = 20 25, round trip 5, resampling 5",
    ),
    (("corruption.inversion.extra=2",), 55, "inversion 35, round trip 10, resampling 10"),
    (("verify.baseline=autoencoder",), 25, "inversion 15, resampling 10"),
    (("verify.baseline=original",), 25, "inversion 15, resampling 10"),
    (("corruption.target=image",), 0, "the image latent is corrupted and decoded"),
    (
        ("corruption.guidance_scale=3", "corruption.prompt=caption"),
        70,
        "inversion 30, round trip 20, resampling 20",
    ),
    # 10 steps below timestep 250: 1 + 5 iterations, and 1 for the noise that regularisation wants
    (("corruption.inversion.mode=published",), 90, "inversion 70, round trip 10, resampling 10"),
    # timesteps 1, 21, ..., 281: 13 below 250 with 1 + 5, two above with 1 + 9
    (
        ("corruption.inversion.mode=renoise", "corruption.inversion_steps=15", *PLAIN),
        128,
        "inversion 98, round trip 15, resampling 15",
    ),
    (
        ("corruption.inversion.mode=renoise", "corruption.inversion.iterations=0", *PLAIN),
        30,
        "inversion 10, round trip 10, resampling 10",
    ),
]


def small(*changes: str) -> Recipe:
    return parse_recipe(SMALL, "small.yaml", changes)


@pytest.mark.parametrize(("changes", "rows", "explained"), CASES)
def test_rows_by_hand(changes: tuple[str, ...], rows: int, explained: str):
    assert unet_rows(small(*changes)) == (rows, explained)


@pytest.mark.parametrize(("changes", "rows"), [case[:2] for case in CASES])
def test_the_corruptor_counts_the_same(changes: tuple[str, ...], rows: int):
    mask = np.zeros((64, 64), bool)
    mask[16:40, 20:44] = True
    image = encode_image(render(sample_scene(1)).image)
    sample = Sample("a", "", caption="a hand", image=image, mask=encode_mask(mask))
    (found,) = corruptor(small("corruption.batch_size=1", *changes))([sample])
    assert found.verified and found.attempts == 1 and found.unet_rows == rows


def test_the_outlook_names_the_regions():
    stages = {stage.name: stage.what for stage in outlook(small()).stages}
    assert stages["select"] == "regions from the source's masks"
    clean = (
        "regions.kind=none",
        "corruption.method=none",
        "verify.baseline=original",
        "verify.most_outside=0",
    )
    stages = {stage.name: stage.what for stage in outlook(small(*clean)).stages}
    assert stages["select"] == "no regions: clean negatives"
    assert stages["corrupt"] == "none, k = 10, tinytown, then verify"


def test_the_outlook_names_the_share_of_the_regions_and_the_judge():
    judge = "verify.judge={kind: detector, folder: out/detector, threshold: 0.5}"
    stages = {stage.name: stage.what for stage in outlook(small("regions.share=0.4", judge)).stages}
    assert stages["select"] == "regions from the source's masks, 40% of them by chance"
    assert stages["corrupt"] == "noise, k = 10, tinytown, then verify, judged by out/detector"


def test_the_outlook_says_where_latents_are_broken():
    def words(*changes: str) -> str:
        return next(stage.what for stage in outlook(small(*changes)).stages if stage.name == "corrupt")

    assert words() == "noise, k = 10, tinytown, then verify"
    assert words("corruption.deeper=[15, 20]") == "noise, k = 10, then 15, then 20, tinytown, then verify"
    assert (
        words("corruption.target=image")
        == "noise, image latent at the noise level of k = 10, tinytown, then verify"
    )


ZERO_SNR = {
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}


@pytest.fixture
def zero_snr(tmp_path: Path) -> Path:
    """A model whose last timestep is pure noise."""
    golden = Path(__file__).parents[2] / "golden" / "tiny_sd"
    folder = Path(shutil.copytree(golden, tmp_path / "zero-snr"))
    edit(folder / "scheduler" / "scheduler_config.json", **ZERO_SNR)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        ("corruption.inversion_steps=50",),
        ("corruption.inversion_steps=10", "corruption.deeper=[20, 50]"),
        ("corruption.inversion_steps=50", "corruption.target=image"),
        ("corruption.inversion_steps=4", "corruption.inference_steps=4"),
    ],
)
def test_steps_without_an_inverse_are_refused_before_any_work(
    zero_snr: Path, tmp_path: Path, changes: tuple[str, ...]
):
    recipe = small(f"corruption.model={zero_snr}", *changes)
    most = recipe.corruption.inference_steps - 1
    message = f"ends at timestep 999; alpha_bar is 0 there .*corruption.deeper to at most {most}"
    with pytest.raises(ModelError, match=message):
        outlook(recipe)
    with pytest.raises(ModelError, match=message):
        build(recipe, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_steps_that_have_one_are_planned(zero_snr: Path):
    for changes in (("corruption.inversion_steps=49",), ("corruption.inversion_steps=10",)):
        assert outlook(small(f"corruption.model={zero_snr}", *changes)).items == 3


def test_the_command_line_says_so_without_a_traceback(
    zero_snr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "recipe.yaml").write_text(SMALL)
    settings = ["--set", f"corruption.model={zero_snr}", "--set", "corruption.inversion_steps=50"]
    monkeypatch.setattr(sys, "argv", ["flawforge", "plan", str(tmp_path / "recipe.yaml"), *settings])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(
        f"flawforge: {zero_snr}: inversion step 50 ends at timestep 999"
    )


def test_a_model_that_is_not_on_this_machine_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert outlook(small("corruption.model=somebody/model")).items == 3
    with pytest.raises(ModelError, match="there is no folder"):
        outlook(small("corruption.model=./somewhere/model"))
