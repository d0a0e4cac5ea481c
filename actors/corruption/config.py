"""How regions are corrupted, as plain data. Imports neither torch nor numpy, so that planning stays light."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from actors.config import Config, not_allowed
from actors.diffusion.inversion_config import UNGUIDED, InversionConfig


class CorruptionConfig(Config):
    """How regions are corrupted: invert, corrupt the latent, resample; and the model that does it.

    `inference_steps` n and `inversion_steps` k: the last k of n DDIM steps are inverted and resampled. Every network
    call has `batch_size` rows; the last batch is padded.
    """

    model: str = Field(default="tinytown", description="tinytown (the shipped weights), a folder or a hub id")
    revision: str | None = Field(default=None, description="commit or tag on the hub")
    method: Literal["noise", "gaussian", "blur", "rotate", "downscale", "none"] = Field(
        default="noise",
        description="noise is the paper's; none is the round trip alone: the control, and clean negatives",
    )
    target: Literal["intermediate", "image"] = Field(
        default="intermediate",
        description="latent that is corrupted; image: its own, and nothing is inverted or resampled",
    )
    inference_steps: int = Field(default=50, ge=1, le=1000, description="steps of the whole DDIM schedule")
    inversion_steps: int = Field(
        default=10, ge=1, description="k: how many of them are inverted and resampled; also the noise level"
    )
    deeper: list[int] = Field(
        default=[], description="larger k, in turn, while a region does not break; verify.attempts at each"
    )
    inversion: InversionConfig = Field(default=InversionConfig(), description="how latents are inverted")
    guidance_scale: float = Field(
        default=1.0, ge=1, description="away from the empty prompt; above 1 doubles the evaluations"
    )
    prompt: Literal["caption", "empty"] = Field(
        default="empty", description="prompt that conditions the model"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="of the model")
    channels_last: bool = Field(default=False, description="memory format; faster in half precision on a GPU")
    compiled: bool = Field(
        default=False,
        description="compile the UNet, without autotuning, so that every worker compiles alike: minutes at the start, "
        "then faster; on a CPU, bytes also depend on the C++ compiler",
    )
    batch_size: int = Field(default=16, ge=1, le=4096, description="images in one step; floats depend on it")
    vae_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="images that the autoencoder takes at once; null is batch_size; fewer save memory at 1024 pixels",
    )
    threads: int = Field(default=1, ge=1, le=1024, description="CPU threads of torch; floats depend on them")

    @field_validator("model")
    @classmethod
    def _some_model(cls, value: str) -> str:
        if not value.strip():
            raise not_allowed("tinytown, a folder or a hub id")
        return value

    @field_validator("revision")
    @classmethod
    def _shipped_weights_have_none(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("model") == "tinytown" and value is not None:
            raise not_allowed("nothing, since corruption.model is tinytown")
        return value

    @field_validator("deeper", "inversion", "guidance_scale", "prompt")
    @classmethod
    def _idle_settings(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses settings without effect: they are misunderstandings, and would change the digest."""
        idle = info.data.get("target") == "image"
        if idle and value != cls.model_fields[str(info.field_name)].default:
            raise not_allowed("nothing but the default, since corruption.target is image")
        return value

    @field_validator("inversion_steps")
    @classmethod
    def _within_the_schedule(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("inference_steps", value):
            raise not_allowed(f"at most inference_steps ({info.data['inference_steps']})")
        return value

    @field_validator("deeper")
    @classmethod
    def _rising(cls, value: list[int], info: ValidationInfo) -> list[int]:
        least, most = info.data.get("inversion_steps"), info.data.get("inference_steps")
        if least is None or most is None:
            return value
        ladder = [least, *value]
        if sorted(set(ladder)) != ladder or ladder[-1] > most:
            raise not_allowed(
                f"whole numbers that rise, above inversion_steps ({least}), at most inference_steps ({most})"
            )
        return value

    @field_validator("guidance_scale")
    @classmethod
    def _without_regularisation(cls, value: float, info: ValidationInfo) -> float:
        inversion: InversionConfig | None = info.data.get("inversion")
        if value > 1 and inversion is not None and not inversion.allows_guidance:
            raise not_allowed(UNGUIDED)
        return value

    @field_validator("prompt")
    @classmethod
    def _something_to_be_guided_to(cls, value: str, info: ValidationInfo) -> str:
        if value == "empty" and info.data.get("guidance_scale", 1) > 1:
            raise not_allowed("caption, since guidance_scale leads away from the empty prompt")
        return value

    @field_validator("vae_batch_size")
    @classmethod
    def _part_of_a_batch(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value > info.data.get("batch_size", value):
            raise not_allowed(f"null, or at most batch_size ({info.data['batch_size']})")
        return value

    @property
    def steps(self) -> tuple[int, ...]:
        """Every k at which a region may be drawn, rising; 0 is the image latent itself."""
        return (0,) if self.target == "image" else (self.inversion_steps, *self.deeper)
