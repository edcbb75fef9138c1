"""Rung 6: the same policies on twin and rig: nearly as good on the rig, and in the same order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facetwin.assets import path as asset
from facetwin.cli.compare_controllers import Contest, agreement, play_contest, prepare, scores
from facetwin.cli.main import main
from facetwin.cli.watcher import Watcher
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.twin.errors import UsageError

pytestmark = [pytest.mark.hil, pytest.mark.rung(6, "policy"), pytest.mark.needs("camera")]

#: of the twin's opening correlation, that the rig must reach
KEPT = 0.8
PLAYED = ("inverse and gradient", "amplitude", "frozen")


def test_policy_moves_over(active, bare, rig_name):
    try:
        contest = prepare(bare.spec, asset("speech", "sample.wav"), 4.0)
    except UsageError as why:
        pytest.skip(str(why))
    contest = Contest(contest.wish, {name: contest.commands[name] for name in PLAYED})
    shape = bare.capabilities.camera
    with Watcher(gentle=True) as watcher:
        on_rig = scores(contest, play_contest(active, watcher, contest, name=rig_name))
    with Watcher() as watcher, SafetyLayer(SimRig(bare.spec, size=(shape[1], shape[0]))) as twin:
        twin.activate()
        on_twin = scores(contest, play_contest(twin, watcher, contest, name="twin"))
    found = agreement(on_twin, on_rig)
    print("agreement:", found)
    best, still = PLAYED[0], PLAYED[-1]
    assert on_rig[best]["opening correlation"] >= KEPT * on_twin[best]["opening correlation"], found
    assert on_rig[best]["opening correlation"] > on_rig[still]["opening correlation"] + 0.2, found
    assert found["opening correlation"]["pearson"] > 0.8, found


def test_the_same_command_speaks(bare, rig_name, tmp_path, capsys):
    """`facetwin speak FILE --rig NAME`: nothing but the name differs from the twin's."""
    import soundfile

    samples, rate = soundfile.read(asset("speech", "sample.wav"))
    soundfile.write(tmp_path / "said.wav", samples[: 3 * rate], rate)
    words = ["--rig", rig_name, "--out", str(tmp_path / "out"), "--json"]
    code = main(["speak", str(tmp_path / "said.wav"), *words])
    said = capsys.readouterr()
    if code == 2 and "no self model for this rig" in said.err:
        pytest.skip("no weights for this rig")
    assert code == 0, said.err
    result = json.loads(said.out)
    assert result["frames"] == 75
    assert result["face_lost"] < 8
    assert {Path(f).name for f in result["files"]} >= {"face.mp4", "report.html", "said.json", "recording"}
    assert result["scores"]["seen in the mirror"]["opening correlation"] > 0.5
