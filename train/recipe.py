"""The recipe of a training: everything that decides its result, as strict plain data, and where it runs.

`execution` and `name` may change on every resume. The rest has a digest. Nothing heavy is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from actors.config import LISTED, Config, Inside, Share, not_allowed
from actors.errors import RecipeError
from actors.redaction import redact
from factory.recipe.parsing import parse
from factory.recipe.recipe import NAME, Name, recipe_file
from factory.recipe.recipe import SHIPPED as DATA_RECIPES
from factory.recipe.strict_yaml import LARGEST_INTEGER, dump_yaml
from factory.recipe.text import read_file
from train.data.labels import Label
from train.execution import Workers

SHIPPED = ("train-regions", "train-detector", "train-tinytown-regions", "train-tinytown-detector")
"""The training recipes that come with Flawforge; a bare name stands for the file."""

EXECUTION = ("name", "execution", "keep_apart")
"""What a resumed training may change. Data without what `keep_apart` leaves out has a digest of its own."""


class Data(Config):
    """One of the data sets that training draws from."""

    name: Name = Field(description="in logs, and for --data NAME=URL")
    url: str | None = Field(
        default=None,
        description="an output of flawforge build, tars (globs, brace ranges), or tinytown/labelled; or --data",
    )
    weight: float = Field(default=1.0, gt=0, le=1e6, description="share of the samples, against the others")
    label: Label = Field(
        default="mask",
        description="what is learnt: the region asked for, what changed, both at once, what changed and a judge marks, "
        "or nothing (clean images)",
    )


class ModelConfig(Config):
    """The network and what it starts from."""

    checkpoint: str = Field(description="folder or hub id of a UperNet; a head of other classes is replaced")
    revision: str | None = Field(default=None, description="commit or tag on the hub")
    batch_norm: Literal["frozen", "synchronised", "per_worker"] = Field(
        default="synchronised",
        description="running statistics are kept, are those of all workers' images, or of each worker's",
    )
    drop_path: Share | None = Field(
        default=None, description="largest rate of stochastic depth; null takes the checkpoint's"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="recompute the backbone in the backward pass, to save memory"
    )


class Augmentation(Config):
    """Random changes of the training images, drawn from seed, step and slot."""

    resize: Annotated[tuple[float, float], LISTED] = Field(
        default=(1.0, 1.0), description="smallest and largest scale"
    )
    crop: int | None = Field(
        default=None, ge=16, le=4096, description="side of a random crop in pixels; null takes whole images"
    )
    largest_share: Share = Field(
        default=0.75, description="share of a crop that one class may cover; ten crops are tried"
    )
    flip: Share = Field(default=0.5, description="share of the images mirrored left to right")
    colour: Share = Field(default=0.0, description="largest change of a channel's gain and offset")

    @field_validator("resize")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0.1 <= value[0] <= value[1] <= 10:
            raise not_allowed("two rising numbers from 0.1 to 10")
        return value

    @field_validator("crop")
    @classmethod
    def _equal_sizes(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is None and info.data.get("resize", (1.0, 1.0)) != (1.0, 1.0):
            raise not_allowed("a side in pixels, since augmentation.resize changes the sizes of images")
        return value


class Optimizer(Config):
    """AdamW with a warm-up and a polynomial decay."""

    learning_rate: float = Field(default=6e-5, gt=0, le=1, description="at its peak")
    betas: Annotated[tuple[Inside, Inside], LISTED] = Field(default=(0.9, 0.999), description="of AdamW")
    weight_decay: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="of matrices and kernels; norms, biases and position tables have none",
    )
    warm_up: int = Field(default=0, ge=0, description="steps over which the rate rises from 0")
    power: float = Field(default=1.0, gt=0, le=10, description="of the decay to 0; 1 is linear")
    clip: float | None = Field(default=None, gt=0, description="largest norm of the gradient; null disables")


class Loss(Config):
    """What is minimised, over all pixels that are not ignored."""

    kind: Literal["cross_entropy", "dice"] = Field(
        default="cross_entropy", description="per pixel, or soft Dice"
    )
    class_weights: Annotated[tuple[float, float] | None, LISTED] = Field(
        default=None, description="of clean and artifact in the cross-entropy; null is 1, 1"
    )

    @field_validator("class_weights")
    @classmethod
    def _positive(cls, value: tuple[float, float] | None, info: ValidationInfo) -> tuple[float, float] | None:
        if value is None:
            return None
        if info.data.get("kind") == "dice":
            raise not_allowed("null, since loss.kind is dice")
        if min(value) <= 0:
            raise not_allowed("two numbers above 0")
        return value


class Validation(Config):
    """Labelled images by which the best checkpoint and the threshold are chosen."""

    url: str = Field(description="tars with image.png and mask.png, or tinytown/validation")
    every: int = Field(
        default=500, ge=1, description="steps between two validations; one follows the last step"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="validations without a better IoU_fg that end the training; null: never",
    )


class KeepApart(Config):
    """Test sets that must not share images or captions with the data; the validation is one of them."""

    tests: Annotated[tuple[str, ...], LISTED] = Field(
        default=(), description="further test sets: outputs, tars with images, or tinytown/labelled"
    )
    shared: Literal["refuse", "drop", "allow"] = Field(
        default="allow",
        description="what samples do that a test set also has: end the training before it begins (refuse), or are left "
        "out (drop); allow looks for none, since every sample is read for that",
    )
    captions: bool = Field(default=True, description="equal captions count as well, not only equal images")


class TrainingRecipe(Config):
    """The whole recipe, every default filled in."""

    name: Name = Field(description="of the trained model: letters, digits, - _ and .")
    kind: Literal["regions", "detector"] = Field(
        description="what the model is for: choosing regions, or detection"
    )
    seed: int = Field(
        default=0, ge=0, le=LARGEST_INTEGER, description="all random draws follow from it; below 2^63"
    )
    iterations: int = Field(ge=1, description="steps of the optimizer")
    batch: int = Field(default=8, ge=1, le=65_536, description="images in a step, of all workers together")
    data: Annotated[tuple[Data, ...], LISTED] = Field(description="data sets that are mixed")
    bad_samples: Literal["refuse", "skip"] = Field(
        default="refuse",
        description="what a sample that cannot be read does: ends the training, or is counted",
    )
    model: ModelConfig = Field(description="the network")
    augmentation: Augmentation = Field(default=Augmentation(), description="random changes of images")
    optimizer: Optimizer = Field(default=Optimizer(), description="AdamW")
    loss: Loss = Field(default=Loss(), description="what is minimised")
    precision: Literal["float32", "bfloat16", "float64"] = Field(
        default="float32", description="bfloat16: autocast with float32 weights"
    )
    ema: Inside | None = Field(
        default=None, description="decay of averaged weights, which are kept; null disables"
    )
    validation: Validation | None = Field(default=None, description="chooses checkpoint and threshold")
    keep_apart: KeepApart = Field(
        default=KeepApart(), description="whether to look for samples of the data that are in a test set, too"
    )
    execution: Workers = Field(default=Workers(), description="where it runs")

    @field_validator("data")
    @classmethod
    def _named_once(cls, value: tuple[Data, ...]) -> tuple[Data, ...]:
        names = [one.name for one in value]
        if not names or len(set(names)) != len(names):
            raise not_allowed("at least one data set, each with a name of its own")
        return value

    @field_validator("optimizer")
    @classmethod
    def _warm_up_ends(cls, value: Optimizer, info: ValidationInfo) -> Optimizer:
        if value.warm_up >= info.data.get("iterations", value.warm_up + 1):
            raise not_allowed(f"a number below iterations ({info.data['iterations']})", key="warm_up")
        return value

    @field_validator("execution")
    @classmethod
    def _work_for_everyone(cls, value: Workers, info: ValidationInfo) -> Workers:
        batch = info.data.get("batch")
        if batch is not None and value.most > batch:
            raise not_allowed(f"at most batch ({batch}): every worker needs an image", key="workers")
        model: ModelConfig | None = info.data.get("model")
        if model is not None and model.batch_norm == "synchronised" and value.most > 1 and not value.gpus:
            raise not_allowed(
                "GPUs, or model.batch_norm frozen or per_worker: PyTorch synchronises batch norms on GPUs only",
                key="gpus",
            )
        return value


def load_training(path: str | Path, overrides: Sequence[str] = ()) -> TrainingRecipe:
    """Read a training recipe.

    Args:
        path: a file, or the bare name of one of `SHIPPED`.
        overrides: `a.b=c`, the value being YAML; they win over the file.

    Raises:
        RecipeError: it cannot be read, or is wrong; the message lists every mistake with its line.
    """
    file = recipe_file(path, SHIPPED)
    return parse(TrainingRecipe, read_file(file, SHIPPED), str(file), overrides)


def is_training(path: str | Path) -> bool:
    """Whether a recipe is that of a training, and not of a data set: a training has a `kind` at the top.

    Raises:
        RecipeError: there is no such file, or it cannot be read.
    """
    if str(path) in SHIPPED or str(path) in DATA_RECIPES:
        return str(path) in SHIPPED
    text = read_file(Path(path), (*SHIPPED, *DATA_RECIPES))
    return re.search(r"^kind\s*:", text, re.MULTILINE) is not None


def with_data(recipe: TrainingRecipe, urls: Sequence[str]) -> TrainingRecipe:
    """The recipe with the URLs of `--data`.

    Args:
        recipe: its data sets may have no URL yet.
        urls: `NAME=URL`; or a bare URL, for the one data set that has none, or the only one.

    Raises:
        RecipeError: an unknown name, a bare URL that may stand for several data sets, or a data set without a URL.
    """
    given: dict[str, str] = {}
    names = [one.name for one in recipe.data]
    for text in urls:
        name, equals, url = text.partition("=")
        if not equals or name not in names:
            open_names = [
                one.name for one in recipe.data if one.url is None and one.name not in given
            ] or names
            if equals and NAME.fullmatch(name) and "/" not in name:
                raise RecipeError(
                    f"--data {redact(text)}: no data set {name}; the recipe has {', '.join(names)}"
                )
            if len(open_names) > 1:
                raise RecipeError(
                    f"--data {redact(text)}: give NAME=URL, NAME being {' or '.join(open_names)}"
                )
            name, url = open_names[0], text
        given[name] = url
    data = tuple(
        one.model_copy(update={"url": given[one.name]}) if one.name in given else one for one in recipe.data
    )
    if missing := [one.name for one in data if not one.url]:
        raise RecipeError(f"data: no URL for {', '.join(missing)}; give --data {missing[0]}=URL")
    return recipe.model_copy(update={"data": data})


def shipped_training(name: str) -> str:
    """The text of a recipe of `SHIPPED`, with its comments."""
    return read_file(recipe_file(name, SHIPPED), SHIPPED)


def published(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe without the secrets of its URLs. Whatever is written or printed of a recipe is written of this."""
    data = tuple(one.model_copy(update={"url": one.url and redact(one.url)}) for one in recipe.data)
    validation = recipe.validation
    if validation is not None:
        validation = validation.model_copy(update={"url": redact(validation.url)})
    tests = tuple(map(redact, recipe.keep_apart.tests))
    apart = recipe.keep_apart.model_copy(update={"tests": tests})
    return recipe.model_copy(update={"data": data, "validation": validation, "keep_apart": apart})


def dump(recipe: TrainingRecipe) -> str:
    """YAML with every default written out; it reads back as an equal recipe, but for the secrets of its URLs."""
    return dump_yaml(published(recipe).model_dump(mode="json"))


def content(recipe: TrainingRecipe) -> Mapping[str, Any]:
    """The half that decides the result, as JSON has it.

    It has no places: digests stand for data and weights.
    """
    document = published(recipe).model_dump(mode="json", exclude=set(EXECUTION))
    for one in document["data"]:
        del one["url"]
    del document["model"]["checkpoint"], document["model"]["revision"]
    if document["validation"]:
        del document["validation"]["url"]
    return document
