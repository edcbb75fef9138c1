from __future__ import annotations

import numpy as np
import pytest

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin import ExactSkin
from facetwin.twin.skin.contact import LipContact


@pytest.fixture(scope="module")
def contact(skin_mesh):
    return LipContact(skin_mesh.rest, skin_mesh.upper_lip, skin_mesh.lower_lip)


@pytest.fixture(scope="module")
def skin(skin_mesh, anchors):
    m = skin_mesh
    thickness = np.full(len(m.triangles), 2e-3)
    lips = {tuple(t) for lip in (m.upper_lip, m.lower_lip) for t in lip.tolist()}
    thickness[[tuple(t) in lips for t in m.triangles.tolist()]] = 4e-3
    return ExactSkin(
        m.rest, m.triangles, anchors.index, anchors.stiffness,
        upper_lip=m.upper_lip, lower_lip=m.lower_lip, thickness=thickness, tolerance=2e-5,
    )  # fmt: skip


def lifted(mesh, way):
    """The lower lip moved rigidly by `way` (mm), less towards the corners of the mouth."""
    x = mesh.rest.copy()
    lower = np.setdiff1d(mesh.lower_lip, mesh.upper_lip)
    width = np.abs(mesh.rest[mesh.lower_lip, 0]).max()
    x[lower] += np.array(way) * 1e-3 * (1 - (x[lower, :1] / width) ** 2)
    return x


def test_rest_and_open_mouth_touch_nothing(skin_mesh, contact):
    for way in ((0, 0, 0), (0, -1, 0), (0, -30, -5), (0, -8, 6)):
        x = lifted(skin_mesh, way)
        assert contact.energy(x, np.zeros_like(x)) == pytest.approx(0, abs=1e-12), way
        assert contact.penetration(x) == 0


@pytest.mark.parametrize("way", [(0, 0.5, 0), (0.3, 0.8, 0.2), (0, 1.0, -0.5)])
def test_gradient_is_that_of_the_energy(skin_mesh, contact, way):
    x = lifted(skin_mesh, way) + np.random.default_rng(2).normal(0, 2e-5, skin_mesh.rest.shape)
    gradient, idle = np.zeros_like(x), np.zeros_like(x)
    assert contact.energy(x, gradient) > 0
    assert contact.count > 5
    assert np.abs(gradient.sum(0)).max() < 1e-9  # what one lip feels, the other feels back
    d = np.random.default_rng(3).normal(0, 1, x.shape)
    h = 1e-10
    slope = (contact.energy(x + h * d, idle) - contact.energy(x - h * d, idle)) / (2 * h)
    assert slope == pytest.approx((gradient * d).sum(), rel=1e-3)


def test_pressing_is_mirrored(skin_mesh, contact):
    x = lifted(skin_mesh, (0, 0.7, 0))
    gradient = np.zeros_like(x)
    contact.energy(x, gradient)
    assert gradient[skin_mesh.mirror] * (-1, 1, 1) == pytest.approx(
        gradient, abs=1e-6 * np.abs(gradient).max()
    )


def test_lower_lip_pulled_up_stops_at_the_upper(skin, anchors, skin_mesh):
    x, report = skin.solve_report(anchors.goals(lower=(0, 4, 0)))
    assert report.converged
    assert report.contacts > 0
    assert report.penetration < 0.15e-3
    assert (x[skin_mesh.mirror] * (-1, 1, 1)) == pytest.approx(x, abs=5e-5)


def test_lips_never_pass_through(skin, anchors):
    rng = np.random.default_rng(5)
    for _ in range(6):
        x = None
        a, b = rng.uniform(-1, 1, (2, 3)) * (0.5, 3, 2)
        for share in (0.33, 0.67, 1.0):
            goals = anchors.goals(jaw=rng.uniform(0, 0.05), lower=tuple(a * share), upper=tuple(b * share))
            x, report = skin.solve_report(goals, x)
            assert report.penetration < 0.3e-3, (a, b, share)


def test_bad_lips_are_refused(skin_mesh):
    with pytest.raises(FaceTwinError, match="upper_lip"):
        LipContact(skin_mesh.rest, [[0, 1, 99999]], skin_mesh.lower_lip)
