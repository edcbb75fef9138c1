"""Playing commands in time: what is seen at time t is what was wanted at time t."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from facetwin.cli.perform import FPS, Track, lags, lead_times, perform, prefetch
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.policies.scores import peak_lag


class Blank:
    """A face without a picture: only where its motors are counts here."""

    def move(self, position):
        return SimpleNamespace(vertices=np.zeros((1, 3)), gap=0.0)

    def picture(self, state):
        return np.zeros((8, 8, 3), np.uint8)

    def reset(self):
        pass

    def close(self):
        pass


def play(commands, sizes=(7,)):
    """Shots of a simulated rig that plays `commands` in pieces of the given sizes, over and over."""

    def pieces():
        start, k = 0, 0
        while start < len(commands):
            yield commands[start : start + sizes[k % len(sizes)]]
            start += sizes[k % len(sizes)]
            k += 1

    with SafetyLayer(SimRig("face26", twin=Blank(), size=8)) as rig:
        rig.activate()
        rig.home(0)
        return list(perform(rig, prefetch(pieces())))


@pytest.fixture(scope="module")
def sway():
    """Four seconds of a jaw and a neck that swing at 1 Hz, and the shots of it."""
    rig = SimRig("face26", twin=Blank(), size=8)
    t = np.arange(100) / FPS
    commands = np.repeat(rig.spec.rest[None], 100, 0)
    for name in ("jaw", "neck_yaw"):
        commands[:, rig.spec.index(name)] = 0.5 + 0.15 * np.sin(2 * np.pi * t)
    return rig.spec, commands, play(commands)


def test_one_picture_each_40_ms(sway):
    _, commands, shots = sway
    spoken = [shot for shot in shots if shot.time >= 0]
    assert len(spoken) == len(commands)
    assert np.allclose([shot.time for shot in spoken], np.arange(100) / FPS)
    assert np.allclose([shot.exposed for shot in spoken], np.arange(100) / FPS, atol=1e-6)


def test_the_face_is_at_rest_before(sway):
    spec, _, shots = sway
    before = [shot for shot in shots if shot.time < 0]
    assert len(before) == 10
    assert all(np.allclose(shot.frame.truth["position"], spec.rest, atol=1e-3) for shot in before)


@pytest.mark.parametrize("name", ["jaw", "neck_yaw"])
def test_what_is_seen_is_in_time(sway, name):
    spec, commands, shots = sway
    at = spec.index(name)
    seen = np.array([shot.frame.truth["position"][at] for shot in shots if shot.time >= 0])[25:]
    wanted = commands[25:, at]
    lags = [np.dot(wanted[10:-10] - 0.5, seen[10 + k : len(seen) - 10 + k] - 0.5) for k in range(-8, 9)]
    assert abs(peak_lag(lags) * 1000 / FPS) < 10
    assert np.abs(seen - wanted).max() < 0.05


def test_ticks_say_what_was_asked(sway):
    _, _, shots = sway
    ticks = [tick for shot in shots for tick in shot.ticks]
    times = np.array([tick.time for tick in ticks])
    assert np.allclose(np.diff(times), 0.02)
    assert all(tick.asked.shape == tick.sent.shape == (26,) for tick in ticks)


def test_pieces_of_any_size_are_the_same(sway):
    _, commands, shots = sway
    other = play(commands, sizes=(1, 50, 3))
    for a, b in zip(shots, other):
        assert np.array_equal(a.frame.truth["position"], b.frame.truth["position"])
    assert play(np.zeros((0, 26))) == []


def test_slow_servos_are_told_earlier_and_more(sway):
    spec = sway[0]
    neck, jaw = spec.index("neck_yaw"), spec.index("jaw")
    assert lead_times(spec)[neck] > lead_times(spec)[jaw] > 0.02
    first, second = lags(spec)
    assert first[neck] > first[jaw] > 0.03
    assert second[neck] > second[jaw] > 0


def test_quick_motion_keeps_its_size():
    spec = SimRig("face26", twin=Blank(), size=8).spec
    jaw = spec.index("jaw")
    commands = np.repeat(spec.rest[None], 75, 0)
    commands[:, jaw] = 0.4 + 0.2 * np.sin(2 * np.pi * 4 * np.arange(75) / FPS)  # 4 Hz, as syllables
    seen = np.array([shot.frame.truth["position"][jaw] for shot in play(commands) if shot.time >= 0])
    assert np.ptp(seen[20:60]) == pytest.approx(0.4, rel=0.1)


def test_a_track_forgets_but_not_what_it_needs():
    track = Track(iter(np.arange(100.0).reshape(50, 2, 1)))
    for t in np.arange(0, 3.9, 0.02):
        assert track.at(np.array([t + 0.06])).item() == pytest.approx(min((t + 0.06) * FPS, 99))
        track.forget(t)
    assert len(track._rows) < 20


def test_an_error_while_making_pieces_arrives():
    def broken():
        yield np.zeros((3, 26))
        raise ZeroDivisionError("there")

    with pytest.raises(ZeroDivisionError, match="there"):
        list(prefetch(broken()))
