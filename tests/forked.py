"""Processes that start at once: they are forked from one that has imported what tests need."""

from __future__ import annotations

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")

CONTEXT.set_forkserver_preload(
    [
        "factory.build",
        "factory.maintain.merge",
        "factory.maintain.retry_rejects",
        "factory.maintain.split",
        "factory.pipeline.stages",
        "tests.factory.maintain.outputs",
        "tests.factory.output.pausing",
        "tests.train.small",
    ]
)
