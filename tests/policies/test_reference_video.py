"""Reference videos: what is refused, and what counts as to be shut."""

import numpy as np
import pytest

from facetwin.policies.reference_video import Wish, closures, wish_of
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import SETS


def test_closures_are_where_the_opening_is_small():
    moves = np.zeros((4, 63, 2), np.float32)
    moves[:, SETS["speech63"].index(14), 1] = (0, -0.01, -0.03, -0.2)
    asked, gaps = closures(Wish(moves, "made up"), [0.1, 0.4, 3.0, 15.0])
    assert asked.tolist() == [True, True, False, False]
    assert np.allclose(gaps, (0.1, 0.4))


def test_what_is_no_speech_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        wish_of(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(FaceTwinError):
        wish_of(tmp_path / "text.wav")
