"""Where model weights are, and what identifies them. No torch here, so that planning stays light."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from actors.errors import ModelError
from actors.model_files import SUPPORTED, ModelFolder
from actors.scheduler_config import check_inversion_steps, ddim_config
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


def on_every_worker(model: str) -> str:
    """The name of a model in a form that does not depend on the working folder: a folder as its absolute path.

    Shipped names hide folders of the same name, and hub ids stay as they are.
    """
    return model if model.startswith("tinytown/") or not Path(model).is_dir() else str(Path(model).absolute())


def is_hub_id(model: str) -> bool:
    """Whether a name has the form `owner/name` and is no folder here; the owner `tinytown` is ours."""
    form = re.fullmatch(r"(\w[\w.-]*)/\w[\w.-]*", model)
    return form is not None and form[1] != TINYTOWN and not Path(model).exists()


def locate(model: str, revision: str | None = None) -> str:
    """A folder for a name in `SHIPPED` and for paths; a hub id as it is.

    Raises:
        ModelError: neither a folder with weights nor the form of a hub id; weights that should have been shipped
            are missing; or a revision is given for what has none.
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
            raise ModelError(f"{model} is a folder; a revision ({revision}) can be given for a hub id only")
        return model
    if is_hub_id(model):
        return model
    if model.startswith(f"{TINYTOWN}/"):
        raise ModelError(f"Flawforge ships no weights named {model!r}; there are {', '.join(SHIPPED)}")
    if Path(model).exists():
        raise ModelError(
            f"{model} is a file; a model is a folder written by save_pretrained. Convert a single-file checkpoint with "
            "diffusers (StableDiffusionPipeline.from_single_file, then save_pretrained)"
        )
    raise ModelError(
        f"no model at {model!r}: {_no_folder(model)}; give a folder written by save_pretrained, a hub id (owner/name), "
        f"or '{TINYTOWN}'"
    )


def open_folder(model: str, revision: str | None = None, *, config: str) -> ModelFolder:
    """The folder of a model, or its snapshot in the model cache.

    Args:
        model: a name in `SHIPPED`, a folder, or a hub id.
        revision: of a hub id.
        config: the file that a complete model has, such as `unet/config.json`.

    Raises:
        ModelError: there is no such model.
    """
    place = locate(model, revision)
    if not is_hub_id(place):
        return ModelFolder(model, Path(place))
    advice = _download(model, revision)
    found = _cached(model, config, revision)
    if found is not None:
        return ModelFolder(model, found.parents[config.count("/")], advice)
    what = "UNet" if config.startswith("unet/") else config
    raise ModelError(
        f"the model cache has no {what} of {model} at revision {revision or 'main'!r}: {advice}. {SUPPORTED}"
        f"{_maybe_folder(model)}"
    )


def check_inversion(
    model: str, revision: str | None = None, *, inference_steps: int, inversion_steps: int
) -> None:
    """Refuses a number of inversion steps that the model's noise schedule does not have; reads no weights.

    A hub id that is not in the cache of this machine is not checked.

    Args:
        model: a name in `SHIPPED`, a folder, or a hub id.
        revision: of a hub id.
        inference_steps: of the whole schedule.
        inversion_steps: the largest k.

    Raises:
        ModelError: there is no such folder; the scheduler's configuration is broken; a step cannot be inverted.
    """
    path = "scheduler/scheduler_config.json"
    if is_hub_id(locate(model, revision)) and _cached(model, path, revision) is None:
        return
    config = ddim_config(model, open_folder(model, revision, config=path).config(path))
    check_inversion_steps(model, config, inference_steps=inference_steps, inversion_steps=inversion_steps)


def fingerprint(model: str, revision: str | None = None, *, beside: Sequence[str] = ()) -> str:
    """What pins the weights: a digest of the files that loading reads, or the commit of a hub id in the local cache.

    Links are followed, to folders and to files. Shipped weights also state the version of their assets:
    `tinytown-v3@DIGEST`.

    Args:
        model: a name in `SHIPPED`, a folder, or a hub id.
        revision: of a hub id.
        beside: names of further files of a folder that are read, where they exist.

    Raises:
        ModelError: a file of the folder is missing or broken, or the hub id is not in the cache.
    """
    place = locate(model, revision)
    if is_hub_id(place):
        return f"{place}@{_cached_commit(place, revision)}"
    name = f"{model}-v{ASSETS_VERSION}" if model in SHIPPED else Path(model).name
    return f"{name}@{_digest(ModelFolder(model, Path(place)), beside)}"


def _digest(folder: ModelFolder, beside: Sequence[str]) -> str:
    """Of the names and contents of exactly the files that loading reads."""
    total = hashlib.sha256()
    further = (folder.path / name for name in beside)
    for path in sorted({*folder.files(), *(path for path in further if path.exists())}):
        try:
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise folder.error(path, f"cannot be read ({error.strerror or error})") from error
        total.update(f"{path.relative_to(folder.path).as_posix()} {content}\n".encode())
    return total.hexdigest()[:16]


def _no_folder(model: str) -> str:
    """States that a folder does not exist, and names similar ones beside it."""
    path = Path(model)
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    try:
        names = sorted(entry.name for entry in parent.iterdir() if entry.is_dir())
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=3)
    beside = f"; {parent} has {', '.join(near)}" if near else f" in {parent}" if parent != Path() else ""
    return f"there is no folder {path}{beside}"


def _maybe_folder(model: str) -> str:
    """A hint for a hub id that may be a mistyped folder; empty if its first half is no folder either."""
    return f". If a folder is meant: {_no_folder(model)}" if Path(model).parent.is_dir() else ""


def _download(model: str, revision: str | None) -> str:
    at = f" --revision {revision}" if revision else ""
    return f"run `hf download {model}{at}` on a machine with network first"


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
        f"{model} at revision {wanted!r} is not in the model cache ({cache}): {_download(model, revision)}"
        f"{_maybe_folder(model)}"
    )


def _cached(model: str, path: str, revision: str | None) -> Path | None:
    """A file of a hub id in the model cache of this machine."""
    from huggingface_hub import try_to_load_from_cache  # not above: workers without a hub id do without it

    found = try_to_load_from_cache(model, path, revision=revision)
    return Path(found) if isinstance(found, str) else None
