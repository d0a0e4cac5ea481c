"""A Ray for all builds: starting one for every small build would take longer than the builds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "COLUMNS": "160",
}
"""Of the commands and of Ray's workers."""

STARTS = 5
"""Starts at most: on a busy machine Ray gives up after 30 seconds."""


@contextmanager
def ray_cluster(cpus: int) -> Iterator[str]:
    """The address of a Ray cluster on this machine, which ends with the context.

    Args:
        cpus: of Ray's accounting; more than the machine has are allowed.
    """
    import ray

    os.environ.update(ENVIRONMENT)
    for start in range(1, STARTS + 1):
        try:
            ray.init(
                "local", num_cpus=cpus, include_dashboard=False, logging_level="error", log_to_driver=False
            )
            break
        except Exception:  # Ray raises many kinds where it was too slow; the last one is raised
            ray.shutdown()
            if start == STARTS:
                raise
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()
