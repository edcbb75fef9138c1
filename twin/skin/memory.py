"""What L-BFGS remembers: pairs of steps and the turns of the gradient that they made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from facetwin.twin.skin.base import FAST, Floats


class Memory:
    """The last ``length`` pairs of vectors [shape=(size,)]."""

    def __init__(self, length: int, size: int) -> None:
        self._steps, self._turns = np.zeros((length, size)), np.zeros((length, size))
        self._inverse, self._alpha = np.zeros(length), np.zeros(length)
        self._kept = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is remembered."""
        return self._kept == 0

    def clear(self) -> None:
        """Forget everything."""
        self._kept = 0

    def push(self, direction: Floats, share: float, before: Floats, after: Floats) -> None:
        """Remember a step, ``-share * direction`` (m), and its two gradients (N), if it shows convexity."""
        slot = self._kept % len(self._inverse)
        if write_pair(
            direction, share, before, after, self._steps[slot], self._turns[slot], self._inverse, slot
        ):
            self._kept += 1

    def apply(self, gradient: Floats, precondition: Callable[[Floats], Floats]) -> Floats:
        """About the inverse Hessian times a gradient; ``precondition`` is the guess that the pairs mend."""
        q = gradient.copy()
        first_loop(q, self._steps, self._turns, self._inverse, self._alpha, self._kept)
        z = precondition(q)
        second_loop(z, self._steps, self._turns, self._inverse, self._alpha, self._kept)
        return z


@njit(cache=True, fastmath=FAST)
def write_pair(direction, share, before, after, step, turn, inverse, slot):
    """Write a pair into its place if the energy is convex along it; whether it is."""
    both, ss, tt = 0.0, 0.0, 0.0
    for i in range(direction.shape[0]):
        s, t = -share * direction[i], after[i] - before[i]
        both += s * t
        ss += s * s
        tt += t * t
    if not both > 1e-10 * np.sqrt(ss * tt):
        return False
    for i in range(direction.shape[0]):
        step[i], turn[i] = -share * direction[i], after[i] - before[i]
    inverse[slot] = 1 / both
    return True


@njit(cache=True, fastmath=FAST)
def first_loop(q, steps, turns, inverse, alpha, kept):
    """L-BFGS from the newest pair to the oldest: what is left of the gradient, in place."""
    memory = steps.shape[0]
    for k in range(kept - 1, max(-1, kept - memory - 1), -1):
        s = k % memory
        a = 0.0
        for i in range(q.shape[0]):
            a += steps[s, i] * q[i]
        a *= inverse[s]
        alpha[s] = a
        for i in range(q.shape[0]):
            q[i] -= a * turns[s, i]


@njit(cache=True, fastmath=FAST)
def second_loop(z, steps, turns, inverse, alpha, kept):
    """L-BFGS from the oldest pair to the newest: the direction, in place."""
    memory = steps.shape[0]
    for k in range(max(0, kept - memory), kept):
        s = k % memory
        b = 0.0
        for i in range(z.shape[0]):
            b += turns[s, i] * z[i]
        b = alpha[s] - b * inverse[s]
        for i in range(z.shape[0]):
            z[i] += b * steps[s, i]
