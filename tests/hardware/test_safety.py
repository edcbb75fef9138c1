import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeTwin, Script, ScriptedRig
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from facetwin.hardware.check import check_rig
from facetwin.hardware.rig import Capabilities, RigFault
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.safety_settings import Level, Limit
from facetwin.hardware.sim import SimRig
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import LinearRule, load_rig

FACE = load_rig("face26")
ENDS = st.one_of(st.sampled_from([0.0, 1.0, 0.3, 0.85]), st.floats(-0.5, 1.5))


def active(script=None, spec=FACE, **settings) -> SafetyLayer:
    rig = SafetyLayer(ScriptedRig(spec, script), **settings)
    rig.open()
    rig.activate()
    return rig


def load_fuzz():
    path = Path(__file__).parents[2] / "benchmarks" / "safety_fuzz.py"
    module = importlib.util.module_from_spec(
        spec := importlib.util.spec_from_file_location("safety_fuzz", path)
    )
    spec.loader.exec_module(module)
    return module


SLOW = {"servo.max_acceleration": 20.0, "servo.max_speed": 4.0}


@pytest.mark.parametrize(("name", "changes"), [("face26", {}), ("face26", SLOW), ("emo23", SLOW)])
def test_whatever_is_asked_what_is_sent_is_safe(name, changes):
    fuzz = load_fuzz()
    spec = load_rig(name).with_(changes) if changes else load_rig(name)
    referee, refused = fuzz.fuzz(spec, 60, seed=1)
    assert referee.broken == {}
    assert referee.judged > 1000
    assert refused > 10


def test_the_referee_of_the_fuzz_sees_what_is_wrong():
    fuzz = load_fuzz()

    def judged(*rows):
        referee = fuzz.Referee(FACE.with_(SLOW), 0.1, FACE.rest, 0.0)
        for now, changes in rows:
            command = FACE.rest.copy()
            for motor, value in changes.items():
                command[FACE.index(motor)] = value
            referee.take(now, command)
        return set(referee.broken)

    assert judged((0.02, {}), (0.04, {"jaw": 0.01})) == set()
    assert judged((0.02, {"jaw": 0.96})) >= {"limit", "speed", "acceleration"}
    assert judged((0.1, {"upper_lip_raise": 0.8, "upper_lip_roll": 0.8})) >= {"coupling"}
    way = [(0.02 * k, {"jaw": 0.006 * k * k}) for k in range(1, 5)]
    assert judged(*way) == set()
    assert judged(*way, (0.1, way[-1][1])) == {"acceleration"}  # a hard stop


@settings(max_examples=40, deadline=None)
@given(
    commands=st.lists(arrays(np.float64, 26, elements=ENDS), min_size=2, max_size=6),
    waits=st.lists(st.sampled_from([0.005, 0.02, 0.04, 0.3]), min_size=2, max_size=6),
)
def test_a_goal_is_passed_only_by_the_way_that_braking_takes(commands, waits):
    rig = active(watchdog=None)
    x, v = FACE.rest.copy(), np.zeros(26)
    for command, wait in zip(commands, waits):
        goal = rig.couplings.project(np.clip(command, 0, 1), rig.lower, rig.upper)
        v = v if wait <= rig.longest_step else np.zeros(26)
        brake = v**2 / (2 * rig.max_acceleration)
        low = np.minimum(x, goal) - np.where(v < 0, brake, 0) - 1e-9
        high = np.maximum(x, goal) + np.where(v > 0, brake, 0) + 1e-9
        for _ in range(4):
            rig.clock.sleep(wait)
            new = rig.write(command)
            assert (low <= new).all()
            assert (new <= high).all()
            x, v = new, (new - x) / min(wait, rig.longest_step)


