"""Where clean images come from: the embedded world, image files, or WebDataset tars."""

from __future__ import annotations

from factory.recipe_sections import Source as SourceRecipe
from factory.sources.images import ImagesSource
from factory.sources.reference import Raw, Reference, Source
from factory.sources.tinytown import TinytownSource
from factory.sources.webdataset import WebDatasetSource

__all__ = ["Raw", "Reference", "Source", "open_source"]


def open_source(recipe: SourceRecipe, seed: int) -> Source:
    """The source that a recipe asks for; nothing is looked up yet.

    Args:
        recipe: its section `source`.
        seed: the recipe's.
    """
    if recipe.kind == "tinytown":
        return TinytownSource(
            first_seed=recipe.first_seed, limit=recipe.limit, parts=recipe.parts, run_seed=seed
        )
    fields = recipe.fields
    if recipe.kind == "images":
        return ImagesSource(
            recipe.urls,
            extensions=fields.image,
            mask=fields.mask,
            caption=fields.caption,
            limit=recipe.limit,
        )
    return WebDatasetSource(
        recipe.urls, image=fields.image, mask=fields.mask, caption=fields.caption, limit=recipe.limit
    )
