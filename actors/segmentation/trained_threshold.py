"""The threshold that a training chose for its model, from the folder of the model."""

from __future__ import annotations

from actors.models import open_folder

FILE = "metrics.json"
"""What `flawforge train` writes beside the weights; see `train.trained`."""


def trained_threshold(checkpoint: str, revision: str | None = None) -> float | None:
    """The probability from which a pixel is an artifact, chosen on a validation split.

    Args:
        checkpoint: a shipped name, a folder, or a hub id in the local cache.
        revision: of a hub id.

    Returns:
        None where the folder has none: the model was trained without a validation, or by another program.

    Raises:
        ModelError: there is no such folder, its file of figures is damaged, or the threshold is none.
    """
    folder = open_folder(checkpoint, revision, config="config.json")
    if not (folder.path / FILE).exists():
        return None
    value = folder.config(FILE).get("threshold")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise folder.error(
            folder.path / FILE,
            f"has the threshold {value!r}, and not a number between 0 and 1",
            "correct it, or set detector.threshold",
        )
    return float(value)
