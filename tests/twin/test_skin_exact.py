from __future__ import annotations

import numpy as np
import pytest

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin import ExactSkin, LinearSkin, Material, Skin


@pytest.fixture(scope="module")
def skin(skin_mesh, anchors):
    return ExactSkin(skin_mesh.rest, skin_mesh.triangles, anchors.index, anchors.stiffness, Material())


@pytest.fixture(scope="module")
def smile(anchors):
    return anchors.goals(0.04, right=(-2, 2, 0), left=(2, 2, 0), upper=(0, 1, 0))


def test_is_a_skin(skin):
    assert isinstance(skin, Skin)
    assert isinstance(LinearSkin(skin), Skin)


def test_rest_stays(skin, anchors, skin_mesh):
    assert skin.solve(anchors.goals()) == pytest.approx(skin_mesh.rest, abs=1e-12)
    assert skin.report.converged


def test_gradient_is_that_of_the_energy(skin, smile):
    x = skin.solve(smile) + np.random.default_rng(0).normal(0, 1e-4, skin.rest.shape)
    gradient, idle = np.empty_like(x), np.empty_like(x)
    skin.energy(x, smile, gradient)
    d = np.random.default_rng(1).normal(0, 1, x.shape)
    d[anchors_held(skin)] = 0
    h = 1e-8
    slope = (skin.energy(x + h * d, smile, idle) - skin.energy(x - h * d, smile, idle)) / (2 * h)
    assert slope == pytest.approx((gradient * d).sum(), rel=1e-5)


def anchors_held(skin):
    return skin.anchored[np.isinf(skin.stiffness)]


def test_energy_falls_in_every_iteration(skin, smile):
    _, report = skin.solve_report(smile, tolerance=1e-6, trace=True)
    assert report.converged
    assert report.iterations > 3
    for energies in report.trace:
        assert (np.diff(energies) <= 0).all()


def test_prescribed_vertices_are_where_they_should_be(skin, smile):
    held = np.isinf(skin.stiffness)
    assert skin.solve(smile)[skin.anchored[held]] == pytest.approx(smile[held], abs=1e-12)


def test_forces_balance(skin, smile):
    x, _ = skin.solve_report(smile, tolerance=1e-8)
    gradient = np.empty_like(x)
    skin.energy(x, smile, gradient)
    assert np.abs(gradient).max() < 1e-4  # N


def test_rigid_motion_of_the_anchors_moves_the_skin_rigidly(skin, anchors, skin_mesh):
    a = 0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    shift = np.array((0.004, -0.003, 0.002))
    x, report = skin.solve_report(anchors.goals() @ turn.T + shift, tolerance=1e-6)
    assert report.converged
    assert x == pytest.approx(skin_mesh.rest @ turn.T + shift, abs=2e-5)


def test_symmetric_goals_give_a_symmetric_face(skin, smile, skin_mesh):
    x, _ = skin.solve_report(smile, tolerance=1e-6)
    assert x[skin_mesh.mirror] * (-1, 1, 1) == pytest.approx(x, abs=1e-6)


def test_linear_skin_is_the_small_motion_limit(skin, smile, skin_mesh):
    linear = LinearSkin(skin)
    tiny = skin_mesh.rest[skin.anchored] + 1e-3 * (smile - skin_mesh.rest[skin.anchored])
    exact, _ = skin.solve_report(tiny, tolerance=1e-10)
    motion = linear.solve(tiny) - skin_mesh.rest
    assert np.abs(motion).max() > 1e-6
    assert exact - skin_mesh.rest == pytest.approx(motion, abs=0.02 * np.abs(motion).max())


def test_jacobian_tabulates_commands(skin, anchors, smile):
    linear = LinearSkin(skin)
    way = smile - anchors.goals()
    table = linear.jacobian(np.stack([way, 2 * way]))
    assert table.shape == (2, *skin.rest.shape)
    assert table[1] == pytest.approx(2 * table[0])
    assert skin.rest + table[0] == pytest.approx(linear.solve(smile))


def test_warm_and_cold_start_agree(skin, anchors, smile):
    cold, _ = skin.solve_report(smile, tolerance=1e-6)
    start = skin.solve(anchors.goals(0.02))
    warm, report = skin.solve_report(smile, start, tolerance=1e-6)
    assert report.converged
    assert warm == pytest.approx(cold, abs=5e-5)


def test_same_calls_give_the_same_bits(skin, anchors, smile):
    runs = []
    for _ in range(2):
        x = skin.solve(anchors.goals(0.02))
        runs.append(skin.solve(smile, x))
    assert (runs[0] == runs[1]).all()


def test_both_factors_agree(skin, skin_mesh, anchors, smile):
    plain = ExactSkin(skin_mesh.rest, skin_mesh.triangles, anchors.index, anchors.stiffness, backend="splu")
    assert plain.factor.backend == "splu"
    a, _ = plain.solve_report(smile, tolerance=1e-7)
    b, _ = skin.solve_report(smile, tolerance=1e-7)
    assert a == pytest.approx(b, abs=1e-5)


