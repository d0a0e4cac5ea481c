"""RichHF-18k as a set to import; see `eval.imports`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from actors.config import Config
from actors.errors import Reject
from actors.redaction import redact
from eval.imports.labelled_set import IMAGE, MASK, ImportedSample
from eval.richhf.listing import Item, list_items
from eval.richhf.pickapic import REPOSITORY, Images
from eval.richhf.sample import COLUMNS, MISALIGNMENT, SOFT, SampleMaker, SampleSettings
from eval.richhf.survey import survey
from eval.richhf.tfrecord import read_record
from factory.output.reference import Raw, Reference
from factory.store import remote
from factory.store.credentials import remember

Split = Literal["train", "dev", "test"]

_THREADS = 4
"""Samples that are made side by side. Decoding and encoding free Python's lock."""

_ABOUT = """\
RichHF-18k (Liang et al., *Rich Human Feedback for Text-to-Image Generation*, CVPR 2024), joined with images of
Pick-a-Pic v1. A map is the average of what several annotators marked; how many is not stored, and is inferred from the
levels of the map. The licences of both data sets apply: whoever publishes this sets `license` above."""


class RichHFSettings(Config):
    """A split of RichHF-18k, where its files are, and what is made of it."""

    split: Split = Field(
        description="of RichHF-18k; dev and train have images of Pick-a-Pic's train, test of its test"
    )
    records: str = Field(description="a folder with SPLIT.tfrecord, or the files")
    images: str = Field(
        default=f"hf://datasets/{REPOSITORY}/data",
        description="a folder with Pick-a-Pic's train-*.parquet and test-*.parquet, or the files",
    )
    sample: SampleSettings = Field(default=SampleSettings(), description="what a sample is made of")


class RichHF:
    """One split.

    Attributes:
        skipped: what the last listing passed over, by reason.
    """

    code = ("eval/richhf",)
    packages: Sequence[str] = ()
    columns: Mapping[str, str] = COLUMNS

    def __init__(self, settings: RichHFSettings) -> None:
        remember([settings.records])
        remember([settings.images])
        self.skipped: Counter[str] = Counter()
        self._settings = settings
        self._make = SampleMaker(settings.sample, settings.split)
        self._images = Images()

    @property
    def name(self) -> str:
        return f"richhf-18k-{self._settings.split}"

    @property
    def about(self) -> str:
        return _ABOUT

    @property
    def settings(self) -> dict[str, Any]:
        """The settings without secrets of URLs, with the kind of the set."""
        document = self._settings.model_dump(mode="json")
        return {
            "kind": "richhf",
            **document,
            **{name: redact(document[name]) for name in ("records", "images")},
        }

    @property
    def members(self) -> tuple[str, ...]:
        return (IMAGE, MASK, *([SOFT] if self._settings.sample.soft else []), MISALIGNMENT)

    @property
    def contents(self) -> dict[str, str]:
        every = {
            IMAGE: "the image",
            MASK: "where enough annotators marked an artifact, 1 bit, white is inside",
            SOFT: "the share of annotators who marked an artifact, times 255, 8-bit grey",
            MISALIGNMENT: "the map of what does not match the prompt, 8-bit grey, as it is published",
        }
        return {name: every[name] for name in self.members}

    def list(self) -> Iterator[Reference]:
        """Streams the records; see `eval.richhf.listing.list_items`."""
        self.skipped.clear()
        settings = self._settings
        yield from list_items(settings.records, settings.images, settings.split, self.skipped)

    def read(self, references: Sequence[Reference]) -> Iterator[ImportedSample]:
        """Streams the samples, with the images of neighbours read together."""
        items = [Item.of(reference) for reference in references]
        for url in dict.fromkeys(item.url for item in items):
            state = remote.state_of(url)
            if any(item.version != state for item in items if item.url == url):
                raise remote.changed(url)
        raws = self._images.read([item.image for item in items])
        triples = zip(references, items, raws, strict=True)
        return remote.read_ahead(partial(_sample, self._make), triples, _THREADS)

    def figures(self, tables: Iterable[pa.Table]) -> dict[str, int]:
        """Counts of policies and survivors; see `eval.richhf.survey`."""
        return survey(tables, self._settings.split, self._settings.sample.labels)


def _sample(make: SampleMaker, triple: tuple[Reference, Item, Raw | Reject | None]) -> ImportedSample:
    reference, item, raw = triple
    source = f"{item.url}#record={item.place.number}"
    return make(reference.key, source, read_record(item.url, item.place), raw)
