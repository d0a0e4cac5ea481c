"""The threshold that came with a trained segmenter: chosen on the validation images of its training. No torch here."""

from __future__ import annotations

from actors.errors import ModelError
from actors.models import open_folder

METRICS = "metrics.json"
"""The file with the figures of a training, in the folder of its model."""


def own_threshold(checkpoint: str, revision: str | None = None, *, setting: str) -> float:
    """Probability from which a pixel is an artifact, as the training of a checkpoint chose it.

    Args:
        checkpoint: a shipped name, a folder, or a hub id in the local cache.
        revision: of a hub id.
        setting: that names a threshold instead, for messages.

    Raises:
        ModelError: there is no such checkpoint, or it has no valid threshold.
    """
    folder = open_folder(checkpoint, revision, config="config.json")
    advice = f"set {setting} to the probability from which a pixel is an artifact"
    path = folder.path / METRICS
    if not path.exists() and not path.is_symlink():
        raise ModelError(f"{checkpoint} has no threshold of its own, since it has no {METRICS}: {advice}")
    found = folder.config(METRICS).get("threshold")
    if found is None:
        raise folder.error(path, "has no threshold: it was trained without a validation", advice)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < 1:
        raise folder.error(path, f"has the threshold {found!r}; it is above 0 and below 1", advice)
    return float(found)
