"""The shipped splits of the embedded world.

Whatever is chosen (a threshold, a checkpoint, a method) is chosen on `validation`, and on nothing else. `labelled`
trains the region selector, `labelled-2000` shows what many labels are worth, `wild` has no masks, `sealed` is for final
figures only. Captions are disjoint.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import tinytown
from actors.errors import EvaluationError
from eval.labelled import Labelled, read_labelled

NAMES = ("labelled", "labelled-2000", "validation", "wild", "sealed")
ROOT = Path(tinytown.__file__).parent / "splits"

_VERSION, _MANIFEST = "VERSION.txt", "manifest.json"


def open_split(name: str, *, sealed_allowed: bool = False, root: Path | None = None) -> Labelled:
    """Reads a split whole; the masks of `wild` are all empty, since it has none.

    Args and raises: see `split_folder`.
    """
    folder = split_folder(name, sealed_allowed=sealed_allowed, root=root)
    return read_labelled([folder], unlabelled=name == "wild")


def split_folder(name: str, *, sealed_allowed: bool = False, root: Path | None = None) -> str:
    """The folder of a split, whose version is checked.

    Args:
        name: one of `NAMES`.
        sealed_allowed: set by `flawforge.evaluate` (and so `flawforge eval`) for `sealed`, and nowhere else.
        root: folder of the splits; None takes the shipped ones.

    Raises:
        EvaluationError: an unknown split, a sealed one, a missing one, or one of another version.
    """
    if name not in NAMES:
        raise EvaluationError(f"there is no split {name!r}; there are {', '.join(NAMES)}")
    if name == "sealed" and not sealed_allowed:
        raise EvaluationError(
            "the sealed split is for final figures only, and `flawforge eval --split sealed` is the one way "
            "to them; choices look at the split validation"
        )
    folder = (root or ROOT) / name
    _check_version(folder)
    return str(folder)


def splits_version(root: Path | None = None) -> str:
    """What pins the splits: version of the assets and digest of their manifest, `tinytown/splits-v3@...`.

    Raises:
        EvaluationError: they are missing, or of another version.
    """
    place = root or ROOT
    for name in NAMES:
        _check_version(place / name)
    manifest = place / _MANIFEST
    if not manifest.is_file():
        raise EvaluationError(f"{manifest} is missing: the shipped splits are damaged; install them again")
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    return f"tinytown/splits-v{tinytown.ASSETS_VERSION}@{digest}"


def _check_version(folder: Path) -> None:
    """A split of another version has other images under the same name: figures on it would not compare."""
    wanted = str(tinytown.ASSETS_VERSION)
    try:
        found = (folder / _VERSION).read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise EvaluationError(
            f"the split {folder.name} of tinytown is missing ({folder}): this copy of Flawforge comes "
            "without it; `make assets` makes the splits"
        ) from error
    if found != wanted:
        raise EvaluationError(f"{folder} is of version {found}; this Flawforge needs version {wanted}")
