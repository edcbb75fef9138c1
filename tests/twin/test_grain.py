"""A camera's noise: what is added is what is measured."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.twin.grain import add_grain, measured_grain

pytestmark = pytest.mark.sim


def scene(rng, size=96):
    return rng.integers(40, 200, (size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize("level", [0.0, 1.0, 2.0, 5.0])
def test_what_was_added_is_measured(level):
    still = scene(np.random.default_rng(1))
    pictures = np.array([add_grain(still, level, 7, number) for number in range(5)])
    assert measured_grain(pictures) == pytest.approx(level, abs=0.04 * level + 1e-9)


def test_what_moves_or_is_too_bright_does_not_count():
    rng = np.random.default_rng(2)
    still = scene(rng)
    still[:20] = 255
    pictures = np.array([add_grain(still, 2.0, 7, number) for number in range(5)])
    pictures[:, 60:80, 60:80] = rng.integers(0, 255, (5, 20, 20, 3))
    assert measured_grain(pictures) == pytest.approx(2.0, rel=0.05)
