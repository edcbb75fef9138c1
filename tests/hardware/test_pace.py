"""Pace: absolute deadlines, and an honest account of how they were kept."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetwin.hardware.clock import Clock, RealClock, SimClock
from facetwin.hardware.pace import Pace
from facetwin.twin.errors import UsageError


class SlowClock(Clock):
    """A clock that passes by itself: `work` s with each look at it."""

    simulated = False

    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time

    def sleep_until(self, t):
        self.time = max(self.time, t)

    def every(self, period, call):
        raise AssertionError("a pace sets no timers")


@given(st.lists(st.floats(0, 0.05), min_size=1, max_size=60))
def test_deadlines_are_absolute(work):
    clock = SlowClock()
    pace = Pace(clock, 50.0)
    began = []
    for seconds in work:
        pace.wait()
        began.append(clock.time)
        clock.time += seconds
    due = np.arange(len(work)) / 50
    # never early, and late only by the work before
    expected = [0.0]
    for k, seconds in enumerate(work[:-1]):
        expected.append(max(due[k + 1], expected[-1] + seconds))
    assert began == pytest.approx(expected, abs=1e-9)
    ends = np.array(expected) + np.array(work)
    missed = int((ends > due + 0.02 + 1e-9).sum())
    assert pace.report().missed == missed
    assert pace.report().late_max == pytest.approx(max(np.array(expected) - due), abs=1e-9)


def test_simulated_time_is_never_late():
    clock = SimClock()
    with Pace(clock, 50.0) as pace:
        for _ in range(100):
            pace.wait()
    report = pace.report()
    assert (report.ticks, report.missed, report.late_max, report.drift) == (100, 0, 0.0, 0.0)
    assert clock.now() == pytest.approx(99 / 50)


def test_collector_is_off_meanwhile_and_on_again():
    assert gc.isenabled()
    with Pace(RealClock(), 1000.0) as pace:
        pace.wait()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="x"), Pace(RealClock(), 1000.0):
        raise RuntimeError("x")
    assert gc.isenabled()


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_rate(rate):
    with pytest.raises(UsageError, match="bad rate"):
        Pace(SimClock(), rate)
