"""`import flawforge`: light, typed, never shadowed, and equal to what a build does."""

from __future__ import annotations

import copy
import importlib
import io
import pkgutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import flawforge
from actors.batch import Sample
from actors.errors import ArgumentError, FlawforgeError, RecipeError, RejectedError
from actors.images import encode_image, encode_mask, read_image, read_mask
from factory.pipeline.stages import corruptor, image_selector, load, region_selector
from factory.recipe.recipe import Recipe, parse_recipe
from factory.sources import open_source
from flawforge import Corruptor
from flawforge.api import resolve_recipe
from tests.patience import seconds
from tests.upernet import save_upernet

ROOT = Path(__file__).parents[2]

RECIPE = """
name: single
seed: 7
source: {kind: tinytown, limit: 4, size: 64, first_seed: 500}
regions: {kind: source}
corruption: {inference_steps: 8, inversion_steps: 5, prompt: caption, batch_size: 2}
verify: {attempts: 2, changed_threshold: 0.06, least_inside: 0.1}
"""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return parse_recipe(RECIPE, "single.yaml")


@pytest.fixture(scope="module")
def samples(recipe: Recipe) -> list[Sample]:
    """Four items, as the stages of a build make them."""
    source = open_source(recipe.source, recipe.seed)
    loaded = load(source, list(source.list()), image_selector(recipe))
    return corruptor(recipe)(region_selector(recipe)(loaded))


@pytest.fixture(scope="module")
def tiny() -> Corruptor:
    """One that is fast and accepts everything: noise in the image latent, no UNet."""
    return Corruptor(target="image", verify={"least_inside": 0, "most_outside": 1})


