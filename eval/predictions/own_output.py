"""The score maps in an output of `flawforge predict`, by the names that their images have in their source."""

from __future__ import annotations

from collections.abc import Iterator

from actors.errors import EvaluationError
from eval.imports.index import read_columns
from eval.predict.samples import ITEM
from eval.predictions.listing import Place, maps_below
from factory.output.identity import PATH as IDENTITY
from factory.output.identity import read_identity
from factory.output.manifest import read_sidecars
from factory.output.plan import read_plan
from factory.output.provenance import is_prediction
from factory.output.shards.records import tar_path
from factory.store.storage import Storage

_FILES = (".tar", ".npy", ".png")
_MAGIC = "*?[{"


def output_at(url: str) -> Storage | None:
    """The output of `flawforge predict` at a URL; None where something else is."""
    if url.lower().endswith(_FILES) or any(one in url for one in _MAGIC) or "::" in url:
        return None
    storage = Storage(url)
    if not storage.exists(IDENTITY) or not is_prediction(read_identity(storage)[0]):
        return None
    return storage


def threshold_of(url: str) -> float | None:
    """The threshold of the masks of an output of `flawforge predict`; None where something else is."""
    storage = output_at(url)
    if storage is None:
        return None
    threshold = read_identity(storage)[0].content["predict"]["detector"]["threshold"]
    return float(threshold) if isinstance(threshold, int | float) else None


def maps_of_output(storage: Storage) -> Iterator[tuple[str, Place]]:
    """Streams name and place of every map of a finished prediction.

    Raises:
        EvaluationError: the prediction is not finished.
        OutputError, SourceError: a file of it is missing or damaged.
    """
    plan, sidecars = read_plan(storage), read_sidecars(storage)
    if len(sidecars) < plan.shards:
        raise EvaluationError(
            f"{storage.url}: {len(sidecars)} of {plan.shards} shards are done; run the same flawforge predict again"
        )
    for number, sidecar in sidecars.items():
        if sidecar.tar is None:
            continue
        names = _names(storage, number)
        for key, place in maps_below(f"{storage.url}/{tar_path(number)}"):
            if key not in names:
                raise EvaluationError(
                    f"{place}: the index of its shard does not have it; run flawforge verify"
                )
            yield names[key], place


def _names(storage: Storage, number: int) -> dict[str, str]:
    """The names of a shard's images by key."""
    table = read_columns(storage, number, ["key", ITEM])
    return dict(zip(table["key"].to_pylist(), table[ITEM].to_pylist(), strict=True))
