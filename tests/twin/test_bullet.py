import xml.etree.ElementTree as ElementTree

import numpy as np
import pybullet
import pytest

from facetwin.twin.bullet import BulletHead, BulletTwin, load_urdf
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.servo import ServoBank
from facetwin.twin.skin import Material, Skin
from facetwin.twin.skin.bullet import BulletSkin, open_client
from facetwin.twin.skin.exact import ExactSkin
from facetwin.twin.skin.truss import build_truss, fit_springs, springs_of, strip_ratio
from facetwin.twin.spec import load_rig
from facetwin.twin.urdf import EFFORT, build_urdf, followers

pytestmark = pytest.mark.sim
SIDE, EDGE = 9, 0.005


def sheet():
    """A flat sheet 40 mm wide, its border clamped, its middle nine vertices pulled; mirrored about x = 0."""
    at = (np.arange(SIDE) - SIDE // 2) * EDGE
    x, y = np.meshgrid(at, at)
    rest = np.stack([x, y, 0.15 * (0.02**2 - x**2) / 0.02], axis=-1).reshape(-1, 3)
    i = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    a, b, c, d = (p.ravel() for p in (i[:-1, :-1], i[:-1, 1:], i[1:, 1:], i[1:, :-1]))
    left = np.tile(np.arange(SIDE - 1) < (SIDE - 1) // 2, SIDE - 1)[:, None, None]  # diagonals mirror
    one = np.stack([np.stack([a, b, c], 1), np.stack([a, c, d], 1)], 1)
    other = np.stack([np.stack([a, b, d], 1), np.stack([b, c, d], 1)], 1)
    triangles = np.where(left, one, other).reshape(-1, 3)
    ring = np.unique(np.concatenate([i[0], i[-1], i[:, 0], i[:, -1]]))
    middle = i[3:6, 3:6].ravel()
    anchored = np.concatenate([middle, ring])
    stiffness = np.concatenate([np.full(9, 400.0), np.full(len(ring), np.inf)])
    return rest, triangles, anchored, stiffness


def pulled(rest, anchored, way):
    goals = rest[anchored].copy()
    goals[:9] += way
    return goals


@pytest.fixture(scope="module")
def skin():
    with BulletSkin(*sheet(), Material(), tolerance=5e-6, limit=600) as made:
        yield made


def test_the_strip_stretches_and_bends_like_a_beam():
    assert strip_ratio(*springs_of(Material())) == pytest.approx((1, 1), abs=0.03)
    assert fit_springs() == pytest.approx(springs_of(Material()), rel=0.02)
    # what is fitted on a grid of 4 mm holds about as well on one of 5 mm, and bends right on finer ones
    assert strip_ratio(*springs_of(Material()), 41, 11) == pytest.approx((1, 1), abs=0.12)


def test_the_truss_bears_no_load_at_rest_and_moves_rigidly_for_nothing():
    rest, triangles, _, _ = sheet()
    truss = build_truss(rest, triangles, *springs_of(Material()))
    assert truss.vertices(truss.nodes) == pytest.approx(rest, abs=1e-15)
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
    assert truss.energy(truss.nodes @ turn.T + 0.1) == pytest.approx(0, abs=1e-15)
    push = np.random.default_rng(0).normal(0, 1e-7, truss.nodes.shape)
    assert truss.energy(truss.nodes + push) == pytest.approx(
        0.5 * push.ravel() @ truss.hessian() @ push.ravel(), rel=0.01
    )
    # PyBullet takes links from triangles: each link is an edge of one, and no other
    edges = np.sort(truss.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert np.array_equal(np.unique(edges, axis=0), np.unique(np.sort(truss.links, axis=1), axis=0))


def test_rest_stays_rest(skin):
    assert isinstance(skin, Skin)
    x = skin.solve(skin.rest[skin.anchored])
    assert skin.report.converged
    assert np.abs(x - skin.rest).max() < 1e-7


def test_it_settles_where_its_energy_is_least(skin):
    goals = pulled(skin.rest, skin.anchored, (0.0, 0.001, 0.002))
    x = skin.solve(goals)
    assert skin.report.converged
    assert skin.report.iterations < 600
    least = skin.energy()
    nodes = skin._x.copy()
    rng = np.random.default_rng(0)
    for _ in range(5):  # no small motion of free nodes gains anything to speak of
        push = rng.normal(0, 2e-5, nodes.shape)
        push[np.setdiff1d(np.arange(len(nodes)), skin._free)] = 0
        skin._x = nodes + push
        assert skin.energy() > least
    skin._x = nodes
    held = skin.anchored[np.isinf(skin.stiffness)]
    assert np.abs(x[held] - skin.rest[held]).max() < 1e-6


def test_a_mirrored_pull_makes_a_mirrored_shape(skin):
    x = skin.solve(pulled(skin.rest, skin.anchored, (0.0, 0.0015, 0.001)))
    pair = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)[:, ::-1].ravel()
    assert np.abs(x[pair] * (-1, 1, 1) - x).max() < 5e-5


def test_it_agrees_with_the_exact_skin_on_a_small_pull():
    rest, triangles, anchored, stiffness = sheet()
    exact = ExactSkin(rest, triangles, anchored, stiffness, Material())
    goals = pulled(rest, anchored, (0.0, 0.0, 0.0002))
    with BulletSkin(rest, triangles, anchored, stiffness, Material(), tolerance=1e-6) as skin:
        mine, other = skin.solve(goals) - rest, exact.solve(goals) - rest
    assert np.linalg.norm(mine - other) < 0.2 * np.linalg.norm(other)  # its border cannot turn


def test_it_starts_where_it_is_told(skin):
    goals = pulled(skin.rest, skin.anchored, (0.0, 0.001, 0.001))
    x = skin.solve(goals)
    skin.solve(skin.rest[skin.anchored])
    again = skin.solve(goals, start=x)
    assert np.abs(again - x).max() < 5e-5
    assert skin.report.iterations < 300


def test_time_passes_and_a_tissue_holds_back():
    rest, triangles, anchored, stiffness = sheet()
    goals = pulled(rest, anchored, (0.0, 0.0, 0.003))
    shapes = []
    for tissue in (0.0, 5e5):
        with BulletSkin(rest, triangles, anchored, stiffness, Material(), foundation=tissue) as skin:
            first = skin.advance(goals, 0.003)
            for _ in range(20):
                x = skin.advance(goals, 0.01)
            assert 0 < first[40, 2] - rest[40, 2] < x[40, 2] - rest[40, 2]
            assert np.nansum(skin.pulls()[:, 2]) > 0
            shapes.append(x - rest)
    assert np.linalg.norm(shapes[1]) < 0.9 * np.linalg.norm(shapes[0])


def test_two_at_once_do_not_meet_and_repeat_each_other():
    parts = sheet()
    with BulletSkin(*parts) as one, BulletSkin(*parts) as two:
        goals = pulled(one.rest, one.anchored, (0.0, 0.0, 0.001))
        a = one.solve(goals)
        assert two._x == pytest.approx(two.truss.nodes)
        assert (two.solve(goals) == a).all()
        one.reset()
        assert (one.solve(goals) == a).all()
    one.close()
    with pytest.raises(FaceTwinError, match="the skin is closed"):
        one.solve(goals)


def test_worlds_are_freed():
    for _ in range(200):
        _, free = open_client(type("Owner", (), {})())
        free()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"triangles": [[0, 1, 999]]}, "out of range"),
        ({"triangles": [[0, 1, 10]]}, "vertex in no triangle"),
        ({"anchored": [0, 0], "stiffness": [1.0, np.inf]}, "not vertices"),
        ({"anchored": [0], "stiffness": [-1.0]}, "not a stiffness"),
        ({"anchored": [0], "stiffness": [100.0]}, "nothing anchors"),
        ({"dt": 0.0}, "dt: not a setting"),
    ],
)
def test_bad_parts_are_refused(change, message):
    parts = dict(zip(("rest", "triangles", "anchored", "stiffness"), sheet())) | change
    with pytest.raises(FaceTwinError, match=message):
        BulletSkin(**parts)


