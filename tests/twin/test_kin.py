"""Servos of one model: what all show together, each with a latency of its own."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.twin.calibration.kin import LEAST, expectations
from facetwin.twin.calibration.probes import RATE, program
from facetwin.twin.calibration.servo_trace import TICK, fit_servo, trace_of
from facetwin.twin.calibration.traces import DAMPING, FREQUENCY, LATENCY, SPEED, Playback, models, table_of
from facetwin.twin.spec import load_rig

MOTORS = ("jaw", "left_eye_yaw", "left_upper_lid", "left_inner_brow")
#: times the table's
LAG, FPS, SCATTER = 0.8, 20.0, 0.012


@pytest.fixture(scope="module")
def seen():
    """Traces of four servos of one model, slower than the table's; each has another latency."""
    spec, rng, out = load_rig(), np.random.default_rng(4), {}
    for k, name in enumerate(MOTORS):
        i = spec.index(name)
        servo = table_of(spec)[i]
        servo[[FREQUENCY, LATENCY]] = LAG * servo[FREQUENCY], 0.02 + 0.006 * k
        played = program(spec, [name], clip=False)
        time = np.arange(len(played.commands)) / RATE
        at = np.arange(0.7 + rng.uniform() / FPS, played.turns[0].end, 1 / FPS)
        playback = Playback(spec, time, played.commands, TICK)
        load = playback.at(playback.play(i, servo[None])[1], at)[0]
        curve = load + 0.2 * (load - spec.rest[i]) ** 2
        out[i] = spec, i, time, played.commands, at, curve + rng.normal(0, SCATTER, len(at)), servo
    return out


def test_lag_is_pooled_and_latencies_are_not(seen):
    spec = load_rig()
    told = {i: t[:6] for i, t in seen.items()}
    fits = {i: fit_servo(*t, mirror=True) for i, t in told.items()}
    expected = expectations(spec, {i: trace_of(*t, mirror=True) for i, t in told.items()}, fits)
    assert set(expected) == set(seen)
    together = {i: fit_servo(*t, mirror=True, expected=expected[i]) for i, t in told.items()}
    servos = {i: t[6] for i, t in seen.items()}
    for i, fit in together.items():
        assert fit.values[FREQUENCY] == pytest.approx(servos[i][FREQUENCY], rel=0.15)
        assert abs(fit.latency - servos[i][LATENCY]) < 0.004
        assert fit.spread[LATENCY] < fits[i].spread[LATENCY]

    def rms(of):
        return np.sqrt(np.mean([(f.latency - servos[i][LATENCY]) ** 2 for i, f in of.items()]))

    assert rms(together) < rms(fits)
    shared = np.array([e.values[[FREQUENCY, DAMPING, SPEED]] for e in expected.values()])
    assert np.ptp(shared, axis=0).max() == 0
    assert {e.values[LATENCY] for e in expected.values()} == {table_of(spec)[next(iter(seen)), LATENCY]}


def test_few_are_left_to_themselves(seen):
    spec, some = load_rig(), list(seen)[: LEAST - 1]
    told = {i: seen[i][:6] for i in some}
    fits = {i: fit_servo(*t, mirror=True) for i, t in told.items()}
    assert expectations(spec, {i: trace_of(*t, mirror=True) for i, t in told.items()}, fits) == {}


def test_models_are_all_motors_once():
    spec = load_rig()
    kinds = models(spec)
    assert sorted(i for kind in kinds for i in kind) == list(range(spec.size))
    rows = table_of(spec)[:, :6]
    for kind in kinds:
        assert (rows[kind] == rows[kind[0]]).all()
