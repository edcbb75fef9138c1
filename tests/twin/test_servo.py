import numpy as np
import pytest

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.servo import ServoBank
from facetwin.twin.spec import load_rig

FACE = load_rig("face26")
PLAIN = {"servo.dead_band": 0.0, "servo.backlash": 0.0, "servo.latency": 0.0, "servo.max_speed": 1000.0}
JAW = FACE.index("jaw")


def respond(spec, dt, steps, target=0.5):
    bank = ServoBank(spec, dt)
    command = spec.rest.copy()
    command[JAW] = target
    return np.array([bank.step(command)[JAW] for _ in range(steps)])


@pytest.mark.parametrize("zeta", [0.4, 0.999999, 1.0, 1.000001, 2.0])
def test_step_response_is_the_textbook_one(zeta):
    spec = FACE.with_({**PLAIN, "servo.damping_ratio": zeta, "servo.natural_frequency": 9.0})
    dt, w = 0.004, 2 * np.pi * 9
    got = respond(spec, dt, 60) / 0.5
    t = dt * np.arange(1, 61)
    roots = np.roots([1, 2 * zeta * w, w * w]).astype(complex)
    if abs(zeta - 1) < 1e-3:
        want = 1 - np.exp(-w * t) * (1 + w * t)
    else:
        a, b = roots
        want = (1 - (a * np.exp(b * t) - b * np.exp(a * t)) / (a - b)).real
    # What remains is the half millisecond that the reference needs at 1000 rad/s.
    np.testing.assert_allclose(got, want, atol=0.012)


def test_natural_frequency_is_seen_in_the_ringing():
    spec = FACE.with_({**PLAIN, "servo.damping_ratio": 0.1, "servo.natural_frequency": 9.0})
    dt = 0.001
    got = respond(spec, dt, 1000) - 0.5
    crossings = np.flatnonzero(np.diff(np.sign(got)))
    measured = 1 / (2 * np.diff(crossings).mean() * dt)
    assert measured == pytest.approx(9.0 * np.sqrt(1 - 0.1**2), rel=0.01)


def test_the_answer_does_not_depend_on_the_tick():
    spec = FACE.with_({"servo.dead_band": 0.0})
    coarse, fine = respond(spec, 0.02, 10), respond(spec, 0.001, 200)
    np.testing.assert_allclose(coarse, fine[19::20], atol=1e-9)


@pytest.mark.parametrize("latency", [0.0, 0.0125, 0.02, 0.0333])
def test_delay_is_exact_between_ticks(latency):
    spec = FACE.with_({**PLAIN, "servo.latency": latency})
    late = respond(spec, 0.005, 60)
    prompt = respond(FACE.with_(PLAIN), 0.0001, 3000)
    t = 0.005 * np.arange(1, 61) - latency
    want = np.interp(t, 0.0001 * np.arange(0, 3001), np.r_[0, prompt], left=0)
    np.testing.assert_allclose(late, want, atol=2e-5)


def test_speed_limit():
    spec = FACE.with_({**PLAIN, "servo.max_speed": 2.0, "servo.natural_frequency": 50.0})
    got = respond(spec, 0.005, 60, target=0.9) * spec.span[JAW]
    assert np.max(np.diff(got)) / 0.005 == pytest.approx(2.0, rel=1e-3)


def test_dead_band_ignores_small_changes():
    spec = FACE.with_({**PLAIN, "servo.dead_band": 0.006})  # a hundredth of the jaw's range
    assert np.ptp(respond(spec, 0.01, 50, target=0.009)) == 0
    assert respond(spec, 0.01, 50, target=0.011)[-1] == pytest.approx(0.011, abs=1e-4)


def test_backlash_is_a_play_operator():
    spec = FACE.with_({**PLAIN, "servo.backlash": 0.03})
    bank, play = ServoBank(spec, 0.01), 0.03 / spec.span[JAW]
    command = spec.rest.copy()
    ends = []
    for target in (0.6, 0.3, 0.6, 0.6 - play / 2):
        command[JAW] = target
        for _ in range(100):
            position = bank.step(command)
        ends.append(position[JAW])
    up = 0.6 - play / 2
    assert ends == pytest.approx([up, 0.3 + play / 2, up, up], abs=1e-9)  # the last move is lost in the play


