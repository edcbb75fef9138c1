"""What the Dynamixel driver alone promises, on a scripted line; see test_servo_rigs.py for the rest."""

import logging
import time

import numpy as np
import pytest
from scripted_servos import DynamixelLine, dynamixel, on

from facetwin.hardware import dynamixel_codec as dx
from facetwin.hardware.dynamixel import DynamixelRig
from facetwin.hardware.emulated import emulated_rig
from facetwin.hardware.rig import RigFault
from facetwin.hardware.safety import SafetyLayer
from facetwin.twin.errors import FaceTwinError, UsageError


@pytest.fixture
def make():
    made = []

    def make(servos=None, *, line_options=None, **options):
        line = DynamixelLine(servos or [dynamixel(k + 1) for k in range(26)], **(line_options or {}))
        rig = on(DynamixelRig("scripted", **options), line)
        made.append(rig)
        return rig, line

    yield make
    for rig in made:
        rig.wires[0].fails = rig.wires[0].spoil = None
        rig.close()


def watchdogs(line):
    return {s.memory[98] for s in line.all()}


def asked(line):
    """Instructions that were sent, in order."""
    return [frame[7] for frame in line.frames]


# --- bus watchdog ---------------------------------------------------------------------------------


def test_the_bus_watchdog_guards_while_motors_are_on(make):
    rig, line = make(bus_watchdog=0.5)
    rig.open()
    assert watchdogs(line) == {0}
    rig.activate()
    assert watchdogs(line) == {25}  # x 20 ms
    rig.release()
    assert watchdogs(line) == {0}


def test_it_can_be_off(make):
    rig, line = make(bus_watchdog=None)
    rig.open().activate()
    rig.write(rig.spec.rest)
    assert watchdogs(line) == {0}
    assert not any(a == 98 and d != b"\0" for s in line.all() for a, d in s.log)


@pytest.mark.parametrize("wrong", [0.0, 0.01, 2.6, float("nan")])
def test_it_cannot_be_anything(make, wrong):
    with pytest.raises(UsageError, match=r"bus_watchdog.*0\.02 to 2\.54"):
        DynamixelRig("x", bus_watchdog=wrong)


def test_one_that_has_tripped_is_cleared_by_activation(make):
    rig, line = make()
    for s in line.all():
        s.memory[98] = 255  # the last program died
    rig.open().activate()
    assert watchdogs(line) == {50}
    rig.write(rig.spec.rest)
    assert [s.value(116, 4) for s in line.all()] == rig.wiring.units(rig.spec.rest).tolist()


def test_after_a_pause_servos_that_stopped_take_goals_again(make):
    rig, line = make(bus_watchdog=0.1)
    rig.open().activate()
    time.sleep(0.15)
    for s in line.all():
        s.memory[98] = 255  # as they do by themselves
    assert rig.read().faults == ()  # we know why
    rig.write(rig.spec.rest)
    assert watchdogs(line) == {5}
    assert [s.value(116, 4) for s in line.all()] == rig.wiring.units(rig.spec.rest).tolist()


def test_a_pause_is_remembered_whatever_was_asked_since(make):
    rig, line = make(bus_watchdog=0.1)
    rig.open().activate()
    time.sleep(0.15)
    rig.bus.ping(1)
    rig.write(rig.spec.rest)
    assert line.one(1).log[-3:-1] == [(98, b"\0"), (98, b"\5")]
    assert line.one(1).log[-1][0] == 116
    before = len(line.frames)
    rig.write(rig.spec.rest)
    assert len(line.frames) == before + 1


@pytest.mark.slow
def test_it_really_trips_and_is_really_cleared():
    rig = emulated_rig("dynamixel", camera=False, bus_watchdog=0.3)
    with rig:
        rig.activate()
        away = np.where(rig.spec.rest < 0.5, 1.0, 0.0)
        rig.write(away)
        time.sleep(0.8)
        assert set(rig.bus.get(rig.ids, dx.BUS_WATCHDOG).values()) == {dx.TRIPPED}
        for _ in range(50):
            rig.write(rig.spec.rest)
            time.sleep(0.02)
        state = rig.read()
        assert set(rig.bus.get(rig.ids, dx.BUS_WATCHDOG).values()) == {15}
        assert np.allclose(state.measured, rig.spec.rest, atol=0.02)
        assert state.faults == ()
    rig.emulator.stop()


