"""Servos of one model: what all show together, each with a latency of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.twin.calibration.kin import LEAST, expectations
from facetwin.twin.calibration.mirror_fit import likeliest
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


def test_latencies_of_one_model_help_each_other():
    rng = np.random.default_rng(8)
    seen = rng.normal(0.025, 0.0035, (200, 12))
    best, deviation = zip(*(likeliest(one, np.full(12, 0.0035)) for one in seen))
    off = np.sqrt(np.mean(np.square(np.array(best) - 0.025)))
    assert off < 0.5 * np.sqrt(np.mean(np.square(seen - 0.025)))
    assert np.mean(deviation) == pytest.approx(off, rel=0.5)  # it knows how good it is


def test_one_late_servo_among_them_stays_late():
    rng = np.random.default_rng(9)
    seen = 0.025 + rng.normal(0, 0.0035, 12)
    seen[3] = 0.045
    best, _ = likeliest(seen, np.full(12, 0.0035))
    assert best[3] > 0.042
    assert np.abs(np.delete(best, 3) - 0.025).max() < 0.003


@settings(max_examples=50)
@given(st.lists(st.floats(0.005, 0.08), min_size=3, max_size=12), st.floats(0.0005, 0.005))
def test_latencies_go_to_the_middle_and_no_further(seen, sd):
    late = np.array(seen)
    best, deviation = likeliest(late, np.full(len(late), sd))
    assert late.min() - 1e-9 <= best.min() <= best.max() <= late.max() + 1e-9
    assert (np.diff(best[np.argsort(late, kind="stable")]) > -1e-6).all()  # their order stays
    assert np.isfinite(deviation).all()


def test_servos_that_differ_are_left_to_differ():
    late = np.linspace(0.010, 0.060, 12)
    best, _ = likeliest(late, np.full(12, 0.003))
    assert np.abs(best - late).max() < 0.0015
