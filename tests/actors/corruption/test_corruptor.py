"""The corruptor: what it fills in, how it tries again, and what it counts.

Most of it with a model without networks; samples do not see each other with a small random network, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import actors.corruption.corruptor as module
from actors.batch import METRICS, Sample
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.model import DiffusionModel
from actors.errors import ModelError, Reject
from actors.images import encode_image, encode_mask, read_image, read_mask
from actors.seeding import seed_for
from tests.corruptors import SPILLED, UNCHANGED, corruptor
from tests.exact_model import ExactModel, Full
from tests.families import save_sdxl
from tinytown.render import render
from tinytown.scene import sample_scene

TINY = Path(__file__).parents[2] / "golden" / "tiny_sd"


class Counting(DiffusionModel):
    """Notes how many rows every call of the UNet has."""

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(model, **options)
        self.calls: list[int] = []

    def denoise(self, latents: torch.Tensor, *others: Any, **more: Any) -> torch.Tensor:
        self.calls.append(len(latents))
        return super().denoise(latents, *others, **more)


@pytest.fixture(scope="module")
def network() -> Counting:
    return Counting(str(TINY), device="cpu")


@pytest.fixture(scope="module")
def model() -> ExactModel:
    return ExactModel()


def samples(*seeds: int, side: int = 64) -> list[Sample]:
    mask = np.zeros((side, side), bool)
    mask[16:40, 20:44] = True
    return [
        Sample(
            f"s{seed}",
            "",
            caption=f"scene {seed}",
            image=encode_image(render(sample_scene(seed)).image[:side, :side]),
            mask=encode_mask(mask),
        )
        for seed in seeds
    ]


def run(model: DiffusionModel, items: Sequence[Sample], **changes: Any) -> list[Sample]:
    return corruptor(model, **changes)(items)


def figures(model: DiffusionModel, attempts: int, *seeds: int, **changes: Any) -> list[float]:
    """`change_inside` of the last of `attempts` draws, none of which is accepted."""
    never = corruptor(model, attempts=attempts, **changes)
    never.verifier.config = never.verifier.config.model_copy(update={"least_inside": 1.1})
    return [sample.metrics["change_inside"] for sample in never(samples(*seeds))]


def apart(one: Sample, other: Sample) -> int:
    """Largest difference in levels of 255."""
    return int(np.abs(read_image(one.corrupted).astype(int) - read_image(other.corrupted)).max())


def test_everything_is_filled_in(network: Counting):
    found = run(network, samples(1, 2, 3, 4, 5))
    for sample in found:
        assert not sample.rejected and sample.verified and sample.attempts == 1
        assert read_image(sample.corrupted).shape == (64, 64, 3)
        assert read_mask(sample.changed).shape == (64, 64)
        assert set(sample.metrics) == set(METRICS)
        assert sample.metrics["mask_area"] == pytest.approx(24 * 24 / 64**2)
        assert sample.seed == seed_for(7, sample.key, "corrupt", 0)
        assert sample.inversion_steps == 6
        assert sample.unet_rows == 6 * 2 + 6 + 6  # inversion, round trip, resampling


def test_the_same_call_gives_the_same_bytes_on_any_number_of_threads(model, monkeypatch):
    one = run(model, samples(1, 2, 3, 4, 5, 6), attempts=2, **UNCHANGED)
    monkeypatch.setattr(module, "THREADS", 1)
    two = run(model, samples(1, 2, 3, 4, 5, 6), attempts=2, **UNCHANGED)
    assert [sample.corrupted for sample in one] == [sample.corrupted for sample in two]


@pytest.mark.parametrize("changes", [{}, {"inversion": InversionConfig()}, {"target": "image"}])
def test_neighbours_hardly_matter_to_a_network(network: Counting, changes: dict[str, Any]):
    """A row's place in a batch may change a network's output by 1e-6, depending on the CPU."""
    together = run(network, samples(1, 2, 3, 4, 5), **changes)
    for number in (2, 5):
        sample, (alone,) = together[number - 1], run(network, samples(number), **changes)
        assert apart(sample, alone) <= 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"inversion": InversionConfig()},
        {"inversion_steps": 2, "inversion": InversionConfig(mode="published")},
        {"target": "image"},
        {"guidance_scale": 3.0, "prompt": "caption"},
        {"deeper": [8, 10], **UNCHANGED, "attempts": 2},
    ],
)
def test_neighbours_do_not_matter(model: ExactModel, changes: dict[str, Any]):
    together = run(model, samples(1, 2, 3, 4, 5), **changes)
    for number in (2, 5):
        sample, (alone,) = together[number - 1], run(model, samples(number), **changes)
        assert sample.corrupted == alone.corrupted
        assert (sample.seed, sample.attempts, sample.unet_rows) == (
            alone.seed,
            alone.attempts,
            alone.unet_rows,
        )


def test_the_order_of_the_samples_does_not_matter_where_batches_are_full(model: ExactModel):
    straight = run(model, samples(1, 2, 3, 4, 5, 6, 7, 8))
    mixed = run(model, samples(6, 3, 8, 1, 2, 7, 4, 5))
    assert {one.key: one.corrupted for one in straight} == {one.key: one.corrupted for one in mixed}


def test_another_run_seed_draws_other_noise(model: ExactModel):
    (one,), (other,) = run(model, samples(1)), run(model, samples(1), seed=8)
    assert one.seed != other.seed and one.corrupted != other.corrupted


def test_none_is_the_round_trip_and_is_rejected_as_unchanged(model: ExactModel):
    (found,) = run(model, samples(1), method="none")
    assert (found.stage, found.reason) == ("verify", "unchanged")
    assert found.metrics["changed_area"] == 0 and found.corrupted is not None


def test_none_over_a_full_mask_is_the_round_trip(model: ExactModel):
    item = samples(1)[0]
    item.mask = encode_mask(np.ones((64, 64), bool))
    (found,) = run(model, [item], method="none", least_inside=0.0)
    assert found.verified and (found.metrics["changed_area"], found.metrics["mask_area"]) == (0, 1)
    assert found.metrics["change_outside"] == 0  # there is no outside
    other = run(model, samples(1), method="none")[0]
    assert found.corrupted == other.corrupted


def test_an_empty_mask_changes_nothing(model: ExactModel):
    item = samples(1)[0]
    item.mask = encode_mask(np.zeros((64, 64), bool))
    (found,) = run(model, [item])
    assert found.reason == "unchanged" and found.metrics["changed_area"] == 0


CLEAN = {"method": "none", "least_inside": 0.0, "baseline": "original", "changed_threshold": 0.1}
"""Settings that make clean negatives."""


def without_region(image: np.ndarray) -> Sample:
    return Sample("n", "", image=encode_image(image), mask=encode_mask(np.zeros(image.shape[:2], bool)))


def test_a_clean_negative_that_is_as_it_was_is_accepted(model: ExactModel):
    """Blocks of one grey survive the autoencoder of this model, which averages over 8 x 8 pixels."""
    levels = np.random.default_rng(3).integers(0, 255, (8, 8, 1), np.uint8)
    blocks = levels.repeat(8, 0).repeat(8, 1).repeat(3, 2)
    (found,) = run(model, [without_region(blocks)], **CLEAN, target="image", most_outside=0.0)
    assert found.verified and found.attempts == 1 and found.unet_rows == 0
    assert np.abs(read_image(found.corrupted).astype(int) - blocks).max() <= 1
    assert not read_mask(found.changed).any() and found.metrics["changed_area"] == 0


def test_a_clean_negative_is_compared_with_the_image_itself(model: ExactModel):
    """A black and a white half in every 8 x 8 pixels come back grey, 127 of 255 away from both."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, np.arange(64) % 8 >= 4] = 255
    half = stripes.copy()
    half[:32] = 90  # the upper half is plain, and survives
    for image, share in ((stripes, 1.0), (half, 0.5)):
        (kept,) = run(model, [without_region(image)], **CLEAN, target="image", most_outside=1.0)
        assert kept.verified and kept.metrics["change_outside"] == pytest.approx(share, abs=1 / 64)
        assert read_mask(kept.changed)[34:].all() and kept.metrics["change_inside"] == 0
        (refused,) = run(model, [without_region(image)], **CLEAN, target="image", most_outside=0.4)
        assert (refused.stage, refused.reason) == ("verify", "spilled")
        assert "of a clean negative changed; at most 40% is allowed" in refused.detail
        (blind,) = run(model, [without_region(image)], **{**CLEAN, "baseline": "autoencoder"}, target="image")
        assert blind.metrics["changed_area"] == 0