def test_writing_in_time_arms_nothing_anew(make):
    rig, line = make(bus_watchdog=0.5)
    rig.open().activate()
    before = len(line.frames)
    for _ in range(5):
        rig.write(rig.spec.rest)
        time.sleep(0.01)
    assert asked(line)[before:] == [dx.SYNC_WRITE] * 5


def test_one_that_tripped_while_we_spoke_is_a_fault_until_the_next_write(make):
    rig, line = make()
    rig.open().activate()
    line.one(7).memory[98] = 255  # its cable was off for a second
    rig._looked -= 1.0
    name = rig.spec.names[6]
    assert rig.read().faults == (f"{name} (id 7): bus watchdog tripped",)
    rig.write(rig.spec.rest)
    assert watchdogs(line) == {50}
    assert rig.read().faults == ()


@pytest.mark.parametrize("watchdog", [1.0, None])
def test_a_servo_that_started_anew_is_a_fault_until_activation(make, watchdog):
    rig, line = make(bus_watchdog=watchdog)
    rig.open().activate()
    line.one(7).memory[64] = line.one(7).memory[98] = 0  # brown-out
    rig._looked -= 1.0
    assert "(id 7): started anew, its motor is off" in rig.read().faults[0]
    rig.write(rig.spec.rest)
    rig._looked -= 1.0
    assert "(id 7): started anew" in rig.read().faults[0]
    rig.release()
    rig.activate()
    assert rig.read().faults == ()


# --- hardware errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "names"),
    [(1, "input voltage"), (4, "overheating"), (8, "encoder"), (16, "electrical shock"), (32, "overload"),
     (33, "input voltage, overload")],
)  # fmt: skip
def test_hardware_errors_are_faults_by_name(make, bits, names):
    rig, line = make()
    rig.open().activate()
    line.one(16).memory[70] = bits
    assert rig.read().faults == (f"{rig.spec.names[15]} (id 16): {names}",)
    assert rig.status.state == "active"
    line.one(16).memory[70] = 0
    assert rig.read().faults == ()


def test_a_safety_layer_latches_them(make):
    rig, line = make()
    layer = SafetyLayer(rig, watchdog=None)
    with layer:
        layer.activate()
        line.one(16).memory[70] = 32
        layer.read()
        with pytest.raises(RigFault, match="overload"):
            layer.write(rig.spec.rest)


def test_nothing_goes_on_with_an_error_and_a_reboot_clears_it(make):
    rig, line = make()
    rig.open()
    line.one(16).memory[70] = 32
    with pytest.raises(RigFault, match=r"\(id 16\): hardware error; found overload.*reboot\(\)"):
        rig.activate()
    assert not any(s.memory[64] for s in line.all())
    rig.reboot([rig.spec.names[15]])
    assert line.one(16).memory[70] == 0
    rig.activate()
    with pytest.raises(FaceTwinError, match="active"):
        rig.reboot()


# --- reading in one frame or many ---------------------------------------------------------------------


def test_new_firmware_is_read_in_one_frame(make):
    rig, line = make()
    rig.open()
    before = len(line.frames)
    rig.read()
    assert asked(line)[before:] == [dx.FAST_SYNC_READ]


@pytest.mark.parametrize(
    "servos",
    [
        [dynamixel(k + 1, firmware=50 if k else 45) for k in range(26)],  # one XL330 before 46
        [dynamixel(k + 1, model=1060, firmware=44) for k in range(26)],
        [dynamixel(k + 1, model=1090, firmware=50) for k in range(26)],  # 2XL430 never knows it
    ],
    ids=["one older", "older", "two-axis"],
)
def test_older_ones_by_sync_read_which_is_said_once(make, servos, caplog):
    rig, line = make(servos)
    with caplog.at_level(logging.WARNING):
        rig.open()
        before = len(line.frames)
        state = rig.read()
        rig.read()
    assert asked(line)[before:] == [dx.SYNC_READ] * 2
    assert np.allclose(state.voltage, 5.1)
    assert [r.message.split(":")[0] for r in caplog.records] == ["scripted"]
    assert "fast sync read" in caplog.text


