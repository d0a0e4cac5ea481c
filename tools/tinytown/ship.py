"""Copies finished assets of tinytown into the package: `python -m tools.tinytown.ship --out DIR`.

A folder is copied aside and then takes the old one's place, so that half a folder never exists.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import tinytown
from actors.errors import OutputError
from tinytown import ASSETS_VERSION

log = logging.getLogger(__name__)

PACKAGE = Path(tinytown.__file__).parent
LARGEST = 60_000_000
"""Bytes of all weights and splits together."""

KINDS = ("convnext", "swin")
GROUPS: Mapping[str, Mapping[str, str]] = {
    "sd": {"sd-1": "weights/sd"},
    "segmenters": {f"segmenter-{kind}": f"weights/segmenter-{kind}" for kind in KINDS},
    "regions": {f"regions-{kind}": f"weights/regions-{kind}" for kind in KINDS},
    "splits": {"splits": "splits"},
}
"""What can be shipped: folders of the work folder, and where each goes in the package."""

_MACHINE_S_OWN = ("_name_or_path", "name_or_path")
_VERSION = "VERSION.txt"


def ship(out: Path, package: Path, only: Sequence[str] = tuple(GROUPS), *, largest: int = LARGEST) -> int:
    """Copies groups of folders, each whole.

    Args:
        out: the work folder.
        package: the folder that holds `weights` and `splits`.
        only: names in `GROUPS`.
        largest: bytes that weights and splits may have together, including existing ones.

    Returns:
        Bytes of weights and splits afterwards.

    Raises:
        OutputError: a folder is missing, empty or of another version, or all together would be too large;
            nothing has been copied then.
    """
    folders = {out / source: package / place for name in only for source, place in GROUPS[name].items()}
    for source in folders:
        if not _files(source):
            raise OutputError(f"{source} is missing or empty: run the program that makes it first")
        for path in source.rglob(_VERSION):
            if path.read_text(encoding="utf-8").strip() != str(ASSETS_VERSION):
                raise OutputError(f"{path} is not of version {ASSETS_VERSION}: make the folder anew")
    places = {package / place for group in GROUPS.values() for place in group.values()}
    unchanged = sum(_bytes(place) for place in places - set(folders.values()))
    total = unchanged + sum(_bytes(source) for source in folders)
    if total > largest:
        raise OutputError(f"weights and splits would have {total:,} bytes; at most {largest:,} are shipped")
    for source, place in folders.items():
        _copy(source, place)
        log.info("%s: %s bytes", place.relative_to(package), f"{_bytes(place):,}")
    total = sum(_bytes(place) for place in places)
    log.info("weights and splits together: %s of at most %s bytes", f"{total:,}", f"{largest:,}")
    return total


def _copy(source: Path, place: Path) -> None:
    aside, before = place.with_name(f".{place.name}.new"), place.with_name(f".{place.name}.old")
    for left_by_a_kill in (aside, before):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    shutil.copytree(source, aside)
    for config in aside.rglob("*.json"):
        _strip(config)
    (aside / _VERSION).write_text(f"{ASSETS_VERSION}\n", encoding="utf-8")
    if place.exists():
        place.rename(before)
    aside.rename(place)
    shutil.rmtree(before, ignore_errors=True)


def _strip(path: Path) -> None:
    """Takes the paths of the machine that trained it out of a model's config."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(document, dict) and any(name in document for name in _MACHINE_S_OWN):
        kept = {name: value for name, value in document.items() if name not in _MACHINE_S_OWN}
        path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def _groups(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(GROUPS):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: {', '.join(GROUPS)}")
    return names


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="work folder of the training programs")
    parser.add_argument("--only", type=_groups, default=list(GROUPS), help=f"some of {','.join(GROUPS)}")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    ship(arguments.out, PACKAGE, arguments.only)
