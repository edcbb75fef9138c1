"""What the Feetech driver alone promises, on a scripted line; see test_servo_rigs.py for the rest."""

import numpy as np
import pytest
from scripted_servos import FeetechLine, feetech, on

from facetwin.hardware import feetech_codec as ft
from facetwin.hardware.feetech import FeetechRig
from facetwin.hardware.rig import RigFault
from facetwin.twin.errors import FaceTwinError


@pytest.fixture
def make():
    made = []

    def make(servos=None, *, line_options=None, **options):
        line = FeetechLine(servos or [feetech(k + 1) for k in range(26)], **(line_options or {}))
        rig = on(FeetechRig("scripted", **options), line)
        made.append(rig)
        return rig, line

    yield make
    for rig in made:
        rig.wires[0].fails = rig.wires[0].spoil = None
        rig.close()


@pytest.mark.parametrize(
    ("bits", "names"),
    [(1, "input voltage"), (2, "encoder"), (4, "overheating"), (8, "overcurrent"), (32, "overload"),
     (36, "overheating, overload")],
)  # fmt: skip
def test_errors_are_faults_by_name(make, bits, names):
    rig, line = make()
    rig.open().activate()
    line.one(16).memory[65] = bits
    assert rig.read().faults == (f"{rig.spec.names[15]} (id 16): {names}",)
    line.one(16).memory[65] = 0
    assert rig.read().faults == ()


def test_nothing_goes_on_with_an_error(make):
    rig, line = make()
    rig.open()
    line.one(16).memory[65] = 32
    with pytest.raises(RigFault, match=r"\(id 16\): the servo reports an error; found overload"):
        rig.activate()
    assert not any(s.memory[40] for s in line.all())


def test_a_servo_that_started_anew_is_a_fault(make):
    rig, line = make()
    rig.open().activate()
    line.one(7).memory[40] = 0
    rig._looked -= 1.0
    assert "(id 7): its motor is off" in rig.read().faults[0]


def test_a_negative_position_is_one(make):
    rig, line = make()
    rig.open()
    line.one(2).put(56, 2, 0x8000 | 30)
    measured = rig.read().measured
    assert np.isclose(measured[1], rig.wiring.commands(np.full(26, -30))[1])


def test_speed_and_acceleration_are_the_tables(make):
    fine, coarse = feetech(1), feetech(2)
    coarse.memory[18] = 8  # speeds in 50 steps/s
    rig, _ = make([fine, coarse, *(feetech(k) for k in range(3, 27))])
    rig.open().activate()
    steps = 4096 / (2 * np.pi)
    for s, motor, unit in zip((fine, coarse), rig.spec.motors, (1, 50), strict=False):
        assert s.value(46, 2) == np.ceil(motor.max_speed * steps / unit)
        push = np.ceil(motor.max_acceleration * steps / 100)
        assert s.memory[41] == (push if push <= 254 else 0)
        assert s.value(44, 2) == 0


def test_servos_that_do_not_know_sync_read_are_read_one_by_one_which_is_said_once(make, caplog):
    rig, line = make(line_options={"knows_sync": False})
    rig.open()
    before = len(line.frames)
    state = rig.read()
    assert [frame[4] for frame in line.frames[before:]] == [ft.READ] * 26
    assert np.allclose(state.voltage, 7.4)
    rig.activate()
    rig.write(rig.spec.rest)
    rig.release()
    assert not any(s.memory[40] for s in line.all())
    assert len([r for r in caplog.records if "sync read" in r.message]) == 1


def test_a_ping_with_low_voltage_is_not_taken_for_an_echo(make):
    rig, line = make()
    for s in line.all():
        s.memory[65] = 1  # the answer to a ping is then the ping itself
    rig.open()
    assert not rig.bus.echo
    assert "input voltage" in rig.read().faults[0]


def test_an_echo_is_noticed_and_is_no_answer(make):
    rig, line = make()
    line.echo = True
    line.one(26).silent = True
    with pytest.raises(FaceTwinError, match=r"servos are missing; found no answer from \w+ \(id 26\),"):
        rig.open()
    line.one(26).silent = False
    rig.open()
    assert rig.bus.echo


def test_a_servo_that_counts_turns_must_be_in_its_own(make):
    rig, line = make()
    line.one(3).put(11, 2, 0)  # both limits 0
    rig.open()
    rig.close()
    line.one(3).put(56, 2, 2048 + 4096)
    with pytest.raises(FaceTwinError, match=r"\(id 3\): the servo stands a turn away; found 6144 steps"):
        rig.open()


def test_big_endian_servos_are_refused(make):
    rig, line = make()
    line.one(3).memory[2] = 1
    with pytest.raises(FaceTwinError, match=r"\(id 3\): a servo of another series"):
        rig.open()


def test_servos_that_confirm_nothing_are_asked_what_they_hold(make):
    rig, line = make()
    for s in line.all():
        s.memory[8] = 0
    rig.open().activate()
    assert all(s.memory[7] == 0 and s.memory[40] == 1 for s in line.all())
    line.one(4).deaf = True
    rig.release()
    assert not any(s.memory[40] for s in line.all())
