"""Rung 4: one motor by two degrees, then all of them slowly."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.hardware.pace import Pace

pytestmark = [pytest.mark.hil, pytest.mark.rung(4, "motion")]

TWO_DEGREES = np.radians(2.0)
#: share of ticks that may be late on a machine that is busy with the emulator, too
LATE = 0.2


def travel(layer, goals, rate=50.0):
    """Write goals [shape=(T, n)] in time; what was sent, what was measured, how time was kept."""
    sent, measured = [], []
    with Pace(layer.clock, rate) as pace:
        for goal in goals:
            pace.wait()
            sent.append(layer.write(goal))
            measured.append(layer.read().measured)
        return np.array(sent), np.array(measured), pace.report()


def place(layer):
    """Where the motors stand by whatever tells: sensors, or the emulated robot's own truth."""
    layer.clock.sleep(0.3)
    layer.write(layer.read().commanded)
    measured = layer.read().measured
    if np.isfinite(measured).all():
        return measured
    if layer.capabilities.emulated:
        return layer.inner.emulator.truth()["shaft"]
    return None


def test_one_motor_by_two_degrees(active):
    spec = active.spec
    motor = int(spec.group("brows")[0]) if len(spec.group("brows")) else 0
    step = TWO_DEGREES / spec.span[motor]
    step = step if spec.rest[motor] + step < 1 else -step
    before = place(active)
    goal = spec.rest.copy()
    goal[motor] += step
    ramp = np.linspace(0, 1, 25)[:, None]
    sent, _, _ = travel(active, spec.rest + ramp * (goal - spec.rest))
    assert np.abs(sent[-1] - goal).max() < 1e-6
    after = place(active)
    travel(active, spec.rest + ramp[::-1] * (goal - spec.rest))
    if before is None:
        pytest.skip("nothing tells where the motors stand")
    moved = after - before
    assert moved[motor] * spec.span[motor] == pytest.approx(step * spec.span[motor], abs=np.radians(1.0))
    others = np.delete(moved * spec.span, motor)
    assert np.abs(others).max() < np.radians(0.7), "another motor moved"


def test_all_motors_slowly(active):
    spec = active.spec
    low, high = spec.soft_limits
    t = np.arange(0, 6.0, 0.02)[:, None]
    reach = 0.12 * np.minimum(1.0, t / 1.0) * np.minimum(1.0, (t[-1] - t) / 1.0)
    goals = np.clip(spec.rest + reach * np.sin(2 * np.pi * 0.5 * t + np.arange(spec.size)), low, high)
    sent, measured, paced = travel(active, goals)
    assert np.ptp(sent, axis=0).min() > 0.03, "a motor was not told to move"
    assert not active.fault
    if active.capabilities.measures:
        # a servo is late: allow 150 ms of the fastest motion, and its dead band
        late = np.abs(np.diff(sent, axis=0)).max(0) * 50 * 0.15 + 0.03
        assert (np.abs(measured - sent) < late).all()
        assert (np.ptp(measured, axis=0) > 0.5 * np.ptp(sent, axis=0)).all(), "a motor did not move"
    assert paced.share_missed < LATE, str(paced)
