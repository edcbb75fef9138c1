"""The safety layer's way to a goal, compiled: for one rig, and for many at once, with the same bits."""

from __future__ import annotations

import numpy as np
from numba import njit

from facetwin.twin.coupling_kernels import is_allowed, project_one

#: what held a motor back, as `toward` tells it
FREE, SPEED, ACCELERATION = range(3)


@njit(cache=True)
def toward(x, v, goal, dt, speed, acceleration, out, reason):
    """Where to be ``dt`` s after being at ``x`` with speed ``v``, on the way to ``goal``, all [shape=(n,)].

    Never past the goal; as fast as speed and acceleration (commands/s, commands/s2) allow, so that it can
    still be braked. ``reason`` says what kept each motor from its goal.
    """
    for i in range(x.shape[0]):
        way = goal[i] - x[i]
        distance, a = abs(way), acceleration[i] * dt
        side = 1.0 if way > 0 else (-1.0 if way < 0 else 0.0)
        before = max(v[i] * side, 0.0)  # what goes away from the goal is stopped at once
        # Fewest ticks n in which the rest of the way can be braked, a less each tick: the speeds
        # u, u - a, ..., u - (n-1) a add up to distance / dt, and the last is at most a.
        n = max(np.ceil((np.sqrt(1 + 8 * distance / (a * dt)) - 1) / 2 - 1e-9), 1.0)
        braking = distance / (n * dt) + (n - 1) * a / 2
        free = min(braking, speed[i])
        u = min(free, before + a)
        # A goal that jumped nearer than the way to brake is met by a hard stop, never passed.
        step = min(u * dt, distance)
        out[i] = goal[i] if step >= distance else x[i] + side * step
        reason[i] = FREE
        if out[i] != goal[i]:
            reason[i] = SPEED if braking > speed[i] and not free > before + a else ACCELERATION


@njit(cache=True)
def around(x, out, rules):
    """Keep a step from ``x`` to ``out`` [shape=(n,)] off forbidden combinations, in place; did it change?"""
    fine = True
    for group in range(rules[0].shape[0] - 1):
        fine = fine and is_allowed(out, group, rules)
    if fine:
        return False
    low, high = np.minimum(x, out), np.maximum(x, out)
    kept = out.copy()
    # x itself is allowed: there is an answer; if it is not, the face leaves a forbidden pose
    if not project_one(kept, low, high, rules):
        return False
    out[:] = kept
    return True
