"""Files beside an image: those of its stem with a given extension, in small letters or capitals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from factory.store.remote import Info

Beside = Callable[[str, str], Sequence[Info]]
"""The files in a folder with a stem and an extension, as the store reports them; the case of the extension is ignored.

The stem is matched exactly. Of several files, the one with the extension as requested comes first, then the others in
the order of their names, so that capitals come before small letters.
"""


def listed(folder: Mapping[str, Info], resolved: Callable[[Info], Info | None]) -> Beside:
    """For a folder that was listed.

    Args:
        folder: its entries by name.
        resolved: an entry as a look-up of the file would give it; None where there is no such file.
    """
    others: dict[str, list[str]] = {}
    """Names that are not all in small letters, by their small letters."""

    def beside(stem: str, extension: str) -> list[Info]:
        if not others:
            others[""] = []
            for name in sorted(folder):
                if name != name.lower():
                    others.setdefault(name.lower(), []).append(name)
        spelled = f"{stem}.{extension}"
        names = [spelled, *others.get(spelled.lower(), ()), f"{stem}.{extension.lower()}"]
        right = dict.fromkeys(name for name in names if name in folder and name.startswith(f"{stem}."))
        return [info for name in right if (info := resolved(folder[name])) is not None]

    return beside


def looked_up(look: Callable[[str], Info | None]) -> Beside:
    """For a folder that cannot be listed: the first that exists of `txt` as requested, `TXT`, `Txt`, and `txt`.

    Args:
        look: looks a name up in the folder; None if it does not exist.
    """

    def beside(stem: str, extension: str) -> list[Info]:
        spellings = dict.fromkeys([extension, extension.upper(), extension.title(), extension.lower()])
        found = (look(f"{stem}.{spelled}") for spelled in spellings)
        return next(([info] for info in found if info is not None), [])

    return beside
