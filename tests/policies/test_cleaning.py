"""What is measured of a clip, by the report's equations, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.policies import cleaning
from facetwin.policies.cleaning import Limits, Smoothing, verdict
from facetwin.policies.metric_face import Head
from facetwin.twin.errors import UsageError


def looking(pitch: list[float], yaw: list[float], roll: float = 0.0) -> Head:
    """A head that has these angles, in degrees."""
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_euler("ZYX", [[roll, y, p] for p, y in zip(pitch, yaw)], degrees=True)
    count = len(pitch)
    return Head(turns.as_rotvec().astype(np.float32), np.zeros((count, 3), "f4"), np.full(count, 60, "f4"))


def test_equations_one_and_two() -> None:
    angle = cleaning.front_angle(looking([0, 0, 0, 0], [10, 20, 10, 20]))
    assert cleaning.centerness(angle) == pytest.approx(15, abs=1e-3)
    assert cleaning.shakiness(angle) == pytest.approx(30 / 4, abs=1e-3)  # printed without | |: 2.5
    assert np.allclose(cleaning.front_angle(looking([0] * 3, [20] * 3, roll=40)), 20, atol=1e-3)
    nod = cleaning.front_angle(looking([3, 0], [0, 4]))
    assert np.allclose(nod, [3, 4], atol=1e-3)


def test_shakiness_does_not_depend_on_the_rate() -> None:
    t25, t50 = np.arange(100) / 25, np.arange(200) / 50
    slow, fast = (10 + 8 * np.sin(3 * t) for t in (t25, t50))
    assert cleaning.shakiness(fast, t50) == pytest.approx(cleaning.shakiness(slow, t25), rel=0.02)


def test_a_cut_is_a_jump() -> None:
    head = looking([0] * 10, [0] * 10)
    move = head.translation.copy()
    move[:, 0] = np.arange(10) * 3  # 3 px of 60 a picture
    times = np.arange(10) / 25
    calm = Head(head.rotation, move, head.scale)
    assert cleaning.largest_jump(calm, times) == pytest.approx(0.05, abs=1e-4)
    move[6:, 0] += 60
    assert cleaning.largest_jump(calm, times) > 1
    assert (
        cleaning.largest_jump(
            Head(head.rotation, head.translation, np.r_[head.scale[:5], head.scale[5:] * 2]), times
        )
        > 0.9
    )


FINE = {
    "seconds": 3.0, "decoded": 1.0, "missing": 0.0, "doubles": 0.0, "bitrate_kbps": 500.0, "jump_u": 0.02,
    "eye_distance_px": 65.0, "centerness_deg": 10.0, "shakiness_deg": 0.3, "sync_confidence": 0.9,
    "sound_late_ms": 12.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fact", "value", "words"),
    [
        ("centerness_deg", 30.1, "looks away"),
        ("shakiness_deg", 2.01, "head moves"),
        ("missing", 0.01, "without a face"),
        ("doubles", 0.1, "two faces"),
        ("bitrate_kbps", 99.0, "bitrate"),
        ("eye_distance_px", 20.0, "small"),
        ("jump_u", 0.9, "cut"),
        ("decoded", 0.5, "cut short"),
        ("seconds", 0.2, "short"),
        ("sync_confidence", 0.1, "does not fit"),
        ("sound_late_ms", -333.0, "too far apart"),
    ],
)
def test_each_reason_has_its_words(fact: str, value: float, words: str) -> None:
    limits = Limits(bitrate=100)
    assert verdict(FINE, limits) is None
    why = verdict({**FINE, fact: value}, limits)
    assert why is not None
    assert words in why
    assert "found" in why
    assert "expected" in why
    assert verdict({}, limits) is None  # nothing measured, nothing said


def test_limits_that_are_none() -> None:
    with pytest.raises(UsageError, match="missing"):
        Limits(missing=1.5)
    with pytest.raises(UsageError, match="centerness"):
        Limits(centerness=float("nan"))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.sampled_from(["mean", "savgol"]), st.integers(1, 40))
def test_smoothing_keeps_shape_and_still_faces(half: int, kind: str, count: int) -> None:
    smooth = Smoothing(kind, 2 * half + 1, min(2, 2 * half))
    still = np.full((count, 3, 2), 1.5, np.float32)
    assert smooth(still).shape == still.shape
    assert np.allclose(smooth(still), still, atol=1e-5)


def test_a_mean_takes_peaks_off_a_polynomial_less() -> None:
    opening = np.maximum(0, np.sin(np.arange(80) * 0.9)).astype(np.float32)
    peaks = {kind: Smoothing.parse(kind)(opening)[10:70].max() for kind in ("none", "mean:5", "savgol:5:2")}
    assert peaks["mean:5"] < 0.75 * peaks["none"]
    assert peaks["savgol:5:2"] > 0.85 * peaks["none"]
    line = np.arange(20, dtype=np.float32)[:, None]
    assert np.allclose(Smoothing.parse("mean:5")(line)[2:-2], line[2:-2], atol=1e-5)


@pytest.mark.parametrize(
    "text", ["", "median", "mean:4", "mean:-3", "mean:x", "savgol:5:7", "none:3", "mean:5:2"]
)
def test_no_such_smoothing(text: str) -> None:
    with pytest.raises(UsageError, match="smooth"):
        Smoothing.parse(text)


@pytest.mark.parametrize("text", ["none", "mean:5", "savgol:7:3"])
def test_smoothing_says_its_name(text: str) -> None:
    assert str(Smoothing.parse(text)) == text
