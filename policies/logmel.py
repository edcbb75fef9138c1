"""Log-mel energies as the seeds use them: 16 kHz, 80 bands, hop 320, window 640, 90-7600 Hz, in dB.

Strictly causal: row j is heard when sample 320 (j + 1) is, and looks at the 640 samples before that
(zeros before the start). The reference is fixed (full scale = 0 dB) and so is the floor, so that a
stream and the whole recording give the same rows.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError

RATE = 16_000
BANDS = 80
HOP = 320
WINDOW = 640
LOWEST, HIGHEST = 90.0, 7600.0
#: quietest value, dB: about what 16-bit silence with dither gives
FLOOR = -90.0

Floats = NDArray[np.float32]


def log_mel(samples: ArrayLike) -> Floats:
    """Log-mel of a whole recording: float [shape=(n,)] -> float32 [shape=(n // 320, 80), dB]."""
    return LogMel().push(samples)


class LogMel:
    """The same, fed in pieces of any size.

    >>> import numpy as np
    >>> tone = np.sin(np.arange(1600) * 0.3)
    >>> mel = LogMel()
    >>> pieces = np.concatenate([mel.push(tone[:1000]), mel.push(tone[1000:])])
    >>> np.array_equal(pieces, log_mel(tone))
    True
    """

    def __init__(self) -> None:
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
        window, bank = _tables()
        out = np.empty((rows, BANDS), np.float32)
        for start in range(0, rows, 512):
            part = frames[start : start + 512]
            spectrum = np.fft.rfft(part * window)  # (rows, 321)
            power = spectrum.real**2 + spectrum.imag**2
            out[start : start + 512] = 10 * np.log10(np.maximum(_rowwise(power, bank), 10 ** (FLOOR / 10)))
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
