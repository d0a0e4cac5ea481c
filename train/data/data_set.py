"""A data set of a training: its shards with their counts, and the digest of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from actors.errors import TrainingError
from actors.redaction import redact
from train.data.labels import Label
from train.data.shard_index import USUAL, PartNames


@dataclass(frozen=True)
class Shard:
    """A tar.

    Attributes:
        url: of the tar; in an output, its path in the output.
        samples: usable ones.
        bytes: of the whole tar.
    """

    url: str
    samples: int
    bytes: int


@dataclass(frozen=True)
class DataSet:
    """What training needs to know of a data set, without having opened its shards. Made by `open_data_set`.

    Attributes:
        name: in the recipe.
        url: as in the recipe, with its secrets: for workers, and not to be published; see `record`.
        label: what is learned from it.
        kind: an output of the factory, or foreign tars.
        shards: in their order, empty ones included.
        digest: of the content, wherever it is stored.
        names: of the members of foreign tars.
        skipped: what was passed over in foreign tars, by reason.
        left_out: rows of samples that are not used, ascending, by number of the shard; see `without`.
    """

    name: str
    url: str
    label: Label
    kind: Literal["output", "tars"]
    shards: tuple[Shard, ...]
    digest: str
    names: PartNames = USUAL
    skipped: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples of every shard that are used."""
        return tuple(
            shard.samples - len(self.left_out.get(number, ())) for number, shard in enumerate(self.shards)
        )

    @property
    def samples(self) -> int:
        """Samples of all shards that are used."""
        return sum(self.counts)

    def without(self, left_out: Mapping[int, tuple[int, ...]]) -> DataSet:
        """The data set without some samples; its digest is another one.

        Args:
            left_out: rows of the samples, ascending, by number of the shard.
        """
        assert not self.left_out
        if not left_out:
            return self
        what = json.dumps([self.digest, sorted((shard, rows) for shard, rows in left_out.items())])
        return replace(self, left_out=left_out, digest=hashlib.sha256(what.encode()).hexdigest())

    def row_of(self, shard: int, number: int) -> int:
        """The row in its shard of the sample that has a number among those of the shard that are used."""
        row = number
        for gone in self.left_out.get(shard, ()):
            if gone > row:
                break
            row += 1
        return row

    @property
    def record(self) -> dict[str, object]:
        """What a checkpoint keeps to recognise the data set by; see `check_same`. It holds no secret."""
        return DataSetRecord(
            name=self.name,
            url=redact(self.url),
            shards=len(self.shards),
            samples=self.samples,
            digest=self.digest,
        ).model_dump()

    def to_json(self) -> str:
        """For workers in other processes."""
        return _DATA_SET.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> DataSet:
        """What `to_json` was called on."""
        return _DATA_SET.validate_json(text)


_DATA_SET: TypeAdapter[DataSet] = TypeAdapter(DataSet)


class DataSetRecord(BaseModel):
    """What a checkpoint knows of a data set."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    url: str
    shards: int
    samples: int
    digest: str

    def __str__(self) -> str:
        return (
            f"{self.samples:,} samples in {self.shards:,} shards, digest {self.digest[:16]}, from {self.url}"
        )


def check_same(recorded: Sequence[Mapping[str, Any]], found: Sequence[DataSet]) -> None:
    """Compare the data sets of a training with those that its checkpoint was trained on.

    A data set may have moved; its content and its place in the mix may not change, since the position in the order of
    the samples would mean others.

    Args:
        recorded: `DataSet.record` of every data set, as a checkpoint has them.
        found: the data sets as they are now.

    Raises:
        TrainingError: they differ; the message names the data set and how it differs. Or the record is damaged.
    """
    try:
        before = [DataSetRecord.model_validate(one) for one in recorded]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise TrainingError(
            f"the checkpoint's record of its data sets is damaged: {where} {first['msg']}"
        ) from error
    names, now = [one.name for one in before], [one.name for one in found]
    if names != now:
        raise TrainingError(
            f"the checkpoint was trained on the data sets {', '.join(names)}, in this order, and the recipe has "
            f"{', '.join(now)}; go on with the same ones, or begin a new training in another folder"
        )
    for one, other in zip(before, found, strict=True):
        if one.digest != other.digest:
            raise TrainingError(
                f"the data set {one.name} has changed since the checkpoint: it had {one}; now it has "
                f"{DataSetRecord.model_validate(other.record)}. Go on with the same data, or begin a new training in "
                "another folder"
            )
