"""Settings that fix the order of floating-point sums, which otherwise varies between machines and runs."""

from __future__ import annotations

import torch


def fix_arithmetic(threads: int) -> None:
    """Sets a fixed number of CPU threads and cuDNN's deterministic algorithms, whatever the machine's load or size.

    Convolutions in float32 keep torch's own setting, which on a GPU is TF32.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
