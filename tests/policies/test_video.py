"""Video out and in again: pictures and sound in step, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from facetwin.policies import audio, video
from facetwin.twin.errors import FaceTwinError, UsageError


def picture(value: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize("fps", [25, 30_000 / 1001])
@pytest.mark.parametrize("from_file", [False, True])
def test_flash_and_click_stay_together(tmp_path: Path, fps: float, from_file: bool) -> None:
    flashes = [10, 40, 71]
    rate = 44_100
    sound = np.zeros(round(80 / fps * rate), np.float32)
    for k in flashes:
        at = round(k / fps * rate)
        sound[at : at + 220] = 0.9 * np.sin(np.arange(220) * 0.4)
    source: object = sound
    if from_file:
        source = tmp_path / "click.wav"
        soundfile.write(source, sound, rate)
    path = tmp_path / "clap.mp4"
    with video.VideoWriter(path, fps, (64, 48), audio=source, audio_rate=rate, title="clap") as out:
        for k in range(80):
            out.write(picture(255 if k in flashes else 0))
    seen = [when for when, image in video.read(path) if image.mean() > 128]
    heard = audio.load(path).samples
    loud = np.flatnonzero(np.abs(heard) > 0.3) / audio.RATE
    clicks = loud[np.flatnonzero(np.diff(loud, prepend=-1) > 0.1)]
    assert np.allclose(seen, np.array(flashes) / fps, atol=1e-3)
    assert np.abs(np.array(seen) - clicks).max() < 0.02


def test_facts_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with video.VideoWriter(path, 25, (65, 49), title="a face") as out:
        for _ in range(5):
            out.write(picture(100, 49, 65))
    facts = video.probe(path)
    assert (facts.width, facts.height, facts.frames, facts.sound) == (64, 48, 5, False)
    assert facts.fps == 25
    with av.open(str(path)) as container:
        assert container.metadata["title"] == "a face"
        assert "Synthetic" in container.metadata["comment"]
    images = [image for _, image in video.read(path)]
    assert len(images) == 5
    assert abs(images[0].mean() - 100) < 4
    assert not list(tmp_path.glob("*.part"))


def test_nothing_is_left_of_a_broken_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(FaceTwinError, match="not a picture"), video.VideoWriter(path, 25, (64, 48)) as out:
        out.write(picture(0).astype(float))
    with pytest.raises(FaceTwinError, match="without a picture"), video.VideoWriter(path, 25, (64, 48)):
        pass
    with pytest.raises(FaceTwinError, match="another size"), video.VideoWriter(path, 25, (64, 48)) as out:
        out.write(picture(0, 20, 20))
    assert not list(tmp_path.iterdir())


def test_what_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mp4"):
        video.VideoWriter(tmp_path / "a.avi", 25, (64, 48))
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.zeros(1000), 16_000)
    with pytest.raises(FaceTwinError, match="no picture"):
        next(video.read(sound))


def test_sound_shorter_than_the_picture_is_padded(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with video.VideoWriter(path, 25, (64, 48), audio=np.full(1600, 0.1, np.float32)) as out:
        for _ in range(25):
            out.write(picture(0))
    assert abs(audio.load(path).duration - 1.0) < 0.05
