"""Opens the data sets of a training: outputs of the factory, or tars of other programs."""

from __future__ import annotations

import re

from actors.errors import TrainingError
from actors.redaction import redact
from factory.store.places import is_local
from factory.store.remote import open_store
from factory.store.storage import Storage
from train.data.data_set import DataSet, Shard, check_same
from train.data.finished_output import read_output
from train.data.foreign_tars import read_tars
from train.data.labels import Label
from train.data.shard_index import USUAL, PartNames

__all__ = ["DataSet", "Shard", "check_same", "open_data_set"]

_TARS = re.compile(r"\.tar(?:[?#].*)?$|[*\[{]", re.IGNORECASE)
"""What only a URL of tars has: their extension, a glob, or a brace range."""


def open_data_set(
    name: str, url: str, *, label: Label, cache: Storage | None, names: PartNames = USUAL
) -> DataSet:
    """Find the shards of a data set, with their counts and the digest of the content.

    Of an output only the manifest is read. Foreign tars are looked through once, header by header, and then remembered.

    Args:
        name: in the recipe.
        url: an output of the factory (a folder with a manifest); or tars: a tar, a folder, a glob or a brace range. On
            a disk, in a bucket or on a web server.
        label: what is learned from it.
        cache: where the index of foreign tars is kept, under `index/`; None looks through them on every call.
        names: which members of foreign tars are image, mask and map of changes.

    Raises:
        TrainingError: the data set is empty; an output is unfinished, damaged, or of another version of the layout.
        SourceError: there are no tars, one is damaged, or the place may not be read.
        OutputError: the index cannot be written.
    """
    url = _absolute(url)
    found = None if _TARS.search(url) else read_output(url)
    if found is not None:
        data_set = DataSet(name, url, label, "output", *found)
    else:
        shards, digest, skipped = read_tars(url, names, cache)
        data_set = DataSet(name, url, label, "tars", shards, digest, names, skipped)
    if not data_set.samples:
        passed = ", ".join(f"{count:,} {reason}" for reason, count in data_set.skipped.items())
        raise TrainingError(
            f"the data set {name} has no samples: {redact(url)}; "
            + (
                f"passed over: {passed}"
                if passed
                else "everything in it was rejected, see `flawforge inspect`"
            )
        )
    return data_set


def _absolute(url: str) -> str:
    """Workers of a cluster have a working folder of their own."""
    files, path = open_store(url)
    return path + "/" * url.endswith("/") if is_local(files) else url
