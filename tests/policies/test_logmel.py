"""Log-mel: a stream and the whole give the same rows; level and silence are as stated."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.policies import logmel
from facetwin.twin.errors import FaceTwinError


@given(st.lists(st.integers(0, 1500), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_pieces_equal_the_whole(sizes: list[int]) -> None:
    sound = np.random.default_rng(len(sizes)).normal(0, 0.1, sum(sizes)).astype(np.float32)
    mel = logmel.LogMel()
    cuts = np.cumsum([0, *sizes])
    rows = np.concatenate([mel.push(sound[a:b]) for a, b in itertools.pairwise(cuts)])
    whole = logmel.log_mel(sound)
    assert whole.shape == (len(sound) // logmel.HOP, logmel.BANDS)
    assert np.abs(rows - whole).max(initial=0) < 1e-5


def test_level_is_absolute_and_silence_is_the_floor() -> None:
    sine = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    loud = logmel.log_mel(sine)
    assert abs(loud[10:].max() - 0) < 2
    assert np.allclose(loud[10:].max() - logmel.log_mel(sine / 10)[10:].max(), 20, atol=0.1)
    assert (logmel.log_mel(np.zeros(3200)) == logmel.FLOOR).all()


def test_row_j_hears_no_further_than_its_end() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 6400).astype(np.float32)
    changed = sound.copy()
    changed[3200:] = 0
    assert np.array_equal(logmel.log_mel(sound)[:10], logmel.log_mel(changed)[:10])
    assert not np.array_equal(logmel.log_mel(sound)[10], logmel.log_mel(changed)[10])


def test_nan_and_stereo_are_refused() -> None:
    for bad in (np.array([0.0, np.nan]), np.zeros((10, 2))):
        with pytest.raises(FaceTwinError):
            logmel.log_mel(bad)
