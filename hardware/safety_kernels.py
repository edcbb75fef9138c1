"""The safety layer's way to a goal, compiled: for one rig, and for many at once, with the same bits.

A face is where it was sent (`x`), with the speed of the last step (`v`, over `last` s), and can brake until
its *stopping point* (`stop`). The promise is kept by induction: each step is chosen so that the whole box
between `x` and `stop` is free of forbidden combinations and within the limits, and so braking as hard as the
motors may is always a way out, whenever the next write comes.

Speed is that of steps, ``(x[k+1] - x[k]) / dt[k+1]``, and acceleration is its change from the middle of one
step to the middle of the next: ``|v[k+1] - v[k]| <= a (dt[k] + dt[k+1]) / 2``. A face with speed v at the
middle of a step of dt still has ``e = |v| - a dt / 2`` at its end, and needs no more than ``e^2 / 2a`` from
there, in whatever steps it brakes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from facetwin.twin.couplings import Couplings

#: what held a motor back, as `step` tells it
FREE, SPEED, ACCELERATION, COUPLING = range(4)

_SLACK = 1e-10  # of a linear rule, for rounding: a goal on its edge is reached to the bit


def rules_of(couplings: Couplings) -> tuple[np.ndarray, ...]:
    """The rules of a rig as the kernels take them: boxes, then lines, each a run of entries.

    ``box_start`` (B + 1,), ``box_motor``, ``box_low``, ``box_high`` (E,), then the same for lines with
    ``line_weight`` (F,) and ``line_most`` (L,).
    """
    boxes, lines = couplings._boxes, couplings._lines
    whole = [np.asarray(m, np.int64) for _, m, _, _ in boxes]
    used = [np.flatnonzero(w).astype(np.int64) for _, w, _ in lines]
    none_i, none_f = [np.zeros(0, np.int64)], [np.zeros(0)]
    return (
        np.cumsum([0] + [len(m) for m in whole]).astype(np.int64),
        np.concatenate(whole or none_i),
        np.concatenate([lo for _, _, lo, _ in boxes] or none_f),
        np.concatenate([hi for _, _, _, hi in boxes] or none_f),
        np.cumsum([0] + [len(m) for m in used]).astype(np.int64),
        np.concatenate(used or none_i),
        np.concatenate([w[m] for (_, w, _), m in zip(lines, used)] or none_f),
        np.array([b for _, _, b in lines], np.float64),
    )


@njit(cache=True)
def fastest(distance, a, dt):
    """The largest speed of a step of `dt` s after which there is still room to brake within `distance`."""
    if distance <= a * dt * dt / 2:
        return distance / dt  # it stands there at the end of the step
    return np.sqrt(2 * a * distance) - a * dt / 2


@njit(cache=True)
def _reach(x, side, u, distance, a, dt):
    """Where a step of speed u >= 0 to one side leads, and where it can stop, at most `distance` away."""
    way = min(u * dt, distance)
    left = max(u - a * dt / 2, 0.0)
    stop = min(way + left * left / (2 * a), distance)
    return x + side * way, x + side * stop


@njit(cache=True)
def _shorten(i, x, to, dt, a, out, velocity, stop):
    """Choose the step of motor i anew, so that it can stop at `to`."""
    way = to - x[i]
    side, distance = (1.0 if way > 0 else -1.0), abs(way)
    u = fastest(distance, a, dt)
    out[i], velocity[i], stop[i] = x[i] + side * min(u * dt, distance), side * u, to
    if distance <= a * dt * dt / 2:
        out[i] = to


@njit(cache=True)
def _braked(x, v, held, last, a, dt):
    """The stopping point of a motor that brakes as hard as it may."""
    side = 1.0 if v > 0 else -1.0
    u = max(abs(v) - a * (last + dt) / 2, 0.0)
    return _reach(x, side, u, abs(held - x), a, dt)[1]


@njit(cache=True)
def step(x, v, held, last, goal, dt, speed, acceleration, rules, out, velocity, stop, reason):
    """One step of `dt` s towards a goal, as fast as is allowed; all but times are [shape=(n,)].

    From being at ``x`` with speed ``v`` of the last step, which took ``last`` s (0: it stands), and with the
    stopping point ``held``; speed and acceleration in commands/s and commands/s2. Fills where to be
    (``out``), the new speed and stopping point, and in ``reason`` what kept each motor from its goal.

    The goal is passed only where it jumped nearer than the way that braking takes; limits and forbidden
    combinations are not.
    """
    n = x.shape[0]
    for i in range(n):
        a = acceleration[i]
        way = goal[i] - x[i]
        side = 1.0 if way > 0 or (way == 0 and v[i] > 0) else -1.0
        distance, before, change = abs(way), v[i] * side, a * (last + dt) / 2
        best = fastest(distance, a, dt)
        free = min(best, speed[i])
        u = min(max(free, before - change), before + change)
        reason[i] = FREE
        if u == best:
            out[i] = goal[i] if distance <= a * dt * dt / 2 else x[i] + side * min(u * dt, distance)
            stop[i] = goal[i]
        elif 0 <= u < best:
            out[i], stop[i] = _reach(x[i], side, u, distance, a, dt)
        else:  # it can do no more than brake
            if u < 0:
                side, u = -side, -u
            out[i], stop[i] = _reach(x[i], side, u, abs(held[i] - x[i]), a, dt)
        velocity[i] = side * u
        if out[i] != goal[i]:
            reason[i] = SPEED if u == free and free < best else ACCELERATION
    _around(x, v, held, last, dt, acceleration, rules, out, velocity, stop, reason)


@njit(cache=True)
def _around(x, v, held, last, dt, acceleration, rules, out, velocity, stop, reason):
    """Shorten steps until the box between `x` and `stop` holds no forbidden combination."""
    box_start, box_motor, box_low, box_high, line_start, line_motor, line_weight, line_most = rules
    for box in range(box_start.shape[0] - 1):
        clear, outside = False, False
        for e in range(box_start[box], box_start[box + 1]):
            m = box_motor[e]
            if x[m] <= box_low[e]:
                outside = True
                clear = clear or stop[m] <= box_low[e]
            elif x[m] >= box_high[e]:
                outside = True
                clear = clear or stop[m] >= box_high[e]
        if clear or not outside:  # a face that starts in a forbidden pose leaves it
            continue
        # One motor waits where it is still outside: the one that loses least by it.
        chosen, bound, least = -1, 0.0, np.inf
        for e in range(box_start[box], box_start[box + 1]):
            m = box_motor[e]
            if box_low[e] < x[m] < box_high[e]:
                continue
            edge = box_low[e] if x[m] <= box_low[e] else box_high[e]
            braked = _braked(x[m], v[m], held[m], last, acceleration[m], dt)
            late = max(braked - edge, 0.0) if x[m] <= box_low[e] else max(edge - braked, 0.0)
            loss = abs(stop[m] - edge) + (1e6 if late > 1e-9 else 0.0)
            if loss < least:
                chosen, bound, least = m, edge, loss
        _shorten(chosen, x, bound, dt, acceleration[chosen], out, velocity, stop)
        reason[chosen] = COUPLING
    for line in range(line_start.shape[0] - 1):
        room, need, base = line_most[line], 0.0, 0.0
        for e in range(line_start[line], line_start[line + 1]):
            m, w = line_motor[e], line_weight[e]
            room -= w * x[m]
            need += max(w * (stop[m] - x[m]), 0.0)
            if w * (stop[m] - x[m]) > 0:
                braked = _braked(x[m], v[m], held[m], last, acceleration[m], dt)
                base += max(w * (braked - x[m]), 0.0)
        room = max(room, 0.0)
        if need <= room + _SLACK:
            continue
        share = max((room - base) / (need - base), 0.0) if need > base else 0.0
        for e in range(line_start[line], line_start[line + 1]):
            m, w = line_motor[e], line_weight[e]
            if w * (stop[m] - x[m]) <= 0:
                continue
            braked = _braked(x[m], v[m], held[m], last, acceleration[m], dt)
            if w * (braked - x[m]) < 0:
                braked = x[m]
            _shorten(m, x, braked + share * (stop[m] - braked), dt, acceleration[m], out, velocity, stop)
            reason[m] = COUPLING