@pytest.mark.parametrize(("zeta", "frequency"), [(0.3, 5.0), (0.7, 9.0), (1.0, 9.0), (1.5, 4.0)])
def test_a_chirp_finds_the_natural_frequency_and_damping(zeta, frequency):
    """At the natural frequency the answer is a quarter period late and 1 / (2 zeta) as large."""
    spec = FACE.with_({**PLAIN, "servo.damping_ratio": zeta, "servo.natural_frequency": frequency})
    bank, dt = ServoBank(spec, 0.001), 0.001
    t = np.arange(0, 3, dt)
    wave = 0.5 + 0.1 * np.sin(2 * np.pi * frequency * t)
    command, out = spec.rest.copy(), []
    command[JAW] = 0.5
    bank.reset(command)
    for value in wave:
        command[JAW] = value
        out.append(bank.step(command)[JAW])
    late = t > 2 - dt / 2  # whole periods
    # the command is a staircase, half a tick late on average, and the answer stands at the tick's end
    probe = np.exp(-2j * np.pi * frequency * (t[late] + dt / 2))
    gain = ((np.array(out) - 0.5)[late] @ probe) / (
        (wave - 0.5)[late] @ np.exp(-2j * np.pi * frequency * t[late])
    )
    assert abs(gain) == pytest.approx(1 / (2 * zeta), rel=0.02)
    assert np.degrees(np.angle(gain)) == pytest.approx(-90, abs=2)


def test_rise_time_and_creeping_to_the_end_are_those_of_the_file():
    spec = FACE.with_({"servo.dead_band": 0.0, "servo.backlash": 0.0})
    motor, dt = spec.motors[JAW], 0.001
    got = respond(spec, dt, 600)
    t = dt * np.arange(1, 601)
    first = t[np.argmax(got > 1e-9)]
    assert first == pytest.approx(motor.latency + dt, abs=1.5 * dt)
    # 10 % to 90 % of a critically damped lag takes 3.36 / w; a ramp of T adds in squares
    rise = t[np.argmax(got > 0.45)] - t[np.argmax(got > 0.05)]
    ramp = 0.8 * 0.5 * spec.span[JAW] / motor.max_speed
    assert rise == pytest.approx(np.hypot(3.36 / (2 * np.pi * motor.natural_frequency), ramp), rel=0.05)
    assert got[-1] == pytest.approx(0.5, abs=1e-6)


def test_a_horn_askew_and_a_linkage_too_long():
    spec = FACE.with_({"motor.jaw.scale": 1.1, "motor.jaw.trim": 0.03, "servo.backlash": 0.0})
    bank, command = ServoBank(spec, 0.01), spec.rest.copy()
    assert bank.position[JAW] == pytest.approx(0.03 / spec.span[JAW])  # rest is 0 on the jaw
    command[JAW] = 0.8
    for _ in range(200):
        position = bank.step(command)
    assert position[JAW] == pytest.approx(1.1 * 0.8 + 0.03 / spec.span[JAW], abs=1e-9)
    assert bank.shaft[JAW] == pytest.approx(0.8, abs=1e-9)  # its own sensor knows nothing of it
    np.testing.assert_array_equal(np.delete(position, JAW), np.delete(spec.rest, JAW))


def test_a_batch_is_so_many_single_ones():
    rng = np.random.default_rng(1)
    spec = FACE.with_({"motor.jaw.latency": 0.0071, "motor.jaw.damping_ratio": 0.5})
    start, commands = rng.random((3, 2, 26)), rng.random((20, 3, 2, 26))
    bank = ServoBank(spec, 0.005)
    bank.reset(start)
    together = np.array([bank.step(c) for c in commands])
    single = ServoBank(spec, 0.005)
    for i in np.ndindex(3, 2):
        single.reset(start[i])
        np.testing.assert_array_equal(
            np.array([single.step(c[i]) for c in commands]), together[:, i[0], i[1]]
        )


def test_rest_stays_and_bad_shapes_are_refused():
    bank = ServoBank(FACE, 0.005)
    np.testing.assert_array_equal(bank.step(FACE.rest), FACE.rest)
    with pytest.raises(FaceTwinError, match="not a command"):
        bank.step(np.zeros(25))
    with pytest.raises(FaceTwinError, match="not a command"):
        bank.reset(np.zeros(25))
    with pytest.raises(FaceTwinError, match="bad tick"):
        ServoBank(FACE, 0)