def grey(height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def square(height: int = 64, width: int = 64) -> np.ndarray:
    mask = np.zeros((height, width), np.bool_)
    mask[16:40, 16:40] = True
    return mask


def test_importing_it_is_light():
    code = (
        "import sys, flawforge\n"
        "heavy = {'torch', 'ray', 'diffusers', 'transformers', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "flawforge.load_recipe('quickstart')\n"
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=seconds(120))
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_submodule_shadows_a_public_name():
    before = {name: getattr(flawforge, name) for name in flawforge.__all__}
    for module in pkgutil.walk_packages(flawforge.__path__, "flawforge."):
        if module.name != "flawforge.__main__":
            importlib.import_module(module.name)
    for name, value in before.items():
        assert getattr(flawforge, name) is value and callable(value) and not isinstance(value, ModuleType)


def test_the_types_are_in_the_wheel():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package in ("flawforge", "eval", "factory", "actors"):  # types of these are in the signatures
        assert "py.typed" in data[package] and (ROOT / package / "py.typed").is_file()


def test_every_public_name_is_documented_with_an_example():
    for name in flawforge.__all__:
        page = getattr(flawforge, name).__doc__
        assert page
        if name in ("build", "preview", "verify", "evaluate", "load_reward", "Corruptor"):
            assert ">>> " in page and "Args:" in page and "Raises:" in page


def test_single_images_equal_those_of_a_build(recipe: Recipe, samples: list[Sample]):
    corrupt = Corruptor.from_recipe(recipe)
    accepted = [sample for sample in samples if not sample.rejected]
    rejected = [sample for sample in samples if sample.rejected]
    assert accepted and rejected  # or the recipe above tests half of it
    for sample in accepted:
        image, mask = read_image(sample.image), read_mask(sample.mask)
        corrupted, changed = corrupt(image, mask, caption=sample.caption, key=sample.key)
        assert np.array_equal(corrupted, read_image(sample.corrupted))
        assert changed.dtype == np.bool_ and np.array_equal(changed, read_mask(sample.changed))
    for sample in rejected:
        with pytest.raises(RejectedError) as refused:
            corrupt(read_image(sample.image), read_mask(sample.mask), caption=sample.caption, key=sample.key)
        assert refused.value.reason == sample.reason and sample.detail in str(refused.value)


def test_settings_have_the_names_of_a_recipe(samples: list[Sample]):
    corrupt = Corruptor(
        "tinytown",
        seed=7,
        inference_steps=8,
        inversion_steps=5,
        prompt="caption",
        batch_size=2,
        verify={"attempts": 2, "changed_threshold": 0.06, "least_inside": 0.1},
    )
    sample = next(sample for sample in samples if not sample.rejected)
    image = Image.fromarray(read_image(sample.image))
    mask = Image.fromarray(read_mask(sample.mask))
    corrupted, changed = corrupt(image, mask, caption=sample.caption, key=sample.key)
    assert isinstance(corrupted, Image.Image) and isinstance(changed, np.ndarray)
    assert np.array_equal(np.asarray(corrupted), read_image(sample.corrupted))


def test_every_default_but_the_batch_size_is_the_recipes(tiny: Corruptor):
    minimal = "name: x\nsource: {kind: tinytown, size: 64}\nregions: {kind: source}\n"
    defaults, settings = parse_recipe(minimal, "x.yaml"), Corruptor(target="image").recipe
    assert settings.corruption == defaults.corruption.model_copy(update={"target": "image", "batch_size": 1})
    assert (settings.seed, settings.verify) == (defaults.seed, defaults.verify)
    assert tiny.recipe.verify.least_inside == 0


def test_masks_of_every_kind_give_the_same(tiny: Corruptor):
    image, mask = grey(64, 96), square(64, 96)
    first, changed = tiny(image, mask)
    assert first.shape == (64, 96, 3) and changed.shape == (64, 96) and changed.any()
    first[0] = 0  # the caller's own copy
    levels = mask.astype(np.uint8)
    for other in (levels, levels * 255, Image.fromarray(mask), Image.fromarray(levels * 255)):
        again, where = tiny(image, other)
        assert np.array_equal(again[1:], first[1:]) and np.array_equal(where, changed)
    assert not np.array_equal(tiny(image, mask, key="another")[0][1:], first[1:])


@pytest.mark.parametrize(
    ("image", "mask", "sentence"),
    [
        (grey(), square() & False, "mask: empty; at least one pixel must be inside the region"),
        (grey(), square(64, 96), "mask: 96 x 64 pixels; the image is 64 x 64"),
        (grey(), np.uint8(255) * square(96, 64), "mask: the mask is 64 x 96 pixels, the image 64 x 64"),
        (grey(), np.arange(4096, dtype=np.uint8).reshape(64, 64), "mask: .*levels"),
        (grey(), square().astype(np.float32), r"mask: float32 \[64, 64\]; allowed: a PIL image, bool"),
        (grey(), Image.fromarray(square().astype(np.float32)), "mask: a PIL image of mode F; allowed: mode 1"),
        (grey(), None, "mask: found NoneType; allowed"),
        (grey(60, 60), square(60, 60), "image: 60 x 60 pixels; tinytown.* takes sides that are a multiple of"),
        (grey()[:, :, 0], square(), r"image: uint8 \[64, 64\]; allowed: .* uint8 \[H, W, 3\]"),
        (grey() / 255, square(), r"image: float64 \[64, 64, 3\]; allowed"),
        (Image.fromarray(grey()).convert("RGBA"), square(), r'image: mode RGBA; allowed: RGB, as image.convert'),
    ],
)  # fmt: skip
def test_what_cannot_be_corrupted_is_stated(tiny: Corruptor, image: object, mask: object, sentence: str):
    with pytest.raises(ArgumentError, match=sentence) as refused:
        tiny(image, mask)
    assert isinstance(refused.value, FlawforgeError) and isinstance(refused.value, ValueError)


def test_without_corruption_the_region_may_be_empty(samples: list[Sample]):
    """A clean negative of one image; the autoencoder keeps a scene to within a few levels."""
    settings = ["corruption.batch_size=1", "corruption.target=image", "verify.most_outside=1"]
    image = read_image(samples[0].image)
    made, changed = Corruptor.from_recipe("tinytown-negatives", overrides=settings)(image, square() & False)
    apart = np.abs(made.astype(int) - image).mean()
    assert 0 < apart < 8 and changed.mean() < 0.1


def test_an_unchanged_image_is_an_error_that_says_what_to_do():
    corrupt = Corruptor(target="image", method="none")
    with pytest.raises(
        RejectedError, match=r"unchanged: 0\.0% of the region changed; .*raise inversion_steps"
    ):
        corrupt(grey(), square())
    assert (
        str(copy.copy(RejectedError("unchanged", "a sentence"))) == "unchanged: a sentence"
    )  # as from a worker
    kept = Corruptor(target="image", method="none", verify={"on_failure": "keep"})
    assert not kept(grey(), square())[1].any()


def test_wrong_settings_are_listed_together():
    with pytest.raises(RecipeError) as refused:
        Corruptor(inversion_steps=60, metod="noise", verify={"attempts": 0})
    text = str(refused.value)
    assert text.startswith("settings of Corruptor:\n") and "line" not in text
    assert "corruption.inversion_steps: found 60; allowed: at most inference_steps (50)" in text
    assert "corruption.metod: unknown key; did you mean 'method'?" in text
    assert "verify.attempts: found 0; allowed: a whole number from 1 to 16" in text
    with pytest.raises(ArgumentError, match="device: found 'gpu'; allowed: cpu, cuda"):
        Corruptor(device="gpu")


def test_overrides_change_a_loaded_recipe_and_leave_its_urls(recipe: Recipe):
    changed = resolve_recipe(recipe, ["corruption.inversion_steps=4"])
    assert changed.corruption.inversion_steps == 4 and recipe.corruption.inversion_steps == 5
    signed = "https://host/a.tar?X-Amz-Signature=abc"
    text = (
        f"name: a\nsource: {{kind: webdataset, size: 64, urls: ['{signed}'], fields: {{mask: mask.png}}}}\n"
    )
    remote = parse_recipe(text + "regions: {kind: source}\n", "a.yaml")
    assert resolve_recipe(remote, ["seed=1"]).source.urls == [signed]
    with pytest.raises(RecipeError, match="single: 1 mistake"):
        resolve_recipe(recipe, ["corruption.inversion_steps=9"])


def test_preview(tmp_path: Path, recipe: Recipe):
    page = tmp_path / "new" / "page.html"
    tried = flawforge.preview(recipe, 2, k=[2, 3], page=page, overrides=["corruption.deeper=[6]"])
    assert [trial.inversion_steps for trial in tried.trials] == [2, 3] and tried.items == 2
    assert page.read_text().count('class="tile') == 4
    with pytest.raises(ArgumentError, match="n: found 0; allowed: at least 1"):
        flawforge.preview(recipe, 0)


def test_evaluate(tmp_path: Path):
    """A segmenter that predicts every pixel, on an image of which a quarter is true."""
    checkpoint = save_upernet(tmp_path / "everywhere", bias=2.0)
    mask = np.zeros((64, 64), np.bool_)
    mask[:16] = True
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in (("a.image.png", encode_image(grey())), ("a.mask.png", encode_mask(mask))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    report = flawforge.evaluate(checkpoint, data=tmp_path / "a.tar")
    assert report.evaluation.iou_fg.value == 0.25 and report.threshold_from == "default"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"split": "validation", "data": ["a.tar"]}, "split: give split or data, not both"),
        ({"split": "wild"}, "split: allowed: labelled, validation, sealed"),
        ({"threshold": 50}, "threshold: found 50; allowed: 0 to 1"),
        ({"ignore_index": 255}, "data: the masks of a split need no settings"),
    ],
)
def test_arguments_of_evaluate_are_checked(arguments: dict[str, object], sentence: str):
    with pytest.raises(ArgumentError, match=sentence):
        flawforge.evaluate("nowhere", **arguments)


def test_an_unknown_mode_is_refused(tmp_path: Path):
    with pytest.raises(ArgumentError, match="mode: allowed: resume, extend, again, overwrite"):
        flawforge.build("quickstart", tmp_path / "out", mode="merge")
    assert not (tmp_path / "out").exists()
