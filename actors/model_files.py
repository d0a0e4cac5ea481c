"""The files of a model folder: which ones a loader reads, and what is wrong with them. No torch here.

Loading and fingerprinting share these rules, so a fingerprint covers exactly the files that are loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from actors.errors import ModelError

SUPPORTED = "Flawforge takes folders of Stable Diffusion 1.x, 2.x and XL base, as save_pretrained writes them"

LARGEST_JSON = 64 << 20
"""Bytes. The tokenizer.json of CLIP has about 4 MB."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_TOKENIZER_SUFFIXES = (".json", ".txt", ".model", ".jinja")
_ADAPTER_KEYS = ("lora_", ".lora.", "_lora.", "hada_w1", "lokr_w1", "oft_blocks", "dora_scale")
"""Parts of tensor names in LoRA, LoHa, LoKr, OFT and DoRA files."""


def is_xl(unet: Mapping[str, Any]) -> bool:
    """Whether a UNet's configuration is that of SDXL, which has a second text encoder."""
    return unet.get("addition_embed_type") == "text_time"


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder on disk. Links are followed everywhere.

    Attributes:
        name: the model as the recipe names it.
        path: the folder; for a hub id, its snapshot in the cache.
        advice: how to get a complete copy.
    """

    name: str
    path: Path
    advice: str = "save or download it again, whole"

    def error(self, path: Path, cause: str, advice: str | None = None) -> ModelError:
        """An error about one file."""
        subject = f"{path}" if path.is_relative_to(self.name) else f"{self.name}: {path}"
        return ModelError(f"{subject} {cause}: {advice or self.advice}")

    def read(self, path: str) -> bytes:
        """A small file as bytes.

        Raises:
            ModelError: it is missing, unreadable, empty, not a regular file, a Git LFS pointer, or too large.
        """
        return self._checked(self.path / path, limit=LARGEST_JSON)

    def config(self, path: str) -> dict[str, Any]:
        """A JSON file that holds an object.

        Raises:
            ModelError: it is missing or broken.
        """
        if not (self.path / path).is_symlink() and not (self.path / path).exists():
            kind = "" if path == "model_index.json" else self._pipeline()
            supported = f". {SUPPORTED}" if "/" in path else ""
            raise ModelError(f"{self.name}{kind} has no {path} under {self.path}: {self.advice}{supported}")
        data = self.read(path)
        try:
            document = json.loads(data, parse_constant=_not_a_number)
        except (ValueError, RecursionError) as error:
            raise self.error(self.path / path, f"is not JSON ({error})") from error
        if not isinstance(document, dict):
            raise self.error(self.path / path, f"holds a JSON {type(document).__name__}, not an object")
        return document

    def weights(self, part: str, stem: str | None = None) -> tuple[Path, ...]:
        """The safetensors files of a part: the plain ones, or those of the `fp16` variant where there are no others.

        Args:
            part: a folder such as `unet`; empty for the folder itself.
            stem: file name before its suffixes; the usual one of the part by default.

        Raises:
            ModelError: there are none, a shard is missing, or a file is not a complete safetensors file.
        """
        stem, folder = stem or _STEMS.get(part, "model"), self.path / part
        for variant in ("", ".fp16"):
            single = folder / f"{stem}{variant}.safetensors"
            index = folder / f"{stem}.safetensors.index{variant}.json"
            found = [path for path in (single, index) if path.exists() or path.is_symlink()]
            if len(found) == 2:
                raise self.error(folder, f"has both {single.name} and {index.name}", "remove one of them")
            if found:
                files = (single,) if found[0] == single else self._shards(index)
                for path in files:
                    self.tensors(path)
                return files
        raise self._no_weights(part, stem)

    def tensors(self, path: Path) -> dict[str, str]:
        """Names and data types of the tensors in a safetensors file, such as `F16`, from its header.

        Raises:
            ModelError: the file is missing, or not a complete safetensors file.
        """
        self._checked(path, limit=None)
        try:
            with safe_open(path, framework="numpy") as file:
                return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (no iterator)
        except (SafetensorError, OSError, ValueError) as error:
            raise self.error(path, f"is cut off or is not a safetensors file ({error})") from error

    def files(self) -> list[Path]:
        """Every file that loading this model reads.

        Raises:
            ModelError: a file is missing or broken, or weights in the folder would be ignored.
        """
        if (self.path / "unet").exists() or (self.path / "model_index.json").exists():
            return self._pipeline_files()
        stems = ("model", "diffusion_pytorch_model")
        stem = next((stem for stem in stems if any(self.path.glob(f"{stem}.*safetensors*"))), "model")
        weights = self.weights("", stem)
        self.refuse_adapters("", weights)
        small = (self.path / name for name in ("config.json", "preprocessor_config.json"))
        return [*(path for path in small if path.exists()), *self._indices("", stem), *weights]

    def tokenizer_files(self, part: str) -> list[Path]:
        """The files that make a tokenizer.

        Raises:
            ModelError: it has no vocabulary.
        """
        self.config(f"{part}/tokenizer_config.json")
        folder = self.path / part
        if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
            raise ModelError(
                f"{self.name}: {part} has neither tokenizer.json nor vocab.json under {self.path}: {self.advice}"
            )
        return sorted(path for path in folder.iterdir() if path.suffix in _TOKENIZER_SUFFIXES)

    def refuse_adapters(self, part: str, loaded: tuple[Path, ...]) -> None:
        """Refuses a folder with LoRA weights beside the model, which would be ignored in silence.

        Args:
            part: a folder such as `unet`; empty for the folder itself.
            loaded: the files that are loaded.

        Raises:
            ModelError: there is an adapter.
        """
        folder = self.path / part
        for path in sorted(folder.iterdir()):
            adapter = path.name == "adapter_config.json" or path.name.startswith("pytorch_lora_weights.")
            if path.suffix == ".safetensors" and path not in loaded and path.is_file() and not adapter:
                adapter = any(key in name for name in self._names(path) for key in _ADAPTER_KEYS)
            if adapter:
                raise self.error(
                    path,
                    "is a LoRA adapter, which is not applied",
                    "fuse it into the model (load_lora_weights, fuse_lora, save_pretrained in diffusers), or remove it",
                )

    def _names(self, path: Path) -> Iterator[str]:
        """Tensor names of a file that is not loaded; none where it cannot be read."""
        try:
            yield from self.tensors(path)
        except ModelError:
            return

    def _checked(self, path: Path, limit: int | None) -> bytes:
        """The content of a file, up to `limit`; only its first bytes where there is none."""
        try:
            if not path.exists():
                target = f" is a link to {path.readlink()}, which" if path.is_symlink() else ""
                raise self.error(path, f"{target} does not exist".strip())
            if not path.is_file():
                raise self.error(path, "is not a regular file")
            if limit is not None and path.stat().st_size > limit:
                raise self.error(path, f"has {path.stat().st_size:,} bytes; at most {limit:,} make sense")
            with path.open("rb") as file:
                data = file.read(len(_LFS_POINTER) if limit is None else -1)
        except OSError as error:
            raise self.error(path, f"cannot be read ({error.strerror or error})") from error
        if data.startswith(_LFS_POINTER):
            raise self.error(
                path,
                "is a Git LFS pointer in the place of the file",
                "run `git lfs pull` in the repository it was cloned from",
            )
        if not data:
            raise self.error(path, "is empty")
        return data

    def _shards(self, index: Path) -> tuple[Path, ...]:
        places = self.config(index.relative_to(self.path).as_posix()).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise self.error(index, "has no weight_map")
        wrong = [name for name in places.values() if not isinstance(name, str) or Path(name).name != name]
        if wrong:
            raise self.error(index, f"names the shard {wrong[0]!r}, which is not a file name")
        files = tuple(index.parent / name for name in sorted(set(places.values())))
        for path in files:
            if not path.exists():
                raise self.error(path, f"does not exist, and {index.name} names it as a shard")
            named, held = {key for key, name in places.items() if name == path.name}, set(self.tensors(path))
            if named != held:
                raise self.error(path, f"holds other tensors than {index.name} lists ({min(named ^ held)})")
        return files

    def _indices(self, part: str, stem: str | None = None) -> list[Path]:
        stem, folder = stem or _STEMS.get(part, "model"), self.path / part
        return [path for path in sorted(folder.glob(f"{stem}.safetensors.index*.json")) if path.exists()]

    def _pipeline_files(self) -> list[Path]:
        unet = self.config("unet/config.json")
        texts = ("", "_2") if is_xl(unet) else ("",)
        found = [self.path / "scheduler" / "scheduler_config.json"]
        self.config("scheduler/scheduler_config.json")
        self.refuse_adapters("", ())
        for part in ("unet", "vae", *(f"text_encoder{suffix}" for suffix in texts)):
            self.config(f"{part}/config.json")
            weights = self.weights(part)
            self.refuse_adapters(part, weights)
            found += [self.path / part / "config.json", *self._indices(part), *weights]
        for suffix in texts:
            found += self.tokenizer_files(f"tokenizer{suffix}")
        return found

    def _pipeline(self) -> str:
        try:
            return f", a {self.config('model_index.json')['_class_name']},"
        except (ModelError, KeyError):
            return ""

    def _no_weights(self, part: str, stem: str) -> ModelError:
        folder = self.path / part
        subject = f"{self.name}: {part} has" if part else f"{self.name} has"
        pickles = sorted(path.name for path in folder.glob("*") if path.suffix in _PICKLES)
        if pickles:
            return ModelError(
                f"{subject} {pickles[0]} and no safetensors; a pickle is never loaded: convert it to safetensors"
            )
        return ModelError(f"{subject} no {stem}.safetensors under {folder}: {self.advice}")


def _not_a_number(constant: str) -> None:
    """NaN and Infinity are not JSON, and no setting means them."""
    raise ValueError(f"{constant} is not a number")
