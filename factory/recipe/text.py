"""The text of a recipe: its values, the line on which each stands, and what `--set` changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

from actors.errors import RecipeError
from factory.recipe.errors import COMMAND_LINE, Mistake, report, shown
from factory.recipe.fields import KeyPath
from factory.recipe.strict_yaml import LARGEST_TEXT, MAPPING, SEQUENCE, SyntaxMistake, compose, scalar_value

_LONGEST_KEY = 100


def read_file(file: Path, shipped: Sequence[str]) -> str:
    """The text of a recipe's file.

    Args:
        file: where it is.
        shipped: bare names that would have been understood too, to suggest where there is no such file.

    Raises:
        RecipeError: there is no such file, or it cannot be read, or is not UTF-8.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_TEXT + 1)
    except FileNotFoundError:
        near = get_close_matches(str(file), shipped, n=1)
        advice = f"did you mean '{near[0]}'? " if near else ""
        raise RecipeError(f"{file}: no such file; {advice}shipped recipes: {', '.join(shipped)}") from None
    except IsADirectoryError:
        raise RecipeError(f"{file}: a folder; allowed: a YAML file, or one of {', '.join(shipped)}") from None
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read: {error.strerror}") from None
    return decoded(data, str(file))


def decoded(data: bytes, where: str) -> str:
    """The text of a recipe.

    Args:
        data: of its file.
        where: names it in messages.

    Raises:
        RecipeError: it is too large for a recipe, or not UTF-8.
    """
    if len(data) > LARGEST_TEXT:
        raise RecipeError(f"{where}: larger than {LARGEST_TEXT:,} bytes; a recipe is a short YAML file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{where}: line {line}: not UTF-8; save the file in that encoding") from None


def read_mapping(text: str, where: str) -> dict[str, Any]:
    """The values of YAML that is not a recipe of this version, or only a part of one.

    Raises:
        RecipeError: it cannot be read, or is not a mapping.
    """
    written = RecipeText(text)
    mistakes = written.mistakes
    if not mistakes and not isinstance(written.values, Mapping):
        mistakes = [Mistake((), "not a section; allowed: KEY: VALUE lines")]
    if mistakes:
        raise report(where, mistakes, written.line_of)
    return dict(written.values)


class RecipeText:
    """YAML read by the rules of `factory.recipe.strict_yaml`, with line numbers and repeated keys.

    Keys are always text, even where YAML would take them for something else (`on`, `1`).

    Args:
        text: the YAML.
        overrides: `a.b=c`, the value being YAML; they win over the text, and a later one over an earlier.
        example: an override that would be right, for messages.

    Attributes:
        values: dicts, lists and scalars, with the overrides in place.
        mistakes: syntax errors, repeated keys, malformed overrides. The values hold what could be read.
        readable: false after a syntax error; there are no values then.
    """

    def __init__(self, text: str, overrides: Sequence[str] = (), example: str = "") -> None:
        self.mistakes: list[Mistake] = []
        self.readable = True
        self._set: list[KeyPath] = []
        self._root: Any = None
        self.values: Any = None
        try:
            self.values, self._root, self.mistakes = _read(text)
        except SyntaxMistake as error:
            self.readable = False
            self.mistakes = [error.mistake]
            return
        for override in overrides:
            self._override(override, example)

    def line_of(self, path: KeyPath) -> int:
        """The line of a key, of the section that lacks it, or `COMMAND_LINE` if it was set with `--set`."""
        if any(path[: len(key)] == key for key in self._set):
            return COMMAND_LINE
        node = self._root
        line = 1 if node is None else node.start_mark.line + 1
        for part in path:
            found = _child(node, part)
            if found is None:
                made_by_override = any(key[: len(path)] == path for key in self._set)
                return COMMAND_LINE if made_by_override else line
            line, node = found
        return line

    def _override(self, override: str, example: str) -> None:
        name, equals, text = override.partition("=")
        path: KeyPath = tuple(name.strip().split("."))
        if not equals or "" in path:
            found = f"found {shown(override)}; allowed: KEY=VALUE" + (
                f", such as {example}" if example else ""
            )
            self.mistakes.append(Mistake((), found, line=COMMAND_LINE))
            return
        try:
            value, _, mistakes = _read(text)
        except SyntaxMistake as error:
            mistakes, value = [error.mistake], None
        self.mistakes += [Mistake((*path, *m.path), m.text, line=COMMAND_LINE) for m in mistakes]
        if mistakes:
            return
        try:
            self.values = _with(self.values, path, value)
        except TypeError:
            text = "leads through something that is not a section; allowed: SECTION.KEY=VALUE"
            self.mistakes.append(Mistake(path, text, line=COMMAND_LINE))
        else:
            self._set.append(path)


def _read(text: str) -> tuple[Any, Any, list[Mistake]]:
    """The values, the root node, and the mistakes that did not keep the rest from being read."""
    mistakes: list[Mistake] = []
    root = compose(text)
    values = None if root is None else _value(root, (), mistakes)
    return values, root, mistakes


def _value(node: Any, path: KeyPath, mistakes: list[Mistake]) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == MAPPING:
        section: dict[str, Any] = {}
        _note_repeated_keys(node, path, mistakes)
        for key_node, value_node in node.value:
            if problem := _key_problem(key_node):
                mistakes.append(Mistake(path, problem, line=key_node.start_mark.line + 1))
                continue
            key = key_node.value
            section[key] = _value(value_node, (*path, key), mistakes)
        return section
    if isinstance(node, yaml.SequenceNode) and node.tag == SEQUENCE:
        return [_value(child, (*path, position), mistakes) for position, child in enumerate(node.value)]
    problem = f"the tag {node.tag} has no meaning in a recipe"
    if isinstance(node, yaml.ScalarNode):
        try:
            return scalar_value(node)
        except ValueError as error:
            problem = str(error)
    mistakes.append(Mistake(path, problem, line=node.start_mark.line + 1, unread=True))
    return None


def _key_problem(node: Any) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value.isprintable():
        return "a key must be text"
    if node.value == "<<" and node.style is None:
        return "merge keys (<<) are not supported; write the keys in each section"
    return f"a key of {len(node.value):,} characters" if len(node.value) > _LONGEST_KEY else ""


def _note_repeated_keys(node: Any, path: KeyPath, mistakes: list[Mistake]) -> None:
    first: dict[str, int] = {}
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            continue
        key, line = key_node.value, key_node.start_mark.line + 1
        if key in first:
            mistakes.append(Mistake((*path, key), f"written twice; first on line {first[key]}", line=line))
        first.setdefault(key, line)


def _child(node: Any, part: str | int) -> tuple[int, Any] | None:
    """The line and the node of a key's value, or of an item of a list."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line + 1, item
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in reversed(node.value):
            if isinstance(key_node, yaml.ScalarNode) and key_node.value == part:
                return key_node.start_mark.line + 1, value_node
    return None


def _with(values: Any, path: KeyPath, value: Any) -> Any:
    """A copy in which one value is another."""
    if not path:
        return value
    if values is not None and not isinstance(values, Mapping):
        raise TypeError
    section = dict(values or {})
    section[path[0]] = _with(section.get(path[0]), path[1:], value)
    return section
