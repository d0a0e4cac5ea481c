"""Things in a folder that are no plain files: links, pipes, folders with names of images."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.mutations.inputs import ACCEPTED, Oddity, kind
from tests.mutations.pictures import mask_png, plain

CANARY_PICTURE = "kept.jpg"
"""A sound picture in the canary's folder, for links to point to."""


def _image(folder: Path, name: str) -> None:
    (folder / f"{name}.jpg").write_bytes(plain("JPEG"))


def _mask(folder: Path, name: str) -> None:
    (folder / f"{name}.mask.png").write_bytes(mask_png())


def _linked(folder: Path, name: str, canary: Path) -> None:
    (folder / f"{name}.jpg").symlink_to(canary / CANARY_PICTURE)
    _mask(folder, name)


def _hard_linked(folder: Path, name: str, canary: Path) -> None:
    os.link(canary / CANARY_PICTURE, folder / f"{name}.jpg")
    _mask(folder, name)


def _broken_link(folder: Path, name: str, canary: Path) -> None:
    (folder / f"{name}.jpg").symlink_to(canary / "not there")


def _loop(folder: Path, name: str, canary: Path) -> None:
    (folder / f"{name}.jpg").symlink_to(f"{name}.jpg")


def _linked_folder(folder: Path, name: str, canary: Path) -> None:
    (folder / f"{name}.jpg").symlink_to(canary)


def _linked_up(folder: Path, name: str, canary: Path) -> None:
    (folder / name).symlink_to("..")


def _pipe(folder: Path, name: str, canary: Path) -> None:
    os.mkfifo(folder / f"{name}.jpg")


def _device(folder: Path, name: str, canary: Path) -> None:
    (folder / f"{name}.jpg").symlink_to("/dev/zero")


def _folder(folder: Path, name: str, canary: Path) -> None:
    (folder / f"{name}.jpg").mkdir()


def _hidden(folder: Path, name: str, canary: Path) -> None:
    _image(folder, f".{name}")


def _not_utf8(folder: Path, name: str, canary: Path) -> None:
    _image(folder, f"{name}\udcff")


def _mask_is_a_pipe(folder: Path, name: str, canary: Path) -> None:
    _image(folder, name)
    os.mkfifo(folder / f"{name}.mask.png")


def _caption_is_a_pipe(folder: Path, name: str, canary: Path) -> None:
    _image(folder, name)
    _mask(folder, name)
    os.mkfifo(folder / f"{name}.txt")


def _caption_is_a_device(folder: Path, name: str, canary: Path) -> None:
    _image(folder, name)
    _mask(folder, name)
    (folder / f"{name}.txt").symlink_to("/dev/zero")


def _caption_is_a_folder(folder: Path, name: str, canary: Path) -> None:
    _image(folder, name)
    _mask(folder, name)
    (folder / f"{name}.txt").mkdir()


def _mask_is_a_folder(folder: Path, name: str, canary: Path) -> None:
    _image(folder, name)
    (folder / f"{name}.mask.png").mkdir()


def _caption_is_a_broken_link(folder: Path, name: str, canary: Path) -> None:
    _image(folder, name)
    _mask(folder, name)
    (folder / f"{name}.txt").symlink_to(canary / "not there")


def _mask_is_a_loop(folder: Path, name: str, canary: Path) -> None:
    _image(folder, name)
    (folder / f"{name}.mask.png").symlink_to(f"{name}.mask.png")


def _mask_is_a_link(folder: Path, name: str, canary: Path) -> None:
    _image(folder, name)
    (folder / f"{name}.mask.png").symlink_to(canary / "kept.mask.png")


def _too_large(folder: Path, name: str, canary: Path) -> None:
    """Takes no space: a hole."""
    _mask(folder, name)
    with (folder / f"{name}.jpg").open("wb") as file:
        file.truncate(300 << 20)


def _longest_name(folder: Path, name: str, canary: Path) -> None:
    """255 bytes: what could lie beside it cannot have a name."""
    _image(folder, name.ljust(251, "x"))


def _chained(folder: Path, name: str, canary: Path) -> None:
    _image(folder, f"{name}::inner")


def _mask_shouts(folder: Path, name: str, canary: Path) -> None:
    _image(folder, name)
    (folder / f"{name}.MASK.PNG").write_bytes(mask_png())


NO_MASK = frozenset({"no_mask"})
ODDITIES = [
    (_linked, {"mask": 1}, ACCEPTED),
    (_hard_linked, {"mask": 1}, ACCEPTED),
    (_broken_link, {"broken_link": 1}, None),
    (_loop, {"broken_link": 1}, None),
    (_linked_folder, {"linked_folder": 1}, None),
    (_linked_up, {"linked_folder": 1}, None),
    (_pipe, {"not_a_file": 1}, None),
    (_device, {"not_a_file": 1}, None),
    (_folder, {}, None),
    (_hidden, {"hidden": 1}, None),
    (_not_utf8, {"name_not_utf8": 1}, None),
    (_mask_is_a_pipe, {"not_a_file": 1}, NO_MASK),
    (_caption_is_a_pipe, {"mask": 1, "not_a_file": 1}, ACCEPTED),
    (_caption_is_a_device, {"mask": 1, "not_a_file": 1}, ACCEPTED),
    (_caption_is_a_folder, {"mask": 1}, ACCEPTED),
    (_mask_is_a_folder, {}, NO_MASK),
    (_caption_is_a_broken_link, {"mask": 1, "broken_link": 1}, ACCEPTED),
    (_mask_is_a_loop, {"broken_link": 1}, NO_MASK),
    (_mask_is_a_link, {"mask": 1}, ACCEPTED),
    (_too_large, {"mask": 1}, frozenset({"too_many_bytes"})),
    (_longest_name, {}, NO_MASK),
    (_chained, {"name_with_colons": 1}, None),
    (_mask_shouts, {"mask": 1}, ACCEPTED),
]


@kind("folder: links, pipes, folders, hidden files", 3 * len(ODDITIES))
def _oddity(number: int, rng: random.Random) -> Oddity:
    make, skipped, ends = ODDITIES[number // 3]
    return Oddity("folder: links, pipes, folders, hidden files", make, skipped, ends)
