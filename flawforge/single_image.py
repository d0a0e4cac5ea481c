"""The corruption of one image, as a build does it, for notebooks: no source, no shards, no Ray."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from actors.errors import ArgumentError, RecipeError, Reject, RejectedError
from factory.recipe.errors import dotted, mistakes_of
from factory.recipe.recipe import Recipe
from flawforge.api import RecipeLike, resolve_recipe

if TYPE_CHECKING:
    from actors.corruption.corruptor import Corruptor as ShardCorruptor

_ANY_SIZE = 4096
"""The `source.size` that a recipe requires: a multiple of the step of every model. It does not limit the images."""

_ADVICE = {
    "unchanged": "; raise inversion_steps, add larger ones as deeper, or allow more draws by verify.attempts",
    "spilled": "; lower inversion_steps, or enlarge the mask",
    "legal": "; add larger inversion_steps as deeper, allow more draws by verify.attempts, or lower judge.least_area",
    "broken_before": "; take another image or region, raise judge.threshold, or allow more draws by verify.attempts",
}

Pixels = NDArray[np.uint8]
Region = NDArray[np.bool_]


class Corruptor:
    """Put artifacts into a region of single images: invert, corrupt the latent inside the region, resample, verify.

    It does what the stage `corrupt` of a build does. With the settings of a recipe, its seed and an item's key, it
    returns exactly the pixels of that item. For that, loading sets torch's CPU threads of this process to `threads`
    and cuDNN to deterministic algorithms.

    Example:
        >>> from flawforge import Corruptor
        >>> corruptor = Corruptor("tinytown", inversion_steps=20, seed=1)
        >>> corrupted, changed = corruptor(image, mask)

    Args:
        model: `tinytown` (the shipped weights), a folder as `StableDiffusionPipeline.save_pretrained` writes it, or a
            hub id in the local cache.
        seed: all random draws follow from it and from the key of the image.
        device: where the model runs.
        verify: settings of a recipe's section `verify`, such as `{"attempts": 4}`.
        **corruption: settings of a recipe's section `corruption`, such as `method`, `inversion_steps`, `dtype` or
            `inversion={"mode": "renoise"}`. Defaults are the recipe's, but `batch_size` is 1.

    Raises:
        ArgumentError: an unknown device.
        RecipeError: a setting that does not exist, or with a wrong value.
        ModelError: weights are missing or do not fit, or there is no GPU.
    """

    def __init__(
        self,
        model: str = "tinytown",
        *,
        seed: int = 0,
        device: Literal["cpu", "cuda"] = "cpu",
        verify: Mapping[str, Any] | None = None,
        **corruption: Any,
    ) -> None:
        if device not in ("cpu", "cuda"):
            raise ArgumentError("device", f"found {device!r}; allowed: cpu, cuda")
        document = {
            "name": "single-image",
            "seed": seed,
            "source": {"kind": "tinytown", "size": _ANY_SIZE},
            "regions": {"kind": "source"},
            "corruption": {"model": model, "batch_size": 1, **corruption},
            "verify": dict(verify or {}),
            "execution": {"corrupt": {"gpus": float(device == "cuda")}},
        }
        self._load(_recipe(document))

    @classmethod
    def from_recipe(cls, recipe: RecipeLike, *, overrides: Sequence[str] = ()) -> Self:
        """Create a corruptor with the seed and the settings of a recipe, including how masks are read.

        Args:
            recipe: a path, the name of a shipped recipe, or what `load_recipe` returns.
            overrides: changes of the recipe, such as `corruption.batch_size=1`, which is faster for single images. The
                exact pixels of a build need the recipe's batch size.

        Raises:
            RecipeError: the recipe cannot be read or is wrong.
            ModelError: see the class.
        """
        corruptor = cls.__new__(cls)
        corruptor._load(resolve_recipe(recipe, overrides))
        return corruptor

    @overload
    def __call__(
        self, image: Image.Image, mask: Image.Image | NDArray[Any], *, caption: str = "", key: str = "image"
    ) -> tuple[Image.Image, Region]: ...

    @overload
    def __call__(
        self, image: Pixels, mask: Image.Image | NDArray[Any], *, caption: str = "", key: str = "image"
    ) -> tuple[Pixels, Region]: ...

    def __call__(
        self,
        image: Image.Image | Pixels,
        mask: Image.Image | NDArray[Any],
        *,
        caption: str = "",
        key: str = "image",
    ) -> tuple[Image.Image | Pixels, Region]:
        """Corrupt one image.

        Args:
            image: a PIL image of mode RGB, or uint8 [H, W, 3]. Sides must be a multiple of the model's step; the
                error states the step.
            mask: the region, white (or True) inside, of the image's size: a PIL image, bool [H, W] or uint8 [H, W].
                The levels of uint8 and of PIL images are read as those of a source: 0 and 1, or 0 and 255. It may be
                empty with the method `none` only.
            caption: the prompt, where the setting `prompt` is `caption`.
            key: another key gives other random draws.

        Returns:
            The image with artifacts, a PIL image or an array like `image`; and where it differs from the round trip
            of the uncorrupted image, or from what another `verify.baseline` names, bool [H, W].

        Raises:
            ArgumentError: image or mask of a wrong type or size, or a mask that cannot be read or is empty.
            RejectedError: the verifier rejects the result; its `reason` is `unchanged`, `spilled` or `not_finite`, or
                with a `judge` in `verify`, `legal` or `broken_before`. With `verify={"on_failure": "keep"}`, results
                with another reason than `not_finite` are returned as well.
            ModelError: the model does not fit into memory, or overflows on any image.
        """
        from actors.batch import Sample
        from actors.images import encode_image, encode_mask, read_image, read_mask

        pixels = _pixels(image)
        self._check_size(pixels)
        region = self._region(mask, pixels)
        sample = Sample(key, "", caption, image=encode_image(pixels), mask=encode_mask(region))
        self._corruptor([sample])
        if sample.rejected:
            raise RejectedError(sample.reason, sample.detail + _ADVICE.get(sample.reason, ""))
        assert sample.corrupted is not None and sample.changed is not None
        corrupted, changed = read_image(sample.corrupted).copy(), read_mask(sample.changed)
        return (Image.fromarray(corrupted) if isinstance(image, Image.Image) else corrupted), changed

    def _load(self, recipe: Recipe) -> None:
        from actors.corruption.corruptor import Corruptor as ShardCorruptor
        from factory.pipeline.stages import corruptor, image_selector

        loaded = corruptor(recipe)
        assert isinstance(loaded, ShardCorruptor)
        self.recipe = recipe
        self._corruptor: ShardCorruptor = loaded
        self._reading = image_selector(recipe).masks

    def _check_size(self, pixels: Pixels) -> None:
        height, width = pixels.shape[:2]
        model = self._corruptor.model
        step = model.smallest_step
        if not height or not width or height % step or width % step:
            raise ArgumentError(
                "image",
                f"{width} x {height} pixels; {model.name} takes sides that are a multiple of {step}: crop or resize "
                "image and mask",
            )

    def _region(self, mask: Image.Image | NDArray[Any], pixels: Pixels) -> Region:
        height, width = pixels.shape[:2]
        if isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.ndim == 2:
            region = mask
        else:
            region = self._read(mask, (width, height))
        if region.shape != (height, width):
            raise ArgumentError(
                "mask", f"{region.shape[1]} x {region.shape[0]} pixels; the image is {width} x {height}"
            )
        if not region.any() and self.recipe.corruption.method != "none":
            raise ArgumentError("mask", "empty; at least one pixel must be inside the region")
        return region

    def _read(self, mask: Image.Image | NDArray[Any], size: tuple[int, int]) -> Region:
        """Decode a mask of grey levels by the rules for masks of a source."""
        from actors.masks import decode_mask

        if isinstance(mask, np.ndarray) and mask.dtype == np.uint8 and mask.ndim == 2 and mask.size:
            mask = Image.fromarray(mask)
        if not isinstance(mask, Image.Image):
            raise ArgumentError(
                "mask", f"{_described(mask)}; allowed: a PIL image, bool [H, W] or uint8 [H, W]"
            )
        data = io.BytesIO()
        try:
            mask.save(data, "PNG")
        except OSError:
            raise ArgumentError("mask", f"a PIL image of mode {mask.mode}; allowed: mode 1 or L") from None
        try:
            return decode_mask(data.getvalue(), self._reading, size=size).inside
        except Reject as why:
            raise ArgumentError("mask", why.detail) from None


def _recipe(document: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        mistakes = [
            f"{dotted(mistake.path)}: {mistake.text}" for mistake in mistakes_of(error, Recipe, document)
        ]
        raise RecipeError("\n  ".join(["settings of Corruptor:", *mistakes])) from None


def _pixels(image: Image.Image | Pixels) -> Pixels:
    if isinstance(image, Image.Image):
        if image.mode != "RGB":
            raise ArgumentError("image", f'mode {image.mode}; allowed: RGB, as image.convert("RGB") makes it')
        return np.asarray(image)
    if not (
        isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    ):
        raise ArgumentError(
            "image", f"{_described(image)}; allowed: a PIL image of mode RGB, or uint8 [H, W, 3]"
        )
    return image


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return f"found {type(value).__name__}"
