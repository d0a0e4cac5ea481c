"""The shards of a plan that are missing, made in as many passes over the pipeline as it takes."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from actors.errors import BuildError, LockLostError, OutputError, WorkersEndError
from actors.stage_names import StageName
from factory.output.census import strays_of, take_census
from factory.output.identity import Identity
from factory.output.lock import Lock
from factory.output.manifest import progress
from factory.output.plan import Plan, read_plan
from factory.output.shards.records import read_sidecar
from factory.pipeline.crash_marks import forget_all
from factory.recipe.sections import Pool, RunSettings
from factory.run.run_record import RunRecord
from factory.run.signals import heeded
from factory.run.tally import Tally

log = logging.getLogger(__name__)

FIRST_PAUSE = 2.0
"""Seconds between a pass without a new shard and the next; four times as long after the next such pass, and so on."""

Finished = TypeVar("Finished")


@dataclass(frozen=True)
class Work:
    """What a run has to make.

    Attributes:
        name: of the recipe.
        identity: of what is made.
        run: runs a pipeline over shards and yields the number of each that is published; see
            `factory.pipeline.pipeline.run_stages`. Called once a pass, when Ray runs.
        pools: the workers of each stage.
        settings: of the run.
    """

    name: str
    identity: Identity
    run: Callable[[list[int]], Iterator[int]]
    pools: Mapping[StageName, Pool]
    settings: RunSettings


def make_shards(
    work: Work,
    lock: Lock,
    planned: Sequence[int],
    address: str,
    *,
    finish: Callable[[], Finished],
    order: Callable[[list[int]], list[int]] = sorted,
    show: Callable[[Tally], None] = lambda tally: None,
) -> Finished:
    """Makes those of the planned shards that are not done, and keeps the record of the run.

    Args:
        work: what to make.
        lock: of the output, held.
        planned: numbers of the shards.
        address: a Ray cluster, or `local` for one of our own on this machine.
        finish: called when every shard is done, within the record of the run; makes the result.
        order: in which the missing shards are begun; results do not depend on it.
        show: called with the tally at the start and after every shard.

    Raises:
        OutputError: the output cannot be written.
        BuildError: the run stopped before the plan was done; it can be resumed.
        LockLostError: another run took the output over.
        Terminated: SIGTERM came; as above.
    """
    storage = lock.storage
    plan = read_plan(storage)
    done = take_census(storage, plan)
    tally = Tally(progress(plan, done), work.pools)
    show(tally)
    missing = sorted(set(planned).difference(done))
    with RunRecord(
        storage.url, lock.holder, work.name, work.identity, tally, missing=len(missing), address=address
    ) as record:
        try:
            for number in _passes(work, lock, plan, missing, address, order, record):
                lock.check()
                record.published(read_sidecar(storage, number))
                show(tally)
        except KeyboardInterrupt:
            # The workers end with this process, not because of their items; one of them may still leave a crash mark.
            with contextlib.suppress(OutputError, LockLostError):
                forget_all(storage)
            raise
        forget_all(storage)
        if strays := strays_of(storage, plan):
            raise BuildError(
                f"{storage.url}: {', '.join(strays[:5])} belong to no shard of the plan; another run may have left "
                "them: move them away, then run the same command again"
            )
        return finish()


def _passes(
    work: Work,
    lock: Lock,
    plan: Plan,
    planned: Sequence[int],
    address: str,
    order: Callable[[list[int]], list[int]],
    record: RunRecord,
) -> Iterator[int]:
    """Runs the pipeline over the planned shards, none of which is done; yields published shards.

    What a census does not count as done is made again, until a census after a pass finds every shard: so a file that a
    run wrote after it had lost the lock is found, and so is one that it deleted.

    Errors that may be transient (a lost worker, a time-out) are retried after growing pauses, until `passes`
    passes in a row have made no new shard. Errors that the user has to fix end the run at once.
    """
    fruitless = 0
    missing = sorted(planned)
    while missing:
        # Ray and torch are imported only when there is work to do.
        from factory.pipeline.cluster import check_resources, connect
        from factory.pipeline.in_flight import watching

        connect(address)
        # A Ray of our own on this machine does not grow.
        patience = 0 if address == "local" else work.settings.patience
        resources = check_resources(work.pools, patience=patience)
        record.resources(resources, grows=address != "local")
        trouble = BuildError(
            f"Ray ended a pass over {len(missing)} shards without an error and without all of them"
        )
        try:
            with heeded(), watching(lock.storage.url, record.tally.in_flight) as published:
                for number in work.run(order(missing)):
                    published(number)
                    yield number
        except (LockLostError, WorkersEndError):
            raise
        except BuildError as error:
            trouble = error
        before, missing = missing, sorted(set(planned) - take_census(lock.storage, plan).keys())
        if not missing:
            return
        fruitless = 0 if len(missing) < len(before) else fruitless + 1
        if fruitless == work.settings.passes:
            raise trouble
        record.trouble(trouble)
        log.warning("going on with what is missing after: %s", trouble)
        if fruitless:
            time.sleep(FIRST_PAUSE * 4 ** (fruitless - 1))
