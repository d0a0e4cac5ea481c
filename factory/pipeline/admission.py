"""What a worker must have in common with its run, compared before its first shard: weights, code, versions, hardware.

The driver resolves a recipe to an `Identity`; each worker resolves it again where it runs. One that finds something
else would write other bytes under the same digest, so it is refused, which ends the run.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping

from actors.errors import ModelError, OutputError, WorkerError
from actors.hardware import describe, hardware_class
from actors.models import is_hub_id
from actors.stage_names import StageName
from factory.output.census import sound_sidecar
from factory.output.identity import ROLES, Identity, digest_of_code, fingerprint_of, versions_here, weights_of
from factory.output.layout import HARDWARE
from factory.output.manifest import done_shards
from factory.output.shards.records import stats_path
from factory.pipeline.run_context import RunContext
from factory.recipe.recipe import Recipe, differences
from factory.store.storage import Storage


class Admission:
    """The check of one worker; it is made at the first call, and costs nothing afterwards.

    Args:
        context: of the run.
        storage: the output.
        stage: name of the worker's stage.
        roles: of the models that the stage loads, as `Identity.models` names them.
    """

    def __init__(
        self,
        context: RunContext,
        storage: Storage,
        stage: StageName,
        roles: tuple[str, ...] = (),
    ) -> None:
        self.context, self.storage, self.stage = context, storage, stage
        self.roles = tuple(role for role in roles if role in context.identity.models)
        self._hardware: dict[str, str] | None = None

    def __call__(self) -> dict[str, str]:
        """The hardware class of this worker; empty for a stage without models.

        Raises:
            WorkerError: weights, code or versions are not those of the identity; with `execution.hardware: same`, the
                hardware class is not that of the output's first shard.
            ModelError: the recipe gives the stage a GPU, and the machine has none.
        """
        if self._hardware is None:
            check_worker(self.context, self.roles)
            found = self._hardware_class()
            if found and self.context.same_hardware:
                check_hardware(self.storage, self.stage, found)
            self._hardware = found
        return self._hardware

    def _hardware_class(self) -> dict[str, str]:
        if not self.roles:
            return {}
        from actors.device import device_for  # imports torch, which stages without models do not need

        device = self.context.devices[self.roles[0]]
        device_for(device)
        return hardware_class(device)


def check_worker(context: RunContext, roles: tuple[str, ...]) -> None:
    """Raises WorkerError, with every difference, when this process does not have what the run's identity names."""
    identity = context.identity
    here = versions_here() | ({"eval": digest_of_code(context.code)} if context.code else {})
    changes = differences({"versions": identity.versions}, {"versions": here})
    downloads = []
    for role in roles:
        wanted, (model, revision) = identity.models[role], context.weights[role]
        found = _resolved(role, model, revision, wanted)
        if found != wanted:
            changes.append(f"models.{role}: {wanted} -> {found}")
            if commit := commit_of(model, wanted):
                downloads.append(f"`hf download {model} --revision {commit}`")
    if not changes:
        return
    advice = "give every machine the same code, packages and model files"
    if downloads:
        advice += f" (run {' and '.join(downloads)} on each)"
    raise WorkerError(
        f"the worker on {platform.node()} differs from the driver of its run, and would make other bytes under the "
        "same digest (driver -> worker):\n"
        + "\n".join(f"  {change}" for change in changes)
        + f"\nTo go on: {advice}, then build again."
    )


def pinned(recipe: Recipe, identity: Identity) -> Recipe:
    """The recipe with each hub id at the commit that `identity` names, in place of a branch that may have moved."""
    commits = {
        role: commit
        for role, (model, _) in weights_of(recipe).items()
        if (commit := commit_of(model, identity.models[role]))
    }
    for name, commit in commits.items():
        recipe = ROLES[name].pinned(recipe, commit)
    return recipe


def check_hardware(storage: Storage, stage: str, mine: Mapping[str, str]) -> None:
    """Holds a worker to the hardware class of the output's first published shard, or, before there is one, of the
    first worker that began. A create-only file decides who was first. Damaged sidecars are passed over.

    Raises:
        WorkerError: the worker's class is another one; the message has both.
        OutputError: that file is damaged, or the output cannot be read.
    """
    first, where = dict(mine), f"the first worker of stage {stage}"
    if not storage.exists(path := f"{HARDWARE}/{stage}.json"):
        for number in sorted(done_shards(storage)):
            if sidecar := sound_sidecar(storage, number):
                first = sidecar.hardware.get(stage) or first
                where = stats_path(number)
                break
        storage.publish(path, json.dumps({"from": where, "hardware": first}, indent=1).encode())
    try:
        document = json.loads(storage.read(path))
        where, first = str(document["from"]), {str(k): str(v) for k, v in document["hardware"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{storage.url}: {path} is damaged: {error!r}; delete it and build again"
        ) from error
    if first != mine:
        raise WorkerError(
            f"execution.hardware is same, and the worker on {platform.node()} (stage {stage}) has other hardware than "
            f"{where}:\n  first:  {describe(first)}\n  worker: {describe(mine)}\n"
            "To go on: run on machines of the first kind, or set execution.hardware to any; floats then differ in "
            "their last bits from one kind to the other."
        )


def _resolved(role: str, model: str, revision: str | None, wanted: str) -> str:
    """The fingerprint of what this process would load: the driver's commit, or if it is missing, what exists here."""
    commit = commit_of(model, wanted)
    why = ""
    for candidate in dict.fromkeys((commit or revision, revision)):
        try:
            return fingerprint_of(role, model, candidate)
        except ModelError as error:
            why = why or f"({error})"
    return why


def commit_of(model: str, fingerprinted: str) -> str | None:
    """The commit in the fingerprint of a hub id; None of a folder."""
    name, _, commit = fingerprinted.rpartition("@")
    return commit if name == model and is_hub_id(model) else None
