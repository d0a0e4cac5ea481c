"""ReNoise and the fast inversion as plain loops in float64, one sample at a time, with gradients by autograd.

Slow, and written from the description alone, so that `actors.diffusion.inversion` has something else to be equal to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Predict = Callable[[Tensor, int], Tensor]
"""Noise [1, C, h, w] in a latent of the same shape at a timestep."""


@dataclass(frozen=True)
class Found:
    """What the inversion of one sample found.

    Attributes:
        trajectory: [k + 1, C, h, w] from z_0 to z_t.
        evaluations: UNet evaluations.
        residual: root mean square, over steps and cells, of the last change of each step's fixed point.
        generator: the sample's random stream, where the inversion left it.
    """

    trajectory: Tensor
    evaluations: int
    residual: float
    generator: torch.Generator | None = None


@dataclass
class Counted:
    """One sample's denoiser as noise: guidance and v-prediction are dealt with, and evaluations counted.

    Attributes:
        unet: (latents, timestep, prompts) to the raw output.
        prompt: [1, tokens, width].
        negative: the same, of guidance.
        scale: of guidance; without `negative` there is none.
        velocity: the output is v.
    """

    unet: Callable[[Tensor, int, Tensor], Tensor]
    prompt: Tensor
    negative: Tensor | None = None
    scale: float = 1.0
    velocity: bool = False
    evaluations: int = field(default=0, init=False)

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        self.evaluations += 1
        with torch.no_grad():
            found = self.unet(latents, timestep, self.prompt)
            if self.negative is not None:
                self.evaluations += 1
                without = self.unet(latents, timestep, self.negative)
                found = without + self.scale * (found - without)
        if self.velocity:
            kept = cumulated_alphas()[timestep]
            return torch.sqrt(kept) * found + torch.sqrt(1 - kept) * latents
        return found


def cumulated_alphas() -> Tensor:
    """float32 [1000] of Stable Diffusion 1.5: betas whose roots rise evenly from 0.00085^0.5 to 0.012^0.5."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32)
    return torch.cumprod(1 - roots**2, 0)


def steps_of(inference_steps: int, inversion_steps: int) -> list[tuple[int, Tensor, Tensor]]:
    """(t, abar_p, abar_t) of every step, rising; z_0 stands at abar_0."""
    kept, stride = cumulated_alphas(), 1000 // inference_steps
    targets = [1 + stride * number for number in range(inversion_steps)]
    return [(t, kept[max(t - stride, 0)], kept[t]) for t in targets]


def advanced(z: Tensor, e: Tensor, abar_p: Tensor, abar_t: Tensor) -> Tensor:
    """g(e): from timestep p to t with the noise of t, in the published program's order."""
    root_p, root_t = torch.sqrt(abar_p), torch.sqrt(abar_t)
    noise_p, noise_t = torch.sqrt(1 - abar_p), torch.sqrt(1 - abar_t)
    return root_t * z / root_p + (root_p * noise_t) * e / root_p - root_t * (noise_p * e) / root_p


def noised(z_0: Tensor, noise: Tensor, abar_t: Tensor) -> Tensor:
    """z_0 with noise, in the precision of z_0 as in `add_noise` of diffusers."""
    kept = abar_t.to(z_0.dtype)
    return torch.sqrt(kept) * z_0 + torch.sqrt(1 - kept) * noise


def renoise(
    predict: Counted,
    z_0: Tensor,
    seed: int | None = None,
    *,
    steps: list[tuple[int, Tensor, Tensor]],
    iterations: int = 9,
    averaging: bool = True,
    regularisation: bool = True,
    forward: bool = False,
) -> Found:
    """ReNoise of one sample.

    Args:
        predict: the sample's denoiser.
        z_0: [1, C, h, w], float64.
        seed: of the sample's random stream, needed by regularisation.
        steps: of `steps_of`.
        forward: z_forward is z_0 with noise; else it is z_0 itself, as the published program has it.
    """
    generator, noise = None, None
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        torch.randn(z_0.shape, generator=generator, dtype=z_0.dtype)
        noise = torch.randn(z_0.shape, generator=generator, dtype=z_0.dtype)
    trajectory, squares = [z_0], []
    for t, abar_p, abar_t in steps:
        n, start, end = (min(5, iterations), 0, 5) if t < 250 else (iterations, 8, 10)
        z, e_opt, averaged = trajectory[-1], None, []
        x = changed = z
        for i in range(n + 1):
            if regularisation and i == 0:
                z_forward = noised(z_0, noise, abar_t) if forward else z_0
                e_opt = predict(z_forward, t)
            e = predict(x, t)
            if averaging and start <= i < end:
                averaged.append(e)
            if regularisation and (i >= start or (not averaging and i > 0)):
                e = regularised(e, e_opt, generator)
            changed, x = x, advanced(z, e, abar_p, abar_t)
        if averaged:
            mean = torch.stack(averaged).mean(0)
            if regularisation:
                mean = regularised(mean, e_opt, generator)
            changed, x = x, advanced(z, mean, abar_p, abar_t)
        squares.append(((x - changed) ** 2).mean().item())
        trajectory.append(x)
    return Found(torch.cat(trajectory), predict.evaluations, float(np.sqrt(np.mean(squares))), generator)


