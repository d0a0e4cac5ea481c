"""What the order of a sum depends on, beside the batch's shape."""

from __future__ import annotations

import torch


def fix_arithmetic(threads: int) -> None:
    """Leaves nothing to the machine's load or size: so many CPU threads, and cuDNN's deterministic algorithms.

    Convolutions in float32 keep torch's own setting, which on a GPU is TF32.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
