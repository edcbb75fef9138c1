"""What the speech model must beat: talking faces made without learning to speak.

Each baseline turns sound, or the reference itself, into displacements of `speech63`. Those with a gain
are fitted on the training clips alone. Rows of log-mel are taken with the model's own look-ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.policies import logmel
from facetwin.policies.dataset import Clip
from facetwin.policies.speech_shape import POINTS, ROWS, STEP
from facetwin.twin.landmarks import indices

Floats = NDArray[np.float32]
#: rows of log-mel that ridge and nearest neighbour see, 200 ms as the model's front
CONTEXT = 10


def sound_windows(samples: Floats, pictures: int, ahead: int, context: int = CONTEXT) -> Floats:
    """The log-mel before each picture's look-ahead ends: float32 [shape=(pictures, context * 80), dB]."""
    rows = logmel.log_mel(samples[: pictures * STEP])
    silence = np.full((1, logmel.BANDS), logmel.FLOOR, np.float32)
    late = max(0, ROWS * (pictures + ahead) - len(rows))
    padded = np.concatenate([silence.repeat(context, 0), rows, silence.repeat(late, 0)])
    first = ROWS * ahead + np.arange(pictures) * ROWS  # begins `context` rows before the end of what is heard
    return padded[first[:, None] + np.arange(context)].reshape(pictures, -1)


def loudness(samples: Floats, pictures: int) -> Floats:
    """Root mean square of the sound during each picture and its neighbours, float32 [shape=(pictures, 1)]."""
    padded = np.zeros((pictures + 2) * STEP, np.float32)
    part = samples[: pictures * STEP]
    padded[STEP : STEP + len(part)] = part
    frames = np.lib.stride_tricks.sliding_window_view(padded, 3 * STEP)[::STEP][:pictures]
    return np.sqrt((frames**2).mean(-1, keepdims=True)).astype(np.float32)


@dataclass
class Baselines:
    """All of them, fitted on training clips.

    `rest` is the face (478, 3) that displacement counts from; `names` says what `displacement` knows.
    """

    rest: Floats
    mean: Floats
    ahead: int
    gain: NDArray[np.float64]
    linear: NDArray[np.float64]
    basis: NDArray[np.float64]
    centre: NDArray[np.float64]
    codes: Floats
    answers: Floats

    names = ("frozen rest", "frozen mean", "amplitude", "ridge", "nearest neighbour")

    @classmethod
    def fit_talkers(cls, clips: Sequence[Clip], ahead: int, penalty: float = 100.0) -> Baselines:
        """Fit on clips of many talkers, displacement counting from each one's own rest."""
        from facetwin.policies.speech_data import by_talker, resting

        rests = {name: resting(own) for name, own in by_talker(clips).items()}
        return cls.fit(clips, next(iter(rests.values())), ahead, penalty, rests)

    @classmethod
    def fit(
        cls,
        clips: Sequence[Clip],
        rest: Floats,
        ahead: int,
        penalty: float = 100.0,
        rests: Mapping[str, Floats] | None = None,
    ) -> Baselines:
        """Fit on tracked training clips; `rests` are the rest faces of talkers other than `rest`'s."""
        ids = indices("speech63")
        aims, sounds, levels = [], [], []
        for clip in clips:
            own = (rests or {}).get(clip.talker, rest)
            aims.append((clip.landmarks[:, ids, :2] - own[ids, :2]).reshape(len(clip), -1)[clip.seen])
            sounds.append(sound_windows(clip.samples, len(clip), ahead)[clip.seen])
            levels.append(loudness(clip.samples, len(clip))[clip.seen])
        y = np.concatenate(aims)  # (N, 126)
        x = np.concatenate(sounds)  # (N, context * 80)
        gain = _ridge(np.concatenate(levels), y, 0.0)
        linear = _ridge(x / 10, y, penalty)
        centre = x.mean(0, dtype=np.float64)
        cov = np.cov(x[:: max(1, len(x) // 8000)] - centre, rowvar=False)
        basis = np.linalg.eigh(cov)[1][:, ::-1][:, :64]
        codes = ((x - centre) @ basis).astype(np.float32)
        mean = y.mean(0).reshape(POINTS, 2).astype(np.float32)
        return cls(rest, mean, ahead, gain, linear, basis, centre, codes, y.astype(np.float32))

    def displacement(self, name: str, samples: Floats, pictures: int) -> Floats:
        """One baseline's answer to a clip's sound: float32 [shape=(pictures, 63, 2), u]."""
        makers: dict[str, Callable[[], NDArray[np.floating]]] = {
            "frozen rest": lambda: np.zeros((pictures, POINTS, 2)),
            "frozen mean": lambda: np.repeat(self.mean[None], pictures, 0),
            "amplitude": lambda: _apply(loudness(samples, pictures), self.gain),
            "ridge": lambda: _apply(sound_windows(samples, pictures, self.ahead) / 10, self.linear),
            "nearest neighbour": lambda: self._nearest(sound_windows(samples, pictures, self.ahead)),
        }
        return makers[name]().reshape(pictures, POINTS, 2).astype(np.float32)

    def _nearest(self, x: Floats) -> Floats:
        """The answer to the most similar sound among *all* training pictures."""
        code = ((x - self.centre) @ self.basis).astype(np.float32)
        far = (self.codes**2).sum(1)[None] - 2 * code @ self.codes.T  # (T, N)
        return self.answers[far.argmin(1)]


def late(face: NDArray[np.floating], frames: int) -> NDArray[np.floating]:
    """The reference itself, some pictures late; the first picture is held until then."""
    if frames <= 0:
        return face
    return np.concatenate([np.repeat(face[:1], min(frames, len(face)), 0), face])[: len(face)]


def shuffled(faces: Sequence[NDArray[np.floating]]) -> list[NDArray[np.floating]]:
    """Each clip gets the face of another, cut or held to its length."""
    moved = [*faces[1:], faces[0]]
    out = []
    for own, other in zip(faces, moved):
        at = np.minimum(np.arange(len(own)), len(other) - 1)
        out.append(other[at])
    return out


def _ridge(x: NDArray[np.floating], y: NDArray[np.floating], penalty: float) -> NDArray[np.float64]:
    """Weights (d + 1, outputs) of a linear map with an unpunished constant."""
    wide = np.column_stack([x, np.ones(len(x), x.dtype)]).astype(np.float64)
    gram = wide.T @ wide
    gram[np.diag_indices(len(gram) - 1)] += penalty
    return np.linalg.solve(gram, wide.T @ y)


def _apply(x: NDArray[np.floating], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return x @ weights[:-1] + weights[-1]
