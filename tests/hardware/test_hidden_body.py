"""A simulated rig whose body is hidden behind the shipped table."""

import numpy as np
import pytest

from facetwin.hardware.bullet import BulletRig
from facetwin.hardware.names import make_rig
from facetwin.twin.calibration.rig_file import write_rig
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim


@pytest.fixture
def hidden(tmp_path):
    return write_rig(tmp_path / "hidden.toml", "face26", {"motor.jaw.trim": 0.1}), tmp_path / "hidden.toml"


def test_a_body_is_simulated_and_not_told(hidden):
    body, file = hidden
    for rig in (make_rig(f"sim:?body={file}"), BulletRig(body=body)):
        assert rig.spec == load_rig()
        assert rig.body == body


def test_a_body_acts_as_its_own_table_would(hidden):
    _, file = hidden
    command = np.full(load_rig().size, 0.5)
    stands = []
    for rig in (make_rig(f"sim:?body={file}&solver=linear"), make_rig("sim:?solver=linear")):
        with rig:
            rig.activate()
            rig.write(command)
            rig.clock.sleep(1.0)
            stands.append(rig.capture().truth["vertices"])
    assert np.abs(stands[0] - stands[1]).max() > 1e-3  # m


def test_other_motors_are_no_body():
    with pytest.raises(UsageError):
        make_rig("sim:?body=emo23")
    with pytest.raises(UsageError):
        BulletRig(body="emo23")
