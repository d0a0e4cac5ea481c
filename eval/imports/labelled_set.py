"""What a labelled set gives to an import: references to its items when it is listed, and samples when it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from actors.errors import Reject
from actors.foreign_text import one_line
from actors.stage_names import StageName
from factory.output.reference import Reference

IMAGE, MASK, JSON = "image.png", "mask.png", "json"
"""Files that every sample has; `mask.png` is 1 bit, white where an artifact is."""


@dataclass
class ImportedSample:
    """One item of a labelled set: a sample, or a reject with its reason.

    Attributes:
        key: of the reference.
        source: where it came from, for a person.
        caption: of the image, or an empty string.
        files: encoded PNGs by extension, `IMAGE` and `MASK` first; empty for a reject.
        fields: of the sample's JSON, beside those that all sets have; of every sample the same, with the same types.
        columns: of the index; also those of a reject, as far as they are known.
        reason, detail: why it was rejected; empty for a sample.
        stage: which rejected it.
    """

    key: str
    source: str
    caption: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    fields: dict[str, object] = field(default_factory=dict)
    columns: dict[str, object] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""
    stage: StageName = StageName.LOAD

    def reject(self, why: Reject) -> None:
        """Marks it as rejected; nothing of it is stored but its row of the index."""
        self.reason, self.detail = why.reason, one_line(why.detail)  # it may quote what no text file can hold
        self.files, self.fields = {}, {}


class LabelledSet(Protocol):
    """A set to import.

    Attributes:
        name: of the set, for the card.
        about: sentences for the card, in Markdown: what the labels are, licences, the paper.
        contents: what each file of a sample is, for the card, by extension.
        settings: everything that decides the bytes of the shards, as JSON, without secrets of URLs.
        members: extensions of the files of every sample but `JSON`, in the order of the tar.
        columns: types of the columns that the set adds to the index, by name: `string`, `int32` or `float64`.
        code: folders whose code decides bytes, such as `eval/richhf`.
        packages: whose versions decide bytes, beside those of every import.
        skipped: what the last listing passed over, by reason; whole once the listing has ended.
    """

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def contents(self) -> Mapping[str, str]: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    @property
    def members(self) -> Sequence[str]: ...
    @property
    def columns(self) -> Mapping[str, str]: ...
    @property
    def code(self) -> Sequence[str]: ...
    @property
    def packages(self) -> Sequence[str]: ...
    @property
    def skipped(self) -> Counter[str]: ...

    def list(self) -> Iterator[Reference]:
        """Streams the items in a fixed order, the same on every run.

        Raises:
            SourceError: a file is missing or damaged.
        """

    def read(self, references: Sequence[Reference]) -> Iterator[ImportedSample]:
        """Streams one sample for each item, in their order.

        Raises:
            SourceError: a file is not as it was when it was planned, or is damaged.
            OSError: a store failed; the same import can be resumed.
        """

    def figures(self, tables: Iterable[pa.Table]) -> dict[str, int]:
        """Counts for the card and the command, from the indexes of all shards.

        Args:
            tables: of the columns `status`, `reason` and those of the set, one for each shard.
        """
