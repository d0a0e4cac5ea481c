"""An evaluation on a pool of scorers of a Ray cluster: one tar at a time on each, the parts merged here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.util.annotations import RayDeprecationWarning

from actors.arithmetic import fix_arithmetic
from eval.part import Job, Part
from factory.pipeline.cluster import check_resources, connect
from factory.pipeline.pipeline import errors_explained, pool_options, quieten
from factory.recipe.sections import Pool

_Batch = dict[str, NDArray[np.generic]]


def parts_on_ray(job: Job, *, workers: int | None, gpu: bool, address: str) -> Iterator[Part]:
    """Evaluate the tars of a job on a cluster; every worker must be able to read tars and checkpoint.

    A scorer on CPUs has as many threads as torch has in this process, if every node has as many CPUs: the last digits
    of a score depend on the number of threads, and so the figures are exactly those of this process.

    Args:
        job: its source must be portable.
        workers: scorers in the pool; None takes from one up to all that the cluster has room for.
        gpu: each scorer has a GPU.
        address: as for `connect`.

    Returns:
        The parts, one for each tar, in the order of the tars: what is merged from them does not depend on the cluster.

    Raises:
        BuildError: there is no such cluster, it is too small, or a worker failed.
        FlawforgeError: what a worker raised for the user.
    """
    connect(address)
    threads = 1 if gpu else _threads()
    room = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0)) // threads
    pool = Pool(cpus=threads, gpus=float(gpu), smallest=workers or 1, largest=workers or max(1, room))
    check_resources({"score": pool}, section="workers")
    quieten()
    with warnings.catch_warnings():
        # Until 2.64 Ray has no other place for the bounds on restarts; the version is pinned below that.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        tars = ray.data.from_items(
            [{"tar": tar} for tar in range(len(job.tars))], override_num_blocks=len(job.tars)
        )
        tars.context.execution_options.preserve_order = True
        options = pool_options(pool, len(job.tars)) | {"batch_format": "numpy"}
        parts = tars.map_batches(ScoreTars, fn_constructor_args=(job, threads), **options)
    with errors_explained():
        for batch in parts.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
            yield from batch["part"]


def _threads() -> int:
    """Those of torch in this process, at most the CPUs of the smallest node that has any."""
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return max(1, min([torch.get_num_threads(), *(cpus for cpus in nodes if cpus)]))


class ScoreTars:
    """A scorer: opens the source of a job once, then evaluates tars.

    Args:
        job: what is evaluated.
        threads: CPU threads of torch.
    """

    def __init__(self, job: Job, threads: int) -> None:
        fix_arithmetic(threads)
        self.job = job
        self.score = job.source.open()

    def __call__(self, batch: _Batch) -> _Batch:
        """A batch with the column `tar` gives one with the column `part`, of objects."""
        parts = np.empty(len(batch["tar"]), object)
        for place, tar in enumerate(batch["tar"]):
            parts[place] = Part(self.job.thresholds)
            parts[place].add_tar(int(tar), self.job, self.score)
        return {"part": parts}
