"""A recording played back shows what was recorded when it was recorded."""

import numpy as np
import pytest
from fakes import FakeTwin

from facetwin.hardware.check import RULES, check_rig
from facetwin.hardware.names import make_rig, open_rig
from facetwin.hardware.recording import Recording, RecordingWriter
from facetwin.hardware.replay import ReplayRig
from facetwin.hardware.rig import RigState
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import load_rig

FACE = load_rig("face26")
SECONDS, RATE, FPS = 4.0, 50, 25


def picture(k):
    image = np.full((23, 31, 3), 30, np.uint8)  # odd sides
    image[:, : 1 + k % 31] = 220
    return image


def asked(k):
    return np.full(26, 0.3) + 0.001 * k


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("replay") / "take"
    with RecordingWriter(path, FACE, fps=FPS) as out:
        nan = np.full(26, np.nan)
        for k in range(int(SECONDS * RATE)):
            t = 100 + k / RATE  # on the clock of then
            faults = ("jaw: hot",) if k == 60 else ()
            out.write(t, asked(k), asked(k) * 0.9, RigState(t, nan, asked(k) * 0.8, nan, nan, nan, faults))
            if k % (RATE // FPS) == 0:
                out.picture(t + 0.001, picture(k // 2))
    return path


def whole(image, k):
    return np.abs(image.astype(int) - picture(k)).mean() < 12


def test_it_says_and_shows_what_was_recorded_then(folder):
    rig = make_rig(f"replay:{folder}")
    assert rig.spec == FACE
    assert rig.capabilities.camera == (23, 31, 3)
    assert rig.capabilities.harmless
    with rig:
        np.testing.assert_allclose(rig.read().measured, asked(0) * 0.8, rtol=1e-6)
        rig.clock.sleep(1.0)
        np.testing.assert_allclose(rig.read().measured, asked(0) * 0.8, rtol=1e-6)  # not playing yet
        rig.activate()
        start = rig.clock.now()
        for k in range(1, int(SECONDS * RATE) - 1):
            rig.clock.sleep_until(start + (k + 0.4) / RATE)
            state = rig.read()
            np.testing.assert_allclose(state.measured, asked(k) * 0.8, rtol=1e-6)
            np.testing.assert_allclose(state.commanded, asked(k) * 0.9, rtol=1e-6)
            assert state.faults == (("jaw: hot",) if k == 60 else ())
            if k % 10 == 3:
                frame = rig.capture()
                assert whole(frame.image, k // 2)
                assert frame.time == pytest.approx(start + (k // 2) / FPS + 0.001, abs=1e-6)


def test_commands_are_taken_and_compared_but_not_followed(folder):
    with make_rig(f"replay:{folder}") as rig:
        rig.activate()
        rig.clock.sleep(1.01)
        sent = rig.write(np.full(26, 0.7))
        np.testing.assert_allclose(sent, asked(50) * 0.9, rtol=1e-6)
        np.testing.assert_allclose(rig.difference, 0.7 - asked(50) * 0.9, rtol=1e-5)
        np.testing.assert_array_equal(rig.read().commanded, sent)


def test_it_stands_while_held_and_rewinds(folder):
    with make_rig(f"replay:{folder}") as rig:
        rig.activate()
        rig.clock.sleep(1.01)
        rig.hold()
        rig.clock.sleep(10)
        np.testing.assert_allclose(rig.read().measured, asked(50) * 0.8, rtol=1e-6)
        rig.write(FACE.rest)  # goes on
        rig.clock.sleep(1)
        np.testing.assert_allclose(rig.read().measured, asked(100) * 0.8, rtol=1e-6)
        assert whole(rig.capture().image, 50)
        rig.home()
        assert whole(rig.capture().image, 0)
        rig.clock.sleep(0.1)
        np.testing.assert_allclose(rig.read().measured, asked(5) * 0.8, rtol=1e-6)
        rig.release()
        rig.clock.sleep(5)
        assert rig.place == pytest.approx(0.1)


def test_the_end_is_told_or_it_starts_over(folder):
    with make_rig(f"replay:{folder}") as rig:
        rig.activate()
        rig.clock.sleep(SECONDS - 0.01)
        rig.read()
        rig.clock.sleep(0.02)
        for call in (rig.read, rig.capture, lambda: rig.write(FACE.rest)):
            with pytest.raises(FaceTwinError, match=r"has ended.*loop=true"):
                call()
            rig.status.state = "active"
    with make_rig(f"replay:{folder}?loop=true") as rig:
        rig.activate()
        rig.clock.sleep(2 * SECONDS + 0.101)
        np.testing.assert_allclose(rig.read().measured, asked(5) * 0.8, rtol=1e-6)
        assert whole(rig.capture().image, 2)


def test_speed_and_real_time(folder):
    with make_rig(f"replay:{folder}?speed=4") as rig:
        rig.activate()
        rig.clock.sleep(0.2525)
        np.testing.assert_allclose(rig.read().measured, asked(50) * 0.8, rtol=1e-6)
    with make_rig(f"replay:{folder}?time=real&speed=8") as rig:
        assert not rig.capabilities.simulated
        assert rig.capabilities.harmless
        rig.activate()
        start = rig.clock.now()
        rig.clock.sleep(0.2)
        row = round((rig.read().commanded[0] / 0.9 - 0.3) / 0.001)
        late = rig.clock.now() - start
        assert 0.2 * 8 * RATE - 1 <= row <= late * 8 * RATE + 1


def test_only_one_picture_is_held(folder, monkeypatch):
    made = []
    whole_film = Recording.pictures

    def counting(self):
        for image in whole_film(self):
            made.append(image)
            yield image

    monkeypatch.setattr(Recording, "pictures", counting)
    with make_rig(f"replay:{folder}") as rig:
        rig.activate()
        rig.clock.sleep(1.0)
        rig.capture()
        assert len(made) == 25
        rig.capture()
        assert len(made) == 25


@pytest.mark.parametrize("safe", [False, True])
def test_it_keeps_the_contract_as_far_as_it_applies(folder, safe):
    rig = ReplayRig(folder, loop=True)
    report = check_rig(SafetyLayer(rig) if safe else rig)
    assert set(report.passed) | set(report.skipped) == set(RULES)
    assert set(report.skipped.values()) == {"it does not go where it is told"}


def test_whoever_only_watches_is_not_stopped(folder):
    with open_rig(f"replay:{folder}") as rig:
        rig.activate()
        rig.clock.sleep(SECONDS - 0.1)
        rig.read()
        assert rig.status.state == "active"
        assert rig.fault == ""


def test_a_rig_is_recorded_and_played_back(tmp_path):
    rig = SimRig(FACE, twin=FakeTwin(FACE), size=(24, 16))
    rng, then = np.random.default_rng(0), []
    with rig, RecordingWriter(tmp_path / "a", FACE, fps=25) as out:
        rig.activate()
        for _ in range(20):
            sent = rig.write(rng.random(26))
            state = rig.read()
            out.write(rig.clock.now(), sent, sent, state)
            frame = rig.capture()
            out.picture(max(frame.time, 0), frame.image)
            then.append((sent, state.measured))
            rig.clock.sleep(0.04)
    with open_rig(f"replay:{tmp_path / 'a'}") as back:
        back.activate()
        for sent, measured in then:
            got = back.write(FACE.rest)
            np.testing.assert_allclose(got, sent, rtol=1e-6)
            np.testing.assert_allclose(back.read().measured, measured, rtol=1e-6)
            back.clock.sleep(0.04)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("replay:gone", "not a recording"),
        ("replay:{}?speed=0", "bad speed"),
        ("replay:{}?speed=nan", "bad speed"),
        ("replay:{}?time=fake", "no such time"),
        ("replay:{}?lop=true", "did you mean loop?"),
        ("replay:", "folder"),
    ],
)
def test_wrong_questions(folder, name, words):
    with pytest.raises(UsageError) as error:
        make_rig(name.format(folder))
    assert words in str(error.value)


def test_no_commands_and_no_pictures(tmp_path):
    with RecordingWriter(tmp_path / "empty", FACE):
        pass
    with pytest.raises(UsageError, match="an empty recording"):
        make_rig(f"replay:{tmp_path / 'empty'}")
    with RecordingWriter(tmp_path / "blind", FACE) as out:
        out.write(0.0, FACE.rest, FACE.rest)
    with make_rig(f"replay:{tmp_path / 'blind'}") as rig:
        assert rig.capabilities.camera is None
        with pytest.raises(FaceTwinError, match="no camera"):
            rig.capture()