def test_a_far_goal_is_reached_with_the_acceleration_it_has():
    spec = FACE.with_({"servo.max_acceleration": 20.0, "servo.max_speed": 3.0})
    rig = active(spec=spec, watchdog=None)
    jaw = FACE.index("jaw")
    goal = FACE.rest.copy()
    goal[jaw] = 0.9
    way = [FACE.rest[jaw]]
    for _ in range(80):
        rig.clock.sleep(0.01)
        way.append(rig.write(goal)[jaw])
    assert way[-1] == 0.9
    speed = np.diff(way) * spec.span[jaw] / 0.01
    assert speed.max() <= 3.0 + 1e-9
    assert np.abs(np.diff(speed)).max() / 0.01 <= 20.0 + 1e-6  # speeding up and braking alike
    distance, best = 0.9 * spec.span[jaw], 0.0
    best = distance / 3 + 3 / 20 if distance > 9 / 20 else 2 * np.sqrt(distance / 20)
    assert np.argmax(np.array(way) == 0.9) * 0.01 <= best + 0.03  # and no slower than it need be


def test_last_change_names_rule_and_motor():
    rig = active(watchdog=None)
    command = FACE.rest.copy()
    raise_, roll = FACE.index("upper_lip_raise"), FACE.index("upper_lip_roll")
    command[[raise_, roll]] = 1.0, 1.0
    command[FACE.index("jaw")] = 1.4
    rig.clock.sleep(0.02)
    rig.write(command)
    change = rig.last_change
    assert change["range"] == {"jaw": (1.4, 1.0)}
    assert change["soft limit"]["jaw"] == (1.0, rig.upper[FACE.index("jaw")])
    assert any(rule.startswith("coupling: ") and "upper_lip" in str(moved) for rule, moved in change.items())
    assert "speed" in change or "acceleration" in change
    rig.clock.sleep(0.02)
    rig.write(rig.inner._commanded)
    assert rig.last_change == {}


def test_it_slides_round_a_forbidden_corner():
    # Straight from one allowed pose to the other leads through the forbidden box.
    rig = active(watchdog=None)
    raise_, roll = FACE.index("upper_lip_raise"), FACE.index("upper_lip_roll")
    poses = [(0.95, 0.4), (0.4, 0.95), (0.95, 0.4)]
    for up, out in poses:
        goal = FACE.rest.copy()
        goal[[raise_, roll]] = up, out
        assert rig.couplings.violations(goal) == ()
        for _ in range(100):
            rig.clock.sleep(0.01)
            sent = rig.write(goal)
            assert rig.couplings.violations(sent) == ()
        np.testing.assert_array_equal(sent, goal)


def test_two_writes_in_one_instant_are_one():
    rig, once = active(watchdog=None), active(watchdog=None)
    for r in (rig, once):
        r.clock.sleep(0.02)
    for _ in range(50):
        rig.write(np.ones(26))
    np.testing.assert_array_equal(rig.write(FACE.rest * 0.5), once.write(FACE.rest * 0.5))


def test_the_watchdog_trips_holds_and_eases_to_rest():
    rig = active(watchdog=0.5, ease_after=1.0, ease_speed=0.5)
    goal = np.full(26, 0.5)
    for _ in range(100):
        rig.clock.sleep(0.02)
        sent = rig.write(goal)
    assert rig.trips == 0
    rig.clock.sleep(0.45)
    assert rig.status.state == "active"
    rig.clock.sleep(0.1)
    assert (rig.trips, rig.status.state) == (1, "held")
    assert "no write for 0.5 s" in rig.status.reason
    assert rig.inner.script.calls[-1] == "hold"
    np.testing.assert_array_equal(rig.read().commanded, sent)
    writes = len(rig.inner.script.sent)
    rig.clock.sleep(4.0)
    np.testing.assert_allclose(rig.read().commanded, FACE.rest, atol=1e-12)
    eased = np.array(rig.inner.script.sent[writes - 1 :])
    assert np.abs(np.diff(eased, axis=0)).max() <= 0.5 * 0.02 + 1e-9
    assert rig.couplings.allowed(eased).all()
    rig.write(goal)  # it takes commands again, without a jump
    assert rig.status.state == "active"
    assert np.abs(rig.read().commanded - FACE.rest).max() < 0.5


