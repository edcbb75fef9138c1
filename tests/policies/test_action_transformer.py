import itertools
import json

import numpy as np
import pytest
import torch

from facetwin.policies import action_train, image_self, weights
from facetwin.policies.action_data import KINDS, ActionData, film, join, read, ways
from facetwin.policies.action_transformer import (
    ActionController,
    ActionNet,
    ActionShape,
    check_vae,
    mouth_of,
    rollout,
    save,
    shipped,
)
from facetwin.policies.controllers import Controller, ReferenceClip, rest_face
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import load_rig

SPEC = load_rig()
SIDE = {"data": "toy", "licence": "none", "command": "", "commit": "", "seed": 0, "scores": {}}
SMALL = {"width": 32, "heads": 2, "layers": 2}


def clip(pictures=12, seed=0, **more):
    latents = np.random.default_rng(seed).normal(size=(pictures, 16)).astype(np.float32)
    return ReferenceClip("clip", np.repeat(rest_face()[None], pictures, 0), latents, **more)


@pytest.fixture(scope="module")
def one():
    torch.manual_seed(0)
    return ActionController(SPEC, ActionNet(ActionShape(**SMALL)), {**SIDE, "vae": "aa"})


def test_it_is_a_controller_of_jaw_and_lips(one):
    assert isinstance(one, Controller)
    rows = one.commands(clip())
    low, high = SPEC.soft_limits
    assert rows.shape == (12, 26)
    assert (rows >= low - 1e-6).all()
    assert (rows <= high + 1e-6).all()
    still = np.setdiff1d(np.arange(26), mouth_of(SPEC))
    assert np.allclose(rows[:, still], SPEC.rest[still])
    assert one.commands(clip(0)).shape == (0, 26)
    assert one.commands(clip(1)).shape == (1, 26)


@pytest.mark.parametrize("sizes", [[1] * 12, [5, 7], [11, 1], [0, 12, 0]])
def test_streamed_is_whole_to_the_bit(one, sizes):
    whole, stream, at, pieces = one.commands(clip()), one.stream(), 0, []
    for size in sizes:
        pieces.append(stream.push(clip()[at : at + size]))
        at += size
        assert sum(map(len, pieces)) == max(0, at - one.ahead)
    assert np.array_equal(np.concatenate([*pieces, stream.finish()]), whole)


def test_side_by_side_is_one_by_one(one):
    clips = [clip(12, 1), clip(5, 2), clip(9, 3)]
    together = one.many([c.latents for c in clips])
    for rows, c in zip(together, clips):
        assert np.allclose(rows, one.commands(c), atol=1e-6)
    assert one.many([]) == []


def test_rollout_is_the_stream_but_for_motors_held_at_rest(one):
    torch.manual_seed(0)
    shown = torch.from_numpy(clip(3).latents)[None]
    before = torch.tensor(SPEC.rest, dtype=torch.float32).expand(1, 2, -1)
    now, _ = rollout(one.net, shown, before)
    assert np.allclose(now[0, 0, mouth_of(SPEC)], one.commands(clip(3))[0, mouth_of(SPEC)], atol=1e-6)
    assert now.shape == (1, 2, 26)


def test_weights_come_back_the_same(one, tmp_path):
    path = tmp_path / "t.safetensors"
    save(path, one.net, {**SIDE, "rig": SPEC.name, "motors": list(SPEC.names), "vae": "aa"})
    other = ActionController.load(SPEC, path)
    assert np.array_equal(other.commands(clip()), one.commands(clip()))


def test_bad_weights_are_refused_in_one_line(one, tmp_path):
    path = tmp_path / "t.safetensors"
    good = {**SIDE, "rig": SPEC.name, "motors": list(SPEC.names), "vae": "aa"}
    save(path, one.net, {**good, "motors": ["jaw"]})
    with pytest.raises(FaceTwinError, match="another rig"):
        ActionController.load(SPEC, path)
    save(path, one.net, good)
    with pytest.raises(FaceTwinError, match="another VAE"):
        ActionController.load(SPEC, path, vae="bb")
    with pytest.raises(UsageError, match="another input"):
        ActionController.load(SPEC, path, inputs="speech")
    side = weights.sidecar_path(path)
    for bad in ({"inputs": "smell"}, {"wings": 2}, {"width": 30, "heads": 4}, {"width": 64}, None):
        side.write_text(json.dumps({**good, "shape": bad}))
        with pytest.raises(FaceTwinError) as error:
            ActionController.load(SPEC, path)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="no such weights"):
        ActionController.load(SPEC, tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="no such input"):
        shipped(SPEC, "smell")