def test_iterations_run_out_is_said(skin_mesh, anchors, smile):
    hasty = ExactSkin(skin_mesh.rest, skin_mesh.triangles, anchors.index, anchors.stiffness, limit=1)
    _, report = hasty.solve_report(smile, tolerance=1e-9)
    assert not report.converged
    assert report.step > 1e-9
    assert hasty.report is report


def sheet(n):
    """A 40 mm sheet on an n by n grid, one edge held, the other pulled, lifted and twisted: (n, n, 3)."""
    side = np.linspace(0, 0.04, n)
    x, y = np.meshgrid(side, side)
    rest = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
    i = np.arange(n * n).reshape(n, n)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel(), i[1:, :-1].ravel()
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    held = np.concatenate([i[0], i[-1]])
    c, s = np.cos(0.6), np.sin(0.6)
    goals = rest[held].copy()
    turned = (goals[n:] - (0.02, 0.04, 0)) @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]).T
    goals[n:] = turned + np.array((0.02, 0.046, 0.008))
    x, report = ExactSkin(rest, triangles, held, np.inf).solve_report(goals, tolerance=1e-7)
    assert report.converged
    return x.reshape(n, n, 3)


def test_equilibrium_converges_as_the_mesh_is_refined():
    coarse, middle, fine = (x[:: (len(x) - 1) // 8, :: (len(x) - 1) // 8] for x in map(sheet, (9, 17, 33)))
    first = np.linalg.norm(middle - coarse, axis=-1)
    second = np.linalg.norm(fine - middle, axis=-1)
    assert second.mean() < 0.5 * first.mean()
    assert second.max() < 0.6 * first.max() < 1e-4  # of 6 mm of stretch and 11 of lift


def test_tangent_solves_what_the_stiffness_says(skin, smile):
    right = np.random.default_rng(4).normal(size=skin.rest.size) * skin._free
    skin._tangent.to_rest()
    step = skin._tangent.up(skin._tangent.down(right))
    exact = skin.factor.solve(right)
    # the same but for the coupling of hinges, which it leaves out: a good guess, and a descent
    assert step @ exact > 0.9 * np.linalg.norm(step) * np.linalg.norm(exact)
    assert step @ right > 0


def test_the_pose_factor_needs_fewer_steps_than_the_one_at_rest(skin, anchors, smile):
    skin.solve(smile)
    x, _ = skin.solve_report(smile, tolerance=1e-6)
    skin._refresh(x)
    again, report = skin.solve_report(smile + 1e-4, x, tolerance=1e-6)
    assert report.converged
    assert report.iterations < 12
    assert again.shape == x.shape


def test_two_ways_to_one_pose_agree_or_are_called_buckled(skin, anchors, smile):
    found = skin.branches(smile, skin.solve(anchors.goals(0.02)))
    assert found.path.converged
    assert found.rest.converged
    assert not found.buckled
    assert found.farthest < 1e-4


def test_a_snapped_dome_is_called_buckled():
    side = np.linspace(-0.02, 0.02, 13)
    x, y = np.meshgrid(side, side)
    rest = np.stack([x, y, 0.006 * np.cos(x * np.pi / 0.04) * np.cos(y * np.pi / 0.04)], -1).reshape(-1, 3)
    i = np.arange(169).reshape(13, 13)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel(), i[1:, :-1].ravel()
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    edge = np.unique(np.concatenate([i[0], i[-1], i[:, 0], i[:, -1]]))
    dome = ExactSkin(rest, triangles, edge, np.inf, Material(thickness=1e-3))
    inverted = rest * (1, 1, -1)
    found = dome.branches(rest[edge], inverted)
    assert found.path.converged
    assert found.rest.converged
    assert found.buckled
    assert found.farthest > 5e-3


def test_bad_goals_are_refused(skin, anchors):
    goals = anchors.goals()
    with pytest.raises(FaceTwinError, match=r"goals: wrong shape.*expected"):
        skin.solve(goals[:-1])
    broken = goals.copy()
    broken[7, 1] = np.nan
    with pytest.raises(FaceTwinError, match=r"goals\[7\]: not finite"):
        skin.solve(broken)
    with pytest.raises(FaceTwinError, match="start: wrong shape"):
        skin.solve(goals, start=goals)
    with pytest.raises(FaceTwinError, match="tangents"):
        LinearSkin(skin).jacobian(goals)


@pytest.mark.parametrize(
    ("anchored", "stiffness", "message"),
    [
        ([0, 99999], 1.0, "out of range"),
        ([0, 0], 1.0, "twice"),
        ([0, 1], -1.0, "not a spring"),
        ([0, 1], np.nan, "not a spring"),
        ([], 1.0, "no anchored"),
    ],
)
def test_bad_anchors_are_refused(skin_mesh, anchored, stiffness, message):
    with pytest.raises(FaceTwinError, match=message):
        ExactSkin(skin_mesh.rest, skin_mesh.triangles, anchored, stiffness)