def regularised(e: Tensor, e_opt: Tensor, generator: torch.Generator) -> Tensor:
    """Four rounds of a step down the KL loss and five down the auto-correlation."""
    for _ in range(4):
        e = e - 0.065 * slope(lambda noise: kl_loss(noise, e_opt), e).clip(-100, 100)
        for _ in range(5):
            e = e - 20 * slope(lambda noise: correlation_loss(noise, generator), e) / 5
    return e


def slope(loss: Callable[[Tensor], Tensor], noise: Tensor) -> Tensor:
    """Gradient of a scalar loss by autograd."""
    with torch.enable_grad():
        noise = noise.detach().requires_grad_()
        return torch.autograd.grad(loss(noise), noise)[0]


def kl_loss(noise: Tensor, wanted: Tensor) -> Tensor:
    """Sum of |KL| between equal 4 x 4 patches of [1, C, h, w], taken as normal distributions."""
    mine, other = (values.unfold(2, 4, 4).unfold(3, 4, 4) for values in (noise, wanted))
    m0, v0 = mine.mean((-2, -1)), mine.var((-2, -1), unbiased=True)
    m1, v1 = other.mean((-2, -1)), other.var((-2, -1), unbiased=True)
    ratio = torch.log((v1 + 1e-6) / (v0 + 1e-6))
    return (ratio + (v0 + (m0 - m1) ** 2) / (v1 + 1e-6) - 1).abs().sum()


def correlation_loss(noise: Tensor, generator: torch.Generator) -> Tensor:
    """Sum of squared correlations with randomly rolled copies, of every channel and pyramid level of [1, C, h, w]."""
    loss = torch.zeros((), dtype=noise.dtype)
    for channel in range(noise.shape[1]):
        level = noise[:, channel : channel + 1]
        while True:
            r = int(torch.randint(0, level.shape[2] // 2, (1,), generator=generator))
            for axis in (2, 3):
                loss = loss + (level * level.roll(r, axis)).mean() ** 2
            if level.shape[2] <= 8:
                break
            level = F.avg_pool2d(level, 2)
    return loss


def fast(
    predict: Counted, z_0: Tensor, *, steps: list[tuple[int, Tensor, Tensor]], evaluations: list[int]
) -> Found:
    """One sample by a warm start and Anderson acceleration of depth 2.

    Args:
        evaluations: of every step.
    """
    trajectory, noises, sigmas, squares = [z_0], [], [], []
    for (t, abar_p, abar_t), count in zip(steps, evaluations, strict=True):
        z = trajectory[-1]
        sigma = np.sqrt((1 - abar_t.item()) / abar_t.item())
        x = z
        if noises:
            e = noises[-1]
            if len(noises) > 1:
                run = np.log(sigmas[-1]) - np.log(sigmas[-2])
                e = e + (np.log(sigma) - np.log(sigmas[-1])) / run * (noises[-1] - noises[-2])
            x = advanced(z, e, abar_p, abar_t)
        tried, told, reached = [], [], []
        for _ in range(count):
            tried.append(x)
            told.append(predict(x, t))
            reached.append(advanced(z, told[-1], abar_p, abar_t))
            changes = [(g - at).numpy().ravel() for g, at in zip(reached, tried, strict=True)][-3:]
            apart = [changes[-1] - change for change in changes[:-1]]
            weights = np.linalg.lstsq(np.stack(apart, 1), changes[-1], rcond=None)[0] if apart else []
            x, e = reached[-1], told[-1]
            for weight, g, its_noise in zip(weights, reached[-3:], told[-3:], strict=False):
                x, e = x - weight * (reached[-1] - g), e - weight * (told[-1] - its_noise)
        squares.append(((x - tried[-1]) ** 2).mean().item())
        trajectory.append(x)
        noises.append(e)
        sigmas.append(sigma)
    return Found(torch.cat(trajectory), predict.evaluations, float(np.sqrt(np.mean(squares))))


def sampled(predict: Counted, z: Tensor, *, steps: list[tuple[int, Tensor, Tensor]]) -> Tensor:
    """DDIM sampling without randomness back to the schedule's end, [1, C, h, w]."""
    for t, abar_p, abar_t in reversed(steps):
        e = predict(z, t)
        z_0 = (z - torch.sqrt(1 - abar_t) * e) / torch.sqrt(abar_t)
        z = torch.sqrt(abar_p) * z_0 + torch.sqrt(1 - abar_p) * e
    return z
