"""The emulated servos: the twin's, whatever the machine is busy with; limp, blocked and warm ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import Table

from facetwin.hardware.emulated.servos import TICK, Servos, placed
from facetwin.hardware.emulated.shared import ROWS, Film, Motion, create
from facetwin.twin.servo import ServoBank
from facetwin.twin.spec import load_rig

SPEC = load_rig("face26").randomised(3)
N = SPEC.size


def servos(seed: int = 0) -> Servos:
    out = Servos(SPEC, Motion(create("test", Motion.bytes(N)), N), 0.0, supply=6.0, seed=seed)
    for motor in range(N):
        out.power(motor, True, 0.0)
    return out


def test_they_are_the_twins():
    ours, twins = servos(), ServoBank(SPEC, TICK)
    rng = np.random.default_rng(0)
    goal = SPEC.rest.copy()
    for k in range(400):
        if k % 37 == 0:
            goal = rng.uniform(0, 1, N)
            for motor in range(N):
                ours.aim(motor, goal[motor], k * TICK)
        expected = twins.step(goal)
        ours.advance((k + 1) * TICK)
        np.testing.assert_allclose(ours.position, expected, atol=1e-12)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None)
def test_motion_does_not_depend_on_how_often_it_is_stepped(strides):
    goals = np.random.default_rng(1).uniform(0, 1, (4, N))
    even, uneven = servos(), servos()
    for k, goal in enumerate(goals):
        for motor in range(N):
            even.aim(motor, goal[motor], 0.11 * k)
            uneven.aim(motor, goal[motor], 0.11 * k)
        for j in range(110):
            even.advance(0.11 * k + (j + 1) * TICK)
    at = 0.44
    even.advance(at)
    now = 0.33
    for stride in strides:
        now = min(now + stride * TICK, at)
        uneven.advance(now)
    uneven.advance(at)
    np.testing.assert_array_equal(even.position, uneven.position)


def test_a_limp_horn_stays_and_starts_from_there():
    s = servos()
    s.aim(0, 0.9, 0.0)
    s.advance(0.15)
    s.power(0, False, 0.15)
    at = s.position[0]
    s.advance(1.0)
    assert s.position[0] == pytest.approx(at, abs=1e-12)
    s.aim(0, 0.1, 1.0)
    s.advance(2.0)
    assert s.position[0] == pytest.approx(at, abs=1e-12)
    s.power(0, True, 2.0)
    assert s.goal[0] == pytest.approx(s.state_of(0))
    s.advance(2.5)
    assert s.position[0] == pytest.approx(at, abs=2 * SPEC.motors[0].dead_band / SPEC.span[0] + 1e-6)


def test_a_blocked_servo_pushes_and_gets_warm():
    s = servos()
    s.block(15, True, 0.0)
    at = s.position[15]
    s.aim(15, 1.0, 0.0)
    s.aim(16, 0.6, 0.0)
    s.advance(20.0)
    assert s.position[15] == pytest.approx(at)
    assert s.load[15] > 0.9 > 0.4 > s.load[16]
    assert s.temperature[15] > s.temperature[16] + 5
    assert s.voltage < 6.0
    s.block(15, False, 20.0)
    s.advance(21.0)
    assert s.state_of(15) == pytest.approx(1.0, abs=0.02)


def test_a_speed_limit_of_the_servo_holds():
    s = servos()
    s.limit(15, 0.5)
    s.aim(15, 1.0, 0.0)
    s.advance(0.5)
    assert s.state_of(15) < SPEC.rest[15] + 0.25
    s.limit(15, np.inf)
    s.advance(1.5)
    assert s.state_of(15) == pytest.approx(1.0, abs=0.02)


def test_sensors_are_noisy_and_know_nothing_of_the_horn():
    s = servos()
    s.advance(0.2)
    seen = np.array([[s.shaft(i) for i in range(N)] for _ in range(50)])
    assert (seen.std(axis=0) > 0).all()
    assert np.abs(seen.mean(axis=0) - SPEC.rest).max() < 0.002
    assert np.abs(placed(SPEC, SPEC.rest) - SPEC.rest).max() > 0.002  # trim


def test_motion_is_shared_with_its_past():
    s = servos()
    s.aim(15, 1.0, 0.0)
    s.advance(3.0)
    other = s.motion
    assert other.now == pytest.approx(3.0)
    way, times = other.between(2.0, 2.5)
    assert len(way) == 500
    assert times[-1] == 2.5
    way, times = other.between(2.0, 2.5004, 5e-3)
    assert len(way) == 101
    assert times[-1] == pytest.approx(2.5004)
    assert (np.diff(times) > 0).all()
    way, times = other.between(0.0, 3.0)  # the ring is shorter than that
    assert len(way) < ROWS
    np.testing.assert_allclose(placed(SPEC, way[-1]), s.position)


def test_a_film_shows_only_what_the_delay_lets():
    film = Film(create("test", Film.bytes((4, 6, 3), N)), (4, 6, 3), N)
    assert film.get(10.0) is None
    for k in range(20):
        film.put(np.full((4, 6, 3), k, np.uint8), k, k + 0.5, 1e-3 * k, np.full(N, k))
    image, exposed, gap, at = film.get(17.6)
    assert (image == 17).all()
    assert (exposed, gap) == (17.0, pytest.approx(0.017))
    assert (at == 17).all()
    assert film.get(11.0) is None  # longer ago than the film remembers
    assert film.get(100.0)[1] == 19.0


@pytest.mark.parametrize("kind", ["maestro", "pca9685", "dynamixel", "feetech"])
def test_horns_turn_units_into_commands_and_back(kind):
    table = Table(kind)
    for motor in range(N):
        for command in (0.0, 0.3, 1.0):
            units = table.horns.units(motor, command)
            assert table.horns.command(motor, units) == pytest.approx(command)
