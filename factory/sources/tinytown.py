"""The embedded world as a source: scenes rendered on demand, with the true places of their parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from actors.errors import Reject, SourceError
from actors.images import encode_image, encode_mask
from actors.seeding import seed_for
from factory.output.reference import Raw, Reference
from factory.sources.choice import Candidate, Choice
from factory.sources.tinytown_regions import KINDS, draw_region, holds_any
from tinytown.render import render
from tinytown.scene import caption, sample_scene

_SCHEME = "tinytown:"
_STAGE = "region"


class TinytownSource:
    """Scenes by their seeds, upwards from the first; those without any of the wanted parts are left out.

    Args:
        first_seed: of the first scene that may be taken.
        choice: which of the scenes are taken; without a limit they never end.
        parts: parts that regions are drawn on: `face`, `hand`, `letter`. An empty list takes every scene, without a
            region.
        run_seed: of the recipe; another one gives other regions on the same scenes.
    """

    def __init__(
        self, *, first_seed: int = 0, choice: Choice, parts: Sequence[str] = tuple(KINDS), run_seed: int
    ) -> None:
        if not set(parts) <= set(KINDS):
            raise SourceError(f"tinytown draws regions on {', '.join(KINDS)}, not on {list(parts)}")
        self.skipped: Counter[str] = Counter()
        self._first_seed = first_seed
        self._choice = choice
        self._parts = tuple(parts)
        self._run_seed = run_seed

    def list(self) -> Iterator[Reference]:
        """Streams the scenes; see `Source.list`."""
        self.skipped.clear()
        if self._choice.limit is None:
            raise SourceError("tinytown has no end: set source.limit to the number of scenes wanted")
        yield from self._choice(self._all(), self.skipped)

    def read(self, references: Sequence[Reference]) -> Iterator[tuple[Reference, Raw | Reject]]:
        """Render the scenes; none is ever rejected."""
        for reference in references:
            yield reference, self._raw(reference)

    def _all(self) -> Iterator[Candidate]:
        for seed in count(self._first_seed):
            scene = sample_scene(seed)
            if not self._parts or holds_any(scene, self._parts):
                reference = Reference(f"tinytown-{seed:09d}", f"{_SCHEME}{seed}", "", caption(scene), "")
                yield Candidate(reference)
            else:
                self.skipped["no_wanted_part"] += 1

    def _raw(self, reference: Reference) -> Raw:
        scene = sample_scene(int(reference.url.removeprefix(_SCHEME)))
        rendered = render(scene)
        if not self._parts:
            return Raw(encode_image(rendered.image), None, reference.caption)
        rng = np.random.default_rng(seed_for(self._run_seed, reference.key, _STAGE))
        region = draw_region(scene, rendered, self._parts, rng)
        return Raw(encode_image(rendered.image), encode_mask(region), reference.caption)
