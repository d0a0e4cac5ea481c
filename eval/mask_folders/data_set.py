"""Images and masks in folders as a set to import; see `eval.imports`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationInfo, field_validator

from actors.config import Config, not_allowed
from actors.errors import Reject
from actors.masks import Mask, MaskReading, decode_mask
from actors.redaction import redact
from eval.imports.folder import read_file
from eval.imports.labelled_image import (
    COLUMNS,
    CONTENTS,
    SIZE_DESCRIPTION,
    count_samples,
    decode_image,
    fill,
)
from eval.imports.labelled_set import IMAGE, MASK, ImportedSample
from eval.mask_folders.pairing import STEM, Item, list_items
from factory.output.reference import Reference
from factory.output.shards.images import LARGEST_SIDE
from factory.recipe.source import Masks
from factory.store import remote
from factory.store.credentials import remember

_THREADS = 4
"""Samples that are made side by side. Decoding and encoding free Python's lock."""

_ABOUT = "Images and masks from folders. Who labelled them, and their licence, is for whoever publishes this to state."


class MaskFolderSettings(Config):
    """Where images and masks are, and how masks are read."""

    images: str = Field(description="a folder with images, and folders below it")
    masks: str | None = Field(
        default=None, description="a folder with masks under the same paths; null: they are among the images"
    )
    pattern: str = Field(
        default=STEM, description="name of a mask without extension; {stem} is that of its image"
    )
    missing: Literal["reject", "clean"] = Field(
        default="reject", description="images without a mask: rejected, or clean"
    )
    reading: Masks = Field(default=Masks(), description="how masks are to be read")
    size: int | None = Field(default=None, ge=16, le=LARGEST_SIDE, description=SIZE_DESCRIPTION)

    @field_validator("pattern")
    @classmethod
    def _has_a_stem(cls, value: str, info: ValidationInfo) -> str:
        if value.count(STEM) != 1 or "/" in value:
            raise not_allowed(f"a name with {STEM} in it, once, such as {STEM}_mask")
        if info.data.get("masks") is None and value == STEM:
            raise not_allowed(f"more than {STEM}, such as {STEM}_mask, since the masks are among the images")
        return value


class MaskFolder:
    """Images of a folder with their masks.

    Attributes:
        skipped: what the last listing passed over, by reason.
    """

    code = ("eval/mask_folders",)
    packages: Sequence[str] = ()
    members = (IMAGE, MASK)
    columns = COLUMNS
    contents = CONTENTS
    name = "masks"
    about = _ABOUT

    def __init__(self, settings: MaskFolderSettings) -> None:
        for url in (settings.images, settings.masks):
            remember([url] if url else [])
        self.skipped: Counter[str] = Counter()
        self._settings = settings
        self._reading = MaskReading(**settings.reading.model_dump())

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without secrets of URLs, with the kind of the set."""
        document = self._settings.model_dump(mode="json")
        for name in ("images", "masks"):
            document[name] = document[name] and redact(document[name])
        return {"kind": "masks", **document}

    def list(self) -> Iterator[Reference]:
        """Streams the images; see `eval.mask_folders.pairing.list_items`."""
        self.skipped.clear()
        settings = self._settings
        for image, item in list_items(settings.images, settings.masks, settings.pattern, self.skipped):
            yield item.reference(image)

    def read(self, references: Sequence[Reference]) -> Iterator[ImportedSample]:
        """Streams the samples."""
        return remote.read_ahead(self._sample, references, _THREADS)

    def figures(self, tables: Iterable[pa.Table]) -> dict[str, int]:
        """Counts for the card; see `eval.imports.labelled_image.count_samples`."""
        return count_samples(tables)

    def _sample(self, reference: Reference) -> ImportedSample:
        item = Item.of(reference)
        sample = ImportedSample(reference.key, reference.url)
        try:
            self._fill(sample, item)
        except Reject as why:
            sample.reject(why)
        return sample

    def _fill(self, sample: ImportedSample, item: Item) -> None:
        if not item.masks and self._settings.missing == "reject":
            raise Reject(
                "missing_mask",
                "there is no mask under the path of the image; where such images are clean, set missing to clean",
            )
        if len(item.masks) > 1:
            names = ", ".join(url.rpartition("/")[2] for url in item.masks)
            raise Reject("several_masks", f"{len(item.masks)} masks are of this image: {names}; keep one")
        if item.alike:
            raise Reject(
                "several_images", f"the mask may also be of {', '.join(item.alike)}; rename images and masks"
            )
        size = self._settings.size
        decoded = decode_image(read_file(item.url, item.version), size)
        if not item.masks:
            mask = Mask(np.zeros(decoded.size[::-1], np.bool_))
        else:
            try:
                data = read_file(item.masks[0], item.mask_version)
            except Reject as why:
                raise Reject(f"mask_{why.reason}", f"the mask: {why.detail}") from None
            mask = decode_mask(data, self._reading, size=decoded.size, orientation=decoded.orientation)
        fill(sample, decoded.image, mask, size)