def test_the_round_trip_of_a_clean_negative_costs_inversion_and_resampling(model: ExactModel):
    (found,) = run(model, [without_region(render(sample_scene(1)).image)], **CLEAN, most_outside=1.0)
    assert found.unet_rows == 6 * 2 + 6 and found.inversion_steps == 6
    (with_region,) = run(model, samples(1), method="none", least_inside=0.0)
    assert found.corrupted == with_region.corrupted  # a region makes no difference to `none`


def test_failures_are_tried_again_with_another_draw(model: ExactModel):
    (found,) = run(model, samples(1), **UNCHANGED, attempts=3)
    assert (found.reason, found.attempts) == ("unchanged", 3)
    assert found.seed == seed_for(7, "s1", "corrupt", 2)
    assert found.unet_rows == 6 * 2 + 6 + 3 * 6  # the inversion and the round trip serve every draw


@pytest.mark.parametrize("method", ["blur", "rotate", "downscale", "none"])
def test_what_would_come_out_the_same_is_not_drawn_again(model: ExactModel, method: str):
    (found,) = run(model, samples(1), method=method, **UNCHANGED, attempts=3, deeper=[8])
    assert (found.reason, found.attempts, found.inversion_steps) == ("unchanged", 2, 8)


def test_the_second_draw_may_be_accepted(model: ExactModel):
    first, second = figures(model, 1, *range(8)), figures(model, 2, *range(8))
    number = int(np.argmax(np.subtract(second, first)))
    least = (first[number] + second[number]) / 2
    (found,) = run(model, samples(number), least_inside=least, attempts=4)
    assert found.verified and found.attempts == 2 and found.inversion_steps == 6
    assert found.seed == seed_for(7, found.key, "corrupt", 1)
    assert found.metrics["change_inside"] == pytest.approx(second[number], abs=0.01)
    assert found.unet_rows == 6 * 2 + 6 + 2 * 6


