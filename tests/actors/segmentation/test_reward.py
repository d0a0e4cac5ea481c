"""The reward: its gradient against finite differences, its map against the segmenter's, its score by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from actors.errors import ArgumentError, ModelError
from actors.segmentation.reward import Reward
from actors.segmentation.segmenter import Segmenter
from eval.splits import open_split
from tests.model_folders import edit
from tests.upernet import save_upernet

SHIPPED = "tinytown/regions-convnext"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_upernet(tmp_path_factory.mktemp("reward") / "net"))


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5), dtype=dtype)


def test_gradcheck_on_a_patch(folder: str):
    """At threshold 0 the score is the mean of all pixels, without jumps."""
    reward = Reward(folder, threshold=0, dtype=torch.float64)
    image = noise(1, 3, 32, 40, dtype=torch.float64)

    def of_patch(patch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        whole = image.clone()
        whole[:, :, 12:15, 20:23] = patch
        return reward(whole)

    patch = image[:, :, 12:15, 20:23].clone().requires_grad_(True)
    assert torch.autograd.gradcheck(of_patch, (patch,), eps=1e-6, atol=1e-9)
    assert float(torch.autograd.grad(of_patch(patch)[0].sum(), patch)[0].abs().min()) > 0


def test_the_gradient_of_the_shipped_detector():
    """Central differences in float64 on some pixels of a wild image, most of them where the gradient is large."""
    reward = Reward(SHIPPED, dtype=torch.float64)
    image = torch.from_numpy(open_split("validation").images[:1]).permute(0, 3, 1, 2).double() / 255
    image.requires_grad_(True)
    score, probability = reward(image)
    assert int((probability > 0.5).sum()) > 50
    (gradient,) = torch.autograd.grad(score.sum(), image)
    places = [*gradient.abs().flatten().topk(6).indices.tolist(), 0, 5000]
    with torch.no_grad():
        for place in places:
            moved = []
            for sign in (1, -1):
                other = image.detach().clone().flatten()
                other[place] += sign * 1e-7
                moved.append(float(reward(other.view_as(image))[0]))
            found = (moved[0] - moved[1]) / 2e-7
            assert found == pytest.approx(float(gradient.flatten()[place]), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("size", [(64, 64), (50, 71), (33, 40)])
@pytest.mark.parametrize("name", [SHIPPED, "tinytown/regions-swin"])
def test_the_map_is_the_segmenters(name: str, size: tuple[int, int]):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    wanted = Segmenter(name, batch_size=2)(images)
    score, probability = Reward(name)(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    assert np.array_equal(probability.numpy(), wanted)
    for one, row in zip(score, wanted, strict=True):
        above = row[row > 0.5].astype(np.float64)
        assert float(one) == pytest.approx(above.mean() if len(above) else 0, abs=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]},
        {"do_rescale": False, "image_mean": [128, 120, 110], "image_std": [64, 60, 50]},
    ],
)
def test_pixels_are_normalised_as_the_checkpoint_states(tmp_path: Path, config: dict[str, object]):
    folder = save_upernet(tmp_path / "net")
    (folder / "preprocessor_config.json").write_text("{}")
    edit(folder / "preprocessor_config.json", **config)
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    _, probability = Reward(str(folder))(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    assert np.allclose(probability.numpy(), Segmenter(str(folder), batch_size=1)(images), atol=1e-5)


def test_the_mean_above_the_threshold_by_hand(folder: str):
    """Logits (0, x) by pixel in place of the network: probabilities 0.5, 0.6, 0.8 and 0.9."""
    reward = Reward(folder, threshold=0.6, dtype=torch.float64)
    wanted = torch.tensor([[0.5, 0.6], [0.8, 0.9]], dtype=torch.float64)
    logit = torch.log(wanted / (1 - wanted)).requires_grad_(True)

    def scored(logits: torch.Tensor, threshold: float) -> torch.Tensor:
        reward.threshold = threshold
        hook = reward.net.register_forward_hook(
            lambda net, given, output: type(output)(
                logits=torch.nn.functional.pad(
                    torch.stack([torch.zeros_like(logits), logits])[None], (0, 30, 0, 30)
                )
            )
        )
        score, probability = reward(noise(1, 3, 2, 2, dtype=torch.float64))
        hook.remove()
        assert torch.allclose(probability[0], wanted)
        return score

    score = scored(logit, 0.7)
    assert score.item() == pytest.approx((0.8 + 0.9) / 2)
    (gradient,) = torch.autograd.grad(score.sum(), logit)
    # p (1 - p) / 2 for the two pixels above, none for the others: the choice has no gradient.
    assert torch.allclose(gradient, torch.tensor([[0, 0], [0.08, 0.045]], dtype=torch.float64))
    assert scored(logit, 0.85).item() == pytest.approx(0.9)
    assert scored(logit, 0).item() == pytest.approx(0.7)
    nothing = scored(logit, 0.95)
    assert nothing.item() == 0 and not torch.autograd.grad(nothing.sum(), logit)[0].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(folder: str, dtype: torch.dtype):
    """Images of any of them, a network of any of them: results are at least float32, gradients as the images."""
    images = noise(2, 3, 32, 32)
    wanted = Reward(folder, threshold=0)(images)[1]
    own = images.to(dtype).requires_grad_(True)
    for reward in (Reward(folder, threshold=0), Reward(folder, threshold=0, dtype=dtype)):
        score, probability = reward(own)
        assert torch.allclose(probability.float(), wanted, atol=0.02)
        assert (
            probability.dtype
            == score.dtype
            == (reward.mean.dtype if dtype == torch.float64 else torch.float32)
        )
        (gradient,) = torch.autograd.grad(score.sum(), own)
        assert gradient.dtype == dtype and torch.isfinite(gradient).all()


def test_images_that_are_smaller_than_the_network_takes(folder: str):
    images = noise(2, 3, 9, 40).requires_grad_(True)
    score, probability = Reward(folder, threshold=0)(images)
    assert probability.shape == (2, 9, 40)
    assert torch.autograd.grad(score.sum(), images)[0].shape == images.shape


def test_it_is_frozen_and_stays_in_evaluation_mode(folder: str):
    reward = Reward(folder)
    holder = torch.nn.Module()
    holder.reward = reward
    holder.train()
    assert not any(module.training for module in reward.modules())
    assert not any(parameter.requires_grad for parameter in reward.parameters())
    images = noise(1, 3, 32, 32)
    assert torch.equal(reward(images)[1], reward(images)[1])


def test_it_compiles_without_a_break(folder: str):
    reward = Reward(folder, threshold=0)
    images = noise(1, 3, 32, 32).requires_grad_(True)
    compiled = torch.compile(reward, fullgraph=True, backend="aot_eager")
    gradients = [torch.autograd.grad(one(images)[0].sum(), images)[0] for one in (reward, compiled)]
    assert torch.allclose(*gradients, atol=1e-7)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 32, 32), r"images: shape \[3, 32, 32\]; allowed: \[B, 3, H, W\]"),
        (torch.zeros(1, 32, 32, 3), r"shape \[1, 32, 32, 3\]"),
        (torch.zeros(0, 3, 32, 32), r"shape \[0, 3, 32, 32\]"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "torch.uint8; allowed: floating-point"),
        (torch.full((1, 3, 32, 32), 255.0), r"values from 255 to 255; allowed: 0 to 1"),
        (torch.linspace(-1, 1, 3072).view(1, 3, 32, 32), "values from -1 to 1"),
        (torch.full((1, 3, 32, 32), torch.nan), "values from nan to nan"),
        (torch.zeros(1, 3, 32, 32, device="meta"), "on meta, the reward on cpu"),
    ],
)
def test_images_that_are_none(folder: str, images: torch.Tensor, message: str):
    with pytest.raises(ArgumentError, match=message):
        Reward(folder)(images)


def test_arguments_that_are_not_allowed(folder: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ArgumentError, match="threshold: found 1; allowed"):
        Reward(folder, threshold=1)
    with pytest.raises(ArgumentError, match=r"dtype: found torch\.int8"):
        Reward(folder, dtype=torch.int8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r'a GPU is required and torch finds none here: .*device="cpu"'):
        Reward(folder, device="cuda")
    with pytest.raises(ModelError):
        Reward(str(Path(folder).parent))