def test_idle_motors_are_switched_off():
    told = []
    rig = active(watchdog=0.2, ease_after=0.2, idle_detach=1.0, on_idle=lambda: told.append(1))
    rig.clock.sleep(5.0)
    assert rig.status.state == "open"
    assert rig.inner.status.state == "open"
    assert "idle" in rig.status.reason
    assert told == [1]
    with pytest.raises(FaceTwinError, match="idle for"):
        rig.write(FACE.rest)
    rig.activate()
    rig.write(FACE.rest)


def test_the_watchdog_trips_in_real_time():
    import time

    from facetwin.hardware.clock import RealClock

    inner = ScriptedRig()
    inner.clock = RealClock()
    rig = SafetyLayer(inner, watchdog=0.15)
    with rig:
        rig.activate()
        rig.write(FACE.rest)
        assert rig.trips == 0
        time.sleep(0.4)
        assert rig.trips == 1
        assert "hold" in inner.script.calls
    assert inner.script.calls[-2:] == ["release", "close"]


@pytest.mark.parametrize(
    ("wrong", "words", "state"),
    [
        ({"faults": ("jaw: overload",)}, "jaw: overload", "held"),
        ({"temperature": 81.0}, "81 C, limit 70 C", "open"),
        ({"voltage": 4.1}, "4.10 V, limit 5 V", "held"),
    ],
)
def test_faults_are_latched_until_reset(wrong, words, state):
    script = Script()
    rig = active(script, min_voltage=5.0)
    for key, value in wrong.items():
        setattr(script, key, value)
    rig.read()
    assert rig.status.state == state
    for _ in range(3):
        with pytest.raises(RigFault, match=f"a fault is latched.*{words}"):
            rig.write(FACE.rest)
    assert words in rig.status.reason
    rig.clock.sleep(5.0)
    assert rig.status.state == "open"  # held, then released
    with pytest.raises(RigFault, match="latched"):
        rig.activate()
    script.faults, script.temperature, script.voltage = (), 30.0, 6.0
    rig.reset()
    rig.activate()
    rig.write(FACE.rest)
    assert rig.status.state == "active"


def test_a_stalled_motor_is_seen_and_switched_off():
    script = Script(stuck=("jaw",))
    rig = active(script)
    goal = FACE.rest.copy()
    goal[FACE.index("jaw")] = 0.9
    while not rig.fault and rig.clock.now() < 1.2:
        rig.clock.sleep(0.02)
        rig.write(goal)
        rig.read()
    with pytest.raises(RigFault, match=r"jaw: stalled at 0\.00, command 0\.90"):
        rig.write(goal)
    assert script.calls[-1] == "release"


def test_a_short_failure_is_nothing_and_a_long_one_is_held_then_released():
    script = Script()
    rig = active(script)
    script.write_fails = 2
    rig.write(FACE.rest)
    assert rig.inner.status.retries == 2
    script.write_fails = 10**6
    with pytest.raises(FaceTwinError, match="servo 5 is silent"):
        rig.write(FACE.rest)
    assert rig.inner.status.state == "held"
    with pytest.raises(RigFault, match=r"latched.*servo 5 is silent"):
        rig.write(FACE.rest)
    rig.clock.sleep(5.0)
    assert (rig.status.state, rig.inner.status.state) == ("open", "open")
    assert "servo 5 is silent" in rig.status.reason
    assert script.calls[-1] == "release"


def test_bad_commands_change_nothing():
    rig = active()
    rig.clock.sleep(0.02)
    rig.write(FACE.rest)
    sent = len(rig.inner.script.sent)
    for bad in (
        np.full(26, np.nan),
        np.r_[np.inf, np.zeros(25)],
        np.zeros(25),
        "jaw",
        None,
        np.zeros((1, 26)),
    ):
        with pytest.raises(FaceTwinError, match="not a command"):
            rig.write(bad)
    assert len(rig.inner.script.sent) == sent
    assert rig.status.state == "active"


