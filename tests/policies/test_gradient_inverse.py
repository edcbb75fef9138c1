import numpy as np
import pytest
import torch

from facetwin.policies.controllers import Controller, ReferenceClip, rest_face
from facetwin.policies.felt_face import FeltFace
from facetwin.policies.gradient_inverse import SHUT_MM, Descent, GradientInverse, guessed_gap
from facetwin.twin.couplings import Couplings
from facetwin.twin.geometry import GeometricLandmarks
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import indices
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.spec import load_rig

SPEC = load_rig()
IDS = indices("speech63")


@pytest.fixture(scope="module")
def face():
    return FeltFace(SPEC)


def said(face, commands, name="said"):
    """What the face itself shows along commands: a reference that it can reach."""
    with torch.no_grad():
        felt = face(torch.from_numpy(commands))
    points = np.repeat(rest_face()[None], len(commands), 0)
    points[:, IDS, :2] += (felt.points - face.rest).numpy()
    return ReferenceClip(name, points, gap_mm=felt.gap.numpy())


def talk(pictures=16):
    """Commands that open, spread, round and press shut."""
    rows = np.repeat(SPEC.rest[None], pictures, 0).astype(np.float32)
    t = np.arange(pictures)
    rows[:, SPEC.index("jaw")] = 0.3 * (1 - np.cos(t / 2)) / 2
    for side in ("right", "left"):
        rows[:, SPEC.index(f"{side}_corner_stretch")] += 0.3 * np.sin(t / 3)
    rows[:, SPEC.index("lower_lip_roll")] += 0.2 * np.sin(t / 4)
    return rows


def test_it_feels_what_the_skin_and_align_say(face):
    rows = talk()
    kinematics = Kinematics(SPEC, face.skin.kinematics.face)
    with torch.no_grad():
        whole = FastSkin.load(SPEC, kinematics=kinematics)(torch.from_numpy(rows))
        felt = face(torch.from_numpy(rows))
    seen = GeometricLandmarks(kinematics.face).aligned(whole.vertices.numpy(), kinematics.poses(rows))
    assert np.abs(felt.points.numpy() - seen[:, IDS, :2]).max() < 2e-4
    assert np.allclose(felt.gap, 1e3 * whole.gap, atol=1e-3)


def test_what_can_be_reached_is_reached(face):
    one = GradientInverse(SPEC, Descent(steps=80), face=face)
    assert isinstance(one, Controller)
    wanted = said(face, talk())
    rows = one.commands(wanted)
    felt = face(torch.from_numpy(rows))
    off = felt.points.numpy() - face.rest.numpy() - wanted.displacement()
    motion = np.linalg.norm(wanted.displacement()[:, :40], axis=-1).mean()
    assert np.linalg.norm(off[:, :40], axis=-1).mean() < 0.15 * motion
    shut = wanted.gap_mm < SHUT_MM
    assert np.array_equal(felt.gap.numpy() < SHUT_MM, shut)
    low, high = SPEC.soft_limits
    assert (rows >= low - 1e-6).all()
    assert (rows <= high + 1e-6).all()
    assert Couplings(SPEC).allowed(rows.astype(np.float64)).all()
    still = np.setdiff1d(np.arange(26), face.mouth.numpy())
    assert np.allclose(rows[:, still], SPEC.rest[still])


def test_side_by_side_is_one_by_one_and_pieces_join(face):
    one = GradientInverse(SPEC, Descent(steps=10), face=face)
    a, b = said(face, talk(6)), said(face, talk(9))
    both = one.many([a, a[:0], b])
    assert [len(rows) for rows in both] == [6, 0, 9]
    assert np.allclose(both[2], one.commands(b), atol=2e-3)
    stream = one.stream()
    pieces = [stream.push(b[:4]), stream.push(b[4:]), stream.finish()]
    assert np.concatenate(pieces).shape == (9, 26)
    assert np.abs(pieces[1][0] - pieces[0][-1]).max() < 0.25


def test_a_gap_is_guessed_by_the_opening(face):
    moved = np.zeros((2, 63, 2), np.float32)
    moved[1, list(IDS).index(14), 1] = -0.05
    assert guessed_gap(moved).tolist() == [0.0, 1.0]
