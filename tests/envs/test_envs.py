"""The environments as a Gymnasium user meets them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import facetwin.envs
from facetwin.envs.mimic import GOAL, Mimic, goal_distance
from facetwin.envs.mirror_babble import MirrorBabble
from facetwin.hardware.names import make_rig, open_rig
from facetwin.hardware.rig import ACTIVE, OPEN, Capabilities
from facetwin.hardware.safety import SafetyLayer
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import indices

pytestmark = pytest.mark.sim

BABBLE, MIMIC = "facetwin/MirrorBabble-v0", "facetwin/Mimic-v0"
QUICK = {"rig": "sim:?solver=linear", "size": 128}


@pytest.fixture(scope="module")
def babble():
    with gymnasium.make(BABBLE, render_mode="rgb_array", reward="novelty", **QUICK) as env:
        yield env


@pytest.fixture(scope="module")
def mimic():
    with gymnasium.make(MIMIC, **QUICK) as env:
        yield env


def run(env, seed, steps=3):
    """Observations, rewards and infos of an episode of random actions, as bytes."""
    env.action_space.seed(seed)
    out = [env.reset(seed=seed)]
    out += [env.step(env.action_space.sample()) for _ in range(steps)]
    return [pickle.dumps(o) for o in out], out


def one_line(error):
    return "\n" not in str(error.value)


# --- registration -----------------------------------------------------------------------------


def test_registering_again_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        facetwin.envs.register_envs()
        assert gymnasium.spec(BABBLE).max_episode_steps == 200
        assert gymnasium.spec(MIMIC).max_episode_steps == 50


@pytest.mark.parametrize("lines", [
    "gymnasium.make('facetwin.envs:facetwin/MirrorBabble-v0')",
    "import facetwin.envs; gymnasium.make('facetwin/Mimic-v0')",
])  # fmt: skip
def test_made_in_a_fresh_interpreter(lines):
    code = f"import warnings, gymnasium; warnings.simplefilter('error', UserWarning); {lines}.close()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_the_docstring_has_the_motors():
    rows = [line for line in MirrorBabble.__doc__.splitlines() if line.strip().startswith("| ")]
    names = make_rig("sim:").spec.names
    assert all(any(f"| {i} | {name} |" in row for row in rows) for i, name in enumerate(names))
    assert "{motors}" not in MirrorBabble.__doc__


# --- MirrorBabble -----------------------------------------------------------------------------


def test_what_is_seen(babble):
    seen, info = babble.reset(seed=3)
    assert babble.observation_space.contains(seen)
    assert seen["image"].shape == (128, 128, 3)
    assert seen["image"].std() > 10
    assert info["face_found"]
    assert info["safety"] == {}
    rest = babble.unwrapped.rig.spec.rest
    np.testing.assert_array_equal(info["sent"], rest)
    # in u: the outer eye corners are one apart, the face's left at positive x, brows above lips
    points = seen["landmarks"]
    assert np.linalg.norm(points[33] - points[263]) == pytest.approx(1, abs=0.02)
    assert points[263, 0] > 0 > points[33, 0]
    assert points[105, 1] > points[0, 1]
    np.testing.assert_array_equal(babble.render(), seen["image"])


def test_the_jaw_opens_the_mouth(babble):
    shut, before = babble.reset(seed=0)
    command = babble.unwrapped.rig.spec.rest.astype(np.float32)
    command[babble.unwrapped.rig.spec.index("jaw")] = 0.9
    open_, reward, terminated, truncated, info = babble.step(command)

    def gap(seen):
        return seen["landmarks"][13, 1] - seen["landmarks"][14, 1]

    assert gap(open_) > gap(shut) + 0.1
    assert info["gap_mm"] > before["gap_mm"] + 5
    assert reward > 0  # novelty
    assert (terminated, truncated) == (False, False)
    np.testing.assert_allclose(open_["commands"], command, atol=1e-6)
    again = babble.step(command)
    assert again[1] < reward / 4
    assert again[4]["safety"] == {}


def test_same_seed_same_bits(babble, mimic):
    for env in (babble, mimic):
        first, out = run(env, 7)
        run(env, 8, 1)
        assert run(env, 7)[0] == first
        other, _ = run(env, 8)
        assert all(a != b for a, b in zip(first, other))
        assert env.observation_space.contains(out[-1][0])


def test_same_seed_same_bits_in_a_fresh_one(babble):
    first, _ = run(babble, 7)
    with gymnasium.make(babble.spec) as fresh:  # while the other one is open
        assert run(fresh, 7)[0] == first
    assert run(babble, 7)[0] == first  # and after the other one was closed


def test_without_seed_episodes_differ(babble):
    babble.reset(seed=5)
    pictures = [babble.reset()[0]["image"] for _ in range(2)]
    assert (pictures[0] != pictures[1]).any()


def test_what_safety_changes_is_told(babble):
    babble.reset(seed=0)
    spec = babble.unwrapped.rig.spec
    command = spec.rest.copy()
    command[[spec.index("upper_lip_raise"), spec.index("upper_lip_roll")]] = 1.0  # forbidden together
    command[spec.index("jaw")] = 1.0  # the soft limit is .95
    command[0] = 1.5
    seen, *_, info = babble.step(command)
    told = info["safety"]
    assert told["range"] == {"neck_yaw": (1.5, 1.0)}
    assert told["soft limit"] == {"jaw": (1.0, 0.95)}
    assert any(rule.startswith("coupling: raised lip") for rule in told)
    np.testing.assert_allclose(seen["commands"], info["sent"], atol=1e-6)
    assert not np.allclose(info["sent"], np.clip(command, 0, 1))
    assert babble.reset(seed=0)[1]["safety"] == {}


def test_short_steps_are_told_to_be_under_way_and_truncated(babble):
    env = gymnasium.make(BABBLE, rig=babble.unwrapped.rig, settle=0.04, max_episode_steps=2)
    assert env.metadata["render_fps"] == 25
    env.reset(seed=0)
    for last in (False, True):
        _, reward, _, truncated, info = env.step(np.ones(26, np.float32))
        assert truncated == last
        assert reward == 0
        assert {"speed", "acceleration"} & set(info["safety"])
    env.close()


@pytest.mark.parametrize("action", [
    np.full(26, np.nan), np.full(26, np.inf), np.zeros(25), np.zeros((1, 26)), None, ["a"] * 26,
])  # fmt: skip
def test_wrong_actions(babble, action):
    babble.reset(seed=0)
    sent = babble.unwrapped.rig.read().commanded
    with pytest.raises(FaceTwinError, match="not a command") as error:
        babble.unwrapped.step(action)
    assert one_line(error)
    np.testing.assert_array_equal(babble.unwrapped.rig.read().commanded, sent)


def test_reset_goes_where_it_is_asked(babble):
    command = babble.unwrapped.rig.spec.rest.copy()
    command[15] = 0.7
    seen, info = babble.reset(seed=0, options={"command": command})
    np.testing.assert_allclose(seen["commands"], command, atol=1e-6)
    assert info["gap_mm"] > 5
    with pytest.raises(UsageError, match="did you mean command") as error:
        babble.reset(options={"comand": command})
    assert one_line(error)
    with pytest.raises(FaceTwinError, match="not a command"):
        babble.reset(options={"command": command[:3]})


def test_another_body_each_episode(babble):
    """Drawn with the episode's seed, told in info, gone with the next reset."""

    def episode(seed, options):
        seen, info = babble.reset(seed=seed, options=options)
        after = babble.step(np.full(26, 0.4, np.float32))[0]
        return pickle.dumps((seen, after, info.get("drawn"))), info

    plain, info = episode(3, None)
    assert "drawn" not in info
    drawn, info = episode(3, {"randomise": ["servo.*", "camera.*", "skin_time.*"]})
    assert {key.split(".")[0] for key in info["drawn"]} == {"servo", "camera", "skin_time"}
    rig = babble.unwrapped.rig
    assert rig.inner.body == rig.spec.with_(info["drawn"])
    skin = rig.inner._twin.skin
    assert drawn != plain
    assert episode(4, {"randomise": ["servo.*", "camera.*", "skin_time.*"]})[0] != drawn
    assert episode(3, {"randomise": ["servo.*", "camera.*", "skin_time.*"]})[0] == drawn
    assert rig.inner._twin.skin is skin
    assert episode(3, None)[0] == plain
    _, info = babble.reset(seed=3, options={"randomise": {"camera.mirror.noise": (3, 3)}})
    assert info["drawn"] == {"camera.mirror.noise": 3.0}
    babble.reset(seed=0)
    assert rig.inner.body == rig.spec