def test_a_mesh_in_pieces_is_refused_before_pybullet_hangs_on_it():
    rest, triangles, anchored, stiffness = sheet()
    n = len(rest)
    with pytest.raises(FaceTwinError, match="in pieces"):
        BulletSkin(
            np.concatenate([rest, rest + 1]), np.concatenate([triangles, triangles + n]), anchored, stiffness
        )


def test_bad_goals_are_refused(skin):
    with pytest.raises(FaceTwinError, match="wrong shape"):
        skin.solve(np.zeros((3, 3)))
    with pytest.raises(FaceTwinError, match="not finite"):
        skin.solve(np.full((len(skin.anchored), 3), np.nan))
    with pytest.raises(FaceTwinError, match="not a duration"):
        skin.advance(skin.rest[skin.anchored], 0)


@pytest.mark.parametrize("name", ["face26", "emo23"])
def test_joint_limits_are_the_rig_tables(name):
    spec = load_rig(name)
    tree = ElementTree.fromstring(build_urdf(spec))
    joints = {j.get("name"): j for j in tree.iter("joint")}
    for motor in spec.motors:
        joint, limit = joints[motor.name], joints[motor.name].find("limit")
        assert joint.get("type") == "revolute"
        assert float(limit.get("lower")) == pytest.approx(motor.lower, abs=1e-9)
        assert float(limit.get("upper")) == pytest.approx(motor.upper, abs=1e-9)
        assert float(limit.get("velocity")) == pytest.approx(motor.max_speed, rel=1e-5)
        assert float(limit.get("effort")) == EFFORT[motor.group]
    for follower, (motor_name, _) in followers(spec).items():
        assert joints[follower].find("mimic").get("joint") == motor_name
    links = {link.get("name") for link in tree.iter("link")}
    children = [j.find("child").get("link") for j in joints.values()]
    assert sorted(children) == sorted(links - {"body"})  # a tree, rooted in the body
    for inertia in tree.iter("inertia"):
        assert min(float(inertia.get(k)) for k in ("ixx", "iyy", "izz")) > 0


