"""The head's motion is taken out of a face, the face's own motion is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from facetwin.policies.metric_face import Head, metric_face, screen_face
from facetwin.twin import landmarks
from facetwin.twin.errors import FaceTwinError

FRAMES = 50


def talking(seed: int = 0) -> NDArray[np.float32]:
    """A person's face, not the canonical one, whose mouth and jaw move; the outer eye corners 1 u apart."""
    random = np.random.default_rng(seed)
    face = landmarks.canonical() + random.normal(0, 0.01, (478, 3))
    face = np.repeat(face[None], FRAMES, 0)
    drop = 0.1 * (1 - np.cos(np.arange(FRAMES) * 0.7))  # (T,)
    lower = [*landmarks.LOWER_INNER, *landmarks.LOWER_OUTER, *landmarks.SETS["jaw11"]]
    face[:, lower, 1] -= drop[:, None]
    return metric_face(face * 65 * (1, -1, -1))[0]


def nodding(size: float = 1.0) -> Head:
    t = np.arange(FRAMES) / 25
    turn = np.radians(np.stack([15 * np.sin(3 * t), 25 * np.sin(2 * t), 20 * np.sin(1.3 * t)], 1)) * size
    move = np.stack([180 + 60 * np.sin(t), -140 + 30 * np.cos(t), 5 * t], 1)
    return Head(*(each.astype(np.float32) for each in (turn, move, 65 * (1 + 0.2 * np.sin(2 * t)))))


def test_a_known_head_motion_is_removed_and_told() -> None:
    face, head = talking(), nodding()
    got, told = metric_face(screen_face(face, head))
    assert np.abs(got - face).max() < 1e-4
    turned = Rotation.from_rotvec(told.rotation) * Rotation.from_rotvec(head.rotation).inv()
    assert np.degrees(turned.magnitude()).max() < 0.01
    assert np.abs(told.translation - head.translation).max() < 0.01
    assert np.abs(told.scale / head.scale - 1).max() < 1e-4
    assert np.ptp(landmarks.opening(got)) > 0.05  # the mouth still moves


def test_noise_does_not_become_motion_of_the_mouth() -> None:
    """Half a pixel of noise on a face of 65 px: the opening is wrong by that, whatever the head does."""
    face, head = talking(), nodding()
    noise = np.random.default_rng(1).normal(0, 0.5, face.shape)
    got = metric_face(screen_face(face, head) + noise)[0]
    wrong = landmarks.opening(got) - landmarks.opening(face)
    assert wrong.std() < 1.6 * np.sqrt(2) * 0.5 / 65


def test_points_that_do_not_fit_are_weighed_down() -> None:
    """A hand over the forehead and an ear for a while: least squares alone would tilt the whole face."""
    face = talking()
    seen = screen_face(face, nodding())
    seen[15:30, [10, 127]] += (30, -25, 10)
    lips = landmarks.indices("lips40")
    assert np.abs(metric_face(seen)[0] - face)[:, lips].max() < 0.01
    assert np.abs(landmarks.align(seen) - face)[:, lips].max() > 0.04


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-0.6, 0.6), min_size=3, max_size=3), st.floats(20, 300), st.integers(0, 5))
def test_any_pose_comes_off(turn: list[float], size: float, seed: int) -> None:
    face = talking(seed)
    pose = Head(
        np.tile(np.float32(turn), (FRAMES, 1)), np.zeros((FRAMES, 3), np.float32), np.full(FRAMES, size, "f4")
    )
    assert np.abs(metric_face(screen_face(face, pose))[0] - face).max() < 1e-4


def test_the_way_back_is_exact() -> None:
    seen = screen_face(talking(), nodding())
    assert np.abs(screen_face(*metric_face(seen)) - seen).max() < 0.01


@pytest.mark.parametrize("bad", [np.zeros((5, 468, 3)), np.zeros((0, 478, 3)), np.full((2, 478, 3), np.nan)])
def test_no_landmarks_no_face(bad: NDArray[np.float64]) -> None:
    with pytest.raises(FaceTwinError, match="not landmarks"):
        metric_face(bad)
