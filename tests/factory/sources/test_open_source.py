"""From a recipe's section to its source."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from actors.selection_config import SelectionConfig
from factory.output.reference import Raw
from factory.recipe.source import Fields, Filter
from factory.recipe.source import Source as SourceRecipe
from factory.sources import open_source
from factory.sources.images import ImagesSource
from factory.sources.parquet import ParquetSource
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
    parts = {part: names for part, names in tars._extensions.items() if names}
    assert parts == {"image": ["jpg"], "mask": ["mask.png"], "caption": ["json"]}

    columns = {"a": [b"1", b"2", b"3"], "m": [b"x"] * 3, "t": ["one", "two", "three"], "n": [1, 2, 3]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    recipe = SourceRecipe(
        kind="parquet",
        size=64,
        urls=[str(tmp_path)],
        fields=Fields(image=["b", "a"], mask="m", caption="t"),
        filters=[Filter(field="n", least=2)],
        limit=1,
    )
    rows = open_source(recipe, 0)
    assert isinstance(rows, ParquetSource)
    assert [raw for _, raw in rows.read(list(rows.list()))] == [Raw(b"2", b"x", "two")]


def test_seed_and_share_draw_scenes() -> None:
    half = SourceRecipe(kind="tinytown", size=64, limit=40, share=0.5)
    first, again, other = (open_source(half, seed) for seed in (0, 0, 1))
    keys = [item.key for item in first.list()]
    assert [item.key for item in again.list()] == keys != [item.key for item in other.list()]
    assert len(keys) == 40
    assert 15 < first.skipped["not_sampled"] < 90


def test_the_recipes_seed_draws_tinytowns_regions() -> None:
    recipe = SourceRecipe(kind="tinytown", size=64, limit=8)
    listed = list(open_source(recipe, 0).list())
    masks = [[raw.mask for _, raw in open_source(recipe, seed).read(listed)] for seed in (0, 0, 1)]  # type: ignore[union-attr]
    assert masks[0] == masks[1] != masks[2]


def test_the_sections_in_the_documentation_are_right() -> None:
    text = (Path(__file__).parents[3] / "docs/sources.md").read_text()
    sections = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    sources = [section["source"] for section in sections if "source" in section]
    kinds = [SourceRecipe.model_validate(one).kind for one in sources if "kind" in one]
    assert kinds == ["images", "webdataset", "parquet", "parquet", "parquet"]
    masks, rest = (one for one in sources if "kind" not in one)
    assert (
        SourceRecipe.model_validate(
            masks | {"kind": "images", "urls": ["/data"], "size": 64}
        ).masks.ignore_index
        == 255
    )
    assert len(SourceRecipe.model_validate({**sources[0], **rest}).filters) == 4
    (selection,) = (section["selection"] for section in sections if "selection" in section)
    assert SelectionConfig.model_validate(selection).largest_artifact_area == 0.02