@pytest.mark.parametrize("name", ["face26", "emo23"])
def test_bones_stand_where_the_twin_says(name):
    spec = load_rig(name)
    kinematics = Kinematics(spec, load_face())
    with BulletHead(spec) as head:
        for seed in range(3):
            command = np.random.default_rng(seed).random(spec.size)
            assert head.reset(command) == pytest.approx(command, abs=1e-9)
            mine, other = head.poses(), kinematics.poses(command)
            assert max(np.abs(mine[k] - other[k]).max() for k in other) < 1e-6


def test_slides_go_the_way_of_the_patch():
    spec = load_rig()
    with BulletHead(spec) as head:
        command = np.random.default_rng(3).random(spec.size)
        head.reset(command)
        way = np.zeros((spec.size, 3))
        for joint, i, axis in head._follow:
            if axis >= 0:
                way[i, axis] = pybullet.getJointState(head._body, joint, physicsClientId=head._client)[0]
        for i, motor in enumerate(spec.motors):
            if motor.pull is not None:
                wanted = motor.pull.displacement(command[i], motor.rest_command)
                assert way[i] == pytest.approx(wanted, abs=1e-9)


def test_joints_go_where_they_are_sent_within_their_speed():
    spec = load_rig()
    with BulletHead(spec, dt=0.005) as head:
        goal = np.clip(spec.rest + 0.3, 0, 1)
        jaw, last = spec.index("jaw"), head.position
        speed = np.array([m.max_speed for m in spec.motors])
        seen = []
        for _ in range(120):
            now = head.step(goal)
            assert (np.abs(now - last) / head.dt * spec.span < 1.02 * speed).all()
            seen.append(now[jaw])
            last = now
        assert last == pytest.approx(goal, abs=2e-3)
        late = round(spec.motors[jaw].latency / head.dt)
        assert seen[late - 1] == pytest.approx(spec.rest[jaw], abs=1e-6)
        assert seen[late] > spec.rest[jaw] + 1e-3
        assert (np.diff(seen) > -1e-6).all()
        assert np.isfinite(head.torque).all()
        assert np.abs(head.velocity).max() < 0.05


def test_a_misaligned_horn_stands_where_the_servo_bank_says():
    askew = load_rig("face26").with_({"motor.jaw.scale": 1.1, "motor.jaw.trim": 0.03})
    jaw = askew.index("jaw")
    bank = ServoBank(askew, 0.01)
    with BulletHead(askew, 0.01) as head:
        command = askew.rest.copy()
        command[jaw] = 0.5
        np.testing.assert_allclose(head.reset(command), bank.reset(command), atol=1e-6)
        assert head.shaft[jaw] == pytest.approx(0.5, abs=1e-6)


def test_a_closed_head_and_bad_commands_are_said_in_one_line():
    head = BulletHead(load_rig())
    with pytest.raises(FaceTwinError, match="not a command"):
        head.step(np.full(26, np.nan))
    with pytest.raises(FaceTwinError, match="not a command"):
        head.reset(np.zeros(3))
    head.close()
    head.close()
    with pytest.raises(FaceTwinError, match="the head is closed"):
        head.step(np.zeros(26))
    with pytest.raises(FaceTwinError, match="bad tick"):
        BulletHead(load_rig(), dt=0)
    with pytest.raises(UsageError, match="no such camera"):
        BulletTwin(load_rig(), camera="none")
    client, free = open_client(head)
    with pytest.raises(FaceTwinError, match="does not load"):
        load_urdf("<robot>", client)
    free()


@pytest.mark.slow
def test_the_face_moves_as_its_motors_say():
    spec = load_rig()
    twin = BulletTwin(spec, limit=100)
    rest = twin.move(spec.rest)
    assert np.abs(rest.vertices - twin.face.rest).max() < 1e-6
    command = spec.rest.copy()
    command[spec.index("jaw")] = 0.7
    command[spec.index("neck_yaw")] = 0.9
    open_mouth = twin.move(command)
    assert open_mouth.gap > 0.008
    load = twin.load(open_mouth)
    assert abs(load[spec.index("jaw")]) > 10 * abs(load[spec.index("left_eye_yaw")])
    command[spec.index("neck_yaw")] = 0.1
    turned = twin.move(command)  # the neck carries the skin: in the skull's frame nothing moves
    assert np.abs(turned.vertices - open_mouth.vertices).mean() < 2e-4
    assert twin.picture(turned).ndim == 3
    twin.close()
    twin.close()
