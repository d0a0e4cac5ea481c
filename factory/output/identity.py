"""What an output is made of: the recipe's content, the weights, the versions of the code; one digest over all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from actors.errors import OutputError
from actors.models import fingerprint
from actors.segmentation.own_threshold import METRICS, own_threshold
from actors.stage_names import StageName
from factory.output.layout import VERSIONS
from factory.recipe.recipe import Recipe, content, differences, digest
from factory.store.storage import Storage

PATH = "identity.json"
PACKAGES = ("torch", "diffusers", "transformers", "tokenizers", "pillow", "numpy", "pyarrow")

LARGEST = 64 << 20
"""Bytes of an identity; that of a merged output has the recipes of all its parts."""

_ROOT = Path(__file__).parents[2]
_OUR_CODE = ("actors", "factory", "tinytown")


@dataclass(frozen=True)
class Role:
    """A model of a recipe.

    Attributes:
        section: of the recipe, which names it: keys from the outermost one on. The last may be null.
        model, revision: the keys there.
        stage: whose workers run it.
        beside: further files of its folder that are read.
        optional: whether recipes without it give it no device.
    """

    section: tuple[str, ...]
    model: str
    revision: str
    stage: StageName
    beside: tuple[str, ...] = ()
    optional: bool = False

    def weights(self, recipe: Recipe) -> tuple[str, str | None] | None:
        """The name of the model, and the revision of a hub id; None where the recipe has no such model."""
        section: Any = recipe
        for key in self.section:
            section = getattr(section, key)
        model = None if section is None else getattr(section, self.model)
        return None if model is None else (model, getattr(section, self.revision))

    def pinned(self, recipe: Recipe, commit: str) -> Recipe:
        """The recipe with another revision of its model."""
        sections: list[Any] = [recipe]
        for key in self.section:
            sections.append(getattr(sections[-1], key))
        changed = sections.pop().model_copy(update={self.revision: commit})
        for key in reversed(self.section):
            changed = sections.pop().model_copy(update={key: changed})
        found: Recipe = changed
        return found


ROLES = {
    "corruption": Role(("corruption",), "model", "revision", StageName.CORRUPT),
    "regions": Role(("regions",), "checkpoint", "revision", StageName.SELECT),
    "detector": Role(("selection",), "detector", "detector_revision", StageName.SELECT, optional=True),
    "judge": Role(("verify", "judge"), "folder", "revision", StageName.CORRUPT, (METRICS,), optional=True),
}
"""By the name of the role in `Identity.models`."""


class IdentityDocument(BaseModel):
    """The types of an identity on disk."""

    model_config = ConfigDict(extra="forbid", strict=True)

    content: dict[str, Any]
    models: dict[str, str]
    versions: dict[str, str]
    devices: dict[str, str]


@dataclass(frozen=True)
class Identity:
    """Everything that the bytes of a shard depend on, beside the source.

    Attributes:
        content: the recipe's content half.
        models: fingerprint of the weights, by role.
        versions: of our code, and of the packages that compute, decode or write.
        devices: `cuda` or `cpu` by role, depending on whether the recipe assigns GPUs: their arithmetic differs.
    """

    content: Mapping[str, Any]
    models: Mapping[str, str]
    versions: Mapping[str, str]
    devices: Mapping[str, str]

    @classmethod
    def of(cls, recipe: Recipe) -> Identity:
        """Raises ModelError when weights that the recipe names are not here, or the judge has no threshold."""
        models = {role: fingerprint_of(role, *weights) for role, weights in weights_of(recipe).items()}
        judge_threshold(recipe)
        return cls(content(recipe), models, versions_here(), devices_of(recipe))

    @property
    def document(self) -> dict[str, Any]:
        return {
            "content": dict(self.content),
            "models": dict(self.models),
            "versions": dict(self.versions),
            "devices": dict(self.devices),
        }

    @property
    def digest(self) -> str:
        return digest(self.document)


def weights_of(recipe: Recipe) -> dict[str, tuple[str, str | None]]:
    """The models that the recipe names, by role: name, and revision of a hub id."""
    found = ((name, role.weights(recipe)) for name, role in ROLES.items())
    return {name: weights for name, weights in found if weights is not None}


def fingerprint_of(role: str, model: str, revision: str | None) -> str:
    """What pins the model of a role; see `actors.models.fingerprint`."""
    return fingerprint(model, revision, beside=ROLES[role].beside)


def judge_threshold(recipe: Recipe) -> float | None:
    """The threshold of the judge, the recipe's or its own; None without a judge.

    Raises:
        ModelError: the recipe names none, and the judge has none of its own.
    """
    judge = recipe.verify.judge
    if judge is None:
        return None
    if judge.threshold is not None:
        return judge.threshold
    return own_threshold(judge.folder, judge.revision, setting="verify.judge.threshold")


def versions_here() -> dict[str, str]:
    """The versions of our code and of `PACKAGES` in this process's environment."""
    return {"flawforge": _our_version(), **{name: _installed(name) for name in PACKAGES}}


