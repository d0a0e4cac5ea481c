"""A prediction: plan once, mark what is missing on Ray Data pools, account for every image, as a build does.

Shards are functions of the digest and their numbers, and become visible whole, so a prediction that was killed is
resumed by the same call, and gives the same bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from eval.imports.job import check_begun
from eval.predict.card import card_text
from eval.predict.identity import identity_of_prediction, open_images, with_threshold
from eval.predict.recipe import PredictRecipe, dump
from factory.output import card as cards
from factory.output import manifest as manifests
from factory.output.census import take_census
from factory.output.identity import Identity
from factory.output.lock import Lock
from factory.output.manifest import Progress, manifest_bytes, progress
from factory.output.plan import read_plan
from factory.output.provenance import recipe_path
from factory.output.versions import begin_output
from factory.pipeline.passes import Work, make_shards
from factory.run.signals import heeded
from factory.run.tally import Tally
from factory.store.storage import Storage

log = logging.getLogger(__name__)


def predict(
    recipe: PredictRecipe,
    url: str,
    *,
    overwrite: bool = False,
    take_over: bool = False,
    address: str = "local",
    order: Callable[[list[int]], list[int]] = sorted,
    show: Callable[[Tally], None] = lambda tally: None,
    tell: Callable[[str], None] = log.warning,
) -> Progress:
    """Marks the artifacts in all images of a source, or finishes a prediction that was stopped.

    Args:
        recipe: what to mark with what.
        url: the output, a folder at any fsspec URL.
        overwrite: delete an existing output first.
        take_over: even if another run seems to be at work on the output, see `factory.output.lock`.
        address: a Ray cluster, or `local` for one of our own on this machine.
        order: in which the missing shards are begun; results do not depend on it.
        show: called with the tally at the start and after every shard.
        tell: called with messages for the user.

    Returns:
        Counts of the whole output.

    Raises:
        ModelError: there is no such detector, or it has no threshold.
        SourceError: an image source that cannot be listed, or has changed since it was planned.
        OutputError: the output belongs to another recipe, or cannot be written.
        BuildError: the run stopped before the plan was done; the same call resumes it.
        LockLostError: another run took the output over.
        Terminated: SIGTERM came; as above.
    """
    recipe = with_threshold(recipe)
    storage, identity = Storage(url), identity_of_prediction(recipe)
    check_begun(storage, identity, overwrite, "predict")
    with heeded(), Lock(storage, take_over=take_over, tell=tell) as lock:
        storage = lock.storage
        storage.tidy()
        if overwrite or not check_begun(storage, identity, overwrite, "predict"):
            source = open_images(recipe)
            begin_output(
                storage,
                dump(recipe),
                recipe.output.samples_per_shard,
                identity,
                source.list(),
                source.skipped,
                overwrite=overwrite,
                tell=tell,
            )
        elif storage.read(recipe_path(1)) != dump(recipe).encode():
            storage.settle(recipe_path(1), dump(recipe).encode())

        def run(todo: list[int]) -> Iterator[int]:
            from eval.predict.stages import run_prediction  # imports Ray

            return run_prediction(recipe, storage.url, identity, todo, storage.run)

        return make_shards(
            Work(recipe.name, identity, run, recipe.execution.pools, recipe.execution),
            lock,
            range(read_plan(storage).shards),
            address,
            finish=lambda: _write_documents(storage, recipe, identity),
            order=order,
            show=show,
        )


def _write_documents(storage: Storage, recipe: PredictRecipe, identity: Identity) -> Progress:
    """Writes manifest and card from what is on the disk now, and counts it."""
    plan = read_plan(storage)
    done = take_census(storage, plan)
    total = progress(plan, done)
    storage.replace(manifests.PATH, manifest_bytes(plan, identity, done, total, recipe.name))
    storage.replace(cards.PATH, card_text(recipe, identity, total).encode())
    return total
