"""Training: a few steps on made-up clips, and that it learns what can be learnt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from facetwin.policies import speech_train
from facetwin.policies.dataset import Clip
from facetwin.policies.speech import Shape
from facetwin.policies.speech_train import Training
from facetwin.twin.errors import FaceTwinError

Talkers = Callable[[int], list[Clip]]


def test_it_learns_a_tone(talkers: Talkers) -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, float]] = []
    shape = Shape(80, 1, hidden=24, layers=1, front=24)
    options = Training(epochs=12, batch=3, dropout=0.0, augment=0.0, silence=0.1, rate=5e-3)
    model = speech_train.train(talkers(24), shape, options, report=rows.append)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["corr"] > 0.7
    assert np.isfinite(model(np.zeros(6400))).all()


def test_the_same_seed_gives_the_same_weights(talkers: Talkers) -> None:
    shape = Shape(40, 1, hidden=8, layers=1, front=8)
    clips = talkers(8)
    a, b = (speech_train.train(clips, shape, Training(epochs=1, batch=2)) for _ in range(2))
    for x, y in zip(a.nets[0].parameters(), b.nets[0].parameters()):
        assert torch.equal(x, y)


def test_rest_is_shut_and_silent(talkers: Talkers) -> None:
    rest = speech_train.rest_face(talkers(3))
    assert abs(rest[13, 1] - rest[14, 1]) < 1e-6
    talking = [Clip(c.name, c.landmarks, np.zeros(len(c), bool), c.samples) for c in talkers(3)]
    with pytest.raises(FaceTwinError, match="never silent"):
        speech_train.rest_face(talking)


def test_too_few_clips(talkers: Talkers) -> None:
    with pytest.raises(FaceTwinError, match="too few"):
        speech_train.train(talkers(2), Shape(), Training())
