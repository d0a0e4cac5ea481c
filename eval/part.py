"""Part of an evaluation: the images of some tars, scored and counted. Parts add up to the whole set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from actors.masks import MaskReading
from eval.image_rows import counted_row
from eval.labelled import LabelledSample, stream_tar
from eval.scoring import Scorer, ScoreSource
from eval.streaming import StreamedEvaluation, batches

PER_TAR = 1 << 32
"""Numbers of images that are reserved for a tar, so that any worker can number the images of its own tars."""

_DIGEST_BITS = 256


@dataclass(frozen=True)
class Job:
    """What is evaluated on which thresholds.

    Attributes:
        source: of the scores.
        tars: URLs, in the order that numbers their images.
        thresholds: at which pixels are counted.
        reading: how masks are read.
        rows: whether a row for every image is collected.
    """

    source: ScoreSource
    tars: tuple[str, ...]
    thresholds: tuple[float, ...]
    reading: MaskReading
    rows: bool = False


class Part:
    """The images of some tars of a job.

    Attributes:
        streamed: their counts.
        rows: one for each image in the schema `eval.image_rows.COUNTED`; whoever stores them elsewhere may take them.
        notes: of the source of the scores.
    """

    def __init__(self, thresholds: Sequence[float]) -> None:
        self.streamed = StreamedEvaluation(thresholds)
        self.rows: list[dict[str, object]] = []
        self.notes: list[str] = []
        self._digest = 0

    @property
    def digest(self) -> str:
        """Of keys, images, masks, objects and JSON files, by their places in the set: 16 hexadecimal digits.

        A sum, so that parts add up in any order. It detects changes, not forgery.
        """
        whole = self._digest.to_bytes(_DIGEST_BITS // 8, "big")
        return hashlib.sha256(whole).hexdigest()[:16]

    def add_tar(self, tar: int, job: Job, score: Scorer) -> None:
        """Scores and counts the images of one tar, in batches of one image size.

        Args:
            tar: its place in the job.
            job: its thresholds are those of this part.
            score: of the opened source of the job.

        Raises:
            EvaluationError, SourceError: data that cannot be read, or scores that do not fit.
        """
        samples = (sample for _, sample in stream_tar(job.tars[tar], reading=job.reading))
        for batch in batches(samples, job.source.batch_size):
            scores = score([sample for _, sample in batch])
            for (place, sample), one in zip(batch, scores, strict=True):
                if one is None:
                    continue
                number = tar * PER_TAR + place
                counted = self.streamed.add(
                    number,
                    sample.mask,
                    one,
                    where=sample.where,
                    objects=sample.objects,
                    artifact_score=sample.artifact_score,
                )
                self._add_digest(number, sample)
                if job.rows:
                    self.rows.append(counted_row(number, sample, counted))

    def merge(self, other: Part) -> None:
        """Add other tars of the same job; their rows are appended."""
        self.streamed.merge(other.streamed)
        self.rows += other.rows
        self._digest = (self._digest + other._digest) % (1 << _DIGEST_BITS)

    def _add_digest(self, number: int, sample: LabelledSample) -> None:
        one = hashlib.sha256(f"{number} {sample.digest.hex()}".encode()).digest()
        self._digest = (self._digest + int.from_bytes(one, "big")) % (1 << _DIGEST_BITS)
