"""Curves of a training for TensorBoard: `tensorboard/` in its output."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from types import TracebackType

from tensorboardX import SummaryWriter

from factory.store.storage import Storage
from train.hooks import Report

FOLDER = "tensorboard"


class Curves:
    """Writes loss, rate, speed and the best validation of every step; a context manager.

    Steps past the checkpoint that a training goes on from are hidden by TensorBoard when they come again.

    Args:
        storage: the output. On a disk the curves can be watched live; to a store they are copied at every checkpoint.
        start: steps that were done before.
    """

    def __init__(self, storage: Storage, start: int) -> None:
        self._storage = storage
        self._aside = None if storage.local else tempfile.TemporaryDirectory()
        folder = str(storage.local / FOLDER) if storage.local else str(self._aside and self._aside.name)
        # The names of two files of one second would be the same without a suffix.
        suffix = f".{uuid.uuid4().hex[:8]}"
        self._writer = SummaryWriter(folder, purge_step=start + 1, flush_secs=10, filename_suffix=suffix)

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if kind is None:
            self.copy()
        if self._aside is not None:
            self._aside.cleanup()

    def add(self, report: Report) -> None:
        """Add the figures of a step."""
        for name, value in report.figures.items():
            self._writer.add_scalar(name, value, report.step)

    def copy(self) -> None:
        """Copy the curves to a store."""
        if self._aside is None:
            return
        self._writer.flush()
        for file in Path(self._aside.name).iterdir():
            self._storage.replace(f"{FOLDER}/{file.name}", file.read_bytes())
