"""Sound that was moved by a known time is found and moved back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facetwin.policies import av_offset, sync_net, weights
from facetwin.policies.dataset import Clip, load_clips
from facetwin.policies.sync_train import Training, train
from facetwin.policies.tracking import Options, examine
from facetwin.twin.errors import FaceTwinError

REPOSITORY = Path(__file__).resolve().parents[2]
RATE = 16_000


def delayed(samples: NDArray[np.float32], ms: float) -> NDArray[np.float32]:
    """The same sound, `ms` later; silence where there was none."""
    shift = round(ms * RATE / 1000)
    out = np.zeros_like(samples)
    if shift >= 0:
        out[shift:] = samples[: len(samples) - shift]
    else:
        out[:shift] = samples[-shift:]
    return out


def late(clip: Clip, samples: NDArray[np.float32] | None = None) -> av_offset.Offset:
    times = np.arange(len(clip)) / 25
    found = av_offset.estimate(clip.samples if samples is None else samples, clip.landmarks, times)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def person(shared_data: Path) -> Clip:
    """A real clip of a talker's validation set."""
    path = sorted((shared_data / "grid_s1" / "val").glob("*.mp4"))[3]
    return examine(path, Options(sync="off")).clip


def test_a_known_shift_is_found(person: Clip) -> None:
    """To 15 ms of the clip's own offset, which is not known to be 0, and which lies within 60 ms."""
    own = late(person)
    assert abs(own.late_ms) < 60
    for ms in (-200, -120, -40, 40, 120, 200):
        assert late(person, delayed(person.samples, ms)).late_ms - own.late_ms == pytest.approx(ms, abs=15)


def test_neither_loudness_nor_a_hum_moves_it(person: Clip) -> None:
    own = late(person)
    hum = (0.002 * np.sin(np.arange(len(person.samples)) * 2 * np.pi * 50 / RATE)).astype(np.float32)
    for other in (person.samples * 0.1, person.samples + hum):
        assert late(person, other).late_ms == pytest.approx(own.late_ms, abs=10)


def test_silence_and_still_lips_say_nothing(person: Clip) -> None:
    times = np.arange(len(person)) / 25
    still = np.repeat(person.landmarks[:1], len(person), 0)
    assert av_offset.estimate(np.zeros_like(person.samples), person.landmarks, times) is None
    assert av_offset.estimate(person.samples, still, times) is None
    assert av_offset.estimate(person.samples[:8000], person.landmarks[:12], times[:12]) is None


@pytest.mark.parametrize("ms", [-200.0, -130.0, -41.0, 55.0, 160.0, 200.0])
def test_brought_together(ms: float) -> None:
    """Every picture that is kept begins with the sound that belongs to it; the sound tells its own time."""
    times = np.arange(60) / 25
    clock = (np.arange(60 * 640) / RATE).astype(np.float32)  # sample value = time it belongs to, s
    sound = np.concatenate([np.full(max(0, round(ms * 16)), -1, "f4"), clock])[max(0, -round(ms * 16)) :]
    moved, kept = av_offset.bring_together(sound, times, ms)
    left = times[kept]
    at = np.round((left - left[0]) * RATE).astype(int)
    inside = at < len(moved)
    assert inside.all()
    assert np.abs(moved[at] - left).max() < 1 / RATE + 1e-6
    assert len(left) >= 60 - int(np.ceil(abs(ms) / 40))


def test_the_curve_peaks_where_the_lips_come_late() -> None:
    random = torch.Generator().manual_seed(0)
    heard = torch.randn((1, 200), generator=random)
    curve = sync_net.curves(heard, heard.roll(6, 1), 20)[0]
    assert int(curve.argmax()) - 20 == 6
    assert curve.max() > 0.99


def test_a_net_learns_and_comes_back(talkers, tmp_path: Path) -> None:
    clips = [replace(clip, name=str(k)) for k, clip in enumerate(talkers(6))]
    losses: list[float] = []
    short = Training(epochs=5, batch=3, seconds=1.2, augment=0.0, dropout=0.0)
    net = train(clips, short, report=lambda epoch, loss: losses.append(loss))
    assert losses[-1] < losses[0]
    sidecar = {"data": "made up", "licence": "", "command": "", "commit": "", "seed": 0, "scores": {}}
    sync_net.save(net, tmp_path / "a.safetensors", sidecar)
    again = sync_net.load(tmp_path / "a.safetensors")
    assert np.array_equal(sync_net.hear(clips[0].samples, net), sync_net.hear(clips[0].samples, again))
    with pytest.raises(FaceTwinError, match="too few"):
        train(clips[:3], short)
    weights.save_weights(tmp_path / "b.safetensors", {"x": np.zeros(3)}, sidecar)
    with pytest.raises(FaceTwinError, match="not weights of a sync net"):
        sync_net.load(tmp_path / "b.safetensors")


@pytest.mark.slow
def test_known_shifts_of_forty_clips() -> None:
    folder = REPOSITORY / ".cache" / "grid_s1" / "train"
    if not (folder / "meta.json").exists():
        pytest.skip(f"no dataset at {folder}: facetwin track grid_s1/train -o {folder}")
    clips = load_clips(folder)
    chosen = [clips[k] for k in np.random.default_rng(0).permutation(len(clips))[:40]]  # not trained on
    own, errors = [], []
    for k, clip in enumerate(chosen):
        ms = -200 + 400 * k / 39
        own.append(late(clip, clip.samples).late_ms)
        errors.append(late(clip, delayed(clip.samples, ms)).late_ms - ms - own[-1])
    assert np.abs(errors).max() < 20  # what is put in comes out, whatever the clip's own lag is said to be
    assert np.abs(np.median(own)) < 15
    # not all: "set red by B 5 soon" repeats itself, and is told 208 ms from where it is (docs/dataset.md)
    assert np.mean(np.abs(own) < 60) >= 0.95
