"""The text of a recipe: its values, the line on which each stands, and what `--set` changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

from actors.errors import RecipeError
from factory.recipe_errors import COMMAND_LINE, KeyPath, Mistake, shown

_MAPPING = "tag:yaml.org,2002:map"
_SEQUENCE = "tag:yaml.org,2002:seq"
_HINT = "check the indentation (spaces, no tabs), and put quotes round text that holds ': ' or ' #'"


def read_file(file: Path, shipped: Sequence[str]) -> str:
    """The text of a recipe's file.

    Args:
        file: where it is.
        shipped: bare names that would have been understood too, to suggest where there is no such file.

    Raises:
        RecipeError: there is no such file, or it cannot be read, or is not UTF-8.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        near = get_close_matches(str(file), shipped, n=1)
        advice = f"did you mean '{near[0]}'? " if near else ""
        raise RecipeError(f"{file}: no such file; {advice}shipped recipes: {', '.join(shipped)}") from None
    except IsADirectoryError:
        raise RecipeError(f"{file}: a folder; allowed: a YAML file, or one of {', '.join(shipped)}") from None
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{file}: line {line}: not UTF-8; save the file in that encoding") from None


class RecipeText:
    """YAML read by the rules of `yaml.safe_load`, with what that forgets: line numbers and repeated keys.

    Keys are always text, even where YAML would take them for something else (`on`, `1`).

    Args:
        text: the YAML.
        overrides: `a.b=c`, the value being YAML; they win over the text, and a later one over an earlier.

    Attributes:
        values: dicts, lists and scalars, with the overrides in place.
        mistakes: syntax errors, repeated keys, malformed overrides. The values hold what could be read.
        readable: false after a syntax error; there are no values then.
    """

    def __init__(self, text: str, overrides: Sequence[str] = ()) -> None:
        self.mistakes: list[Mistake] = []
        self.readable = True
        self._set: list[KeyPath] = []
        self._root: Any = None
        self.values: Any = None
        try:
            self.values, self._root, self.mistakes = _read(text)
        except _SyntaxError as error:
            self.readable = False
            self.mistakes = [error.mistake]
            return
        for override in overrides:
            self._override(override)

    def line_of(self, path: KeyPath) -> int:
        """The line of a key, of the section that lacks it, or `COMMAND_LINE` if it was set there."""
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

    def _override(self, override: str) -> None:
        name, equals, text = override.partition("=")
        path: KeyPath = tuple(name.strip().split("."))
        if not equals or "" in path:
            found = f"found {shown(override)}; allowed: KEY=VALUE, such as verify.least_inside=0.3"
            self.mistakes.append(Mistake((), found, line=COMMAND_LINE))
            return
        try:
            value, _, mistakes = _read(text)
        except _SyntaxError as error:
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


class _SyntaxError(Exception):
    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.text)
        self.mistake = mistake


def _read(text: str) -> tuple[Any, Any, list[Mistake]]:
    """The values, the root node, and the mistakes that did not keep the rest from being read."""
    mistakes: list[Mistake] = []
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            values = None if root is None else _value(loader, root, (), mistakes, {})
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        assert mark is not None, error
        mistake = Mistake((), f"not YAML: {problem}; {_HINT}", line=mark.line + 1, column=mark.column + 1)
        raise _SyntaxError(mistake) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = len(before) - before.rfind("\n")
        problem = f"not YAML: the character {chr(error.character)!r} is not allowed"
        raise _SyntaxError(Mistake((), problem, line=before.count("\n") + 1, column=column)) from None
    except RecursionError:
        raise _SyntaxError(Mistake((), "not a recipe: nested too deeply", line=1)) from None
    return values, root, mistakes


def _value(loader: Any, node: Any, path: KeyPath, mistakes: list[Mistake], made: dict[int, Any]) -> Any:
    """The value of a node. An alias is made once, so that it costs nothing however often it is used."""
    if id(node) in made:
        return made[id(node)]
    if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
        section: dict[str, Any] = {}
        made[id(node)] = section
        _note_repeated_keys(node, path, mistakes)
        loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                mistakes.append(Mistake(path, "a key must be text", line=key_node.start_mark.line + 1))
                continue
            key = key_node.value
            section[key] = _value(loader, value_node, (*path, key), mistakes, made)
        return section
    if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
        items: list[Any] = []
        made[id(node)] = items
        for position, child in enumerate(node.value):
            items.append(_value(loader, child, (*path, position), mistakes, made))
        return items
    problem = f"the tag {node.tag} has no meaning in a recipe"
    if isinstance(node, yaml.ScalarNode) and node.tag not in (_MAPPING, _SEQUENCE):
        try:
            return loader.construct_object(node)
        except yaml.constructor.ConstructorError:
            pass
        except (ValueError, LookupError, AttributeError, OverflowError):
            problem = f"found {shown(node.value)}, which YAML cannot read"
    mistakes.append(Mistake(path, problem, line=node.start_mark.line + 1, unread=True))
    return None


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
    """A copy in which one value is another: sections may be shared between keys by a YAML alias."""
    if not path:
        return value
    if values is not None and not isinstance(values, Mapping):
        raise TypeError
    section = dict(values or {})
    section[path[0]] = _with(section.get(path[0]), path[1:], value)
    return section
