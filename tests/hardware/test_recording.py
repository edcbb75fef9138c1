import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from fakes import FakeTwin

from facetwin.hardware.names import make_rig
from facetwin.hardware.recording import Recording, RecordingWriter
from facetwin.hardware.rig import RigState
from facetwin.hardware.sim import SimRig
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import load_rig

FACE = load_rig("face26")


def state(t, measured):
    nan = np.full(26, np.nan)
    return RigState(t, nan, measured, nan, nan, nan, ("hot",) if t > 1 else ())


def picture(k, size=(32, 24)):
    image = np.full((size[1], size[0], 3), 40, np.uint8)
    image[:, : 1 + k % size[0]] = 220
    return image


def write(folder, seconds=3.0, size=(32, 24)):
    rng = np.random.default_rng(0)
    asked = rng.random((int(seconds * 50), 26))
    with RecordingWriter(folder, FACE, fps=25, seed=5, size=size, meta={"said": "hello"}) as out:
        for k, command in enumerate(asked):
            out.write(k / 50, command, command * 0.9, state(k / 50, command * 0.8))
            if k % 2 == 0:
                n = out.picture(k / 50, picture(k // 2, size), gap_mm=0.1 * k if k else None)
                if n >= 10:  # landmarks come late
                    out.landmarks(n - 10, None if n == 15 else np.full((478, 3), n - 10, np.float32))
    return asked


def test_what_is_written_is_read(tmp_path):
    asked = write(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "camera.mp4", "frames.parquet", "landmarks.parquet", "meta.json", "rows.parquet",
    ]  # fmt: skip
    got = Recording(tmp_path / "a")
    assert got.complete
    assert got.motors == FACE.names
    assert (got.meta["seed"], got.meta["fps"], got.meta["said"]) == (5, 25.0, "hello")
    assert got.meta["rig_hash"] == FACE.hash
    got.check_rig(FACE)
    with pytest.raises(UsageError, match="another rig table"):
        got.check_rig(FACE.with_({"material.young": 9e4}))
    rows = got.rows()
    np.testing.assert_allclose(rows["time"], np.arange(150) / 50)
    np.testing.assert_allclose(rows["asked"], asked, rtol=1e-6)
    np.testing.assert_allclose(rows["measured"], asked * 0.8, rtol=1e-6)
    assert rows["faults"][0] == []
    assert rows["faults"][-1] == ["hot"]
    frames = got.frames()
    assert np.isnan(frames["gap_mm"][0])
    assert frames["gap_mm"][10] == pytest.approx(2.0)
    seen = got.landmarks()
    assert seen.shape == (75, 478, 3)
    assert seen[7, 3, 1] == 7
    assert np.isnan(seen[5]).all()  # no face found
    assert np.isnan(seen[70]).all()  # never looked at
    pictures = list(got.pictures())
    assert len(pictures) == 75
    for k in (0, 17, 74):
        assert np.abs(pictures[k].astype(int) - picture(k)).mean() < 12
    with av.open(str(tmp_path / "a" / "camera.mp4")) as film:
        assert "Synthetic" in film.metadata["comment"]
        times = [float(f.time) for f in film.decode(video=0)]
    np.testing.assert_allclose(times, frames["time"], atol=1e-4)


def test_odd_pictures_and_no_pictures(tmp_path):
    write(tmp_path / "odd", seconds=0.5, size=(31, 23))
    assert len(list(Recording(tmp_path / "odd").pictures())) == 13
    with RecordingWriter(tmp_path / "none", FACE):
        pass
    empty = Recording(tmp_path / "none")
    assert empty.rows()["asked"].shape == (0, 26)
    assert list(empty.pictures()) == []
    assert empty.landmarks().shape == (0, 478, 3)


def test_an_exception_leaves_a_readable_recording_that_says_so(tmp_path):
    def run():
        with RecordingWriter(tmp_path / "a", FACE) as out:
            out.write(0.0, FACE.rest, FACE.rest)
            raise ValueError("oops")

    with pytest.raises(ValueError, match="oops"):
        run()
    got = Recording(tmp_path / "a")
    assert not got.complete
    assert got.meta["reason"] == "ValueError: oops"
    assert len(got.rows()["time"]) == 1


KILLED = """
import sys, time
sys.path.insert(0, {here!r})
import numpy as np
from test_recording import FACE, picture, state
from facetwin.hardware.recording import RecordingWriter
out = RecordingWriter({folder!r}, FACE, fps=25)
for k in range(100000):
    t = k / 50
    out.write(t, FACE.rest, FACE.rest, state(t, FACE.rest))
    if k % 2 == 0:
        n = out.picture(t, picture(k // 2))
        out.landmarks(n, np.full((478, 3), n, np.float32))
    if k % 10 == 0:
        print(t, flush=True)
    time.sleep(0.002)
"""


@pytest.mark.parametrize("after", [0.9, 3.0, 4.6])
def test_a_killed_run_loses_at_most_a_second(tmp_path, after):
    folder = tmp_path / "a"
    code = KILLED.format(here=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = 0.0
    for line in process.stdout:
        last = float(line)
        if last >= after:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    got = Recording(folder)
    assert not got.complete
    assert not (folder / "camera.mp4").exists()  # nothing unfinished under a final name
    rows = got.rows()
    assert rows["time"][-1] >= last - 1
    np.testing.assert_allclose(np.diff(rows["time"]), 0.02)
    assert got.frames()["time"][-1] >= last - 1
    assert np.isfinite(got.landmarks()[: int((last - 1) * 25)]).all()
    assert len(list(got.pictures())) / 25 >= last - 1


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What a run that was killed after four seconds leaves behind."""
    folder = tmp_path_factory.mktemp("killed") / "a"
    code = KILLED.format(here=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if float(line) >= 4.0:
            break
    process.kill()
    process.wait()
    return folder


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.97])
@pytest.mark.parametrize("which", ["rows", "frames", "landmarks"])
def test_a_piece_that_the_disk_lost_costs_only_itself(killed, tmp_path, which, share):
    shutil.copytree(killed, folder := tmp_path / "torn")
    before = Recording(folder)
    count = {"rows": len(before.rows()["time"]), "frames": len(before.frames()["time"])}
    piece = sorted((folder / "parts").glob(f"{which}-*.parquet"))[-1]
    piece.write_bytes(piece.read_bytes()[: int(piece.stat().st_size * share)])
    got = Recording(folder)
    rows, frames, landmarks = got.rows(), got.frames(), got.landmarks()
    assert got.lost == (piece.name,)
    assert len(rows["time"]) >= count["rows"] - (
        26 if which == "rows" else 0
    )  # half a second and the row that ends it
    assert len(frames["time"]) >= count["frames"] - (14 if which == "frames" else 0)
    assert len(landmarks) == len(frames["time"])
    assert before.lost == ()


def test_a_film_torn_anywhere_gives_the_pictures_before_the_tear(killed, tmp_path):
    shutil.copytree(killed, folder := tmp_path / "torn")
    film = folder / "camera.mp4.part"
    whole = film.read_bytes()
    pictures = list(Recording(folder).pictures())
    last = len(pictures)
    for size in [*range(len(whole), 0, -max(len(whole) // 23, 1)), 40, 8, 1, 0]:
        film.write_bytes(whole[:size])
        got = list(Recording(folder).pictures())
        assert len(got) <= last
        for k, image in enumerate(got[:-1]):  # the very last may be half there
            np.testing.assert_array_equal(image, pictures[k])
        assert len(got) >= (size / len(whole) * len(pictures)) - 26  # at most two fragments
        last = len(got)
    assert last == 0


def test_killed_while_it_is_finished_it_opens_all_the_same(tmp_path, monkeypatch):
    for stop in range(6):
        out = RecordingWriter(tmp_path / str(stop), FACE, fps=25)
        for k in range(60):
            out.write(k / 50, FACE.rest, FACE.rest, state(k / 50, FACE.rest))
            if k % 2 == 0:
                out.landmarks(out.picture(k / 50, picture(k // 2)), None)
        left, replace = [stop], os.replace

        def dying(a, b, left=left, replace=replace):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            replace(a, b)

        out.flush()
        monkeypatch.setattr("facetwin.hardware.recording.os.replace", dying)
        with contextlib.suppress(KeyboardInterrupt):
            out.close()
        monkeypatch.undo()
        got = Recording(tmp_path / str(stop))
        assert len(got.rows()["time"]) == 60
        assert len(got.frames()["time"]) == 30
        assert got.landmarks().shape == (30, 478, 3)
        assert len(list(got.pictures())) == 30
        assert got.complete == (stop > 4)


def test_a_killed_run_plays_back(killed):
    rig = make_rig(f"replay:{killed}")
    with rig:
        rig.activate()
        end = rig.duration
        assert end > 3.0
        for _ in range(int(end * 10) - 5):
            rig.clock.sleep(0.1)
            np.testing.assert_allclose(rig.read().measured, FACE.rest, rtol=1e-6)
            if rig.place < end - 1.0:
                assert rig.capture().image.shape == (24, 32, 3)


def test_a_slow_run_is_flushed_too(tmp_path, monkeypatch):
    out = RecordingWriter(tmp_path / "a", FACE)
    out.write(0.0, FACE.rest, FACE.rest)
    assert len(Recording(tmp_path / "a").rows()["time"]) == 0
    later = time.monotonic() + 1.5
    monkeypatch.setattr("facetwin.hardware.recording.wall.monotonic", lambda: later)
    out.write(0.01, FACE.rest, FACE.rest)
    assert len(Recording(tmp_path / "a").rows()["time"]) == 2
    out.close()
    out.close()


def test_wrong_questions(tmp_path):
    write(tmp_path / "a", seconds=0.2)
    with pytest.raises(UsageError, match="there is a recording already"):
        RecordingWriter(tmp_path / "a", FACE)
    with pytest.raises(UsageError, match=r"not a recording; found no meta\.json"):
        Recording(tmp_path)
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(UsageError, match=r"meta\.json cannot be read"):
        Recording(tmp_path)
    (tmp_path / "meta.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(UsageError, match="found 99, expected format 1"):
        Recording(tmp_path)
    with pytest.raises(UsageError, match="at most 1 s"):
        RecordingWriter(tmp_path / "b", FACE, chunk=3)
    out = RecordingWriter(tmp_path / "b", FACE)
    with pytest.raises(FaceTwinError, match="not a command"):
        out.write(0, FACE.rest[:5], FACE.rest)
    out.picture(0, picture(0))
    with pytest.raises(FaceTwinError, match="another size"):
        out.picture(0.1, picture(0, (16, 16)))
    with pytest.raises(FaceTwinError, match="not landmarks"):
        out.landmarks(0, np.zeros((468, 3)))
    out.close()
    with pytest.raises(FaceTwinError, match="closed"):
        out.write(0, FACE.rest, FACE.rest)
    (tmp_path / "b" / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(FaceTwinError, match="rows: cannot be read"):
        Recording(tmp_path / "b").rows()


def test_a_rig_is_recorded(tmp_path):
    rig = SimRig(FACE, twin=FakeTwin(FACE), size=(24, 16))
    with rig, RecordingWriter(tmp_path / "a", FACE, fps=25) as out:
        rig.activate()
        for _ in range(10):
            sent = rig.write(FACE.rest)
            rig.clock.sleep(0.04)
            frame = rig.capture()
            out.write(rig.clock.now(), FACE.rest, sent, rig.read())
            out.picture(frame.time, frame.image, gap_mm=frame.truth["gap_mm"])
    got = Recording(tmp_path / "a")
    assert got.rows()["measured"].shape == (10, 26)
    assert got.frames()["time"].shape == (10,)
