"""Landmarks by geometry: where the points are, and what moves them."""

import numpy as np
import pytest

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import load_face
from facetwin.twin.geometry import GeometricLandmarks
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import eye_distance, indices, mirror_index
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim
SPEC, FACE = load_rig("face26"), load_face()
POINTS, HEAD = GeometricLandmarks(FACE), Kinematics(SPEC, FACE)


def at(**commands):
    command = SPEC.rest.copy()
    for name, value in commands.items():
        command[SPEC.index(name)] = value
    return command


def face(**commands):
    return POINTS.aligned(FACE.rest, HEAD.poses(at(**commands)))


def test_the_face_at_rest_is_one_u_wide_and_symmetric():
    rest = face()
    assert rest.shape == (478, 3)
    assert eye_distance(rest) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(rest[mirror_index()] * (-1, 1, 1), rest, atol=2e-3)


def test_the_neck_moves_no_landmark():
    moved = face(neck_yaw=0.9, neck_pitch=0.2, neck_roll=0.8)
    np.testing.assert_allclose(moved, face(), atol=1e-6)


def test_lids_shut_the_eye_and_eyes_turn_the_iris():
    up, low = indices("right_eye16")[4], indices("right_eye16")[12]
    open_eye = face(right_upper_lid=1.0)
    shut = face(right_upper_lid=0.0, right_lower_lid=0.1)
    assert shut[up, 1] - shut[low, 1] < 0.2 * (open_eye[up, 1] - open_eye[low, 1])
    left = indices("left_eye16")
    np.testing.assert_array_equal(shut[left], face()[left])
    looks = face(left_eye_yaw=1.0)[473] - face()[473]
    assert abs(looks[0]) > 0.02
    np.testing.assert_array_equal(face(left_eye_yaw=1.0)[468:473], face()[468:473])


def test_a_batch_is_its_members():
    rng = np.random.default_rng(0)
    commands = rng.uniform(size=(5, 26))
    skins = FACE.rest + rng.normal(0, 1e-3, (5, *FACE.rest.shape))
    batch = POINTS.aligned(skins, HEAD.poses(commands))
    for b in range(5):
        np.testing.assert_array_equal(batch[b], POINTS.aligned(skins[b], HEAD.poses(commands[b])))


def test_a_skin_of_another_shape_is_refused():
    with pytest.raises(FaceTwinError, match="not a skin"):
        POINTS(np.zeros((10, 3)), {})