def test_what_does_not_break_is_tried_deeper(model: ExactModel):
    changes: dict[str, Any] = {"deeper": [20], "baseline": "autoencoder"}
    first, deeper = figures(model, 1, *range(8)), figures(model, 1, *range(8), **changes)
    number = int(np.argmax(np.subtract(deeper, first)))
    least = (first[number] + deeper[number]) / 2
    (found,) = run(model, samples(number), least_inside=least, deeper=[20])
    assert found.verified and (found.attempts, found.inversion_steps) == (2, 20)
    assert found.seed == seed_for(7, found.key, "corrupt", 1)
    # one inversion to 20 serves both; round trip and draw at 6, then at 20
    assert found.unet_rows == 20 * 2 + (6 + 6) + (20 + 20)


def test_every_depth_has_its_draws(model: ExactModel):
    (found,) = run(model, samples(1), **UNCHANGED, attempts=2, deeper=[8, 10])
    assert (found.reason, found.attempts, found.inversion_steps) == ("unchanged", 6, 10)
    assert found.seed == seed_for(7, "s1", "corrupt", 5)
    assert found.unet_rows == 10 * 2 + (6 + 8 + 10) + 2 * (6 + 8 + 10)


def test_what_spills_is_not_tried_deeper(model: ExactModel):
    (found,) = run(model, samples(1), **SPILLED, attempts=2, deeper=[8, 10])
    assert (found.reason, found.attempts, found.inversion_steps) == ("spilled", 2, 6)
    assert found.unet_rows == 10 * 2 + 6 + 2 * 6


def test_failures_may_be_kept_and_marked(model: ExactModel):
    (found,) = run(model, samples(1), **UNCHANGED, on_failure="keep", deeper=[8])
    assert not found.rejected and not found.verified and found.corrupted
    assert (found.attempts, found.inversion_steps, found.unet_rows) == (2, 8, 8 * 2 + 2 * (6 + 8))


def test_the_autoencoder_as_the_baseline_costs_no_evaluation(model: ExactModel):
    (found,) = run(model, samples(1), baseline="autoencoder")
    assert found.verified and found.unet_rows == 6 * 2 + 6
    assert found.corrupted == run(model, samples(1))[0].corrupted
    # Nothing is corrupted, so what has changed is what inversion and resampling lose.
    plain = InversionConfig(mode="published", iterations=0, averaging=False, regularisation=False)
    lossy_changes: dict[str, Any] = {
        "inversion": plain,
        "inversion_steps": 20,
        "changed_threshold": 1e-6,
        "least_inside": 0.0,
    }
    (lossy,) = run(model, samples(1), baseline="autoencoder", method="none", **lossy_changes)
    assert lossy.metrics["changed_area"] > 0


def test_an_image_latent_is_corrupted_without_the_unet(model: ExactModel):
    model.calls.clear()
    (found,) = run(model, samples(1), target="image", changed_threshold=0.99, least_inside=0.0)
    assert model.calls == [] and (found.unet_rows, found.inversion_steps, found.attempts) == (0, 0, 1)
    clean = model.encode(np.stack([render(sample_scene(1)).image]))
    noise = torch.randn(
        clean.shape[1:], generator=torch.Generator().manual_seed(seed_for(7, "s1", "corrupt", 0))
    )
    alpha_prod = float(model.scheduler.alphas_cumprod[101])  # k = 6 of 50: 1, 21, 41, 61, 81, 101
    wanted = clean.clone()
    region = (
        slice(None),
        slice(2, 5),
        slice(2, 6),
    )  # rows 16 to 40, columns 20 to 44 in latent pixels of 8 pixels
    wanted[0][region] = alpha_prod**0.5 * clean[0][region] + (1 - alpha_prod) ** 0.5 * noise[region]
    difference = model.decode(wanted)[0].astype(int) - read_image(found.corrupted)
    assert np.abs(difference).max() <= 1


