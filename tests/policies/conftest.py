"""Made-up talkers, so that learners can be tested without recordings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from facetwin.policies.dataset import Clip
from facetwin.twin.landmarks import canonical


def made_up(count: int, frames: int = 50) -> list[Clip]:
    """Clips in which the lower lip drops while a tone sounds."""
    random = np.random.default_rng(0)
    shut = canonical().astype(np.float32).copy()
    shut[13, 1] = shut[14, 1] = (shut[13, 1] + shut[14, 1]) / 2
    clips = []
    for k in range(count):
        on = np.zeros(frames, bool)
        at = int(random.integers(8, 30))
        on[at : at + 10] = True
        sound = np.repeat(on, 640) * 0.3 * np.sin(np.arange(frames * 640) * 0.2)
        face = np.repeat(shut[None], frames, 0)
        face[on, 14, 1] -= 0.1
        clips.append(Clip(f"c{k}", face, np.ones(frames, bool), sound.astype(np.float32)))
    return clips


@pytest.fixture(scope="session")
def talkers() -> Callable[[int], list[Clip]]:
    return made_up