def test_starting_in_a_forbidden_pose_it_gets_out():
    start = FACE.rest.copy()
    start[[FACE.index("upper_lip_raise"), FACE.index("upper_lip_roll")]] = 1.0, 1.0
    rig = SafetyLayer(ScriptedRig(FACE, start=start), watchdog=None)
    rig.open()
    rig.activate()
    np.testing.assert_array_equal(rig.read().commanded, start)
    for _ in range(50):
        rig.clock.sleep(0.02)
        sent = rig.write(FACE.rest)
    np.testing.assert_array_equal(sent, FACE.rest)


def test_all_limits_can_be_read_also_those_that_are_off():
    text = SafetyLayer(ScriptedRig(), watchdog=None).describe()
    assert "watchdog: off" in text
    for name in FACE.names:
        assert name in text
    with pytest.raises(UsageError, match="SafetyLayer: watchdog: bad setting; found 0"):
        SafetyLayer(ScriptedRig(), watchdog=0)


def test_two_layers_and_a_scripted_rig_keep_the_contract():
    check_rig(SafetyLayer(SafetyLayer(SimRig(FACE, twin=FakeTwin(FACE), size=(24, 16)))))


def test_the_watchdog_outlives_a_driver_that_breaks():
    def broken():
        raise ValueError("a bug in the driver")

    rig = active(watchdog=0.2, ease_after=0.5)
    rig.inner._hold = broken
    rig.clock.sleep(0.3)
    assert "a bug in the driver" in rig.fault
    rig.clock.sleep(1.0)
    assert (rig.status.state, rig.inner.script.calls[-1]) == ("open", "release")


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        (None, Limit()),
        ("off", Limit()),
        (False, Limit()),
        (70, Limit(None, Level(70.0))),
        ((70, 2), Limit(None, Level(70.0, 2.0))),
        (["stop", 70], Limit(None, Level(70.0))),
        (("warn", 60, 1.5), Limit(Level(60.0, 1.5))),
        ({"warn": 60, "stop": [70, 1]}, Limit(Level(60.0), Level(70.0, 1.0))),
        ({"warn": "off", "stop": 70}, Limit(None, Level(70.0))),
        (Limit(Level(1.0)), Limit(Level(1.0))),
    ],
)
def test_a_limit_is_written_in_many_ways(given, limit):
    assert Limit.of(given) == limit


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"watchdog": 0}, "watchdog: bad setting; found 0"),
        ({"watchdog": float("nan")}, "watchdog: bad setting"),
        ({"ease_after": None}, "ease_after: bad setting"),
        ({"longest_step": True}, "longest_step: bad setting"),
        ({"longest_step": 5}, "longest_step: bad setting; found 5, expected above 0, at most 1 s"),
        ({"poll": -0.1}, "poll: bad setting"),
        ({"temprature": 70}, "no such setting.*did you mean temperature"),
        ({"temperature": ("halt", 70)}, "expected off, warn or stop"),
        ({"temperature": float("nan")}, "temperature: bad setting"),
        ({"temperature": 7000}, "a number from -20 to 200"),
        ({"voltage": "low"}, "voltage: bad setting"),
        ({"stall": 0.2}, "a distance and a time"),
        ({"stall": (0.2, -1)}, "stall: bad setting"),
        ({"overload": {"warn": (1, 2, 3)}}, "overload: bad setting"),
        ({"faults": "ignore"}, "faults: bad setting"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(UsageError) as error:
        SafetyLayer(ScriptedRig(), **settings)
    assert re.search(words, str(error.value))
    assert "\n" not in str(error.value)


WRONG = {  # kind -> setting, script that is beyond it, what is said
    "temperature": (65, {"temperature": 66.0}, "right_inner_brow|neck_yaw: 66 C, limit 65 C"),
    "voltage": (5.0, {"voltage": 4.5}, "4.50 V, limit 5 V"),
    "overload": ((0.8, 0.5), {"load": 0.9}, "load 0.90 of stall, limit 0.8 for 0.5 s"),
    "stall": ((0.25, 0.5), {"stuck": ("jaw",)}, "jaw: stalled at 0.00, command 0.90"),
    "faults": (None, {"faults": ("jaw: encoder",)}, "jaw: encoder"),
}


def meanwhile(rig, seconds=2.0):
    """Somebody writes and never reads."""
    goal = FACE.rest.copy()
    goal[FACE.index("jaw")] = 0.9
    end = rig.clock.now() + seconds
    while rig.clock.now() < end and not rig.fault:
        rig.write(goal)
        rig.clock.sleep(0.02)


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("action", ["off", "warn", "stop"])
def test_each_limit_can_be_off_or_warn_or_stop(kind, action):
    value, wrong, words = WRONG[kind]
    setting = action if kind == "faults" or action == "off" else {action: value}
    others = {k: "off" for k in WRONG if k != kind}
    told = []
    script = Script()
    rig = active(script, on_warning=told.append, **{**others, kind: setting})
    for key, what in wrong.items():
        setattr(script, key, what)
    meanwhile(rig)
    if action == "stop":
        assert re.search(words, rig.fault)
        assert rig.status.reason == rig.fault
        rig.clock.sleep(3.0)
        assert script.calls[-1] == "release"
        return
    assert rig.fault == ""
    assert rig.status.state == "active"
    if action == "off":
        assert (told, rig.status.warnings) == ([], ())
    else:
        motors = 26 if kind in ("temperature", "voltage", "overload") else 1
        assert len(told) == len(rig.status.warnings) == motors  # once, however often it is seen
        assert re.search(words, told[0])


@pytest.mark.parametrize(("kind", "at_once"), [("temperature", True), ("overload", True), ("stall", True),
                                               ("voltage", False), ("faults", False)])  # fmt: skip
def test_what_would_burn_is_switched_off_and_the_rest_is_held(kind, at_once):
    value, wrong, _ = WRONG[kind]
    script = Script()
    rig = active(script, **{kind: value if kind != "faults" else "stop"})
    for key, what in wrong.items():
        setattr(script, key, what)
    meanwhile(rig)
    assert rig.status.state == ("open" if at_once else "held")
    assert script.calls[-1] == ("release" if at_once else "hold")


def test_a_warning_that_comes_back_is_told_again():
    told = []
    script = Script()
    rig = active(script, on_warning=told.append, watchdog=None)
    for temperature in (62.0, 30.0, 63.0):
        script.temperature = temperature
        rig.clock.sleep(2.0)
    assert len(told) == 2 * 26
    assert rig.status.warnings[0] == "neck_yaw: 63 C, limit 60 C"
    script.temperature = 30.0
    rig.clock.sleep(0.5)
    assert rig.status.warnings  # not gone for long enough
    rig.clock.sleep(1.0)
    assert rig.status.warnings == ()


def test_warnings_are_logged_where_nobody_asks_for_them(caplog):
    script = Script(temperature=62.0)
    rig = active(script)
    rig.read()
    assert caplog.messages[0] == "neck_yaw: 62 C, limit 60 C"
    assert caplog.records[0].name == "facetwin.safety"


def test_a_short_dip_below_a_lasting_limit_is_nothing():
    script = Script()
    rig = active(script, voltage=(5.0, 0.3), watchdog=None, poll=0.05)
    for _ in range(5):
        script.voltage = 4.0
        rig.clock.sleep(0.2)
        script.voltage = 6.0
        rig.clock.sleep(0.2)
    assert rig.fault == ""
    script.voltage = 4.0
    rig.clock.sleep(0.5)
    assert "4.00 V" in rig.fault


def test_a_silent_servo_is_noticed_by_a_program_that_only_writes():
    script = Script()
    rig = active(script)
    script.read_fails = 10**6
    meanwhile(rig, 1.0)
    with pytest.raises(RigFault, match=r"latched.*servo 5 is silent"):
        rig.write(FACE.rest)
    assert rig.inner.status.state in ("held", "open")
    rig.clock.sleep(5.0)
    assert (rig.status.state, rig.inner.status.state) == ("open", "open")
    assert "servo 5 is silent" in rig.status.reason


def test_the_state_is_read_as_often_as_asked_and_no_more():
    for poll, reads in ((0.2, 10), (0.5, 4), (None, 0)):
        rig = active(watchdog=None, poll=poll)
        counted = count_reads(rig.inner)
        rig.clock.sleep(2.01)
        assert abs(len(counted) - reads) <= (poll is not None)
        assert (rig.seen.time > 0) == (poll is not None)
    rig = active(watchdog=None)
    counted = count_reads(rig.inner)
    for _ in range(100):  # who reads by himself is not read for
        rig.read()
        rig.clock.sleep(0.02)
    assert len(counted) == 100


def count_reads(rig):
    counted, read = [], rig._read

    def counting():
        counted.append(1)
        return read()

    rig._read = counting
    return counted


def test_the_watchdog_off_motors_can_still_be_switched_off_when_idle():
    told = []
    rig = active(watchdog=None, idle_detach=2.0, on_idle=lambda: told.append(1))
    meanwhile(rig, 3.0)
    assert rig.status.state == "active"
    rig.clock.sleep(2.1)
    assert (rig.status.state, told) == ("open", [1])
    assert rig.status.reason == "idle for 2 s"


def test_a_face_that_cannot_come_to_rest_is_switched_off_all_the_same():
    rig = active(watchdog=0.5, idle_detach=1.0)
    rig.inner._write = lambda command: np.full(26, 0.4)  # a driver that goes elsewhere
    rig.clock.sleep(30.0)
    assert rig.status.state == "open"


def test_rounding_by_the_driver_does_not_stop_slow_motion():
    spec = FACE.with_({"servo.max_speed": 0.02})  # far less than a unit of the wire in a step
    rig = active(spec=spec, watchdog=None)
    write = rig.inner._write

    def rounded(command):
        write(np.round(command * 500) / 500)
        return np.round(command * 500) / 500

    rig.inner._write = rounded
    goal = FACE.rest.copy()
    goal[FACE.index("jaw")] = 0.1
    for _ in range(300):
        rig.clock.sleep(0.02)
        sent = rig.write(goal)
    way = (0.02 / spec.span * 6.0)[FACE.index("jaw")]
    assert way > 0.1
    assert sent[FACE.index("jaw")] == pytest.approx(0.1, abs=0.002)


def test_a_driver_that_stops_short_is_believed():
    rig = active(watchdog=None)
    write, jaw = rig.inner._write, FACE.index("jaw")

    def blocked(command):
        told = command.copy()
        told[jaw] = min(told[jaw], 0.2)
        write(told)
        return told

    rig.inner._write = blocked
    goal = FACE.rest.copy()
    goal[jaw] = 0.9
    for _ in range(50):
        rig.clock.sleep(0.02)
        sent = rig.write(goal)
    assert sent[jaw] == 0.2
    rig.inner._write = write  # free again: it starts from there, gently
    rig.clock.sleep(0.02)
    step = rig.write(goal)[jaw] - 0.2
    assert 0 < step <= rig.max_acceleration[jaw] * 0.02 * 0.02 + 1e-9


def test_goals_are_reached_from_everywhere_and_no_corner_traps():
    rig = active(watchdog=None)
    rng = np.random.default_rng(0)
    for k in range(60):
        command = rng.choice([0.0, 1.0], 26) if k % 2 else rng.random(26)
        goal = rig.couplings.project(np.clip(command, rig.lower, rig.upper), rig.lower, rig.upper)
        for _ in range(60):
            rig.clock.sleep(0.02)
            sent = rig.write(command)
            if np.array_equal(sent, goal):
                break
        np.testing.assert_array_equal(sent, goal)


def test_a_rig_file_with_rules_that_share_motors_works_too():
    rules = tuple(
        LinearRule(name, (("jaw", 1.0), (other, 1.0)), 1.2)
        for name, other in (("a", "upper_lip_raise"), ("b", "upper_lip_roll"))
    )
    spec = FACE.with_({"couplings": rules})
    rig = active(spec=spec, watchdog=None)
    assert rig.couplings.packed is None
    for command in (np.ones(26), np.zeros(26), np.full(26, 0.8)):
        goal = rig.couplings.project(np.clip(command, rig.lower, rig.upper), rig.lower, rig.upper)
        for _ in range(60):
            rig.clock.sleep(0.02)
            sent = rig.write(command)
            assert rig.couplings.violations(sent) == ()
        np.testing.assert_allclose(sent, goal, atol=1e-9)


def test_motors_that_did_not_hear_are_switched_off_as_soon_as_they_do():
    script = Script()
    rig = active(script)
    release, pulled = rig.inner._release, [True]

    def deaf():
        if pulled[0]:
            raise OSError("cable pulled")
        release()

    rig.inner._release = deaf
    script.temperature = 90.0
    rig.clock.sleep(1.0)
    assert "90 C" in rig.fault
    assert "cable pulled" in rig.status.reason
    rig.clock.sleep(5.0)
    assert "release" not in script.calls
    pulled[0] = False
    rig.clock.sleep(1.1)
    assert script.calls[-1] == "release"
    assert "released later" in rig.status.reason
    calls = len(script.calls)
    rig.clock.sleep(5.0)
    assert len(script.calls) == calls
    script.temperature = 30.0
    rig.reset()
    rig.activate()
    rig.write(FACE.rest)
    assert rig.status.state == "active"


def test_no_command_waits_for_an_answer():
    rig = active()
    order, write, read = [], rig.inner._write, rig.inner._read
    rig.inner._write = lambda command: order.append("write") or write(command)
    rig.inner._read = lambda: order.append("read") or read()
    for _ in range(50):
        rig.clock.sleep(0.02)
        rig.write(FACE.rest)
    assert order.count("read") in (4, 5)
    assert all(order[i - 1] == "write" for i, what in enumerate(order) if what == "read")
    assert order[0] == "write"


def test_limits_are_told_when_a_real_face_is_switched_on(caplog):
    class Real(ScriptedRig):
        capabilities = Capabilities(simulated=False, measures=True, camera=None)

    caplog.set_level("INFO", "facetwin.safety")
    for kind, told in ((ScriptedRig, False), (Real, True)):
        rig = SafetyLayer(kind(FACE), stall="off")
        rig.open()
        rig.activate()
        rig.close()
        assert ("stall: off" in caplog.text) == told


def test_a_write_soon_after_it_eased_to_rest_keeps_the_acceleration():
    fuzz = load_fuzz()
    spec, rng = FACE.with_(SLOW), np.random.default_rng(0)
    for _ in range(40):
        layer = SafetyLayer(fuzz.Sink(spec), watchdog=0.2, ease_after=0.1, ease_speed=2.0)
        layer.open()
        layer.activate()
        referee = fuzz.Referee(spec, layer.longest_step, spec.rest, 0.0)
        fuzz.play(layer, referee, [(0.02, rng.random(26) * 0.2 + spec.rest * 0.8) for _ in range(6)])
        while layer._stage != "rest":
            layer.clock.sleep(0.02)
        pauses = [rng.uniform(0, 0.1), *(0.002 + 0.02 * rng.random(4))]
        fuzz.play(layer, referee, [(float(p), rng.choice([0.0, 1.0], 26)) for p in pauses])
        assert referee.broken == {}
