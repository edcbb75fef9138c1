import numpy as np
import pytest
from scipy.spatial import cKDTree

from facetwin.policies.selfmodel import mirror_motors
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.spec import load_rig


@pytest.fixture(scope="module", params=["face26", "emo23"])
def body(request):
    return Kinematics(load_rig(request.param), load_face())


def test_rest_pulls_nothing(body):
    assert np.allclose(body.goals(body.spec.rest), body.face.rest[body.anchored], atol=1e-15)
    for pose in body.poses(body.spec.rest).values():
        assert np.allclose(pose, np.eye(4), atol=1e-12)


def test_poses_are_rigid(body):
    rng = np.random.default_rng(0)
    for _ in range(20):
        for pose in body.poses(rng.uniform(size=body.spec.size)).values():
            assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
            assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)


def test_mirrored_commands_pull_mirrored_goals():
    body = Kinematics(load_rig("face26"), load_face())
    partner, turned = mirror_motors(body.spec)
    rest = body.face.rest[body.anchored]
    pair = cKDTree(rest).query(rest * (-1, 1, 1))[1]
    rng = np.random.default_rng(1)
    for _ in range(10):
        c = rng.uniform(size=body.spec.size)
        other = c[partner].copy()
        other[turned] = 1 - other[turned]
        assert np.allclose(body.goals(other), (body.goals(c) * (-1, 1, 1))[pair], atol=1e-9)


def test_every_motor_does_something(body):
    moved = np.abs(body.tangents()).max((1, 2))
    for i, motor in enumerate(body.spec.motors):
        c = body.spec.rest.copy()
        c[i] = 1.0 if c[i] < 0.5 else 0.0
        turned = any(not np.allclose(p, np.eye(4), atol=1e-3) for p in body.poses(c).values())
        assert turned or moved[i] > 1e-3, motor.name


def test_an_open_jaw_takes_the_chin_along():
    body = Kinematics(load_rig("face26"), load_face())
    c = body.spec.rest.copy()
    c[body.spec.index("jaw")] = 1.0
    drop = body.face.rest[body.anchored][:, 1] - body.goals(c)[:, 1]
    chin = list(body.anchored).index(152)
    forehead = list(body.anchored).index(10)
    assert drop[chin] > 0.02
    assert drop[forehead] == pytest.approx(0.0, abs=1e-12)


def test_a_part_that_the_face_lacks_is_named():
    from dataclasses import replace

    face = load_face()
    links = {k: v for k, v in face.links.items() if k != "jaw"}
    with pytest.raises(FaceTwinError, match=r"the face has no such part.*jaw"):
        Kinematics(load_rig(), replace(face, links=links))
