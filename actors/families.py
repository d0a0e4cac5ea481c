"""Model folders of Stable Diffusion 1.x, 2.x and XL: what they must hold, and their networks.

Everything that can be told from the small files of a folder is checked before any weights are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from huggingface_hub import try_to_load_from_cache
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from actors.errors import ModelError
from actors.models import is_hub_id, locate
from actors.prompts import TextEncoder

TIME_IDS = 6
"""Numbers about an image's size that SDXL's UNet is told."""

_WANTED = "Flawforge takes folders of Stable Diffusion 1.x, 2.x and XL base, as save_pretrained writes them"
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_FOREIGN = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim")
"""Settings of UNets that want more than text and, in SDXL, pooled text and sizes."""


@dataclass(frozen=True)
class Networks:
    """A latent diffusion model in parts, on the CPU.

    Attributes:
        scheduler: DDIM on the model's noise schedule.
        vae: the autoencoder.
        unet: the denoiser.
        texts: one encoder, two in SDXL.
    """

    scheduler: DDIMScheduler
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    texts: tuple[TextEncoder, ...]


class _Folder:
    """Reads the small files of a model's folder; its errors name the model."""

    def __init__(self, model: str, revision: str | None) -> None:
        self.name = model
        self.advice = "save or download it again, whole"
        place = locate(model, revision)
        if not is_hub_id(place):
            self.path = Path(place)
            return
        at = f" --revision {revision}" if revision else ""
        self.advice = f"run `hf download {model}{at}` on a machine with network first"
        found = try_to_load_from_cache(model, "unet/config.json", revision=revision)
        if not isinstance(found, str):
            raise ModelError(
                f"the model cache has no UNet of {model} at revision {revision or 'main'!r}: {self.advice}. {_WANTED}"
            )
        self.path = Path(found).parents[1]

    def config(self, path: str) -> dict[str, Any]:
        """A JSON file; ModelError if it is missing or broken."""
        try:
            return dict(json.loads((self.path / path).read_text()))
        except FileNotFoundError:
            kind = "" if path == "model_index.json" else self._kind()
            raise ModelError(
                f"{self.name}{kind} has no {path} under {self.path}: {self.advice}. {_WANTED}"
            ) from None
        except ValueError as error:
            raise ModelError(f"{self.path / path} is not JSON ({error}): {self.advice}") from error

    def tokenizer(self, part: str) -> None:
        """ModelError if a tokenizer has no vocabulary; loading would make up an empty one."""
        self.config(f"{part}/tokenizer_config.json")
        if not any((self.path / part / name).exists() for name in ("tokenizer.json", "vocab.json")):
            raise ModelError(
                f"{self.name}: {part} has neither tokenizer.json nor vocab.json under {self.path}: {self.advice}"
            )

    def variant(self, part: str) -> str | None:
        """None where a part has plain safetensors, `fp16` where it has only those; ModelError where neither."""
        stem, folder = _STEMS.get(part, "model"), self.path / part
        for variant, names in (
            (None, (f"{stem}.safetensors", f"{stem}.safetensors.index.json")),
            ("fp16", (f"{stem}.fp16.safetensors", f"{stem}.safetensors.index.fp16.json")),
        ):
            if any((folder / name).exists() for name in names):
                return variant
        pickles = sorted(path.name for kind in ("bin", "ckpt", "pt") for path in folder.glob(f"*.{kind}"))
        if pickles:
            raise ModelError(
                f"{self.name}: {part} has {pickles[0]} and no safetensors; a pickle is never loaded: convert it to "
                "safetensors"
            )
        raise ModelError(f"{self.name}: {part} has no {stem}.safetensors under {folder}: {self.advice}")

    def _kind(self) -> str:
        try:
            return f", a {self.config('model_index.json')['_class_name']},"
        except (ModelError, KeyError):
            return ""


def load(model: str, *, revision: str | None = None, dtype: torch.dtype = torch.float32) -> Networks:
    """Checks a model's folder, then loads its networks. Reads `.safetensors` only.

    A part that has only half-precision files (`*.fp16.safetensors`) is loaded from those. SDXL's autoencoder is
    loaded in float32 whatever `dtype` says if its configuration has `force_upcast`: it overflows in float16.

    Args:
        model: `tinytown`, a folder, or a hub id that is in the local cache.
        revision: of a hub id.
        dtype: of the networks.

    Raises:
        ModelError: a part is missing, has no safetensors, lacks weights, does not fit the others, or the model is of
            a kind that Flawforge does not know.
    """
    folder = _Folder(model, revision)
    unet, vae = folder.config("unet/config.json"), folder.config("vae/config.json")
    xl = unet.get("addition_embed_type") == "text_time"
    suffixes = ("", "_2") if xl else ("",)
    schedule = folder.config("scheduler/scheduler_config.json")
    texts = [_text_config(folder, f"text_encoder{suffix}") for suffix in suffixes]
    for suffix in suffixes:
        folder.tokenizer(f"tokenizer{suffix}")
    _check_kind(model, unet, vae, xl)
    _check_fit(model, unet, vae, texts)
    schedule = _ddim(model, schedule)
    parts = ["unet", "vae", *(f"text_encoder{suffix}" for suffix in suffixes)]
    variants = {part: folder.variant(part) for part in parts}

    def network(kind: Any, part: str, **precision: torch.dtype) -> Any:
        made, report = kind.from_pretrained(
            folder.path,
            subfolder=part,
            variant=variants[part],
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **precision,
        )
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise ModelError(
                f"{model}: {part} lacks {len(missing)} weights, such as {missing[0]}: {folder.advice}"
            )
        return made

    transformers_logging.disable_progress_bar()
    kinds = (CLIPTextModel, CLIPTextModelWithProjection)
    upcast = xl and vae.get("force_upcast", True)
    try:
        return Networks(
            DDIMScheduler.from_config(schedule),
            network(AutoencoderKL, "vae", torch_dtype=torch.float32 if upcast else dtype),
            network(UNet2DConditionModel, "unet", torch_dtype=dtype),
            tuple(
                TextEncoder(
                    f"text_encoder{suffix}",
                    CLIPTokenizer.from_pretrained(
                        folder.path, subfolder=f"tokenizer{suffix}", local_files_only=True
                    ),
                    network(kind, f"text_encoder{suffix}", dtype=dtype),
                )
                for suffix, kind in zip(suffixes, kinds, strict=False)
            ),
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"cannot load {model} from {folder.path}: {error}") from error


