"""Stages that do nothing, or sleep, put in the place of the real ones in every worker of a build."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import ray

Hook = Callable[[], None]


def connect(address: str, *hooks: Hook) -> None:
    """Joins or starts a Ray whose workers run the hooks before their first task.

    Hooks must be closures: workers cannot import the benchmarks.
    """

    def all_of_them() -> None:
        for hook in hooks:
            hook()

    local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    ray.init(
        address=address,
        logging_level="error",
        log_to_driver=False,
        runtime_env={"worker_process_setup_hook": all_of_them},
        **local,
    )


def no_model() -> Hook:
    """The image is taken for its own corruption."""

    def hook() -> None:
        from actors.batch import METRICS
        from factory.pipeline import stages

        def work(samples: list[Any]) -> list[Any]:
            for sample in samples:
                if not sample.rejected:
                    sample.corrupted, sample.changed = sample.image, sample.mask
                    sample.attempts, sample.verified, sample.metrics = 1, True, dict.fromkeys(METRICS, 0.5)
            return samples

        stages.Corrupt.make = lambda self: work  # type: ignore[method-assign]
        stages.Corrupt.roles = ()  # it computes nothing, so its hardware is not checked

    return hook


def sleeping(stage: str, seconds: float) -> Hook:
    """A stage that sleeps for every sample, and passes it on."""

    def hook() -> None:
        from actors.batch import METRICS
        from actors.images import read_mask
        from factory.pipeline import stages

        def work(samples: list[Any]) -> list[Any]:
            time.sleep(seconds * len(samples))
            for sample in samples:
                sample.attempts, sample.verified, sample.metrics = 1, True, dict.fromkeys(METRICS, 0.5)
                if sample.mask:  # exactly the mask changes, and `verify` finds these figures in the pixels
                    area = float(read_mask(sample.mask).mean())
                    sample.metrics |= {"mask_area": area, "changed_area": area}
                    sample.metrics |= {"change_inside": 1.0, "change_outside": 0.0}
                sample.mask = sample.mask or sample.image[:100]
                sample.corrupted, sample.changed = sample.image, sample.mask
            return samples

        getattr(stages, stage).make = lambda self: work
        getattr(stages, stage).roles = ()

    return hook


def images_of(size: int) -> Hook:
    """Reading an item gives `size` random bytes, which are not an image, and costs nothing."""

    def hook() -> None:
        import os

        from actors.batch import Sample
        from factory.pipeline import stages

        content = os.urandom(size)

        def load(source: Any, references: Any, *, select: Any) -> list[Sample]:
            return [Sample(item.key, item.url, item.caption, image=content) for item in references]

        stages.load = load

    return hook


def ledger(path: str) -> Hook:
    """Every stage records the bytes of the images that it passes on, and of the table that holds them."""

    def hook() -> None:
        from pathlib import Path

        from factory.pipeline import shard_work, stages

        pack = stages.to_table

        def noted(shard: Any) -> Any:
            table = pack(shard)
            images = ("image", "mask", "corrupted", "changed")
            encoded = sum(len(getattr(one, name) or b"") for one in shard.samples for name in images)
            stage = list(shard.seconds)[-1]
            with Path(path).open("a") as file:
                file.write(json.dumps([stage, encoded, table.nbytes]) + "\n")
            return table

        stages.to_table = shard_work.to_table = noted  # type: ignore[assignment]

    return hook
