"""The recipe's section `source`: where the clean images come from, and which of them are taken."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, PlainValidator, ValidationInfo, field_validator

from actors.config import Config, not_allowed
from actors.redaction import redact
from factory.store.gate import allowed

Part = Literal["face", "hand", "letter"]
Scalar = bool | int | float | str

_FILES = ("images", "webdataset", "parquet")
_OWNERS = {"cells": ("parquet",), "first_seed": ("tinytown",), "parts": ("tinytown",)}
_EXTENSION = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_EXTENSION_WORDS = "an extension without its leading dot, such as png or image.png"
IMAGE_EXTENSIONS = ("png", "jpg", "jpeg", "webp", "jpe", "jfif", "apng", "mpo")
"""Of the formats that can be decoded, see `actors.image_file.FORMATS`; also as the last part of a longer extension."""

_IMAGE_WORDS = f"ends in one of {', '.join(IMAGE_EXTENSIONS)}, which are the formats that can be decoded"


def _bound(value: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not _is_scalar(value)):
        raise not_allowed("a number or text, or null")
    return value


def _values(value: Any) -> Any:
    if value is not None and not (isinstance(value, list) and value and all(map(_is_scalar, value))):
        raise not_allowed("a list of one or more numbers, texts, true or false, or null")
    return value


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value))


# Plain validators: a union's own errors name its members as if they were keys of the recipe.
Bound = Annotated[int | float | str | None, PlainValidator(_bound)]
Values = Annotated[list[Scalar] | None, PlainValidator(_values)]


class Fields(Config):
    """Which parts of an item are what: members of a WebDataset sample, files of one stem in a folder, or columns.

    What a name may be depends on the kind of source, so that `Source` looks at them.
    """

    image: list[str] = Field(
        default=["png", "jpg", "jpeg", "webp"],
        description="extensions or columns of the image; the first that exists",
    )
    mask: str | None = Field(
        default=None, description="extension or column of the region's mask, white inside"
    )
    caption: str | None = Field(default=None, description="EXT of a text member, json:FIELD, or a column")
    encoding: Literal["plain", "base64"] = Field(
        default="plain", description="base64: the columns of images and masks hold base64 or data URLs"
    )

    def check(self, kind: str) -> None:
        """Raises the error of a recipe for the first name that a source of the kind cannot have."""
        if kind == "parquet":
            self._check_columns()
        elif kind != "tinytown":
            self._check_extensions()
        if self.encoding != "plain" and kind != "parquet":
            raise not_allowed("plain, unless source.kind is parquet", key="encoding")
        if self.mask in self.image:
            what = "a column" if kind == "parquet" else "an extension"
            raise not_allowed(f"{what} that is not among those of fields.image, or null", key="mask")

    def _check_columns(self) -> None:
        if self.image == type(self).model_fields["image"].default or not _all_named(self.image):
            raise not_allowed("a list of one or more columns, since source.kind is parquet", key="image")
        for key in ("mask", "caption"):
            if getattr(self, key) is not None and not _all_named([getattr(self, key)]):
                raise not_allowed("a column, or null", key=key)

    def _check_extensions(self) -> None:
        if not self.image or not all(_EXTENSION.fullmatch(item) for item in self.image):
            raise not_allowed(f"a list of one or more, each {_EXTENSION_WORDS}", key="image")
        if self.mask is not None and not _EXTENSION.fullmatch(self.mask):
            raise not_allowed(f"{_EXTENSION_WORDS}, or null", key="mask")
        if not all(map(_is_of_images, self.image)):
            raise not_allowed(f"a list of extensions, each of which {_IMAGE_WORDS}", key="image")
        if self.mask is not None and not _is_of_images(self.mask):
            raise not_allowed(f"an extension that {_IMAGE_WORDS}, or null", key="mask")
        member, colon, name = (self.caption or "").partition(":")
        right = member == "json" and name if colon else _EXTENSION.fullmatch(member)
        if self.caption is not None and not right:
            raise not_allowed("EXT such as txt, json:FIELD such as json:prompt, or null", key="caption")


class Masks(Config):
    """How the masks of a source are to be read, where their files leave it open."""

    ignore_index: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="level or palette index that is neither inside nor outside, such as 255",
    )
    alpha: Literal["refuse", "opaque", "transparent", "ignore"] = Field(
        default="refuse",
        description="where the region is in a mask with transparency; ignore reads the colours alone, refuse rejects "
        "the item",
    )
    orientation: Literal["stored", "displayed"] | None = Field(
        default=None,
        description="whether a mask without an EXIF orientation fits its image as stored or as displayed, where the "
        "image has one; null decides by the sizes where they differ, and else rejects the item",
    )

    @field_validator("alpha")
    @classmethod
    def _levels_or_alpha(cls, value: str, info: ValidationInfo) -> str:
        if value in ("opaque", "transparent") and info.data.get("ignore_index") is not None:
            raise not_allowed("refuse or ignore, since ignore_index is set: alpha is then not the mask")
        return value


class Filter(Config):
    """A condition on the metadata of an item. An item stays if all conditions hold."""

    field: str = Field(description="a column, or a field of the item's JSON file")
    least: Bound = Field(default=None, description="lowest number or text that stays")
    most: Bound = Field(default=None, description="highest number or text that stays")
    any_of: Values = Field(default=None, description="values that stay, and no others")
    none_of: Values = Field(default=None, description="values that do not stay")

    @field_validator("field")
    @classmethod
    def _named(cls, value: str) -> str:
        if not _all_named([value]):
            raise not_allowed("the name of a column or a JSON field")
        return value

    @field_validator("most")
    @classmethod
    def _above_least(cls, value: Bound, info: ValidationInfo) -> Bound:
        least = info.data.get("least")
        if value is None or least is None:
            return value
        if isinstance(value, str) != isinstance(least, str):
            raise not_allowed("a number where least is a number, and text where it is text")
        if value < least:  # type: ignore[operator]
            raise not_allowed(f"at least least ({least}), or null")
        return value

    @field_validator("none_of")
    @classmethod
    def _some_condition(cls, value: Values, info: ValidationInfo) -> Values:
        others = ("least", "most", "any_of")
        if value is None and all(name in info.data and info.data[name] is None for name in others):
            raise not_allowed("a list, unless there is least, most or any_of")
        return value


class Cells(Config):
    """What cells of Parquet files may name. They come from outside: by default only what lies beside their file."""

    allow: list[str] = Field(
        default=[],
        description="prefixes of URLs that cells may name beside their file's folder: a protocol such as https://, a "
        "host, a bucket, a folder; a host named here may have a private address",
    )

    @field_validator("allow")
    @classmethod
    def _prefixes(cls, value: list[str]) -> list[str]:
        for prefix in value:
            try:
                allowed(prefix)
            except ValueError as error:
                raise not_allowed(f"prefixes of URLs; {prefix[:200]!r}: {error}") from None
        return value


class Listing(Config):
    """Which images are taken, and from where."""

    kind: Literal["tinytown", "images", "webdataset", "parquet"] = Field(
        description="the embedded world, image files, WebDataset tars, or Parquet files"
    )
    urls: list[str] = Field(default=[], description="fsspec URLs or paths; globs, brace ranges")
    fields: Fields = Field(default=Fields(), description="which parts of an item are what")
    masks: Masks = Field(default=Masks(), description="how masks are to be read")
    cells: Cells = Field(default=Cells(), description="what cells of Parquet files may name")
    filters: list[Filter] = Field(
        default=[], description="conditions on columns or JSON fields; all must hold"
    )
    share: float = Field(
        default=1.0, gt=0, le=1, description="share of the items to take, drawn by seed and key"
    )
    limit: int | None = Field(default=None, ge=1, description="take at most N items, the first that remain")
    first_seed: int = Field(default=0, ge=0, le=1 << 62, description="seed of tinytown's first scene")
    parts: list[Part] = Field(
        default=list(get_args(Part)),
        description="parts that tinytown makes regions of; none takes every scene",
    )

    def redacted(self) -> Self:
        """The section without the secrets of its URLs."""
        return self.model_copy(update={"urls": [redact(url) for url in self.urls]})

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Ray logs the arguments of its actors."""
        for name, value in super().__repr_args__():
            yield name, [redact(url) for url in value] if name == "urls" else value

    @field_validator("urls")
    @classmethod
    def _urls_of_files(cls, value: list[str], info: ValidationInfo) -> list[str]:
        kind = info.data.get("kind")
        if kind == "tinytown" and value:
            raise not_allowed("nothing, since source.kind is tinytown")
        if kind in _FILES and not (value and all(url.strip() for url in value)):
            raise not_allowed(f"a list of one or more URLs or paths, since source.kind is {kind}")
        return value

    @field_validator("fields", "masks", "cells", "filters", "first_seed", "parts")
    @classmethod
    def _idle_settings(cls, value: Any, info: ValidationInfo) -> Any:
        """A setting that would do nothing is a misunderstanding, and would change the digest for nothing."""
        owners = _OWNERS.get(str(info.field_name), _FILES)
        kind = info.data.get("kind", owners[0])
        if kind not in owners and value != cls.model_fields[str(info.field_name)].default:
            raise not_allowed(f"nothing but the default, unless source.kind is {_either(owners)}")
        if info.field_name == "parts" and len(set(value)) < len(value):
            raise not_allowed(f"a list of {', '.join(get_args(Part))}, each at most once")
        if info.field_name == "fields":
            value.check(kind)
        fields = info.data.get("fields")
        if info.field_name == "masks" and value != Masks() and fields is not None and fields.mask is None:
            raise not_allowed("nothing but the default, unless source.fields.mask names a mask")
        return value


class Source(Listing):
    """Where the clean images come from."""

    size: int = Field(ge=16, le=4096, multiple_of=8, description="side of the square images")


def _is_of_images(extension: str) -> bool:
    return extension.lower().rpartition(".")[2] in IMAGE_EXTENSIONS


def _all_named(names: Sequence[str]) -> bool:
    return bool(names) and all(name.strip() for name in names)


def _either(names: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *before, last = names
    return f"{', '.join(before)} or {last}" if before else last
