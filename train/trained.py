"""The figures of a finished training: `metrics.json`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from actors.errors import OutputError
from factory.store.storage import Storage

PATH = "metrics.json"
"""Written last: a training whose output has it is finished."""


class Trained(BaseModel):
    """The content of `metrics.json`.

    Attributes:
        step: after how many steps the weights were taken.
        steps: that were trained.
        threshold: probability from which a pixel is an artifact, chosen on the validation; None without one.
        validation: figures there, of these weights.
        loss: mean over the last tenth of the steps.
        seconds: that the steps took, without validations, checkpoints and starts.
        waited: of these, waiting for data on worker 0.
        skipped: bad samples, by data set.
        new_weights: those that the checkpoint did not have.
        digest: of the training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    step: int
    steps: int
    threshold: float | None
    validation: dict[str, float] | None
    loss: float
    seconds: float
    waited: float
    skipped: dict[str, int]
    new_weights: list[str]
    digest: str


def is_finished(storage: Storage) -> bool:
    """Whether a training has its result."""
    return storage.exists(PATH)


def read_trained(storage: Storage) -> Trained:
    """The figures of a finished training.

    Raises:
        OutputError: they are missing or damaged.
    """
    try:
        return Trained.model_validate_json(storage.read(PATH))
    except ValidationError as error:
        raise OutputError(f"{storage.url}: {PATH} is damaged: {error.errors()[0]['msg']}") from error
