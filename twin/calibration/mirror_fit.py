"""Servos that only a mirror shows: by the pulses that they heard, by their model, less the twin's own error.

One motor's landmarks hardly tell a late servo from a slow one, nor when a pulse told it. All motors of a
board, and all servos of a model, do; and what the same fit is off by on the twin, whose servos are known,
it is off by on the rig, too. Latencies of one model are expected to be as alike as the fits say that they
are; tails are heavy, so that one late servo among them stays late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.kin import LEAST, expectations
from facetwin.twin.calibration.probes import Program
from facetwin.twin.calibration.pulses import Heard, Pulses, Stretch, find
from facetwin.twin.calibration.servo_trace import ServoFit, fit_servo, trace_of
from facetwin.twin.calibration.sides import Side, Told, told
from facetwin.twin.calibration.traces import LATENCY, models, table_of
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

#: times that pulses and servos are found, each by the other
PASSES = 3
#: s by which a motor's landmarks are off on one body and not on the twin; measured on hidden bodies
OWN = 0.0025
#: s by which latencies of servos of one model differ at least
ALIKE = 0.002
#: degrees of freedom of Student's t that they are expected from: heavy tails
TAILS = 1.0


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
    """The first fit, with the latency that several recordings give on average. Of its deviation, what
    scatters grows less with their number; what a motor's landmarks are off by on this body does not."""
    values, spread = fits[0].values.copy(), fits[0].spread.copy()
    late = np.array([fit.latency for fit in fits])
    values[LATENCY] = late.mean()
    scatter = float(np.mean([fit.spread[LATENCY] ** 2 for fit in fits]))
    if len(fits) > 1:
        scatter = max(scatter, float(late.var(ddof=1)))
    spread[LATENCY] = np.sqrt(scatter / len(fits) + OWN**2)
    return replace(fits[0], values=values, spread=spread)


def alike(spec: RigSpec, fits: Mapping[int, ServoFit]) -> dict[int, ServoFit]:
    """Fits with latencies that are as likely as can be, given those of the other servos of their model.

    Parameters
    ----------
    spec : RigSpec
    fits : motor's number -> fit, its latency's deviation in `spread`
    """
    out = dict(fits)
    for members in models(spec):
        known = [i for i in members if i in fits and np.isfinite(fits[i].spread[LATENCY])]
        if len(known) < LEAST:
            continue
        late = np.array([fits[i].latency for i in known])
        sd = np.array([max(float(fits[i].spread[LATENCY]), 1e-4) for i in known])
        best, deviation = likeliest(late, sd)
        for i, value, d in zip(known, best, deviation):
            values, spread = fits[i].values.copy(), fits[i].spread.copy()
            values[LATENCY], spread[LATENCY] = max(value, 0.0), d
            out[i] = replace(fits[i], values=values, spread=spread)
    return out


def likeliest(late: Floats, sd: Floats) -> tuple[Floats, Floats]:
    """Latencies and their deviations (s), float64 [shape=(n,)] each, of servos of one model that were seen
    with deviations ``sd``: from Student's t about a middle, as wide as they scatter beyond ``sd``."""
    middle = float(np.median(late))
    width = 1.4826 * float(np.median(np.abs(late - middle)))
    width = np.sqrt(max(width**2 - float(np.median(sd**2)), ALIKE**2))
    best = late.copy()
    for _ in range(100):
        # a t is a normal of unknown width: how wide each one's own is, by where it is now
        wide = (TAILS * width**2 + (best - middle) ** 2) / (TAILS + 1)
        weight = 1 / (wide + sd**2)
        middle, before = float((weight * late).sum() / weight.sum()), best
        best = (late / sd**2 + middle / wide) / (1 / sd**2 + 1 / wide)
        if np.abs(best - before).max() < 1e-7:
            break
    return best, np.sqrt(1 / (1 / sd**2 + 1 / wide) + 1 / weight.sum())


def _stretches(pulses: Pulses, own: Mapping[int, Told], fits: Mapping[int, ServoFit]) -> dict[int, Stretch]:
    """Turns of motors whose boards pulse, by what their servos are known to be like so far."""
    out = {}
    for i, turn in own.items():
        if (board := pulses.boards[i]) >= 0:
            arrived = turn[2] - pulses.period / 2  # without the mean wait
            out[i] = Stretch(board, trace_of(*turn, mirror=True), fits[i].values, arrived, turn[3])
    return out
