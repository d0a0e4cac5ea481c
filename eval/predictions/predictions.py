"""The score maps of a detector, found by the key of their image: ours, or those of any other program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Literal

import numpy as np

from actors.errors import EvaluationError, Reject
from eval.predictions.listing import Place, maps_below
from eval.predictions.own_output import maps_of_output, output_at
from eval.predictions.score_map import EXTENSIONS, MASK, Scores, decode_scores, resized

Missing = Literal["error", "zero", "skip"]
"""What to do with an image that has no map: refuse the evaluation, score it 0 everywhere, or leave it out."""

Resize = Literal["bilinear"]
"""How maps of another size than their image are brought to its size."""

_MOST_NAMED = 5


class Predictions:
    """Score maps of images.

    The maps are listed once, and each is read when its image comes, so that they may lie in any order. Memory holds
    the key and the place of every map, about 300 bytes each.

    Args:
        urls: tars, folders or globs at any fsspec URL, see `eval.predictions.listing.maps_below`; or outputs of
            `flawforge predict`, whose maps go by the names that the images have in their source.
        missing: what to do with an image that has no map.
        resize: how to treat maps of another size than their image; None refuses them.

    Attributes:
        places: of all maps that were found, by key.
        missing: number of images without a map so far.
        masks: number of maps so far that are masks, with the scores 0 and 1 only.
        largest: of all scores so far.

    Raises:
        EvaluationError: two maps have the same key.
        SourceError: there are no maps, or a tar is damaged.
    """

    def __init__(
        self, urls: Sequence[str], *, missing: Missing = "error", resize: Resize | None = None
    ) -> None:
        self.missing = self.masks = 0
        self.largest = 0.0
        self._if_missing, self._resize = missing, resize
        self.places: dict[str, Place] = {}
        self._used = set[str]()
        self._first_missing: list[str] = []
        for key, place in _maps(urls):
            if (other := self.places.setdefault(key, place)) is not place:
                raise EvaluationError(
                    f"{other} and {place} are both a map of {key!r}; leave one out, or give their images other keys"
                )

    def anew(self) -> Predictions:
        """The same maps, none of them used yet."""
        other = copy(self)
        other.missing = other.masks = 0
        other.largest = 0.0
        other._used, other._first_missing = set(), []
        return other

    @property
    def maps(self) -> int:
        return len(self.places)

    @property
    def unused(self) -> int:
        """Number of maps whose image has not come."""
        return len(self.places) - len(self._used)

    def unused_keys(self) -> Iterator[str]:
        """Keys of the maps whose image has not come."""
        return (key for key in self.places if key not in self._used)

    def scores_for(self, key: str, size: tuple[int, int], where: str) -> Scores | None:
        """The scores of an image.

        Args:
            key: of the image in its tar or folder.
            size: height and width of the image.
            where: the image, for messages.

        Returns:
            float32 [H, W], 0 to 1; None for an image without a map, which `missing` does not set to zero: it is to be
            left out, and `check` raises at the end if that is an error.

        Raises:
            EvaluationError: the map is damaged, of another size, or has scores that are not from 0 to 1; another image
                had the same key.
            SourceError, OSError: the map cannot be read.
        """
        place = self.places.get(key)
        if place is None:
            self.missing += 1
            if len(self._first_missing) < _MOST_NAMED:
                self._first_missing.append(where)
            return np.zeros(size, np.float32) if self._if_missing == "zero" else None
        if key in self._used:
            raise EvaluationError(
                f"{where}: another image has the key {key!r} too, and {place} can be the map of one of them only"
            )
        self._used.add(key)
        try:
            scores = decode_scores(place.read(), place.extension)
        except Reject as why:
            raise EvaluationError(f"{place}: {why.detail}") from why
        self.masks += EXTENSIONS.get(place.extension) == MASK
        if scores.shape != size:
            scores = self._fitted(scores, size, where, place)
        self.largest = max(self.largest, float(scores.max()))
        return scores

    def check(self) -> None:
        """Call it after the last image.

        Raises:
            EvaluationError: an image had no map, and `missing` is `error`; or no image had one, and it is `skip`.
        """
        if self.missing and not self._used and self._if_missing == "skip":
            raise EvaluationError(
                f"none of the {self.missing:,} images has a map{self._elsewhere()}; the keys of maps and images "
                "must be the same"
            )
        if self.missing and self._if_missing == "error":
            more = self.missing - len(self._first_missing)
            raise EvaluationError(
                f"{self.missing:,} images have no map: {'; '.join(self._first_missing)}"
                f"{f'; and {more:,} more' if more else ''}{self._elsewhere()}. Maps are found by the keys of "
                "the images; add the missing ones, or set missing to zero (nothing is marked there) or to skip (these "
                "images are left out)"
            )

    def notes(self) -> list[str]:
        """What is needed to interpret figures that rest on these maps, after the last image."""
        notes = []
        if self.missing:
            done = "scored 0 everywhere" if self._if_missing == "zero" else "left out"
            notes.append(f"{self.missing:,} images have no map and are {done}")
        if self.unused:
            notes.append(
                f"{self.unused:,} of {self.maps:,} maps belong to none of the images{self._elsewhere()}"
            )
        if self.masks:
            notes.append(
                f"{self.masks:,} maps are masks: their scores are 0 and 1, so figures without a threshold say little"
            )
        elif self._used and self.largest * 255 < 1.001:
            notes.append(
                f"the largest of all scores is {self.largest:.2g}: are these masks, stored with the levels 0 and 1? "
                "Name those KEY.mask.png"
            )
        return notes

    def _elsewhere(self) -> str:
        """Examples of maps without an image, which show how keys differ."""
        others = [key for key, _ in zip(self.unused_keys(), range(_MOST_NAMED), strict=False)]
        return f"; maps without an image: {', '.join(others)}" if others else ""

    def _fitted(self, scores: Scores, size: tuple[int, int], where: str, place: Place) -> Scores:
        if self._resize is None:
            raise EvaluationError(
                f"{where}: the map {place} is {scores.shape[1]} x {scores.shape[0]} pixels, the image {size[1]} x "
                f"{size[0]}; make maps of the images' sizes, or set resize to bilinear"
            )
        return resized(scores, size)


def _maps(urls: Sequence[str]) -> Iterator[tuple[str, Place]]:
    for url in urls:
        output = output_at(url)
        yield from maps_below(url) if output is None else maps_of_output(output)
