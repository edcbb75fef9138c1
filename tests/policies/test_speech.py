"""The speech model: causal, the same streamed or whole, and quiet when nobody speaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facetwin import assets
from facetwin.policies import audio, speech
from facetwin.policies.apc import APC, APCShape
from facetwin.policies.speech import POINTS, STEP, Shape, SpeechModel, SpeechNet, make_net
from facetwin.policies.speech_train import LOWER, UPPER, network_input
from facetwin.twin.errors import FaceTwinError, UsageError

SIDECAR = {"data": "none", "licence": "none", "command": "", "commit": "", "seed": 0, "scores": {}}


def small(lookahead: int, members: int = 2) -> SpeechModel:
    torch.manual_seed(0)
    shape = Shape(lookahead, members, hidden=16, front=12)
    return SpeechModel(shape, [SpeechNet(shape) for _ in range(members)], np.zeros((POINTS, 2)))


#: one of each kind; slices and attention included
KINDS = {
    "gru": Shape(80, 2, hidden=16, front=12),
    "conv": Shape(80, 2, hidden=16, layers=6, net="conv", leveled=True),
    "lstm": Shape(80, 1, hidden=16, layers=2, context=13, net="slice", leveled=True),
    "luong": Shape(40, 1, 16, 2, 26, net="slice", leveled=True, apc=(2, 8), pool="max", attention="luong"),
    "offline": Shape(80, 1, 16, 2, 26, net="slice", leveled=True, pool="sum", attention="transformer"),
    "whole": Shape(80, 1, 32, 6, net="conv", leveled=True, attention="transformer"),
}


def of_kind(name: str) -> SpeechModel:
    torch.manual_seed(0)
    shape = KINDS[name]
    apc = APC(APCShape(*shape.apc)).eval() if shape.apc != (0, 0) else None
    rest = np.random.default_rng(0).normal(0, 0.3, (POINTS, 2))
    return SpeechModel(shape, [make_net(shape) for _ in range(shape.members)], rest, apc=apc)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [STEP + 1, 20_000])
def test_every_kind_is_the_same_streamed_and_whole(kind: str, samples: int) -> None:
    model = of_kind(kind)
    sound = noise(2)[:samples]
    whole = model(sound)
    assert whole.shape == (-(-samples // STEP), POINTS, 2)
    for size in (500, 7000):
        joined = np.concatenate(list(model.iterate(sound[k : k + size] for k in range(0, samples, size))))
        assert np.abs(joined - whole).max(initial=0) < 1e-5


@pytest.mark.parametrize("kind", ["offline", "whole"])
def test_an_offline_model_says_long_things_in_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "BLOCK", 60)
    monkeypatch.setattr(speech, "EDGE", 15)
    model = of_kind(kind)
    sound = noise(6.5)
    whole = model(sound)
    assert len(whole) == -(-len(sound) // STEP)
    pieces = list(model.iterate(sound[k : k + 4000] for k in range(0, len(sound), 4000)))
    assert len(pieces) > 2
    assert np.abs(np.concatenate(pieces) - whole).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_there_and_back(kind: str, tmp_path: Path) -> None:
    model = of_kind(kind)
    model.save(tmp_path / "w.safetensors", SIDECAR)
    again = SpeechModel.load(tmp_path / "w.safetensors")
    assert again.shape == model.shape
    assert again.parameters == model.parameters
    assert np.array_equal(again(noise(1)), model(noise(1)))
    model.save(tmp_path / "half.safetensors", SIDECAR, half=True)
    half = SpeechModel.load(tmp_path / "half.safetensors")
    size = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "w")]
    assert size[0] < 0.7 * size[1]
    whole = model(noise(1))
    assert np.abs(half(noise(1)) - whole).max() < 0.02 * np.abs(whole).max() + 1e-6
    assert all(p.dtype == torch.float32 for net in half.nets for p in net.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_on_what_it_is_used_with(kind: str) -> None:
    model = of_kind(kind)
    sound = noise(1)
    rows = torch.from_numpy(speech.logmel.log_mel(sound, model.shape.floor))[None]
    with torch.inference_mode():
        x = network_input(rows, model.shape, model.apc)
        nets = [net(x, None, torch.from_numpy(model.rest)[None])[0][0] for net in model.nets]
    trained, used = torch.stack(nets).mean(0).numpy(), model(sound)
    assert trained.shape == used.shape
    if not model.shape.offline:  # at the end training pads with the floor, use with silence
        assert np.abs(trained[:-2] - used[:-2]).max() < 1e-5


@pytest.mark.parametrize(
    "value", [{"net": "rnn"}, {"pool": "x"}, {"attention": "x"}, {"context": 2}, {"attention": "transformer"}]
)
def test_no_such_shape(value: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Shape(**value)  # type: ignore[arg-type]


def test_a_whole_net_begins_as_the_convolutions_and_hears_what_comes_after() -> None:
    conv = of_kind("conv")
    shape = replace(KINDS["conv"], members=1, hidden=32, attention="transformer")
    plain = make_net(replace(shape, attention="none")).eval()
    whole = make_net(shape).eval()
    whole.load_state_dict({**whole.state_dict(), **plain.state_dict()})
    sound = noise(2)
    a, b = (
        SpeechModel(s, [n], conv.rest) for s, n in ((replace(shape, attention="none"), plain), (shape, whole))
    )
    assert np.abs(a(sound) - b(sound)).max() < 1e-6
    with torch.no_grad():
        torch.nn.init.normal_(whole.tell.weight, std=0.3)
    changed = sound.copy()
    changed[-4 * STEP :] = 0.0
    off = np.abs(b(sound) - b(changed)).max((1, 2))
    assert off[len(off) // 2] > 0  # a second before the change
    assert np.array_equal(a(sound)[: len(off) // 2], a(changed)[: len(off) // 2])
    with pytest.raises(UsageError, match="heads"):
        make_net(replace(shape, hidden=24))


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
