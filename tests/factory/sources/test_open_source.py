"""From a recipe's section to its source."""

from __future__ import annotations

from pathlib import Path

from factory.recipe_sections import Fields
from factory.recipe_sections import Source as SourceRecipe
from factory.sources import open_source
from factory.sources.images import ImagesSource
from factory.sources.tinytown import TinytownSource
from factory.sources.webdataset import WebDatasetSource


def test_each_kind_gets_its_settings(tmp_path: Path) -> None:
    tinytown = SourceRecipe(kind="tinytown", size=64, limit=2, first_seed=40, parts=["hand"])
    source = open_source(tinytown, 0)
    assert isinstance(source, TinytownSource)
    listed = list(source.list())
    assert len(listed) == 2
    assert all("hand" in item.caption and int(item.url.split(":")[1]) >= 40 for item in listed)

    for name in ("a.png", "b.jpeg", "c.gif"):
        (tmp_path / name).touch()
    images = open_source(SourceRecipe(kind="images", size=64, urls=[str(tmp_path)], limit=9), 0)
    assert isinstance(images, ImagesSource)
    assert len(list(images.list())) == 2
    assert images.skipped == {"gif": 1}

    fields = Fields(image=["jpg"], mask="mask.png", caption="json:prompt")
    tars = open_source(SourceRecipe(kind="webdataset", size=64, urls=["x.tar"], fields=fields), 0)
    assert isinstance(tars, WebDatasetSource)
    assert tars._extensions == {"image": ["jpg"], "mask": ["mask.png"], "caption": ["json"]}


def test_the_recipes_seed_draws_tinytowns_regions() -> None:
    recipe = SourceRecipe(kind="tinytown", size=64, limit=8)
    listed = list(open_source(recipe, 0).list())
    masks = [[raw.mask for _, raw in open_source(recipe, seed).read(listed)] for seed in (0, 0, 1)]  # type: ignore[union-attr]
    assert masks[0] == masks[1] != masks[2]
