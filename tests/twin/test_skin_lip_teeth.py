"""Lips by geometry: known motions of the skin give known lengths."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import load_face
from facetwin.twin.skin.lip_teeth import CORNERS, FRONT, LipRuler


@pytest.fixture(scope="module")
def ruler() -> LipRuler:
    return LipRuler(load_face())


def test_at_rest(ruler: LipRuler) -> None:
    rest = load_face().rest
    lips = ruler(rest)
    assert lips.forward == pytest.approx(0, abs=1e-12)
    assert lips.width == pytest.approx(np.linalg.norm(rest[CORNERS[0]] - rest[CORNERS[1]]))
    assert 0 < lips.edge < 1.5e-3  # shut lips hide the edge of the teeth
    assert lips.touch > 3e-3  # lips stand before the teeth


def test_a_lip_that_goes_up_and_back(ruler: LipRuler) -> None:
    face = load_face()
    lower = face.vertices_of("lower_lip", "lower_rim")
    up, back = face.rest.copy(), face.rest.copy()
    up[lower, 1] += 2e-3
    back[lower, 2] -= 2e-3
    rest = ruler(face.rest)
    assert ruler(up).edge == pytest.approx(rest.edge - 2e-3, abs=1e-9)
    assert ruler(back).edge == pytest.approx(rest.edge, abs=1e-12)
    assert rest.touch - 2.01e-3 < ruler(back).touch < rest.touch - 0.5e-3


def test_narrow_and_forward(ruler: LipRuler) -> None:
    face = load_face()
    moved = face.rest.copy()
    moved[CORNERS[0], 0] += 2e-3
    moved[CORNERS[1], 0] -= 2e-3
    moved[list(FRONT), 2] += 3e-3
    lips, rest = ruler(moved), ruler(face.rest)
    assert lips.width == pytest.approx(rest.width - 4e-3, abs=1e-6)
    assert lips.forward == pytest.approx(3e-3)
    assert ruler(moved.astype(np.float32)).width == pytest.approx(lips.width, abs=1e-6)


def test_a_face_without_teeth() -> None:
    bare = dataclasses.replace(load_face(), parts=())
    with pytest.raises(FaceTwinError, match="without upper teeth"):
        LipRuler(bare)
