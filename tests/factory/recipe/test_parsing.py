"""Recipes of other kinds than the factory's: the same report on every mistake, for any strict model."""

from __future__ import annotations

from textwrap import dedent
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationInfo, field_validator, model_validator

from actors.config import Config, Share, not_allowed
from actors.errors import RecipeError
from factory.recipe.parsing import parse


class Data(Config):
    name: str = Field(description="of the data set")
    weight: float = Field(default=1.0, gt=0)


class Polynomial(Config):
    kind: Literal["polynomial"]
    power: float = Field(default=1.0, ge=0.5)


class Constant(Config):
    kind: Literal["constant"]
    warm_up: Share | None = None


class Training(Config):
    kind: Literal["regions", "detector"]
    iterations: int = Field(ge=1)
    data: list[Data]
    schedule: Annotated[Polynomial | Constant, Field(discriminator="kind")] = Constant(kind="constant")
    classes: dict[str, Annotated[int, Field(ge=0, le=255)]] = Field(default={})
    crop: int | Literal["none"] = "none"
    ratios: list[float] = Field(default=[0.5, 2.0])
    validate_every: int = Field(default=100, ge=1)

    @field_validator("validate_every")
    @classmethod
    def _within(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("iterations", value):
            raise not_allowed(f"at most iterations ({info.data['iterations']})")
        return value

    @field_validator("data")
    @classmethod
    def _something(cls, value: list[Data]) -> list[Data]:
        if not value:
            raise ValueError("training needs a data set")
        return value

    @model_validator(mode="after")
    def _square(self) -> Training:
        if self.kind == "regions" and self.crop == "none":
            raise ValueError("regions are trained on crops: set crop")
        return self


SMALL = "kind: detector\niterations: 500\ndata: [{name: one}]\n"


def refused(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse(Training, dedent(text), "train.yaml", overrides)
    return str(caught.value).splitlines()


def test_a_recipe_of_another_kind_is_read() -> None:
    recipe = parse(Training, SMALL, "train.yaml", ["schedule.kind=polynomial", "schedule.power=2", "crop=64"])
    assert recipe == Training(
        kind="detector", iterations=500, data=[Data(name="one")],
        schedule=Polynomial(kind="polynomial", power=2.0), crop=64,
    )  # fmt: skip


def test_every_mistake_is_listed_with_its_line() -> None:
    text = """\
        kind: detektor
        iterations: 50
        data:
          - {name: one, weight: 0}
          - {weigth: 2}
        classes:
          sky: 300
        crop: [8]
        ratios: [0.5, high]
        validate_evry: 10
    """
    assert refused(text, "validate_every=60", "nonsense") == [
        "train.yaml: 10 mistakes",
        "  line 1   kind: found 'detektor'; allowed: one of regions, detector",
        "  line 4   data[0].weight: found 0; allowed: a number above 0",
        "  line 5   data[1].weigth: unknown key; did you mean 'weight'? allowed here: name, weight",
        "  line 5   data[1].name: missing (of the data set); allowed: text",
        "  line 7   classes.sky: found 300; allowed: a whole number from 0 to 255",
        "  line 8   crop: found [8]; allowed: a whole number or one of none",
        "  line 9   ratios[1]: found 'high'; allowed: a number",
        "  line 10  validate_evry: unknown key; did you mean 'validate_every'? allowed here: kind, iterations, "
        "data, schedule, classes, crop, ratios, validate_every",
        "  (--set)  found 'nonsense'; allowed: KEY=VALUE, such as validate_every=100",
        "  (--set)  validate_every: found 60; allowed: at most iterations (50)",
    ]


@pytest.mark.parametrize(
    ("lines", "reported"),
    [
        (
            "schedule: {kind: linear}",
            "line 4  schedule.kind: found 'linear'; allowed: one of polynomial, constant",
        ),
        ("schedule: {power: 2}", "line 4  schedule.kind: missing; allowed: one of polynomial, constant"),
        (
            "schedule: {kind: polynomial, power: 0}",
            "line 4  schedule.power: found 0; allowed: a number of at least 0.5",
        ),
        (
            "schedule: {kind: constant, warm_up: 2}",
            "line 4  schedule.warm_up: found 2; allowed: a number from 0 to 1, or null",
        ),
        (
            "schedule: {kind: constant, warmup: 0}",
            "line 4  schedule.warmup: unknown key; did you mean 'warm_up'? allowed here: kind, warm_up",
        ),
        ("classes: 3", "line 4  classes: found 3; allowed: a section"),
    ],
)
def test_unions_and_mappings(lines: str, reported: str) -> None:
    assert refused(SMALL + lines) == ["train.yaml: 1 mistake", f"  {reported}"]


def test_what_validators_say() -> None:
    assert refused("kind: detector\niterations: 500\ndata: []") == [
        "train.yaml: 1 mistake",
        "  line 3  data: found []; training needs a data set",
    ]
    assert refused(SMALL, "kind=regions") == [
        "train.yaml: 1 mistake",
        "  line 1  regions are trained on crops: set crop",
    ]


@pytest.mark.parametrize(("text", "found"), [("", "empty"), ("- a", "not a section")])
def test_a_text_that_is_no_section(text: str, found: str) -> None:
    keys = ", ".join(Training.model_fields)
    assert refused(text) == [
        "train.yaml: 1 mistake",
        f"  line 1  {found}; allowed: KEY: VALUE lines with the keys {keys}",
    ]


def test_types_that_a_model_seldom_has_are_explained_by_pydantic() -> None:
    class Odd(Config):
        number: complex = 0j

    with pytest.raises(
        RecipeError, match=r"line 1  number: found 'x'; Input should be an instance of complex"
    ):
        parse(Odd, "number: x", "odd.yaml")
