"""Twin against rig: what was hidden in a body's servos is found, and said apart from the camera's delay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetwin.twin.calibration.agreement import (
    mean_maximum_rank_violation,
    pearson,
    rank_violations,
)
from facetwin.twin.calibration.compare import CLEAR, Side, align_traces, compare
from facetwin.twin.calibration.excitation import slots
from facetwin.twin.calibration.observed import Observed, check_frozen
from facetwin.twin.calibration.probes import CLIP, RATE, TURN, expressions, probe, program, sharing
from facetwin.twin.calibration.servo_trace import fit_servo
from facetwin.twin.calibration.traces import BACKLASH, DEAD, FREQUENCY, LATENCY, models
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import load_face
from facetwin.twin.landmarks import align, canonical, fit_unit
from facetwin.twin.randomise import draw
from facetwin.twin.servo import ServoBank
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim

FACE = load_rig("face26")
TICK = 0.001
NOISE = 0.0015  # u, of a landmark as our tracker sees it


def hidden(seed):
    """A body with servos of its own, latencies of 10 to 60 ms."""
    rng = np.random.default_rng(seed)
    body, _ = draw(FACE, rng, ["servo.*", "motor.*.scale"])
    latencies = rng.uniform(0.010, 0.060, FACE.size)
    return body.with_({f"motor.{n}.latency": float(x) for n, x in zip(FACE.names, latencies)})


def play(body, commands):
    """Shafts at the commands and loads on a grid of `TICK`, float64 (T, n) and (K, n)."""
    bank = ServoBank(body, TICK)
    bank.reset(FACE.rest)
    ticks = np.round(np.arange(len(commands) + 1) / RATE / TICK).astype(int)
    shaft, load = [], []
    for k, command in enumerate(commands):
        shaft.append(bank.shaft)
        for _ in range(ticks[k + 1] - ticks[k]):
            bank.step(command)
            load.append(bank.position)
    return np.array(shaft), np.array(load)


@pytest.fixture(scope="module")
def skin():
    face = load_face()
    return face, FastSkin.load(FACE, face)


def record(body, played, skin, *, sensors, late=0.0, fps=25.0, seed=0):
    """What a rig with this body would give: commands, sensors, landmarks by geometry with noise."""
    face, fast = skin
    rng = np.random.default_rng(seed)
    shaft, load = play(body, played.commands)
    time = np.arange(len(played.commands)) / RATE
    at = np.arange(0.011, played.seconds - 0.02, 1 / fps)
    places = load[np.minimum((at / TICK).astype(int), len(load) - 1)]
    seen, unit = [], None
    for place in places:
        points = canonical() * face.metres_per_u
        points[:468] = fast.shape(place).vertices[:468]
        pixels = points * (1, -1, -1)
        unit = unit or fit_unit(pixels)
        seen.append(align(pixels, unit=unit))
    landmarks = np.array(seen, np.float64) + rng.normal(0, NOISE, (len(at), 478, 3))
    measured = shaft + rng.normal(0, 3e-4, shaft.shape) if sensors else np.full_like(shaft, np.nan)
    turn = rng.normal(0, 1e-3, (len(at), 3))
    return Side(FACE, Observed(time, played.commands, measured, at + late, landmarks, turn))


@pytest.fixture(scope="module")
def pair(skin):
    names = [FACE.names[i] for i in slots(FACE)[0] if FACE.motors[i].group not in ("neck", "eyes", "lids")]
    played = program(FACE, names)  # what the skin shows without a tracker
    body = hidden(3)
    twin = record(FACE, played, skin, sensors=True, seed=1)
    rig = record(body, played, skin, sensors=True, late=0.03, seed=2)
    return played, body, twin, rig


def test_with_sensors_servo_and_camera_are_told_apart(pair):
    played, body, twin, rig = pair
    found = compare(twin, rig, played)
    for motor in found.motors:
        own = body.motors[FACE.index(motor.name)]
        assert motor.by == "sensor"
        assert motor.sensor.latency == pytest.approx(own.latency, abs=0.002)
        assert motor.sensor.values[FREQUENCY] == pytest.approx(own.natural_frequency, rel=0.05)
        assert motor.sensor.values[DEAD] == pytest.approx(own.dead_band, abs=0.002)
        assert motor.residual < motor.raw
    assert found.camera == pytest.approx(0.03, abs=0.005)
    assert not any("together" in note for note in found.notes)


def test_without_sensors_the_mirror_tells_their_sum(pair):
    played, body, twin, rig = pair
    blind = [replace(s, data=replace(s.data, measured=np.full_like(s.data.measured, np.nan)))
             for s in (twin, rig)]  # fmt: skip
    found = compare(*blind, played)
    assert found.camera is None
    assert any("servo and camera together" in note for note in found.notes)
    off = []
    for motor in found.motors:
        assert motor.by == "mirror"
        assert motor.clear >= CLEAR
        off.append(motor.mirror.latency - body.motors[FACE.index(motor.name)].latency - 0.03)
    assert np.abs(np.mean(off)) < 0.005
    assert np.abs(off).max() < 0.012
    groups = {g.name: g for g in found.groups}
    assert groups["lips"].aligned < groups["lips"].raw


def test_turns_played_again_count_as_much_as_the_first(pair, skin):
    played, body, twin, rig = pair
    blind = [replace(s, data=replace(s.data, measured=np.full_like(s.data.measured, np.nan)))
             for s in (twin, rig, record(body, played, skin, sensors=False, late=0.03, seed=7))]  # fmt: skip
    one, two = (compare(blind[0], side, played) for side in blind[1:])
    both = compare(*blind[:2], played, blind[2:])
    for m, a, b in zip(both.motors, one.motors, two.motors):
        assert m.mirror.latency == pytest.approx((a.mirror.latency + b.mirror.latency) / 2, abs=1e-5)
        assert m.gain == a.gain  # all else is the first recording's
        assert abs(a.mirror.latency - b.mirror.latency) / 2 <= m.mirror.spread[LATENCY] + 1e-5
    same = compare(*blind[:2], played, [blind[1]])
    assert [m.mirror.latency for m in same.motors] == [m.mirror.latency for m in one.motors]


def test_the_error_that_the_twin_shows_too_is_taken_off(pair):
    """Pictures that the twin's camera stamps 5 ms late make all of its latencies 5 ms too long, and the rig's
    by as much shorter."""
    played, _, twin, rig = pair
    blind = [replace(s, data=replace(s.data, measured=np.full_like(s.data.measured, np.nan)))
             for s in (twin, rig)]  # fmt: skip
    late = replace(blind[0], data=replace(blind[0].data, picture_time=blind[0].data.picture_time + 0.005))
    right, wrong = compare(*blind, played), compare(late, blind[1], played)
    off = [a.mirror.latency - b.mirror.latency for a, b in zip(wrong.motors, right.motors)]
    assert np.mean(off) == pytest.approx(-0.005, abs=0.001)


def test_motors_that_take_a_turn_together_have_servos_of_one_model():
    for spec in (FACE, load_rig("emo23")):
        kinds = {i: k for k, members in enumerate(models(spec)) for i in members}
        turns = sharing(spec)
        assert sorted(i for turn in turns for i in turn) == list(range(spec.size))
        assert all(len({kinds[i] for i in turn}) == 1 for turn in turns)
        assert [set(t.motors) for t in program(spec).turns] == [set(turn) for turn in turns]


def test_a_twin_is_near_itself(pair, skin):
    played, _, twin, _ = pair
    again = record(FACE, played, skin, sensors=True, seed=5)
    found = compare(twin, again, played)
    for motor in found.motors:
        assert motor.delay == pytest.approx(0.0, abs=0.001)
        assert motor.gain == pytest.approx(1.0, abs=0.01)
    assert all(g.aligned < 2.5 * NOISE for g in found.groups)


@pytest.mark.parametrize("mirror", [False, True])
def test_servo_from_a_trace(mirror):
    body = hidden(7)
    name = "jaw"
    motor = FACE.index(name)
    played = program(FACE, [name], clip=False)
    shaft, load = play(body, played.commands)
    time = np.arange(len(played.commands)) / RATE
    rng = np.random.default_rng(0)
    if mirror:
        at = np.arange(0, played.seconds - 0.05, 0.04)
        place = load[(at / TICK).astype(int), motor]
        seen = place + 0.3 * (place - 0.5) ** 2 + rng.normal(0, 0.005, len(at))
    else:
        at, seen = time, shaft[:, motor]
    fit = fit_servo(FACE, motor, time, played.commands, at, seen, mirror=mirror)
    assert fit.latency == pytest.approx(body.motors[motor].latency, abs=0.005 if mirror else 0.0015)
    assert np.isfinite(fit.spread[BACKLASH]) == mirror
    assert fit.spread[LATENCY] < 0.01
    assert fit.residual < (0.01 if mirror else 0.002)


def test_bad_recordings(pair):
    played, _, twin, rig = pair
    short = replace(rig, data=replace(rig.data, time=rig.data.time[:50], sent=rig.data.sent[:50],
                                      measured=rig.data.measured[:50]))  # fmt: skip
    with pytest.raises(UsageError, match="too short"):
        compare(twin, short, played)
    dark = replace(rig, data=replace(
        rig.data, landmarks=np.full_like(rig.data.landmarks, np.nan),
        measured=np.full_like(rig.data.measured, np.nan)))  # fmt: skip
    with pytest.raises(UsageError, match="nothing shows where the motors stand"):
        compare(twin, dark, played)
    with pytest.raises(UsageError, match="another rig"):
        compare(twin, replace(rig, spec=load_rig("emo23")), played)
    with pytest.raises(UsageError, match="no such motor"):
        program(FACE, ["nose"])
    still = np.tile(FACE.rest, (100, 1))
    with pytest.raises(UsageError, match="hardly moved"):
        fit_servo(FACE, 0, np.arange(100) / 50, still, np.arange(100) / 50, np.zeros(100), mirror=False)


@pytest.mark.parametrize("name", ["face26", "emo23"])
def test_program_keeps_to_the_limits_and_moves_every_motor(name):
    spec = load_rig(name)
    played = program(spec, babble=2.0)
    low, high = spec.soft_limits
    assert (played.commands >= low).all()
    assert (played.commands <= high).all()
    assert sorted(i for turn in played.turns for i in turn.motors) == list(range(spec.size))
    assert np.array_equal(played.commands[0], spec.rest)
    assert np.array_equal(played.commands[-1], spec.rest)
    for turn in played.turns:
        rows = slice(round(turn.start * RATE), round(turn.end * RATE))
        moved = np.ptp(played.commands[rows], axis=0)
        assert (moved[list(turn.motors)] > 0.3).all()
        assert (np.delete(moved, turn.motors) == 0).all()
    assert len(expressions(spec)) == round(CLIP * RATE)
    assert len(probe(0.5, 0.0, 1.0)) == round(TURN * RATE)


@settings(deadline=None)  # of busy machines
@given(st.floats(-0.05, 0.15), st.floats(0.3, 2.0), st.integers(0, 1000))
def test_delay_and_gain_of_traces(delay, gain, seed):
    rng = np.random.default_rng(seed)
    fine = np.arange(0, 4, 0.02)
    knots = rng.normal(size=12)

    def curve(t):
        return sum(a * np.sin((k + 1) * 1.3 * t + k) / (k + 1) for k, a in enumerate(knots))

    coarse = np.arange(0.3, 3.7, 0.04)
    found = align_traces((fine, curve(fine)), (coarse, 2.0 + gain * curve(coarse - delay)))
    assert found[0] == pytest.approx(delay, abs=0.002)
    assert found[1] == pytest.approx(gain, rel=0.02)


SCORES = st.lists(st.integers(-100, 100).map(lambda k: k / 100), min_size=2, max_size=8)


@given(SCORES, st.randoms())
def test_rank_violation(scores, random):
    shuffled = scores[:]
    random.shuffle(shuffled)
    each = rank_violations(scores, scores)
    assert (each == 0).all()
    worst = mean_maximum_rank_violation(shuffled, scores)
    assert 0 <= worst <= np.ptp(scores) * (1 + 1e-12)  # a mean of equal numbers rounds
    # a strictly monotone change of the twin's scores changes nothing
    assert mean_maximum_rank_violation(np.array(shuffled) * 3 + 1, scores) == pytest.approx(worst)
    r = pearson(scores, np.array(scores) * 2 - 1)
    assert np.isnan(r) or r == pytest.approx(1.0)


def test_rank_agreement_refuses_what_does_not_pair():
    with pytest.raises(FaceTwinError, match="do not pair"):
        pearson([1.0], [1.0])
    with pytest.raises(FaceTwinError, match="not finite"):
        mean_maximum_rank_violation([1.0, float("nan")], [1.0, 2.0])


@pytest.mark.parametrize(("after", "frozen"), [(0.2, False), (0.6, True)])
def test_a_camera_is_frozen_only_once_a_command_should_show(pair, after, frozen):
    """A still face at rest gives the same landmarks to the bit, and the first command takes a while."""
    data = pair[2].data
    moved = data.time[np.argmax(np.abs(data.sent - data.sent[0]).max(1) > 0.2)]
    still = data.picture_time < moved + after
    seen = np.where(still[:, None, None], data.landmarks[0], data.landmarks)
    if frozen:
        with pytest.raises(UsageError, match="the camera was frozen"):
            check_frozen(replace(data, landmarks=seen), "here")
    else:
        check_frozen(replace(data, landmarks=seen), "here")
