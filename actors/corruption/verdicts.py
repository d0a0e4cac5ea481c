"""Decides on draws: the verifier measures each, the judge marks those that pass, and the retry policy goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.batch import JUDGED_AREA, Sample
from actors.corruption.judge import Judge
from actors.corruption.retry_policy import Draw, RetryPolicy
from actors.corruption.round_trip import Inverted
from actors.corruption.verifier import Verifier, difference
from actors.diffusion.memory import memory_errors_explained
from actors.errors import Reject
from actors.finite import not_finite
from actors.images import encode_image, encode_mask, read_mask
from actors.stage_names import StageName

Marks = NDArray[np.bool_]
"""What the judge marks in an image, [H, W]."""


@dataclass(frozen=True)
class Case:
    """A sample at work.

    Attributes:
        sample: it.
        inverted: its row of an inversion.
        baselines: uint8 [H, W, 3] by k.
        finite: whether z_0 and the latents of the first k are, bool [2] on the model's device, so that inversion need
            not wait for it.
        marks: of the judge in its baselines, by k.
    """

    sample: Sample
    inverted: Inverted
    baselines: dict[int, NDArray[np.uint8]]
    finite: Tensor
    marks: dict[int, Marks] = field(default_factory=dict)

    def finish(self) -> None:
        """Frees what only further draws need."""
        self.baselines.clear()
        self.marks.clear()


@dataclass(frozen=True)
class _Measured:
    """A draw that the verifier has measured: what changed, and why it is refused, if it is."""

    place: int
    case: Case
    draw: Draw
    image: NDArray[np.uint8]
    changed: NDArray[np.bool_]
    metrics: dict[str, float]
    why: Reject | None


class Verdicts:
    """The verdicts on the draws of a round.

    Args:
        verifier: measures what changed.
        retries: which draw follows a refused one.
        judge: that of `verifier.config.judge`, if it names one.
        threads: do everything but the judge's network, which runs on the calling thread.
        device: of the judge, for messages.
        one_baseline: whether the baseline is the same at every k.
        seed: of a draw of a sample.
        count: called whenever a sample is finished.
    """

    def __init__(
        self,
        verifier: Verifier,
        retries: RetryPolicy,
        judge: Judge | None,
        threads: Executor,
        *,
        device: torch.device,
        one_baseline: bool,
        seed: Callable[[Sample, Draw], int],
        count: Callable[[], None],
    ) -> None:
        self.verifier = verifier
        self.retries = retries
        self.judge = judge
        self._threads = threads
        self._device = device
        self._one_baseline = one_baseline
        self._seed = seed
        self._count = count
        self._keep_failures = verifier.config.on_failure == "keep"
        self._measured: list[Future[_Measured]] = []
        self._settled: dict[int, Future[Draw | None]] = {}

    def add(self, place: int, case: Case, draw: Draw, image: NDArray[np.uint8]) -> None:
        """Takes a draw of the sample at a place, uint8 [H, W, 3]. Its baseline exists."""
        if self.judge is None:
            self._settled[place] = self._threads.submit(self._unjudged, place, case, draw, image)
            return
        self._measured.append(self._threads.submit(self._measure, place, case, draw, image))
        if len(self._measured) >= self.judge.config.batch_size:
            self._ask(self.judge)

    def following(self) -> dict[int, Draw]:
        """The draws that follow those which were added, by place; the other samples are finished.

        Raises:
            ModelError: the judge overflows, or there is no memory for it.
        """
        if self.judge is not None and self._measured:
            self._ask(self.judge)
        found = {place: verdict.result() for place, verdict in self._settled.items()}
        self._settled = {}
        return {place: draw for place, draw in found.items() if draw is not None}

    def _unjudged(self, place: int, case: Case, draw: Draw, image: NDArray[np.uint8]) -> Draw | None:
        return self._settle(self._measure(place, case, draw, image))

    def _measure(self, place: int, case: Case, draw: Draw, image: NDArray[np.uint8]) -> _Measured:
        assert case.sample.mask is not None
        distance = difference(case.baselines[draw.steps], image)
        changed, metrics = self.verifier.measure(distance, read_mask(case.sample.mask))
        return _Measured(place, case, draw, image, changed, metrics, self.verifier.judge(metrics))

    def _ask(self, judge: Judge) -> None:
        """Has the judge mark the draws and their baselines, and settles them.

        It does not see a draw that is refused already, unless that may be kept.
        """
        measured = [one.result() for one in self._measured]
        self._measured = []
        seen = [one for one in measured if one.why is None or self._keep_failures]
        new = [one for one in seen if self._baseline(one) not in one.case.marks]
        images = [*(one.case.baselines[one.draw.steps] for one in new), *(one.image for one in seen)]
        marks = self._marks(judge, images)
        for one, before in zip(new, marks[: len(new)], strict=True):
            if before is None:
                _refuse_scores(one.case)
            else:
                one.case.marks[self._baseline(one)] = before
        after = {one.place: found for one, found in zip(seen, marks[len(new) :], strict=True)}
        for one in measured:
            if one.place in after and after[one.place] is None:
                _refuse_scores(one.case)
            if not one.case.sample.rejected:
                self._settled[one.place] = self._threads.submit(self._settle, one, after.get(one.place))

    def _marks(self, judge: Judge, images: Sequence[NDArray[np.uint8]]) -> list[Marks | None]:
        if not images:
            return []
        height, width = images[0].shape[:2]
        setting, rows = "verify.judge.batch_size", judge.config.batch_size
        with memory_errors_explained(
            "judging", self._device, setting=setting, rows=rows, size=(height, width)
        ):
            return judge.marks(images)

    def _baseline(self, one: _Measured) -> int:
        """The key of the marks in a draw's baseline."""
        return 0 if self._one_baseline else one.draw.steps

    def _settle(self, one: _Measured, after: Marks | None = None) -> Draw | None:
        """Decides on a draw, on a thread. Returns the one that follows, or finishes the sample."""
        why, sample, opinion = one.why, one.case.sample, None
        sample.metrics = one.metrics
        if self.judge is not None and after is not None:
            assert sample.mask is not None
            before, margin = one.case.marks[self._baseline(one)], self.verifier.margin
            opinion = self.judge.opinion(
                read_mask(sample.mask), one.changed, before=before, after=after, margin=margin
            )
            why = why or opinion.why
        following = None if why is None else self.retries.after(one.draw, why.reason)
        if following is not None:
            return following
        one.case.finish()
        if opinion is not None:
            sample.regions, sample.broken_regions = opinion.regions, opinion.broken
            sample.judged, sample.metrics[JUDGED_AREA] = (
                encode_mask(opinion.judged),
                float(opinion.judged.mean()),
            )
        sample.seed = self._seed(sample, one.draw)
        sample.attempts, sample.inversion_steps = one.draw.number + 1, one.draw.steps
        sample.verified = why is None
        if why is not None and not self._keep_failures:
            sample.reject(StageName.VERIFY, why)
        sample.corrupted, sample.changed = encode_image(one.image), encode_mask(one.changed)
        self._count()
        return None


def _refuse_scores(case: Case) -> None:
    case.sample.reject(StageName.VERIFY, not_finite("the judge's scores"))
    case.sample.metrics = {}  # of an earlier draw
    case.finish()
