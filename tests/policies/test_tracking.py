"""Video folders to datasets: what is kept, what is dropped and why, and going on after an interruption."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetwin.policies import audio, dataset, tracking, tracking_folder, video
from facetwin.policies.cleaning import Limits, Smoothing
from facetwin.policies.tracking import Options
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import eye_distance, opening

#: sound and lips have tests of their own (test_av_offset)
PLAIN = Options(sync="off")


@pytest.fixture(scope="module")
def videos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real clip, the same without sound, two faces side by side, none at all, cut short, and no video."""
    folder = tmp_path_factory.mktemp("videos")
    source = sorted((shared_data / "grid_s1" / "val").glob("*.mp4"))[0]
    images = [image for _, image in video.read(source)][:30]
    sound = audio.load(source).samples
    height, width = images[0].shape[:2]
    makers: dict[str, tuple] = {
        "good": ((width, height), sound, lambda k, image: image),
        "mute": ((width, height), None, lambda k, image: image),
        "two": ((2 * width, height), sound, lambda k, image: np.concatenate([image, image[:, ::-1]], 1)),
        "nobody": ((width, height), sound, lambda k, image: np.full_like(image, 90)),
        "leaves": ((width, height), sound, lambda k, image: image if k < 20 else np.full_like(image, 90)),
    }
    for name, (size, voice, make) in makers.items():
        with video.VideoWriter(folder / f"{name}.mp4", 25, size, audio=voice) as out:
            for k, image in enumerate(images):
                out.write(make(k, image))
    whole = (folder / "good.mp4").read_bytes()  # its header comes first
    (folder / "cut.mp4").write_bytes(whole[: int(len(whole) * 0.6)])
    (folder / "broken.mp4").write_bytes(source.read_bytes()[:2000])
    (folder / "letter.mp4").write_text("dear video")
    return folder


WRONG = [
    ("mute", "no sound"),
    ("two", "two faces"),
    ("nobody", "no face"),
    ("leaves", "pictures without a face; found 33"),
    ("cut", "cut short"),
    ("broken", "neither sound nor video"),
    ("letter", "neither sound nor video"),
]