def test_another_skin_each_episode(mimic):
    first, info = run(mimic, 7, 1)
    assert "drawn" not in info[0][1]
    mimic.reset(seed=7, options={"randomise": True})
    one, info = mimic.reset(seed=7, options={"randomise": True})
    two, again = mimic.reset(seed=7, options={"randomise": True})
    assert info["drawn"] == again["drawn"]
    assert len(info["drawn"]) > 100
    assert pickle.dumps(one) == pickle.dumps(two)
    assert run(mimic, 7, 1)[0] == first


@pytest.mark.parametrize(("wrong", "words"), [
    ("camera.lens", "no such range"), ({"material.young": 3}, "not a range"),
    ({"material.young": (1, 2)}, "out of range"), (7, "not a choice"),
    ({"camera.mirror.width.factor": (2, 2)}, "another camera|whole number"),
])  # fmt: skip
def test_what_cannot_be_randomised(babble, wrong, words):
    with pytest.raises(UsageError, match=words) as error:
        babble.reset(seed=0, options={"randomise": wrong})
    assert one_line(error)
    assert "drawn" not in babble.reset(seed=0)[1]


def test_no_face_keeps_the_last_one(babble, monkeypatch):
    seen, _ = babble.reset(seed=0)
    monkeypatch.setattr(babble.unwrapped._tracker, "detect", lambda image, mirrored: None)
    blind, reward, *_, info = babble.step(np.full(26, 0.5, np.float32))
    assert not info["face_found"]
    assert reward == 0
    np.testing.assert_array_equal(blind["landmarks"], seen["landmarks"])
    assert not babble.reset(seed=0)[0]["landmarks"].any()


