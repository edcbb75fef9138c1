"""The refined transformer: nearer in what it descends, never out of its motors' reach, whole or in pieces."""

import numpy as np
import pytest
import torch

from facetwin.policies.action_transformer import ActionController, ActionNet, ActionShape
from facetwin.policies.controllers import Controller, ReferenceClip, rest_face
from facetwin.policies.felt_face import FeltFace
from facetwin.policies.image_self import Fitted, ImageSelf, save
from facetwin.policies.refined import RefinedTransformer, Refinement, joined, read
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import indices
from facetwin.twin.spec import load_rig

SPEC = load_rig()
IDS = indices("speech63")
SIDECAR = {
    "kind": "self-model of pictures", "data": "none", "licence": "Apache-2.0", "command": "pytest",
    "commit": "", "seed": 0, "scores": {}, "rig": SPEC.name, "motors": list(SPEC.names), "vae": "v",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A face, a self-model of pictures that is right by definition, and what speech looks like to both."""
    torch.manual_seed(3)
    image = ImageSelf(SPEC.size, 32).eval().requires_grad_(False)
    image.body[-1].weight.mul_(20)  # latents that move as much as real ones, one standard deviation
    path = tmp_path_factory.mktemp("weights") / "image.safetensors"
    save(path, Fitted(image, 0.0, 0.0, np.zeros((1, 142), np.float32)), SIDECAR)
    face = FeltFace(SPEC)
    rows = np.repeat(SPEC.rest[None], 20, 0).astype(np.float32)
    t = np.arange(20)
    rows[:, SPEC.index("jaw")] = 0.3 * (1 - np.cos(t / 2)) / 2
    rows[:, SPEC.index("lower_lip_roll")] += 0.2 * np.sin(t / 4)
    with torch.no_grad():
        felt, latents = face(torch.from_numpy(rows)), image(torch.from_numpy(rows))[0].numpy()
    points = np.repeat(rest_face()[None], len(rows), 0)
    points[:, IDS, :2] += (felt.points - face.rest).numpy()
    wanted = ReferenceClip("said", points, latents, gap_mm=felt.gap.numpy(), vae="v")
    net = ActionNet(ActionShape("latents", SPEC.size, 16, 2, 1))
    one = RefinedTransformer(SPEC, ActionController(SPEC, net, {"vae": "v"}), image=path, face=face)
    return one, wanted, path


def off(one, wanted, rows):
    with torch.no_grad():
        seen = one.image(torch.from_numpy(rows))[0].numpy()
        felt = one.face(torch.from_numpy(rows)).points - one.face.rest
    return (
        float(np.square((seen - wanted.latents) / one.image.scale[:16].numpy()).mean()),
        float(np.linalg.norm(felt.numpy() - wanted.displacement(), axis=-1).mean()),
    )


def test_it_is_nearer_than_what_it_begins_with_and_allowed(world):
    one, wanted, path = world
    assert isinstance(one, Controller)
    begin, rows = one.start.commands(wanted), one.commands(wanted)
    assert rows.shape == (20, 26)
    assert rows.dtype == np.float32
    before, after = off(one, wanted, begin), off(one, wanted, rows)
    assert after[0] < 0.8 * before[0]
    assert after[1] < 0.5 * before[1]
    long = RefinedTransformer(SPEC, one.start, image=path, face=one.face, options=Refinement(steps=200))
    assert off(one, wanted, long.commands(wanted))[0] < 0.3 * before[0]
    low, high = SPEC.soft_limits
    assert (rows >= low - 1e-6).all()
    assert (rows <= high + 1e-6).all()
    assert Couplings(SPEC).allowed(rows.astype(np.float64)).all()
    still = np.setdiff1d(np.arange(26), one.face.mouth.numpy())
    assert np.allclose(rows[:, still], SPEC.rest[still])
    assert np.array_equal(rows, one.commands(wanted))


def test_bends_are_what_it_pays_for(world):
    one, wanted, path = world
    stiff = RefinedTransformer(SPEC, one.start, image=path, face=one.face, options=Refinement(smooth=200.0))
    bend = [np.square(np.diff(each.commands(wanted), n=2, axis=0)).mean() for each in (stiff, one)]
    assert bend[0] < 0.5 * bend[1]


@pytest.mark.parametrize("sizes", [[20], [7, 13], [1, 1, 18], [0, 10, 0, 10]])
def test_pieces_give_one_command_a_picture_and_join(world, sizes):
    one, wanted, _ = world
    stream, out, at = one.stream(), [], 0
    for size in sizes:
        out.append(stream.push(wanted[at : at + size]))
        at += size
        assert sum(map(len, out)) == max(at - one.ahead, 0)
    rows = np.concatenate([*out, stream.finish()])
    assert rows.shape == (20, 26)
    assert off(one, wanted, rows)[1] < 0.6 * off(one, wanted, one.start.commands(wanted))[1]
    assert len(joined([wanted[:3], wanted[3:]])) == 20


def test_other_weights_are_refused_in_one_line(world, tmp_path):
    one, wanted, path = world
    with pytest.raises(FaceTwinError, match="another VAE"):
        one.commands(ReferenceClip("x", wanted.landmarks, wanted.latents, vae="w"))
    with pytest.raises(FaceTwinError, match="another VAE"):
        RefinedTransformer(SPEC, ActionController(SPEC, one.start.net, {"vae": "w"}), image=path)
    fitted = Fitted(one.image, 0.0, 0.0, np.zeros((1, 142), np.float32))
    other = tmp_path / "other.safetensors"
    save(other, fitted, {**SIDECAR, "motors": ["nose"]})
    with pytest.raises(FaceTwinError, match="another rig"):
        read(SPEC, other)
    save(other, fitted, {**SIDECAR, "kind": "vae"})
    with pytest.raises(FaceTwinError, match="not a self-model of pictures"):
        read(SPEC, other)
    with pytest.raises(FaceTwinError, match="without latents"):
        one.commands(ReferenceClip("x", wanted.landmarks))
