"""babble, train self, train inverse: the road from nothing to weights, in small."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facetwin.cli.main import main
from facetwin.policies.inverse import InverseModel
from facetwin.policies.mirror import Mirror, load_mirror, save_shard
from facetwin.policies.selfmodel import SelfModel
from facetwin.twin.landmarks import canonical, indices
from facetwin.twin.spec import load_rig


@pytest.fixture
def babbled(tmp_path):
    """Ten shards of random commands and a face that sways with them."""
    spec, rng = load_rig(), np.random.default_rng(0)
    still = canonical()[indices("face113"), :2].astype(np.float32)
    folder = tmp_path / "babble"
    folder.mkdir()
    meta = {
        "rig_hash": spec.hash, "motors": list(spec.names), "unit": 1.0, "babbler": "toy", "seed": 0,
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta))
    for k in range(10):
        commands = rng.random((30, 26), np.float32)
        face = still + 0.02 * commands[:, :1, None] + rng.normal(0, 0.001, (30, 113, 2)).astype(np.float32)
        rows = Mirror(commands, face.astype(np.float32), np.zeros((30, 3), np.float32),
                      commands[:, 0] * 5, np.ones(30, bool), np.zeros(30, np.int64))  # fmt: skip
        save_shard(folder, k, rows)
    return folder


def test_train_self_and_inverse_write_weights_that_open(babbled, tmp_path, capsys):
    self_path, inverse_path = tmp_path / "self.safetensors", tmp_path / "inverse.safetensors"
    assert main(["train", "self", str(babbled), "-o", str(self_path), "--epochs", "2", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert {"self-model", "linear (ridge)", "mean face"} <= set(scores)
    options = ["-o", str(inverse_path), "--epochs", "1", "--dreams", "50", "--json"]
    assert main(["train", "inverse", str(babbled), *options]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert set(scores["per_motor"]) == set(load_rig().names)
    assert SelfModel.load(self_path).sidecar["split"] == {"train": 240, "validation": 30, "test": 30}
    assert InverseModel.load(inverse_path).sidecar["dreams"] == 50


def test_no_babble_is_said_in_one_line(tmp_path, capsys):
    assert main(["train", "inverse", str(tmp_path)]) == 2
    message = capsys.readouterr().err.strip()
    assert message.count("\n") == 0
    assert "not a folder of babble" in message


@pytest.mark.sim
def test_babble_looks_and_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("facetwin.cli.babble.SHARD", 2)
    folder = tmp_path / "seen"
    options = ["--rig", "sim:?solver=linear", "--frames", "2", "--size", "128", "--workers", "1", "--json"]
    assert main(["babble", "--out", str(folder), *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["found"] >= 0.5
    data, meta = load_mirror(folder)
    assert meta["rig_hash"] == load_rig().hash
    assert len(data) == result["poses"] * result["found"]
    before = (folder / "shard-00000.safetensors").read_bytes()
    assert main(["babble", "--out", str(folder), *options]) == 0
    assert (folder / "shard-00000.safetensors").read_bytes() == before
    assert main(["babble", "--out", str(folder), *options, "--seed", "5"]) == 2
    assert "other babble" in capsys.readouterr().err
