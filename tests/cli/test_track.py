"""facetwin track: the picture of the scores, and options that are asked wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facetwin.cli import track_plot
from facetwin.cli.main import main
from facetwin.policies.cleaning import Limits


def rows(count: int) -> list[dict]:
    random = np.random.default_rng(0)
    made = [
        {
            "name": str(k), "kept": bool(k % 3), "bitrate_kbps": 100 + k, "missing": 0.0, "jump_u": 0.02,
            "centerness_deg": float(random.uniform(0, 40)), "shakiness_deg": 0.4, "eye_distance_px": 60.0,
        }
        for k in range(count)
    ]  # fmt: skip
    made[0] |= {"sound_late_ms": -120.0, "sync_confidence": 0.4}
    return [*made, {"name": "letter", "kept": False, "reason": "neither sound nor video"}]


def test_the_picture_of_the_scores(tmp_path: Path) -> None:
    assert track_plot.draw(rows(30), Limits(), tmp_path / "scores.png")
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert not track_plot.draw([{"name": "a", "kept": False}], Limits(), tmp_path / "none.png")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.png"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--smooth", "mean:4"], "no such smoothing"),
        (["--sync", "guess"], "sync"),
        (["--missing", "2"], "missing"),
        (["--workers", "-1"], "no such number"),
    ],
)
def test_asked_wrongly(
    asked: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", str(tmp_path), "-o", str(tmp_path / "set"), *asked]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_train_sync_needs_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "sync", str(tmp_path)]) == 2
    assert "not a landmark dataset" in capsys.readouterr().err
    assert main(["train", "sync", str(tmp_path), "--epochs", "0"]) == 2