def devices_of(recipe: Recipe) -> dict[str, str]:
    """Where the recipe computes, by role: on `cuda` or on the `cpu`. Detector and judge only where there is one."""
    pools, named = recipe.execution.pools, weights_of(recipe)
    return {
        name: "cuda" if pools[role.stage].gpus else "cpu"
        for name, role in ROLES.items()
        if name in named or not role.optional
    }


def read_identity(storage: Storage, version: int = 1) -> tuple[Identity, str]:
    """The identity of an output, or of a later version of it, and the sha256 of its plan.

    Raises:
        OutputError: it is missing or damaged, or does not match its own digest.
    """
    path = identity_path(version)
    data = storage.read(path)
    if len(data) > LARGEST:
        raise OutputError(
            f"{storage.url}: {path} is damaged: {len(data):,} bytes; at most {LARGEST:,} are read"
        )
    try:
        document = json.loads(data)
        made_by = {name: document[name] for name in IdentityDocument.model_fields}
        identity = Identity(**IdentityDocument.model_validate(made_by).model_dump())
        claimed, plan = str(document["digest"]), str(document["plan_sha256"])
        computed = identity.digest
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise OutputError(f"{storage.url}: {path} is damaged: {error!r}") from error
    if computed != claimed:
        raise OutputError(f"{storage.url}: {path} was changed after it was written; its digest does not fit")
    return identity, plan


def identity_path(version: int) -> str:
    return PATH if version == 1 else f"{VERSIONS}/{version:04d}.identity.json"


def identity_bytes(identity: Identity, plan_sha256: str) -> bytes:
    """The file's content, in the one form in which it is written."""
    document = {**identity.document, "digest": identity.digest, "plan_sha256": plan_sha256}
    return json.dumps(document, indent=1, sort_keys=True).encode()


def claim(storage: Storage, identity: Identity, plan_sha256: str, version: int = 1) -> None:
    """Marks an output, or a version of it, whose plan is written, as belonging to `identity`: now it is begun.

    Args:
        plan_sha256: of the plan's file.
        version: 1 for the output itself.
    """
    # Whoever holds the lock meets here only what a run that lost it has left.
    storage.settle(identity_path(version), identity_bytes(identity, plan_sha256))


def check_same(storage: Storage, existing: Identity, wanted: Identity) -> None:
    """Raises OutputError, with every difference, when an output was begun with another identity."""
    if existing.digest == wanted.digest:
        return
    changes = differences(existing.document, wanted.document)
    if all(change.startswith("versions.") for change in changes):
        what = "other versions of the code"
        advice = "install the versions that it was begun with, or build into a new folder"
    else:
        what = "another recipe"
        advice = (
            "build into a new folder, or with --mode extend (add new items of the source), --mode again (add all items "
            "once more, by this recipe), or --mode overwrite (delete the existing output and begin anew)"
        )
    raise OutputError(
        f"{storage.url} was begun with {what}; resuming would mix two data sets:\n"
        + "\n".join(f"  {change}" for change in changes)
        + f"\nTo go on: {advice}."
    )


def digest_of_code(folders: Iterable[str]) -> str:
    """A short digest of the Python code in folders of this package, such as `eval/imports`."""
    total = hashlib.sha256()
    for path in sorted(path for folder in folders for path in (_ROOT / folder).rglob("*.py")):
        total.update(f"{path.relative_to(_ROOT).as_posix()}\n".encode() + path.read_bytes())
    return total.hexdigest()[:12]


def _our_version() -> str:
    """The package's version and a digest of the code that decides bytes, which an editable install may change."""
    return f"{_installed('flawforge')}+{digest_of_code(_OUR_CODE)}"


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
