"""babble, train self, train inverse: the road from nothing to weights, in small."""

from __future__ import annotations

import json

import numpy as np
import pytest

from facetwin.cli.babbled import load_babble, run_folder
from facetwin.cli.main import main
from facetwin.hardware.recording import Recording, RecordingWriter
from facetwin.policies.inverse import InverseModel
from facetwin.policies.selfmodel import SelfModel
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import canonical
from facetwin.twin.spec import load_rig


@pytest.fixture
def babbled(tmp_path):
    """Ten recordings of random commands and a face that sways with them."""
    spec, rng = load_rig(), np.random.default_rng(0)
    folder = tmp_path / "babble"
    folder.mkdir()
    meta = {
        "kind": "facetwin babble", "rig_hash": spec.hash, "motors": list(spec.names), "unit": 1.0,
        "babbler": "toy", "seed": 0,
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta))
    image = np.zeros((16, 16, 3), np.uint8)
    for k in range(10):
        with RecordingWriter(run_folder(folder, k), spec, fps=1.0) as out:
            for second, command in enumerate(rng.random((30, 26))):
                out.write(second, command, command)
                face = canonical() + 0.02 * command[0] + rng.normal(0, 0.001, (478, 3))
                out.landmarks(out.picture(second, image, gap_mm=command[0] * 5), face, np.zeros(3))
    return folder


def test_babble_reads_back_what_was_recorded(babbled):
    data, meta = load_babble(babbled)
    assert len(data) == 300
    assert meta["babbler"] == "toy"
    np.testing.assert_allclose(data.gap, data.commands[:, 0] * 5, rtol=1e-6)
    (run_folder(babbled, 3) / "rows.parquet").write_bytes(b"torn")
    with pytest.raises(FaceTwinError, match="cannot be read"):
        load_babble(babbled)


def test_train_self_and_inverse_write_weights_that_open(babbled, tmp_path, capsys):
    self_path, inverse_path = tmp_path / "self.safetensors", tmp_path / "inverse.safetensors"
    assert main(["train", "self", str(babbled), "-o", str(self_path), "--epochs", "2", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert {"self-model", "linear (ridge)", "mean face"} <= set(scores)
    options = ["-o", str(inverse_path), "--epochs", "1", "--dreams", "50", "--members", "2", "--json"]
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
    monkeypatch.setattr("facetwin.cli.babble.RUN", 2)
    folder = tmp_path / "seen"
    options = ["--rig", "sim:?solver=linear", "--frames", "2", "--size", "128", "--workers", "1", "--json"]
    assert main(["babble", "--out", str(folder), *options]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["found"] >= 0.5
    data, meta = load_babble(folder)
    assert meta["rig_hash"] == load_rig().hash
    assert len(data) == result["poses"] * result["found"]
    recorded = Recording(run_folder(folder, 0))
    assert recorded.complete
    assert len(list(recorded.pictures())) == len(recorded.frames()["time"]) == 2
    assert len(recorded.rows()["time"]) > 2
    before = (run_folder(folder, 0) / "rows.parquet").read_bytes()
    torn = run_folder(folder, 0) / "meta.json"
    torn.write_text(torn.read_text().replace('"complete": true', '"complete": false'))
    assert main(["babble", "--out", str(folder), *options]) == 0  # made again, and the same
    assert (run_folder(folder, 0) / "rows.parquet").read_bytes() == before
    again, _ = load_babble(folder)
    assert np.array_equal(again.commands, data.commands)
    assert np.array_equal(again.face, data.face)
    capsys.readouterr()
    assert main(["babble", "--out", str(folder), *options, "--seed", "5"]) == 2
    assert "other babble" in capsys.readouterr().err
