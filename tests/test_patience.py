"""The option by which tests wait longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import patience

pytest_plugins = ["pytester"]


@pytest.fixture
def tenfold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_factor", 10.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleeping moves; its one number is the time."""
    now = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


@pytest.mark.usefixtures("tenfold")
def test_waits_are_multiplied(clock: list[float]):
    assert patience.seconds(120) == 1200
    assert patience.until(lambda: clock[0], lambda now: now >= 99, within=10, every=1) == 99
    with pytest.raises(AssertionError, match=r"not within 100 s; last value: 199"):
        patience.until(lambda: clock[0], lambda now: now < 0, within=10, every=1)


def test_what_cannot_come_is_not_waited_for(clock: list[float]):
    with pytest.raises(AssertionError, match="the process has ended; last value: 0"):
        patience.until(lambda: 0, unless=lambda: "the process has ended" if clock[0] > 3 else "", every=1)
    assert clock[0] == 4


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package `tests`, which is not installed, in a process that runs elsewhere."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


TIMED = """
import pytest
from tests.patience import seconds

def time_out(request):
    return request.node.get_closest_marker("timeout").args[0]  # as pytest-timeout does

@pytest.mark.timeout(20)
def test_its_own(request):
    assert time_out(request) == 20 * FACTOR

def test_the_general_one(request):
    assert time_out(request) == 60 * FACTOR

def test_inside():
    assert seconds(1) == FACTOR
"""


@pytest.mark.parametrize(("options", "factor"), [([], "1"), (["--time-outs-times=10"], "10")])
@pytest.mark.usefixtures("importable")
def test_time_outs_of_tests_are_multiplied(pytester: pytest.Pytester, options: list[str], factor: str):
    pytester.makepyfile(TIMED.replace("FACTOR", factor))
    pytester.makeini("[pytest]\ntimeout = 60")
    done = pytester.runpytest_subprocess("-p", "tests.conftest", "-p", "no:cacheprovider", *options)
    done.assert_outcomes(passed=3)


@pytest.mark.usefixtures("importable")
def test_a_factor_of_nothing_is_refused(pytester: pytest.Pytester):
    done = pytester.runpytest_subprocess("-p", "tests.conftest", "--time-outs-times=0")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*--time-outs-times is 0; it must be above 0*"])
