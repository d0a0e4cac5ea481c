"""Training recipes: the paper's numbers, every rule's message, `--data`, and what is written of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.errors import RecipeError
from factory.recipe.parsing import parse
from train.recipe import SHIPPED, TrainingRecipe, content, dump, load_training, published, with_data

SMALL = """\
name: small
kind: detector
iterations: 100
data:
  - name: made
model: {checkpoint: net}
"""


def small(extra: str = "", *overrides: str) -> TrainingRecipe:
    return parse(TrainingRecipe, SMALL + extra, "mine.yaml", overrides)


def test_the_defaults_are_the_papers_numbers() -> None:
    """AdamW with 6e-5, betas 0.9 and 0.999 and a decay of 0.01; batches of 8; cross-entropy."""
    recipe = small()
    optimizer = recipe.optimizer
    assert (optimizer.learning_rate, optimizer.betas, optimizer.weight_decay) == (6e-5, (0.9, 0.999), 0.01)
    assert (optimizer.power, optimizer.clip, optimizer.warm_up) == (1.0, None, 0)
    assert (recipe.batch, recipe.loss.kind, recipe.loss.class_weights) == (8, "cross_entropy", None)
    assert (recipe.ema, recipe.precision, recipe.bad_samples) == (None, "float32", "refuse")
    assert recipe.data[0].label == "mask" and recipe.data[0].weight == 1


@pytest.mark.parametrize(
    ("name", "kind", "iterations", "batch"),
    [
        ("train-regions", "regions", 1000, 8),
        ("train-detector", "detector", 10_000, 8),
        ("train-tinytown-regions", "regions", 1000, 8),
        ("train-tinytown-detector", "detector", 300, 8),
    ],
)
def test_the_shipped_recipes(name: str, kind: str, iterations: int, batch: int) -> None:
    recipe = load_training(name)
    assert (recipe.name, recipe.kind) == (name.removeprefix("train-"), kind)
    assert (recipe.iterations, recipe.batch) == (iterations, batch)
    if "tinytown" not in name:
        assert recipe.optimizer.learning_rate == 6e-5 and recipe.augmentation.crop == 512
    assert load_training(Path(__file__).parents[2] / "recipes" / f"{name}.yaml") == recipe
    assert parse(TrainingRecipe, dump(recipe), "dump") == recipe


def test_every_shipped_recipe_is_tested() -> None:
    assert set(SHIPPED) == {path.stem for path in Path(__file__).parents[2].glob("recipes/train-*.yaml")}


@pytest.mark.parametrize(
    ("extra", "overrides", "line", "words"),
    [
        ("", ["name=a/b"], "", "allowed: 1 to 80 letters, digits, '-', '_' or '.'"),
        ("", ["data=[]"], "", "allowed: at least one data set, each with a name of its own"),
        (
            "",
            ["data=[{name: a}, {name: a}]"],
            "",
            "allowed: at least one data set, each with a name of its own",
        ),
        ("", ["data=[{name: a b}]"], "", "1 to 80 letters"),
        (
            "",
            ["data=[{name: a, label: masks}]"],
            "",
            "data[0].label: found 'masks'; allowed: one of mask, changed, intersection, judged, none",
        ),
        ("", ["data=[{name: a, weight: 0}]"], "", "data[0].weight: found 0; allowed: a number above 0"),
        ("optimizer: {warm_up: 100}\n", [], "line 7", "allowed: a number below iterations (100)"),
        (
            "optimizer: {learning_rate: 2}\n",
            [],
            "line 7",
            "found 2; allowed: a number above 0 and of at most 1",
        ),
        (
            "optimizer: {betas: [0.9, 1]}\n",
            [],
            "line 7",
            "optimizer.betas[1]: found 1; allowed: a number above 0",
        ),
        ("optimizer: {betas: [0.9]}\n", [], "line 7", "optimizer.betas[1]: missing"),
        (
            "optimizer: {momentum: 0.9}\n",
            [],
            "line 7",
            "optimizer.momentum: unknown key; allowed here: learning_rate,",
        ),
        (
            "augmentation: {resize: [2, 0.5], crop: 64}\n",
            [],
            "line 7",
            "allowed: two rising numbers from 0.1 to 10",
        ),
        (
            "augmentation: {resize: [0, 1], crop: 64}\n",
            [],
            "line 7",
            "allowed: two rising numbers from 0.1 to 10",
        ),
        ("augmentation: {resize: [0.5, 2]}\n", [], "line 7", "since augmentation.resize changes the sizes"),
        (
            "augmentation: {crop: 8}\n",
            [],
            "line 7",
            "found 8; allowed: a whole number from 16 to 4096, or null",
        ),
        ("loss: {class_weights: [0, 1]}\n", [], "line 7", "allowed: two numbers above 0"),
        (
            "loss: {kind: dice, class_weights: [1, 2]}\n",
            [],
            "line 7",
            "allowed: null, since loss.kind is dice",
        ),
        (
            "loss: {kind: focal}\n",
            [],
            "line 7",
            "loss.kind: found 'focal'; allowed: one of cross_entropy, dice",
        ),
        ("ema: 1\n", [], "line 7", "ema: found 1; allowed: a number above 0 and below 1, or null"),
        (
            "precision: float16\n",
            [],
            "line 7",
            "precision: found 'float16'; allowed: one of float32, bfloat16, float64",
        ),
        ("validation: {every: 5}\n", [], "line 7", "validation.url: missing"),
        (
            "validation: {url: x, patience: 0}\n",
            [],
            "line 7",
            "validation.patience: found 0; allowed: a whole number",
        ),
        (
            "execution: {workers: 9}\n",
            [],
            "line 7",
            "allowed: at most batch (8): every worker needs an image",
        ),
        (
            "execution: {workers: [2, 9]}\n",
            [],
            "line 7",
            "allowed: at most batch (8): every worker needs an image",
        ),
        ("execution: {workers: [4, 2]}\n", [], "line 7", "allowed: two rising whole numbers of at least 1"),
        ("execution: {workers: [0, 2]}\n", [], "line 7", "allowed: two rising whole numbers of at least 1"),
        ("execution: {workers: 2}\n", [], "line 7", "PyTorch synchronises batch norms on GPUs only"),
        (
            "execution: {micro_batch: 0}\n",
            [],
            "line 7",
            "execution.micro_batch: found 0; allowed: a whole number",
        ),
        (
            "execution: {trackers: [tensorboard]}\n",
            [],
            "line 7",
            "execution.trackers[0]: found 'tensorboard'; allowed: one of wandb, mlflow",
        ),
        ("execution: {trackers: [wandb, wandb]}\n", [], "line 7", "allowed: each tracker once"),
        ("bach: 4\n", [], "line 7", "bach: unknown key; did you mean 'batch'?"),
    ],
)
def test_every_rule_has_a_message(extra: str, overrides: list[str], line: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        small(extra, *overrides)
    assert words in str(caught.value) and str(caught.value).startswith("mine.yaml: 1 mistake\n")
    assert line in str(caught.value)


@pytest.mark.parametrize(
    "extra",
    [
        "execution: {workers: 2}\nmodel: {checkpoint: net, batch_norm: frozen}\n",
        "execution: {workers: [1, 8], gpus: 1}\n",
        "execution: {workers: 1}\n",
    ],
)
def test_workers_that_are_allowed(extra: str) -> None:
    text = SMALL.replace("model: {checkpoint: net}\n", "") if "model" in extra else SMALL
    recipe = parse(TrainingRecipe, text + extra, "mine.yaml")
    execution = recipe.execution
    assert (execution.fewest, execution.most) == {2: (2, 2), 1: (1, 1), (1, 8): (1, 8)}[execution.workers]
    assert execution.device == ("cuda" if execution.gpus else "cpu")


def test_all_mistakes_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        parse(TrainingRecipe, "kind: dog\niterations: 0\nbatch: x\n", "mine.yaml")
    assert all(word in str(caught.value) for word in ("kind", "iterations", "batch", "name", "data", "model"))


TWO = "data=[{name: made}, {name: clean, label: none}]"


@pytest.mark.parametrize(
    ("overrides", "given", "urls"),
    [
        ([], ["out/x"], ["out/x"]),
        ([], ["made=out/x"], ["out/x"]),
        ([], ["s3://b/key=1/x.tar"], ["s3://b/key=1/x.tar"]),
        ([], ["https://h/x.tar?a=b"], ["https://h/x.tar?a=b"]),
        (["data=[{name: made, url: old}]"], [], ["old"]),
        (["data=[{name: made, url: old}]"], ["new"], ["new"]),
        ([TWO], ["made=a", "clean=b"], ["a", "b"]),
        ([TWO], ["clean=b", "a"], ["a", "b"]),
        (["data=[{name: made, url: a}, {name: clean}]"], ["b"], ["a", "b"]),
        (["data=[{name: made, url: a}, {name: clean, url: b}]"], ["made=c"], ["c", "b"]),
    ],
)
def test_data(overrides: list[str], given: list[str], urls: list[str]) -> None:
    assert [one.url for one in with_data(small("", *overrides), given).data] == urls


@pytest.mark.parametrize(
    ("overrides", "given", "words"),
    [
        ([], [], "data: no URL for made; give --data made=URL"),
        ([], ["made="], "data: no URL for made"),
        ([TWO], ["made=a"], "data: no URL for clean; give --data clean=URL"),
        ([TWO], ["a"], "--data a: give NAME=URL, NAME being made or clean"),
        ([], ["maid=a"], "--data maid=a: no data set maid; the recipe has made"),
        (
            ["data=[{name: made, url: a}, {name: clean, url: b}]"],
            ["c"],
            "--data c: give NAME=URL, NAME being made or clean",
        ),
        ([TWO], ["https://u:pw@h/x"], "--data https://h/x: give NAME=URL"),
    ],
)
def test_data_that_is_not_clear(overrides: list[str], given: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        with_data(small("", *overrides), given)
    assert str(caught.value).startswith(words)


def test_secrets_of_urls_are_never_written() -> None:
    url = "https://user:5ecret@host/x.tar?X-Amz-Signature=5ecret"
    recipe = with_data(small(f"validation: {{url: '{url}'}}\nkeep_apart: {{tests: ['{url}']}}\n"), [url])
    assert recipe.data[0].url == url
    for text in (dump(recipe), str(content(recipe)), str(published(recipe))):
        assert "5ecret" not in text
    shown = published(recipe)
    assert shown.data[0].url == shown.validation.url == "https://host/x.tar" if shown.validation else False
    assert published(shown) == shown and parse(TrainingRecipe, dump(recipe), "dump") == shown


def test_the_dump_says_everything_and_reads_back() -> None:
    recipe = small(
        "augmentation: {resize: [0.5, 2.0], crop: 64}\nloss: {class_weights: [1, 4]}\nema: 0.999\n"
        "execution: {workers: [1, 4], gpus: 0.5, trackers: [mlflow]}\nvalidation: {url: v.tar, patience: 3}\n"
    )
    text = dump(recipe)
    assert parse(TrainingRecipe, text, "dump") == recipe
    assert "warm_up: 0" in text and "clip: null" in text


def fields(document: Any, path: str = "") -> set[str]:
    if not isinstance(document, dict):
        return {path}
    return set().union(
        *(fields(value, f"{path}.{name}" if path else name) for name, value in document.items())
    )


def test_content_is_all_but_places_name_and_execution() -> None:
    recipe = small("validation: {url: v.tar}\n")
    everything, kept = fields(recipe.model_dump(mode="json")), fields(dict(content(recipe)))
    gone = everything - kept
    assert gone >= {"name", "model.checkpoint", "model.revision", "validation.url", "execution.workers"}
    assert all(
        one in ("name", "model.checkpoint", "model.revision", "validation.url")
        or one.startswith(("execution.", "keep_apart."))
        for one in gone
    )
    assert "url" not in content(recipe)["data"][0] and content(recipe)["data"][0]["name"] == "made"
