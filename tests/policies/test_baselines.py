"""Baselines answer with the right shape, and each is as good as it should be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facetwin.policies.baselines import Baselines, sound_windows
from facetwin.policies.dataset import Clip
from facetwin.policies.logmel import log_mel
from facetwin.policies.speech_score import face_of, reference, speech_table
from facetwin.policies.speech_train import rest_face
from facetwin.twin.landmarks import indices


def test_each_is_fitted(talkers: Callable[[int], list[Clip]]) -> None:
    clips = talkers(12)
    rest = rest_face(clips)
    fitted = Baselines.fit(clips, rest, ahead=2, penalty=1.0)
    ids = indices("speech63")
    errors = {}
    for name in fitted.names:
        moved = [fitted.displacement(name, c.samples, len(c)) for c in clips]
        assert moved[0].shape == (50, 63, 2)
        errors[name] = np.mean(
            [np.abs(m - (c.landmarks[:, ids, :2] - rest[ids, :2])).mean() for m, c in zip(moved, clips)]
        )
    assert errors["nearest neighbour"] < 1e-4  # it has seen these very clips
    assert errors["amplitude"] < 0.6 * errors["frozen mean"]
    assert errors["ridge"] < errors["frozen mean"]


def test_windows_end_where_the_look_ahead_ends() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 25 * 640).astype(np.float32)
    rows = log_mel(sound)
    for ahead in (0, 1, 2):
        seen = sound_windows(sound, 25, ahead).reshape(25, 10, 80)
        assert np.array_equal(seen[8][-1], rows[2 * (8 + ahead) - 1])


class Dead:
    """A model that never moves."""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        return np.zeros((len(samples) // 640, 63, 2), np.float32)


def test_the_table(talkers: Callable[[int], list[Clip]]) -> None:
    clips = talkers(4)
    rest = rest_face(clips)
    references = [reference(clip, None) for clip in clips]
    table = speech_table(Dead(), rest, clips, references, Baselines.fit(clips, rest, 2))  # type: ignore[arg-type]
    assert table["person"]["D-P"].value == 0
    assert table["model"]["D-P"].value == table["frozen rest"]["D-P"].value > 0
    assert face_of(rest, np.zeros((3, 63, 2))).shape == (3, 478, 3)
