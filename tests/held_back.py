"""Flawforge with builds that cannot end before the test allows it, so that a test may kill or watch them at leisure.

`python -m tests.held_back GATE SHARD build ...` is `flawforge build ...`, except that the shard is loaded only when the
file GATE exists.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial


def hold_back(gate: str, shard: int) -> Callable[[], None]:
    """A hook for Ray's workers; a closure, since workers cannot import the tests."""

    def hook() -> None:
        import time
        from pathlib import Path

        from factory.pipeline import stages

        load = stages.Load.__call__

        def held_back(self, table):
            while table["shard"][0].as_py() == shard and not Path(gate).exists():
                time.sleep(0.05)
            return load(self, table)

        stages.Load.__call__ = held_back

    return hook


def main(gate: str, shard: str, *command: str) -> None:
    import ray

    from flawforge import cli

    hook = hold_back(gate, int(shard))
    ray.init = partial(ray.init, runtime_env={"worker_process_setup_hook": hook})
    sys.argv = ["flawforge", *command]
    cli.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
