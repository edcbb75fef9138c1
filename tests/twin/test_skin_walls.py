from __future__ import annotations

import numpy as np
import pytest

from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.skin.walls import Wall, Walls, arch, ball, bone
from facetwin.twin.spec import load_rig
from facetwin.twin.twin import build_skin, hard_parts

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def kinematics():
    return Kinematics(load_rig(), load_face())


@pytest.fixture(scope="module")
def skin(kinematics):
    return build_skin(kinematics.spec, kinematics.face, kinematics)


def seats(kinematics, command):
    poses = kinematics.poses(command)
    return {name: np.linalg.inv(poses["skull"]) @ pose for name, pose in poses.items()}


def pose(spec, **motors):
    c = spec.rest.copy()
    for ending, value in motors.items():
        c[[i for i, n in enumerate(spec.names) if n.endswith(ending)]] = value
    return c


def teeth(points):
    face = load_face()
    part = next(p for p in face.parts if p.name == "upper_teeth")
    return arch("upper_teeth", "skull", part.vertices, points), part.vertices


@pytest.mark.parametrize("kind", ["ball", "arch", "bone"])
def test_distance_is_a_distance_and_the_normal_its_gradient(kind):
    rng = np.random.default_rng(0)
    every = np.arange(300)
    if kind == "ball":
        wall = ball("eye", "", np.array((0.03, 0, -0.01)), 0.0165, every)
        x = np.array((0.03, 0, -0.01)) + 0.016 * normalised(rng.normal(size=(300, 3)))
    elif kind == "arch":
        wall, vertices = teeth(every)
        front = vertices[vertices[:, 2] > vertices[:, 2].max() - 0.01]
        x = front[rng.integers(len(front), size=300)] + (0, 0, 0.001) + rng.normal(0, 5e-4, (300, 3))
    else:
        x = rng.normal(size=(300, 3)) * 0.01
        wall = bone("skull", "", x, normalised(rng.normal(size=(300, 3))), every)
    walls = Walls(x, np.full(300, 1e-5), (Wall(wall.name, "", wall.kind, wall.shapes, every),))
    normal = walls.distances(x).copy() * 0, walls._normal.copy()
    assert np.linalg.norm(normal[1], axis=1) == pytest.approx(np.ones(300), abs=1e-9)
    way, h = rng.normal(size=x.shape), 1e-8
    slope = (walls.distances(x + h * way).copy() - walls.distances(x - h * way).copy()) / (2 * h)
    right = np.abs(slope - (normal[1] * way).sum(1)) < 1e-4
    assert right.mean() > 0.98  # points that straddle the middle of a bar have no gradient


def normalised(v):
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def test_rest_bears_no_load(skin, kinematics):
    x, report = skin.solve_report(kinematics.goals(kinematics.spec.rest))
    assert np.abs(x - skin.rest).max() < 1e-9
    assert set(report.depths) >= {"lips", "upper_teeth", "lower_teeth", "right_eye", "left_eye", "skull"}
    assert report.penetration < 1e-9


def test_gradient_is_that_of_the_energy(skin):
    x = skin.rest + np.random.default_rng(1).normal(0, 2e-4, skin.rest.shape)
    gradient, idle = np.zeros_like(x), np.zeros_like(x)
    assert skin.walls.energy(x, gradient) > 0
    way, h = np.random.default_rng(2).normal(size=x.shape), 1e-9
    slope = (skin.walls.energy(x + h * way, idle) - skin.walls.energy(x - h * way, idle)) / (2 * h)
    assert slope == pytest.approx((gradient * way).sum(), rel=1e-4)


def test_skin_pressed_on_hard_parts_stays_out(skin, kinematics):
    spec = kinematics.spec
    couplings = Couplings(spec)
    for motors in (
        {"jaw": 0.1, "lower_lip_roll": 0.1, "lower_lip_raise": 0.9},
        {"upper_lip_roll": 0.0, "upper_lip_raise": 0.3},
        {"inner_brow": 0.0, "outer_brow": 0.0},
    ):
        command = couplings.project(pose(spec, **motors))
        _, report = skin.solve_report(kinematics.goals(command), poses=seats(kinematics, command))
        assert report.converged
        assert max(report.depths.values()) < 2e-4, (motors, report.depths)


def test_lower_teeth_ride_on_the_jaw(skin, kinematics):
    command = pose(kinematics.spec, jaw=0.6)
    moved = seats(kinematics, command)
    ridden = skin.rest @ moved["jaw"][:3, :3].T + moved["jaw"][:3, 3]
    still = skin.walls.distances(skin.rest).copy()
    skin.solve(kinematics.goals(command), None, moved)
    riding = skin.walls.distances(ridden)
    k = skin.walls.names.index("lower_teeth")
    mine = skin.walls._of == k
    assert riding[mine] == pytest.approx(still[mine], abs=1e-9)
    skin.solve(kinematics.goals(kinematics.spec.rest))


def test_bad_walls_and_poses_are_refused(skin, kinematics):
    with pytest.raises(FaceTwinError, match="wall eye"):
        Walls(skin.rest, np.ones(len(skin.rest)), (ball("eye", "", np.zeros(3), 0.01, np.array([10**6])),))
    with pytest.raises(FaceTwinError, match="wall eye: not finite"):
        Walls(skin.rest, np.ones(len(skin.rest)), (ball("eye", "", np.zeros(3), np.nan, np.array([0])),))
    goals = kinematics.goals(kinematics.spec.rest)
    with pytest.raises(FaceTwinError, match=r"poses\[jaw\]"):
        skin.solve(goals, None, {"jaw": np.full((4, 4), np.nan)})


def test_every_part_is_found():
    assert {w.name for w in hard_parts(load_face())} == {
        "upper_teeth", "lower_teeth", "right_eye", "left_eye", "skull", "chin",
    }  # fmt: skip
