"""Log-mel energies as the seeds use them: 16 kHz, 80 bands, hop 320, window 640, 90-7600 Hz, in dB.

Strictly causal: row j is heard when sample 320 (j + 1) is, and looks at the 640 samples before that
(zeros before the start). The reference is fixed (full scale = 0 dB) and so is the floor, so that a
stream and the whole recording give the same rows. `Level` takes the talker's own loudness out of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError

RATE = 16_000
BANDS = 80
HOP = 320
WINDOW = 640
LOWEST, HIGHEST = 90.0, 7600.0
#: quietest value, dB
FLOOR = -90.0
#: the same where loudness is taken out afterwards: below what 16-bit silence with dither gives
DEEP = -115.0

Floats = NDArray[np.float32]
Wide = NDArray[np.float64]
Product = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def log_mel(samples: ArrayLike, floor: float = FLOOR) -> Floats:
    """Log-mel of a whole recording: float [shape=(n,)] -> float32 [shape=(n // 320, 80), dB]."""
    return LogMel(floor).push(samples)


def other_voice(samples: ArrayLike, pitch: float, floor: float = DEEP) -> Floats:
    """Log-mel of the same said by a smaller (`pitch` > 1) or larger talker, in the same time.

    The sound is resampled, which moves pitch and formants, and windows of the usual length are taken at
    the places that the usual hop has come to: row j still ends at 320 (j + 1) of the original. Made for
    training: a row may look a window's stretch (some ms) further back or forth than `log_mel`'s, and its last
    digits depend on how many rows are made at once; pitch 1 is `log_mel`, several times as fast.
    """
    import soxr

    x = np.asarray(samples, np.float32)
    rows = len(x) // HOP
    y = x if pitch == 1 else soxr.resample(x, RATE * pitch, RATE)  # len(x) / pitch samples
    ends = np.round(np.arange(1, rows + 1) * HOP / pitch).astype(np.intp)
    padded = np.concatenate([np.zeros(WINDOW, np.float32), y, np.zeros(WINDOW, np.float32)])
    return _decibels(np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[ends], floor, np.matmul)


class LogMel:
    """The same, fed in pieces of any size.

    >>> import numpy as np
    >>> tone = np.sin(np.arange(1600) * 0.3)
    >>> mel = LogMel()
    >>> pieces = np.concatenate([mel.push(tone[:1000]), mel.push(tone[1000:])])
    >>> np.array_equal(pieces, log_mel(tone))
    True
    """

    def __init__(self, floor: float = FLOOR) -> None:
        self.floor = floor
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._held = np.zeros(WINDOW - HOP, np.float32)

    def push(self, samples: ArrayLike) -> Floats:
        """Rows that these samples complete, float32 [shape=(rows, 80), dB]; raises on NaN."""
        new = np.asarray(samples, np.float32)
        if new.ndim != 1 or not np.isfinite(new).all():
            raise FaceTwinError(
                "not sound",
                where="log_mel()",
                found=f"shape {new.shape}",
                expected="finite mono samples (n,)",
            )
        held = np.concatenate([self._held, new])
        rows = max(0, (len(held) - WINDOW) // HOP + 1)
        self._held = held[rows * HOP :]
        if not rows:
            return np.zeros((0, BANDS), np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(held, WINDOW)[: rows * HOP : HOP]  # (rows, 640)
        return _decibels(frames, self.floor)


class Level:
    """Running loudness of a talker, dB: what is subtracted so that quiet and loud speech look alike.

    It stands at `USUAL` until something is heard that is no steady noise, then follows the peaks of the
    power over all bands, within a second and with some slack, so that it stands still while one person
    talks. In pauses it is held: silence and quiet steady noise stay as quiet as they are. Causal; fed in
    pieces it gives the same.
    """

    USUAL = -22.0  #: dB, about the loudest of ordinary speech
    LEAST = -78.0  #: dB
    NOTHING = -100.0  #: dB; less is digital silence, which tells nothing of a room's noise
    #: what lies further below the level than this is silence, dB
    DEPTH = 68.0
    ABOVE = 10.0  #: dB above the steady noise: something is going on
    SLACK = 16.0  #: dB between the peaks and the level that change nothing
    _FALL, _RISE = 0.8, 2.4  # of the level, dB a row
    _FORGET = 0.2  # of the peaks, dB a row
    _SETTLE = 0.1  # upwards, of the noise, dB a row
    _KEEP = 0.6  # of the smoothed power, a row

    def __init__(self) -> None:
        self._power: Wide | float = 0.0
        self._noise: Wide | float = np.inf
        self._peak: Wide | float = -200.0
        self._level: Wide | float = self.USUAL

    def push(self, rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Level at each row: (..., R, 80) dB -> (..., R) dB."""
        each = np.power(10.0, np.asarray(rows, np.float64) / 10).mean(-1)
        out = np.empty_like(each)
        for k in range(each.shape[-1]):
            self._power = self._KEEP * self._power + (1 - self._KEEP) * each[..., k]
            now = 10 * np.log10(self._power + 1e-13)
            heard = now > self.NOTHING
            self._noise = np.where(heard, np.minimum(self._noise + self._SETTLE, now), self._noise)
            active = now > self._noise + self.ABOVE
            self._peak = np.where(active, np.maximum(now, self._peak - self._FORGET), self._peak)
            wish = np.clip(self._level, self._peak, self._peak + self.SLACK)
            step = np.clip(wish - self._level, -self._FALL, self._RISE)
            self._level = np.maximum(self._level + np.where(active, step, 0.0), self.LEAST)
            out[..., k] = self._level
        return out

    def relative(self, rows: NDArray[np.floating]) -> Floats:
        """Rows with the level taken out, -`DEPTH` and up: (..., R, 80) dB -> float32, the same shape."""
        return np.maximum(rows - self.push(rows)[..., None], -self.DEPTH).astype(np.float32)


def _decibels(frames: NDArray[np.floating], floor: float, product: Product | None = None) -> Floats:
    """Log-mel of windows of sound (rows, 640) -> (rows, 80)."""
    product = product or _rowwise
    window, bank = _tables()
    out = np.empty((len(frames), BANDS), np.float32)
    for start in range(0, len(frames), 512):
        spectrum = np.fft.rfft(frames[start : start + 512] * window)  # (rows, 321)
        power = spectrum.real**2 + spectrum.imag**2
        out[start : start + 512] = 10 * np.log10(np.maximum(product(power, bank), 10 ** (floor / 10)))
    return out


def _rowwise(power: NDArray[np.float64], bank: NDArray[np.float64]) -> NDArray[np.float64]:
    """``power @ bank`` whose rows do not depend on how many are multiplied at once (BLAS's may)."""
    return np.einsum("rf,fb->rb", power, bank)


@cache
def _tables() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import librosa

    window = np.hanning(WINDOW + 1)[:-1]
    window *= 2 / window.sum()  # a full-scale sine shows 0 dB in its bin
    bank = librosa.filters.mel(
        sr=RATE, n_fft=WINDOW, n_mels=BANDS, fmin=LOWEST, fmax=HIGHEST, norm=None, dtype=np.float64
    )
    return window, np.ascontiguousarray(bank.T)
