"""A scan of every image of a source before planning: unreadable and repeated images are left out of the plan.

Every item has a row in `scans/` with the findings; items that were left out have a reason.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.batch import Sample
from actors.errors import Reject
from actors.images import decode_image
from actors.perceptual_hash import BITS, perceptual_hash
from actors.stage_names import StageName
from factory.dedup.duplicates import EXACT, NEAR, Duplicates, Hashes, Places, duplicates
from factory.output.identity import Identity
from factory.output.layout import SCANS
from factory.output.lock import Lock
from factory.output.plan import read_plan, version_count
from factory.output.reference import Reference
from factory.output.versions import append, begin, is_begun, unplanned
from factory.pipeline.stages import image_selector
from factory.recipe.recipe import Recipe
from factory.run.signals import heeded
from factory.sources import open_source
from factory.store.remote import read_ahead
from factory.store.storage import Storage

log = logging.getLogger(__name__)

KEPT = "kept"
LEFT_OUT = "left_out"

_CHUNK = 64
_ROWS_AT_ONCE = 4096
_REFERENCE = [(name, pa.string()) for name in ("key", "url", "member", "caption", "version")]
_LOOKED = pa.schema(
    [
        *_REFERENCE,
        ("content_sha256", pa.string()),
        ("look", pa.uint64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
_SCANNED = pa.schema([("status", pa.string()), *_LOOKED, ("repeats", pa.string()), ("bits", pa.int64())])


@dataclass(frozen=True)
class Scanned:
    """What a scan found.

    Attributes:
        items: that were scanned.
        planned: how many of them are in the new version of the plan.
        reasons: of those that are not, by reason.
        version: of the plan.
        table: path in the output of the table with a row for every item.
    """

    items: int
    planned: int
    reasons: dict[str, int]
    version: int
    table: str


def scan(
    recipe: Recipe,
    url: str,
    *,
    nearness: int | None = 4,
    address: str | None = None,
    take_over: bool = False,
    show: Callable[[int], None] = lambda count: None,
    tell: Callable[[str], None] = log.warning,
) -> Scanned:
    """Scan the images of a source, and plan those that are readable and not repeated.

    In a new output this is the first version of the plan. In an existing one it is a further version, with the items
    that the plan does not have yet; they are also compared with the images of earlier scans. `flawforge build` then
    makes it.

    Args:
        recipe: what is to be made.
        url: the output.
        nearness: the later of two images is left out if their perceptual hashes differ in at most this number of bits
            (of 64); None leaves out only equal bytes.
        address: a Ray cluster whose workers scan the images; None scans on threads of this process.
        take_over: also where another run seems to be at work on the output.
        show: called with the number of images scanned so far.
        tell: see `factory.build.build`.

    Raises:
        SourceError: the source cannot be listed.
        NoItemsError: nothing is left to plan.
        OutputError: the output holds something else.
    """
    storage = Storage(url)
    identity = Identity.of(recipe)
    is_begun(storage)  # raises, before anything is written, where the output holds something else
    source = open_source(recipe.source, recipe.seed)
    with (
        heeded(),
        Lock(storage, take_over=take_over, tell=tell) as lock,
        tempfile.TemporaryDirectory() as folder,
    ):
        storage = lock.storage
        begun = is_begun(storage)  # another run may have begun it while this one waited for the lock
        versions = version_count(storage) if begun else 0
        references = source.list()
        if begun:
            fields = recipe.source.fields.model_dump()
            references = unplanned(read_plan(storage), references, fields, source.skipped, tell)
        looked, judged = Path(folder, "looked.parquet"), Path(folder, "judged.parquet")
        reasons = _look(recipe, references, looked, address, show)
        verdict = _compare(storage, versions, looked, nearness)
        reasons += verdict.reasons
        items = _judge(looked, verdict, judged)
        storage.settle(_table(versions + 1), judged)
        grow = append if begun else begin
        version = grow(storage, recipe, identity, _kept(judged), source.skipped + reasons)
    return Scanned(items, version.items, dict(reasons.most_common()), version.number, _table(version.number))


@dataclass(frozen=True)
class _Verdict:
    """Which of the readable images repeat others.

    Attributes:
        rows: of the readable images in the new table, rising.
        found: for the images of earlier scans, followed by those of `rows`.
        earlier: number of images of earlier scans.
        names: keys of the images that are repeated, by index in `found`.
    """

    rows: Places
    found: Duplicates
    earlier: int
    names: Mapping[int, str]

    @property
    def reasons(self) -> Counter[str]:
        repeats = self.found.of[self.earlier :] >= 0
        exact = self.found.exact[self.earlier :]
        return Counter({EXACT: int((repeats & exact).sum()), NEAR: int((repeats & ~exact).sum())})


def look(recipe: Recipe, references: Sequence[Reference]) -> list[dict[str, Any]]:
    """A row of `_LOOKED` for each item."""
    source, select = open_source(recipe.source, recipe.seed), image_selector(recipe)
    rows = []
    for reference, raw in source.read(references):
        row: dict[str, Any] = dict(vars(reference))
        sample = Sample(reference.key, reference.url, reference.caption)
        if isinstance(raw, Reject):
            sample.reject(StageName.LOAD, raw)
        else:
            row["content_sha256"] = hashlib.sha256(raw.image).hexdigest()
            select(sample, raw.image, raw.mask)
        if sample.image is not None and not sample.rejected:
            row["look"] = perceptual_hash(decode_image(sample.image))
        row |= {"reason": sample.reason or None, "detail": sample.detail or None}
        rows.append(row)
    return rows


def _look(
    recipe: Recipe,
    references: Iterator[Reference],
    path: Path,
    address: str | None,
    show: Callable[[int], None],
) -> Counter[str]:
    """Write the table of all items; return the number of unusable ones by reason."""
    chunks = iter(lambda: list(islice(references, _CHUNK)), [])
    if address is None:
        looked = read_ahead(partial(look, recipe), chunks, os.cpu_count() or 1)
    else:
        from factory.pipeline.workers import on_workers

        looked = on_workers(look, ((recipe, chunk) for chunk in chunks), address, "scan images")
    reasons: Counter[str] = Counter()
    count = 0
    with pq.ParquetWriter(path, _LOOKED) as writer:
        for rows in looked:
            writer.write_table(pa.Table.from_pylist(rows, schema=_LOOKED))
            reasons.update(row["reason"] for row in rows if row["reason"])
            count += len(rows)
            show(count)
    return reasons


def _compare(storage: Storage, versions: int, path: Path, nearness: int | None) -> _Verdict:
    """Compare the readable images of a table with each other, and with those that earlier scans kept."""
    tables = [table for number in range(1, versions + 1) if storage.exists(table := _table(number))]
    parts = []
    for table in tables:
        with storage.open(table) as stream:
            parts.append(_hashes(pq.ParquetFile(stream)))
    parts.append(_hashes(pq.ParquetFile(path)))
    contents, looks = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    found = duplicates(contents, looks, nearness)
    earlier = len(contents) - len(parts[-1][0])
    wanted = {int(place) for place in found.of[earlier:] if place >= 0}
    names: dict[int, str] = {}
    first = 0
    for place, part in enumerate(parts):
        here = {one - first for one in wanted if first <= one < first + len(part[2])}
        if here:
            table_of_part = storage.open(tables[place]) if place < len(tables) else path
            keys = pq.read_table(table_of_part, columns=["key"])["key"]
            names.update((first + one, keys[int(part[2][one])].as_py()) for one in here)
        first += len(part[2])
    return _Verdict(parts[-1][2], found, earlier, names)


def _hashes(file: pq.ParquetFile) -> tuple[Hashes, Hashes, Places]:
    """Hashes of the bytes and of the look of the readable images in a table, and their rows."""
    contents, looks, rows = array("Q"), array("Q"), array("q")
    first = 0
    for batch in file.iter_batches(columns=["content_sha256", "look", "reason"]):
        for place, row in enumerate(batch.to_pylist(), start=first):
            if row["reason"] is None:
                contents.append(int(row["content_sha256"][:16], 16))
                looks.append(row["look"])
                rows.append(place)
        first += len(batch)
    return (
        np.array(contents, dtype=np.uint64),
        np.array(looks, dtype=np.uint64),
        np.array(rows, dtype=np.int64),
    )


def _judge(looked: Path, verdict: _Verdict, path: Path) -> int:
    """Write the table of all items with their status; return the number of rows."""
    place, row = verdict.earlier, 0
    with pq.ParquetWriter(path, _SCANNED) as writer:
        for batch in pq.ParquetFile(looked).iter_batches(_ROWS_AT_ONCE):
            rows = batch.to_pylist()
            for one in rows:
                if one["reason"] is None:
                    of = int(verdict.found.of[place])
                    if of >= 0:
                        exact, bits = bool(verdict.found.exact[place]), int(verdict.found.distance[place])
                        one["reason"] = EXACT if exact else NEAR
                        one["repeats"], one["bits"] = verdict.names[of], bits
                        one["detail"] = (
                            f"the same bytes as {one['repeats']}"
                            if exact
                            else f"looks like {one['repeats']}: {bits} of {BITS} bits of their hashes differ"
                        )
                    place += 1
                one["status"] = LEFT_OUT if one["reason"] else KEPT
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCANNED))
            row += len(rows)
    return row


def _kept(path: Path) -> Iterator[Reference]:
    columns = [field.name for field in fields(Reference)]
    for batch in pq.ParquetFile(path).iter_batches(_ROWS_AT_ONCE, columns=[*columns, "status"]):
        for row in batch.to_pylist():
            if row.pop("status") == KEPT:
                yield Reference(**row)


def _table(version: int) -> str:
    return f"{SCANS}/{version:04d}.parquet"
