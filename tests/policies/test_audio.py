"""Sound in: what can be read, what is said about it, and one line for what cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from facetwin.policies import audio
from facetwin.twin.errors import FaceTwinError, UsageError


def tone(seconds: float = 0.5, rate: int = 16_000, pitch: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = 16_000, **kind: str) -> Path:
    soundfile.write(path, samples, rate, **kind)
    return path


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_any_rate_becomes_16_khz(tmp_path: Path, rate: int) -> None:
    heard = audio.load(write(tmp_path / "a.wav", tone(1.0, rate), rate))
    assert heard.rate == 16_000
    assert abs(heard.duration - 1.0) < 0.002
    middle = heard.samples[4000:12000]
    want = tone(1.0)[4000:12000]
    lag = np.argmax(np.correlate(middle, want[200:-200], "valid")) - 200
    assert abs(int(lag)) <= 1
    assert abs(np.abs(middle).max() - 0.5) < 0.01
    assert any("8000 Hz" in note for note in heard.notes) == (rate == 8_000)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_other_containers(tmp_path: Path, suffix: str) -> None:
    heard = audio.load(write(tmp_path / f"a.{suffix}", tone(1.0, 44_100), 44_100))
    assert abs(heard.duration - 1.0) < 0.06
    assert np.abs(heard.samples[4000:12000]).max() > 0.4


def test_stereo_is_mixed_and_a_dead_channel_left_out(tmp_path: Path) -> None:
    both = np.stack([tone(), 0.5 * tone()], 1)
    assert np.allclose(audio.load(write(tmp_path / "b.wav", both)).samples, 0.75 * tone(), atol=1e-3)
    left = np.stack([tone(), np.zeros_like(tone())], 1)
    heard = audio.load(write(tmp_path / "l.wav", left))
    assert np.allclose(heard.samples, tone(), atol=1e-3)
    assert heard.notes == ("channel 2 of 2 is silent and was left out",)


def test_channels_in_antiphase_do_not_vanish(tmp_path: Path) -> None:
    heard = audio.load(write(tmp_path / "a.wav", np.stack([tone(), -tone()], 1)))
    assert np.abs(heard.samples).max() > 0.4
    assert "cancel" in heard.notes[0]


@pytest.mark.parametrize("chunk_s", [0.013, 0.5, 7.0])
def test_stream_equals_the_whole(tmp_path: Path, chunk_s: float) -> None:
    path = write(tmp_path / "a.wav", np.stack([tone(2.2, 44_100), tone(2.2, 44_100, 300)], 1), 44_100)
    chunks = list(audio.stream(path, chunk_s))
    assert {len(c) for c in chunks[:-1]} <= {round(chunk_s * 16_000)}
    assert np.array_equal(np.concatenate(chunks), audio.load(path).samples)


def test_all_zeros_is_read_and_flagged(tmp_path: Path) -> None:
    heard = audio.load(write(tmp_path / "z.wav", np.zeros(8000, np.float32)))
    assert heard.silent
    assert not heard.samples.any()
    assert "silent" in heard.notes[0]


def test_one_line_for_what_cannot_be_heard(tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("this is not sound\n" * 50)
    empty = tmp_path / "empty.wav"
    empty.touch()
    no_samples = write(tmp_path / "none.wav", np.zeros(0, np.float32))
    bad = tone()
    bad[3000] = np.nan
    nan = write(tmp_path / "nan.wav", bad, subtype="FLOAT")
    for path, words in ((text, "neither sound"), (empty, "empty"), (no_samples, "no sound"), (nan, "NaN")):
        with pytest.raises(FaceTwinError, match=words) as caught:
            audio.load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    for path in (tmp_path / "absent.wav", tmp_path):
        with pytest.raises(UsageError):
            audio.load(path)
    with pytest.raises(UsageError, match="chunk"):
        next(audio.stream(nan, 0))


def test_a_cut_off_file_gives_what_there_is(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.flac", np.random.default_rng(0).normal(0, 0.1, 32_000))
    cut = tmp_path / "cut.flac"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    heard = audio.load(cut)
    assert 0.5 < heard.duration < 2.0
