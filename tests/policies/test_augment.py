"""Changes of voice keep what they must; sound without speech is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facetwin import assets
from facetwin.policies import audio, augment, logmel, nonspeech


def rows(count: int = 3, length: int = 40) -> torch.Tensor:
    return torch.randn((count, length, 80), generator=torch.Generator().manual_seed(1)) * 10 - 50


def bank() -> torch.Tensor:
    return torch.stack([torch.full((17, 80), -60.0), torch.full((17, 80), -30.0)])


def test_vary_keeps_the_shape_and_repeats_itself() -> None:
    a, b = (augment.vary(rows(), bank(), 1.0, torch.Generator().manual_seed(0)) for _ in range(2))
    assert a.shape == rows().shape
    assert torch.isfinite(a).all()
    assert torch.equal(a, b)
    assert not torch.equal(a, rows())
    assert torch.equal(augment.vary(rows(), bank(), 0.0, torch.Generator().manual_seed(0)), rows())


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.2])
def test_a_shorter_tract_has_higher_formants(factor: float) -> None:
    centres = augment._hertz_of(torch.linspace(augment._mel(90.0), augment._mel(7600.0), 80))
    tone = torch.full((1, 1, 80), -80.0)
    tone[0, 0, 40] = 0.0
    moved = augment.tract(tone, torch.full((1, 1, 1), factor))[0, 0]
    found = centres[int(moved.argmax())] / centres[40]
    assert abs(float(found) - factor) < 0.04


def test_noise_behind_is_as_far_below_as_asked() -> None:
    speech = torch.full((1, 50, 80), -40.0)
    mixed = augment.behind(speech, bank()[:1], torch.full((1, 1, 1), 10.0), torch.Generator())
    assert torch.allclose(mixed, speech + 10 * np.log10(1.1), atol=0.01)


def test_a_room_only_rings_on() -> None:
    burst = torch.full((1, 30, 80), -90.0)
    burst[:, 10] = -20.0
    rung = augment.room(burst, torch.full((1, 1, 1), 0.4), torch.full((1, 1, 1), -6.0))
    assert torch.allclose(rung[:, :11], burst[:, :11], atol=1.1)
    tail = rung[0, 11:, 0]
    assert (tail.diff() < 0).all()
    assert tail[0] > -60
    assert float(tail[0] - tail[10]) == pytest.approx(60 * 0.2 / 0.4, rel=0.05)


@pytest.mark.parametrize("kind", [*nonspeech.TRAINING, *nonspeech.UNHEARD])
def test_sound_without_speech(kind: str) -> None:
    sound = nonspeech.sound(kind, 3, 2.0, -30.0)
    assert sound.shape == (32_000,)
    assert np.isfinite(sound).all()
    level = 20 * np.log10(np.sqrt(np.mean(sound.astype(float) ** 2)))
    assert -34 < level < -29.9  # clicks are clipped
    assert np.array_equal(sound, nonspeech.sound(kind, 3, 2.0, -30.0))
    assert not np.array_equal(sound, nonspeech.sound(kind, 4, 2.0, -30.0))


def test_the_level_is_the_same_in_pieces_and_in_batches() -> None:
    loud = logmel.log_mel(nonspeech.sound("song", 0, 2.0), logmel.DEEP)
    whole = logmel.Level().relative(loud)
    level = logmel.Level()
    pieces = [level.relative(loud[k : k + 7]) for k in range(0, len(loud), 7)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert np.array_equal(logmel.Level().relative(np.stack([loud - 9, loud]))[1], whole)
    assert (whole >= -logmel.Level.DEPTH).all()


@pytest.mark.parametrize("gain", [-30.0, -15.0, 0.0, 20.0])
def test_the_level_follows_whoever_talks_within_a_second(gain: float) -> None:
    rows = logmel.log_mel(audio.load(assets.path("speech", "sample.wav")).samples, logmel.DEEP)
    level = logmel.Level()
    found = level.push(rows + gain)
    power = 10 * np.log10(np.power(10, (rows + gain) / 10).mean(1))
    loud = np.flatnonzero(power > power.max() - 10)
    settled = found[loud[0] + 50 :]
    assert power.max() - 12 < settled.max() < power.max() + logmel.Level.SLACK + 12
    assert np.abs(np.diff(found)).max() <= 2.4 + 1e-9


def test_steady_noise_and_silence_leave_the_level_alone() -> None:
    for decibels in (-70.0, -45.0, -20.0):
        noise = np.random.default_rng(0).normal(0, 10 ** (decibels / 20), 48_000)
        noise[:3200] = 0
        found = logmel.Level().push(logmel.log_mel(noise, logmel.DEEP))
        assert (found == logmel.Level.USUAL).all()
    assert (logmel.Level().push(np.full((50, 80), logmel.DEEP)) == logmel.Level.USUAL).all()


def test_another_voice_says_it_in_the_same_time() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000) * (np.arange(16_000) > 8000)
    usual = logmel.log_mel(tone, logmel.DEEP)
    assert np.abs(logmel.other_voice(tone, 1.0) - usual).max() < 1e-3
    for pitch in (0.85, 1.18):
        other = logmel.other_voice(tone, pitch)
        assert other.shape == usual.shape
        assert abs(int(np.argmax(other.max(1) > -40)) - int(np.argmax(usual.max(1) > -40))) <= 1
        assert np.sign(other[40].argmax() - usual[40].argmax()) == np.sign(pitch - 1)
