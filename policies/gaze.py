"""Gaze: fixations and saccades about whoever listens, now and then a glance aside. A picture at a time.

The listener's face is looked at in small saccades (eyes, mouth); speakers look aside more than listeners,
above all when they begin to speak (Argyle, Cook 1976; Kendon 1967). A saccade of A degrees takes
21 + 2.2 A ms (Carpenter 1988) and runs the main sequence: its peak velocity is 1.875 A over that (minimum
jerk), 230 deg/s at 4 and 410 deg/s at 12 degrees, between the curves of Bahill, Clark and Stark (1975).
Both eyes go together. Angles are of the gaze in the room: the eyes take back what the head does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FPS = 25
FACE = np.deg2rad((2.2, 1.6))  #: spread of the places looked at on the listener, yaw and pitch
FIXATION, FIXATION_SPREAD = 0.7, 0.5  #: s, median on the listener, and of its logarithm
ASIDE = 0.9  #: s, median of a glance aside
GLANCE = {True: 0.22, False: 0.10}  #: chance that a saccade goes aside, speaking and not
START = 0.5  #: the same at the beginning of speech
FAR = np.deg2rad((6.0, 11.0))  #: how far aside
LEAST = np.deg2rad(0.5)  #: no saccade is smaller


class Gaze:
    """Direction of the gaze, picture after picture; the same seed looks the same way.

    `saccades`: beginnings (s), amplitudes (rad) and durations (s) so far.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng([seed, 12])
        self._time = 0.0
        self._from = self._to = np.zeros(2)
        self._begin, self._takes = -1e9, 0.1
        self._next = self._fixation()
        self._aside = False
        self.saccades: list[tuple[float, float, float]] = []

    def step(self, speaking: bool = False, began: bool = False) -> NDArray[np.float64]:
        """Yaw and pitch float64 [shape=(2,), rad] at the next picture; left and down are positive."""
        free = self._time >= self._begin + self._takes
        if free and (self._time >= self._next or began):
            self._leap(speaking, began)
        out = self.at(self._time)
        self._time += 1 / FPS
        return out

    def at(self, time: float) -> NDArray[np.float64]:
        """Direction at a time from the beginning of the last saccade on, between pictures too."""
        share = min(max((time - self._begin) / self._takes, 0.0), 1.0)
        smooth = share**3 * (10 + share * (6 * share - 15))  # minimum jerk
        out: NDArray[np.float64] = self._from + smooth * (self._to - self._from)
        return out

    def _leap(self, speaking: bool, began: bool) -> None:
        chance = START if began else GLANCE[speaking]
        self._aside = not self._aside and bool(self._random.random() < chance)
        if self._aside:
            way = self._random.uniform(0, 2 * np.pi)
            far = self._random.uniform(*FAR)
            goal = far * np.array([np.cos(way), 0.6 * np.sin(way)])  # sideways more than up and down
            stay = ASIDE
        else:
            goal, stay = FACE * np.clip(self._random.normal(size=2), -2, 2), FIXATION
        here = self._to
        size = float(np.linalg.norm(goal - here))
        self._next = self._time + self._fixation(stay)
        if size < LEAST:
            return
        self._from, self._to, self._begin, self._takes = here, goal, self._time, duration(size)
        self._next += self._takes
        self.saccades.append((self._time, size, self._takes))

    def _fixation(self, median: float = FIXATION) -> float:
        return float(np.clip(self._random.lognormal(np.log(median), FIXATION_SPREAD), 0.2, 4.0))


def duration(size: float) -> float:
    """How long a saccade of `size` rad takes, s (Carpenter 1988).

    >>> round(duration(np.deg2rad(10)), 3)
    0.043
    """
    return 0.021 + 0.0022 * float(np.rad2deg(size))
