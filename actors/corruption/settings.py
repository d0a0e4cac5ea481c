"""How a corruptor works, as plain data, and what its values must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from actors.corruption.methods import METHODS
from actors.corruption.verifier import Limits
from actors.diffusion.inversion import ReNoise


@dataclass(frozen=True)
class Settings:
    """How a sample is corrupted.

    Attributes:
        method: a name in `actors.corruption.methods.METHODS`.
        inference_steps, inversion_steps: n and k: the last k of n DDIM steps are inverted and resampled.
        use_caption: prompt with the sample's caption instead of an empty prompt.
        batch_size: rows of every network call, also of the last one, which is padded.
        run_seed: the recipe's seed.
        limits: what the verifier asks; its margin is in pixels.
        target: `intermediate`, or `image`: the image latent itself is corrupted, by noise of the level of k, and
            nothing is inverted or resampled (Table 4 of the paper).
        deeper: larger k, rising, for samples that remain unchanged at the first; see `actors.corruption.retry_policy.Ladder`.
        inversion: how a fixed point is found.
        guidance_scale: classifier-free guidance away from the empty prompt; 1 is none.
        baseline: against what a draw is judged: `passage`, the inverted latent resampled without corruption from the
            same k, or `autoencoder`, the image encoded and decoded, which costs no UNet evaluation. With the target
            `image` it is always the latter.
        attempts: draws at each k before the verifier's verdict stands; of methods without chance there is one.
        keep_failures: keep a sample that fails, marked, instead of rejecting it.

    Raises:
        ValueError: an unknown method, target or baseline; `deeper` with the target `image`; guidance below 1, or
            with regularised inversion.
    """

    method: str
    inference_steps: int
    inversion_steps: int
    use_caption: bool
    batch_size: int
    run_seed: int
    limits: Limits
    target: Literal["intermediate", "image"] = "intermediate"
    deeper: tuple[int, ...] = ()
    inversion: ReNoise = ReNoise()  # noqa: RUF009 (frozen)
    guidance_scale: float = 1.0
    baseline: Literal["passage", "autoencoder"] = "passage"
    attempts: int = 1
    keep_failures: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"no corruption {self.method!r}; there are {', '.join(METHODS)}")
        if self.target not in ("intermediate", "image"):
            raise ValueError(f"no target {self.target!r}; there are intermediate, image")
        if self.baseline not in ("passage", "autoencoder"):
            raise ValueError(f"no baseline {self.baseline!r}; there are passage, autoencoder")
        if self.target == "image" and self.deeper:
            raise ValueError("the target image has nothing deeper; leave it out")
        if self.guidance_scale < 1:
            raise ValueError(f"guidance_scale is {self.guidance_scale}; allowed: 1 (none) or more")
        if self.guidance_scale > 1 and self.inversion.regularised:
            raise ValueError(
                f"guidance_scale is {self.guidance_scale} with regularised inversion: the published program mixes up "
                "the rows of the two and gives NaN, so there is nothing to be equal to; set regularisation=False, or "
                "mode fast"
            )

    @property
    def steps(self) -> tuple[int, ...]:
        """Every k at which a sample may be drawn, rising; 0 is the image latent itself."""
        return (0,) if self.target == "image" else (self.inversion_steps, *self.deeper)

    @property
    def without_passage(self) -> bool:
        """Whether draws are judged against the autoencoder alone."""
        return self.target == "image" or self.baseline == "autoencoder"
