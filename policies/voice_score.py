"""Does the speech model mind the voice, the level, the room? And does it rest where nobody speaks?

All is measured on the opening of the mouth, u, from a face that is shut at rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies import nonspeech
from facetwin.policies.speech import STEP, SpeechModel
from facetwin.policies.speech_train import LOWER, UPPER

Floats = NDArray[np.float32]
#: gains that a listener takes in his stride, dB
GAINS = (-30.0, -20.0, -10.0, 10.0)


def gape(displacement: ArrayLike) -> Floats:
    """Opening (T,) in u of displacement (T, 63, 2) from shut lips."""
    moved = np.asarray(displacement, np.float32)
    return np.asarray(moved[:, UPPER, 1] - moved[:, LOWER, 1], np.float32)


def without_speech(
    model: Callable[[Floats], Floats],
    *,
    seconds: float = 8.0,
    seeds: Sequence[int] = (9001, 9002, 9003),
    levels: Sequence[float] = (-60.0, -40.0, -25.0, -15.0),
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, float]]:
    """Opening where nobody speaks: by kind of sound its p95 and largest, u, over levels and seeds.

    Kinds marked "unheard" were in no training; seeds are none of training's.
    """
    rows: dict[str, dict[str, float]] = {}
    quiet = np.abs(gape(model(np.zeros(round(seconds * nonspeech.RATE), np.float32))))
    rows["silence"] = {"p95": float(np.percentile(quiet, 95)), "most": float(quiet.max())}
    for kind in (*nonspeech.TRAINING, *nonspeech.UNHEARD):
        each = [
            np.abs(gape(model(nonspeech.sound(kind, seed, seconds, level))))
            for seed in seeds
            for level in levels
        ]
        joined = np.concatenate(each)
        name = kind + (" (unheard)" if kind in nonspeech.UNHEARD else "")
        rows[name] = {"p95": float(np.percentile(joined, 95)), "most": float(joined.max())}
        tell(name)
    return rows


def levels(
    model: Callable[[Floats], Floats], recordings: Mapping[str, Floats], gains: Sequence[float] = GAINS
) -> dict[str, dict[str, float]]:
    """Standard deviation of the opening when a recording is made softer or louder, over its own: by gain, dB.

    Also the correlation with the opening at its own level. Full scale clips, as it does in a file.
    """
    rows = {}
    for name, sound in recordings.items():
        usual = gape(model(sound))
        for gain in gains:
            other = gape(model(np.clip(sound * 10 ** (gain / 20), -1, 1).astype(np.float32)))
            rows[f"{name}, {gain:+.0f} dB"] = {
                "spread": float(other.std() / max(usual.std(), 1e-9)),
                "correlation": float(np.corrcoef(usual, other)[0, 1]) if other.std() > 1e-9 else 0.0,
            }
    return rows


def step_times(model: SpeechModel, seconds: float = 40.0) -> dict[str, float]:
    """Wall time of a streaming step (40 ms of sound in, a picture out) on one core, ms: median, p99, most."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sound = nonspeech.sound(next(iter(nonspeech.TRAINING)), 1, seconds)
        stream = model.stream()
        spent = []
        for k in range(0, len(sound), STEP):
            began = time.perf_counter()
            stream.push(sound[k : k + STEP])
            spent.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    each = 1000 * np.array(spent[10:])
    return {
        "median": float(np.median(each)),
        "p99": float(np.percentile(each, 99)),
        "most": float(each.max()),
    }


def streamed(model: SpeechModel, sound: Floats, piece: int = STEP) -> float:
    """Largest difference (u) between a recording streamed in pieces and as a whole."""
    parts = list(model.iterate(sound[k : k + piece] for k in range(0, len(sound), piece)))
    return float(np.abs(np.concatenate(parts) - model(sound)).max())
