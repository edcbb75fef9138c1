"""Servos that only a mirror shows: by the pulses that they heard, by their model, less the twin's own error.

One motor's landmarks hardly tell a late servo from a slow one, nor when a pulse told it. All motors of a
board, and all servos of a model, do; and what the same fit is off by on the twin, whose servos are known,
it is off by on the rig, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from facetwin.twin.calibration.kin import expectations
from facetwin.twin.calibration.probes import Program
from facetwin.twin.calibration.pulses import Heard, Pulses, Stretch, find
from facetwin.twin.calibration.servo_trace import ServoFit, fit_servo, trace_of
from facetwin.twin.calibration.sides import Side, Told, told
from facetwin.twin.calibration.traces import LATENCY, table_of

#: times that pulses and servos are found, each by the other
PASSES = 3


def refit(side: Side, played: Program, fits: Mapping[int, ServoFit]) -> dict[int, ServoFit]:
    """Servos fitted again, by the pulses that their boards are found to have sent, and by what is to be
    expected of their model.

    Parameters
    ----------
    side : Side
    played : Program
    fits : motor's number -> how it was fitted by itself
    """
    turns = {i: turn for turn in played.turns for i in turn.motors}
    fits = dict(fits)
    own = {i: told(side, i, turns[i], fit.time, fit.seen) for i, fit in fits.items()}
    heard: dict[int, Heard] = {}
    for _ in range(PASSES):
        before, now = heard, dict(own)
        if side.pulses is not None:
            stretches = _stretches(side.pulses, own, fits)
            heard = find(stretches, side.pulses.period)
            if heard == before:
                break
            for i, s in stretches.items():
                now[i] = (*own[i][:2], *heard[s.board].hold(s.arrived, s.sent), *own[i][4:])
            fits |= {i: fit_servo(*now[i], mirror=True) for i in stretches}
        expected = expectations(side.spec, {i: trace_of(*t, mirror=True) for i, t in now.items()}, fits)
        fits |= {i: fit_servo(*now[i], mirror=True, expected=e) for i, e in expected.items()}
        if side.pulses is None:
            break
    return fits


def own_error(twin: Side, played: Program, fits: Mapping[int, ServoFit]) -> dict[int, tuple[float, float]]:
    """By how much latencies come out too long on the twin, whose table is true, and the deviation, s."""
    table = table_of(twin.spec)[:, LATENCY]
    return {
        i: (fit.latency - float(table[i]), float(fit.spread[LATENCY]))
        for i, fit in refit(twin, played, fits).items()
    }


def without(fit: ServoFit, error: tuple[float, float]) -> ServoFit:
    """A fit whose latency is less by an error, s, which is known to a deviation, s."""
    values, spread = fit.values.copy(), fit.spread.copy()
    values[LATENCY] = max(values[LATENCY] - error[0], 0.0)
    spread[LATENCY] = np.hypot(spread[LATENCY], error[1])
    return replace(fit, values=values, spread=spread)


def averaged(fits: Sequence[ServoFit]) -> ServoFit:
    """The first fit, with the latency that several recordings give on average, and its deviation."""
    if len(fits) == 1:
        return fits[0]
    values, spread = fits[0].values.copy(), fits[0].spread.copy()
    late = np.array([fit.latency for fit in fits])
    values[LATENCY] = late.mean()
    told_by_each = np.sqrt(np.mean([fit.spread[LATENCY] ** 2 for fit in fits]))
    spread[LATENCY] = max(float(told_by_each), float(late.std(ddof=1))) / np.sqrt(len(fits))
    return replace(fits[0], values=values, spread=spread)


def _stretches(pulses: Pulses, own: Mapping[int, Told], fits: Mapping[int, ServoFit]) -> dict[int, Stretch]:
    """Turns of motors whose boards pulse, by what their servos are known to be like so far."""
    out = {}
    for i, turn in own.items():
        if (board := pulses.boards[i]) >= 0:
            arrived = turn[2] - pulses.period / 2  # without the mean wait
            out[i] = Stretch(board, trace_of(*turn, mirror=True), fits[i].values, arrived, turn[3])
    return out
