"""The servo of `facetwin.twin.servo`, compiled: many motors of many rigs, many ticks at a call.

One row is one rig, one column one motor. The same arithmetic serves one rig and a thousand, so that a
batch gives the bits of its members.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: columns of `constants`
FRACTION, DEAD, SPEED, PLAY, OMEGA, ZETA = range(6)
#: columns of `state`
HELD, REFERENCE, X, V, Y = range(5)


@njit(cache=True, inline="always")
def answer(omega, zeta, t):
    """How a lag's distance and speed carry over a time t (s): four numbers."""
    decay = np.exp(-zeta * omega * t)
    d = omega * np.sqrt(abs(zeta * zeta - 1))
    if d * t < 1e-9:  # critically damped: the limit of both other cases
        cosine, sine = 1.0, t
    elif zeta < 1:
        cosine, sine = np.cos(d * t), np.sin(d * t) / d
    else:
        cosine, sine = np.cosh(d * t), np.sinh(d * t) / d
    return (
        decay * (cosine + zeta * omega * sine),
        decay * sine,
        -decay * omega * omega * sine,
        decay * (cosine - zeta * omega * sine),
    )


@njit(cache=True)
def answers(constants, dt, out):
    """`answer` over the two parts of a tick, for each rig and motor: ``out`` [shape=(B, n, 8)]."""
    for b in range(constants.shape[0]):
        for i in range(constants.shape[1]):
            omega, zeta, part = constants[b, i, OMEGA], constants[b, i, ZETA], constants[b, i, FRACTION]
            out[b, i, 0], out[b, i, 1], out[b, i, 2], out[b, i, 3] = answer(omega, zeta, part * dt)
            out[b, i, 4], out[b, i, 5], out[b, i, 6], out[b, i, 7] = answer(omega, zeta, (1 - part) * dt)


@njit(cache=True)
def run(reference, x, v, held, duration, speed, omega, zeta, a0, a1, a2, a3):
    """A motor on its way to ``held`` for a time (s) that `answer` is known for: reference, x, v."""
    way = held - reference
    if way != 0:
        slope = speed if way > 0 else -speed
        trail = 2 * zeta * slope / omega  # how far the answer trails a ramp in the long run
        ramp = abs(way) / speed
        e, u = x - reference + trail, v - slope
        if ramp >= duration:
            reference += slope * duration
            return reference, reference - trail + a0 * e + a1 * u, slope + a2 * e + a3 * u
        b0, b1, b2, b3 = answer(omega, zeta, ramp)
        x = held - trail + b0 * e + b1 * u  # a ramp that ends here ends exactly on the command
        v = slope + b2 * e + b3 * u
        reference = held
        a0, a1, a2, a3 = answer(omega, zeta, duration - ramp)
    e = x - reference
    if e != 0 or v != 0:
        x, v = reference + a0 * e + a1 * v, a2 * e + a3 * v
    return reference, x, v


@njit(cache=True)
def ticks(b, count, past, newest, whole, constants, dt, known, state, trail, last):
    """Some ticks of rig ``b`` under the commands in ``past`` [shape=(H, B, n)], a ring with one row a tick.

    The row of the last of these ticks is ``newest``. Where the load stands after each tick goes into the
    ring ``trail`` [shape=(L, B, n)], after the last one into row ``last``.
    """
    ring, kept = past.shape[0], trail.shape[0]
    for i in range(past.shape[2]):
        part, dead, speed = constants[b, i, FRACTION], constants[b, i, DEAD], constants[b, i, SPEED]
        play, omega, zeta = constants[b, i, PLAY], constants[b, i, OMEGA], constants[b, i, ZETA]
        k0, k1, k2, k3 = known[b, i, 0], known[b, i, 1], known[b, i, 2], known[b, i, 3]
        k4, k5, k6, k7 = known[b, i, 4], known[b, i, 5], known[b, i, 6], known[b, i, 7]
        held, reference, x = state[b, i, HELD], state[b, i, REFERENCE], state[b, i, X]
        v, y = state[b, i, V], state[b, i, Y]
        at = newest - count + 1 - whole[b, i]
        while at < 0:
            at += ring
        before = past[at - 1 if at else ring - 1, b, i]
        to = last - count + 1
        while to < 0:
            to += kept
        for _ in range(count):
            now = past[at, b, i]
            if part > 0:
                if abs(before - held) > dead:
                    held = before
                reference, x, v = run(
                    reference, x, v, held, part * dt, speed, omega, zeta, k0, k1, k2, k3
                )  # fmt: skip
            if abs(now - held) > dead:
                held = now
            reference, x, v = run(
                reference, x, v, held, (1 - part) * dt, speed, omega, zeta, k4, k5, k6, k7
            )  # fmt: skip
            y = min(max(min(max(y, x - play), x + play), 0.0), 1.0)
            trail[to, b, i] = y
            to += 1
            if to == kept:
                to = 0
            before = now
            at += 1
            if at == ring:
                at = 0
        state[b, i, HELD], state[b, i, REFERENCE], state[b, i, X] = held, reference, x
        state[b, i, V], state[b, i, Y] = v, y


@njit(cache=True)
def advance(b, command, count, past, newest, whole, constants, dt, known, state, trail, last):
    """Hold rig ``b`` at a command [shape=(n,)] for some ticks; the new places of ``newest`` and ``last``.

    ``count`` is at most the length of ``past`` less the longest delay.
    """
    for _ in range(count):
        newest = newest + 1 if newest + 1 < past.shape[0] else 0
        past[newest, b] = command
    last = (last + count) % trail.shape[0]
    ticks(b, count, past, newest, whole, constants, dt, known, state, trail, last)
    return newest, last
