"""What is asked of a UNet, and what its answer is taken for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.prediction import NoisePrediction
from actors.diffusion.prompts import Prompts
from actors.errors import ModelError
from tests import tiny_sd

LATENTS = torch.arange(2 * 4 * 2 * 2, dtype=torch.float64).view(2, 4, 2, 2)
PROMPTS = Prompts(torch.tensor([[[1.0]], [[2.0]]], dtype=torch.float64))
NEGATIVES = Prompts(torch.tensor([[[-3.0]], [[-5.0]]], dtype=torch.float64))
UNGUIDED, GUIDED = Conditioning(PROMPTS), Conditioning(PROMPTS, NEGATIVES, 2.0)


class Asked:
    """A denoiser that multiplies latents by their prompt, and remembers the questions."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, int, Tensor, dict[str, Tensor] | None]] = []

    def __call__(self, latents, timestep, prompts, added_cond_kwargs=None):
        self.calls.append((latents, timestep, prompts, added_cond_kwargs))
        return latents * prompts.view(-1, 1, 1, 1)


def test_noise_is_taken_as_it_is():
    unet = Asked()
    predict = NoisePrediction(unet, tiny_sd.scheduler(), UNGUIDED)
    assert torch.equal(predict(LATENTS, 21), torch.stack([LATENTS[0], 2 * LATENTS[1]]))
    (call,) = unet.calls
    assert (call[1], call[3]) == (21, None)
    assert predict.rows == 1


def test_guidance_by_hand():
    """With x under a prompt of 1 and -3 at scale 2: -3 x + 2 (x + 3 x) = 5 x; under 2 and -5: 9 x."""
    unet = Asked()
    predict = NoisePrediction(unet, tiny_sd.scheduler(), GUIDED)
    assert torch.equal(predict(LATENTS, 1), torch.stack([5 * LATENTS[0], 9 * LATENTS[1]]))
    assert len(unet.calls) == 1
    predict(LATENTS, 1)
    assert predict.rows == 4


def test_velocity_by_hand():
    """e = sqrt(abar) v + sqrt(1 - abar) x with v = x, 2 x and abar_181 = 0.782654 (RENOISE): 0.88468 and 0.4662."""
    predict = NoisePrediction(Asked(), tiny_sd.scheduler(prediction_type="v_prediction"), UNGUIDED)
    wanted = torch.stack([(0.88468 + 0.4662) * LATENTS[0], (2 * 0.88468 + 0.4662) * LATENTS[1]])
    assert torch.allclose(predict(LATENTS, 181), wanted, rtol=1e-5, atol=0)


def test_guided_velocity_is_guided_before_it_is_noise():
    """v is 5 x and 9 x, as above; x itself counts once."""
    predict = NoisePrediction(Asked(), tiny_sd.scheduler(prediction_type="v_prediction"), GUIDED)
    wanted = torch.stack([(5 * 0.88468 + 0.4662) * LATENTS[0], (9 * 0.88468 + 0.4662) * LATENTS[1]])
    assert torch.allclose(predict(LATENTS, 181), wanted, rtol=1e-5, atol=0)


def test_groups_repeat_prompts_and_conditions():
    unet, added = Asked(), {"time_ids": torch.tensor([[7.0], [8.0]])}
    predict = NoisePrediction(unet, tiny_sd.scheduler(), Conditioning(Prompts(PROMPTS.embeds, added)))
    found = predict(torch.cat([LATENTS, 10 * LATENTS]), 1)
    assert torch.equal(found, torch.stack([LATENTS[0], 2 * LATENTS[1], 10 * LATENTS[0], 20 * LATENTS[1]]))
    (call,) = unet.calls
    assert call[3]["time_ids"].tolist() == [[7], [8], [7], [8]]
    assert predict.rows == 2


def test_negative_conditions_come_with_negative_prompts():
    unet = Asked()
    own = Prompts(PROMPTS.embeds, {"time_ids": torch.tensor([[7.0], [8.0]])})
    other = Prompts(NEGATIVES.embeds, {"time_ids": torch.tensor([[70.0], [80.0]])})
    predict = NoisePrediction(unet, tiny_sd.scheduler(), Conditioning(own, other, 2.0))
    predict(LATENTS, 1)
    ((latents, _, prompts, added),) = unet.calls
    found = [prompts.flatten().tolist(), added["time_ids"].flatten().tolist()]
    assert dict(zip(*found, strict=True)) == {-3: 70, -5: 80, 1: 7, 2: 8}
    rows = dict(zip(found[0], latents, strict=True))
    assert torch.equal(rows[-3], LATENTS[0]) and torch.equal(rows[2], LATENTS[1])


@pytest.mark.parametrize("answer", [tuple, list])
def test_the_first_item_of_an_answer_is_the_prediction(answer):
    predict = NoisePrediction(
        lambda latents, timestep, prompts: answer([latents + 1, None]), tiny_sd.scheduler(), UNGUIDED
    )
    assert torch.equal(predict(LATENTS, 1), LATENTS + 1)


def test_unknown_prediction_type():
    with pytest.raises(ModelError, match="prediction_type is 'sample'; allowed: epsilon and v_prediction"):
        NoisePrediction(Asked(), tiny_sd.scheduler(prediction_type="sample"), UNGUIDED)
