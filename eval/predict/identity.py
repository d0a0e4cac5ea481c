"""What a prediction is made of: its recipe, the threshold, the detector's weights, the versions of the code."""

from __future__ import annotations

from actors.models import fingerprint, on_every_worker
from actors.segmentation.own_threshold import own_threshold
from eval.predict.recipe import SPLITS, PredictRecipe, content
from eval.splits import ROOT, splits_version
from factory.output.identity import Identity, digest_of_code, versions_here
from factory.output.reference import Source
from factory.pipeline.run_context import RunContext
from factory.sources import open_source

DETECTOR = "detector"
"""The role of the model."""

CODE = ("eval/imports", "eval/predict")
"""Folders whose code decides bytes."""


def identity_of_prediction(recipe: PredictRecipe) -> Identity:
    """Everything that the bytes of the shards depend on, beside the images.

    Raises:
        ModelError: there is no such detector, or it has no threshold and the recipe names none.
        EvaluationError: a shipped split is missing or of another version.
    """
    document = content(with_threshold(recipe))
    if any(url in SPLITS for url in recipe.source.urls):
        document["splits"] = splits_version()
    models = {DETECTOR: fingerprint(*weights_of(recipe)[DETECTOR])}
    versions = {**versions_here(), "eval": digest_of_code(CODE)}
    return Identity({"predict": document}, models, versions, devices_of(recipe))


def with_threshold(recipe: PredictRecipe) -> PredictRecipe:
    """The recipe with the threshold that came with the detector, if it names none.

    Raises:
        ModelError: the detector has no threshold of its own.
    """
    config = recipe.detector
    if config.threshold is not None:
        return recipe
    threshold = own_threshold(config.folder, config.revision, setting="detector.threshold")
    return recipe.model_copy(update={"detector": config.model_copy(update={"threshold": threshold})})


def weights_of(recipe: PredictRecipe) -> dict[str, tuple[str, str | None]]:
    """The model by role: its folder, absolute where it is one, or hub id with revision."""
    return {DETECTOR: (on_every_worker(recipe.detector.folder), recipe.detector.revision)}


def devices_of(recipe: PredictRecipe) -> dict[str, str]:
    """Where the detector runs: on `cuda` if its workers have GPUs, else on the `cpu`."""
    return {DETECTOR: "cuda" if recipe.execution.predict.gpus else "cpu"}


def context_of(recipe: PredictRecipe, url: str, identity: Identity, run: str = "") -> RunContext:
    """What the workers of a prediction know about it."""
    return RunContext(
        url=url,
        identity=identity,
        weights=weights_of(recipe),
        devices=devices_of(recipe),
        same_hardware=recipe.execution.hardware == "same",
        code=CODE,
        run=run,
    )


def open_images(recipe: PredictRecipe) -> Source:
    """The source of a recipe; nothing is looked up yet."""
    places = {name: str(ROOT / name.partition("/")[2]) for name in SPLITS}
    urls = [places.get(url, url) for url in recipe.source.urls]
    return open_source(recipe.source.model_copy(update={"urls": urls}), recipe.seed)
