"""The speech model: causal, the same streamed or whole, and quiet when nobody speaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facetwin import assets
from facetwin.policies import audio, speech
from facetwin.policies.speech import POINTS, STEP, Shape, SpeechModel, SpeechNet
from facetwin.policies.speech_train import LOWER, UPPER, network_input
from facetwin.twin.errors import FaceTwinError, UsageError

SIDECAR = {"data": "none", "licence": "none", "command": "", "commit": "", "seed": 0, "scores": {}}


def small(lookahead: int, members: int = 2) -> SpeechModel:
    torch.manual_seed(0)
    shape = Shape(lookahead, members, hidden=16, front=12)
    return SpeechModel(shape, [SpeechNet(shape) for _ in range(members)], np.zeros((POINTS, 2)))


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(1).normal(0, level, round(seconds * 16_000)).astype(np.float32)


@pytest.mark.parametrize("lookahead", [0, 40, 80])
@pytest.mark.parametrize("samples", [0, 100, STEP, 3 * STEP, 3 * STEP + 1, 20_000])
def test_streamed_equals_whole(lookahead: int, samples: int) -> None:
    model = small(lookahead)
    sound = noise(2)[:samples]
    whole = model(sound)
    assert whole.shape == (-(-samples // STEP), POINTS, 2)
    for size in (77, 640, 5000):
        stream = model.stream()
        pieces = [stream.push(sound[k : k + size]) for k in range(0, samples, size)]
        joined = np.concatenate([*pieces, stream.finish()])
        assert joined.shape == whole.shape
        assert np.abs(joined - whole).max(initial=0) < 1e-5


@pytest.mark.parametrize("lookahead", [0, 40, 80])
def test_picture_k_hears_up_to_its_time_and_the_look_ahead(lookahead: int) -> None:
    model = small(lookahead)
    sound = noise(1)
    changed = sound.copy()
    changed[10 * STEP :] *= -0.1
    moved = np.abs(model(sound) - model(changed)).max((1, 2)) > 1e-7
    first = int(np.argmax(moved))
    assert first == 10 - lookahead // 40 + 1
    heard = len(model.stream().push(sound[: 10 * STEP]))
    assert heard == min(10, 10 - lookahead // 40 + 1)


@pytest.mark.parametrize("lookahead", [0, 40, 80])
def test_training_sees_what_use_sees(lookahead: int) -> None:
    model = small(lookahead, 1)
    sound = noise(1)
    rows = torch.from_numpy(speech.logmel.log_mel(sound))[None]
    with torch.inference_mode():
        trained = model.nets[0](network_input(rows, model.shape))[0][0].numpy()
    used = model(sound)
    settled = slice(0, len(used) - 2)  # at the end training pads with the floor, use with silence
    assert np.abs(trained[settled] - used[settled]).max() < 1e-5


def test_an_hour_needs_no_more_memory_than_a_minute() -> None:
    model = small(80, 1)
    count = sum(len(out) for out in model.iterate(noise(1) for _ in range(90)))
    assert count == 90 * 25


def test_there_and_back(tmp_path: Path) -> None:
    model = small(40)
    model.save(tmp_path / "w.safetensors", SIDECAR)
    again = SpeechModel.load(tmp_path / "w.safetensors")
    assert again.shape == model.shape
    assert np.array_equal(again(noise(1)), model(noise(1)))
    with pytest.raises(UsageError):
        Shape(55)
    with pytest.raises(UsageError):
        SpeechModel.load(tmp_path / "absent.safetensors")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    speech.weights.save_weights(path, {"a": np.zeros(3)}, SIDECAR)
    with pytest.raises(FaceTwinError, match="not weights of a speech model"):
        SpeechModel.load(path)
    speech.weights.save_weights(path, {"a": np.zeros(3)}, {**SIDECAR, "shape": {"lookahead": 80}})
    with pytest.raises(FaceTwinError, match="another model"):
        SpeechModel.load(path)


@pytest.fixture(scope="module", params=[0, 40, 80])
def shipped(request: pytest.FixtureRequest) -> SpeechModel:
    if not SpeechModel.shipped(request.param).exists():
        pytest.skip(f"no shipped weights for {request.param} ms; next: facetwin train speech")
    return SpeechModel.load(request.param)


def gape(displacement: np.ndarray) -> np.ndarray:
    return displacement[:, UPPER, 1] - displacement[:, LOWER, 1]


@pytest.mark.parametrize("level", [0.0, 1e-4, 1e-3], ids=["silence", "-80 dB", "-60 dB"])
def test_silence_and_quiet_noise_give_a_shut_still_mouth(shipped: SpeechModel, level: float) -> None:
    out = shipped(noise(8, level))
    assert np.abs(gape(out)).max() < 0.02
    assert np.abs(np.diff(out[25:], axis=0)).max() < 0.01


def test_louder_noise_makes_it_twitch_seldom_and_little(shipped: SpeechModel) -> None:
    for level in (5e-3, 1e-2, 1e-1):  # -46 to -20 dB
        open_by = np.abs(gape(shipped(noise(20, level))))
        assert (open_by > 0.02).mean() < 0.03
        assert open_by.max() < 0.05


def test_speech_opens_the_mouth_at_any_level(shipped: SpeechModel) -> None:
    sound = audio.load(assets.path("speech", "sample.wav")).samples
    normal = gape(shipped(sound))
    assert np.percentile(normal, 90) > 0.04
    for gain in (0.1, 0.3):
        other = gape(shipped(sound * gain))
        assert np.corrcoef(normal, other)[0, 1] > 0.85
