"""Training: a few steps on made-up clips, and that it learns what can be learnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facetwin.policies import speech_data, speech_train
from facetwin.policies.dataset import Clip
from facetwin.policies.espeak import Phoneme
from facetwin.policies.speech import POINTS, Shape
from facetwin.policies.speech_train import LOWER, UPPER, Training
from facetwin.policies.visemes_table import SOUNDS
from facetwin.twin.errors import FaceTwinError

Talkers = Callable[[int], list[Clip]]


def test_it_learns_a_tone(talkers: Talkers) -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, float]] = []
    shape = Shape(80, 1, hidden=24, layers=1, front=24)
    options = Training(epochs=16, batch=6, length=75, dropout=0.0, augment=0.0, silence=0.1, rate=5e-3)
    model = speech_train.train(talkers(24), shape, options, report=rows.append)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["corr"] > 0.7
    assert np.isfinite(model(np.zeros(6400))).all()


def test_the_same_seed_gives_the_same_weights(talkers: Talkers) -> None:
    shape = Shape(40, 1, hidden=8, layers=1, front=8)
    clips = talkers(8)
    a, b = (speech_train.train(clips, shape, Training(epochs=1, batch=2, length=60)) for _ in range(2))
    for x, y in zip(a.nets[0].parameters(), b.nets[0].parameters()):
        assert torch.equal(x, y)


def test_talkers_of_two_datasets_each_from_their_own_rest(talkers: Talkers) -> None:
    first = talkers(6)
    moved = [
        replace(clip, talker="big", landmarks=(clip.landmarks * 1.5).astype(np.float32)) for clip in first
    ]
    data = speech_data.prepare([first, moved])
    assert len(data) == 12
    assert data.talker.tolist() == [0] * 6 + [1] * 6
    assert data.dataset.tolist() == [0, 1]
    assert torch.allclose(data.rests[1], data.rests[0] * 1.5)
    assert torch.allclose(data.targets[7], data.targets[1] * 1.5, atol=1e-6)
    sampler = speech_data.Sampler(data, Shape(), length=60, share=(1, 0.5), seed=1)
    batch = sampler.draw(40)
    assert batch.rows.shape == (40, 120, 80)
    assert batch.target.shape == (40, 60, 63, 2)
    own = [int(torch.allclose(face, data.rests[1])) for face in batch.face]
    assert 4 < sum(own) < 22
    for k, number in enumerate(own):
        low = batch.target[k, :, LOWER, 1].min()
        assert float(low) == pytest.approx((-0.1, -0.15)[number], abs=1e-6) or float(low) == 0


def test_a_killed_run_goes_on(talkers: Talkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Shape(80, 2, hidden=8, layers=2, net="conv", leveled=True)
    options = Training(epochs=1, batch=2, length=60)
    whole = speech_train.train(talkers(6), shape, options)
    one = Shape(80, 1, hidden=8, layers=2, net="conv", leveled=True)
    speech_train.train(talkers(6), one, options, keep=tmp_path)
    trained: list[int] = []
    real = speech_train.train_member

    def train_member(shape: Shape, options: Training, *rest: object) -> object:
        trained.append(options.seed)
        return real(shape, options, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(speech_train, "train_member", train_member)
    again = speech_train.train(talkers(6), shape, options, keep=tmp_path)
    assert trained == [1]
    sound = talkers(1)[0].samples
    assert np.array_equal(again(sound), whole(sound))


def test_cut_off_in_the_middle_it_goes_on(talkers: Talkers, tmp_path: Path) -> None:
    shape = Shape(80, 1, hidden=8, layers=2, net="conv", leveled=True)
    options = Training(epochs=12, batch=2, length=60, augment=0.5)
    whole = speech_train.train(talkers(6), shape, options)
    rows: list[float] = []

    def cut(row: dict[str, float]) -> None:
        rows.append(row["done"])
        if len(rows) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        speech_train.train(talkers(6), shape, options, report=cut, keep=tmp_path)
    again = speech_train.train(talkers(6), shape, options, report=cut, keep=tmp_path)
    assert rows[3] > rows[2]
    assert rows[-1] == 1
    sound = talkers(1)[0].samples
    assert np.array_equal(again(sound), whole(sound))


def test_processor_time_ends_it(talkers: Talkers) -> None:
    rows: list[dict[str, float]] = []
    shape = Shape(80, 1, hidden=8, layers=1, front=8)
    options = Training(epochs=10**6, seconds=0.2, batch=2, length=60)
    speech_train.train(talkers(6), shape, options, report=rows.append)
    assert rows[-1]["done"] == 1
    assert rows[-1]["step"] < 1000


def test_small_gaps_weigh_most() -> None:
    target = torch.zeros(1, 2, POINTS, 2)
    batch = speech_data.Batch(
        torch.zeros(1, 4, 80), target, torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.int64),
        torch.zeros(1, POINTS, 2), torch.zeros(1),
    )  # fmt: skip
    options = Training(velocity=0, squared=0)

    def loss(truth: float, guess: float) -> float:
        made = torch.zeros_like(target)
        made[..., UPPER, 1] = guess
        batch.target = torch.zeros_like(target)
        batch.target[..., UPPER, 1] = truth
        return float(speech_train.speech_loss(made, batch, options))

    assert loss(0.0, 0.03) > 1.5 * loss(0.1, 0.13) > 0
    assert loss(0.1, 0.1) == pytest.approx(0, abs=0.02)


def test_nobody_is_ever_silent(talkers: Talkers) -> None:
    talking = [replace(c, samples=np.ones_like(c.samples)) for c in talkers(3)]
    assert np.allclose(speech_data.resting(talking), speech_train.rest_face(talkers(3)))
    unseen = [replace(c, seen=np.zeros(len(c), bool)) for c in talkers(2)]
    with pytest.raises(FaceTwinError, match="no face"):
        speech_data.resting(unseen)


def test_rest_is_shut_and_silent(talkers: Talkers) -> None:
    rest = speech_train.rest_face(talkers(3))
    assert abs(rest[13, 1] - rest[14, 1]) < 1e-6
    talking = [Clip(c.name, c.landmarks, np.zeros(len(c), bool), c.samples) for c in talkers(3)]
    with pytest.raises(FaceTwinError, match="never silent"):
        speech_train.rest_face(talking)


def test_too_few_clips(talkers: Talkers) -> None:
    with pytest.raises(FaceTwinError, match="too few"):
        speech_train.train(talkers(2), Shape(), Training())


def test_sequences_know_what_is_said(talkers: Talkers) -> None:
    clips = talkers(4)
    said = [
        replace(c, phonemes=(Phoneme("", 0.0, 0.4), Phoneme("m", 0.4, 1.2), Phoneme("", 1.2, 2.0)))
        for c in clips[:2]
    ]
    data = speech_data.prepare([[*said, *clips[2:]]])
    hum = SOUNDS.index("m")
    assert data.spoken[0].tolist() == [0] * 10 + [hum] * 20 + [0] * 20
    assert set(data.spoken[2].tolist()) == {-1}
    batch = speech_data.Sampler(data, Shape(), length=80, silence=0.3, seed=0).draw(30)
    assert batch.spoken.shape == (30, 80)
    assert set(batch.spoken.unique().tolist()) == {-1, 0, hum}


def test_telling_sounds_apart_is_learnt_beside(talkers: Talkers, tmp_path: Path) -> None:
    clips = [replace(c, phonemes=(Phoneme("a", 0.3, 1.0),)) for c in talkers(8)]
    shape = Shape(80, 1, hidden=8, layers=2, net="conv", leveled=True)
    options = Training(epochs=2, batch=2, length=60, sounds=1.0)
    a, b = (speech_train.train(clips, shape, options, keep=tmp_path / n) for n in ("a", "b"))
    without = speech_train.train(clips, shape, replace(options, sounds=0.0))
    weights = [dict(m.nets[0].state_dict()) for m in (a, b, without)]
    assert all(torch.equal(x, weights[1][name]) for name, x in weights[0].items())
    assert weights[0].keys() == weights[2].keys()
    assert not all(torch.equal(x, weights[2][name]) for name, x in weights[0].items())


def test_training_goes_on_from_weights(talkers: Talkers) -> None:
    clips, shape = talkers(6), Shape(80, 1, hidden=8, layers=1, front=8)
    options = Training(epochs=2, batch=2, length=60, augment=0.0)
    first = speech_train.train(clips, shape, options)
    still = speech_train.train(clips, shape, replace(options, rate=0.0, seed=5), start=first)
    for a, b in zip(first.nets[0].parameters(), still.nets[0].parameters()):
        assert torch.allclose(a, b)