def test_closing_and_making_again():
    frames = []
    for _ in range(2):
        env = gymnasium.make(BABBLE, **QUICK)
        frames.append(env.reset(seed=1)[0]["image"])
        env.close()
        env.close()
    np.testing.assert_array_equal(*frames)
    for call in (lambda: env.unwrapped.reset(), lambda: env.unwrapped.step(np.zeros(26))):
        with pytest.raises(FaceTwinError, match="closed") as error:
            call()
        assert one_line(error)
    MirrorBabble(**QUICK).close()  # never opened


def test_step_before_reset():
    env = MirrorBabble(**QUICK)
    with pytest.raises(FaceTwinError, match="reset"):
        env.step(np.zeros(26))
    env.close()


@pytest.mark.parametrize("wrong", [
    {"rig": "nothing:"}, {"rig": "sim"}, {"rig": 3}, {"rig": "sim:?solvr=exact"}, {"size": 3},
    {"size": "big"}, {"size": (64, 64, 3)}, {"settle": 0}, {"settle": float("nan")}, {"settle": "long"},
    {"reward": "fame"}, {"render_mode": "human"}, {"rig_options": {"solvr": 1}},
])  # fmt: skip
def test_wrong_arguments(wrong):
    with pytest.raises(FaceTwinError) as error:
        MirrorBabble(**wrong)
    assert one_line(error)


def test_a_rig_of_ones_own_stays_open():
    rig = make_rig("sim:", solver="linear", size=160)
    rig.open()
    env = MirrorBabble(rig, size=(64, 96))
    assert isinstance(env.rig, SafetyLayer)
    seen, info = env.reset(seed=0)
    assert seen["image"].shape == (96, 64, 3)
    assert info["face_found"]
    assert rig.status.state == ACTIVE
    env.close()
    assert rig.status.state == OPEN
    rig.close()
    with pytest.raises(UsageError, match="given by name"):
        MirrorBabble(rig, rig_options={"seed": 1})


def test_another_rig_has_its_own_motors():
    with gymnasium.make(BABBLE, rig="sim:emo23") as env:
        assert env.action_space.shape == (23,)
        assert env.observation_space["commands"].shape == (23,)


# --- Mimic ------------------------------------------------------------------------------------


def test_the_goal_can_be_reached(mimic):
    seen, info = mimic.reset(seed=2)
    assert mimic.observation_space.contains(seen)
    assert info["distance"] == pytest.approx(goal_distance(seen["achieved_goal"], seen["desired_goal"]))
    far = info["distance"]
    for _ in range(2):
        seen, reward, _, _, info = mimic.step(info.get("goal_command", seen["observation"]))
    assert reward == pytest.approx(-info["distance"])
    assert info["distance"] < min(far / 2, mimic.unwrapped.threshold)
    assert info["is_success"]
    assert seen["desired_goal"].any()


def test_reward_of_one_and_of_many(mimic):
    env = mimic.unwrapped
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, 5, GOAL)).astype(np.float32)
    many = env.compute_reward(a, b, [{}] * 5)
    assert many.shape == (5,)
    assert [env.compute_reward(x, y, {}) for x, y in zip(a, b)] == pytest.approx(many.tolist())
    assert isinstance(env.compute_reward(a[0], b[0], {}), float)
    by_hand = -np.hypot(*(a[0] - b[0]).reshape(113, 2).T).mean()
    assert env.compute_reward(a[0], b[0], {}) == pytest.approx(by_hand, rel=1e-5)
    assert env.compute_reward(a, b[0], {}).shape == (5,)
    assert not env.compute_terminated(a[0], b[0], {})
    assert not env.compute_truncated(a[0], b[0], {})
    with pytest.raises(FaceTwinError, match="226"):
        env.compute_reward(a[:, :3], b, {})


