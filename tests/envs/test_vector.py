"""The batch does what single environments do."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import facetwin.envs  # noqa: F401
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.skin.fast import shipped
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim
SPEC = load_rig("face26")
STILL = SPEC.with_({"skin_time.creep_share": 0.0})
NAME = "facetwin/MirrorBabble-v0"


def fitted():
    try:
        return shipped(SPEC).is_file()
    except UsageError:
        return False


needs_skin = pytest.mark.skipif(not fitted(), reason="no fast skin ships: facetwin train skin")


def batch(count, **options):
    return gymnasium.make_vec(NAME, num_envs=count, vectorization_mode="vector_entry_point", **options)


@needs_skin
def test_a_face_of_the_batch_is_a_single_environment(tmp_path):
    many = batch(3, size=48, settle=0.3)
    assert many.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    seen, info = many.reset(seed=7)
    assert many.observation_space.contains(seen)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.05, 1.05, (4, 3, 26)).astype(np.float32)
    rows = [(seen, info)]
    for action in actions:
        seen, reward, terminated, truncated, info = many.step(action)
        assert not terminated.any()
        assert not truncated.any()
        assert not reward.any()
        rows.append((seen, info))
    many.close()
    one = gymnasium.make(
        NAME, rig="sim:?solver=fast&renderer=fast&samples=1", size=48, settle=0.3, landmarks="geometry"
    )
    for b in range(3):
        own, told = one.reset(seed=7 + b)
        for k in range(5):
            if k:
                own, _, _, _, told = one.step(actions[k - 1, b])
            seen, info = rows[k]
            np.testing.assert_array_equal(seen["commands"][b], own["commands"])
            np.testing.assert_array_equal(info["sent"][b], told["sent"])
            assert info["time"][b] == told["time"]
            np.testing.assert_allclose(seen["landmarks"][b], own["landmarks"], atol=2e-5)
            assert info["gap_mm"][b] == pytest.approx(told["gap_mm"], abs=1e-3)
            off = np.abs(seen["image"][b].astype(int) - own["image"])
            assert (off > 2).mean() < 1e-3
            assert np.median(off) == 0
    one.close()


@needs_skin
def test_same_seed_same_bits_and_members_do_not_know_each_other():
    actions = np.random.default_rng(1).uniform(size=(3, 5, 26)).astype(np.float32)

    def play(env, rows):
        out = [env.reset(seed=[11, 12, 13, 14, 15][rows])[0]]
        out += [env.step(a[rows])[0] for a in actions]
        env.close()
        return {key: np.stack([o[key] for o in out]) for key in out[0]}

    one, again = play(batch(5, size=32), slice(0, 5)), play(batch(5, size=32), slice(0, 5))
    for key in one:
        np.testing.assert_array_equal(one[key], again[key])
    few = play(batch(2, size=32), slice(1, 3))
    np.testing.assert_array_equal(few["commands"], one["commands"][:, 1:3])
    np.testing.assert_allclose(few["landmarks"], one["landmarks"][:, 1:3], atol=2e-5)


@needs_skin
def test_episodes_end_and_begin_anew_each_for_itself():
    env = batch(3, size=32, max_episode_steps=2)
    first, _ = env.reset(seed=3)
    action = np.full((3, 26), 0.7, np.float32)
    env.step(action)
    env.reset(options={"reset_mask": np.array([False, True, False])})
    _, _, _, truncated, _ = env.step(action)
    assert truncated.tolist() == [True, False, True]
    seen, _, _, truncated, info = env.step(action)  # the next step resets, whatever is asked
    assert truncated.tolist() == [False, True, False]
    np.testing.assert_array_equal(seen["commands"][0], SPEC.rest.astype(np.float32))
    assert info["time"][0] < 0
    np.testing.assert_allclose(seen["landmarks"][0], first["landmarks"][0], atol=1e-5)
    assert (seen["image"][0] != first["image"][0]).any()  # another grain
    env.close()


@needs_skin
@pytest.mark.parametrize(
    "which",
    [
        ["servo.*", "motor.*.scale", "motor.*.trim", "skin_time.*", "camera.*"],
        {
            "camera.mirror.distance": (0.25, 0.5),
            "camera.mirror.delay": (0.1, 0.2),
            "skin_time.creep_share": (0.2, 0.4),
            "skin_time.creep_time": (0.02, 0.04),
        },  # longer delays and a shorter memory than the file's
    ],
)
def test_bodies_are_drawn_as_single_environments_draw_them(which):
    count, options = 3, {"randomise": which}
    many = batch(count, size=48)
    rows = [many.reset(seed=5, options=options)]
    actions = np.random.default_rng(2).uniform(size=(2, count, 26)).astype(np.float32)
    for action in actions:
        seen, _, _, _, info = many.step(action)
        rows.append((seen, info))
    assert len({tuple(sorted(d.items())) for d in rows[0][1]["drawn"]}) == count
    one = gymnasium.make(NAME, rig="sim:?solver=fast&renderer=fast&samples=1", size=48, landmarks="geometry")
    for b in range(count):
        own, told = one.reset(seed=5 + b, options=options)
        assert told["drawn"] == rows[0][1]["drawn"][b]
        for k in range(3):
            if k:
                own, _, _, _, told = one.step(actions[k - 1, b])
            seen, info = rows[k]
            np.testing.assert_array_equal(info["sent"][b], told["sent"])
            assert info["time"][b] == told["time"]
            np.testing.assert_allclose(seen["landmarks"][b], own["landmarks"], atol=2e-5)
            assert info["gap_mm"][b] == pytest.approx(told["gap_mm"], abs=1e-3)
            off = np.abs(seen["image"][b].astype(int) - own["image"])
            assert (off > 2).mean() < 1e-3
            assert np.median(off) == 0
    one.close()
    # without being asked for, the bodies are the file's own again
    seen, info = many.reset(seed=5)
    assert "drawn" not in info
    plain = batch(count, size=48)
    wanted, _ = plain.reset(seed=5)
    for key in wanted:
        np.testing.assert_array_equal(seen[key], wanted[key])
    plain.close()
    many.close()


@needs_skin
def test_what_a_batch_draws_and_what_it_does_not():
    env = batch(4, size=32, max_episode_steps=1)
    seen, info = env.reset(seed=5, options={"randomise": True})
    kinds = {key.split(".")[0] for d in info["drawn"] for key in d}
    assert kinds == {"servo", "motor", "skin_time", "camera"}
    assert len({i.tobytes() for i in seen["image"]}) == 4
    first = info["drawn"][0]
    action = np.full((4, 26), 0.6, np.float32)
    seen = env.step(action)[0]
    assert np.ptp(seen["landmarks"], axis=0).max() > 1e-4
    assert env.step(action)[4]["drawn"][0] != first  # a new episode, a new body
    for bad in (["material.young"], ["servo.*", "anchor.*"], {"camera.mirror.width": (32, 64)}):
        with pytest.raises(UsageError, match="not drawn in a batch") as caught:
            env.reset(options={"randomise": bad})
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no such range"):
        env.reset(options={"randomise": ["nothing.*"]})
    env.reset(options={})
    env.close()


@needs_skin
def test_novelty_rewards_new_faces():
    env = batch(2, size=32, reward="novelty")
    env.reset(seed=0)
    action = np.stack([SPEC.rest, np.full(26, 0.8)]).astype(np.float32)
    _, reward, *_ = env.step(action)
    assert reward[1] > reward[0] + 0.005
    _, again, *_ = env.step(action)
    assert again[1] < 0.2 * reward[1]
    env.close()


@needs_skin
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rig": "maestro:/dev/nowhere"}, "only simulated"),
        ({"reward": "joy"}, "unknown reward"),
        ({"settle": 0.001}, "bad settle"),
        ({"size": 4}, "bad size"),
        ({"num_envs": 0}, "no faces"),
    ],
)
def test_nonsense_is_refused(options, match):
    from facetwin.envs.vector import MirrorBabbleVector

    with pytest.raises(UsageError, match=match):
        MirrorBabbleVector(**options)


@needs_skin
def test_bad_actions_move_nothing():
    env = batch(2, size=32)
    with pytest.raises(FaceTwinError, match="no episode"):
        env.step(np.zeros((2, 26)))
    before, _ = env.reset(seed=0)
    for bad in (np.zeros((2, 25)), np.full((2, 26), np.nan)):
        with pytest.raises(FaceTwinError, match="command"):
            env.step(bad)
    after, *_ = env.step(before["commands"])
    np.testing.assert_allclose(after["commands"], before["commands"], atol=1e-6)
    env.close()
    with pytest.raises(FaceTwinError, match="closed"):
        env.reset()
