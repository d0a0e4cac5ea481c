"""Which file of a folder an annotated image is. Names come from outside: they select among files that were listed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from eval.imports.folder import ImageFile

Names = Literal["path", "tail"]


def is_path(name: str) -> bool:
    """Whether a name is a path below a folder: not absolute, no URL, without `..`."""
    parts = _parts(name)
    return not (_slashes(name).startswith("/") or ":" in parts[0] or ".." in parts)


def candidates(names: Iterable[str], files: Iterable[ImageFile], by: Names) -> list[list[ImageFile]]:
    """The files that each name may mean; one where it is clear.

    Args:
        names: as a JSON has them; `\\` counts as `/`.
        files: of the folder.
        by: `path`: the name is the path of the file in the folder. `tail`: of the files whose names are its last part,
            those that have most of its last parts, so that folders which are not in the export do not matter.
    """
    by_path: dict[str, ImageFile] = {}
    by_name: dict[str, list[ImageFile]] = defaultdict(list)
    for file in files:
        by_path[file.path] = file
        by_name[file.path.rpartition("/")[2]].append(file)
    if by == "path":
        paths = ("/".join(_parts(name)) if is_path(name) else "" for name in names)
        return [[by_path[path]] if path in by_path else [] for path in paths]
    return [_nearest(_parts(name), by_name) for name in names]


def shared(found: Sequence[Sequence[ImageFile]]) -> set[str]:
    """URLs of files that several names may mean."""
    uses = Counter(file.url for files in found for file in files)
    return {url for url, count in uses.items() if count > 1}


def _nearest(parts: Sequence[str], by_name: dict[str, list[ImageFile]]) -> list[ImageFile]:
    files = by_name.get(parts[-1], [])
    agreeing = [_common(parts, _parts(file.path)) for file in files]
    return [file for file, count in zip(files, agreeing, strict=True) if count == max(agreeing)]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the last parts are equal."""
    count = 0
    for mine, yours in zip(reversed(one), reversed(other), strict=False):
        if mine != yours:
            break
        count += 1
    return count


def _parts(name: str) -> list[str]:
    """The parts of a path; `..` stays, since it makes another path."""
    return [part for part in _slashes(name).split("/") if part not in ("", ".")] or [""]


def _slashes(name: str) -> str:
    return name.replace("\\", "/")
