"""Where model weights are, and what identifies them. No torch here, so that planning stays light."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from actors.errors import ModelError
from tinytown import ASSETS_VERSION

TINYTOWN = "tinytown"
_WEIGHTS = Path(__file__).parents[1] / "tinytown" / "weights"
TINYTOWN_FOLDER = _WEIGHTS / "sd"

SHIPPED = {
    TINYTOWN: TINYTOWN_FOLDER,
    **{
        f"{TINYTOWN}/{name}": _WEIGHTS / name
        for name in ("regions-convnext", "regions-swin", "segmenter-convnext", "segmenter-swin")
    },
}
"""Names of the weights that come with Flawforge, and their folders. They hide folders and hub ids of the same name."""


def is_hub_id(model: str) -> bool:
    """Whether a name has the form `owner/name` and is no folder here; the owner `tinytown` is ours."""
    form = re.fullmatch(r"([\w.-]+)/[\w.-]+", model)
    return form is not None and form[1] != TINYTOWN and not Path(model).exists()


def locate(model: str, revision: str | None = None) -> str:
    """A folder for a name in `SHIPPED` and for paths; a hub id as it is.

    Raises:
        ModelError: neither a folder with weights nor the form of a hub id; weights that should have been shipped
            are not here; or a revision is asked of what has none.
    """
    if model in SHIPPED:
        if revision:
            raise ModelError(f"{model} comes with Flawforge and has no revisions; drop {revision!r}")
        if not SHIPPED[model].is_dir():
            raise ModelError(
                f"the weights {model} are not at {SHIPPED[model]}: install flawforge again, whole, "
                "or train them with `make assets`"
            )
        return str(SHIPPED[model])
    if Path(model).is_dir():
        if revision:
            raise ModelError(f"{model} is a folder; a revision ({revision}) can be asked of a hub id only")
        return model
    if is_hub_id(model):
        return model
    if model.startswith(f"{TINYTOWN}/"):
        raise ModelError(f"Flawforge ships no weights named {model!r}; there are {', '.join(SHIPPED)}")
    raise ModelError(
        f"no model at {model!r}: give a folder written by save_pretrained, a hub id (owner/name), or '{TINYTOWN}'"
    )


def fingerprint(model: str, revision: str | None = None) -> str:
    """What pins the weights: a digest of a folder's files, or the commit of a hub id in the local cache.

    Shipped weights also tell the version of the assets that they belong to: `tinytown-v2@DIGEST`.

    Raises:
        ModelError: the folder is empty, or the hub id is not in the cache.
    """
    place = locate(model, revision)
    if is_hub_id(place):
        return f"{place}@{_cached_commit(place, revision)}"
    name = f"{model}-v{ASSETS_VERSION}" if model in SHIPPED else Path(model).name
    return f"{name}@{_digest(Path(place))}"


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
