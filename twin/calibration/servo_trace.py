"""One motor's servo from a trace of where it stood: latency, lag, speed, dead band, play, gain.

The servo of `facetwin.twin.servo` is played with many sets of parameters and held against the trace, whose
scale is free: a sensor's straight line, or a curve of third degree where a mirror shows the motor through
skin. Smooth parameters are found by Gauss-Newton, dead band and play by their posterior over a grid, as
neither has a useful slope.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.traces import (
    BACKLASH,
    DAMPING,
    DEAD,
    FREQUENCY,
    LATENCY,
    NAMES,
    SPEED,
    Playback,
    table_of,
)
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec
from facetwin.twin.spec_parts import SERVO

Floats = NDArray[np.float64]

#: s, of the servos that are played
TICK = 0.001
#: s: latencies that are tried to begin with
LATENCIES = np.arange(0.0, 0.161, 0.005)
#: rad: dead bands and plays that are weighed
DEADS = np.array(
    [0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.0085, 0.01, 0.0125, 0.015, 0.02, 0.03]
)
PLAYS = np.array([0.0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.03, 0.045, 0.06])
#: what smooth steps fit, its standard deviation before anything was seen (s, e-folds), and the step of slopes
FREE = (LATENCY, FREQUENCY, DAMPING, SPEED)
PRIOR = {LATENCY: 0.08, FREQUENCY: 0.3, DAMPING: 0.25, SPEED: 0.3}
STEP = {LATENCY: 0.001, FREQUENCY: 0.02, DAMPING: 0.03, SPEED: 0.03}
#: e-folds of a grid's dead band and play about the table's: hardly anything is known before
WIDE = 1.2
#: neighbouring residuals err together: so many of them count as one
TOGETHER = 4.0
#: residuals beyond so many sigma count linearly
HUBER = 2.0
#: fewer samples, or less motion (commands), say nothing
LEAST, MOVED = 25, 0.08


@dataclass(frozen=True)
class Expected:
    """What is expected of a servo: parameters in the order of `traces.NAMES`, float64 [shape=(8,)], and of
    offsets from those in `FREE` (s, e-folds) the inverse covariance, float64 [shape=(4, 4)]."""

    values: Floats
    precision: Floats


@dataclass(frozen=True)
class ServoFit:
    """A servo as a trace shows it.

    Attributes
    ----------
    values, spread : float64 [shape=(8,)]
        Parameters in the order of `traces.NAMES` (s, Hz, 1, rad, rad, rad/s, 1, rad) and their standard
        deviations; what the trace cannot show is as in the table, its spread NaN.
    gain : float
        Motion seen for motion told, 1 as the table (and the decoder) say.
    residual : float, commands
        Root mean square of what the servo does not explain.
    time, seen, fitted : float64 [shape=(F,)]
        The trace in commands, and the servo's answer.
    """

    values: Floats
    spread: Floats
    gain: float
    residual: float
    time: Floats
    seen: Floats
    fitted: Floats

    @property
    def latency(self) -> float:
        """From a command to the first motion, s."""
        return float(self.values[LATENCY])


def fit_servo(
    spec: RigSpec,
    motor: int,
    time: Floats,
    sent: Floats,
    at: Floats,
    seen: Floats,
    *,
    mirror: bool,
    given: Floats | None = None,
    expected: Expected | None = None,
) -> ServoFit:
    """Fit the servo of one motor.

    Parameters
    ----------
    spec : RigSpec
        The table to begin from; its speeds and lags are what is expected.
    motor : int
    time, sent : float64 [shape=(T,), s], [shape=(T, n)]
        Commands of the stretch in question, beginning at rest.
    at, seen : float64 [shape=(F,), s], [shape=(F,), commands]
        When it was looked at, and where it seemed to stand; NaN where that is not known.
    mirror : bool
        The trace is of the load behind the play, on an unknown curve; else of the shaft, on a straight line.
    given : float64 [shape=(8,)], optional
        A servo known from elsewhere: only latency and play are fitted.
    expected : Expected, optional
        What to expect of it instead of the table.

    Raises
    ------
    UsageError
        Too few samples, or a motor that was hardly told to move.
    """
    return trace_of(spec, motor, time, sent, at, seen, mirror=mirror, given=given, expected=expected).fit()


def trace_of(
    spec: RigSpec,
    motor: int,
    time: Floats,
    sent: Floats,
    at: Floats,
    seen: Floats,
    *,
    mirror: bool,
    given: Floats | None = None,
    expected: Expected | None = None,
) -> Trace:
    """What `fit_servo` fits, checked; same parameters, same errors."""
    known = np.isfinite(seen) & np.isfinite(at)
    where = f"{spec.name}: {spec.names[motor]}"
    if known.sum() < LEAST:
        raise UsageError("too few samples of this motor", where=where, found=int(known.sum()),
                         expected=f"at least {LEAST}", hint="a longer recording")  # fmt: skip
    if np.ptp(sent[:, motor]) < MOVED:
        raise UsageError("hardly moved", where=where, found=f"{np.ptp(sent[:, motor]):.3f} of its range",
                         expected=f"at least {MOVED:g}")  # fmt: skip
    return Trace(spec, motor, time, sent, at[known], seen[known], mirror, given, expected)


class Trace:
    """One motor's trace, and the servos that can be played against it."""

    def __init__(
        self, spec: RigSpec, motor: int, time: Floats, sent: Floats, at: Floats, seen: Floats, mirror: bool,
        given: Floats | None, expected: Expected | None,
    ) -> None:  # fmt: skip
        self.spec, self.motor, self.at, self.seen, self.mirror = spec, motor, at, seen, mirror
        self.playback = Playback(spec, time, sent, TICK)
        nominal = table_of(spec)[motor]
        self.nominal = nominal if given is None else given.copy()
        self.free = FREE if given is None else (LATENCY,)
        self.prior = np.diag([PRIOR[k] ** -2 for k in self.free])
        if expected is not None and given is None:
            self.nominal, self.prior = expected.values.copy(), expected.precision
        self.dead_free = given is None
        self.degree = 3 if mirror else 1
        self.sigma = 1.0
        self._low = np.array([SERVO[name][0] for name in NAMES])
        self._high = np.array([SERVO[name][1] for name in NAMES])
        self._rest = spec.motors[motor].rest_command

    def fit(self) -> ServoFit:
        """The servo that explains it best."""
        z = dict.fromkeys(self.free, 0.0)
        values = self._table([z])[0]
        values = self._begin(values)
        spread = np.full(len(NAMES), np.nan)
        for _ in range(3):
            values, smooth = self._descend(values)
            values, rough = self._weigh(values)
        values, smooth = self._descend(values)
        for k, sd in (*smooth.items(), *rough.items()):
            spread[k] = sd
        moved, left = self._residuals(values[None])
        curve = self.seen - left[0]
        reach = np.ptp(moved[0])
        lowest, highest = np.argmin(moved[0]), np.argmax(moved[0])
        gain = (curve[highest] - curve[lowest]) / reach if reach > 0 else float("nan")
        return ServoFit(
            values,
            spread,
            float(gain),
            float(np.sqrt((left[0] ** 2).mean())),
            self.at,
            self.seen,
            curve,
        )

    def _table(self, zs: list[dict[int, float]], values: Floats | None = None) -> Floats:
        """Sets of parameters for offsets from the table (of `values` where they are not free)."""
        out = np.repeat((self.nominal if values is None else values)[None], len(zs), axis=0)
        for row, z in zip(out, zs):
            for k, shift in z.items():
                row[k] = self.nominal[k] + shift if k == LATENCY else self.nominal[k] * np.exp(shift)
        return np.clip(out, self._low, self._high)

    def _offsets(self, values: Floats) -> dict[int, float]:
        return {
            k: float(values[k] - self.nominal[k] if k == LATENCY else np.log(values[k] / self.nominal[k]))
            for k in self.free
        }

    def _residuals(self, sets: Floats) -> tuple[Floats, Floats]:
        """Where the motor would have stood, and what is left of the trace: two (B, F)."""
        sets = sets.copy()
        sets[:, -2:] = 1.0, 0.0  # scale and trim are the curve's
        shaft, load = self.playback.play(self.motor, sets)
        moved = self.playback.at(load if self.mirror else shaft, self.at)  # (B, F)
        left = np.empty_like(moved)
        for b, x in enumerate(moved):
            rows = np.vander(x - self._rest, self.degree + 1)
            weight = np.ones(len(x))
            for _ in range(2):  # a picture in which the tracker errs does not bend the curve
                w = np.sqrt(weight)
                curve = np.linalg.lstsq(rows * w[:, None], self.seen * w, rcond=None)[0]
                left[b] = self.seen - rows @ curve
                weight = self._weights(left[b] / self.sigma)
        return moved, left

    @staticmethod
    def _weights(x: Floats) -> Floats:
        out: Floats = np.minimum(1.0, HUBER / np.maximum(np.abs(x), 1e-12))
        return out

    def _cost(self, left: Floats) -> Floats:
        a = np.abs(left / self.sigma)
        each: Floats = np.where(a < HUBER, 0.5 * a * a, HUBER * (a - 0.5 * HUBER)).sum(-1) / TOGETHER
        return each

    def _measure(self, left: Floats) -> None:
        self.sigma = max(1.4826 * float(np.median(np.abs(left))), 3e-4)

    def _begin(self, values: Floats) -> Floats:
        sets = np.repeat(values[None], len(LATENCIES), axis=0)
        sets[:, LATENCY] = LATENCIES
        left = self._residuals(sets)[1]
        best = int((left**2).sum(1).argmin())
        self._measure(left[best])
        return sets[best]

    def _prior(self, z: dict[int, float]) -> float:
        shift = np.array([z[k] for k in self.free])
        return float(0.5 * shift @ self.prior @ shift)

    def _descend(self, values: Floats) -> tuple[Floats, dict[int, float]]:
        """Gauss-Newton over what has a slope; values and standard deviations."""
        z, damping = self._offsets(values), 1e-3
        left = self._residuals(values[None])[1][0]
        self._measure(left)
        cost = float(self._cost(left)) + self._prior(z)
        matrix = np.eye(len(self.free))
        for _ in range(12):
            trials = [{**z, k: z[k] + sign * STEP[k]} for k in self.free for sign in (1, -1)]
            told, right = self._normal(left, self._residuals(self._table(trials, values))[1])
            matrix = told + self.prior
            right = right - self.prior @ np.array([z[k] for k in self.free])
            gained = 0.0
            for _ in range(5):
                step = np.linalg.solve(matrix + damping * np.diag(np.diag(matrix)), right)
                trial = {k: z[k] + float(s) for k, s in zip(self.free, step)}
                at = self._table([trial], values)
                after = self._residuals(at)[1][0]
                now = float(self._cost(after)) + self._prior(trial)
                if now < cost:
                    gained, z, values, left, cost = cost - now, self._offsets(at[0]), at[0], after, now
                    damping /= 4
                    break
                damping *= 8
            if gained < 1e-4 * (1 + cost):
                break
        sd = np.sqrt(np.diag(np.linalg.inv(matrix)))
        scale = [1.0 if k == LATENCY else values[k] for k in self.free]
        return values, {k: float(s * f) for k, s, f in zip(self.free, sd, scale)}

    def _normal(self, left: Floats, ends: Floats) -> tuple[Floats, Floats]:
        """Normal matrix and right side of a Gauss-Newton step, from residuals a step up and down of each."""
        slope = np.stack([(ends[2 * a] - ends[2 * a + 1]) / (2 * STEP[k]) for a, k in enumerate(self.free)])
        weight = self._weights(left / self.sigma) / (self.sigma**2 * TOGETHER)
        return (slope * weight) @ slope.T, -(slope * weight) @ left

    def normal(self, values: Floats) -> tuple[float, Floats, Floats]:
        """Cost of a servo, float64 [shape=(8,)], without what was expected; normal matrix and right side of a
        Gauss-Newton step in `FREE` (s, e-folds)."""
        sets = np.repeat(values[None], 2 * len(self.free), axis=0)
        for a, k in enumerate(self.free):
            for row, sign in ((2 * a, 1), (2 * a + 1, -1)):
                sets[row, k] = (
                    values[k] + sign * STEP[k] if k == LATENCY else values[k] * np.exp(sign * STEP[k])
                )
        left = self._residuals(np.concatenate([values[None], np.clip(sets, self._low, self._high)]))[1]
        return float(self._cost(left[0])), *self._normal(left[0], left[1:])

    def cost(self, values: Floats) -> float:
        """Cost of a servo, without what was expected."""
        return float(self.costs(values[None])[0])

    def costs(self, sets: Floats) -> Floats:
        """Costs of servos, float64 [shape=(B, 8)] to [shape=(B,)], without what was expected."""
        return self._cost(self._residuals(np.clip(sets, self._low, self._high))[1])

    def told(self, time: Floats, sent: Floats) -> Trace:
        """The same trace, of a servo that was told otherwise."""
        other = copy.copy(self)
        other.playback = Playback(self.spec, time, sent, TICK)
        return other

    def measure(self, values: Floats) -> None:
        """Take a servo's residuals for the scatter of this trace."""
        self._measure(self._residuals(values[None])[1][0])

    def _weigh(self, values: Floats) -> tuple[Floats, dict[int, float]]:
        """Dead band and play: mean and standard deviation of their posterior over a grid."""
        deads = DEADS if self.dead_free else values[DEAD : DEAD + 1]
        plays = PLAYS if self.mirror else values[BACKLASH : BACKLASH + 1]
        if len(deads) * len(plays) == 1:
            return values, {}
        sets = np.repeat(values[None], len(deads) * len(plays), axis=0)
        sets[:, DEAD] = np.repeat(deads, len(plays))
        sets[:, BACKLASH] = np.tile(plays, len(deads))
        left = self._residuals(sets)[1]
        self._measure(left[int((left**2).sum(1).argmin())])
        cost = self._cost(left)
        for k, least in ((DEAD, 2e-3), (BACKLASH, 3e-3)):
            about = max(self.nominal[k], least)
            cost = cost + 0.5 * (np.log((sets[:, k] + 1e-3) / (about + 1e-3)) / WIDE) ** 2
        weight = np.exp(-(cost - cost.min()))
        # cells of an uneven grid
        area = np.outer(_cells(deads), _cells(plays)).ravel()
        weight *= area / (weight * area).sum()
        out, spread = values.copy(), {}
        for k, ends in ((DEAD, deads), (BACKLASH, plays)):
            if len(ends) > 1:
                out[k] = float(weight @ sets[:, k])
                spread[k] = float(
                    np.sqrt(weight @ (sets[:, k] - out[k]) ** 2 + np.diff(ends).min() ** 2 / 12)
                )
        return out, spread


def _cells(points: Floats) -> Floats:
    if len(points) == 1:
        return np.ones(1)
    edges = np.concatenate([points[:1], (points[1:] + points[:-1]) / 2, points[-1:]])
    out: Floats = np.diff(edges)
    return out
