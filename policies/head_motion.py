"""Slow motion of the head, and of the brows: some of it chance, some of it the melody of speech.

Heads of talkers move with pitch and loudness (Yehia, Kuratate, Vatikiotis-Bateson 2002; Munhall et al. 2004):
stressed, high syllables nod and lift the brows. Between, and in silence, a head drifts slowly: a noise below
half a hertz, larger while speaking. A picture at a time, from sound that was heard.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facetwin.policies.prosody import Beat

FPS = 25
DRIFT = np.deg2rad((1.8, 1.0, 0.9))  #: spread of the slow noise while speaking: yaw, pitch, roll
STILL = 0.5  #: of it in silence
SLOW = 1.2  #: s, time of each of the noise's two lags
NOD = np.deg2rad(0.45)  #: rad of pitch a semitone of a stressed syllable
SMOOTH, CALM = 0.20, 0.5  #: s, how soon a stress is followed, and forgotten
MOST = np.deg2rad((5.0, 4.0, 3.0))  #: no further than this
LIFT = 0.12  #: of the brows at a stress of 4 semitones, as a share of their way up


class HeadMotion:
    """Turns of the head and lift of the brows, picture after picture; the same seed moves the same."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng([seed, 13])
        self._noise = np.zeros((2, 3))  # two lags one after another: no jerks
        self._size = STILL
        self._stress = np.zeros(2)
        self.lift = 0.0

    def step(self, beat: Beat) -> NDArray[np.float64]:
        """Yaw, pitch, roll float64 [shape=(3,), rad] at the next picture; positive pitch looks down.

        `lift` [0..1] is what the brows do meanwhile.
        """
        pull = 1 / (SLOW * FPS)
        kick = self._random.normal(size=3)
        self._noise[0] += pull * (kick * np.sqrt(2 / pull) - self._noise[0])
        self._noise[1] += pull * (self._noise[0] - self._noise[1])
        self._size += ((1.0 if beat.speaking else STILL) - self._size) / (1.0 * FPS)
        # semitones of a loud, high syllable; lows and quiet sounds count little
        wish = max(beat.pitch, 0.0) * beat.level if beat.voiced else 0.0
        rate = 1 / (SMOOTH * FPS) if wish > self._stress[0] else 1 / (CALM * FPS)
        self._stress[0] += rate * (wish - self._stress[0])
        self._stress[1] += (self._stress[0] - self._stress[1]) / (SMOOTH * FPS)
        self.lift = float(np.clip(LIFT * self._stress[1] / 4, 0, 2 * LIFT))
        turn = np.sqrt(2) * DRIFT * self._size * self._noise[1]  # two lags halve the variance
        turn[1] += NOD * self._stress[1]
        out: NDArray[np.float64] = MOST * np.tanh(turn / MOST)
        return out