def test_guidance_counts_every_evaluation_twice(model: ExactModel):
    (found,) = run(model, samples(1), guidance_scale=4.0, prompt="caption")
    assert found.unet_rows == 2 * (6 * 2 + 6 + 6)
    (plain,) = run(model, samples(1), prompt="caption")
    assert plain.unet_rows == 6 * 2 + 6 + 6 and apart(found, plain) > 0


def test_regularised_inversion_has_a_seed_of_every_sample(model: ExactModel):
    changes: dict[str, Any] = {"inversion": InversionConfig(mode="published"), "inversion_steps": 2}
    (found,) = run(model, samples(1), **changes)
    assert (
        found.unet_rows == 2 * (1 + 5 + 1) + 2 + 2
    )  # below timestep 250: 5 iterations, and one for the noise
    (other,) = run(model, samples(1), seed=8, **changes)
    assert found.seed != other.seed


def test_sdxl_with_captions_and_guidance(tmp_path: Path):
    model = DiffusionModel(str(save_sdxl(tmp_path / "xl")), device="cpu")
    found = run(model, samples(1, 2, 3), prompt="caption", guidance_scale=2.0, deeper=[8])
    assert all(sample.corrupted and sample.unet_rows >= 2 * (8 * 2 + 6 + 6) for sample in found)


def test_draws_that_are_made_again_share_batches(model: ExactModel):
    """Of five samples in two batches of inversion, one of each fails at first; their second draws share a batch."""
    seeds = list(range(1, 12))
    ordered = [seeds[place] for place in np.argsort(figures(model, 1, *seeds))]
    weak, strong = ordered[:2], ordered[-3:]
    limit = sum(figures(model, 1, weak[1], strong[0])) / 2
    model.calls.clear()
    found = run(model, samples(weak[0], *strong, weak[1]), least_inside=limit, attempts=2)
    assert [sample.attempts for sample in found] == [2, 1, 1, 1, 2]
    inversions, round_trips_and_draws, drawn_again = 2 * 12, 3 * 6, 6  # 5 of 4, 10 of 4, 2 of 4
    assert model.calls == [4] * (inversions + round_trips_and_draws + drawn_again)
    rows = sum(sample.unet_rows for sample in found)
    assert rows == 5 * 24 + 2 * 6  # rows of padding are computed, and not counted


def test_rejected_samples_pass_through(model: ExactModel):
    broken = Sample("b", "")
    broken.reject("select_image", Reject("empty", "the file has no bytes"))
    first, second = run(model, [broken, *samples(1)])
    assert first.reason == "empty" and first.corrupted is None and second.corrupted is not None
    assert run(model, [broken]) == [broken] and run(model, []) == []


def test_images_of_other_sizes_are_refused(model: ExactModel):
    one, two = samples(1, 2)
    two.image, two.mask = samples(2, side=48)[0].image, encode_mask(np.ones((48, 48), bool))
    with pytest.raises(ValueError, match=r"^s2 is 48 x 48 pixels, s1 64 x 64; a shard has one size$"):
        run(model, [one, two])
    two.image = one.image
    with pytest.raises(ValueError, match=r"^s2: the mask is 48 x 48 pixels, the image 64 x 64$"):
        run(model, [one, two])
    with pytest.raises(ModelError, match="multiple of"):
        run(model, samples(1, side=63))


@pytest.mark.parametrize(
    ("batch_size", "advice"),
    [
        (4, "set corruption.batch_size to 2 or less (it is part of the digest: floats depend on it)"),
        (5, "set corruption.batch_size to 2 or less (it is part of the digest: floats depend on it)"),
        (1, "take a smaller source.size, a corruption.dtype of half precision, or a device with more memory"),
    ],
)
def test_no_memory_ends_in_advice(batch_size: int, advice: str):
    with pytest.raises(ModelError) as caught:
        run(Full(), samples(1), batch_size=batch_size)
    message = f"out of memory while inverting (UNet) with corruption.batch_size {batch_size} at 64 x 64 pixels on cpu: "
    assert str(caught.value) == message + advice
