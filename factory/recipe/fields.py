"""What a pydantic model allows at a place of a recipe: its type and limits, in words."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

KeyPath = tuple[str | int, ...]
"""The way to a value: keys, and positions in lists."""


@dataclass(frozen=True)
class Slot:
    """A place in a model.

    Attributes:
        path: of the place in the text of a recipe.
        annotation: the type of the value in the model.
        metadata: limits of its values.
        field: None of the model itself and of items of lists and mappings.
    """

    path: KeyPath
    annotation: Any
    metadata: Sequence[Any] = ()
    field: FieldInfo | None = None

    @property
    def allowed(self) -> str:
        """What the type and its limits allow, in words; empty for types that recipes rarely have."""
        return _allowed(self.annotation, self.metadata)

    @property
    def default(self) -> Any:
        """The default of the field; None if it has none."""
        if self.field is None or self.field.is_required():
            return None
        return self.field.get_default(call_default_factory=True)

    @property
    def keys(self) -> list[str]:
        """The keys of the section at this place."""
        model = without_null(self.annotation)
        return [field.alias or name for name, field in model.model_fields.items()] if _is_model(model) else []


def slot_at(model: type[BaseModel], location: KeyPath) -> Slot:
    """The place that a location leads to, as far as the model has it.

    Args:
        model: the outermost section.
        location: as pydantic reports it: keys, positions in lists, and, which no recipe has, a name of the chosen
            option wherever the type is a union.
    """
    slot = Slot((), model)
    for part in location:
        options = _options(slot.annotation)
        if len(options) > 1:
            option = next((option for option in options if _is_called(option, part)), None)
            if option is None:
                return slot
            slot = Slot(slot.path, option, (), slot.field)
            continue
        inner = _inner(options[0], part)
        if inner is None:
            return slot
        slot = Slot((*slot.path, part), *inner)
    return slot


def tags(annotation: Any, discriminator: str) -> list[str]:
    """The values of the key that chooses between the sections of a union."""
    return [
        str(tag)
        for option in _options(annotation)
        for tag in get_args(option.model_fields[discriminator].annotation)
    ]


def example_override(model: type[BaseModel]) -> str:
    """`KEY=VALUE` for a number in the model, in a section if there is one; empty where there is no number."""
    found = list(_numbers(model, ()))
    nested = [one for one in found if "." in one]
    return next(iter(nested or found), "")


def without_null(annotation: Any) -> Any:
    """The type without `Annotated`, and without None if that leaves a single one."""
    options = _options(annotation)
    return options[0] if len(options) == 1 else annotation


def _numbers(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = without_null(field.annotation)
        key = (*path, field.alias or name)
        if _is_model(inner) and len(path) < 2:
            yield from _numbers(inner, key)
        elif type(field.default) in (int, float):
            yield f"{'.'.join(key)}={field.default}"


def _allowed(annotation: Any, metadata: Sequence[Any]) -> str:
    annotation, metadata = _bare(annotation, metadata)
    if _is_union(annotation):
        words = " or ".join(dict.fromkeys(_allowed(option, metadata) for option in _options(annotation)))
        return f"{words}, or null" if types.NoneType in get_args(annotation) else words
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    if annotation is bool:
        return "true or false"
    if annotation in (int, float):
        return _number(annotation, metadata)
    if annotation is str:
        return "text"
    if not isinstance(origin, type):
        return ""
    if issubclass(origin, BaseModel):
        return f"a section with the keys {', '.join(Slot((), origin).keys)}"
    if issubclass(origin, Enum):
        return f"one of {', '.join(str(member.value) for member in origin)}"
    if issubclass(origin, Mapping):
        return "a section"
    if issubclass(origin, Sequence | Set):
        inner = _allowed(next(iter(get_args(annotation)), Any), [])
        return f"a list, each item {inner}" if inner else "a list"
    return ""


def _number(kind: type, metadata: Sequence[Any]) -> str:
    limits: dict[str, Any] = {}
    for item in metadata:
        for name in ("ge", "gt", "le", "lt", "multiple_of"):
            if hasattr(item, name):
                limits[name] = getattr(item, name)
    words = "a whole number" if kind is int else "a number"
    if "multiple_of" in limits:
        words = f"a multiple of {limits['multiple_of']}"
    if "ge" in limits and "le" in limits:
        return f"{words} from {limits['ge']} to {limits['le']}"
    phrases = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    bounds = [f"{phrase} {limits[name]}" for name, phrase in phrases.items() if name in limits]
    return f"{words} {' and '.join(bounds)}".rstrip()


def _inner(annotation: Any, part: str | int) -> tuple[Any, Sequence[Any], FieldInfo | None] | None:
    """Type, limits and field of a key or of an item; None where the type has no such part."""
    if _is_model(annotation):
        for name, field in annotation.model_fields.items():
            if part in (name, field.alias):
                return (*_bare(field.annotation, field.metadata), field)
        return None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not isinstance(origin, type) or not arguments:
        return None
    if issubclass(origin, Mapping):
        return (*_bare(arguments[1], ()), None)
    if isinstance(part, int) and issubclass(origin, Sequence | Set):
        return (*_bare(arguments[0], ()), None)
    return None


def _bare(annotation: Any, metadata: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """A type without `Annotated`, and all of its limits; those of `Annotated[...] | None`, too."""
    gathered = [*metadata]
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        for one in more:
            gathered += one.metadata if isinstance(one, FieldInfo) else [one]
    if _is_union(annotation):
        options = [option for option in get_args(annotation) if option is not types.NoneType]
        if len(options) == 1 and get_origin(options[0]) is Annotated:
            gathered += _bare(options[0], ())[1]
    return annotation, gathered


def _options(annotation: Any) -> list[Any]:
    """The types of a union, without None; of any other type the type alone."""
    annotation, _ = _bare(annotation, ())
    if not _is_union(annotation):
        return [annotation]
    return [_bare(option, ())[0] for option in get_args(annotation) if option is not types.NoneType]


def _is_called(option: Any, part: str | int) -> bool:
    """Whether pydantic names an option of a union so: by its class, or by the key that chooses it."""
    if not _is_model(option):
        return False
    return part == option.__name__ or any(
        get_origin(field.annotation) is Literal and part in get_args(field.annotation)
        for field in option.model_fields.values()
    )


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)
