"""facetwin track, train speech and score speech: what they print, and how they fail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from facetwin.cli.main import main
from facetwin.policies import video
from facetwin.twin.landmarks import canonical


@pytest.fixture
def nobody(tmp_path: Path) -> Path:
    path = tmp_path / "videos" / "nobody.mp4"
    with video.VideoWriter(path, 25, (160, 120), audio=np.full(8000, 0.01, np.float32)) as out:
        for _ in range(12):
            out.write(np.full((120, 160, 3), 90, np.uint8))
    return path


@pytest.fixture
def tracked(tmp_path: Path) -> Path:
    """A dataset of made-up clips, as track writes it."""
    folder = tmp_path / "set"
    (folder / "clips").mkdir(parents=True)
    shut = canonical().astype(np.float32).copy()
    shut[13, 1] = shut[14, 1]
    rows = []
    for k in range(6):
        on = (np.arange(50) // 7 + k) % 3 == 0
        face = np.repeat(shut[None], 50, 0)
        face[on, 14, 1] -= 0.1
        sound = np.repeat(on, 640) * 9000 * np.sin(np.arange(50 * 640) * 0.2)
        tensors = {
            "landmarks": face,
            "times": np.arange(50) / 25,
            "seen": np.ones(50, np.uint8),
            "pcm": sound.astype(np.int16),
        }
        save_file(tensors, folder / "clips" / f"c{k}.safetensors", metadata={"fps": "25.0"})
        rows.append(json.dumps({"name": f"c{k}", "kept": True, "frames": 50}))
    (folder / "manifest.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "meta.json").write_text("{}")
    return folder


def test_track_says_why_not(nobody: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["track", str(nobody), "-o", str(out)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "nobody.mp4: no face in it" in error
    assert not (out / "meta.json").exists()
    assert main(["track", str(tmp_path / "absent.mp4"), "-o", str(out)]) == 2
    assert main(["track", str(nobody.parent), "-o", str(out), "--workers", "1"]) == 1
    captured = capsys.readouterr()
    assert "dropped 1: no face in it" in captured.out
    assert json.loads((out / "meta.json").read_text())["dropped"] == {"no face in it": 1}


def test_train_and_score(tracked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "w.safetensors"
    small = ["--hidden", "8", "--layers", "2", "--epochs", "1", "--batch", "2"]
    assert main(["train", "speech", "--data", str(tracked), str(tracked), "--out", str(weights), *small]) == 0
    sidecar = json.loads(weights.with_suffix(".json").read_text())
    assert {"data", "licence", "command", "commit", "seed", "scores", "shape"} <= set(sidecar)
    capsys.readouterr()
    score = ["score", "speech", "--data", str(tracked), "--train", str(tracked), "--weights", str(weights)]
    assert main([*score, "--json", "--record"]) == 0
    table = json.loads(capsys.readouterr().out)["table"]
    assert {"model", "frozen rest", "nearest neighbour", "shuffled clip", "person"} <= set(table)
    assert table["person"]["D-P"] == {"name": "D-P", "value": 0.0, "unit": "u", "better": "low"}
    recorded = json.loads(weights.with_suffix(".json").read_text())["scores"]
    assert recorded["set, 6 clips, window 1"]["D-P"] == pytest.approx(
        table["model"]["D-P"]["value"], abs=1e-4
    )


def test_asked_wrongly(tmp_path: Path, tracked: Path) -> None:
    assert main(["train", "speech", "--data", str(tmp_path)]) == 2
    assert main(["train", "speech", "--data", str(tracked), "--lookahead", "55"]) == 2
    assert (
        main(["score", "speech", "--data", str(tracked), "--weights", str(tmp_path / "absent.safetensors")])
        == 2
    )
