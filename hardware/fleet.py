"""Many simulated faces behind their safety layers, moved together: the motors of the vector environment.

What `SimRig` and `SafetyLayer` do for one face on its simulated clock, for a whole batch in one compiled
loop, with the same kernels and so with the same bits. It is no `Rig`: it has no watchdog (a batch that is
not stepped stands still) and cannot fault. Skin and pictures are not here; `positions` says where the
motors stood when the camera looked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from facetwin.hardware.safety_kernels import COUPLING, rules_of, step
from facetwin.twin.coupling_kernels import project_one
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.servo import constants_of
from facetwin.twin.servo_kernels import V, X, Y, advance, answers
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]
GENTLE = 0.02  # s, how long the first write after `reset` may move for, as the safety layer has it
LONGEST = 0.1  # s, its longest step
REMEMBERED = 6.0  # times of creep that the way of the motors is kept for, as `SimRig` does


class Fleet:
    """A batch of simulated faces.

    Parameters
    ----------
    specs : RigSpec [shape=(B,)]
        One a face; they may differ in all but motors and couplings.
    tick : float, s
        Grid on which servos are stepped, as in `SimRig`.
    longest : float, s, optional
        No `move` lasts longer: what is older than that is not kept. By default it is kept for creep.

    Attributes
    ----------
    sent : float64 [shape=(B, n)], commands
        What the safety layers let through last.
    held_back : int8 [shape=(B, n)]
        Why a motor is not where it was asked to be: 0 it is, 1 speed, 2 acceleration, 3 soft limit,
        4 coupling, 5 coupling on the way.
    time : float64 [shape=(B,), s]
        Of each face's clock.
    trail : float64 [shape=(L, B, n)]
        Where loads stood after each of the last ticks, a ring; tick ``done[b]`` is in row ``last[b]``.
        ``scale * trail + trim`` are positions.
    kept : int64 [shape=(B,)]
        Ticks that `SimRig` would remember, this one included.
    """

    def __init__(
        self, specs: Sequence[RigSpec], tick: float = 0.005, *, longest: float | None = None
    ) -> None:
        if not specs:
            raise UsageError("no faces", where="Fleet", found=0, expected="at least one")
        first = specs[0]
        self.tick, self.size = float(tick), len(specs)
        couplings = Couplings(first)
        rules = couplings.packed
        if rules is None:
            raise UsageError(
                "linear couplings that share motors", where=first.source, found="two of one motor",
                expected="at most one linear rule in each group of motors", hint="use single environments",
            )  # fmt: skip
        self._rules, self._ways = rules.arrays, rules_of(couplings)
        n = first.size
        self._tables = {
            name: np.zeros((self.size, n)) for name in ("lower", "upper", "speed", "acceleration", "rest")
        }
        self._constants = np.zeros((self.size, n, 6))
        self._whole = np.zeros((self.size, n), np.int64)
        self._known = np.zeros((self.size, n, 8))
        self.scale, self.trim = np.ones((self.size, n)), np.zeros((self.size, n))
        self._delay, self._rate = np.zeros(self.size), np.zeros(self.size)
        self._longest = np.inf if longest is None else float(longest)
        self.kept = np.zeros(self.size, np.int64)
        self._rows = 32  # of the trail that are needed
        self.specs = list(specs)
        t = self._tables
        for b, spec in enumerate(specs):
            self._take(b, spec)
            t["lower"][b], t["upper"][b] = spec.soft_limits
            t["speed"][b] = np.array([m.max_speed for m in spec.motors]) / spec.span
            t["acceleration"][b] = np.array([m.max_acceleration for m in spec.motors]) / spec.span
            t["rest"][b] = spec.rest
        ticks = math.ceil(LONGEST / tick) + 2
        self._past = np.zeros((int(self._whole.max()) + ticks + 64, self.size, n))
        self.trail = np.zeros((self._rows, self.size, n))
        self._state = np.zeros((self.size, n, 5))
        self._newest = np.zeros(self.size, np.int64)
        self.last = np.zeros(self.size, np.int64)
        self.done = np.zeros(self.size, np.int64)
        self.sent = np.zeros((self.size, n))
        self._speed = np.zeros((self.size, n))
        self._stop = np.zeros((self.size, n))  # stopping points
        self._last = np.zeros(self.size)  # how long the last step took, s
        self._wrote = np.zeros(self.size)
        self.held_back = np.zeros((self.size, n), np.int8)
        self.time = np.zeros(self.size)
        self.reset()

    def _take(self, b: int, spec: RigSpec) -> None:
        if spec.names != self.specs[0].names or spec.couplings != self.specs[0].couplings:
            raise UsageError(
                "faces of different kinds", where="Fleet", found=spec.name, expected=self.specs[0].name
            )
        self.specs[b] = spec
        self._whole[b], self._constants[b] = constants_of(spec, self.tick)
        self.scale[b] = [m.scale for m in spec.motors]
        self.trim[b] = np.array([m.trim for m in spec.motors]) / spec.span + (1 - self.scale[b]) * spec.rest
        one = self._known[b : b + 1]
        answers(self._constants[b : b + 1], self.tick, one)
        camera = spec.cameras["mirror"]
        self._delay[b], self._rate[b] = camera.delay, camera.rate
        seen, reach = _reach(spec)
        self.kept[b] = math.ceil(reach / self.tick) + 3
        self._rows = max(self._rows, math.ceil(min(reach, seen + self._longest) / self.tick) + 3)

    def reset(self, which: ArrayLike | None = None, specs: Sequence[RigSpec] | None = None) -> None:
        """Bring faces [indices or mask; all by default] to rest at time 0, as other bodies with `specs`.

        As in `SimRig.become`, those change what is simulated; limits and safety stay those of the first ones.
        """
        rows = np.arange(self.size)[which if which is None else np.asarray(which)].ravel()
        for k, b in enumerate(rows):
            if specs is not None:
                self._take(int(b), specs[k])
                if self._whole[b].max() + 30 > len(self._past):
                    raise FaceTwinError(
                        "too slow a servo", where="Fleet.reset", found=specs[k].name,
                        expected=f"latency below {(len(self._past) - 30) * self.tick:.2f} s",
                    )  # fmt: skip
        if self._rows > len(self.trail):
            self._lengthen()
        rest = self._tables["rest"][rows]
        self._past[:, rows] = rest
        self.trail[:, rows] = rest
        self._state[rows] = rest[..., None]
        self._state[rows, :, V] = 0.0
        self._newest[rows] = self.last[rows] = self.done[rows] = 0
        self.sent[rows], self._speed[rows], self.held_back[rows] = rest, 0.0, 0
        self._stop[rows], self._last[rows] = rest, 0.0
        self.time[rows], self._wrote[rows] = 0.0, -GENTLE

    def _lengthen(self) -> None:
        """Room for a longer past: bodies that were drawn may look back farther."""
        old, ages = self.trail, np.arange(len(self.trail))
        self.trail = np.zeros((self._rows, *old.shape[1:]))
        for b in range(self.size):
            self.trail[-1 - ages, b] = old[(self.last[b] - ages) % len(old), b]
        self.last[:] = self._rows - 1

    def move(
        self,
        commands: ArrayLike,
        duration: float,
        writes: int,
        which: NDArray[np.bool_] | None = None,
        *,
        crew: Executor | None = None,
        parts: Sequence[slice] = (),
    ) -> None:
        """Write commands [shape=(B, n)] `writes` times while `duration` (s) passes, evenly.

        Faces that the mask `which` [shape=(B,)] leaves out stand still, and so do their clocks. Threads of a
        `crew` may share the work: `parts` of the faces, all of them together. The bits are the same.
        """
        asked = np.ascontiguousarray(commands, dtype=np.float64)
        if asked.shape != self.sent.shape or not np.isfinite(asked).all():
            raise FaceTwinError("not commands", where="Fleet.move", found=asked.shape,
                                expected=f"{self.sent.shape}, finite")  # fmt: skip
        t = self._tables
        moving = np.ones(self.size, np.bool_) if which is None else which

        def some(part: slice) -> int:
            return int(_move(
                part.start, part.stop, moving, asked, float(duration), int(writes), t["lower"], t["upper"],
                t["speed"], t["acceleration"], self._rules, self._ways, self.sent, self._speed, self._stop,
                self._last, self._wrote, self.time, self.held_back, self._past, self._newest, self._whole,
                self._constants, self.tick, self._known, self._state, self.trail, self.last, self.done,
            ))  # fmt: skip

        whole = slice(0, self.size)
        bad = some(whole) if crew is None else max(crew.map(some, parts or [whole]))
        if bad >= 0:
            raise FaceTwinError(
                "no allowed command within the limits", where=f"couplings, face {bad}",
                found=self.specs[bad].name, expected="limits that leave room beside the rules",
            )  # fmt: skip

    def positions(self) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Where the motors stood when each camera looked [shape=(B, n)], when that was (s), which picture."""
        out = np.empty_like(self.sent)
        latest = self.time - self._delay
        steady = self._rate > 0
        number = np.floor(np.where(steady, latest * self._rate, 0.0) + 1e-6).astype(np.int64)
        when = np.where(steady, number / np.where(steady, self._rate, 1.0), latest)
        _look(when, self.tick, self.done, self.last, self.trail, out)
        return self.scale * out + self.trim, when, number

    @property
    def shaft(self) -> Floats:
        """Where the servos' own sensors are, in commands [shape=(B, n)]."""
        return self._state[:, :, X].copy()

    @property
    def load(self) -> Floats:
        """Where the loads stand, after the backlash, in commands [shape=(B, n)]."""
        return self.scale * self._state[:, :, Y] + self.trim


