"""How latents are inverted, as plain data. Imports neither torch nor numpy, so that planning stays light."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from actors.config import Config, not_allowed

UNGUIDED = (
    "1 with regularised inversion, since the published program mixes up the rows of the two and gives NaN; or set "
    "inversion.regularisation to false, or inversion.mode to fast"
)
"""The guidance scales that regularised inversion allows, and why; see `InversionConfig.allows_guidance`."""


class InversionConfig(Config):
    """How the fixed point of an inversion step is found (ReNoise, Garibi et al. 2024).

    Attributes:
        mode: `fast` extrapolates and accelerates, with a fixed number of evaluations per step; `published` equals the
            program published with ReNoise, also in that it regularises towards the noise of z_0 itself; `renoise` is
            the same with the noised image in its place, as the paper of ReNoise has it.
        iterations: re-evaluations per step, at most 5 below timestep 250. 0, without averaging and regularisation, is
            DDIM inversion.
        averaging: the mean of the noise over iterations makes the step.
        regularisation: the noise is regularised, see `actors.diffusion.noise_regularisation`.
        extra: of `fast`, further evaluations at every step, for nets that are far from a denoiser. Its own are 1, 5,
            2, and from the fourth step on 1: 15 for 10 steps.
    """

    mode: Literal["fast", "renoise", "published"] = Field(
        default="fast",
        description="fast needs the fewest evaluations; renoise is the paper of ReNoise, published its program",
    )
    iterations: int | None = Field(
        default=None, ge=0, le=50, description="per inversion step; null is 9; 0 is DDIM inversion"
    )
    averaging: bool | None = Field(default=None, description="of the noise over iterations; null is true")
    regularisation: bool | None = Field(default=None, description="of the noise; null is true")
    extra: int = Field(default=0, ge=0, le=50, description="of fast: more evaluations at every step")

    @field_validator("iterations", "averaging", "regularisation")
    @classmethod
    def _only_where_there_are_iterations(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("mode") == "fast" and value is not None:
            raise not_allowed("nothing, since corruption.inversion.mode is fast")
        return value

    @field_validator("extra")
    @classmethod
    def _only_for_fast(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("mode", "fast") != "fast" and value:
            raise not_allowed("0, unless corruption.inversion.mode is fast; there are iterations")
        return value

    @property
    def regularised(self) -> bool:
        """Whether random draws, and so seeds, are needed."""
        return self.mode != "fast" and self.regularisation is not False

    @property
    def allows_guidance(self) -> bool:
        """Whether classifier-free guidance is possible: not with regularisation, see `UNGUIDED`."""
        return not self.regularised

    @property
    def resolved(self) -> tuple[int, bool, bool]:
        """Iterations, averaging and regularisation of the modes that iterate, with defaults filled in."""
        return (
            9 if self.iterations is None else self.iterations,
            self.averaging is not False,
            self.regularisation is not False,
        )