def test_firmware_that_should_know_it_and_does_not(make, caplog):
    rig, line = make(line_options={"knows_fast": False})
    rig.open()
    assert np.isfinite(rig.read().measured).all()
    assert asked(line)[-1] == dx.SYNC_READ
    assert "fast sync read" in caplog.text


def test_both_ways_tell_the_same(make):
    states = []
    for firmware in (50, 45):
        rig, _ = make([dynamixel(k + 1, place=2000 + 3 * k, firmware=firmware) for k in range(26)])
        rig.open()
        states.append(rig.read())
    for key in ("measured", "load", "temperature", "voltage"):
        assert np.array_equal(getattr(states[0], key), getattr(states[1], key))


# --- other ------------------------------------------------------------------------------------------


def test_firmware_that_is_too_old(make):
    servos = [dynamixel(k + 1, model=1060, firmware=37 if k == 4 else 45) for k in range(26)]
    rig, _ = make(servos)
    with pytest.raises(FaceTwinError, match=r"\(id 5\): firmware too old; found XL430-W250, version 37"):
        rig.open()


def test_a_slave_is_no_motor(make):
    rig, line = make()
    line.one(8).memory[10] = 2
    with pytest.raises(FaceTwinError, match=r"\(id 8\): a slave"):
        rig.open()


@pytest.mark.parametrize("mode", [4, 5])
def test_servos_that_count_turns_must_be_in_theirs(make, mode):
    rig, line = make()
    for s in line.all():
        s.memory[11] = mode
        s.put(52, 4, 4000)  # limits do not count in these modes
    rig.open()
    rig.close()
    line.one(3).put(132, 4, 2048 + 4096)
    with pytest.raises(FaceTwinError, match=r"\(id 3\): the servo stands a turn away; found 6144 ticks"):
        rig.open()


def test_the_tables_speeds_become_the_servos_own_limits(make):
    rig, line = make()
    line.one(1).put(44, 4, 100)  # its velocity limit
    rig.open().activate()
    unit = 0.229 * 2 * np.pi / 60
    for s, motor in zip(line.all(), rig.spec.motors, strict=True):
        limit = s.value(44, 4)
        assert s.value(112, 4) == min(np.ceil(motor.max_speed / unit), limit)
        assert s.value(108, 4) == 0


def test_a_profile_of_time_is_not_mistaken_for_one_of_speed(make):
    rig, line = make()
    line.one(2).memory[10] = 4
    rig.open().activate()
    assert line.one(2).value(112, 4) == 0


def test_servos_that_were_told_not_to_answer_are_told_to(make):
    rig, line = make()
    for s in line.all():
        s.memory[68] = 1
    rig.open()
    assert {s.memory[68] for s in line.all()} == {2}


def test_load_is_a_share_of_what_the_model_can(make):
    rig, _ = make([dynamixel(k + 1, model=1030, firmware=45) for k in range(26)])
    rig.open()
    load = np.abs(rig.read().load)
    assert np.allclose(load, 147 * 2.69e-3 / 2.3)  # XM430: units of 2.69 mA, 2.3 A when stalled


def test_a_clock_that_is_set_back_does_not_hang_the_sdk(make, monkeypatch):
    rig, line = make()
    rig.open()
    line.one(3).silent = True
    monkeypatch.setattr(time, "time", lambda: 0.0)
    start = time.monotonic()
    assert not rig.bus.answers(3)
    assert time.monotonic() - start < 1.0


def test_a_port_that_babbles_does_not_hang_the_sdk(make):
    rig, line = make()
    rig.open()

    def babble(size, timeout=None):
        return b"\x00" * size

    line.read = babble
    start = time.monotonic()
    with pytest.raises(RigFault):
        rig.bus.ping(1)
    assert time.monotonic() - start < 1.0
    del line.read


def test_an_exception_in_the_sdk_does_not_leave_it_busy(make):
    rig, line = make()
    rig.open()
    line.fails = OSError(5, "gone")
    with pytest.raises(OSError, match="gone"):
        rig.bus.ping(1)
    line.fails = None
    rig.bus.ping(1)