@pytest.mark.parametrize(
    ("name", "words"), [each for each in WRONG if each[0] in ("leaves", "cut", "letter")]
)
def test_one_line_says_what_is_wrong(videos: Path, name: str, words: str) -> None:
    with pytest.raises(FaceTwinError, match=words) as caught:
        tracking.track_clip(videos / f"{name}.mp4", PLAIN)
    assert f"{name}.mp4" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_its_reasons_and_going_on(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    meta = tracking_folder.track_folder(videos, out, PLAIN, workers=1)
    assert meta["kept"] == 1
    assert sum(meta["dropped"].values()) == len(WRONG)
    rows = {row["name"]: row for row in dataset.read_manifest(out)}
    for name, words in WRONG:
        assert not rows[name]["kept"]
        assert words in rows[name]["reason"]
    assert rows["good"]["centerness_deg"] < 15
    assert rows["good"]["shakiness_deg"] < 1
    assert rows["leaves"]["missing"] == pytest.approx(1 / 3, abs=0.04)
    clip = dataset.load_clips(out)[0]
    assert clip.landmarks.shape == (30, 478, 3)
    assert clip.talker == videos.name
    assert np.median(eye_distance(clip.landmarks)) == pytest.approx(1, abs=0.01)
    assert clip.head is not None
    assert len(clip.head) == 30
    assert len(clip.samples) == 30 * 640
    assert clip.seen.all()

    with (out / "manifest.jsonl").open("a") as f:
        f.write('{"name": "tw')  # a run killed in the middle of a line
    done: list[str] = []

    def again(options: Options = PLAIN, **more: bool) -> dict:
        done.clear()
        return tracking_folder.track_folder(
            videos, out, options, workers=1, report=lambda n, total, row: done.append(row["name"]), **more
        )

    assert again() == meta
    assert done == []
    (out / "clips" / "good.safetensors").unlink()
    again()
    assert done == ["good"]
    # other limits need no tracking where enough is known, and can be taken back
    stricter = again(replace(PLAIN, limits=Limits(centerness=1)))
    assert done == []
    assert stricter["kept"] == 0
    assert again()["kept"] == 1
    assert done == []
    # a clip that other limits keep is tracked, one that was made otherwise is tracked again
    assert again(replace(PLAIN, limits=Limits(missing=0.5)))["kept"] == 2
    assert done == ["leaves"]
    again(replace(PLAIN, smooth=Smoothing("mean", 5)))
    assert "good" in done
    assert np.ptp(opening(dataset.load_clips(out)[0].landmarks)) < np.ptp(opening(clip.landmarks))
    assert not list(out.rglob("*.part"))


def test_voxceleb_layout(videos: Path, tmp_path: Path) -> None:
    """Sound comes from the m4a, in step with the pictures, and the folder names the talker."""
    import av

    clip = tmp_path / "mp4" / "id00012" / "21Uxsk56VDQ" / "00001.mp4"
    clip.parent.mkdir(parents=True)
    shutil.copy(videos / "mute.mp4", clip)
    sound = tmp_path / "aac" / "id00012" / "21Uxsk56VDQ" / "00001.m4a"
    sound.parent.mkdir(parents=True)
    with av.open(str(videos / "good.mp4")) as source, av.open(str(sound), "w", format="ipod") as out:
        track = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = track
                out.mux(packet)
    out_folder = tmp_path / "set"
    meta = tracking_folder.track_folder(tmp_path, out_folder, PLAIN, workers=1)
    assert meta["talkers"] == ["id00012"]
    (read,) = dataset.load_clips(out_folder)
    assert read.name == "mp4__id00012__21Uxsk56VDQ__00001"
    truth = audio.load(videos / "good.mp4").samples[: len(read.samples)]
    tie = np.correlate(truth, read.samples[800:-800], "valid")
    assert abs(int(np.argmax(tie)) - 800) <= 32  # 2 ms


def test_sound_of_the_same_name_beside_it(videos: Path, tmp_path: Path) -> None:
    import soundfile

    shutil.copy(videos / "mute.mp4", tmp_path / "a.mp4")
    assert tracking.sound_file(tmp_path / "a.mp4") == tmp_path / "a.mp4"
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    assert tracking.sound_file(tmp_path / "a.mp4") == tmp_path / "a.wav"


def test_the_highest_bitrates_are_taken(videos: Path, tmp_path: Path) -> None:
    for name in ("letter", "good"):
        shutil.copy(videos / f"{name}.mp4", tmp_path / f"{name}.mp4")
    shutil.copy(videos / "nobody.mp4", tmp_path / "grey.mp4")  # next to nothing to store
    out = tmp_path / "set"
    meta = tracking_folder.track_folder(tmp_path, out, replace(PLAIN, limits=Limits(top=2)), workers=1)
    rows = {row["name"]: row for row in dataset.read_manifest(out)}
    assert "not among the 2 highest bitrates" in rows["grey"]["reason"]
    assert rows["good"]["kept"]
    assert meta["kept"] == 1
    assert rows["grey"]["bitrate_kbps"] < rows["good"]["bitrate_kbps"]


def test_nothing_to_track(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no video"):
        tracking_folder.find_videos(tmp_path)
    with pytest.raises(UsageError, match="no such"):
        tracking_folder.find_videos(tmp_path / "absent")
    with pytest.raises(UsageError, match="not a landmark dataset"):
        dataset.load_clips(tmp_path)
    with pytest.raises(UsageError, match="no such way"):
        Options(sync="guess")


def test_names_of_twins_differ(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / name for name in ("x.avi", "x.mp4", "y.mp4")]
    names = tracking_folder._names(paths, tmp_path)
    assert names == ["a__x", "a__x.mp4", "a__y"]


@pytest.mark.slow
def test_processes_give_the_same_as_one(videos: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tracking_folder.track_folder(videos, one, PLAIN, workers=1)
    tracking_folder.track_folder(videos, two, PLAIN, workers=2)
    a, b = dataset.load_clips(one)[0], dataset.load_clips(two)[0]
    assert np.abs(a.landmarks - b.landmarks).max() < 1e-5


def test_a_process_that_dies_takes_one_video_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Jobs lost with a dead process are done one at a time; the one that kills again is dropped."""
    jobs = [tracking_folder.Job(f"{k}.mp4", str(k), str(tmp_path), "0", "", PLAIN) for k in range(3)]
    killers = {"1"}

    def pool(todo: list, workers: int, lost: list) -> list[dict]:
        if any(job.name in killers for job in todo):
            lost += todo
            return []
        return [{**job.row, "kept": True} for job in todo]

    monkeypatch.setattr(tracking_folder, "_pool", pool)
    rows = {row["name"]: row for row in tracking_folder._work(jobs, 2)}
    assert [rows[str(k)]["kept"] for k in range(3)] == [True, False, True]
    assert "died" in rows["1"]["reason"]


@pytest.mark.slow
def test_a_killed_run_goes_on(videos: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle: what is there opens, the rest is done by the next run, nothing twice."""
    source, out = tmp_path / "v", tmp_path / "set"
    source.mkdir()
    for k in range(8):
        shutil.copy(videos / "good.mp4", source / f"c{k}.mp4")
    command = [sys.executable, "-c", "from facetwin.cli.main import main; main()", "track", str(source)]
    command += ["-o", str(out), "--sync", "off", "--workers", "1", "--json"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(dataset.read_manifest(out)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = {row["name"] for row in dataset.read_manifest(out)}
    assert 2 <= len(done) < 8
    for name in done:
        dataset.read_clip(dataset.clip_path(out, name))
    second = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(second.stdout)["kept"] == 8
    names = [json.loads(line)["name"] for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert sorted(names) == sorted(set(names))
    assert len(names) == 8
