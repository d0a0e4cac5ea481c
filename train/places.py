"""Where the data and the weights of a training are, in a form that holds on every worker."""

from __future__ import annotations

from pathlib import Path

from actors.errors import TrainingError
from actors.models import on_every_worker
from eval.splits import ROOT
from train.recipe import TrainingRecipe

SPLITS = {f"tinytown/{name}": name for name in ("labelled", "labelled-2000", "validation")}
"""Names of the shipped data sets. They hide folders of the same name."""


def place_of(url: str) -> str:
    """The URL for a name in `SPLITS`; any other URL as it is, a local path absolute.

    Raises:
        TrainingError: a shipped split that nothing may be trained or chosen on.
    """
    if url in SPLITS:
        return str(ROOT / SPLITS[url])
    if url.startswith("tinytown/"):
        raise TrainingError(
            f"{url}: nothing may be trained or chosen on it; allowed: {', '.join(SPLITS)}, or data of your own"
        )
    return url if "://" in url else str(Path(url).expanduser().absolute())


def absolute(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe with a path of its checkpoint that does not depend on the working folder of a worker."""
    checkpoint = on_every_worker(recipe.model.checkpoint)
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"checkpoint": checkpoint})})
