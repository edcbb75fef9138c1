import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree

from facetwin.policies.babble import key_pose
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.skin import ExactSkin, GradedSkin, Skin
from facetwin.twin.skin.gap import lip_gap
from facetwin.twin.skin.graded import grade
from facetwin.twin.spec import load_rig
from facetwin.twin.twin import FaceTwin, build_graded, build_skin

pytestmark = pytest.mark.sim
SPEC = load_rig()
FACE = load_face()
KINEMATICS = Kinematics(SPEC, FACE)
POSES = ("ah", "oo", "press", "lip to teeth")  # not "smile": its cheeks fold, each mesh in its own way


@pytest.fixture(scope="module")
def skin() -> GradedSkin:
    return build_graded(SPEC, FACE, KINEMATICS)


@pytest.fixture(scope="module")
def exact() -> ExactSkin:
    return build_skin(SPEC, FACE, KINEMATICS)


def solve(skin, name: str, share: float = 1.0):
    at = SPEC.rest + share * (key_pose(SPEC, name) - SPEC.rest)
    return skin.solve(KINEMATICS.goals(at), None, KINEMATICS.seats(at))


def test_a_thousand_free_vertices_and_every_motor_and_lip(skin):
    inner = skin.exact
    assert isinstance(skin, Skin)
    assert len(inner.rest) - np.isinf(inner.stiffness).sum() >= 1000
    pulled = KINEMATICS.anchored[np.isfinite(KINEMATICS.stiffness)]
    kept = cKDTree(inner.rest).query(FACE.rest)[0] == 0
    assert kept[pulled].all()
    assert kept[:468].all()  # MediaPipe's points
    assert kept[FACE.vertices_of("upper_lip", "lower_lip", "upper_rim", "lower_rim", "eye_rim")].all()


def test_the_mesh_is_the_face_again(skin):
    inner = skin.exact

    def area(p, t):
        return np.linalg.norm(np.cross(p[t[:, 1]] - p[t[:, 0]], p[t[:, 2]] - p[t[:, 0]]), axis=1).sum() / 2

    assert area(inner.rest, inner.triangles) == pytest.approx(area(FACE.rest, FACE.triangles), rel=0.005)
    pair = cKDTree(inner.rest).query(inner.rest * (-1, 1, 1))[1]
    faces = {frozenset(t) for t in inner.triangles.tolist()}
    assert {frozenset(pair[list(t)].tolist()) for t in faces} == faces


def test_rest_is_rest(skin):
    x = skin.solve(KINEMATICS.goals(SPEC.rest), None, KINEMATICS.seats(SPEC.rest))
    assert x == pytest.approx(FACE.rest, abs=1e-12)
    assert skin.report.converged


def test_symmetric_commands_make_symmetric_faces(skin):
    pair = cKDTree(FACE.rest).query(FACE.rest * (-1, 1, 1))[1]
    for name in ("ah", "oo"):
        x = solve(skin, name)
        assert np.abs(x[pair] * (-1, 1, 1) - x).max() < 2e-4, name  # twice the tolerance


@pytest.mark.parametrize("name", POSES)
def test_near_the_exact_skin(skin, exact, name):
    for share in (0.05, 1.0):  # 2 to 9 % of the motion were found
        ours, theirs = solve(skin, name, share), solve(exact, name, share)
        apart = np.linalg.norm(ours - theirs, axis=1).mean()
        assert apart < 0.12 * np.linalg.norm(theirs - FACE.rest, axis=1).mean(), share


def test_kept_vertices_are_what_the_solver_found_and_held_ones_where_they_should_be(skin):
    at = key_pose(SPEC, "ah")
    goals = KINEMATICS.goals(at)
    x = skin.solve(goals, None, KINEMATICS.seats(at))
    inner = skin.exact.solve(goals[skin.driven], None, KINEMATICS.seats(at))
    kept = np.flatnonzero(cKDTree(skin.exact.rest).query(FACE.rest)[0] == 0)
    assert np.array_equal(x[kept], inner)
    held = np.isinf(KINEMATICS.stiffness)
    assert x[KINEMATICS.anchored[held]] == pytest.approx(goals[held], abs=1e-12)


def test_goes_on_from_its_last_shape_as_the_solver_does(skin):
    path = [SPEC.rest + a * (key_pose(SPEC, "ah") - SPEC.rest) for a in (0.3, 0.35, 0.4)]
    x = y = None
    for at in path:
        x = skin.solve(KINEMATICS.goals(at), x, KINEMATICS.seats(at))
    whole = [x[np.flatnonzero(cKDTree(skin.exact.rest).query(FACE.rest)[0] == 0)], skin.report.iterations]
    for at in path:
        y = skin.exact.solve(KINEMATICS.goals(at)[skin.driven], y, KINEMATICS.seats(at))
    assert np.array_equal(whole[0], y)
    assert skin.report.iterations == whole[1]


def test_lips_shut(skin):
    lips = FACE.triangles_of("upper_lip", "upper_rim"), FACE.triangles_of("lower_lip", "lower_rim")
    assert lip_gap(solve(skin, "press"), *lips) < 3e-4
    assert skin.report.penetration < 2e-4


def test_the_twin_takes_it():
    with FaceTwin(SPEC, solver="graded") as twin:
        state = twin.move(key_pose(SPEC, "ah"))
        assert state.vertices.shape == FACE.rest.shape
        assert state.report.converged
        assert state.gap > 5e-3


def test_displacements_that_are_one_motion_spread_as_it(skin):
    shift = np.array([1e-3, -2e-3, 5e-4])
    moved = skin._spread @ np.tile(shift, (len(skin.exact.rest), 1))
    assert moved == pytest.approx(np.tile(shift, (len(FACE.rest), 1)))


def test_a_mesh_that_was_not_subdivided_is_refused():
    shuffled = dataclasses.replace(FACE, triangles=FACE.triangles[::-1])
    with pytest.raises(FaceTwinError, match="do not come in fours"):
        grade(shuffled, np.zeros(len(FACE.rest), dtype=bool))


def test_nonsense_is_refused_before_anything_is_solved(skin):
    goals = KINEMATICS.goals(SPEC.rest)
    with pytest.raises(FaceTwinError, match="wrong shape"):
        skin.solve(goals[:-1])
    with pytest.raises(FaceTwinError, match="not finite"):
        skin.solve(goals * np.nan)
    with pytest.raises(FaceTwinError, match="start"):
        skin.solve(goals, FACE.rest[:-1])
