"""facetwin rig: the list, and the check of a simulated rig."""

from __future__ import annotations

import json

import pytest

from facetwin.cli.main import main


def test_list(capsys):
    assert main(["rig", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    kinds = {kind["name"]: kind for kind in found["kinds"]}
    assert kinds["sim:"]["from"] == "facetwin.hardware.sim:SimRig"
    assert set(kinds) >= {"maestro:", "dynamixel:", "feetech:", "pca9685:", "emulated:", "replay:", "face:"}
    assert [kind["error"] for kind in kinds.values() if kind["package"] == "facetwin"] == [None] * 9
    assert {eye["name"] for eye in found["eyes"]} >= {"webcam:", "emulator:"}
    assert {t["name"]: t["motors"] for t in found["tables"]} == {"emo23": 23, "face26": 26}


def test_a_real_rig_is_not_moved_unasked(tmp_path, capsys):
    face = tmp_path / "face.toml"
    face.write_text('table = "face26"\n[[bus]]\nrig = "maestro:/dev/nothing"\n')
    assert main(["rig", "check", str(face)]) == 2
    assert "--may-move" in capsys.readouterr().err
    assert main(["rig", "check", str(face), "--may-move"]) == 1
    told = capsys.readouterr().err
    assert "stall: stop > 0.25" in told  # limits are told before anything moves
    assert "/dev/nothing: no such port" in told


@pytest.mark.sim
def test_check_of_a_recording(tmp_path, capsys):
    import numpy as np

    from facetwin.hardware.recording import RecordingWriter
    from facetwin.twin.spec import load_rig

    spec = load_rig("face26")
    with RecordingWriter(tmp_path / "take", spec) as out:
        for k in range(200):
            out.write(k / 50, np.full(26, 0.5), np.full(26, 0.5))
    assert main(["rig", "check", f"replay:{tmp_path / 'take'}?loop=true"]) == 0
    assert "skip  write returns what was sent: it does not go where it is told" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["simm:", "sim:nobody", "sim:?sise=3", "nowhere.toml", "sim26"])
def test_no_such_rig(name, capsys):
    assert main(["rig", "check", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.sim
@pytest.mark.slow
def test_check(capsys):
    assert main(["rig", "check", "sim:?size=64", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"bare", "behind the safety layer"}
