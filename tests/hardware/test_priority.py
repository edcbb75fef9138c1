"""Real-time priority: given back, not inherited, and no obstacle where it is not allowed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time

import pytest

from facetwin.hardware import priority
from facetwin.hardware.clock import RealClock, SimClock
from facetwin.hardware.pace import Pace
from facetwin.hardware.priority import LOOP, Awake, Urgent

linux = pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="no such call here")


def policy() -> tuple[int, int]:
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority


@pytest.fixture
def allowed():
    with Urgent() as urgent:
        if not urgent.granted:
            pytest.skip(f"real-time priority is not allowed here: {urgent.why}")


@linux
def test_granted_and_given_back(allowed):
    before = policy()
    with Urgent(LOOP) as urgent:
        assert urgent.granted
        assert urgent.why == "real-time"
        assert policy() == (os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, LOOP)
    assert policy() == before


@linux
def test_children_and_threads_stay_ordinary(allowed):
    told = []
    with Urgent():
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        thread = threading.Thread(target=lambda: told.append(os.sched_getscheduler(0)))
        thread.start()
        thread.join()
    assert [int(child.stdout), *told] == [os.SCHED_OTHER] * 2


@linux
def test_not_allowed_is_said_once_and_no_obstacle(monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(priority, "_told", False)
    before = policy()
    with caplog.at_level(logging.INFO, "facetwin.pace"):
        for _ in range(3):
            with Urgent() as urgent:
                assert not urgent.granted
                assert urgent.why == "ordinary: Operation not permitted"
    assert policy() == before
    assert len(caplog.records) == 1
    assert "rtprio" in caplog.text


def test_a_system_without_it(monkeypatch):
    monkeypatch.delattr(os, "sched_setscheduler", raising=False)
    with Urgent() as urgent:
        assert not urgent.granted
        assert urgent.why == "ordinary: this system has none"


@linux
def test_pace_is_urgent_while_entered_and_reports_it(allowed):
    before = policy()
    with Pace(RealClock(), 500.0) as pace:
        pace.wait()
        assert policy()[1] == LOOP
        assert pace.report().priority == "real-time"
    assert policy() == before
    assert "priority real-time" in str(pace.report())
    with Pace(RealClock(), 500.0, urgent=False) as pace:
        pace.wait()
        assert policy() == before
        assert pace.report().priority == "ordinary"
    with Pace(SimClock(), 500.0) as pace:
        pace.wait()
        assert policy() == before
        assert pace.report().priority == "ordinary"


def test_cores_stay_awake_while_entered(monkeypatch, tmp_path):
    asked = tmp_path / "cpu_dma_latency"
    asked.touch()
    monkeypatch.setattr(priority, "LATENCY", str(asked))
    with Pace(RealClock(), 500.0) as pace:
        pace.wait()
        assert asked.read_bytes() == bytes(4)  # 0 us, as the kernel reads it
        held = pace._awake._file
        os.fstat(held)
        assert pace.report().awake
    with pytest.raises(OSError, match=r"[Bb]ad file"):
        os.fstat(held)  # closed: the kernel forgets what was asked
    assert "cores kept awake" in str(pace.report())
    asked.write_bytes(b"")
    for clock, urgent in ((RealClock(), False), (SimClock(), True)):
        with Pace(clock, 500.0, urgent=urgent) as pace:
            pace.wait()
            assert not pace.report().awake
    assert asked.read_bytes() == b""


def test_where_cores_may_not_be_kept_awake(monkeypatch, tmp_path):
    monkeypatch.setattr(priority, "LATENCY", str(tmp_path / "none"))
    with Awake() as awake, Pace(RealClock(), 500.0) as pace:
        pace.wait()
        assert not awake.granted
        assert not pace.report().awake
    assert "awake" not in str(pace.report())


@linux
def test_timers_are_as_urgent_as_loops(allowed):
    told: list[int] = []
    timer = RealClock().every(0.005, lambda: told.append(policy()[1]))
    end = time.monotonic() + 2
    while not told and time.monotonic() < end:
        time.sleep(0.005)
    timer.cancel()
    assert told
    assert set(told) == {LOOP}
