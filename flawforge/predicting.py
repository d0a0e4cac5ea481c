"""Marking artifacts in images without labels: the Python API. The command `flawforge predict` calls it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Literal, get_args

from actors.errors import ArgumentError
from eval.predict.recipe import PredictRecipe, load_prediction
from factory.recipe.parsing import parse
from factory.recipe.strict_yaml import dump_yaml

if TYPE_CHECKING:
    from factory.output.manifest import Progress
    from factory.run.tally import Tally

PredictMode = Literal["resume", "overwrite"]

log = logging.getLogger(__name__)


def predict(
    recipe: PredictRecipe | str | PathLike[str],
    out: str | PathLike[str],
    *,
    overrides: Sequence[str] = (),
    address: str = "local",
    mode: PredictMode = "resume",
    take_over: bool = False,
    show: Callable[[Tally], None] = lambda tally: None,
    tell: Callable[[str], None] = log.warning,
) -> Progress:
    """Mark the artifacts in all images of a source, or finish a prediction that was stopped, and write its gallery.

    Example:
        >>> import flawforge
        >>> small = ["source.limit=8", "output.samples_per_shard=4"]
        >>> total = flawforge.predict("predict-tinytown", "out/wild", overrides=small)
        >>> total.accepted
        8

    Args:
        recipe: a path, the name of a shipped recipe, or what `load_prediction` returns.
        out: the output, a folder or an fsspec URL such as `s3://bucket/folder`.
        overrides: changes of the recipe, such as `detector.folder=out/detector`.
        address: a Ray cluster; `local` starts one on this machine, `auto` joins the one that is running.
        mode: `resume` makes the shards that are missing; `overwrite` deletes the output first.
        take_over: predict even if another run seems to be active on the output.
        show: called with the current counts at the start and after every shard.
        tell: called with a message when the run waits for something or skips something.

    Returns:
        Counts of the whole output. Compare `rejected / planned` with `recipe.limits.rejects` where that matters.

    Raises:
        ArgumentError: an unknown mode.
        RecipeError: the recipe cannot be read or is wrong.
        ModelError: there is no such detector, or no threshold for it.
        OutputError: the output belongs to another recipe, or cannot be written.
        BuildError: the run stopped before the plan was done; the same call continues it.
    """
    if mode not in get_args(PredictMode):
        raise ArgumentError("mode", f"allowed: {', '.join(get_args(PredictMode))}")
    loaded, url = resolve_prediction(recipe, overrides), str(out)
    from eval.predict.gallery import write_prediction_gallery
    from eval.predict.job import predict as run
    from factory.store.storage import Storage

    total = run(
        loaded,
        url,
        overwrite=mode == "overwrite",
        take_over=take_over,
        address=address,
        show=show,
        tell=tell,
    )
    write_prediction_gallery(Storage(url))
    return total


def resolve_prediction(
    recipe: PredictRecipe | str | PathLike[str], overrides: Sequence[str] = ()
) -> PredictRecipe:
    """Return the recipe for any value that the API accepts, with overrides such as `detector.threshold=0.4`.

    Raises:
        RecipeError: the recipe cannot be read, or is wrong.
    """
    if not isinstance(recipe, PredictRecipe):
        return load_prediction(str(recipe), overrides)
    if not overrides:
        return recipe
    return parse(PredictRecipe, dump_yaml(recipe.model_dump(mode="json")), recipe.name, overrides)
