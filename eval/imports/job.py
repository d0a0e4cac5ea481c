"""An import: plan once, write what is missing, account for every item, as a build does.

One process reads and writes; it needs no Ray. Shards are functions of the digest and their numbers, and become visible
whole, so an import that was killed is resumed by the same call, and gives the same bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import pyarrow as pa

from actors.errors import OutputError
from actors.stage_names import StageName
from eval.imports.card import card_text
from eval.imports.index import read_columns
from eval.imports.labelled_set import LabelledSet
from eval.imports.shards import index_schema, write_imported
from factory.output import card as cards
from factory.output import manifest as manifests
from factory.output.census import take_census
from factory.output.clearing import check_clearable
from factory.output.identity import Identity, digest_of_code, read_identity, versions_here
from factory.output.lock import Lock
from factory.output.manifest import Progress, manifest_bytes, progress
from factory.output.plan import Plan, read_plan
from factory.output.shards.records import Sidecar
from factory.output.versions import begin_output, is_begun
from factory.recipe.recipe import differences
from factory.recipe.strict_yaml import dump_yaml
from factory.run.signals import heeded
from factory.store.storage import Storage

log = logging.getLogger(__name__)

PER_SHARD = 128

_CODE = ("eval/imports",)
_PACKAGES = ("flawforge", "numpy", "pillow", "pyarrow")
_MOST_DIFFERENCES = 20


@dataclass(frozen=True)
class Imported:
    """A finished import.

    Attributes:
        total: counts of the output.
        figures: counts that the set makes, by name; see `LabelledSet.figures`.
    """

    total: Progress
    figures: dict[str, int]


def import_set(
    labelled: LabelledSet,
    url: str,
    *,
    per_shard: int = PER_SHARD,
    overwrite: bool = False,
    take_over: bool = False,
    show: Callable[[Progress], None] = lambda total: None,
    tell: Callable[[str], None] = log.warning,
) -> Imported:
    """Writes a labelled set as shards, or finishes an import that was stopped.

    Args:
        labelled: the set, with all settings.
        url: the output, a folder at any fsspec URL.
        per_shard: items of a shard.
        overwrite: delete an existing output first.
        take_over: even if another run seems to be at work on the output, see `factory.output.lock`.
        show: called with the counts at the start and after every shard.
        tell: called with messages for the user.

    Raises:
        SourceError: a file of the set is missing, damaged, or has changed since it was planned.
        OutputError: the output belongs to another import or to a build, or cannot be written.
        LockLostError: another run took the output over.
    """
    storage, identity = Storage(url), identity_of_import(labelled, per_shard)
    check_begun(storage, identity, overwrite, "import")
    with heeded(), Lock(storage, take_over=take_over, tell=tell) as lock:
        storage = lock.storage
        storage.tidy()
        if overwrite or not check_begun(storage, identity, overwrite, "import"):
            recipe = dump_yaml({"name": labelled.name, **identity.content})
            items = labelled.list()
            begin_output(
                storage, recipe, per_shard, identity, items, labelled.skipped, overwrite=overwrite, tell=tell
            )
        plan = read_plan(storage)
        done = take_census(storage, plan)
        show(progress(plan, done))
        for number, sidecar in _missing(
            labelled, storage, plan, identity, sorted(set(range(plan.shards)) - done.keys())
        ):
            lock.check()
            done[number] = sidecar
            show(progress(plan, done))
        return _finish(labelled, storage, plan, identity)


def identity_of_import(labelled: LabelledSet, per_shard: int) -> Identity:
    """Everything that the bytes of the shards depend on, beside the files of the set."""
    here = versions_here()
    versions = {name: here[name] for name in _PACKAGES}
    versions |= {name: version(name) for name in labelled.packages}
    versions["eval"] = digest_of_code((*_CODE, *labelled.code))
    content = {"import": dict(labelled.settings), "output": {"samples_per_shard": per_shard}}
    return Identity(content, {}, versions, {})


def check_begun(storage: Storage, identity: Identity, overwrite: bool, verb: str) -> bool:
    """Whether the output is begun already. Nothing is changed.

    Args:
        storage: the output.
        identity: of what is to be made.
        overwrite: an existing output is to be deleted.
        verb: what makes it, for the message: `import`, `predict`.

    Raises:
        OutputError: it is not a Flawforge output, or another one, and is not to be overwritten.
    """
    begun = is_begun(storage)
    if begun and overwrite:
        check_clearable(storage)
    elif begun:
        existing, _ = read_identity(storage)
        changes = differences(existing.document, identity.document)
        if changes:
            more = len(changes) - _MOST_DIFFERENCES
            shown = [*changes[:_MOST_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])]
            raise OutputError(
                f"{storage.url} was begun with other settings, or other versions of the code; resuming would mix two "
                "data sets:\n"
                + "\n".join(f"  {change}" for change in shown)
                + f"\nTo go on: {verb} into a new folder, or with --mode overwrite (delete the existing output)."
            )
    return begun


def _missing(
    labelled: LabelledSet, storage: Storage, plan: Plan, identity: Identity, numbers: Sequence[int]
) -> Iterator[tuple[int, Sidecar]]:
    """Writes the shards with these numbers; yields the number and the sidecar of each."""
    write = partial(
        write_imported,
        storage,
        schema=index_schema(labelled.members, labelled.columns),
        digest=identity.digest,
        plan_sha256=read_identity(storage)[1],
    )
    for number in numbers:
        began = time.monotonic()
        samples = list(labelled.read(plan.shard(number)))
        assert len(samples) == plan.size(number), (
            f"shard {number}: {len(samples)} of {plan.size(number)} items"
        )
        yield number, write(number, samples, seconds={StageName.LOAD: time.monotonic() - began})


def rewrite_documents(labelled: LabelledSet, storage: Storage) -> Imported:
    """Writes manifest and card anew, of the shards that are done, and holds the lock meanwhile.

    Args:
        labelled: the set that was imported, with the same settings; nothing of it is read.
        storage: the output.

    Raises:
        OutputError: plan or identity are missing or damaged, or another run is at work on the output.
        LockLostError: another run took the output over.
    """
    with Lock(storage) as lock:
        storage = lock.storage
        plan = read_plan(storage)
        return _document(labelled, storage, plan, read_identity(storage)[0], take_census(storage, plan))


def _finish(labelled: LabelledSet, storage: Storage, plan: Plan, identity: Identity) -> Imported:
    """Writes manifest and card from what is on the disk now, and counts it."""
    done = take_census(storage, plan)
    if len(done) < plan.shards:
        raise OutputError(
            f"{storage.url}: {plan.shards - len(done)} shards that were written are missing or damaged now; run the "
            "same command again"
        )
    return _document(labelled, storage, plan, identity, done)


def _document(
    labelled: LabelledSet, storage: Storage, plan: Plan, identity: Identity, done: Mapping[int, Sidecar]
) -> Imported:
    total = progress(plan, done)
    figures = labelled.figures(_tables(labelled, storage, done))
    storage.replace(manifests.PATH, manifest_bytes(plan, identity, done, total, labelled.name))
    storage.replace(cards.PATH, card_text(labelled, identity, total, figures).encode())
    return Imported(total, figures)


def _tables(labelled: LabelledSet, storage: Storage, numbers: Iterable[int]) -> Iterator[pa.Table]:
    columns = ["status", "reason", *labelled.columns]
    for number in sorted(numbers):
        yield read_columns(storage, number, columns)
