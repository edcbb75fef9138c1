"""train skin: from solved poses to weights that open, in small; what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facetwin.cli.main import main
from facetwin.cli.train_skin import TrainSkin, _folder, draw
from facetwin.twin.couplings import Couplings
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.skin import LinearSkin
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.skin.fast_poses import SHARD, Poses, save_shard
from facetwin.twin.spec import load_rig
from facetwin.twin.twin import build_skin

pytestmark = pytest.mark.sim
SPEC = load_rig("face26")


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A folder of 200 poses, solved by the linear skin so that it is quick."""
    folder = tmp_path_factory.mktemp("poses")
    kinematics = Kinematics(SPEC, load_face())
    linear = LinearSkin(build_skin(SPEC, kinematics.face, kinematics))
    _folder(TrainSkin(folder=folder, seed=3), kinematics)
    for number in range(10):
        at = draw(SPEC, number, 3, SHARD)
        shapes = np.array([linear.solve(kinematics.goals(a)) for a in at], np.float32)
        save_shard(folder, number, Poses(at, shapes, np.ones(SHARD, bool), np.zeros(SHARD, np.int64)))
    return folder


def test_solved_poses_become_weights(solved, tmp_path, capsys):
    out = tmp_path / "skin.safetensors"
    small = ["--poses", "200", "--steps", "20", "--dreams", "100", "--seed", "3", "--workers", "1"]
    assert main(["train", "skin", *small, "--folder", str(solved), "-o", str(out), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["poses"] == SHARD
    skin = FastSkin.load(SPEC, path=out)
    assert skin.sidecar["poses"]["train"] == 8 * SHARD
    assert skin.sidecar["rig_hash"] == SPEC.hash


def test_poses_are_babbled_within_the_rules():
    at = draw(SPEC, 7, 0, 40)
    low, high = SPEC.soft_limits
    assert Couplings(SPEC).allowed(at).all()
    assert ((at >= low) & (at <= high)).all()
    np.testing.assert_array_equal(at, draw(SPEC, 7, 0, 40))
    assert not np.array_equal(at, draw(SPEC, 8, 0, 40))


def test_refuses(solved, capsys):
    assert main(["train", "skin", "--poses", "50"]) == 2
    assert "too few poses" in capsys.readouterr().err
    assert main(["train", "skin", "--poses", "200", "--folder", str(solved), "--seed", "4"]) == 2
    assert "other poses (seed)" in capsys.readouterr().err
    assert main(["train", "skin", "--poses", "200", "-o", "skin.pt"]) == 2
    assert ".safetensors" in capsys.readouterr().err