def _reach(spec: RigSpec) -> tuple[float, float]:
    """How far back (s) a camera asks where the motors were, and how far creep does."""
    camera = spec.cameras["mirror"]
    seen = camera.delay + (1 / camera.rate if camera.rate else 0.0)
    return seen, seen if spec.skin_time.still else seen + REMEMBERED * spec.skin_time.creep_time


@njit(cache=True, nogil=True)
def _move(
    begin, end, moving, asked, duration, writes, lower, upper, speed, acceleration, rules, ways, sent,
    velocity, stop, last_step, wrote, time, held_back, past, newest, whole, constants, dt, known, state,
    trail, last, done,
):  # fmt: skip
    n = asked.shape[1]
    worst = -1
    for b in range(begin, end):
        if not moving[b]:
            continue
        soft, goal = np.empty(n), np.empty(n)
        for i in range(n):
            inside = min(max(asked[b, i], 0.0), 1.0)
            soft[i] = goal[i] = min(max(inside, lower[b, i]), upper[b, i])
        if not project_one(goal, lower[b], upper[b], rules):
            worst = b
            continue
        out, reason = np.empty(n), np.empty(n, np.int64)
        speeds, stops = np.empty(n), np.empty(n)
        start = time[b]
        for k in range(writes):
            now = time[b]
            passed = now - wrote[b]
            if passed > LONGEST:  # it stood
                velocity[b, :] = 0.0
                stop[b, :] = sent[b]
                last_step[b] = 0.0
            passed = min(passed, LONGEST)
            step(
                sent[b], velocity[b], stop[b], last_step[b], goal, passed, speed[b], acceleration[b], ways,
                out, speeds, stops, reason,
            )  # fmt: skip
            for i in range(n):
                why = reason[i]
                if why == COUPLING:
                    why = 5 if out[i] != goal[i] else 0
                if why == 0 and goal[i] != asked[b, i]:
                    why = 4 if goal[i] != soft[i] else 3
                held_back[b, i] = why
            velocity[b, :] = speeds
            stop[b, :] = stops
            sent[b, :] = out
            last_step[b] = passed
            wrote[b] = now
            time[b] = start + (k + 1) * duration / writes
            until = np.int64(np.floor(time[b] / dt + 1e-6))
            newest[b], last[b] = advance(
                b, out, until - done[b], past, newest[b], whole, constants, dt, known, state, trail, last[b]
            )
            done[b] = until
    return worst


@njit(cache=True)
def _look(when, dt, done, last, trail, out):
    kept = trail.shape[0]
    for b in range(out.shape[0]):
        back = done[b] - when[b] / dt  # ticks before the last one
        back = min(max(back, 0.0), min(done[b], kept - 1) * 1.0)
        whole = np.int64(np.floor(back + 1 - 1e-6))  # the earlier of the two ticks around it
        share = whole - back
        if share < 1e-6 or whole == 0:
            share = 0.0
        low = (last[b] - whole) % kept
        high = (last[b] - whole + 1) % kept
        for i in range(out.shape[1]):
            if share == 0:
                out[b, i] = trail[low, b, i]
            else:
                out[b, i] = (1 - share) * trail[low, b, i] + share * trail[high, b, i]
