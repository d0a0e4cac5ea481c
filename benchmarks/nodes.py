"""A cluster of several Ray nodes on this machine, whose nodes can be killed and added."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


class Nodes:
    """Nodes of Ray on this machine; the head has no CPUs.

    Args:
        count: nodes besides the head.
        cpus: of each of them.
    """

    def __init__(self, count: int, cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": 200_000_000},
        )
        self.cpus = cpus
        self.workers: list[Any] = []
        for _ in range(count):
            self.add()

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def pids(self, stage: Sequence[str]) -> list[int]:
        """Processes of the actors of these stages."""
        raylets = {str(_raylet(node)) for node in self.workers}
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                title = (path / "cmdline").read_bytes().decode(errors="replace")
                parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if parent in raylets and any(f"MapBatches({name})" in title for name in stage):
                found.append(int(path.name))
        return found

    def add(self) -> None:
        """Start another node."""
        self.workers.append(self.cluster.add_node(num_cpus=self.cpus, object_store_memory=200_000_000))

    def kill_raylet(self, number: int) -> None:
        """End a node by SIGKILL to its raylet; its workers end once they notice."""
        node = self.workers.pop(number)
        psutil.Process(_raylet(node)).kill()
        self.cluster.remove_node(node, allow_graceful=False)

    def lose(self, number: int) -> None:
        """End a node by SIGKILL to its raylet and to everything that runs on it."""
        raylet = psutil.Process(_raylet(self.workers[number]))
        # The raylet first: it cannot report the others' end.
        for process in [raylet, *raylet.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.cluster.remove_node(self.workers.pop(number), allow_graceful=False)

    def close(self) -> None:
        self.cluster.shutdown()


@contextmanager
def cluster(count: int = 2, cpus: int = 2) -> Iterator[Nodes]:
    """Nodes for the length of a `with`, see `Nodes`."""
    nodes = Nodes(count, cpus)
    try:
        yield nodes
    finally:
        nodes.close()


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)
