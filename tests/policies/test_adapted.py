"""A self-model adapted to a table: nothing where nothing differs, and what differs where it does."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.policies.adapted import adapt, positions
from facetwin.policies.selfmodel import SelfModel
from facetwin.twin.calibration.rig_file import write_rig
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import load_rig


@pytest.fixture(scope="module")
def model():
    return SelfModel.load(load_rig())


@pytest.fixture(scope="module")
def askew():
    return load_rig().with_({"motor.jaw.scale": 0.8, "motor.lower_lip_raise.trim": 0.08})


def test_horns(askew):
    spec = load_rig()
    commands = np.random.default_rng(0).uniform(size=(20, spec.size))
    at = positions(askew, commands)
    jaw, lip = askew.index("jaw"), askew.index("lower_lip_raise")
    rest = askew.rest[jaw]
    assert at[:, jaw] == pytest.approx(rest + 0.8 * (commands[:, jaw] - rest))
    assert at[:, lip] == pytest.approx(commands[:, lip] + 0.08 / askew.span[lip])
    others = [i for i in range(spec.size) if i not in (jaw, lip)]
    assert np.array_equal(at[:, others], commands[:, others])
    assert np.array_equal(positions(spec, commands), commands)


def test_the_same_table_changes_nothing(model):
    spec = load_rig()
    own, gained = adapt(model, spec, spec, poses=50, solver="linear")
    commands = np.random.default_rng(1).uniform(size=(50, spec.size)).astype(np.float32)
    for a, b in zip(own.predict(commands), model.predict(commands)):
        assert np.array_equal(a, b)
    assert gained.face_u == (0.0, 0.0)


def test_what_differs_is_learned(model, askew):
    spec = load_rig()
    before = {k: v.clone() for k, v in model.net.state_dict().items()}
    own, gained = adapt(model, spec, askew, poses=100, solver="linear")
    assert gained.face_u[1] < 0.35 * gained.face_u[0]
    # an open jaw opens less
    open_jaw = spec.rest.copy()
    open_jaw[spec.index("jaw")] = 0.8
    (_, here), (_, there) = model.predict(open_jaw[None]), own.predict(open_jaw[None])
    assert there[0] < here[0] - 1.0
    assert all((v == before[k]).all() for k, v in model.net.state_dict().items())  # left as it was


def test_same_seed_same_model(model, askew):
    a, b = (adapt(model, load_rig(), askew, poses=50, solver="linear", seed=3)[0] for _ in range(2))
    commands = np.random.default_rng(2).uniform(size=(9, askew.size)).astype(np.float32)
    assert np.array_equal(a.predict(commands)[0], b.predict(commands)[0])


def test_what_it_refuses(model):
    with pytest.raises(UsageError, match="too few poses"):
        adapt(model, load_rig(), load_rig(), poses=10)
    with pytest.raises(UsageError, match="other motors"):
        adapt(model, load_rig(), load_rig("emo23"))


def test_weights_beside_a_table_are_taken_where_they_are_of_that_table(model, tmp_path):
    spec = write_rig(tmp_path / "face26.toml", "face26", {"motor.jaw.scale": 0.9})
    spec = load_rig(tmp_path / "face26.toml")
    marked = {**model.sidecar, "rig_hash": spec.hash, "mark": "beside"}
    SelfModel(model.net, model.low, model.high, {}).save(tmp_path / "self_face26.safetensors", marked)
    assert SelfModel.load(spec).sidecar["mark"] == "beside"
    write_rig(tmp_path / "face26.toml", "face26", {"motor.jaw.scale": 0.95})  # edited since
    assert "mark" not in SelfModel.load(load_rig(tmp_path / "face26.toml")).sidecar
    assert "mark" not in SelfModel.load(load_rig()).sidecar
