"""What speech does not tell: human rates, the main sequence, limits; the same however the sound is cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.policies import blinks, gaze
from facetwin.policies.blinks import Blinks
from facetwin.policies.gaze import Gaze
from facetwin.policies.head_motion import MOST, HeadMotion
from facetwin.policies.nonverbal import Alive, Nonverbal
from facetwin.policies.prosody import Beat, Prosody
from facetwin.twin.couplings import Couplings
from facetwin.twin.spec import load_rig

MINUTES = 30
PICTURES = MINUTES * 60 * 25


def hum(seconds: float, pitch: float = 120.0, seed: int = 0, melody: float = 0.0) -> np.ndarray:
    """Voice-like sound with pauses: a pulse train, on for 1.4 s, off for .6 s."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(pitch * (1 + melody * np.sin(2 * np.pi * t))) / 16_000
    tone = sum(np.sin(k * phase) / k for k in range(1, 12))
    noise = np.random.default_rng(seed).normal(0, 1e-4, len(t))
    return (0.1 * tone * (t % 2 < 1.4) + noise).astype(np.float32)


@pytest.mark.parametrize(("speaking", "every"), [(False, 5.0), (True, 5.0 / 1.5)])
def test_blinks_come_as_often_as_a_persons(speaking: bool, every: float) -> None:
    counts = []
    for seed in range(3):
        one = Blinks(seed)
        shut = np.array([one.step(speaking) for _ in range(PICTURES)])
        counts.append(one.begun)
        begins = np.flatnonzero((shut[1:] > 0) & (shut[:-1] == 0))
        between = np.diff(begins) / 25
        assert between.min() > blinks.LEAST - 0.05
        assert 0.4 < between.std() / between.mean() < 0.8  # neither a clock nor a Poisson process
    assert np.mean(counts) / (MINUTES * 60) == pytest.approx(1 / every, rel=0.1)


def test_every_blink_shuts_and_takes_100_to_400_ms() -> None:
    one = Blinks(1)
    shut = np.array([one.step() for _ in range(PICTURES)])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (shut > 0).astype(int), [0]])))
    starts, stops = edges[::2], edges[1::2]
    assert all(shut[a:b].max() == 1.0 for a, b in zip(starts[1:-1], stops[1:-1]))
    assert ((stops - starts) / 25).min() >= 0.1
    assert ((stops - starts) / 25).max() <= 0.44  # in whole pictures


def test_blinks_gather_at_pauses() -> None:
    one, near, pictures = Blinks(2), 0, 0
    for k in range(PICTURES):
        before = one.begun
        one.step(speaking=k % 75 < 60, paused=k % 75 == 60)
        if k % 75 in range(60, 65):
            near, pictures = near + one.begun - before, pictures + 1
    assert near / pictures > 2 * one.begun / PICTURES