def test_latents_of_another_vae_are_refused(one):
    with pytest.raises(FaceTwinError, match="another VAE"):
        one.commands(clip(vae="bb"))
    assert len(one.commands(clip(vae="aa"))) == 12
    check_vae({}, "bb", "anywhere")  # what is not known cannot be told apart
    bare = ReferenceClip("bare", np.repeat(rest_face()[None], 3, 0))
    with pytest.raises(FaceTwinError, match="without latents"):
        one.commands(bare)


def test_ways_are_smooth_allowed_and_repeat_with_their_seed():
    spoken = [np.repeat(SPEC.rest[None], 75, 0).astype(np.float32) for _ in range(10)]
    a, b = (list(itertools.islice(ways(SPEC, np.random.default_rng(1), spoken), 30)) for _ in range(2))
    rows = np.stack([way for way, _, _ in a])
    assert np.array_equal(rows, np.stack([way for way, _, _ in b]))
    low, high = SPEC.soft_limits
    assert (rows >= low - 1e-6).all()
    assert (rows <= high + 1e-6).all()
    assert Couplings(SPEC).allowed(rows.astype(np.float64) * (1 - 2e-7)).mean() > 0.99
    assert {kind for _, kind, _ in a} == set(range(len(KINDS)))
    quickest = np.array([m.max_speed for m in SPEC.motors]) / SPEC.span / 25
    assert (np.abs(np.diff(rows, axis=1)) <= quickest + 1e-5).mean() > 0.995  # couplings may jump


class Eyes:
    """Stands for a VAE where only shapes matter: means of 16 patches."""

    def encode(self, crops):
        n = len(crops)
        return crops.reshape(n, 4, 32, 4, 32, 3).mean((2, 4, 5)).reshape(n, 16).astype(np.float32) / 32


def test_filmed_babble_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("facetwin.policies.action_data.LENGTH", 4)
    monkeypatch.setattr("facetwin.policies.action_data.SHARD", 2)
    monkeypatch.setattr(
        "facetwin.policies.action_data.ways",
        lambda spec, rng, spoken: ways(spec, rng, spoken, 4),
    )
    film(tmp_path, SPEC, 3, seed=5)
    first, second = sorted(tmp_path.glob("shard-*"))
    data = read(tmp_path, Eyes(), 3)
    assert data.commands.shape == (3, 4, 26)
    assert data.latents.shape == (3, 4, 16)
    assert data.points.shape == (3, 4, 63, 2)
    stamp = first.stat().st_mtime_ns
    second.write_bytes(second.read_bytes()[:100])
    with pytest.raises(FaceTwinError, match="does not open"):
        read(tmp_path, Eyes(), 3)
    film(tmp_path, SPEC, 3, seed=5)
    assert first.stat().st_mtime_ns == stamp
    again = read(tmp_path, Eyes(), 3)
    assert np.array_equal(again.latents, data.latents)
    with pytest.raises(UsageError, match="no filmed babble"):
        read(tmp_path / "none", Eyes(), 3)


