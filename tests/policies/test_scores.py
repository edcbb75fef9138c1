"""Scores: known answers."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.policies import scores
from facetwin.policies.alignment import Onsets
from facetwin.policies.baselines import late, shuffled
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import canonical, indices


def face(opening: np.ndarray) -> np.ndarray:
    """Rest faces with a given opening."""
    points = np.repeat(canonical().astype(np.float32)[None], len(opening), 0)
    points[:, 13, 1] = points[:, 14, 1] + opening
    return points


def person(onsets: Onsets | None = None) -> scores.Reference:
    opening = 0.06 + 0.06 * np.sin(np.arange(100) * 0.5) + 0.02 * np.sin(np.arange(100) * 0.13)
    return scores.Reference("p", face(opening), np.ones(100, bool), onsets or Onsets())


def test_a_perfect_copy() -> None:
    reference = person(Onsets(bilabial=(0.4,), control=(0.8,)))
    row = scores.score_faces([reference.face], [reference])
    for name in ("D-P", "D-V", "D-PL", "D-VL", "D-AL", "D-AE"):
        assert row[name].value == 0
    assert row["opening correlation"].value == pytest.approx(1)
    assert row["offset"].value == pytest.approx(0, abs=1e-6)
    assert str(row["D-P"]) == "D-P 0 u"


def test_a_known_displacement() -> None:
    reference = person()
    moved = reference.face.copy()
    moved[:, indices("lips40"), 0] += 0.03
    moved[:, indices("lips40"), 1] += 0.04
    row = scores.score_faces([moved], [reference])
    assert row["D-P"].value == pytest.approx(0.05, rel=1e-4)
    assert row["D-V"].value == pytest.approx(0, abs=1e-6)
    assert row["D-PL"].value == pytest.approx(0.05 * 40 / 51, rel=1e-4)


def test_unseen_pictures_do_not_count() -> None:
    reference = person()
    seen = np.ones(100, bool)
    seen[10:20] = False
    moved = reference.face.copy()
    moved[10:20] += 1
    row = scores.score_faces([moved], [scores.Reference("p", reference.face, seen)])
    assert row["D-P"].value == 0
    assert row["D-V"].value == 0


@pytest.mark.parametrize("frames", [1, 3])
def test_offset_of_a_late_picture(frames: int) -> None:
    reference = person()
    row = scores.score_faces([late(reference.face, frames)], [reference])
    assert row["offset"].value == pytest.approx(40 * frames, abs=8)
    assert scores.in_broadcast_limits(row["offset"].value) == (frames == 1)
    assert scores.in_broadcast_limits(-120)


def test_a_dead_mouth_closes_everywhere_and_scores_nothing() -> None:
    reference = person(Onsets(bilabial=(0.4, 1.0), control=(0.8, 2.0)))
    row = scores.score_faces([face(np.zeros(100))], [reference])
    assert (row["closure"].value, row["control"].value, row["closure - control"].value) == (1, 1, 0)
    assert row["opening correlation"].value == 0


def test_window_of_a_closure() -> None:
    opening = np.full(100, 0.1)
    opening[20] = 0.0
    for shift, window, hit in ((0, 0, True), (1, 0, False), (1, 1, True), (2, 1, False), (-1, 1, True)):
        reference = scores.Reference("p", face(opening), np.ones(100, bool), Onsets(((20 + shift) / 25,)))
        row = scores.score_faces([reference.face], [reference], window=window)
        assert row["closure"].value == hit


def test_parabola_finds_the_peak_between_samples() -> None:
    at = np.arange(-5, 6)
    assert scores.peak_lag(-((at - 1.3) ** 2) + 50) == pytest.approx(1.3)
    assert np.isnan(scores.peak_lag(np.zeros(5)))


def test_jerk_and_clipping() -> None:
    still = scores.jerk([face(np.zeros(10))])
    assert still == 0
    assert scores.clipped([[0.0, 0.5], [1.0, 0.2]]) == 0.5


def test_pairs_must_match() -> None:
    with pytest.raises(FaceTwinError):
        scores.score_faces([face(np.zeros(9))], [person()])


def test_late_and_shuffled() -> None:
    a, b = face(np.arange(5) / 100), face(np.arange(8) / 100)
    assert np.array_equal(late(a, 2)[2:], a[:3])
    assert np.array_equal(late(a, 2)[:2], a[[0, 0]])
    assert np.array_equal(late(a, 9), a[[0] * 5])
    first, second = shuffled([a, b])
    assert np.array_equal(first, b[:5])
    assert np.array_equal(second[-1], a[-1])


def test_lip_on_teeth_is_a_lower_lip_that_stays_up() -> None:
    rest = face(np.zeros(1))[0]
    high, low = face(np.full(50, 0.03)), face(np.full(50, 0.03))
    high[:, list(scores.LOWER_EDGE), 1] = rest[list(scores.LOWER_EDGE), 1] - 0.01
    low[:, list(scores.LOWER_EDGE), 1] = rest[list(scores.LOWER_EDGE), 1] - 0.03
    both = np.concatenate([high, low])
    onsets = Onsets(labiodental=(0.4, 0.8), control=(3.0, 3.4))
    known = scores.Reference("p", both, np.ones(100, bool), onsets, rest)
    assert scores.score_faces([both], [known])["lip-teeth"].value == 1.0
    assert scores.score_faces([face(np.zeros(100))], [known])["lip-teeth"].value == 0.0
    blind = scores.Reference("p", both, np.ones(100, bool), onsets)
    assert np.isnan(scores.score_faces([both], [blind])["lip-teeth"].value)
