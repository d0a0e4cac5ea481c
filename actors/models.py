"""Where model weights are, and what identifies them. No torch here, so that planning stays light."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from actors.errors import ModelError

TINYTOWN = "tinytown"
TINYTOWN_FOLDER = Path(__file__).parents[1] / "tinytown" / "weights" / "sd"


def is_hub_id(model: str) -> bool:
    """Whether a name has the form `owner/name` and is no folder here."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", model)) and not Path(model).exists()


def locate(model: str, revision: str | None = None) -> str:
    """A folder for `tinytown` and for paths; a hub id as it is.

    Raises:
        ModelError: neither a folder with weights nor the form of a hub id.
    """
    if model == TINYTOWN:
        return str(TINYTOWN_FOLDER)
    if Path(model).is_dir():
        if revision:
            raise ModelError(f"{model} is a folder; a revision ({revision}) can be asked of a hub id only")
        return model
    if is_hub_id(model):
        return model
    raise ModelError(
        f"no model at {model!r}: give a folder written by save_pretrained, a hub id (owner/name), or '{TINYTOWN}'"
    )


def fingerprint(model: str, revision: str | None = None) -> str:
    """What pins the weights: a digest of a folder's files, or the commit of a hub id in the local cache.

    Raises:
        ModelError: the folder is empty, or the hub id is not in the cache.
    """
    place = locate(model, revision)
    if is_hub_id(place):
        return f"{place}@{_cached_commit(place, revision)}"
    return f"{model if model == TINYTOWN else Path(model).name}@{_digest(Path(place))}"


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".safetensors", ".txt")]
    if not any(path.suffix == ".safetensors" for path in files):
        pickles = sorted(
            path.name for pattern in ("*.bin", "*.ckpt", "*.pt") for path in folder.rglob(pattern)
        )
        hint = (
            f"; {pickles[0]} is a pickle, which is never loaded: convert it to safetensors" if pickles else ""
        )
        raise ModelError(f"no .safetensors file under {folder}{hint}")
    for path in files:
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return total.hexdigest()[:16]


def _cached_commit(model: str, revision: str | None) -> str:
    cache = os.environ.get("HF_HUB_CACHE") or str(
        Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    )
    repository = Path(cache) / f"models--{model.replace('/', '--')}"
    wanted = revision or "main"
    pointer = repository / "refs" / wanted
    if pointer.exists():
        return pointer.read_text().strip()
    if (repository / "snapshots" / wanted).is_dir():
        return wanted
    raise ModelError(
        f"{model} at revision {wanted!r} is not in the model cache ({cache}): run "
        f"`hf download {model}{f' --revision {revision}' if revision else ''}` on a machine with network first"
    )
