"""Where clean images come from: the embedded world, image files, WebDataset tars, or Parquet files.

Their contract is `factory.output.reference.Source`, a room below, because plans hold references.
CONTRIBUTING.md says how to add a source.
"""

from __future__ import annotations

from factory.output.reference import Raw, Reference, Source
from factory.recipe.source import Listing
from factory.sources.choice import Choice
from factory.sources.images import ImagesSource
from factory.sources.parquet import ParquetSource
from factory.sources.tinytown import TinytownSource
from factory.sources.webdataset import WebDatasetSource
from factory.store.credentials import remember

__all__ = ["Raw", "Reference", "Source", "open_source"]


def open_source(recipe: Listing, seed: int) -> Source:
    """The source of a recipe; nothing is looked up yet.

    Args:
        recipe: its section `source`, with or without the size that a build brings its images to.
        seed: the recipe's.
    """
    remember(recipe.urls)
    urls, fields = recipe.urls, recipe.fields
    mask, caption = fields.mask, fields.caption
    choice = Choice(seed, recipe.share, tuple(recipe.filters), recipe.limit)
    match recipe.kind:
        case "tinytown":
            return TinytownSource(
                first_seed=recipe.first_seed, choice=choice, parts=recipe.parts, run_seed=seed
            )
        case "images":
            return ImagesSource(urls, extensions=fields.image, mask=mask, caption=caption, choice=choice)
        case "webdataset":
            return WebDatasetSource(urls, image=fields.image, mask=mask, caption=caption, choice=choice)
        case "parquet":
            return ParquetSource(
                urls,
                image=fields.image,
                mask=mask,
                caption=caption,
                choice=choice,
                allow=recipe.cells.allow,
                base64=fields.encoding == "base64",
            )
