"""Settings for every test: no network, few threads, no accelerator lookups that would differ between machines."""

from __future__ import annotations

import os

import pytest

from tests import patience

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Two workers that both take all cores are slower than one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Ray's workers run at a niceness of 15, and would get next to nothing beside other work.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray Train looks at its workers every 2 s; trainings of seconds would mostly wait for that.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")

pytest_plugins = ["tests.object_store"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--time-outs-times",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="multiply the time-out of every test, and all waits inside tests, for a machine whose cores are busy",
    )


def pytest_configure(config: pytest.Config) -> None:
    factor = config.getoption("--time-outs-times")
    if not factor > 0:
        raise pytest.UsageError(f"--time-outs-times is {factor:g}; it must be above 0")
    patience.multiply(factor)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Multiply the time-outs of pytest-timeout, where a test has one of its own and where it has the general one."""
    general = config.getoption("--timeout")
    if general is None:
        general = float(config.getini("timeout") or 0)
    for item in items:
        marker = item.get_closest_marker("timeout")
        base = float(marker.args[0]) if marker is not None else general
        item.add_marker(pytest.mark.timeout(patience.seconds(base)), append=False)
