"""The corruptor on a small random model: what it fills in, how it tries again, and what it counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.batch import METRICS, Sample
from actors.corruptor import Corruptor, Settings
from actors.diffusion import DiffusionModel
from actors.errors import Reject
from actors.images import encode_image, encode_mask, read_image, read_mask
from actors.seeding import seed_for
from actors.verifier import Limits
from tinytown.render import render
from tinytown.scene import sample_scene

SETTINGS = Settings(
    method="noise",
    inference_steps=50,
    inversion_steps=6,
    iterations=1,
    use_caption=False,
    batch_size=4,
    run_seed=7,
    limits=Limits(changed_threshold=0.01, least_inside=0.05, most_outside=1.0, margin=0),
)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return DiffusionModel(str(Path(__file__).parents[1] / "golden" / "tiny_sd"), device="cpu")


def samples(*seeds: int) -> list[Sample]:
    mask = np.zeros((64, 64), bool)
    mask[16:40, 20:44] = True
    return [
        Sample(f"s{seed}", "", image=encode_image(render(sample_scene(seed)).image), mask=encode_mask(mask))
        for seed in seeds
    ]


def test_everything_is_filled_in(model: DiffusionModel):
    found = Corruptor(model, SETTINGS)(samples(1, 2, 3, 4, 5))
    for sample in found:
        assert not sample.rejected and sample.verified and sample.attempts == 1
        assert read_image(sample.corrupted).shape == (64, 64, 3)
        assert read_mask(sample.changed).shape == (64, 64)
        assert set(sample.metrics) == set(METRICS)
        assert sample.metrics["mask_area"] == pytest.approx(24 * 24 / 64**2)
        assert sample.seed == seed_for(7, sample.key, "corrupt", 0)
        assert sample.unet_rows == 6 * 2 + 6 + 6  # inversion, round trip, resampling


def test_the_same_call_gives_the_same_bytes(model: DiffusionModel):
    one, two = (Corruptor(model, SETTINGS)(samples(1, 2, 3)) for _ in range(2))
    assert [sample.corrupted for sample in one] == [sample.corrupted for sample in two]


def test_neighbours_do_not_matter(model: DiffusionModel):
    corruptor = Corruptor(model, SETTINGS)
    together, alone = corruptor(samples(1, 2, 3, 4, 5))[4], corruptor(samples(5))[0]
    difference = read_image(together.corrupted).astype(int) - read_image(alone.corrupted)
    assert np.abs(difference).max() <= 1


def test_another_run_seed_draws_other_noise(model: DiffusionModel):
    one = Corruptor(model, SETTINGS)(samples(1))[0]
    other = Corruptor(model, replace(SETTINGS, run_seed=8))(samples(1))[0]
    assert one.seed != other.seed and one.corrupted != other.corrupted


def test_none_is_the_round_trip_and_is_rejected_as_unchanged(model: DiffusionModel):
    (found,) = Corruptor(model, replace(SETTINGS, method="none"))(samples(1))
    assert (found.stage, found.reason) == ("verify", "unchanged")
    assert found.metrics["changed_area"] == 0 and found.corrupted is not None


def test_failures_are_tried_again_with_another_draw(model: DiffusionModel):
    impossible = replace(SETTINGS.limits, changed_threshold=0.99, least_inside=1.0)
    settings = replace(SETTINGS, limits=impossible, attempts=3)
    (found,) = Corruptor(model, settings)(samples(1))
    assert (found.reason, found.attempts) == ("unchanged", 3)
    assert found.seed == seed_for(7, "s1", "corrupt", 2)
    assert found.unet_rows == 6 * 2 + 6 + 3 * 6  # the inversion and the round trip serve every draw


def test_failures_may_be_kept_and_marked(model: DiffusionModel):
    impossible = replace(SETTINGS.limits, changed_threshold=0.99, least_inside=1.0)
    (found,) = Corruptor(model, replace(SETTINGS, limits=impossible, keep_failures=True))(samples(1))
    assert not found.rejected and not found.verified and found.corrupted


def test_rejected_samples_pass_through(model: DiffusionModel):
    broken = Sample("b", "")
    broken.reject("select_image", Reject("empty", "the file has no bytes"))
    first, second = Corruptor(model, SETTINGS)([broken, *samples(1)])
    assert first.reason == "empty" and first.corrupted is None and second.corrupted is not None


def test_an_unknown_method_is_told(model: DiffusionModel):
    with pytest.raises(ValueError, match="no corruption 'melt'; there are noise, none"):
        Corruptor(model, replace(SETTINGS, method="melt"))
