"""facetwin score loop: what it refuses, which motors it names, and a run that goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facetwin.cli.main import main
from facetwin.cli.score_loop import at_limits, rest_faces
from facetwin.policies.alignment import Onsets
from facetwin.policies.dataset import Clip, DatasetWriter
from facetwin.policies.espeak import speak
from facetwin.twin.landmarks import canonical, indices
from facetwin.twin.spec import load_rig


def clip(name: str, talker: str, seed: int = 0) -> Clip:
    """Half a second of silence at rest, then a talker whose mouth goes with the loudness."""
    said = speak("bob", "en-us")
    samples = np.concatenate([np.zeros(8_000, np.float32), said.samples])
    count = len(samples) // 640
    samples = samples[: 640 * count]
    loud = np.abs(samples).reshape(count, 640).mean(1)
    face = np.repeat(canonical().astype(np.float32)[None], count, 0)
    face[:, 14, 1] = face[:, 13, 1] - 0.3 * loud
    face += np.random.default_rng(seed).normal(0, 1e-4, face.shape).astype(np.float32)
    later = tuple(type(p)(p.name, p.start + 0.5, p.end + 0.5) for p in said.phonemes)
    return Clip(name, face, np.ones(count, bool), samples, talker, "en-us", later)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    with DatasetWriter(tmp_path / "data", {"source": "made up"}) as out:
        out.add(clip("a", "ann"))
    return tmp_path / "data"


def test_motors_on_a_limit_are_named() -> None:
    spec = load_rig("face26")
    commands = np.repeat(spec.rest[None], 50, 0)
    low, high = spec.soft_limits
    stretch, jaw = spec.index("right_corner_stretch"), spec.index("jaw")
    commands[:, jaw] = 0.3
    commands[24:27, stretch] = low[stretch]
    commands[40, jaw] = high[jaw]
    found = at_limits(spec, [commands], [Onsets(rounded=(1.0,), control=(1.6, 0.2))])
    assert found["rounded"] == {"right_corner_stretch low": 1.0}
    assert found["control"] == {"jaw high": 0.5}
    assert "bilabial" not in found


def test_rest_faces_come_from_the_talkers_other_clips() -> None:
    shifted = clip("b", "bob")
    shifted.landmarks[:, indices("jaw11"), 1] -= 0.05
    rests = rest_faces([clip("a", "ann"), clip("c", "bob")], [shifted])
    jaw = indices("jaw11")
    assert rests["ann"][jaw, 1].mean() - rests["bob"][jaw, 1].mean() == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize("args", [["--window", "-1"], ["--skip", "-1"], ["--limit", "0"], ["--skip", "9"]])
def test_asked_wrongly(dataset: Path, capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    assert main(["score", "loop", str(dataset), *args]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.sim
@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["score", "loop", str(dataset), "--takes", str(tmp_path / "takes"), "--size", "128", "--json"]
    assert main(args) == 0
    first = json.loads(capsys.readouterr().out)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "takes").iterdir()}
    assert main(args) == 0
    again = json.loads(capsys.readouterr().out)
    assert again == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "takes").iterdir()} == times
    assert first["onsets"]["bilabial"] >= 1
    assert first["stages"]["closure - control"]["geometry"] is None or first["onsets"]["control"]
    assert main([*args, "--alive"]) == 0  # another key: played again
    capsys.readouterr()
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "takes").iterdir()} != times
