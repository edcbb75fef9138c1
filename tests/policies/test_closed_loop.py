"""The closed score: right for a perfect face, zero for a dead one, fair to its baselines."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.policies.alignment import Onsets
from facetwin.policies.closed_loop import (
    KEPT,
    SHUT_MM,
    Seen,
    blocks,
    closed_table,
    geometric_closure,
    geometric_lips,
    stages,
)  # fmt: skip
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import canonical, indices, opening

T = 250


def motion(rng):
    """A mouth that opens and shuts 2.5 times a second, displacement (T, 63, 2) in u, from shut lips."""
    t = np.arange(T) / 25
    lips = list(indices("speech63"))
    moves = np.zeros((T, 63, 2), np.float32)
    moves[:, lips.index(14), 1] = -0.1 * (1 - np.cos(2 * np.pi * 2.5 * t)) - 0.02 * rng.random(T)
    return moves


def rest():
    face = canonical().astype(np.float32).copy()
    face[14, 1] = face[13, 1]  # lips shut
    return face


def seen_of(moves, **more):
    face = np.repeat(rest()[None], len(moves), 0)
    face[:, indices("speech63"), :2] += moves
    return Seen(rest(), face[:, KEPT], np.ones(len(moves), bool), **more)


def shut_onsets():
    return Onsets(
        bilabial=tuple(k * 0.4 for k in range(1, 20)), control=tuple(0.2 + k * 0.4 for k in range(20))
    )


def test_a_perfect_face_and_its_baselines():
    moves = motion(np.random.default_rng(0))
    gap = -moves[:, list(indices("speech63")).index(14), 1] * 20
    table = closed_table(
        [seen_of(moves, gap=gap)], [moves], [shut_onsets()], loudness=[np.ones((T, 1))], target=[moves]
    )
    ours = table["seen in the mirror"]
    assert ours["D-P"].value == pytest.approx(0, abs=1e-6)
    assert ours["opening correlation"].value == pytest.approx(1)
    assert table["speech model, not executed"]["D-P"].value == pytest.approx(0, abs=1e-6)
    assert table["frozen face"]["opening correlation"].value == 0
    assert table["frozen face"]["closure - control"].value == 0
    assert table["reference, one frame late"]["offset"].value == pytest.approx(40, abs=6)
    assert ours["closure - control"].value > 0.5
    assert ours["closure - control, geometry"].value > 0.5
    for name, row in table.items():
        if name not in ("seen in the mirror", "speech model, not executed", "reference itself"):
            assert row["D-P"].value > ours["D-P"].value


def test_lost_pictures_count_nowhere_and_a_lost_face_is_an_error():
    moves = motion(np.random.default_rng(0))
    take = seen_of(moves)
    take.points[100:110] += 1.0
    take.found[100:110] = False
    assert closed_table([take], [moves], [Onsets()])["seen in the mirror"]["D-P"].value < 1e-6
    take.found[:] = False
    with pytest.raises(FaceTwinError, match="never found"):
        closed_table([take], [moves], [Onsets()])
    with pytest.raises(FaceTwinError, match="differ"):
        closed_table([take], [moves[1:]], [Onsets()])


def test_faces_keep_what_is_scored():
    moves = motion(np.random.default_rng(1))
    take = seen_of(moves)
    assert np.allclose(opening(take.faces()), -moves[:, list(indices("speech63")).index(14), 1], atol=1e-6)


def test_geometry_counts_within_the_window():
    lips = np.zeros(50, bool)
    lips[11] = True
    near = geometric_closure([lips], [Onsets(bilabial=(0.4,), control=(1.0,))], 1)
    assert near["closure - control, geometry"].value == 1
    assert geometric_closure([lips], [Onsets(bilabial=(0.36,))], 1)["closure, geometry"].value == 0
    assert SHUT_MM == 0.5


@pytest.mark.parametrize("frames", [1, 20, 100, 1000, 90_000])
def test_blocks_cover_and_stay_few(frames):
    parts = blocks(frames)
    assert parts[0].start == 0
    assert parts[-1].stop == frames
    assert sum(p.stop - p.start for p in parts) <= 15_100
    assert all(p.stop > p.start for p in parts)


def test_lips_by_geometry():
    onsets = Onsets(rounded=(1.0,), labiodental=(2.0,), control=(4.0, 5.0))
    width, edge, forward = np.full(T, 50.0), np.full(T, 5.0), np.zeros(T)
    width[23:28], forward[25], edge[49:52] = 45.0, 3.0, 0.3
    lips = {"width": width, "edge": edge, "forward": forward, "touch": edge + 3}
    row = geometric_lips([lips], [onsets], 1)
    assert row["pucker, geometry"].value == 1.0
    assert row["lip-teeth, geometry"].value == 1.0
    assert row["protrusion at /w u/"].value == 3.0
    assert row["protrusion at controls"].value == 0.0
    assert row["lip to teeth at /f v/"].value == pytest.approx(3.3)
    moves = motion(np.random.default_rng(3))
    gap = np.ones(T)
    table = closed_table([seen_of(moves, gap=gap, lips=lips)], [moves], [onsets], target=[moves])
    found = {name: shape for name, _, _, shape in stages(table)}
    assert found["pucker"] == found["lip-teeth"] == 1.0
    dead = geometric_lips([{k: np.full(T, 1.0) for k in lips}], [Onsets()], 1)
    assert np.isnan(dead["pucker, geometry"].value)
    assert np.isnan(dead["protrusion at /w u/"].value)
