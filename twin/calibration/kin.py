"""Servos of one model are alike: what a mirror shows of all of them says what to expect of each.

Landmarks of one motor hardly tell a late servo from a slow one: they err together. Lag, damping and speed
of servos of one model differ by a few percent, though. So one set of them is fitted to the traces of all
servos of a model together, each with a latency of its own, by Gauss-Newton; and each is fitted again with
that in place of the table's wide expectation. Latency itself is not pooled.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.servo_trace import FREE, PRIOR, Expected, ServoFit, Trace
from facetwin.twin.calibration.traces import LATENCY, models, table_of
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

#: e-folds by which lag, damping and speed differ between servos of one model
ALIKE = 0.05
#: fewer servos of a model than this are taken each by itself
LEAST = 3
STEPS = 12
_LATE = FREE.index(LATENCY)
_SHARED = [i for i, k in enumerate(FREE) if k != LATENCY]
_KEYS = [FREE[i] for i in _SHARED]
_PRIOR = np.diag([PRIOR[k] ** -2 for k in _KEYS])


def expectations(
    spec: RigSpec, traces: Mapping[int, Trace], fits: Mapping[int, ServoFit]
) -> dict[int, Expected]:
    """What each motor's servo is to be expected like, by all servos of its model.

    Parameters
    ----------
    spec : RigSpec
    traces, fits : motor's number -> its trace, and how it was fitted by itself

    Returns
    -------
    dict of motor's number -> Expected; motors with too few of their model are not in it
    """
    nominal, out = table_of(spec), {}
    for members in models(spec):
        known = [m for m in members if m in traces]
        if len(known) < LEAST:
            continue
        shift, spread = _together(nominal, {m: traces[m] for m in known}, fits)
        precision = np.diag([PRIOR[k] ** -2 for k in FREE])
        precision[np.ix_(_SHARED, _SHARED)] = np.linalg.inv(spread + ALIKE**2 * np.eye(len(_KEYS)))
        for motor in known:
            values = nominal[motor].copy()
            values[_KEYS] *= np.exp(shift)
            out[motor] = Expected(values, precision)
    return out


def _together(
    nominal: Floats, traces: Mapping[int, Trace], fits: Mapping[int, ServoFit]
) -> tuple[Floats, Floats]:
    """Offset of lag, damping and speed from the table (e-folds) that suits all, and its covariance."""
    shift, damping = np.zeros(len(_KEYS)), 1e-3
    late = {m: fits[m].latency for m in traces}

    def servo(m: int, shift: Floats, latency: float) -> Floats:
        values = fits[m].values.copy()  # with its own dead band and play
        values[_KEYS] = nominal[m, _KEYS] * np.exp(shift)
        values[LATENCY] = max(latency, 0.0)
        return values

    for m, trace in traces.items():
        trace.measure(fits[m].values)
    cost, matrix = np.inf, _PRIOR
    for _ in range(STEPS):
        told = {m: trace.normal(servo(m, shift, late[m])) for m, trace in traces.items()}
        cost = sum(t[0] for t in told.values()) + 0.5 * float(shift @ _PRIOR @ shift)
        matrix, right = _PRIOR.copy(), -_PRIOR @ shift
        for _, a, b in told.values():  # each latency is solved for and put in
            across = a[_SHARED, _LATE] / a[_LATE, _LATE]
            matrix += a[np.ix_(_SHARED, _SHARED)] - np.outer(across, a[_SHARED, _LATE])
            right += b[_SHARED] - across * b[_LATE]
        for _ in range(6):
            step = np.linalg.solve(matrix + damping * np.diag(np.diag(matrix)), right)
            trial = shift + step
            later = {m: late[m] + float((b[_LATE] - a[_LATE, _SHARED] @ step) / a[_LATE, _LATE])
                     for m, (_, a, b) in told.items()}  # fmt: skip
            after = sum(trace.cost(servo(m, trial, later[m])) for m, trace in traces.items())
            after += 0.5 * float(trial @ _PRIOR @ trial)
            if after < cost:
                break
            damping *= 8
        else:
            break
        shift, late, damping, gained = trial, later, damping / 4, cost - after
        if gained < 1e-3 * (1 + cost):
            break
    return shift, np.linalg.inv(matrix)
