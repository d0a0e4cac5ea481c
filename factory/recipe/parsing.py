"""Reading a recipe of any kind: YAML, checked against a strict pydantic model, with every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from factory.recipe.errors import Mistake, mistakes_of, report
from factory.recipe.fields import example_override
from factory.recipe.text import RecipeText

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], text: str, where: str, overrides: Sequence[str] = ()) -> Model:
    """Read a recipe.

    Args:
        model: the outermost section, strict and with `extra="forbid"` in all its sections. Descriptions of its fields
            appear in messages; checks across keys are validators that raise `not_allowed`, or ValueError.
        text: YAML.
        where: names the text in messages.
        overrides: `a.b=c`, the value being YAML; they win over the text.

    Raises:
        RecipeError: the message lists every mistake with its line, and what is allowed instead.
    """
    written = RecipeText(text, overrides, example_override(model))
    mistakes = list(written.mistakes)
    recipe = None
    if written.readable and not isinstance(written.values, Mapping):
        keys = ", ".join(model.model_fields)
        what = "empty" if written.values is None else "not a section"
        mistakes.append(Mistake((), f"{what}; allowed: KEY: VALUE lines with the keys {keys}"))
    elif written.readable:
        try:
            recipe = model.model_validate(written.values)
        except ValidationError as error:
            unread = {mistake.path for mistake in mistakes if mistake.unread}
            found = mistakes_of(error, model, written.values)
            mistakes += [mistake for mistake in found if mistake.path not in unread]
    if recipe is None or mistakes:
        raise report(where, mistakes, written.line_of)
    return recipe
