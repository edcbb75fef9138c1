"""facetwin speak: what it refuses, and what a short run leaves behind."""

from __future__ import annotations

import contextlib
import json
import pickle
import re

import numpy as np
import pytest
import soundfile

from facetwin import assets
from facetwin.cli.main import main
from facetwin.cli.speak import Speak, Workshop, _said, _sidecar
from facetwin.cli.spoken import cut_by_reach
from facetwin.cli.take import Take
from facetwin.policies.speech import SpeechModel
from facetwin.policies.video import VideoWriter
from facetwin.policies.weights import save_weights

RATE = 16_000


def tone(seconds=1.0, rate=RATE):
    return 0.3 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * rate)) / rate)


def refused(capsys, args):
    """Exit code and the one line on stderr of a command that fails."""
    code = main(["speak", *map(str, args)])
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "unexpected" not in err
    return code, err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ([], 2, "nothing to say"),
        (["nothing.wav"], 2, "nothing.wav"),
        (["--text", "   "], 2, "nothing to say"),
        (["--text", "hello", "--language", "klingonese"], 2, "klingonese"),
        (["a.wav", "--text", "hello"], 2, "not both"),
        (["a.wav", "--size", "3"], 2, "--size"),
        (["a.wav", "--lookahead", "30"], 2, "--lookahead"),
        (["a.wav", "--seed", "-1"], 2, "--seed"),
        (["a.wav", "--sise", "64"], 2, "--size"),
    ],
)
def test_asked_wrongly(capsys, tmp_path, args, code, says):
    found, line = refused(capsys, [*args, "--out", tmp_path / "out"])
    assert (found, says in line) == (code, True), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["text", "empty", "zeros", "nan", "folder"])
def test_bad_sound(capsys, tmp_path, kind):
    path = tmp_path / f"{kind}.wav"
    if kind == "text":
        path.write_text("this is not sound")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    else:
        wave = np.zeros(RATE) if kind == "zeros" else tone()
        wave[100] = np.nan if kind == "nan" else 0
        soundfile.write(path, wave, RATE, subtype="FLOAT")
    code, line = refused(capsys, [path, "--out", tmp_path / "out"])
    assert code in (1, 2)
    assert path.name in line
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", ["8 kHz", "one silent channel", "quiet allowed"])
def test_odd_sound_is_spoken(tmp_path, kind):
    rate = 8000 if kind == "8 kHz" else RATE
    wave = tone(rate=rate) if kind != "quiet allowed" else np.zeros(RATE)
    if kind == "one silent channel":
        wave = np.stack([wave, 0 * wave], 1)
    soundfile.write(tmp_path / "a.wav", wave, rate)
    said = _said(Speak(tmp_path / "a.wav", allow_silence=kind == "quiet allowed"), tmp_path)
    assert said.info.duration == pytest.approx(1.0, abs=0.01)
    assert len(said.info.notes) == 1


def test_a_file_in_the_way(capsys, tmp_path):
    (tmp_path / "out").write_text("mine")
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    assert refused(capsys, [tmp_path / "a.wav", "--out", tmp_path / "out"])[0] == 2
    assert (tmp_path / "out").read_text() == "mine"


