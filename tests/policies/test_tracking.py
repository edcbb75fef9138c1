"""Video folders to datasets: what is kept, what is dropped and why, and going on after an interruption."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from facetwin.policies import audio, dataset, tracking, video
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import eye_distance


@pytest.fixture(scope="module")
def videos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real clip, the same without sound, two faces side by side, none at all, and no video."""
    folder = tmp_path_factory.mktemp("videos")
    source = sorted((shared_data / "grid_s1" / "val").glob("*.mp4"))[0]
    shutil.copy(source, folder / "good.mp4")
    images = [image for _, image in video.read(source)][:30]
    sound = audio.load(source).samples
    height, width = images[0].shape[:2]
    makers = {
        "mute": ((width, height), None, lambda image: image),
        "two": ((2 * width, height), sound, lambda image: np.concatenate([image, image[:, ::-1]], 1)),
        "nobody": ((width, height), sound, lambda image: np.full_like(image, 90)),
    }
    for name, (size, voice, make) in makers.items():
        with video.VideoWriter(folder / f"{name}.mp4", 25, size, audio=voice) as out:
            for image in images:
                out.write(make(image))
    (folder / "broken.mp4").write_bytes(source.read_bytes()[:2000])
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mute", "no sound"),
        ("two", "two faces"),
        ("nobody", "no face"),
        ("broken", "neither sound nor video"),
    ],
)
def test_one_line_says_what_is_wrong(videos: Path, name: str, words: str) -> None:
    with pytest.raises(FaceTwinError, match=words) as caught:
        tracking.track_clip(videos / f"{name}.mp4")
    assert f"{name}.mp4" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_and_going_on(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    meta = tracking.track_folder(videos, out, workers=1)
    assert meta["kept"] == 1
    assert sum(meta["dropped"].values()) == 4
    reasons = {row["name"]: row.get("reason", "") for row in dataset.read_manifest(out)}
    assert "two faces" in reasons["two"]
    clip = dataset.load_clips(out)[0]
    assert clip.landmarks.shape == (75, 478, 3)
    assert np.median(eye_distance(clip.landmarks)) == pytest.approx(1, abs=0.01)
    assert len(clip.samples) == 75 * 640
    assert clip.seen.all()

    with (out / "manifest.jsonl").open("a") as f:
        f.write('{"name": "tw')  # a run killed in the middle of a line
    done: list[str] = []
    again = tracking.track_folder(
        videos, out, workers=1, report=lambda n, total, row: done.append(row["name"])
    )
    assert done == []
    assert again == meta
    (out / "clips" / "good.safetensors").unlink()
    tracking.track_folder(videos, out, workers=1, report=lambda n, total, row: done.append(row["name"]))
    assert done == ["good"]
    assert not list(out.rglob("*.part"))


def test_voxceleb_layout(videos: Path, tmp_path: Path) -> None:
    clip = tmp_path / "mp4" / "id00012" / "21Uxsk56VDQ" / "00001.mp4"
    clip.parent.mkdir(parents=True)
    shutil.copy(videos / "mute.mp4", clip)
    sound = tmp_path / "aac" / "id00012" / "21Uxsk56VDQ" / "00001.m4a"
    sound.parent.mkdir(parents=True)
    shutil.copy(videos / "good.mp4", sound)
    tracked = tracking.track_clip(clip)
    assert len(tracked.clip) == 30
    assert np.abs(tracked.clip.samples).max() > 0.03


def test_nothing_to_track(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no video"):
        tracking.find_videos(tmp_path)
    with pytest.raises(UsageError, match="no such"):
        tracking.find_videos(tmp_path / "absent")
    with pytest.raises(UsageError, match="not a landmark dataset"):
        dataset.load_clips(tmp_path)


def test_clips_of_another_rate_are_resampled(tmp_path: Path) -> None:
    points = np.zeros((60, 478, 3), np.float32)
    points[:, 0, 0] = np.arange(60) / 30
    clip = dataset.Clip("a", points, np.ones(60, bool), np.zeros(32_000, np.float32))
    with dataset.DatasetWriter(tmp_path) as out:
        out.add(clip, fps=30)
    read = dataset.load_clips(tmp_path)[0]
    assert len(read) == 50
    assert np.allclose(read.landmarks[:-1, 0, 0], np.arange(49) / 25, atol=1e-5)


@pytest.mark.slow
def test_processes_give_the_same_as_one(videos: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tracking.track_folder(videos, one, workers=1)
    tracking.track_folder(videos, two, workers=2)
    a, b = dataset.load_clips(one)[0], dataset.load_clips(two)[0]
    assert np.abs(a.landmarks - b.landmarks).max() < 1e-5
