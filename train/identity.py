"""What a training is: its recipe, the data that it reads and the weights that it begins with; `training.json`."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from actors.errors import OutputError
from actors.models import fingerprint
from factory.output.clearing import Names, clear
from factory.output.identity import versions_here
from factory.recipe.recipe import differences, digest
from factory.store.fence import LOCK
from factory.store.storage import Storage
from train.data.catalogue import DataSet, check_same
from train.data.data_set import DataSetRecord
from train.recipe import TrainingRecipe, content, published

log = logging.getLogger(__name__)

PATH = "training.json"
SCHEMA_VERSION = 1


class DataRecord(DataSetRecord):
    """A data set as a training read it: `train.data.data_set.DataSetRecord`, and what was learnt of it."""

    label: str


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    schema_version: int
    name: str
    digest: str
    content: dict[str, Any]
    checkpoint: str
    data: list[DataRecord]
    validation: DataRecord | None
    versions: dict[str, str]


@dataclass(frozen=True)
class TrainingIdentity:
    """Everything that the result of a training depends on.

    Attributes:
        name: of the recipe.
        content: the recipe's content half.
        checkpoint: fingerprint of the initial weights.
        data: the data sets, in the recipe's order.
        validation: None without a validation.
        versions: of our code and of the packages that compute. They are recorded, and not part of the digest.
    """

    name: str
    content: Mapping[str, Any]
    checkpoint: str
    data: tuple[DataRecord, ...]
    validation: DataRecord | None
    versions: Mapping[str, str]

    @classmethod
    def of(
        cls, recipe: TrainingRecipe, data: Sequence[DataSet], validation: DataSet | None
    ) -> TrainingIdentity:
        """Raises ModelError when the initial weights are not here."""
        public = published(recipe)
        return cls(
            recipe.name,
            content(recipe),
            fingerprint(recipe.model.checkpoint, recipe.model.revision),
            tuple(_record(one, shown.url) for one, shown in zip(data, public.data, strict=True)),
            _record(validation, public.validation.url) if validation and public.validation else None,
            versions_here(),
        )

    @property
    def basis(self) -> dict[str, Any]:
        """What the digest is of: all but names, places and versions."""
        return {
            "content": dict(self.content),
            "checkpoint": self.checkpoint,
            "data": {one.name: {"label": one.label, "digest": one.digest} for one in self.data},
            "validation": self.validation.digest if self.validation else None,
        }

    @property
    def digest(self) -> str:
        return digest(self.basis)

    @property
    def encoded(self) -> bytes:
        """The bytes of `training.json`."""
        document = _Document(
            schema_version=SCHEMA_VERSION,
            name=self.name,
            digest=self.digest,
            content=dict(self.content),
            checkpoint=self.checkpoint,
            data=list(self.data),
            validation=self.validation,
            versions=dict(self.versions),
        )
        return document.model_dump_json(indent=1).encode()


def is_training(storage: Storage) -> bool:
    """Whether an output is that of a training."""
    return storage.exists(PATH)


def read_training(storage: Storage) -> TrainingIdentity:
    """The training of an output.

    Raises:
        OutputError: it is missing or damaged, or of another version of the layout.
    """
    data = storage.read(PATH)
    try:
        version = json.loads(data).get("schema_version")
        if version != SCHEMA_VERSION:
            raise OutputError(
                f"{storage.url}: {PATH} has schema version {version}, this Flawforge reads {SCHEMA_VERSION} only"
            )
        found = _Document.model_validate_json(data)
    except (ValueError, AttributeError, RecursionError) as error:
        raise OutputError(f"{storage.url}: {PATH} is damaged: {str(error).splitlines()[0]}") from error
    return TrainingIdentity(
        found.name, found.content, found.checkpoint, tuple(found.data), found.validation, found.versions
    )


OURS: Names = {
    "checkpoints": re.compile(r"\d{6,9}\.(json|(model|optimizer|ema)\.safetensors)"),
    "log": re.compile(r"\d{6,9}\.jsonl"),
    "samples": re.compile(r"\d{6,9}-\d{4}\.jsonl"),
    "tensorboard": re.compile(r"events\.out\.tfevents\.[\w.-]+"),
    "index": re.compile(r"[\w-]+\.parquet"),
    "": re.compile(
        r"metrics\.json|progress\.json|recipe\.yaml|README\.md|(log|samples)\.jsonl|(preprocessor_)?config\.json|"
        r"model\.safetensors"
    ),
}
"""Names of the files that a training makes, by folder; see `factory.output.clearing`."""


_BEFORE = (LOCK, "index")
"""What a training writes before `training.json`."""


def check_folder(storage: Storage) -> None:
    """Raises OutputError where a folder is not empty and not of a training."""
    if not is_training(storage) and not storage.empty(besides=_BEFORE):
        names = [name for name in storage.entries() if name not in _BEFORE]
        raise OutputError(
            f"{storage.url} holds files that are not of a training ({', '.join(names[:5])}): choose another folder"
        )


def begin(
    storage: Storage,
    identity: TrainingIdentity,
    data: Sequence[DataSet],
    *,
    overwrite: bool = False,
    tell: Callable[[str], None] = log.warning,
) -> None:
    """Record what a training is, or check that the output is of the same one.

    Args:
        storage: the output.
        identity: of the training.
        data: its data sets.
        overwrite: delete another training first.
        tell: called with a message about files that were not deleted.

    Raises:
        TrainingError: the data has changed since the training began.
        OutputError: the output holds another training, or something else; the message has the differences.
    """
    if is_training(storage) and overwrite:
        read_training(storage)  # Raises for a file of that name that another program made.
        if left := clear(storage, OURS, last=PATH):
            tell(left)
        storage.settle(PATH, identity.encoded)
        return
    if not is_training(storage):
        check_folder(storage)
        storage.settle(PATH, identity.encoded)
        return
    before = read_training(storage)
    check_same([one.model_dump(exclude={"label"}) for one in before.data], data)
    if before.digest != identity.digest:
        lines = "\n  ".join(differences(before.basis, identity.basis))
        raise OutputError(
            f"{storage.url} holds another training; choose another folder, go back to its recipe and data, or delete "
            f"it with --mode overwrite:\n  {lines}"
        )


def _record(data: DataSet, url: str | None) -> DataRecord:
    """The record of a data set, with the URL of the recipe: the name of a shipped one, and not its place here."""
    return DataRecord.model_validate({**data.record, "label": data.label, "url": url})