def _text_config(folder: _Folder, part: str) -> CLIPTextConfig:
    kind = folder.config(f"{part}/config.json").get("model_type")
    if kind not in ("clip_text_model", "clip"):
        raise ModelError(f"{folder.name}: {part} is a {kind!r}, not a CLIP text encoder. {_WANTED}")
    return CLIPTextConfig.from_pretrained(folder.path, subfolder=part, local_files_only=True)


def _check_kind(model: str, unet: Mapping[str, Any], vae: Mapping[str, Any], xl: bool) -> None:
    """Refuses networks that want, or give, something else than Stable Diffusion's."""
    strange = [f"{name} {unet[name]!r}" for name in _FOREIGN if unet.get(name) is not None]
    if not xl and unet.get("addition_embed_type") is not None:
        strange.append(f"addition_embed_type {unet['addition_embed_type']!r}")
    if unet.get("_class_name", "UNet2DConditionModel") != "UNet2DConditionModel":
        strange.append(f"class {unet['_class_name']}")
    if strange:
        raise ModelError(f"{model}: its UNet has {', '.join(strange)}, which is not served here. {_WANTED}")
    if vae.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
        raise ModelError(f"{model}: its vae is a {vae['_class_name']}, not an AutoencoderKL. {_WANTED}")
    moved = [name for name in ("latents_mean", "latents_std", "shift_factor") if vae.get(name) is not None]
    if moved:
        raise ModelError(
            f"{model}: its vae has {moved[0]}; only latents that are scaled are served. {_WANTED}"
        )


def _check_fit(
    model: str, unet: Mapping[str, Any], vae: Mapping[str, Any], texts: list[CLIPTextConfig]
) -> None:
    """Refuses networks whose widths differ where they meet."""
    width = sum(text.hidden_size for text in texts)
    asked = unet.get("cross_attention_dim", 1280)
    wanted = max(asked) if isinstance(asked, list) else asked
    if width != wanted:
        raise ModelError(
            f"{model}: its text gives width {width}, its UNet expects {wanted}: take parts of one model"
        )
    latent, channels = vae.get("latent_channels", 4), unet.get("in_channels", 4)
    if latent != channels or channels != unet.get("out_channels", 4):
        raise ModelError(
            f"{model}: its autoencoder has {latent} latent channels, its UNet takes {channels} and gives "
            f"{unet.get('out_channels', 4)}; all must be equal. Inpainting and upscaling models are not served"
        )
    if len(texts) == 2:
        told = TIME_IDS * unet.get("addition_time_embed_dim", 0) + texts[1].projection_dim
        asked = unet.get("projection_class_embeddings_input_dim")
        if told != asked:
            raise ModelError(
                f"{model}: its UNet expects {asked} added values; pooled text and {TIME_IDS} sizes are {told}. An SDXL "
                "refiner is not served; take the base model"
            )


def _ddim(model: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of DDIM on the noise schedule of any scheduler folder.

    SD 1.5 comes with a PNDM configuration and SDXL with an Euler one, so some settings of DDIM may be absent; they
    get the values that all Stable Diffusion folders hold, not DDIM's own defaults, which clip latents and end at
    an alpha of one. `linspace` is Euler's own default spacing; DDIM's steps do not meet on it, so it becomes `leading`,
    and `leading` steps are offset by 1, as diffusers' pipelines demand: from 0 on, the first step would be none.
    """
    kind, betas = config.get("_class_name", "a scheduler"), config.get("beta_schedule")
    known = ("linear", "scaled_linear", "squaredcos_cap_v2")
    if config.get("trained_betas") is None and betas not in known:
        raise ModelError(
            f"{model}: its scheduler ({kind}) has beta_schedule {betas!r}; known: {', '.join(known)}"
        )
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction"):
        raise ModelError(f"{model}: its scheduler predicts {prediction!r}; known: epsilon, v_prediction")
    settings = {"set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading", **config}
    if settings["timestep_spacing"] in ("linspace", "leading"):
        settings |= {"steps_offset": 1, "timestep_spacing": "leading"}
    return {**settings, "clip_sample": False, "thresholding": False}