def test_the_steps_reward_is_the_goals(mimic):
    mimic.reset(seed=0)
    mimic.action_space.seed(0)
    for _ in range(2):
        seen, reward, *_, info = mimic.step(mimic.action_space.sample())
        assert reward == mimic.unwrapped.compute_reward(seen["achieved_goal"], seen["desired_goal"], info)


def test_goals_of_ones_own(mimic):
    faces = np.random.default_rng(0).uniform(-1, 1, (3, 478, 3)).astype(np.float32)
    env = Mimic(mimic.unwrapped.rig, goals=faces, sparse=True)
    seen, info = env.reset(seed=0)
    assert "goal_command" not in info
    goals = faces[:, indices("face113"), :2].reshape(3, GOAL)
    assert (seen["desired_goal"] == goals).all(1).any()
    assert env.step(seen["observation"])[1] == -1.0
    env.close()
    seen, _ = mimic.reset(options={"goal": faces[1]})
    np.testing.assert_array_equal(seen["desired_goal"], goals[1])
    command = mimic.unwrapped.rig.spec.rest.copy()
    command[15] = 0.5
    _, info = mimic.reset(options={"goal_command": command})
    np.testing.assert_allclose(info["goal_command"], command)
    np.testing.assert_array_equal(info["sent"], mimic.unwrapped.rig.spec.rest)


@pytest.mark.parametrize("wrong", [
    {"goals": np.zeros((2, 7))}, {"goals": np.full((2, GOAL), np.nan)}, {"goals": np.zeros((0, GOAL))},
    {"goals": "x"}, {"goals": np.full((1, GOAL), 200.0)}, {"goal_spread": 0}, {"threshold": -1},
])  # fmt: skip
def test_wrong_goals(wrong):
    with pytest.raises(UsageError) as error:
        Mimic(**QUICK, **wrong)
    assert one_line(error)


def test_a_real_rig_needs_goals(monkeypatch):
    rig = make_rig("sim:", solver="linear", size=64)
    real = Capabilities(simulated=False, measures=True, camera=(64, 64, 3))
    monkeypatch.setattr(type(rig), "capabilities", real)
    with pytest.raises(UsageError, match="goals="):
        Mimic(rig)
    Mimic(rig, goals=np.zeros((1, GOAL))).close()


# --- Gymnasium's own checks -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [BABBLE, MIMIC])
def test_gymnasiums_checker(name):
    with gymnasium.make(name, render_mode="rgb_array", **QUICK) as env, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        check_env(env.unwrapped)


@pytest.mark.slow
@pytest.mark.parametrize("name", [BABBLE, MIMIC])
def test_the_exact_solver_is_reproducible(name):
    bits = []
    for _ in range(2):
        with gymnasium.make(name, size=128) as env:
            bits.append(run(env, 4, 2)[0])
    assert bits[0] == bits[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", [BABBLE, MIMIC])
def test_in_processes_of_their_own(name):
    envs = gymnasium.make_vec(
        name, num_envs=2, vectorization_mode="async", vector_kwargs={"context": "spawn"}, **QUICK
    )
    try:
        envs.action_space.seed(0)
        actions = envs.action_space.sample()
        envs.reset(seed=[3, 4])
        seen, rewards, _, _, info = envs.step(actions)
        assert rewards.shape == (2,)
        assert info["face_found"].all()
        assert info["sent"].shape == (2, 26)
    finally:
        envs.close()
    with gymnasium.make(name, **QUICK) as env:  # the same bits as in one process
        env.reset(seed=4)
        alone, *_ = env.step(actions[1])
    for key, value in alone.items():
        np.testing.assert_array_equal(seen[key][1], value)


@pytest.mark.slow
def test_a_layer_opened_by_name():
    with open_rig("sim:", solver="linear", size=128) as rig:
        env = MirrorBabble(rig)
        assert env.rig is rig
        env.reset(seed=0)
        env.close()
        assert rig.status.state == OPEN


BITS = """
import hashlib
from facetwin.envs.mimic import Mimic
env = Mimic("sim:?solver=linear", size=128)
env.reset(seed=4)  # a pose whose picture once depended on the order of drawing
print(hashlib.sha256(env.goal.tobytes()).hexdigest())
env.close()
"""


@pytest.mark.slow
def test_the_same_bits_in_every_interpreter():
    runs = [subprocess.run([sys.executable, "-c", BITS], capture_output=True, text=True) for _ in range(4)]
    assert len({done.stdout for done in runs}) == 1, [done.stdout for done in runs]
    assert runs[0].stdout, runs[0].stderr
