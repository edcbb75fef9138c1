"""The skin in time: creep, swing, and a face that moves with both."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from facetwin.twin.dynamics import Modes, SkinDynamics, skin_modes
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.moving import MovingFace
from facetwin.twin.spec import SkinTime, load_rig
from facetwin.twin.twin import FaceTwin

pytestmark = pytest.mark.sim

CREEP = SkinTime(creep_share=0.1, creep_time=0.3)
REST = np.random.default_rng(0).normal(size=(20, 3)) * 0.05
HELD = np.arange(5)
FREE = np.arange(5, 20)


def wobbly(count=3, seed=1):
    """Modes of a made-up skin: any mass-orthonormal shapes that leave the held vertices alone."""
    rng = np.random.default_rng(seed)
    mass = rng.uniform(1e-5, 3e-5, 20)
    shapes = np.zeros((count, 20, 3))
    weight = np.repeat(mass[5:], 3)
    q, _ = np.linalg.qr(rng.normal(size=(45, count)))
    shapes[:, 5:] = (q / np.sqrt(weight)[:, None]).T.reshape(count, 15, 3)
    return Modes(np.linspace(14.0, 20.0, count), shapes, mass)


def moved(by=0.01):
    return REST + by * np.random.default_rng(2).normal(size=REST.shape)


@pytest.fixture(scope="module")
def twin():
    with FaceTwin(load_rig(), solver="linear") as made:
        yield made


# --- creep --------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.15])
@pytest.mark.parametrize("tau", [0.1, 3.0])
def test_a_step_shows_share_and_time(share, tau):
    skin, goal = SkinDynamics(SkinTime(share, tau), REST, HELD), moved()
    at_once = skin.step(goal, 0.0)
    np.testing.assert_allclose(at_once[FREE] - REST[FREE], (1 - share) * (goal - REST)[FREE], atol=1e-12)
    np.testing.assert_array_equal(at_once[HELD], goal[HELD])  # what is held follows
    for k in range(1, 9):
        left = (goal - skin.step(goal, tau / 4))[FREE] / (goal - REST)[FREE]
        np.testing.assert_allclose(left, share * np.exp(-k / 4), atol=1e-9)


def test_the_answer_does_not_depend_on_the_tick():
    coarse, fine = (SkinDynamics(CREEP, REST, HELD) for _ in range(2))
    goal = moved()
    one = coarse.step(goal, 0.2)
    for k in range(1, 201):
        many = fine.step(REST + (goal - REST) * k / 200, 0.001)
    np.testing.assert_allclose(one, many, atol=1e-12)


def test_no_share_is_no_creep_and_rest_stays():
    skin = SkinDynamics(SkinTime(), REST, HELD)
    assert SkinTime().still
    np.testing.assert_array_equal(skin.step(moved(), 0.01), moved())
    lagging = SkinDynamics(CREEP, REST, HELD)
    np.testing.assert_array_equal(lagging.step(REST, 0.01), REST)
    assert lagging.to_come == 0
    lagging.step(moved(), 0.0)
    assert lagging.to_come == pytest.approx(0.1 * np.linalg.norm((moved() - REST)[FREE], axis=1).max())


def test_the_crept_skin_lies_among_the_shapes_it_has_been_through():
    skin, rng = SkinDynamics(CREEP, REST, HELD), np.random.default_rng(3)
    low, high = REST.copy(), REST.copy()
    for _ in range(50):
        goal = REST + rng.normal(size=REST.shape) * 0.01
        low, high = np.minimum(low, goal), np.maximum(high, goal)
        shown = skin.step(goal, rng.uniform(0, 0.1))
        assert (shown >= low - 1e-15).all()
        assert (shown <= high + 1e-15).all()


def test_a_batch_is_so_many_single_ones_and_reset_forgets():
    time = SkinTime(0.1, 0.3, 3, 0.1)
    rng = np.random.default_rng(4)
    shapes = REST + 0.01 * rng.normal(size=(6, 2, 3, 20, 3))
    batch, alone = (SkinDynamics(time, REST, HELD, wobbly()) for _ in range(2))
    batch.reset(shapes[0])
    together = np.array([batch.step(s, 0.02) for s in shapes[1:]])
    for i in np.ndindex(2, 3):
        alone.reset(shapes[0][i])
        np.testing.assert_array_equal(
            np.array([alone.step(s[i], 0.02) for s in shapes[1:]]), together[:, i[0], i[1]]
        )


# --- modes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeta", [0.05, 1.0, 1.5])
def test_the_swing_is_the_textbook_one(zeta):
    modes = wobbly(1)
    skin = SkinDynamics(SkinTime(modes=1, mode_damping=zeta), REST, HELD, modes)
    jump = REST + 0.003 * modes.shapes[0]
    w, dt, got = 2 * np.pi * modes.frequencies[0], 0.004, []
    weight = np.repeat(modes.mass, 3) * modes.shapes[0].ravel()
    for k in range(40):
        got.append(weight @ (skin.step(jump, dt if k else 0.0) - jump).ravel())
    t = dt * np.arange(40)
    # e'' + 2 z w e' + w^2 e = 0 from e = -.003, e' = 2 z w .003: the damper hangs on the equilibrium
    roots = np.roots([1, 2 * zeta * w, w * w]).astype(complex)
    if zeta == 1.0:
        want = -0.003 * np.exp(-w * t) * (1 - w * t)
    else:
        a, b = roots
        e0, u0 = -0.003, 2 * zeta * w * 0.003
        want = (((u0 - b * e0) * np.exp(a * t) - (u0 - a * e0) * np.exp(b * t)) / (a - b)).real
    np.testing.assert_allclose(got, want, atol=1e-9)


def test_energy_falls_when_nothing_moves_and_a_steady_motion_leaves_no_trail():
    skin = SkinDynamics(SkinTime(modes=3, mode_damping=0.1), REST, HELD, wobbly())
    goal = moved()
    skin.step(goal, 0.01)
    energies = []
    for _ in range(60):
        skin.step(goal, 0.013)
        energies.append(float(skin.energy))
    assert energies[0] > 0
    assert (np.diff(energies) < 0).all()
    assert energies[-1] < 1e-3 * energies[0]
    for k in range(1, 400):
        shape = goal + k * 1e-5
        shown = skin.step(shape, 0.01)
    np.testing.assert_allclose(shown, shape, atol=1e-9)


def test_modes_of_the_face(twin):
    exact = twin.skin._exact
    modes = skin_modes(exact, 8)
    assert (np.diff(modes.frequencies) >= 0).all()
    assert 10 < modes.frequencies[0] < modes.frequencies[-1] < 40
    flat = modes.shapes.reshape(8, -1) * np.sqrt(np.repeat(modes.mass, 3))
    np.testing.assert_allclose(flat @ flat.T, np.eye(8), atol=2e-2)
    assert not modes.shapes[:, twin.kinematics.anchored].any()
    # each swings at its own frequency: Rayleigh's quotient
    for w, shape in zip(2 * np.pi * modes.frequencies, modes.shapes):
        assert shape.ravel() @ (exact._matrix @ shape.ravel()) == pytest.approx(w * w, rel=0.1)
    again = skin_modes(exact, 8)
    np.testing.assert_allclose(again.shapes, modes.shapes, atol=1e-9)


# --- a face on its way --------------------------------------------------------------------------


def test_looking_seldom_is_like_looking_always(twin):
    time = SkinTime(0.1, 0.3)
    seldom, always = MovingFace(twin, time), MovingFace(twin, time)
    spec, rng = twin.spec, np.random.default_rng(5)
    # motors leave one after the other: no straight way
    way = np.repeat(spec.rest[None], 61, axis=0)
    goal = spec.rest + 0.4 * (rng.random(26) - spec.rest)
    start = rng.integers(0, 30, 26)
    for k in range(61):
        way[k] += (goal - spec.rest) * np.clip((k - start) / 20, 0, 1)
    for p in way[1:]:
        fine = always.move(p[None], [0.005])
    coarse = seldom.move(way[1:], np.full(60, 0.005))
    motion = np.linalg.norm(fine.vertices - twin.face.rest, axis=1).max()
    error = np.linalg.norm(coarse.vertices - fine.vertices, axis=1).max()
    assert motion > 3e-3
    assert error < 0.01 * motion
    assert coarse.gap == twin.gap(coarse.vertices)  # of the shape that is shown
    still = seldom.move(np.repeat(way[-1:], 400, axis=0), np.full(400, 0.005))
    np.testing.assert_allclose(still.vertices, twin.move(way[-1]).vertices, atol=1e-5)


def test_turning_the_head_is_no_motion_of_the_skin(twin):
    face = MovingFace(twin, SkinTime(0.15, 0.3))
    command = twin.spec.rest.copy()
    face.move(command[None], [0.02])
    command[twin.spec.index("neck_yaw")] = 1.0
    state = face.move(command[None], [0.02])
    np.testing.assert_array_equal(state.vertices, twin.move(command).vertices)
    assert face.dynamics.to_come < 1e-12


def test_any_solver_will_do(twin):
    """A solver of which only shapes are known creeps like one that knows its slopes."""
    other = SimpleNamespace(**{k: getattr(twin, k) for k in ("spec", "face", "kinematics", "gap", "move")})
    other.skin = None
    command = twin.spec.rest + 0.1
    ways = np.linspace(twin.spec.rest, command, 5)[1:] + 0.02 * np.sin(np.arange(26))
    a = MovingFace(twin, CREEP).move(ways, np.full(4, 0.02))
    b = MovingFace(other, CREEP).move(ways, np.full(4, 0.02))
    np.testing.assert_allclose(a.vertices, b.vertices, atol=1e-5)


def test_wrong_questions(twin):
    skin = SkinDynamics(CREEP, REST, HELD)
    for call, words in (
        (lambda: skin.reset(REST[:3]), "not a shape"),
        (lambda: skin.reset(REST * np.nan), "not a shape"),
        (lambda: skin.step(REST[None], 0.1), "not a shape"),
        (lambda: skin.step(REST, -0.1), "bad time"),
        (lambda: skin.step(REST, np.nan), "bad time"),
        (lambda: SkinDynamics(SkinTime(modes=4), REST, HELD, wobbly(3)), "too few modes"),
        (lambda: skin_modes(twin.skin._exact, 0), "bad number of modes"),
        (lambda: MovingFace(twin, CREEP).move(np.zeros((0, 26)), []), "not a way"),
        (lambda: MovingFace(twin, CREEP).move(np.zeros((2, 26)), [0.1]), "not a way"),
    ):
        with pytest.raises(FaceTwinError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
