"""The ideal skin: rest stays rest, shut is shut, and the points go where they are asked to."""

import numpy as np
import pytest

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import SETS
from facetwin.twin.skin.ideal import IdealSkin
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim
IDS = SETS["speech63"]


@pytest.fixture(scope="module")
def skin():
    return IdealSkin(load_rig())


def opened(amount: float) -> np.ndarray:
    """Displacement (63, 2) in u of a mouth whose lower lip and jaw go down."""
    out = np.zeros((63, 2))
    lower = {*SETS["lips40"]} - {0, 13, 37, 39, 40, 185, 61, 267, 269, 270, 409, 291, 191, 80, 81, 82, 78}
    lower -= {312, 311, 310, 415, 308}
    for p in lower:
        out[IDS.index(p), 1] = -amount
    for p in SETS["jaw11"]:
        out[IDS.index(p), 1] = -amount
    return out


def test_rest_opening_and_closing(skin):
    motion = skin(np.stack([np.zeros((63, 2)), opened(0.12), opened(0.0), opened(0.012)]))
    assert motion.converged.all()
    assert (motion.missed < 0.02).all()
    assert motion.gap_mm[0] < 0.5
    assert motion.gap_mm[1] > 6
    assert motion.gap_mm[2] < 0.5
    assert motion.gap_mm[3] < 0.5  # below .02 u counts as shut
    turn = motion.poses["jaw"]
    assert turn[1, 2, 1] > turn[0, 2, 1]  # the jaw goes down with the chin
    rest = skin.face.rest
    brow = rest[:, 1] > 0.02
    assert np.abs(motion.vertices[:, brow] - rest[brow]).max() < 1.5e-3  # the rest of the face stays


def test_lips_do_not_pass_each_other_when_pressed(skin):
    pressed = np.zeros((1, 63, 2))
    for p in (13, 82, 312, 81, 311):
        pressed[0, IDS.index(p), 1] = -0.05
    motion = skin(pressed)
    assert motion.converged.all()
    assert skin.skin.report.depths["lips"] < 3e-4  # m
    assert motion.gap_mm[0] < 0.5


def test_what_is_no_displacement_is_refused(skin):
    with pytest.raises(FaceTwinError, match="not displacements"):
        skin(np.zeros((2, 40, 2)))
    with pytest.raises(FaceTwinError, match="not displacements"):
        skin(np.full((1, 63, 2), np.nan))
