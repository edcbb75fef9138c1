"""Loudness, pitch and pauses of speech, as they come: one row for each picture (40 ms), nothing ahead.

For what accompanies speech (head, brows, blinks, gaze), not for lips. Pitch is the peak of the normalised
autocorrelation of 50 ms (Boersma 1993 without his interpolation and path search): good to half a semitone
on clean voices, and octave errors are rare enough for a nod.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

RATE, FPS = 16_000, 25
STEP = RATE // FPS
WINDOW = 800  #: samples, 50 ms: three periods of the deepest voice
LOWEST, HIGHEST = 70.0, 400.0  #: Hz
VOICED = 0.5  #: autocorrelation from which a sound has a pitch
QUIET = -55.0  #: dB of full scale: below it nobody speaks
RANGE = 24.0  #: dB below the running peak that still are speech
FADE = 3.0  #: dB/s, by which the running peak forgets
HANG = 4  #: pictures of silence that do not yet make a pause


@dataclass(frozen=True)
class Beat:
    """One picture's sound.

    Attributes
    ----------
    level : dB above `QUIET` up to the running peak, as a share 0..1
    speaking : somebody speaks, or did within 160 ms
    paused : speech ended with this picture
    began : speech began with this picture
    pitch : semitones above the voice's running mean, 0 where there is none
    voiced : there is a pitch
    """

    level: float
    speaking: bool
    paused: bool
    began: bool
    pitch: float
    voiced: bool


class Prosody:
    """Samples in pieces of any size in, a `Beat` for each 640 of them out."""

    def __init__(self) -> None:
        self._held = np.zeros(0, np.float32)  # samples of a picture that is not whole yet
        self._tail = np.zeros(WINDOW - STEP, np.float32)
        self._peak, self._silent, self._speaking = QUIET + RANGE, HANG, False
        self._mean: float | None = None  # log2 of the voice's pitch in Hz

    def push(self, samples: ArrayLike) -> list[Beat]:
        """Beats that these samples complete; float [shape=(n,)], 16 kHz."""
        self._held = np.concatenate([self._held, np.asarray(samples, np.float32)])
        count = len(self._held) // STEP
        out = [self._step(self._held[k * STEP : (k + 1) * STEP]) for k in range(count)]
        self._held = self._held[count * STEP :]
        return out

    def finish(self) -> list[Beat]:
        """The last beat, filled up with silence; none if no sample is left over."""
        return self.push(np.zeros(-len(self._held) % STEP, np.float32))

    def _step(self, piece: NDArray[np.float32]) -> Beat:
        power = float(np.mean(piece.astype(np.float64) ** 2))
        level = 10 * np.log10(power + 1e-12)
        self._peak = max(self._peak - FADE / FPS, level, QUIET + RANGE)
        loud = level > max(QUIET, self._peak - RANGE)
        self._silent = 0 if loud else self._silent + 1
        before, self._speaking = self._speaking, self._silent < HANG
        window = np.concatenate([self._tail, piece]).astype(np.float64)
        self._tail = window[STEP:].astype(np.float32)
        pitch = _pitch(window) if loud else None
        above = 0.0
        if pitch is not None:
            tone = float(np.log2(pitch))
            self._mean = tone if self._mean is None else self._mean + (tone - self._mean) / (4 * FPS)
            above = float(np.clip(12 * (tone - self._mean), -8, 8))  # beyond that it is a wrong octave
        return Beat(
            level=float(np.clip((level - QUIET) / (self._peak - QUIET), 0, 1)),
            speaking=self._speaking,
            paused=before and not self._speaking,
            began=self._speaking and not before,
            pitch=above,
            voiced=pitch is not None,
        )


def _pitch(window: NDArray[np.float64]) -> float | None:
    """Pitch in Hz of `WINDOW` samples, None where there is none."""
    x = window - window.mean()
    size = 2048
    spectrum = np.fft.rfft(x, size)
    own = np.fft.irfft(np.abs(spectrum) ** 2, size)[: WINDOW // 2]
    if own[0] < 1e-9:
        return None
    ramp = own / own[0] * WINDOW / (WINDOW - np.arange(WINDOW // 2))  # the window's own fall undone
    first, last = int(RATE / HIGHEST), int(RATE / LOWEST)
    best = int(np.argmax(ramp[first : last + 1])) + first
    strong = np.flatnonzero(
        ramp[first : best + 1] > 0.9 * ramp[best]
    )  # the shortest period that does as well
    best = int(strong[0]) + first if len(strong) else best
    while best < last and ramp[best + 1] > ramp[best]:
        best += 1
    return RATE / best if ramp[best] > VOICED else None
