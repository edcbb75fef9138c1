"""The fit: Gauss-Newton steps with gradients through the skin, then a search of what has no gradient.

Landmarks depend on motor positions through the skin, whose derivatives are exact, and positions on servo
parameters through servos played again with each parameter changed a little. Both meet in a small system of
equations, with priors that keep what the recording does not show at the file's value. Dead bands have no
useful slope: they, and all else once more, are searched motor by motor, with the servos played for many
candidates at once and the skin replaced by its slope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.face_map import FaceMap
from facetwin.twin.calibration.observed import LEAST, Observed
from facetwin.twin.calibration.parameters import (
    BACKLASH,
    CLOCK_PRIOR,
    DEAD,
    MATERIAL_PRIOR,
    NAMES,
    SCALE,
    SMOOTH,
    TRIM,
    VIEW_PRIOR,
    Scale,
    Values,
)
from facetwin.twin.calibration.traces import Playback
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Tell = Callable[[str], None]

#: residuals beyond so many sigma count linearly
HUBER = 1.5
#: how many of the coordinates of a picture, and of a servo's readings, tell something of their own
PICTURE_WEIGHT, READING_WEIGHT = 0.05, 0.1
#: u, rad and commands: no residual is taken for better than this
LEAST_U, LEAST_TURN, LEAST_READING = 5e-4, 1e-3, 3e-4
#: u, how far a tracker sees each landmark off, always the same way, beyond what was learned of it: from the
#: table's twin, and from one that was already fitted
BIAS, LATER_BIAS = 0.003, 0.001
#: u a command: a motor that moves no landmark more is not seen
SEEN = 0.004
#: share of the prior's spread that is left of what counts as found
FOUND = 0.5


@dataclass
class Fit:
    """What a fit found.

    Attributes
    ----------
    values : Values
    spread, known : float64 [shape=(n, 8)]
        Standard deviation after the fit, in z, and its share of that before: 0 well seen .. 1 not seen.
    fitted : bool [shape=(n, 8)]
        What was left free.
    material_known : float64 [shape=(q,)], clock_known : float
        As `known`.
    offset : float64 [shape=(D,)]
        What is added to the map for each coordinate: another rest face, another stand of the camera.
    costs : list of float
        After each accepted step.
    notes : list of str
        What was left alone, and why.
    """

    values: Values
    spread: Floats
    known: Floats
    fitted: Bools
    material_known: Floats
    clock_known: float
    offset: Floats
    costs: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Play:
    positions: Floats  # (F, n)
    slopes: Floats  # (F, n, 8)
    speeds: Floats  # (F, n), commands/s
    shaft: Floats  # (T', n)
    shaft_slopes: Floats  # (T', n, 8)


class Fitter:
    """Fit a rig to what was recorded.

    Parameters
    ----------
    spec : RigSpec
        The table to begin from.
    data : Observed
        Checked.
    face_map : FaceMap
        Of the same table; with a tracker's `response` if the landmarks are a tracker's.
    same_face : bool
        The recorded face has the twin's shape at rest. If not, each landmark has an offset of its own, and
        the trims of what moves the face straight are not seen.
    train : bool [shape=(F,)], optional
        The pictures to fit; `Observed.split` by default.
    correction : float64 [shape=(T, D)], optional
        What the twin itself showed less what the map says, at each training picture, for values near those
        that the fit begins from: the map is left with the slope.
    fixed : bool [shape=(n, 8)], optional
        What stays as the fit begins.
    """

    def __init__(
        self,
        spec: RigSpec,
        data: Observed,
        face_map: FaceMap,
        *,
        same_face: bool = True,
        train: Bools | None = None,
        correction: Floats | None = None,
        fixed: Bools | None = None,
    ) -> None:
        self.spec, self.data, self.map = spec, data, face_map
        self.scale = Scale(spec)
        self.playback = Playback(spec, data.time, data.sent)
        self.train = data.split()[0] if train is None else train
        self._times = data.picture_time[self.train]
        self._target = face_map.target(data.landmarks[self.train], data.turn[self.train])
        if correction is not None:
            self._target = self._target - correction
        d = face_map.size
        self._is_turn = np.arange(d) >= d - 3
        # coordinates with an offset of their own, and how precisely it is known to be nothing
        self._free = ~self._is_turn & (not same_face or face_map.response is not None)
        bias = BIAS if correction is None else LATER_BIAS
        self._known = 0.0 if not same_face else PICTURE_WEIGHT / bias**2
        self.same_face = same_face
        self._motors = np.arange(spec.size)
        rows = np.flatnonzero(~data.held_out_at(data.time) & np.isfinite(data.measured).any(1))
        self._rows = rows
        self._readings = data.measured[rows]
        self.notes: list[str] = []
        self._choose()
        self._moving = self.fitted if fixed is None else self.fitted & ~fixed
        self._sigma = np.full(d, LEAST_U)
        self._reading_sigma = np.full(spec.size, LEAST_READING)
        self._shift = np.zeros(d)  # offsets at the last residuals

    def _choose(self) -> None:
        # Which parameters of which motors are free.
        spec, n = self.spec, self.spec.size
        early = ~self.data.held_out_at(self.data.time)
        moved = np.ptp(self.data.sent[early], axis=0)
        _, slope = self.map.gradient(spec.rest[None], np.zeros(self.map.materials), self._motors)
        size = np.abs(slope[0, :, :n]).max(0)
        read = np.isfinite(self._readings).any(0) if len(self._rows) else np.zeros(n, bool)
        self.fitted = np.zeros((n, len(NAMES)), bool)
        for i, name in enumerate(spec.names):
            if moved[i] < LEAST:
                self.notes.append(f"{name}: left alone, it was hardly moved ({moved[i]:.3f} of its range)")
            elif size[i] >= SEEN:
                self.fitted[i] = True
            elif read[i]:
                self.fitted[i, : BACKLASH + 2] = True
                self.fitted[i, BACKLASH] = False
                self.notes.append(f"{name}: horn and backlash left alone, no landmark shows it")
            else:
                self.notes.append(f"{name}: left alone, no landmark shows it and its servo is not read")
        if self.map.response is not None:  # half a degree of play is less than a tracker sees
            self.fitted[:, BACKLASH] = False
            self.notes.append("backlash: left alone, a tracker does not show it")
        self._read = read
        self._seen = np.flatnonzero(size >= SEEN)
        self._clock_free = bool(read.any())
        if not self._clock_free:
            self.notes.append("camera delay: left alone, without servo readings it is not told from latency")

    def begin(self, rest_turn: Floats) -> Values:
        """The table with the neck's trims from how else the head at rest is seen turned [shape=(3,), rad].

        Neck and camera share it by their priors.
        """
        values = self.nothing()
        neck = [i for i in self.spec.group("neck") if self.fitted[i, TRIM]]
        if not neck:
            return values
        _, slope = self.map.gradient(self.spec.rest[None], values.material, np.array(neck, np.intp))
        per_trim = slope[0, -3:, : len(neck)] / self.spec.span[neck]  # (3, k), rad a rad
        spread = self.scale.prior[neck, TRIM]
        matrix = per_trim.T @ per_trim / VIEW_PRIOR**2 + np.diag(1 / spread**2)
        values.z[neck, TRIM] = np.linalg.solve(matrix, per_trim.T @ rest_turn / VIEW_PRIOR**2)
        return values

    def nothing(self) -> Values:
        """The table as it is."""
        return Values(np.zeros_like(self.scale.nominal), np.zeros(self.map.materials))

    # --- evaluation ------------------------------------------------------------------------------------

    def positions(self, values: Values, times: Floats | None = None) -> Floats:
        """Where the motors stood at pictures' times [shape=(F,)] (the training pictures'), (F, n)."""
        at = (self._times if times is None else times) - values.clock
        table = self.scale.table(values.z)
        loads = [self.playback.play(i, table[i : i + 1])[1] for i in range(self.spec.size)]
        return np.stack([self.playback.at(load[0], at) for load in loads], 1)

    def predict(self, values: Values, times: Floats) -> Floats:
        """What is seen at times [shape=(F,)] without offsets, (F, D)."""
        return self._viewed(self.map.array(self.positions(values, times), values.material), values)

    def _viewed(self, seen: Floats, values: Values) -> Floats:
        seen[:, -3:] += values.view
        return seen

    def offset(self, values: Values) -> Floats:
        """Offsets of another face, from the training pictures: float64 [shape=(D,)]; 0 of the same face."""
        if self.same_face:
            return np.zeros(self.map.size)
        return self._offset(self._target - self.predict(values, self._times))

    def _offset(self, left: Floats) -> Floats:
        weight = PICTURE_WEIGHT * len(left) / self._sigma**2
        return np.where(self._free, _middle(left) * weight / (weight + self._known), 0.0)

    def _play(self, values: Values, *, slopes: bool) -> _Play:
        n, count = self.spec.size, len(self._times)
        at, rows = self._times - values.clock, self.data.time[self._rows]
        k = len(NAMES) if slopes else 0
        out = _Play(
            np.empty((count, n)), np.zeros((count, n, k)), np.empty((count, n)),
            np.empty((len(rows), n)), np.zeros((len(rows), n, k)),
        )  # fmt: skip
        for i in range(n):
            z = np.repeat(values.z[i : i + 1], 2 * k + 1, axis=0)
            for a in range(k):
                z[2 * a + 1, a] += self.scale.step[i, a]
                z[2 * a + 2, a] -= self.scale.step[i, a]
            shaft, load = self.playback.play(i, self.scale.table(z, i))
            seen, read = self.playback.at(load, at), self.playback.at(shaft, rows)
            later = self.playback.at(load[:1], at + 0.002)[0]
            out.positions[:, i], out.shaft[:, i] = seen[0], read[0]
            out.speeds[:, i] = (later - seen[0]) / 0.002
            for a in range(k):
                out.slopes[:, i, a] = (seen[2 * a + 1] - seen[2 * a + 2]) / (2 * self.scale.step[i, a])
                out.shaft_slopes[:, i, a] = (read[2 * a + 1] - read[2 * a + 2]) / (2 * self.scale.step[i, a])
        return out

    def _residuals(self, seen: Floats, shaft: Floats) -> tuple[Floats, Floats]:
        left = self._target - seen
        self._shift = self._offset(left)
        left = left - self._shift
        return left, np.where(np.isfinite(self._readings), self._readings - shaft, 0.0)

    def _measure(self, left: Floats, read: Floats) -> None:
        # How large residuals are, robustly: what a step is worth.
        turn = self._is_turn
        self._sigma = np.where(
            turn, max(_spread(left[:, turn]), LEAST_TURN), max(_spread(left[:, ~turn]), LEAST_U)
        )
        if read.size:
            each = np.array([_spread(read[:, i]) for i in range(read.shape[1])])
            self._reading_sigma = np.maximum(each, LEAST_READING)

    def _cost(self, values: Values, left: Floats, read: Floats) -> float:
        cost = PICTURE_WEIGHT * _huber(left / self._sigma).sum()
        cost += READING_WEIGHT * _huber(read / self._reading_sigma)[:, self._read].sum()
        cost += 0.5 * ((values.z / self.scale.prior) ** 2).sum()
        cost += (
            0.5 * ((values.material / MATERIAL_PRIOR) ** 2).sum() + 0.5 * self._known * (self._shift**2).sum()
        )
        cost += 0.5 * (values.clock / CLOCK_PRIOR) ** 2 + 0.5 * ((values.view / VIEW_PRIOR) ** 2).sum()
        return float(cost)

    def cost(self, values: Values) -> float:
        """What is minimised, with the present idea of how large residuals are."""
        play = self._play(values, slopes=False)
        seen = self._viewed(self.map.array(play.positions, values.material), values)
        left, read = self._residuals(seen, play.shaft)
        return self._cost(values, left, read)

    # --- steps -----------------------------------------------------------------------------------------

    def fit(
        self, rounds: int = 3, steps: int = 5, tell: Tell | None = None, begin: Values | None = None
    ) -> Fit:
        """Fit: rounds of Gauss-Newton steps and of searches, from the table or from other values."""
        say = tell or (lambda _: None)
        values = begin.copy() if begin is not None else self.nothing()
        costs: list[float] = []
        for turn in range(rounds):
            values = self._descend(values, steps, costs)
            say(f"round {turn + 1}: cost {costs[-1]:.4g}")
            if turn < rounds - 1:
                values = self._search(values)
        spread, known, material, clock = self._know(values)
        return Fit(values, spread, known, self.fitted.copy(), material, clock, self.offset(values), costs,
                   list(self.notes))  # fmt: skip

    def _columns(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        # Motor and parameter of each free number that has a slope.
        motors, which = np.nonzero(self._moving & SMOOTH)
        return motors, which

    def _normal(self, values: Values, play: _Play) -> tuple[Floats, Floats]:
        """Matrix and right side of a step, priors included."""
        seen, slope = self.map.gradient(play.positions, values.material, self._seen)  # (F, D), (F, D, m + q)
        left, read = self._residuals(self._viewed(seen, values), play.shaft)
        m, q = len(self._seen), self.map.materials
        clock = -np.einsum("fdm,fm->fd", slope[:, :, :m], play.speeds[:, self._seen].astype(np.float32))
        view = np.zeros((*clock.shape, 3), np.float32)
        view[:, -3:] = np.eye(3, dtype=np.float32)
        wide = np.concatenate([slope, clock[:, :, None], view], 2)  # (F, D, c)
        weight = (PICTURE_WEIGHT * _weights(left / self._sigma) / self._sigma**2).astype(np.float32)
        motors, which = self._columns()
        column = np.searchsorted(self._seen, motors)
        visible = np.isin(motors, self._seen)
        column = np.where(visible, column, 0)
        count = len(motors) + q + 4
        series = np.ones((len(left), count))
        series[:, : len(motors)] = play.slopes[:, motors, which] * visible
        place = np.concatenate([column, m + np.arange(q + 4)])
        squares = np.einsum("fdc,fd,fde->fce", wide, weight, wide, optimize=True).astype(np.float64)
        right = np.einsum("fdc,fd->fc", wide, weight * left.astype(np.float32)).astype(np.float64)
        h, g = np.empty((count, count)), (right[:, place] * series).sum(0)
        for a in range(count):
            h[a] = ((squares[:, place[a]][:, place] * series) * series[:, a : a + 1]).sum(0)
        if self._free.any():
            free = np.flatnonzero(self._free)
            mean = np.empty((len(free), count))
            for c in np.unique(place):
                at = place == c
                mean[:, at] = np.einsum("fd,fa->da", wide[:, free, c] * weight[:, free], series[:, at])
            total = weight[:, free].sum(0) + self._known
            h -= (mean / total[:, None]).T @ mean
            g -= mean.T @ ((weight[:, free] * left[:, free]).sum(0) / total)
            g += mean.T @ (self._known * self._shift[free] / total)
        for a, (i, k) in enumerate(zip(motors, which, strict=True)):
            if not self._read[i]:
                continue
            w = READING_WEIGHT * _weights(read[:, i] / self._reading_sigma[i]) / self._reading_sigma[i] ** 2
            s = play.shaft_slopes[:, i, k]
            g[a] += (w * s * read[:, i]).sum()
            for b in np.flatnonzero(motors == i):
                h[a, b] += (w * s * play.shaft_slopes[:, i, which[b]]).sum()
        # priors
        spread = np.concatenate([
            self.scale.prior[motors, which], np.full(q, MATERIAL_PRIOR),
            [CLOCK_PRIOR if self._clock_free else 1e-9], np.full(3, VIEW_PRIOR),
        ])  # fmt: skip
        now = np.concatenate([values.z[motors, which], values.material, [values.clock], values.view])
        h[np.diag_indices(count)] += 1 / spread**2
        g -= now / spread**2
        return h, g

    def _moved(self, values: Values, step: Floats) -> Values:
        motors, which = self._columns()
        out = values.copy()
        out.z[motors, which] += step[: len(motors)]
        out.material += step[len(motors) : -4]
        out.clock += float(step[-4])
        out.view += step[-3:]
        # what the table cannot hold is no use in z either
        table = self.scale.table(out.z)
        for k in (0, DEAD, BACKLASH):
            out.z[:, k] = table[:, k] - self.scale.nominal[:, k]
        return out

    def _descend(self, values: Values, steps: int, costs: list[float]) -> Values:
        damping = 0.0
        for _ in range(steps):
            play = self._play(values, slopes=True)
            seen = self._viewed(self.map.array(play.positions, values.material), values)
            left, read = self._residuals(seen, play.shaft)
            self._measure(left, read)
            before = self._cost(values, left, read)
            h, g = self._normal(values, play)
            gained = False
            for _ in range(5):
                matrix = h + np.diag(damping * np.diag(h))
                trial = self._moved(values, np.linalg.solve(matrix, g))
                after = self.cost(trial)
                if after < before:
                    gained = True
                    break
                damping = max(10 * damping, 1e-2)
            if not gained:
                costs.append(before)
                break
            values, damping = trial, damping / 10 if damping > 1e-4 else 0.0
            costs.append(after)
            if before - after < 1e-4 * before:
                break
        return values

    def _search(self, values: Values) -> Values:
        """Search each motor by itself: a grid of dead bands and plays, then steps along every parameter."""
        play = self._play(values, slopes=False)
        seen, slope = self.map.gradient(play.positions, values.material, self._seen)
        left, _ = self._residuals(self._viewed(seen, values), play.shaft)
        weight = PICTURE_WEIGHT * _weights(left / self._sigma) / self._sigma**2
        out = values.copy()
        for i in np.flatnonzero(self._moving.any(1)):
            place = np.searchsorted(self._seen, i)
            if place < len(self._seen) and self._seen[place] == i:
                j = slope[:, :, place]
                square, right = (weight * j * j).sum(1), (weight * j * left).sum(1)
            else:
                square = right = np.zeros(len(left))
            out.z[i] = self._search_motor(int(i), values, play.positions[:, i], square, right)
        return out if self.cost(out) < self.cost(values) else values

    def _search_motor(self, i: int, values: Values, at: Floats, square: Floats, right: Floats) -> Floats:
        times, rows = self._times - values.clock, self.data.time[self._rows]
        sigma, free = self._reading_sigma[i], np.flatnonzero(self._moving[i])

        def judge(z: Floats) -> tuple[Floats, Floats]:
            table = self.scale.table(z, i)
            shaft, load = self.playback.play(i, table)
            d = self.playback.at(load, times) - at
            cost = (0.5 * square * d * d - right * d).sum(1) + 0.5 * ((z / self.scale.prior[i]) ** 2).sum(1)
            if self._read[i]:
                off = np.nan_to_num(self._readings[:, i] - self.playback.at(shaft, rows))
                cost = cost + READING_WEIGHT * _huber(off / sigma).sum(1)
            return cost, table

        z = values.z[i].copy()
        nominal = self.scale.nominal[i]
        grid = [z]
        for dead in np.array((0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)) * max(nominal[DEAD], 2e-3):
            for slack in np.array((0.0, 0.5, 1.0, 1.5, 2.0, 3.0)) * max(nominal[BACKLASH], 3e-3):
                one = z.copy()
                one[DEAD] = dead - nominal[DEAD]
                if self._moving[i, BACKLASH]:
                    one[BACKLASH] = slack - nominal[BACKLASH]
                grid.append(one)
        cost, table = judge(np.array(grid))
        best = int(cost.argmin())
        z, now = grid[best].copy(), float(cost[best])
        width = self.scale.prior[i] * 0.25
        for _ in range(9):
            trials = np.repeat(z[None], 2 * len(free), axis=0)
            for a, k in enumerate(free):
                trials[2 * a, k] += width[k]
                trials[2 * a + 1, k] -= width[k]
            cost, table = judge(trials)
            best = int(cost.argmin())
            if cost[best] < now:
                z, now = trials[best].copy(), float(cost[best])
                for k in (0, DEAD, BACKLASH):
                    z[k] = table[best, k] - nominal[k]
            else:
                width = width / 2
        return z

    def _know(self, values: Values) -> tuple[Floats, Floats, Floats, float]:
        # What is left of the priors' spread.
        play = self._play(values, slopes=True)
        seen = self._viewed(self.map.array(play.positions, values.material), values)
        left, read = self._residuals(seen, play.shaft)
        self._measure(left, read)
        h, _ = self._normal(values, play)
        sd = np.sqrt(np.maximum(np.diag(np.linalg.inv(h)), 0))
        motors, which = self._columns()
        spread = self.scale.prior.copy()
        spread[motors, which] = sd[: len(motors)]
        # dead bands: how far the cost is from flat, by two sets
        for i in np.flatnonzero(self.fitted[:, DEAD]):
            spread[i, DEAD] = self._dead_spread(int(i), values)
        known = spread / self.scale.prior
        q = self.map.materials
        material = sd[len(motors) : len(motors) + q] / MATERIAL_PRIOR
        return spread, known, material, float(sd[-4] / CLOCK_PRIOR) if self._clock_free else 1.0

    def _dead_spread(self, i: int, values: Values) -> float:
        prior, step = self.scale.prior[i, DEAD], 0.25 * self.scale.prior[i, DEAD]
        if not self._read[i]:
            return float(prior)
        z = np.repeat(values.z[i : i + 1], 3, axis=0)
        z[1, DEAD] += step
        z[2, DEAD] -= step
        shaft = self.playback.at(self.playback.play(i, self.scale.table(z, i))[0], self.data.time[self._rows])
        off = np.nan_to_num(self._readings[:, i] - shaft) / self._reading_sigma[i]
        cost = READING_WEIGHT * _huber(off).sum(1)
        bend = max((cost[1] + cost[2] - 2 * cost[0]) / step**2, 0.0) + 1 / prior**2
        return float(1 / np.sqrt(bend))


def _middle(left: Floats) -> Floats:
    middle: Floats = np.median(left, axis=0)
    return middle


def _spread(left: Floats) -> float:
    known = left[np.isfinite(left)]
    return float(1.4826 * np.median(np.abs(known))) if known.size else 0.0


def _huber(x: Floats) -> Floats:
    a = np.abs(x)
    return np.where(a < HUBER, 0.5 * a * a, HUBER * (a - 0.5 * HUBER))


def _weights(x: Floats) -> Floats:
    out: Floats = np.minimum(1.0, HUBER / np.maximum(np.abs(x), 1e-12))
    return out


__all__ = ["FOUND", "SCALE", "TRIM", "Fit", "Fitter"]
