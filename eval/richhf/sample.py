"""A sample of a record and its image: the label at the size of the image, and what people said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from actors.config import Config
from actors.errors import Reject
from actors.images import encode_image, encode_mask, fit
from eval.imports.labelled_image import decode_image
from eval.imports.labelled_set import IMAGE, MASK, ImportedSample
from eval.richhf.labels import Annotators, LabelPolicy, annotators_of, check_annotators, votes_in
from eval.richhf.levels import NOISE
from eval.richhf.record import SCORES, Map, Record, decode_map, labelled_tokens, parse_record
from factory.output.reference import Raw
from factory.output.shards.images import LARGEST_SIDE

SOFT, MISALIGNMENT = "soft.png", "misalignment.png"

COLUMNS = {
    "uid": "string",
    "annotators": "int32",
    "annotators_fit": "string",
    "decided": "string",
    "misalignment_annotators_fit": "string",
    "mask_area": "float64",
    **dict.fromkeys(SCORES, "float64"),
}
"""Types of the columns of the index, see `eval.imports.labelled_set.LabelledSet`."""


class SampleSettings(Config):
    """What a sample is made of."""

    size: int | None = Field(
        default=None,
        ge=16,
        le=LARGEST_SIDE,
        description="side of the centred square that image and maps are cropped and resized to; null keeps the image's",
    )
    soft: bool = Field(
        default=False, description="write soft.png, the share of annotators who marked a pixel"
    )
    tokens: Literal["reject", "ignore"] = Field(
        default="reject", description="images whose prompt has another number of tokens than labels"
    )
    labels: LabelPolicy = Field(
        default=LabelPolicy(), description="what decides where the maps leave it open"
    )


@dataclass(frozen=True)
class SampleMaker:
    """Makes samples; it has no state, and any thread may call it.

    Attributes:
        settings: what to make.
        split: of RichHF-18k.
    """

    settings: SampleSettings
    split: str

    def __call__(self, key: str, source: str, data: bytes, raw: Raw | Reject | None) -> ImportedSample:
        """The sample of a record, or a reject with its reason.

        Args:
            key: of the item.
            source: where the record is, for a person.
            data: of the record.
            raw: its image with the prompt; None where Pick-a-Pic does not have it.
        """
        sample = ImportedSample(key, source)
        try:
            self._fill(sample, parse_record(data), raw)
        except Reject as why:
            sample.reject(why)
        return sample

    def _fill(self, sample: ImportedSample, record: Record, raw: Raw | Reject | None) -> None:
        policy = self.settings.labels
        sample.columns |= {"uid": record.uid, **record.scores}
        artifacts = decode_map(record.artifact_map, "artifact_map")
        misalignment = decode_map(record.misalignment_map, "misalignment_map")
        annotators = annotators_of(artifacts, policy)
        others = _fits(annotators_of(misalignment, policy))
        sample.columns |= {
            "annotators": annotators.number,
            "annotators_fit": _fits(annotators),
            "decided": annotators.decided,
            "misalignment_annotators_fit": others,
        }
        check_annotators(annotators, policy)
        mask, soft = votes_in(artifacts, annotators.number, policy)
        image, caption = self._image(raw)
        sample.caption = caption
        tokens = self._tokens(caption, record)
        label = self._resized(mask.astype(np.uint8) * 255, image) >= 128
        sample.columns["mask_area"] = float(label.mean())
        sample.files = {IMAGE: encode_image(self._square(image)), MASK: encode_mask(label)}
        if self.settings.soft:
            sample.files[SOFT] = _grey_png(self._resized(soft, image))
        sample.files[MISALIGNMENT] = _grey_png(self._resized(_clean(misalignment), image))
        sample.fields = {**sample.columns, "split": self.split, **tokens}

    def _image(self, raw: Raw | Reject | None) -> tuple[Image.Image, str]:
        """The decoded image at its own size, and its prompt."""
        if raw is None:
            raise Reject(
                "missing_image",
                f"the split of Pick-a-Pic for {self.split} has no image of this uid; name all of its files",
            )
        if isinstance(raw, Reject):
            raise raw
        return decode_image(raw.image, self.settings.size).image, raw.caption

    def _tokens(self, caption: str, record: Record) -> dict[str, object]:
        """Labels of the tokens, and the misaligned ones among them."""
        try:
            pairs = labelled_tokens(caption, record.token_labels)
        except Reject:
            if self.settings.tokens == "reject":
                raise
            pairs = []
        return {
            "token_labels": " ".join(str(label) for _, label in pairs),
            "misaligned_tokens": " ".join(token for token, label in pairs if label == 0),
        }

    def _resized(self, levels: NDArray[np.uint8], image: Image.Image) -> NDArray[np.uint8]:
        """A map stretched to its image, and cut as the image is; no new levels come up."""
        stretched = Image.fromarray(levels).resize(image.size, Image.Resampling.NEAREST)
        return np.asarray(self._square(stretched, smooth=False))

    def _square(self, image: Image.Image, *, smooth: bool = True) -> Image.Image:
        size = self.settings.size
        return image if size is None else fit(image, size, smooth=smooth)


def _fits(annotators: Annotators) -> str:
    return ",".join(map(str, annotators.fits))


def _clean(map_: Map) -> NDArray[np.uint8]:
    """The levels of a map, without the noise of JPEG where nobody marked anything."""
    return np.where(map_.levels <= NOISE, 0, map_.levels).astype(np.uint8) if map_.lossy else map_.levels


def _grey_png(levels: NDArray[np.uint8]) -> bytes:
    return encode_image(Image.fromarray(levels))
