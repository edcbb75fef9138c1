"""The fast skin: what it promises whatever it was fitted to, and what the shipped one was certified for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from facetwin import assets
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.skin import LinearSkin, Skin
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.skin.fast_descent import SOFT, descend, regress
from facetwin.twin.skin.fast_features import Features, Motors, check_mirror, goal_matrix
from facetwin.twin.skin.fast_net import FastNet, mlp
from facetwin.twin.skin.fast_poses import Poses, adopt, load_poses, save_shard, solve_poses
from facetwin.twin.skin.fast_train import Recipe, _blocks, certify, fit, save
from facetwin.twin.spec import load_rig
from facetwin.twin.twin import build_skin

pytestmark = pytest.mark.sim

SPEC = load_rig("face26")
TINY = Recipe(modes=28, hidden=16, head=8, steps=80, members=2)


@pytest.fixture(scope="module")
def kinematics():
    return Kinematics(SPEC, load_face())


@pytest.fixture(scope="module")
def exact(kinematics):
    return build_skin(SPEC, kinematics.face, kinematics)


@pytest.fixture(scope="module")
def linear_poses(kinematics, exact):
    """Poses of the linear skin: quick to have, and known to be in reach of the fast one."""
    linear = LinearSkin(exact)
    at = np.random.default_rng(0).uniform(size=(60, SPEC.size))
    shapes = np.array([linear.solve(kinematics.goals(a)) for a in at], np.float32)
    return Poses(at, shapes, np.ones(60, bool), np.arange(60) // 4)


@pytest.fixture(scope="module")
def skin(linear_poses, kinematics, exact):
    train, check, _ = linear_poses.split()
    dreams = np.random.default_rng(1).uniform(size=(40, SPEC.size))
    fitted = fit(train, check, dreams, kinematics, exact, TINY)
    # a residual of a millimetre or so, so that what follows is not about zeros
    with torch.no_grad():
        fitted.net.shape[-1].bias.normal_(0, 3e-4)
    return fitted.only(np.arange(len(fitted.rest)))


@pytest.fixture(scope="module")
def at():
    return np.random.default_rng(2).uniform(size=(70, SPEC.size))  # more than a chunk


def test_is_a_skin(skin):
    assert isinstance(skin, Skin)


def test_goals_are_linear_in_the_features(kinematics, at):
    features = Features(SPEC)
    made = features.array(at[:5]) @ goal_matrix(features, kinematics)
    true = np.array([kinematics.goals(a) - kinematics.goals(SPEC.rest) for a in at[:5]])
    assert made.reshape(true.shape) == pytest.approx(true, abs=1e-12)
    moving = np.abs(kinematics.tangents()).max((1, 2)) > 0
    assert features.motors.tolist() == np.flatnonzero(moving).tolist()


def test_motors_are_found_from_goals(kinematics, at):
    features = Features(SPEC)
    motors = Motors(features, kinematics)
    for a in at[:5]:
        assert motors(kinematics.goals(a))[features.motors] == pytest.approx(a[features.motors], abs=1e-9)
    astray = kinematics.goals(SPEC.rest)
    astray[0, 0] += 1e-3
    with pytest.raises(FaceTwinError, match="do not make"):
        motors(astray)


def test_the_linear_skin_is_learned_exactly(linear_poses, kinematics, exact):
    train, check, test = linear_poses.split()
    fitted = fit(
        train, check, np.empty((0, SPEC.size)), kinematics, exact, Recipe(modes=28, steps=1, members=0)
    )
    table = certify(fitted, test, exact)
    assert table["fast"]["vertices"]["max"] < 1e-3
    assert table["linear"]["vertices"]["max"] < 1e-3
    assert table["fast"]["vertices"]["motion"] > 1
    assert table["flagged"] == 0


def test_batch_single_and_gradient_path_agree(skin, at):
    batch = skin(torch.from_numpy(at))
    traced = skin(torch.from_numpy(at).requires_grad_())
    assert torch.equal(batch.trust, traced.trust)
    for name in ("vertices", "gap", "error"):
        torch.testing.assert_close(getattr(batch, name), getattr(traced, name).detach(), rtol=1e-4, atol=1e-7)
    for row in (0, 63, 64, 69):
        one = skin.shape(at[row])
        assert one.vertices == pytest.approx(batch.vertices[row].numpy(), abs=1e-7)
        assert one.gap == pytest.approx(float(batch.gap[row]), abs=1e-7)
        assert one.error == pytest.approx(float(batch.error[row]), rel=1e-4)
        assert one.trust == bool(batch.trust[row])


def test_a_batch_does_not_depend_on_the_others(skin, at):
    whole = skin(torch.from_numpy(at)).vertices
    few = skin(torch.from_numpy(at[:3])).vertices
    torch.testing.assert_close(few, whole[:3], rtol=0, atol=1e-7)
    for count in (0, 1, 16, 17):  # none, and about as many as go through the layers together
        part = skin(torch.from_numpy(at[:count]).float())
        torch.testing.assert_close(part.vertices, whole[:count], rtol=0, atol=1e-6)
        assert part.gap.shape == part.error.shape == part.trust.shape == (count,)
    again = torch.zeros_like(whole)
    assert skin(torch.from_numpy(at), out=again).vertices is again
    assert torch.equal(again, whole)


def test_only_some_points(skin, at):
    points = np.array([13, 14, 263, 33, 1500, 13])
    some, every = skin.only(points), skin(torch.from_numpy(at))
    got = some(torch.from_numpy(at))
    torch.testing.assert_close(got.vertices, every.vertices[:, points], rtol=0, atol=1e-7)
    torch.testing.assert_close(got.gap, every.gap)
    assert some.shape(at[0]).vertices == pytest.approx(every.vertices[0, points].numpy(), abs=1e-7)
    traced = some(torch.from_numpy(at).requires_grad_()).vertices.detach()
    torch.testing.assert_close(traced, got.vertices, rtol=0, atol=1e-7)
    for wrong in ([-1], [99999], [], [[1]], [0.5]):
        with pytest.raises(UsageError, match="not skin vertices"):
            skin.only(wrong)


def test_mirrored_command_mirrored_face(skin, at):
    f = skin.net.features
    other = at.copy()
    other[:, f.motors] = at[:, f.motors[f.mirror]]
    one, two = skin(torch.from_numpy(at)), skin(torch.from_numpy(other))
    flipped = one.vertices.numpy()[:, skin._mirror] * np.array((-1, 1, 1), np.float32)
    assert two.vertices.numpy() == pytest.approx(flipped, abs=1e-7)
    assert two.gap.numpy() == pytest.approx(one.gap.numpy(), abs=1e-7)


def test_gradient_agrees_with_finite_differences(linear_poses, kinematics, exact):
    train, check, _ = linear_poses.split()
    fitted = fit(train, check, np.empty((0, SPEC.size)), kinematics, exact, TINY)
    with torch.no_grad():
        fitted.net.shape[-1].weight.normal_(0, 1e-3)
    fitted.net.double()
    at = torch.rand(3, SPEC.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(3, len(fitted.rest), 3, generator=torch.Generator().manual_seed(1)).double()

    def value(position):
        shapes = fitted(position.requires_grad_())
        return (shapes.vertices * weight).sum() + 10 * shapes.gap.sum() + 10 * shapes.error.sum()

    position = at.clone()
    (slope,) = torch.autograd.grad(value(position), position)
    way = torch.randn(at.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    h = 1e-6
    steep = (value(at + h * way) - value(at - h * way)) / (2 * h)
    assert float((slope * way).sum()) == pytest.approx(steep.item(), rel=1e-6)
    still = np.setdiff1d(np.arange(SPEC.size), fitted.net.features.motors)
    assert (slope[:, still] == 0).all()


def test_what_is_out_of_range_is_not_trusted(skin):
    jaw = SPEC.index("jaw")
    at = SPEC.rest.copy()
    generous = skin.only(skin.points)
    generous.threshold = np.inf
    assert generous.shape(at).trust
    at[jaw] = 1.2
    assert not generous.shape(at).trust
    assert not generous(torch.from_numpy(at[None])).trust[0]


def test_bad_input(skin):
    for bad in (np.zeros(25), np.full(26, np.nan), np.zeros((1, 26))):
        with pytest.raises(FaceTwinError, match="not a motor position"):
            skin.shape(bad)
    for wrong in (torch.zeros(26), torch.zeros(2, 25), torch.zeros(2, 26, dtype=torch.int64)):
        with pytest.raises(FaceTwinError, match="not motor positions"):
            skin(wrong)
    with pytest.raises(FaceTwinError, match="not finite"):
        skin(torch.full((2, 26), float("nan")))
    with pytest.raises(FaceTwinError, match="wrong shape"):
        skin(torch.zeros(2, 26), out=torch.zeros(3, len(skin.points), 3))


def test_flagged_poses_go_to_exact(skin, kinematics, exact):
    at = SPEC.rest.copy()
    at[SPEC.index("jaw")] = 0.1
    true = exact.solve(kinematics.goals(at))
    wary = skin.only(skin.points)
    wary.threshold = 0.0
    assert np.abs(wary.solve(kinematics.goals(at)) - true).max() > 1e-5
    assert not wary.report.converged
    wary.backup = exact
    assert wary.solve(kinematics.goals(at)) == pytest.approx(true, abs=1e-12)
    assert wary.shape(at).vertices == pytest.approx(true, abs=1e-7)
    position = torch.from_numpy(np.stack([at, SPEC.rest]))
    assert wary.mended(position, wary(position), exact)[0] == pytest.approx(true, abs=1e-7)


def test_written_out_gradients_are_those_of_autograd():
    torch.manual_seed(0)
    ours, theirs = mlp(3, 8, 6, 3), mlp(3, 8, 6, 3)
    theirs.load_state_dict(ours.state_dict())
    x, goal = torch.randn(50, 3), torch.randn(50, 6)
    how = {"steps": 40, "batch": 50, "rate": 1e-2, "decay": 1e-2}
    regress(ours, x, goal, 2, **how)

    def length(out, want, rows):
        return ((out - want).view(-1, 2, 3).square().sum(-1) + SOFT).sqrt().mean(-1)

    descend(theirs, x, goal, length, **how)
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a.detach(), b.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 3])
def test_any_depth(kinematics, at, layers):
    features = Features(SPEC)
    columns = _blocks(kinematics.face, 4)
    torch.manual_seed(0)
    net = FastNet(features, 4, 5, columns.shape[1], 12, 8, layers)
    net.basis.normal_(0, 1e-2)
    net.linear.normal_(0, 1e-2)
    deep = FastSkin(net, kinematics, columns, 1.0)
    batch, traced = deep(torch.from_numpy(at)), deep(torch.from_numpy(at).requires_grad_())
    torch.testing.assert_close(batch.vertices, traced.vertices.detach(), rtol=0, atol=1e-7)
    assert deep.shape(at[3]).vertices == pytest.approx(batch.vertices[3].numpy(), abs=1e-7)


def test_save_and_load(skin, at, tmp_path):
    path = tmp_path / "skin.safetensors"
    save(path, skin, {"seed": 0})
    loaded = FastSkin.load(SPEC, path=path)
    assert torch.equal(loaded(torch.from_numpy(at)).vertices, skin(torch.from_numpy(at)).vertices)
    assert loaded.threshold == skin.threshold
    FastSkin.load(SPEC.with_({"camera.mirror.noise": 0.0, "servo.latency": 0.03}), path=path)
    with pytest.raises(FaceTwinError, match="another rig"):
        FastSkin.load(SPEC.with_({"material.young": 9e4}), path=path)
    side = path.with_suffix(".json")
    facts = json.loads(side.read_text())
    side.write_text(json.dumps({**facts, "mesh_hash": "0"}))
    with pytest.raises(FaceTwinError, match="another mesh"):
        FastSkin.load(SPEC, path=path)
    side.write_text(json.dumps(facts))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(FaceTwinError, match="do not open"):
        FastSkin.load(SPEC, path=path)
    side.unlink()
    with pytest.raises(UsageError, match="no such weights"):
        FastSkin.load(SPEC, path=tmp_path / "none.safetensors")


def test_only_symmetric_rigs(kinematics):
    lopsided = SPEC.with_({"motor.left_corner_up.pull.travel": 0.02})
    with pytest.raises(FaceTwinError, match="not left-right symmetric"):
        check_mirror(Features(lopsided), Kinematics(lopsided, kinematics.face))


def test_poses_of_a_rearranged_solver_are_taken_over(kinematics, exact, tmp_path):
    old, new, other = (tmp_path / name for name in ("old", "new", "other"))
    for folder in (old, new, other):
        folder.mkdir()
    solved = solve_poses(exact, kinematics, SPEC.rest[None])
    for number in (3, 8):
        save_shard(old, number, solved)
    assert adopt(new, old, exact, kinematics) == 0
    assert load_poses(new, (3, 8)).shard.tolist() == [3, 8]
    solved.vertices[0, 5, 1] += 1e-5
    save_shard(old, 8, solved)
    assert adopt(other, old, exact, kinematics) == pytest.approx(1e-5, rel=1e-2)
    assert not list(other.iterdir())


def test_poses_are_kept_and_split_by_shard(kinematics, exact, tmp_path):
    solved = solve_poses(exact, kinematics, SPEC.rest[None], tolerance=1e-4)
    for number in (0, 8, 19):
        save_shard(tmp_path, number, solved)
    parts = load_poses(tmp_path, (0, 8, 19)).split()
    assert [part.shard.tolist() for part in parts] == [[0], [8], [19]]
    assert parts[0].vertices[0] == pytest.approx(kinematics.face.rest, abs=1e-6)
    with pytest.raises(UsageError, match="too few"):
        load_poses(tmp_path, (0,)).split()
    (tmp_path / "shard-00008.safetensors").write_bytes(b"torn")
    with pytest.raises(FaceTwinError, match="not a shard"):
        load_poses(tmp_path, (0, 8))


@pytest.mark.skipif(
    not assets.path("skins", "fast_face26.safetensors").is_file(), reason="no fast skin ships: train it"
)
class TestShipped:
    @pytest.fixture(scope="class")
    def shipped(self):
        return FastSkin.load(SPEC)

    def test_says_where_it_comes_from(self, shipped):
        facts = shipped.sidecar
        for key in (
            "data",
            "licence",
            "command",
            "commit",
            "seed",
            "poses",
            "skin_hash",
            "mesh_hash",
            "scores",
        ):
            assert facts[key] not in (None, "", {})
        scores = facts["scores"]
        assert scores["fast"]["vertices"]["mean"] < scores["linear"]["vertices"]["mean"] / 4
        assert {"lips", "chin", "cheeks", "lids", "brows", "landmarks"} <= set(scores["fast"])

    def test_is_as_wrong_as_it_says(self, shipped, kinematics, exact):
        at = np.random.default_rng(5).normal(SPEC.rest, 0.1, (4, SPEC.size)).clip(0, 0.95)
        true = solve_poses(exact, kinematics, at).vertices
        off = np.linalg.norm(shipped(torch.from_numpy(at)).vertices.numpy() - true, axis=2)
        # near rest, where poses are easier than those of the certificate
        assert off.mean() * 1e3 < 2 * shipped.sidecar["scores"]["fast"]["vertices"]["mean"]

    def test_rest_is_trusted_and_stays(self, shipped):
        shape = shipped.shape(SPEC.rest)
        assert shape.trust
        assert np.linalg.norm(shape.vertices - shipped.rest, axis=1).max() < 1e-3
