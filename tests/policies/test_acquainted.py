"""Promises of a body learned before the mirror: timing and differences found, the table's own unchanged."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facetwin.policies.acquainted import AcquaintedFace, acquaint, minute, stood, timed
from facetwin.policies.closed_loop import KEPT, Seen
from facetwin.policies.controllers import LATENTS
from facetwin.policies.felt_face import FeltFace
from facetwin.policies.lipsync_takes import Capture
from facetwin.policies.refined import read, shipped
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import canonical, indices
from facetwin.twin.spec import load_rig

SPEC = load_rig()
IMAGE, _ = read(SPEC, shipped(SPEC))
PICTURES = 420
#: latents travel in the first bytes of a crop
VAE = SimpleNamespace(
    encode=lambda crops: crops.reshape(len(crops), -1)[:, : 4 * LATENTS].copy().view(np.float32)
)


@pytest.fixture(scope="module")
def rows():
    return minute(SPEC, PICTURES, seed=3)


def capture(rows, servos=SPEC, shift=0.0, wider=0.0, found=None):
    """A minute as a self-model would show it, on a body with these servos, this camera and these lips."""
    sent = np.repeat(rows, 2, axis=0)
    with torch.no_grad():
        latents, points = IMAGE(torch.from_numpy(stood(servos, sent, len(rows))).float())
        still = IMAGE(torch.tensor(SPEC.rest, dtype=torch.float32)[None])[1][0]
    rest, ids = canonical().astype(np.float32), indices("speech63")
    whole = np.repeat(rest[None], len(rows), 0)
    whole[:, ids, :2] += (1 + wider) * (points - still).numpy()
    crops = np.zeros((len(rows), 128 * 128 * 3), np.uint8)
    crops[:, : 4 * LATENTS] = (latents.numpy() + np.float32(shift)).view(np.uint8)
    found = np.ones(len(rows), bool) if found is None else found
    seen = Seen(rest, whole[:, KEPT], found)
    return Capture(seen, crops.reshape(-1, 128, 128, 3), sent, sent)


def test_a_minute_is_allowed_and_shows_lips_alone(rows):
    assert rows.shape == (PICTURES, SPEC.size)
    assert (
        Couplings(SPEC).allowed(rows.astype(np.float64)).mean() > 0.9
    )  # joints between ways are projected later
    mouth = np.concatenate([SPEC.group("jaw"), SPEC.group("lips")])
    still = np.setdiff1d(np.arange(SPEC.size), mouth)
    assert np.allclose(rows[:, still], SPEC.rest[still], atol=1e-6)
    assert (np.ptp(rows[:, mouth], axis=0) > 0.2).all()
    assert np.array_equal(rows, minute(SPEC, PICTURES, seed=3))


def test_timing_and_differences_are_found(rows):
    servos = timed(SPEC, 1.7, 0.9, 0.7)
    known = acquaint(SPEC, IMAGE, VAE, capture(rows, servos, shift=0.3, wider=0.2), capture(rows))
    assert known.latency == pytest.approx(1.7, abs=0.21)
    assert known.quickness == pytest.approx(0.9, abs=0.13)
    assert known.speed == pytest.approx(0.7, abs=0.11)
    assert known.left[1] < 0.2 * known.left[0]
    assert "latency x" in known.told()
    at = torch.from_numpy(rows[40:400:20])
    rest = torch.tensor(SPEC.rest, dtype=torch.float32)[None]
    before, now = IMAGE(at), known.image(at)
    scale = IMAGE.scale[:LATENTS]
    assert ((now[0] - before[0] - 0.3) / scale).square().mean().sqrt() < 0.1
    moved = before[1] - IMAGE(rest)[1]
    off = now[1] - known.image(rest)[1] - moved
    assert (off - 0.2 * moved).norm() < 0.35 * (0.2 * moved).norm()
    plain, ours = FeltFace(SPEC)(at), AcquaintedFace(SPEC, IMAGE, known)(at)
    assert torch.allclose(ours.points - plain.points, off, atol=1e-4)
    assert ours.gap.shape == plain.gap.shape


def test_what_is_known_to_be_under_way_is_no_latency(rows):
    """Who plays on a real line sends that much earlier by itself; counted twice, lips would come early."""
    later = capture(rows, timed(SPEC, 1.2 + 0.5, 1.0, 1.0))
    usual = float(np.median([SPEC.motors[k].latency for k in SPEC.group("lips")]))
    known = acquaint(SPEC, IMAGE, VAE, later, capture(rows), under_way=0.5 * usual)
    assert known.latency == pytest.approx(1.2, abs=0.21)
    assert known.left[1] < 0.01


def test_on_the_table_s_own_body_nothing_changes(rows):
    known = acquaint(SPEC, IMAGE, VAE, capture(rows), capture(rows))
    assert (known.latency, known.quickness, known.speed) == pytest.approx((1.0, 1.025, 1.0), abs=0.13)
    at = torch.from_numpy(rows[::30])
    apart = (known.image(at)[0] - IMAGE(at)[0]) / IMAGE.scale[:LATENTS]
    assert apart.square().mean().sqrt() < 0.05


def test_what_was_not_seen_is_said(rows):
    blind = np.zeros(PICTURES, bool)
    with pytest.raises(FaceTwinError, match="too few pictures show a face"):
        acquaint(SPEC, IMAGE, VAE, capture(rows, found=blind), capture(rows))
    with pytest.raises(FaceTwinError, match="not the same motion"):
        acquaint(SPEC, IMAGE, VAE, capture(rows[:-10]), capture(rows))
