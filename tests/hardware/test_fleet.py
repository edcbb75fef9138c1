"""A fleet moves as its members would, each behind its own safety layer."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes import FakeTwin

from facetwin.hardware.fleet import Fleet
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.sim
FACE = load_rig("face26")
SETTLE, WRITES = 0.14, 7


def follow(spec, commands, settle=SETTLE, writes=WRITES):
    """Sent commands, positions and picture times of one face on the long way."""
    rig = SafetyLayer(SimRig(spec, twin=FakeTwin(spec), size=(24, 16)))
    out = []
    with rig:
        rig.open()
        rig.activate()
        rig.home(3)
        for command in commands:
            start = rig.clock.now()
            for k in range(writes):
                sent = rig.write(command)
                rig.clock.sleep_until(start + (k + 1) * settle / writes)
            frame = rig.capture()
            out.append((sent, frame.truth["position"], frame.time))
    return [np.array(part) for part in zip(*out)]


def fleet_of(specs, commands, settle=SETTLE, writes=WRITES):
    fleet = Fleet(specs)
    out = []
    for row in commands:  # (B, n)
        fleet.move(row, settle, writes)
        position, when, _ = fleet.positions()
        out.append((fleet.sent.copy(), position, when))
    return [np.array(part) for part in zip(*out)]


@pytest.mark.parametrize("name", ["face26", "emo23"])
def test_a_fleet_gives_the_bits_of_its_members(name):
    spec = load_rig(name)
    commands = np.random.default_rng(0).uniform(-0.1, 1.1, (6, 3, spec.size))
    sent, position, when = fleet_of([spec] * 3, commands)
    for b in range(3):
        one = follow(spec, commands[:, b])
        np.testing.assert_array_equal(sent[:, b], one[0])
        np.testing.assert_array_equal(position[:, b], one[1])
        np.testing.assert_array_equal(when[:, b], one[2])


@pytest.mark.parametrize(("settle", "writes"), [(0.3, 2), (0.1, 1), (0.05, 10), (0.02, 1)])
def test_so_it_does_at_any_pace_and_while_it_brakes(settle, writes):
    spec = FACE.with_({"servo.max_acceleration": 15.0, "servo.max_speed": 4.0})
    commands = np.random.default_rng(2).choice([0.0, 1.0], (8, 2, 26))
    sent, position, _ = fleet_of([spec] * 2, commands, settle, writes)
    for b in range(2):
        one = follow(spec, commands[:, b], settle, writes)
        np.testing.assert_array_equal(sent[:, b], one[0])
        np.testing.assert_array_equal(position[:, b], one[1])


def test_a_crew_and_a_short_memory_give_the_same_bits():
    commands = np.random.default_rng(3).uniform(size=(3, 5, FACE.size))
    one, other = Fleet([FACE] * 5), Fleet([FACE] * 5, longest=SETTLE)
    assert len(other.trail) < len(one.trail)
    with ThreadPoolExecutor(2) as crew:
        for row in commands:
            one.move(row, SETTLE, WRITES)
            other.move(row, SETTLE, WRITES, crew=crew, parts=[slice(0, 2), slice(2, 5)])
            np.testing.assert_array_equal(one.sent, other.sent)
            np.testing.assert_array_equal(one.positions()[0], other.positions()[0])


def test_another_body_keeps_its_limits_and_lengthens_the_memory():
    fleet = Fleet([FACE, FACE], longest=SETTLE)
    plain = Fleet([FACE, FACE], longest=SETTLE)
    command = np.full((2, FACE.size), 0.9)
    for f in (fleet, plain):
        f.move(command, SETTLE, WRITES)
    slow = FACE.with_({"servo.max_speed.factor": 0.5, "camera.mirror.delay": 0.4})
    fleet.reset([1], [slow])
    plain.reset([1])
    assert len(fleet.trail) > len(plain.trail)
    for f in (fleet, plain):
        f.move(command, SETTLE, WRITES)
    np.testing.assert_array_equal(fleet.sent, plain.sent)  # safety goes by the file
    np.testing.assert_array_equal(fleet.positions()[0][0], plain.positions()[0][0])
    assert (fleet.load[1] < plain.load[1]).any()


def test_members_may_differ_and_be_reset_alone():
    slow = FACE.with_({"camera.mirror.delay": 0.033, "motor.jaw.latency": 0.027, "motor.jaw.backlash": 0.02})
    commands = np.random.default_rng(1).uniform(size=(4, 2, 26))
    sent, position, _ = fleet_of([FACE, slow], commands)
    one = follow(slow, commands[:, 1])
    np.testing.assert_array_equal(position[:, 1], one[1])
    fleet = Fleet([FACE, slow])
    fleet.move(commands[0], SETTLE, WRITES)
    fleet.reset([1], [FACE])
    np.testing.assert_array_equal(fleet.sent[1], FACE.rest)
    fleet.move(commands[0][::-1], SETTLE, WRITES)  # the second is now what the first was
    np.testing.assert_array_equal(fleet.sent[1], sent[0, 0])
    assert fleet.time[0] > fleet.time[1]


def test_why_a_motor_is_held_back():
    fleet = Fleet([FACE])
    fleet.move(np.ones((1, 26)), 0.02, 1)
    assert fleet.held_back[0, FACE.index("jaw")] in (1, 2)
    far = FACE.rest.copy()
    far[FACE.index("jaw")] = 1.0
    fleet.reset()
    fleet.move(far[None], 2.0, 100)
    assert fleet.sent[0, FACE.index("jaw")] == pytest.approx(0.95)
    assert fleet.held_back[0, FACE.index("jaw")] == 3
    assert not fleet.held_back[0, : FACE.index("jaw")].any()


def test_nonsense_is_told():
    with pytest.raises(UsageError, match="no faces"):
        Fleet([])
    with pytest.raises(UsageError, match="different kinds"):
        Fleet([FACE, load_rig("emo23")])
    with pytest.raises(FaceTwinError, match="not commands"):
        Fleet([FACE]).move(np.full((1, 26), np.nan), 0.1, 5)