def test_saccades_run_the_main_sequence() -> None:
    one = Gaze(0)
    for _ in range(PICTURES // 3):
        known = len(one.saccades)
        one.step(speaking=True)
        if len(one.saccades) > known:
            begin, size, takes = one.saccades[-1]
            path = np.array([one.at(begin + t) for t in np.linspace(0, takes, 201)])
            speed = np.linalg.norm(np.diff(path, axis=0), axis=1) / (takes / 200)
            assert takes == pytest.approx(0.021 + 0.0022 * np.rad2deg(size))
            assert speed.max() == pytest.approx(1.875 * size / takes, rel=1e-3)
    sizes = np.rad2deg([size for _, size, _ in one.saccades])
    rate = len(sizes) / (MINUTES * 60 / 3)
    assert 0.5 < rate < 3  # a second
    assert np.median(sizes) < 6
    assert sizes.max() < 25
    assert gaze.duration(np.deg2rad(5)) == pytest.approx(0.032)


def test_a_speaker_looks_aside_more_than_a_listener() -> None:
    aside = []
    for speaking in (False, True):
        one = Gaze(3)
        way = np.array([one.step(speaking) for _ in range(PICTURES // 2)])
        aside.append(np.mean(np.linalg.norm(way, axis=1) > np.deg2rad(5.0)))
    assert 0.05 < aside[0] < aside[1] < 0.4


def test_the_head_moves_slowly_and_nods_with_stress() -> None:
    calm, stressed = HeadMotion(4), HeadMotion(4)
    a = np.array([calm.step(Beat(0.8, True, False, False, 0.0, True)) for _ in range(5000)])
    b = np.array(
        [stressed.step(Beat(0.8, True, False, False, 5.0 * (k % 50 < 15), True)) for k in range(5000)]
    )
    assert np.abs(b).max(0).tolist() <= MOST.tolist()
    assert np.rad2deg(np.abs(np.diff(a, axis=0)).max() * 25) < 8  # degrees a second
    assert (b[:, 1] - a[:, 1]).mean() > np.deg2rad(0.2)
    assert np.array_equal(a[:, 0], b[:, 0])  # the same chance
    assert stressed.lift > 0 or calm.lift == 0


@pytest.mark.parametrize("pitch", [90.0, 120.0, 210.0, 330.0])
def test_pitch_is_heard(pitch: float) -> None:
    from facetwin.policies.prosody import _pitch

    assert _pitch(hum(0.5, pitch)[1600:2400].astype(float)) == pytest.approx(pitch, rel=0.03)
    assert _pitch(np.random.default_rng(0).normal(0, 0.1, 800)) is None


def test_pauses_are_heard_and_silence_is_not_speech() -> None:
    beats = Prosody().push(hum(8))
    assert sum(b.paused for b in beats) == 4
    assert sum(b.began for b in beats) == 4
    assert not any(b.speaking for b in Prosody().push(np.zeros(16_000)))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 9000), max_size=8), st.integers(0, 5))
def test_cut_in_pieces_is_the_same(cuts: list[int], seed: int) -> None:
    spec, sound = load_rig("face26"), hum(1.2)
    rest = np.repeat(spec.rest[None], 30, 0)
    whole = Alive(spec, Nonverbal(seed=seed))
    whole.push(sound)
    whole.finish()
    pieces = Alive(spec, Nonverbal(seed=seed))
    edges = [0, *sorted(min(c, len(sound)) for c in cuts), len(sound)]
    for a, b in itertools.pairwise(edges):
        pieces.push(sound[a:b])
    pieces.finish()
    one = whole.on(rest)
    assert np.array_equal(one, np.concatenate([pieces.on(rest[:7]), pieces.on(rest[7:])]))


@pytest.mark.parametrize("rig", ["face26", "emo23"])
def test_limits_couplings_and_the_mouth(rig: str) -> None:
    spec = load_rig(rig)
    one = Alive(spec, Nonverbal(seed=1))
    one.push(hum(20))
    mouth = np.repeat(spec.rest[None], 500, 0).astype(np.float32)
    lips = np.concatenate([spec.group("jaw"), spec.group("lips")])
    mouth[:, lips[0]] = np.linspace(0.2, 0.6, 500)
    out = one.on(mouth)
    low, high = spec.soft_limits
    assert (out >= low - 1e-6).all()
    assert (out <= high + 1e-6).all()
    assert np.array_equal(out[:, lips], mouth[:, lips])
    rules = Couplings(spec)
    out[:, lips] = spec.rest[lips]
    assert all(rules.violations(row) == rules.violations(spec.rest) for row in out[::7])
    shut = out[:, spec.index("right_upper_lid")]
    assert shut.min() == pytest.approx(low[spec.index("right_upper_lid")], abs=0.02)  # it blinked
    assert np.array_equal(out[:, spec.index("right_eye_yaw")], out[:, spec.index("left_eye_yaw")])


def test_each_can_be_switched_off() -> None:
    spec = load_rig("face26")
    rest = np.repeat(spec.rest[None], 250, 0).astype(np.float32)
    groups = {"blinks": "lids", "gaze": "eyes", "head": "neck", "brows": "brows"}
    for name, group in groups.items():
        only = Alive(spec, Nonverbal(**{n: n == name for n in groups}, seed=2))
        only.push(hum(10, melody=0.2))
        out = only.on(rest)
        moved = [g for g in groups.values() if not np.allclose(out[:, spec.group(g)], rest[:, spec.group(g)])]
        assert group in moved
        assert set(moved) <= {group, "lids"}  # lids follow the eyes
    none = Alive(spec, Nonverbal(False, False, False, False))
    none.push(hum(1))
    assert np.array_equal(none.on(rest), rest)


def test_eyes_take_back_what_the_head_does() -> None:
    spec = load_rig("face26")
    sound, rest = hum(20), np.repeat(spec.rest[None], 500, 0)
    yaw, eye = spec.index("neck_yaw"), spec.index("right_eye_yaw")
    both, still = (Alive(spec, Nonverbal(head=head, seed=5)) for head in (True, False))
    for one in (both, still):
        one.push(sound)
    a, b = both.on(rest), still.on(rest)
    turn = (a - spec.rest) * np.array([m.span for m in spec.motors])
    looked = (b - spec.rest) * np.array([m.span for m in spec.motors])
    assert np.abs(turn[:, yaw]).max() > np.deg2rad(0.5)
    assert np.allclose(turn[:, yaw] + turn[:, eye], looked[:, eye], atol=1e-5)
