"""Score maps that exist already, as the scores of an evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

from actors.redaction import redact
from eval.predictions.own_output import threshold_of
from eval.predictions.predictions import Missing, Predictions, Resize
from eval.scoring import ScoresByKey


class MapScores:
    """Score maps as an `eval.scoring.ScoreSource`.

    Args:
        urls, missing, resize: see `Predictions`. The maps are listed when they are first needed.
    """

    batch_size = 1
    any_image = False

    def __init__(
        self, urls: Sequence[str], *, missing: Missing = "error", resize: Resize | None = None
    ) -> None:
        self.urls, self._missing, self._resize = tuple(urls), missing, resize

    @cached_property
    def maps(self) -> Predictions:
        """The listed maps; errors are those of `Predictions`."""
        return Predictions(self.urls, missing=self._missing, resize=self._resize)

    @property
    def name(self) -> str:
        return " ".join(map(redact, self.urls))

    @property
    def threshold(self) -> float | None:
        """That of the masks of outputs of `flawforge predict`; None for other maps, or if outputs differ in it."""
        found = {threshold_of(url) for url in self.urls}
        return found.pop() if len(found) == 1 else None

    def fingerprint(self) -> str:
        """`maps@` and a digest of keys, names and sizes of all maps; their content is not read for it."""
        total = hashlib.sha256()
        for key, place in sorted(self.maps.places.items()):
            total.update(f"{key}\0{place.name or place.extension}\0{place.size}\n".encode())
        return f"maps@{total.hexdigest()[:16]}"

    def portable(self) -> MapScores:
        return self

    def open(self) -> ScoresByKey:
        return ScoresByKey(self.maps.anew())
