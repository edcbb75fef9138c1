"""A take: what is kept of pictures in which the face is seen, lost, or never there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from facetwin.cli.take import Take, play
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.policies.closed_loop import KEPT
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import canonical, opening


class Blank:
    """A face without a picture."""

    def move(self, position):
        return SimpleNamespace(vertices=np.zeros((1, 3)), gap=0.002)

    def picture(self, state):
        return np.zeros((8, 8, 3), np.uint8)

    def reset(self):
        pass

    def close(self):
        pass


class Canned:
    """Instead of a tracker: answers from a list, the last one for ever."""

    def __init__(self, answers):
        self._answers, self._given, self._asked = answers, 0, 0

    def put(self, image, mirrored=False):
        self._asked += 1

    def ready(self):
        while self._given < self._asked:
            yield self._answers[min(self._given, len(self._answers) - 1)]
            self._given += 1

    finish = ready


def pixels(drop=0.0):
    """A face in an image of 256 px, lower lip lowered by `drop` u."""
    face = canonical().copy()
    face[14, 1] -= drop
    return (face * (100, -100, -100) + (128, 128, 0)).astype(np.float32)


def take_of(answers, frames=6):
    take, landmarks = Take(), []
    with SafetyLayer(SimRig("face26", twin=Blank(), size=8)) as rig:
        rig.activate()
        rig.home(0)
        commands = np.repeat(rig.spec.rest[None], frames, 0)
        seen = lambda number, points, turn: landmarks.append((number, points))  # noqa: E731
        play(rig, Canned(answers), iter([commands]), take, seen=seen)
    return take, landmarks


def test_seen_lost_and_found_again():
    rest = [pixels()] * 10
    take, landmarks = take_of([*rest, pixels(0.1), None, pixels(0.2), pixels()])
    seen = take.seen()
    assert seen.found.tolist() == [True, False, True, True, True, True]
    move = opening(seen.faces()) - opening(take.rest)
    assert np.allclose(move, [0.1, 0.1, 0.2, 0, 0, 0], atol=2e-3)  # a lost picture holds the one before
    assert np.allclose(seen.gap, 2.0)
    assert [number for number, _ in landmarks] == list(range(6))
    assert [points is None for _, points in landmarks] == [False, True, False, False, False, False]
    assert seen.points.shape == (6, len(KEPT), 3)
    assert len(take.sent) == len(take.asked)
    assert take.late < 1e-6


def test_the_first_picture_may_be_lost():
    take, _ = take_of([*[pixels()] * 10, None, pixels(0.1)])
    assert take.seen().found.tolist() == [False, True, True, True, True, True]
    assert opening(take.seen().faces())[0] == pytest.approx(opening(take.rest), abs=1e-6)


def test_no_face_at_rest_is_an_error():
    with pytest.raises(FaceTwinError, match="no face in the mirror"):
        take_of([None])
    with pytest.raises(FaceTwinError, match="nothing was played"):
        Take().seen()
