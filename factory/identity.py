"""What an output is made of: the recipe's content, the models' weights, the code's versions; one digest over all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from actors.errors import OutputError
from actors.models import fingerprint
from factory.recipe import Recipe, content, differences, digest
from factory.storage import Storage

PATH = "identity.json"
PACKAGES = ("flawforge", "torch", "diffusers", "transformers", "pillow", "numpy", "pyarrow")


@dataclass(frozen=True)
class Identity:
    """Everything that the bytes of a shard depend on, beside the source.

    Attributes:
        content: the recipe's content half.
        models: fingerprint of the weights, by role.
        versions: of the packages that compute, decode or write.
    """

    content: Mapping[str, Any]
    models: Mapping[str, str]
    versions: Mapping[str, str]

    @classmethod
    def of(cls, recipe: Recipe) -> Identity:
        """Raises ModelError when weights that the recipe names are not here."""
        models = {"corruption": fingerprint(recipe.corruption.model, recipe.corruption.revision)}
        if recipe.regions.checkpoint is not None:
            models["regions"] = fingerprint(recipe.regions.checkpoint, recipe.regions.revision)
        return cls(content(recipe), models, {name: version(name) for name in PACKAGES})

    @property
    def document(self) -> dict[str, Any]:
        return {"content": dict(self.content), "models": dict(self.models), "versions": dict(self.versions)}

    @property
    def digest(self) -> str:
        return digest(self.document)


def read_identity(storage: Storage) -> Identity:
    """Raises OutputError where there is none, or where it does not agree with its own digest."""
    document = json.loads(storage.read(PATH))
    identity = Identity(document["content"], document["models"], document["versions"])
    if identity.digest != document["digest"]:
        raise OutputError(f"{storage.url}: {PATH} was changed after it was written; its digest does not fit")
    return identity


def claim(storage: Storage, identity: Identity) -> None:
    """Marks an output as belonging to `identity`, or checks that it does.

    Raises:
        OutputError: it belongs to another; the message shows every difference.
    """
    document = {**identity.document, "digest": identity.digest}
    if storage.publish(PATH, json.dumps(document, indent=1, sort_keys=True).encode()):
        return
    there = read_identity(storage)
    if there.digest == identity.digest:
        return
    changes = differences(there.document, identity.document)
    only_versions = all(change.startswith("versions.") for change in changes)
    advice = (
        "install the versions that the output was begun with, or build into a new folder"
        if only_versions
        else "build into a new folder, or begin this one anew with --mode overwrite"
    )
    raise OutputError(
        f"{storage.url} was begun with another recipe; resuming would mix two data sets:\n"
        + "\n".join(f"  {change}" for change in changes)
        + f"\nTo go on: {advice}."
    )
