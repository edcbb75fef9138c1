"""Pulses of hobby servos' boards: what they carry, and that their phase is found from where motors stood."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.twin.calibration.excitation import slots
from facetwin.twin.calibration.probes import RATE, program
from facetwin.twin.calibration.pulses import Heard, Stretch, find
from facetwin.twin.calibration.servo_trace import TICK, fit_servo, trace_of
from facetwin.twin.calibration.traces import LATENCY, Playback, table_of
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim

FACE = load_rig("face26")
PERIOD = 0.02


@settings(deadline=None)
@given(
    st.lists(st.floats(0.001, 0.1), min_size=2, max_size=40),
    st.floats(0.0, PERIOD),
    st.floats(0.005, 0.05),
)
def test_a_pulse_carries_what_had_arrived(gaps, phase, period):
    arrived = np.cumsum(gaps)
    sent = np.arange(float(len(arrived)))[:, None]
    at, carried = Heard(phase, period).hold(arrived, sent)
    assert np.allclose(np.diff(at), period)
    assert at[0] >= arrived[0] - 1e-9
    assert at[0] - period < arrived[0]
    assert arrived[-1] - 1e-6 <= at[-1] < arrived[-1] + period
    for time, number in zip(at, carried[:, 0].astype(int)):
        assert arrived[number] <= time + 1e-9
        assert number + 1 == len(arrived) or arrived[number + 1] > time + 1e-9
    assert carried[-1, 0] == len(arrived) - 1  # nothing is lost at the end


@pytest.mark.parametrize(("phase", "off"), [(0.004, 0.0), (0.0195, 4e-4), (0.011, -6e-4)])
def test_phase_and_clock_are_found_and_with_them_latencies(phase, off):
    motors = [FACE.names[i] for slot in slots(FACE)[:2] for i in slot]
    played = program(FACE, motors, clip=False)
    time = np.arange(len(played.commands)) / RATE
    rng = np.random.default_rng(3)
    heard = Heard(phase, PERIOD * (1 + off))
    table, told, plain, blind, fits = table_of(FACE), {}, {}, [], {}
    turns = {i: turn for turn in played.turns for i in turn.motors}
    for i, turn in turns.items():
        rows = (time >= turn.start - 0.3) & (time < turn.end + 0.2)
        servo = table[i].copy()
        servo[LATENCY] = rng.uniform(0.01, 0.04)
        told[i] = servo
        playback = Playback(FACE, *heard.hold(time[rows], played.commands[rows]), TICK)
        at = np.arange(time[rows][0] + 0.03, time[rows][-1], 0.05)
        seen = playback.at(playback.play(i, servo[None])[1], at)[0] + rng.normal(0, 0.01, len(at))
        plain[i] = (FACE, i, time[rows] + PERIOD / 2, played.commands[rows], at, seen)
        fits[i] = fit_servo(*plain[i], mirror=True)
        blind.append(fits[i].latency - servo[LATENCY])
    stretches = {
        i: Stretch(0, trace_of(*t, mirror=True), fits[i].values, t[2] - PERIOD / 2, t[3])
        for i, t in plain.items()
    }
    found = find(stretches, PERIOD)[0]
    middle = np.mean([(t.start + t.end) / 2 for t in turns.values()])
    near = [h.phase + round((middle - h.phase) / h.period) * h.period for h in (heard, found)]
    assert abs((near[1] - near[0] + PERIOD / 2) % PERIOD - PERIOD / 2) < 0.0015
    assert found.period == pytest.approx(heard.period, rel=3e-4)
    seeing = [
        fit_servo(FACE, i, *found.hold(s.arrived, s.sent), *plain[i][4:], mirror=True).latency
        - told[i][LATENCY]
        for i, s in stretches.items()
    ]
    assert np.sqrt(np.mean(np.square(seeing))) < 0.7 * np.sqrt(np.mean(np.square(blind)))
