import itertools

import numpy as np
import pytest

from facetwin.policies.babble import BABBLERS, babbler, key_pose, symmetrise
from facetwin.policies.controller import SpeechController
from facetwin.policies.inverse import InverseModel, command_errors
from facetwin.policies.mirror import Mirror
from facetwin.policies.retarget import (
    FROM_SPEECH,
    INTO_FACE,
    PARTS,
    Hull,
    Retarget,
    face_opening,
    lost_parts,
)
from facetwin.policies.selfmodel import SelfModel, mirror_motors, with_mirror_images
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import canonical, indices
from facetwin.twin.spec import load_rig

SPEC = load_rig()


def toy_world(n, seed):
    """Babble of a make-believe face whose landmarks and gap follow the commands in a known smooth way."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    commands = rng.uniform(size=(n, 26)).astype(np.float32)
    ways = fixed.normal(0, 0.02, (26, 113, 2))
    partner, turned = mirror_motors(SPEC)
    both = Mirror(np.eye(26, dtype=np.float32), ways.astype(np.float32), np.zeros((26, 3), np.float32),
                  np.zeros(26, np.float32), np.ones(26, bool), np.zeros(26, int))  # fmt: skip
    flipped = with_mirror_images(both, SPEC).face[26:]
    ways = (ways + flipped[partner]) / 2  # a symmetric world
    ways[turned] = 0
    face = canonical()[indices("face113"), :2] + np.einsum("nm,mpk->npk", np.sin(2 * commands - 1), ways)
    jaw = SPEC.index("jaw")
    gap = (20 * commands[:, jaw] ** 2).astype(np.float32)
    return Mirror(commands, face.astype(np.float32), np.zeros((n, 3), np.float32), gap,
                  np.ones(n, bool), np.arange(n) // (n // 10))  # fmt: skip


@pytest.mark.parametrize("name", sorted(BABBLERS))
def test_babblers_stay_in_range_and_repeat_with_their_seed(name):
    a, b = (list(itertools.islice(babbler(name, SPEC, np.random.default_rng(3)), 40)) for _ in range(2))
    assert np.array_equal(a, b)
    assert np.min(a) >= 0
    assert np.max(a) <= 1
    assert np.std(a, axis=0).min() > 0.005  # every motor moves


def test_unknown_babbler_names_the_known_ones():
    with pytest.raises(UsageError, match="mouthing"):
        babbler("shouting", SPEC, np.random.default_rng(0))


def test_symmetrise_is_idempotent_and_symmetric():
    c = symmetrise(SPEC, np.random.default_rng(0).uniform(size=26))
    assert np.array_equal(symmetrise(SPEC, c), c)
    partner, turned = mirror_motors(SPEC)
    other = c[partner].copy()
    other[turned] = 1 - other[turned]
    keep = [i for i, n in enumerate(SPEC.names) if "eye_yaw" not in n]
    assert np.allclose(other[keep], c[keep])
    assert key_pose(SPEC, "neutral") == pytest.approx(SPEC.rest)


def test_mirror_images_of_mirror_images_are_the_originals():
    world = toy_world(20, 0)
    twice = with_mirror_images(with_mirror_images(world, SPEC), SPEC)
    assert np.allclose(twice.commands[60:], world.commands, atol=1e-6)
    assert np.allclose(twice.face[60:], world.face, atol=1e-6)


def test_splits_are_by_run():
    train, check, test = toy_world(200, 1).split()
    assert len(train) == 160
    assert not set(train.run) & set(test.run)
    assert not set(check.run) & set(test.run)
    with pytest.raises(UsageError, match="too little babble"):
        toy_world(200, 1)[:20].split()


@pytest.fixture(scope="module")
def learned():
    world = toy_world(1500, 2)
    train, check, test = world.split()
    side = {"motors": list(SPEC.names), "rig": "face26", "rest": SPEC.rest.tolist()}
    model = SelfModel.fit(train, check, spec=SPEC, epochs=25, seed=0)
    model.sidecar = side
    inverse = InverseModel.fit(train, check, spec=SPEC, epochs=12, combine=0.0, seed=0)
    inverse.sidecar = side
    return model, inverse, train, test


def test_the_self_model_learns_a_smooth_world(learned):
    model, _, train, test = learned
    face, gap = model.predict(test.commands)
    error = np.linalg.norm(face - test.face, axis=2).mean()
    frozen = np.linalg.norm(train.face.mean(0) - test.face, axis=2).mean()
    assert error < 0.25 * frozen
    assert np.abs(gap - test.gap).mean() < 1.0


def test_the_inverse_model_beats_its_baselines(learned):
    _, inverse, train, test = learned
    errors = {k: v.mean() for k, v in command_errors(inverse, train, test).items()}
    assert errors["inverse model"] < 0.8 * min(errors["nearest"], errors["mean"], errors["random"])
    assert errors["random"] == pytest.approx(1 / 3, abs=0.03)


def test_batch_equals_single(learned):
    model, inverse, _, test = learned
    many = inverse.predict(test.face[:8], test.turn[:8])
    one = np.concatenate([inverse.predict(test.face[k : k + 1], test.turn[k : k + 1]) for k in range(8)])
    assert np.allclose(many, one, atol=1e-5)
    assert np.allclose(
        model.predict(test.commands[:8])[0][3], model.predict(test.commands[3:4])[0][0], atol=1e-5
    )


def test_equation_one_and_the_edge_of_reach():
    static = canonical()[indices("face113"), :2].astype(np.float32)
    rng = np.random.default_rng(0)
    faces = np.repeat(static[None], 400, 0)
    faces[:, INTO_FACE] += 0.05 * rng.uniform(
        -1, 1, (400, 1, 1)
    )  # all points go together, so far and no further
    retarget = Retarget(static, Hull.fit(faces), alpha=0.5)
    wish = np.zeros((4, 63, 2), np.float32)
    wish[1] = 0.08
    wish[2] = 0.4
    wish[3, ::2] = 0.4  # not together: no such face
    face, asked = retarget(wish), retarget.wish(wish)
    assert np.allclose(asked[2, INTO_FACE], static[INTO_FACE] + 0.2, atol=1e-6)
    assert np.allclose(face[0], static, atol=1e-5)
    assert np.allclose(face[1, INTO_FACE], static[INTO_FACE] + 0.04, atol=1e-4)
    assert np.allclose(face[2, INTO_FACE], static[INTO_FACE] + 0.05, atol=2e-3)
    moved = face[3, INTO_FACE] - static[INTO_FACE]
    assert np.allclose(moved, moved[0], atol=2e-3)
    assert np.allclose(retarget.hull.nearest(face), face, atol=1e-5)  # a projection
    lost = lost_parts(asked, face)
    assert tuple(lost) == PARTS
    assert lost["lips"][1] == pytest.approx(0, abs=1e-4)
    assert lost["lips"][2] == pytest.approx(0.15 * np.sqrt(2), rel=0.02)
    assert len(FROM_SPEECH) == len(INTO_FACE) == 51


def test_what_was_lost_has_signs():
    static = canonical()[indices("face113"), :2].astype(np.float32)[None]
    wish = static.copy()
    place = list(indices("face113"))
    wish[0, place.index(14), 1] -= 0.03
    wish[0, place.index(61), 0] += 0.02
    lost = lost_parts(wish, static)
    assert lost["opening"][0] == pytest.approx(0.03, abs=1e-5)
    assert lost["width"][0] == pytest.approx(0.02, abs=1e-3)
    assert lost["jaw"][0] == 0


def test_the_controller_follows_through_the_self_model(learned):
    model, inverse, _, _ = learned
    controller = SpeechController(SPEC, model=model, inverse=inverse)
    t = np.arange(50) / 25
    wish = np.zeros((50, 63, 2), np.float32)
    lower = [k for k, p in enumerate(indices("speech63")) if p in (14, 87, 317, 17, 84, 314)]
    wish[:, lower, 1] = -0.03 * (1 - np.cos(2 * np.pi * t))[:, None]
    commands = controller.commands(wish)
    assert commands.shape == (50, 26)
    low, high = SPEC.soft_limits
    assert (commands >= low - 1e-6).all()
    assert (commands <= high + 1e-6).all()
    face, _ = model.predict(commands)
    wanted = face_opening(controller.retarget(wish))
    assert controller.lost["lips"].shape == (50,)
    assert np.corrcoef(face_opening(face), wanted)[0, 1] > 0.8
    still = [i for i, m in enumerate(SPEC.motors) if m.group not in ("jaw", "lips")]
    assert np.allclose(commands[:, still], SPEC.rest[still])


def test_weights_come_back_and_strangers_are_refused(learned, tmp_path):
    model, inverse, _, test = learned
    side = {
        **model.sidecar,
        "data": "toy",
        "licence": "x",
        "command": "x",
        "commit": "x",
        "seed": 0,
        "scores": {},
    }
    model.save(tmp_path / "self.safetensors", side)
    inverse.save(tmp_path / "inverse.safetensors", side)
    again = SelfModel.load(tmp_path / "self.safetensors")
    assert np.allclose(again.predict(test.commands)[0], model.predict(test.commands)[0])
    twice = InverseModel.load(tmp_path / "inverse.safetensors")
    assert np.abs(twice.predict(test.face) - inverse.predict(test.face)).max() < 5e-3  # halves
    with pytest.raises(FaceTwinError, match=r"weights of another (model|shape)"):
        SelfModel.load(tmp_path / "inverse.safetensors")
    with pytest.raises(UsageError, match="no self model for this rig"):
        SelfModel.load(load_rig("emo23"))
    other = SelfModel.load(tmp_path / "self.safetensors")
    other.sidecar = {**side, "motors": ["jaw"]}
    with pytest.raises(FaceTwinError, match="weights of another rig"):
        SpeechController(SPEC, model=other, inverse=twice)


def test_a_wish_that_is_no_displacement_is_refused(learned):
    model, inverse, _, _ = learned
    controller = SpeechController(SPEC, model=model, inverse=inverse)
    with pytest.raises(FaceTwinError, match="not a displacement"):
        controller.commands(np.full((4, 63, 2), np.nan))
    assert controller.commands(np.zeros((0, 63, 2))).shape == (0, 26)
