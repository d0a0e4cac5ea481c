"""The YAML of recipes: scalars of the core schema of YAML 1.2, without aliases, within limits.

PyYAML reads YAML 1.1, to which `010` is 8, `1_000` is 1000, `12:30` is 750 and `no` is false. Here `010` is refused,
the others are text, and `1e3` is a number. Aliases are refused: a few lines of them can stand for any number of values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

from factory.recipe.errors import Mistake, shown

LARGEST_TEXT = 1 << 20
"""Bytes of a recipe's file."""

MOST_VALUES = 20_000
DEEPEST = 32
LONGEST_SCALAR = 10_000
LARGEST_INTEGER = (1 << 63) - 1

MAPPING, SEQUENCE = yaml.resolver.Resolver.DEFAULT_MAPPING_TAG, yaml.resolver.Resolver.DEFAULT_SEQUENCE_TAG
_TEXT = yaml.resolver.Resolver.DEFAULT_SCALAR_TAG
_NULL, _BOOL, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_CORE: dict[str, tuple[re.Pattern[str], list[str]]] = {
    _NULL: (re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    _BOOL: (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    _INT: (re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), list("-+0123456789")),
    _FLOAT: (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        list("-+.0123456789"),
    ),
}
"""Plain scalars by tag, in the order in which they are tried, and how they begin (YAML 1.2.2, section 10.3.2)."""

_HINT = "check the indentation (spaces, no tabs), and put quotes round text that holds ': ' or ' #'"


class SyntaxMistake(Exception):
    """The text cannot be read at all.

    Attributes:
        mistake: what is wrong, and where.
    """

    def __init__(self, text: str, line: int, column: int | None = None) -> None:
        super().__init__(text)
        self.mistake = Mistake((), text, line=line, column=column)


class _RefusedError(yaml.MarkedYAMLError):  # type: ignore[misc, unused-ignore]
    """It is YAML, but not of a recipe."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc, unused-ignore]
    """Composes nodes; values are made from them by `scalar_value`, and never by a constructor of PyYAML."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as PyYAML has it

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call, unused-ignore]
        self._values += 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            problem = "anchors and aliases (& and *) are not supported; write the value in each place"
        elif self._values > MOST_VALUES:
            problem = f"more than {MOST_VALUES:,} values"
        elif self._depth == DEEPEST:
            problem = f"nested more than {DEEPEST} levels deep"
        else:
            self._depth += 1
            node = super().compose_node(parent, index)
            self._depth -= 1
            return node
        raise _RefusedError(None, None, problem, event.start_mark)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc, unused-ignore]
    """Puts quotes round text that is anything else to YAML 1.1 or to YAML 1.2."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def compose(text: str) -> Any:
    """The root node of a text of one document, or None where it is empty.

    Raises:
        SyntaxMistake: it is not YAML, or beyond the limits above, or has an anchor or an alias.
    """
    if len(text) > LARGEST_TEXT:
        raise SyntaxMistake(f"not a recipe: {len(text):,} characters; at most {LARGEST_TEXT:,} are read", 1)
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except _RefusedError as error:
        mark = error.problem_mark
        assert mark is not None, error
        raise SyntaxMistake(f"not a recipe: {error.problem}", mark.line + 1, mark.column + 1) from None
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        assert mark is not None, error
        raise SyntaxMistake(f"not YAML: {problem}; {_HINT}", mark.line + 1, mark.column + 1) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = len(before) - before.rfind("\n")
        problem = f"not YAML: the character {chr(error.character)!r} is not allowed"
        raise SyntaxMistake(problem, before.count("\n") + 1, column) from None
    except (ValueError, OverflowError):  # an escape such as "\U00110000", for which there is no character
        assert loader is not None
        raise SyntaxMistake(
            "not YAML: an escape or directive that cannot be read", loader.line + 1, loader.column + 1
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def scalar_value(node: Any) -> str | int | float | bool | None:
    """The value of a scalar node.

    Raises:
        ValueError: it has no value, or one beyond the limits; the message has the value that was found.
    """
    text: str = node.value
    if len(text) > LONGEST_SCALAR:
        raise ValueError(f"{len(text):,} characters; at most {LONGEST_SCALAR:,} are allowed")
    if node.tag == _TEXT:
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError(f"found {shown(text)}; allowed: text without NUL and lone surrogates")
        return text
    if node.tag not in _CORE:
        raise ValueError(f"the tag {node.tag} has no meaning in a recipe")
    if not _CORE[node.tag][0].match(text):
        raise ValueError(f"found {shown(text)}, which YAML cannot read")
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() == "true"
    return _integer(text) if node.tag == _INT else _fraction(text)


def dump_yaml(document: Mapping[str, Any]) -> str:
    """YAML that `compose` and `scalar_value` read back as the same values, and any reader of YAML 1.1, too."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=110)
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    if digits.isdecimal() and len(digits) > 1 and digits[0] == "0":
        without = text.replace(digits, digits.lstrip("0") or "0")
        raise ValueError(
            f"found {shown(text)[1:-1]}; allowed: a whole number without leading zeros, which are octal to some "
            f"readers of YAML: write {shown(without)[1:-1]}, or put quotes round text"
        )
    base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
    # Text of any length takes quadratic time, and Python refuses it from 4,300 digits on.
    value = int(digits[2:] if base != 10 else digits, base) if len(digits) <= 40 else LARGEST_INTEGER + 1
    if value > LARGEST_INTEGER:
        raise ValueError(
            f"found {shown(text)[1:-1]}; allowed: whole numbers up to {LARGEST_INTEGER} (2^63 - 1)"
        )
    return -value if text[0] == "-" else value


def _fraction(text: str) -> float:
    """The number; infinite ones and NaN are for the model of the recipe to refuse, at the keys that they stand at."""
    value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if value == 0 and re.search("[1-9]", re.split("[eE]", text)[0]):
        raise ValueError(f"found {shown(text)[1:-1]}; allowed: numbers that 64 bits can tell from 0")
    return value
