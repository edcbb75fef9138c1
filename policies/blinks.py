"""Blinks: when they come and how the lids go. Chance, not learned; a picture at a time.

A person blinks about once in 5 s, in conversation half as often again (Bentivoglio et al. 1997: 17 a minute
at rest, 26 talking); the times between are skewed (log-normal here); many blinks fall on the pauses of
speech (Nakano, Kitazawa 2010). A lid shuts within about 90 ms, rests, and opens in nearly twice that
(VanderWerf et al. 2003); a blink takes 100 to 400 ms.
"""

from __future__ import annotations

import numpy as np

FPS = 25
EVERY = 5.0  #: s from blink to blink while nobody speaks, on average
SPEAKING = 1.5  #: times as often while speaking
SPREAD = 0.6  #: of the logarithm of the time between blinks
LEAST = 0.6  #: s from the beginning of a blink to that of the next
PULL, CHANCE = 1.5, 0.6  #: a blink due within so many s is drawn to the pause that begins, this often


class Blinks:
    """Closure of the lids, 0 open .. 1 shut, picture after picture; the same seed blinks the same.

    `begun` counts blinks so far.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng([seed, 11])
        self.begun = 0
        self._time = 0.0  # s, of the next picture
        self._due = self._interval() * self._random.random()  # of a clock that runs faster while speaking
        self._since = LEAST
        self._blink = (-1e9, 0.1, 0.05, 0.2)  # beginning, closing, shut, opening; s

    def step(self, speaking: bool = False, paused: bool = False) -> float:
        """Closure at the next picture, 40 ms after the last; `paused`: a pause has just begun."""
        self._due -= (SPEAKING if speaking else 1.0) / FPS
        self._since += 1 / FPS
        if paused and self._due < PULL and self._random.random() < CHANCE:
            self._due = 0.0
        if self._due <= 0 and self._since >= LEAST:
            self._due += self._interval()
            self._since = 0.0
            self.begun += 1
            ways = self._random.lognormal(np.log((0.085, 0.14)), (0.15, 0.2))
            closing, opening = ways.clip((0.06, 0.09), (0.12, 0.19))
            shut = self._random.uniform(0.06, 0.09)  # long enough for a servo to get there
            self._blink = (self._time, float(closing), float(shut), float(opening))
        out = closure(self._time - self._blink[0], *self._blink[1:])
        self._time += 1 / FPS
        return out

    def _interval(self) -> float:
        mean = EVERY - LEAST
        return LEAST + float(self._random.lognormal(np.log(mean) - SPREAD**2 / 2, SPREAD))


def closure(time: float, closing: float, shut: float, opening: float) -> float:
    """Closure 0..1 of one blink, `time` s after its beginning: smooth down, still, smooth up.

    >>> [round(closure(t, 0.1, 0.05, 0.2), 3) for t in (-1, 0, 0.05, 0.1, 0.15, 0.25, 0.35, 9)]
    [0.0, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if time < closing:
        share = time / closing
    elif time < closing + shut:
        share = 1.0
    else:
        share = 1 - (time - closing - shut) / opening
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)
