"""What a forgery is, and the catalogue that forgeries enter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from factory.store.storage import Storage


@dataclass(frozen=True)
class Forgery:
    """A way to forge an output.

    Attributes:
        name: of it.
        make: changes a sound output; see `tests.factory.maintain.forger.sound_output`.
        where: how the place begins in one of the problems that `verify` must find.
        what: words of that problem.
        documented: for what cannot be known, words of docs/looking-after.md that say so; `verify` finds nothing.
    """

    name: str
    make: Callable[[Storage], None]
    where: str = ""
    what: str = ""
    documented: str = ""


FORGERIES: list[Forgery] = []


def forged(where: str, what: str, *, documented: str = "") -> Callable[[Callable[[Storage], None]], None]:
    """Enters a forgery in the catalogue."""

    def entered(make: Callable[[Storage], None]) -> None:
        FORGERIES.append(Forgery(make.__name__, make, where, what, documented))

    return entered


def unknowable(documented: str) -> Callable[[Callable[[Storage], None]], None]:
    return forged("", "", documented=documented)
