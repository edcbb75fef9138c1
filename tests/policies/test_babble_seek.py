"""The babbler that seeks what was seldom seen."""

import numpy as np
import pytest

from facetwin.policies.babble import symmetrise
from facetwin.policies.babble_seek import CELLS, HIGH, LOW, Seeker, cells, shown
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import canonical
from facetwin.twin.spec import load_rig


def test_the_canonical_face_is_shut_and_flat():
    numbers = shown(canonical())
    assert np.isclose(numbers[0], canonical()[13, 1] - canonical()[14, 1])
    assert np.allclose(numbers[2:], 0)
    with pytest.raises(FaceTwinError, match="not landmarks"):
        shown(np.zeros((5, 3)))


def test_cells_cover_the_box_and_what_lies_outside_counts_at_its_end():
    assert cells(LOW) == 0
    assert cells(HIGH) == cells(HIGH + 1) == CELLS**4 - 1
    assert cells(LOW - 1) == 0
    middles = LOW + (HIGH - LOW) * (np.arange(CELLS)[:, None] + 0.5) / CELLS
    assert len({int(cells((a, b, LOW[2], LOW[3]))) for a in middles[:, 0] for b in middles[:, 1]}) == CELLS**2


def test_it_goes_where_little_was_seen_and_repeats_with_its_seed():
    spec = load_rig()

    def run(seed):
        seeker = Seeker(spec, np.random.default_rng(seed), symmetric=True)
        out = []
        for k in range(60):
            command = seeker.next()
            face = canonical().copy()
            face[14, 1] -= 0.4 * command[spec.index("jaw")]
            seeker.look(command, face)
            out.append(command)
            assert np.array_equal(command, symmetrise(spec, command))
            assert command.min() >= 0
            assert command.max() <= 1
            assert seeker.visits.sum() == k + 1
        return np.array(out)

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))
    assert next(Seeker(spec, np.random.default_rng(0)).batches(3)).shape == (3, spec.size)