def test_the_workshop_delivers_or_leaves_nothing(tmp_path):
    out = tmp_path / "out"
    with Workshop(out) as shop:
        (shop.folder / "said.json").write_text("1")
        (shop.folder / "recording").mkdir()
        shop.deliver()
    (out / "mine.txt").write_text("keep")
    with contextlib.suppress(ZeroDivisionError), Workshop(out) as shop:
        (shop.folder / "said.json").write_text("2")
        raise ZeroDivisionError
    assert (out / "said.json").read_text() == "1"
    with Workshop(out) as shop:
        (shop.folder / "face.mp4").write_text("3")
        shop.deliver()
    assert sorted(p.name for p in out.iterdir()) == ["face.mp4", "mine.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_sample_knows_its_phonemes(tmp_path):
    said = _said(Speak(assets.path("speech", "sample.wav")), tmp_path)
    assert len(said.onsets.bilabial) >= 5
    assert any(event.closes for event in said.events)
    (tmp_path / "x.json").write_text('{"phonemes": 3}')
    assert _sidecar(tmp_path / "x.wav") == ("", "", ())


def test_what_reach_cuts_is_told_by_part():
    take = Take()
    for piece in (np.array([0.01, 0.03]), np.array([-0.02, 9.0])):  # the last picture is beyond the sound
        take.lost.append({"lips": np.abs(piece).astype(np.float32), "width": piece.astype(np.float32)})
    cut = cut_by_reach(take, 3)
    assert cut["lips"]["mean"] == cut["width"]["mean"] == pytest.approx(0.02)
    assert 0.02 < cut["width"]["p95"] <= 0.03
    assert cut_by_reach(Take(), 3) == {}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A second of the sample, spoken by the simulated face."""
    folder = tmp_path_factory.mktemp("speak")
    wave, rate = soundfile.read(assets.path("speech", "sample.wav"), frames=int(1.0 * RATE))
    soundfile.write(folder / "one.wav", wave, rate)
    code = main(["speak", str(folder / "one.wav"), "--out", str(folder / "out"), "--size", "160"])
    assert code == 0
    return folder / "out"


@pytest.mark.sim
def test_a_run_leaves_what_it_says(spoken):
    assert sorted(p.name for p in spoken.parent.iterdir()) == ["one.wav", "out"]
    assert sorted(p.name for p in spoken.iterdir()) == ["face.mp4", "recording", "report.html", "said.json"]
    said = json.loads((spoken / "said.json").read_text())
    assert said["synthetic"] is True
    assert said["scores"]["seen in the mirror"]["D-P"] is not None
    assert said["beside the mouth"] == "blinks, gaze, head, brows"
    assert 0 < said["cut_by_reach_u"]["lips"]["mean"] < 0.05


@pytest.mark.sim
def test_the_video_is_marked_and_as_long_as_its_sound(spoken):
    import av

    with av.open(str(spoken / "face.mp4")) as film:
        assert "ynthetic" in film.metadata["comment"]
        picture, sound = film.streams.video[0], film.streams.audio[0]
        assert float(picture.duration * picture.time_base) == pytest.approx(1.0, abs=0.021)
        assert float(sound.duration * sound.time_base) == pytest.approx(1.0, abs=0.05)


@pytest.mark.sim
def test_the_report_stands_alone(spoken):
    text = (spoken / "report.html").read_text()
    assert not re.search(r"(src|href)=['\"]?(http|//)|url\(|@import", text)
    assert "seen in the mirror" in text
    assert "reach cuts" in text
    assert "frozen face" in text


@pytest.mark.parametrize("kind", ["no face", "no sound", "no picture", "missing"])
def test_bad_reference(capsys, tmp_path, kind):
    path = tmp_path / "person.mp4"
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    if kind == "no picture":
        path.write_bytes((tmp_path / "a.wav").read_bytes())
    elif kind != "missing":
        rng = np.random.default_rng(0)
        with VideoWriter(path, 25, (64, 64), audio=None if kind == "no sound" else tone()) as out:
            for _ in range(12):
                out.write(rng.integers(0, 60, (64, 64, 3), np.uint8))
    code = main(["speak", str(tmp_path / "a.wav"), "--reference", str(path), "--out", str(tmp_path / "out")])
    lines = capsys.readouterr().err.splitlines()
    assert code in (1, 2)
    assert "person.mp4" in lines[-1]
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("kind", ["truncated", "pickle", "missing", "another model"])
def test_bad_weights(capsys, tmp_path, kind):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    path = tmp_path / "w.safetensors"
    if kind == "truncated":
        path.write_bytes(SpeechModel.shipped(80).read_bytes()[:1000])
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"a": 1}))
    elif kind == "another model":
        row = {"data": "", "licence": "", "command": "", "commit": "", "seed": 0, "scores": {}}
        save_weights(path, {"a": np.zeros(3)}, row)
    code, line = refused(capsys, [tmp_path / "a.wav", "--weights", path, "--out", tmp_path / "out"])
    assert code in (1, 2)
    assert "w.safetensors" in line
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("kind", ["missing motor", "swapped limits", "unknown key", "not toml"])
def test_bad_rig_file(capsys, tmp_path, kind):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    text = assets.path("rigs", "face26.toml").read_text()
    broken = {
        "missing motor": text.replace("[[motor]]", "[[moto]]", 1),
        "swapped limits": text.replace("lower = -0.35\nupper = 0.35", "lower = 0.35\nupper = -0.35", 1),
        "unknown key": text.replace("exposure =", "exposur =", 1),
        "not toml": "motors: [",
    }[kind]
    assert broken != text
    path = tmp_path / "mine.toml"
    path.write_text(broken)
    code, line = refused(capsys, [tmp_path / "a.wav", "--rig", path, "--out", tmp_path / "out"])
    assert code in (1, 2)
    assert "mine.toml" in line
    assert not list(tmp_path.glob("out*"))
