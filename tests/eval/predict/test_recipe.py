"""Recipes of predictions: strict, complete, without secrets; the shipped one."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.errors import RecipeError
from eval.predict.identity import identity_of_prediction, open_images
from eval.predict.recipe import SHIPPED, PredictRecipe, content, dump, load_prediction, shipped_prediction
from eval.predict.samples import item_name
from factory.output.reference import Reference
from factory.recipe.parsing import parse
from tests.eval.predict.outputs import recipe

ROOT = Path(__file__).parents[3]


def test_the_shipped_recipe_marks_the_wild_split() -> None:
    assert tuple(path.stem for path in (ROOT / "recipes").glob("predict-*.yaml")) == SHIPPED
    loaded = load_prediction("predict-tinytown", ["source.limit=3"])
    assert shipped_prediction("predict-tinytown").startswith("# Marks artifacts in the wild images")
    items = list(open_images(loaded).list())
    assert len(items) == 3 and all(item.url.endswith("tinytown/splits/wild/000000.tar") for item in items)
    assert all(item_name(item).startswith("wild-") for item in items)
    assert "splits-v" in identity_of_prediction(loaded).content["predict"]["splits"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("source.size=64", "source.size: unknown key"),
        ("detector.folder=", "detector.folder: found null; allowed: text"),
        ("detector.dtype=float8", "allowed: one of float32, bfloat16, float16"),
        ("detector.threshold=1", "detector.threshold"),
        ("source.fields.mask=mask.png", "a prediction reads no masks"),
        ("source.urls=[tinytown/sealed]", "tinytown/wild, tinytown/labelled, tinytown/validation"),
        ("output.image=maybe", "allowed: one of keep, leave_out"),
        ("execution.corrupt.cpus=1", "allowed here: passes, patience, hardware, load, predict, write"),
        ("kind=build", "allowed: one of predict"),
        ("name=a/b", "1 to 80 letters"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, change: str, words: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(tmp_path, change)
    assert words in str(error.value), str(error.value)


def test_a_dumped_recipe_reads_back_and_holds_no_secrets(tmp_path: Path) -> None:
    made = recipe(tmp_path, "source.urls=['https://user:secret@example.org/a.png']")
    text = dump(made)
    assert "secret" not in text and "secret" not in str(content(made))
    again = parse(PredictRecipe, dump(recipe(tmp_path)), "again.yaml")
    assert again == recipe(tmp_path)
    assert {"name", "execution", "limits"}.isdisjoint(content(made))


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (Reference("k-1", "s3://b/000.tar", '{"stem":"folder/a","image":"png"}', "", "v"), "folder/a"),
        (Reference("k-1", "s3://b/folder/a.b.png", "", "", "v"), "a.b"),
        (Reference("k-1", "s3://b/folder/a.jpg", '{"caption":"a.TXT"}', "", "v caption=w"), "a"),
        (Reference("k-1", "s3://b/a.parquet", '{"group":0,"row":3}', "", "v"), "k-1"),
        (Reference("tinytown-000000007", "tinytown:7", "", "", ""), "tinytown-000000007"),
    ],
)
def test_the_name_of_an_image_in_its_source(reference: Reference, name: str) -> None:
    assert item_name(reference) == name
