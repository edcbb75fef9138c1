"""facetwin train apc and family, score talkers and voice: what they print, and how they fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetwin.cli.main import main
from facetwin.policies import a2l_train, nonspeech
from facetwin.policies.dataset import Clip, DatasetWriter
from facetwin.policies.espeak import Phoneme
from facetwin.twin.landmarks import canonical


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two talkers with phonemes."""
    folder = tmp_path_factory.mktemp("talkers") / "set"
    shut = canonical().astype(np.float32).copy()
    shut[13, 1] = shut[14, 1]
    with DatasetWriter(folder) as out:
        for k in range(6):
            on = (np.arange(50) // 7 + k) % 3 == 0
            face = np.repeat(shut[None], 50, 0)
            face[on, 14, 1] -= 0.1
            sound = 0.3 * np.repeat(on, 640) * np.sin(np.arange(50 * 640) * 0.2)
            ends = np.flatnonzero(np.diff(on.astype(int)))
            said = [Phoneme("b" if on[e] else "t", float(e) / 25, float(e + 3) / 25) for e in ends[ends < 46]]
            out.add(
                Clip(
                    f"c{k}", face, np.ones(50, bool), sound.astype(np.float32), f"t{k % 2}",
                    ("xx", "yy")[k % 2], tuple(said),
                )
            )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def weights(spoken: Path) -> Path:
    path = spoken.parent / "w.safetensors"
    small = [
        "--hidden",
        "8",
        "--layers",
        "2",
        "--epochs",
        "1",
        "--batch",
        "2",
        "--augment",
        "0",
        "--silence",
        "0",
    ]
    assert main(["train", "speech", "--data", str(spoken), "--out", str(path), *small]) == 0
    return path


def test_score_talkers(spoken: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score = ["score", "talkers", "--data", str(spoken), "--weights", str(weights)]
    assert main([*score, "--train", str(spoken), "--json", "--record"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["talkers"] == 2
    assert set(facts["languages"]) == {"xx", "yy"}
    assert {"model", "ridge", "nearest neighbour", "person"} <= set(facts["table"])
    assert facts["table"]["person"]["opening correlation"]["value"] == pytest.approx(1)
    assert "visemes" in facts
    recorded = json.loads(weights.with_suffix(".json").read_text())["scores"]
    assert set(recorded["set, 6 clips, window 1"]["languages"]) == {"xx", "yy"}
    assert main(score) == 0
    assert "by language" in capsys.readouterr().out


def test_score_voice(
    weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import soundfile

    monkeypatch.setattr(nonspeech, "TRAINING", {"hum": nonspeech.hum})
    monkeypatch.setattr(nonspeech, "UNHEARD", {"rain": nonspeech.rain})
    soundfile.write(tmp_path / "said.wav", nonspeech.sound("hum", 0, 1.0), 16_000)
    score = ["score", "voice", "--weights", str(weights), "--seconds", "1"]
    assert main([*score, "--recordings", str(tmp_path / "said.wav"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["without speech"]) == {"silence", "hum", "rain (unheard)"}
    assert facts["streamed - whole, u"] < 1e-5
    assert facts["step, ms"]["median"] > 0
    assert main([*score, "--seconds", "0.1"]) == 2


def test_train_apc_then_family(
    spoken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nonspeech, "TRAINING", {"hum": nonspeech.hum})
    apc = tmp_path / "apc.safetensors"
    train = ["train", "apc", "--data", str(spoken), "--out", str(apc), "--layers", "1", "--width", "8"]
    assert main([*train, "--minutes", "0.01", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["curve"][-1]["done"] == 1
    assert apc.with_suffix(".curve.png").stat().st_size > 1000
    assert json.loads(apc.with_suffix(".curve.json").read_text()) == facts["curve"]
    assert main([*train, "--minutes", "0"]) == 2

    few = [v for v in a2l_train.VARIANTS if v.name in ("LSTM", "GRU")]
    small = [
        replace(
            v, shape=replace(v.shape, hidden=8, layers=1), training=replace(v.training, length=60, batch=2)
        )
        for v in few
    ]
    monkeypatch.setattr(a2l_train, "VARIANTS", tuple(small))
    out = tmp_path / "family"
    family = ["train", "family", "--data", str(spoken), "--score", str(spoken), "--apc", str(apc)]
    family += ["--out", str(out), "--seconds", "0.3", "--json"]
    assert main(family) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"LSTM", "LSTM, opening gain", "GRU", "ridge", "person"} <= {row["name"] for row in rows}
    assert "| GRU |" in (out / "table.md").read_text()
    made = (out / "lstm.json").stat().st_mtime_ns
    assert main(family) == 0  # what is done is not done again
    assert json.loads(capsys.readouterr().out) == rows
    assert (out / "lstm.json").stat().st_mtime_ns == made
    assert main([*family, "--only", "nothing"]) == 2


def test_asked_wrongly(spoken: Path, tmp_path: Path) -> None:
    assert main(["train", "apc", "--data", str(tmp_path)]) == 2
    train = ["train", "speech", "--data", str(spoken), "--out", str(tmp_path / "w.safetensors")]
    assert main([*train, "--share", "1", "2"]) == 2
    assert main([*train, "--net", "rnn"]) == 2
    assert main([*train, "--augment", "2"]) == 2
    assert main([*train, "--start", str(tmp_path / "absent.safetensors")]) == 2
    assert main(["score", "talkers", "--data", str(spoken), "--window", "-1"]) == 2