def toy_babble(ways_, pictures, seed):
    """Babble before eyes that see sines of the mouth's commands."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(9).normal(size=(11, 16)) / 2
    steps = rng.normal(size=(ways_, pictures, 11)).cumsum(1) * 0.03
    commands = np.repeat(np.tile(SPEC.rest, (ways_, 1))[:, None], pictures, 1).astype(np.float32)
    commands[..., mouth_of(SPEC)] = np.clip(rng.uniform(0.2, 0.8, (ways_, 1, 11)) + steps, 0, 1)
    latents = np.tanh((commands[..., mouth_of(SPEC)] - 0.5) @ mix).astype(np.float32)
    points = np.zeros((ways_, pictures, 63, 2), np.float32)
    return ActionData(commands, latents, points, np.zeros((ways_, pictures), np.float32),
                      np.zeros(ways_, np.int64), np.zeros(ways_, np.int64))  # fmt: skip


def test_training_learns_and_its_rollout_holds(tmp_path):
    babble, unseen = toy_babble(80, 24, 0), toy_babble(20, 24, 1)
    known = image_self.fit(babble, unseen, steps=120, batch=128)
    assert known.latents < 0.5
    known.save(tmp_path / "self.safetensors")
    again = image_self.Fitted.load(tmp_path / "self.safetensors")
    rows = torch.from_numpy(unseen.commands[0])
    assert torch.equal(again.net(rows)[0], known.net(rows)[0])
    rest = np.zeros((63, 2), np.float32)
    lessons = action_train.babble_lessons(babble, "latents", rest)
    options = action_train.Training(steps=60, unroll=(1, 3), batch=32, rate=3e-3)
    net = action_train.train(SPEC, lessons, None, inputs="latents", self_image=known.net, options=options)
    errors = action_train.command_errors(net, action_train.babble_lessons(unseen, "latents", rest), SPEC)
    assert errors["free rollout"] < 0.6 * errors["held"]
    assert errors["teacher-forced"] <= errors["free rollout"] * 1.1
    dreamt = image_self.dream(known, SPEC, 3)
    assert join([dreamt, dreamt]).latents.shape == (6, 64, 16)


def test_lessons_by_reference_lower_what_they_weigh():
    points = np.repeat(rest_face()[None], 50, 0)
    points[:, [14, 17, 87, 317, 84, 314]] -= np.array((0, 0.08, 0), np.float32)
    wanted = [ReferenceClip(str(k), points, gap_mm=np.full(50, 3, np.float32)) for k in range(2)]
    rest = action_train.FeltFace(SPEC).rest.numpy()
    lessons = action_train.reference_lessons(wanted, "speech", rest)
    assert len(lessons.shown) == 4  # two pieces of each, the last one from the end
    with pytest.raises(UsageError, match="long enough"):
        action_train.reference_lessons([wanted[0][:20]], "speech", rest)
    babble = action_train.babble_lessons(toy_babble(8, 16, 0), "speech", rest)
    torch.manual_seed(0)
    start = ActionNet(ActionShape("speech", **SMALL))
    start.scale.fill_(0.03)
    face = action_train.FeltFace(SPEC)

    def error(net):
        now, _ = rollout(net, lessons.shown, torch.tensor(SPEC.rest, dtype=torch.float32).expand(4, 2, -1))
        felt = face(face.whole(now[..., face.mouth].flatten(0, 1)))
        goal = lessons.points[:, :-1].flatten(0, 1)
        return float((felt.points - goal)[:, :40].norm(dim=-1).mean())

    with torch.no_grad():
        before = error(start)
    options = action_train.Training(steps=25, unroll=(3,), batch=16, rate=3e-3, references=1.0)
    net = action_train.train(
        SPEC, babble, lessons, inputs="speech", self_image=None, options=options, start=start
    )
    assert error(net) < 0.8 * before


def test_the_speech_variant_hears_and_streams():
    torch.manual_seed(0)
    one = ActionController(SPEC, ActionNet(ActionShape("speech", **SMALL)), SIDE)
    sound = (0.1 * np.random.default_rng(0).normal(size=640 * 15)).astype(np.float32)
    said = ReferenceClip("said", np.repeat(rest_face()[None], 15, 0), samples=sound)
    whole, stream, pieces = one.commands(said), one.stream(), []
    for at in range(15):
        pieces.append(stream.push(said[at : at + 1]))
        assert sum(map(len, pieces)) <= max(0, at + 1 - one.ahead)
    pieces.append(stream.finish())
    assert whole.shape == (15, 26)
    assert np.allclose(np.concatenate(pieces), whole, atol=1e-4)
    with pytest.raises(FaceTwinError, match="without samples"):
        one.commands(clip())
