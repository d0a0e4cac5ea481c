"""The errors of Flawforge. A message states what was wrong, where, and what to do, and holds no secret of a URL."""

from __future__ import annotations

from actors.redaction import scrub

LONGEST_DETAIL = 2_000
"""Characters of a reject's sentence; what lies beyond comes from outside."""


class FlawforgeError(Exception):
    """Anything that a user can mend; the command line prints the message without a traceback."""

    def __init__(self, *words: object) -> None:
        super().__init__(*(scrub(word) if isinstance(word, str) else word for word in words))


class RecipeError(FlawforgeError):
    """A recipe, or a value given with `--set`, is wrong; the message lists every mistake."""


class SourceError(FlawforgeError):
    """A source cannot be listed or read at all (a single bad item is a `Reject` instead)."""


class ArchivedError(SourceError):
    """An object of a store is archived, and must be restored before it can be read."""


class NoBucketError(SourceError):
    """A store has no such bucket, or the hub no such repository."""


class TooManyBytesError(SourceError):
    """A web server's answer has more bytes than were requested, or than the limit allows."""


class EncodedAnswerError(SourceError):
    """A web server's answer is compressed, though the request forbids it: what it decompresses to has no bound."""


class ModelError(FlawforgeError):
    """Model weights are missing, unsafe, or do not fit the recipe."""


class OutputError(FlawforgeError):
    """An output folder belongs to another recipe, cannot be written, or is damaged."""


class BuildError(FlawforgeError):
    """A run stopped before its plan was done."""


class LockLostError(BuildError):
    """Another run took the output over; this one must no longer write or delete anything in it."""


class WorkersEndError(BuildError):
    """Worker processes end whatever they work on: a matter of the machines, not of an item."""


class WorkerError(FlawforgeError):
    """A worker has other weights, code, package versions or hardware than its run allows; trying again is no help."""


class EvaluationError(FlawforgeError):
    """Data or scores cannot be evaluated."""


class TrainingError(FlawforgeError):
    """Training data, or a checkpoint, cannot be trained on."""


class BadSample(TrainingError):
    """One sample of a training data set cannot be learned from; a recipe may count such samples and go on.

    Args:
        reason: a short name for counting, such as `missing_mask`.
        detail: the message, with shard and key.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = self.args

    def __str__(self) -> str:
        return str(self.detail)


class ArgumentError(FlawforgeError, ValueError):
    """An argument of the Python API has a value that is not allowed.

    Args:
        argument: its name.
        text: what is wrong with it, and what is allowed.
    """

    def __init__(self, argument: str, text: str) -> None:
        super().__init__(argument, text)
        self.argument, self.text = self.args

    def __str__(self) -> str:
        return f"{self.argument}: {self.text}"


class RejectedError(FlawforgeError):
    """A single image was rejected, for one of the reasons for which a build rejects an item.

    Args:
        reason: the short name that the index of an output has for it, such as `unchanged`.
        detail: a sentence for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = self.args

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class Reject(Exception):
    """One item cannot become a sample, for a reason that is a property of the item.

    Transient errors (time-outs, full disks, lost machines) are never a `Reject`: the shard is made again.

    Args:
        reason: a short name for counting and filtering, such as `too_small`.
        detail: a sentence for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        detail = scrub(detail[: 10 * LONGEST_DETAIL])
        if len(detail) > LONGEST_DETAIL:
            detail = f"{detail[:LONGEST_DETAIL]}..."
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[Reject], tuple[str, str]]:
        """Workers hand errors over as their arguments; the default would keep the sentence alone."""
        return Reject, (self.reason, self.detail)
