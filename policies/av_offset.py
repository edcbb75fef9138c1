"""By how much sound and lips of a clip are apart, and a clip brought together.

What the sound alone says about the speed of the lips (`sync_net`) is correlated with the speed at which the
tracked mouth opens and closes, at every lag within 400 ms; a parabola through the peak tells the offset. The
correlation at the peak is the confidence: a stranger's voice over the same lips stays far below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies.dataset import Clip
from facetwin.policies.scores import peak_lag
from facetwin.twin.landmarks import opening

if TYPE_CHECKING:
    from facetwin.policies.sync_net import SyncNet

#: lags looked at, in rows of 20 ms to either side
MOST = 20
ROWS = 50
RATE = 16_000
#: shorter clips say nothing, s
SHORTEST = 1.0


@dataclass(frozen=True)
class Offset:
    """By how many ms the sound is late (after the lips), and the confidence in it, 0 to 1."""

    late_ms: float
    confidence: float


def lip_speed(face: ArrayLike, times: ArrayLike) -> NDArray[np.float32]:
    """Speed of the mouth's opening, 50 times a second.

    face : float [shape=(T, 478, 2|3), u]; times : float [shape=(T,), s] -> float32 [shape=(n,), u/s]
    """
    from scipy.interpolate import CubicSpline

    when = np.asarray(times, np.float64)
    fresh = np.concatenate([[True], np.diff(when) > 1e-4])
    when, gap = when[fresh], np.asarray(opening(face), np.float64)[fresh]
    if len(when) < 3:
        return np.zeros(0, np.float32)
    step = float(np.median(np.diff(when)))
    grid = np.arange(round((when[-1] - when[0] + step) * ROWS)) / ROWS + when[0]
    return CubicSpline(when, gap)(np.minimum(grid, when[-1]), 1).astype(np.float32)


def estimate(
    samples: ArrayLike, face: ArrayLike, times: ArrayLike, *, net: SyncNet | None = None
) -> Offset | None:
    """Offset of a clip; None where it is too short, silent or still to tell.

    Parameters
    ----------
    samples : float [shape=(n,)], 16 kHz, sample 0 at time 0
    face : float [shape=(T, 478, 2|3), u], aligned
    times : float [shape=(T,), s]
    net : default the shipped one
    """
    import torch

    from facetwin.policies import sync_net

    seen = lip_speed(face, times)
    heard = sync_net.hear(samples, net)
    rows = min(len(seen), len(heard))
    if rows < SHORTEST * ROWS or np.ptp(seen[:rows]) < 1e-6 or np.ptp(np.asarray(samples)) < 1e-6:
        return None
    one, two = (torch.from_numpy(each[None, :rows].copy()) for each in (heard, seen))  # (1, rows)
    curve = sync_net.curves(one, two, min(MOST, rows // 3))[0].numpy()
    best = float(curve.max())
    if best <= 0:
        return Offset(0.0, 0.0)
    return Offset(-peak_lag(curve) * 1000 / ROWS, best)


def bring_together(
    samples: NDArray[np.float32], times: NDArray[np.float64], late_ms: float
) -> tuple[NDArray[np.float32], slice]:
    """The sound moved so that it fits the lips, and the pictures that have sound then.

    Returns
    -------
    samples : float32, sample 0 at the first of the pictures kept
    kept : slice of pictures; cut are those before the sound's begin (early sound) or after its end (late)
    """
    late = late_ms / 1000
    if late >= 0:
        samples = samples[round(late * RATE) :]
        return samples, slice(0, max(1, int((times < len(samples) / RATE).sum())))
    first = min(int(np.searchsorted(times, -late - 1e-6)), len(times) - 1)
    return samples[max(0, round((times[first] + late) * RATE)) :], slice(first, len(times))


def figures(clips: Sequence[Clip], net: SyncNet | None = None) -> dict[str, float]:
    """How well offsets of clips are told: their spread, and confidences with the own and another's sound."""
    own: list[Offset] = []
    other: list[Offset] = []
    for k, clip in enumerate(clips):
        times = np.arange(len(clip)) / 25
        for sound, into in ((clip, own), (clips[k - 1], other)):
            found = estimate(sound.samples, clip.landmarks, times, net=net)
            if found is not None:
                into.append(found)
    late = np.array([each.late_ms for each in own])
    true, false = (np.array([each.confidence for each in part]) for part in (own, other))
    return {
        "clips": len(own),
        "offset_mean_ms": round(float(late.mean()), 1),
        "offset_sd_ms": round(float(late.std()), 1),
        "offset_worst_ms": round(float(np.abs(late - np.median(late)).max()), 1),
        "confidence_median": round(float(np.median(true)), 3),
        "confidence_p5": round(float(np.quantile(true, 0.05)), 3),
        "wrong_sound_median": round(float(np.median(false)), 3),
        "wrong_sound_p95": round(float(np.quantile(false, 0.95)), 3),
        "wrong_sound_max": round(float(false.max()), 3),
    }
