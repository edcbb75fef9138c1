"""What the Dynamixel and the Feetech driver promise alike, on scripted lines."""

import contextlib

import numpy as np
import pytest
from scripted_servos import DynamixelLine, FeetechLine, OnPty, dynamixel, feetech, on

from facetwin.hardware import dynamixel as dynamixel_module
from facetwin.hardware import dynamixel_bus, feetech_bus, servo_bus
from facetwin.hardware import feetech as feetech_module
from facetwin.hardware.dynamixel import DynamixelRig
from facetwin.hardware.feetech import FeetechRig
from facetwin.hardware.rig import RigFault
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import load_rig

KINDS = {"dynamixel": (DynamixelRig, DynamixelLine, dynamixel), "feetech": (FeetechRig, FeetechLine, feetech)}
EEPROM = {"dynamixel": 64, "feetech": 40}  # addresses below are EEPROM
DELAY = {"dynamixel": 9, "feetech": 7}
ALLOWED_OPENING = {"dynamixel": {68}, "feetech": set()}  # Status Return Level alone


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


def places(n=26):
    return [2048 + 7 * (k - 13) for k in range(n)]


@pytest.fixture
def make(kind):
    made = []

    def make(*, line_options=None, at=None, **options):
        rig_class, line_class, servo = KINDS[kind]
        line = line_class(
            [servo(k + 1, place=p) for k, p in enumerate(at or places())], **(line_options or {})
        )
        rig = on(rig_class("scripted", **options), line)
        made.append(rig)
        return rig, line

    yield make
    for rig in made:
        rig.wires[0].fails = rig.wires[0].spoil = None
        rig.close()


@pytest.fixture
def hasty(monkeypatch):
    """Pings that give up at once: the scripted line answers at once, or never."""
    for module in (servo_bus, dynamixel_bus, feetech_bus):
        monkeypatch.setattr(module, "PING_TIME", 1e-3)
    monkeypatch.setattr(servo_bus, "Wire", lambda port, *, baud, timeout: DynamixelLine([], baud=baud))


def torque(line):
    return [s.memory[s.torque] for s in line.all()]


def goals(line):
    return [s.value(s.goal, line.size) for s in line.all()]


def writes(line, address):
    return [(s.id, data) for s in line.all() for a, data in s.log if a == address]


@pytest.mark.parametrize("table", ["emo23", "face26"])
def test_other_tables_and_other_ids(kind, table):
    spec = load_rig(table)
    rig_class, line_class, servo = KINDS[kind]
    wiring = {name: {"channel": 200 - k} for k, name in enumerate(spec.names)}
    line = line_class([servo(200 - k) for k in range(spec.size)])
    rig = on(rig_class("scripted", table=spec, wiring=wiring), line)
    with rig:
        rig.activate()
        sent = rig.write(np.linspace(0, 1, spec.size))
        assert goals(line) == rig.wiring.units(sent).tolist()
        assert rig.read().measured.shape == (spec.size,)


# --- opening ---------------------------------------------------------------------------------------------


def test_opening_writes_nothing_and_moves_nothing(make, kind):
    rig, line = make()
    rig.open()
    assert {a for s in line.all() for a, _ in s.log} <= ALLOWED_OPENING[kind]
    assert not any(torque(line))


def test_opening_leaves_motors_that_are_on_alone(make):
    rig, line = make()
    for s in line.all():
        s.memory[s.torque] = 1
        s.put(s.goal, line.size, s.value(s.place, line.size))
    rig.open()
    assert all(torque(line))


def test_what_servos_say_becomes_a_state(make):
    rig, _ = make()
    rig.open()
    before = rig.clock.now()
    state = rig.read()
    assert before <= state.time <= rig.clock.now()
    assert np.allclose(rig.wiring.zero + rig.wiring.per_rad * rig.spec.to_radians(state.measured), places())
    assert np.isnan(state.commanded).all()
    load = {"dynamixel": 147 * 1e-3 / 1.47, "feetech": -0.123}[rig.kind]  # mA of 1.47 A; bit 10 is the sign
    assert np.allclose(state.load, load * np.sign(rig.wiring.per_rad))
    assert np.allclose(state.voltage, {"dynamixel": 5.1, "feetech": 7.4}[rig.kind])
    assert np.allclose(state.temperature, {"dynamixel": 31, "feetech": 33}[rig.kind])
    assert state.faults == ()


def test_missing_servos_are_listed_by_name(make):
    rig, line = make()
    for k in (16, 20):
        line.one(k).silent = True
    with pytest.raises(FaceTwinError, match="servos are missing") as error:
        rig.open()
    for k in (16, 20):
        assert f"{rig.spec.names[k - 1]} (id {k})" in str(error.value)
    assert "expected 26 servos" in str(error.value)
    assert "id 17" not in str(error.value)


def test_a_wrong_rate_is_told_with_the_right_one(make, kind, hasty, monkeypatch):
    rig, line = make(line_options={"true_baud": 57_600})
    _, line_class, _ = KINDS[kind]

    def other(port, *, baud, timeout):
        return line_class(line.all(), baud=baud, true_baud=57_600)

    monkeypatch.setattr(servo_bus, "Wire", other)
    with pytest.raises(FaceTwinError, match=r"id 1 answers at 57600; next: add \?baud=57600"):
        rig.open()


def test_silence_at_every_rate_says_what_to_check(make, kind, hasty, monkeypatch):
    rig, _ = make(line_options={"true_baud": 1})
    _, line_class, _ = KINDS[kind]
    monkeypatch.setattr(servo_bus, "Wire", lambda port, *, baud, timeout: line_class([], baud=baud))
    with pytest.raises(FaceTwinError, match=r"no answer from 26 \w+ servos.*power of the servos"):
        rig.open()


def test_two_servos_of_one_id_that_answer_one_after_the_other(make, kind):
    rig, line = make()
    line.servos[5].append(KINDS[kind][2](5, place=100))
    with pytest.raises(FaceTwinError, match=r"two servos have the same id; .*two answers") as error:
        rig.open()
    assert "(id 5)" in str(error.value)


def test_two_servos_of_one_id_that_talk_at_once(make):
    rig, line = make()
    random = np.random.default_rng(0)

    def collide(answer):
        if answer[{"dynamixel": 4, "feetech": 2}[rig.kind]] != 5:
            return answer
        bits = np.frombuffer(answer, np.uint8) & random.integers(0, 256, len(answer), dtype=np.uint8)
        return bits.tobytes()

    line.spoil = collide
    with pytest.raises(FaceTwinError, match=r"two servos may have the same id") as error:
        rig.open()
    assert "(id 5)" in str(error.value)


def test_limits_of_a_servo_that_are_too_narrow(make):
    rig, line = make()
    low = {"dynamixel": 52, "feetech": 9}[rig.kind]
    line.one(3).put(low, line.size, 2040)
    with pytest.raises(FaceTwinError, match=r"narrower.*\n?.*2040 to 4095") as error:
        rig.open()
    assert "(id 3)" in str(error.value)


@pytest.mark.parametrize("mode", [1, 2, 16])
def test_another_operating_mode(make, mode):
    rig, line = make()
    line.one(9).memory[{"dynamixel": 11, "feetech": 33}[rig.kind]] = mode
    with pytest.raises(FaceTwinError, match="wrong operating mode") as error:
        rig.open()
    assert "(id 9)" in str(error.value)
    assert "next: set" in str(error.value)


def test_another_model(make):
    rig, line = make()
    line.one(2).put(
        {"dynamixel": 0, "feetech": 3}[rig.kind], 2, {"dynamixel": 350, "feetech": 1284}[rig.kind]
    )
    with pytest.raises(FaceTwinError, match=r"of an unknown model|of another series") as error:
        rig.open()
    assert "(id 2)" in str(error.value)
    assert str({"dynamixel": 350, "feetech": "SCS0009"}[rig.kind]) in str(error.value)


def test_a_moment_of_noise_while_opening_is_asked_again(make):
    rig, line = make()
    count = [0]

    def sometimes(answer):
        count[0] += 1
        return answer[:-1] + bytes([answer[-1] ^ 1]) if count[0] % 11 == 0 else answer

    line.spoil = sometimes
    rig.open()
    assert rig.status.state == "open"


# --- switching on -----------------------------------------------------------------------------------


def test_goals_are_where_servos_stand_before_motors_go_on(make):
    rig, line = make()
    rig.open()
    rig.activate()
    assert all(torque(line))
    for s in line.all():
        order = [a for a, _ in s.log]
        goal = order.index(s.goal)
        assert goal < order.index(s.torque)
    assert goals(line) == places()
    state = rig.read()
    assert np.allclose(state.commanded, np.clip(state.measured, 0, 1))


def test_a_servo_that_stands_outside_of_its_range_is_not_pulled_in_by_switching_on(make):
    at = places()
    at[7] = 3900  # face26 uses a fraction of the turn
    rig, line = make(at=at)
    rig.open().activate()
    assert goals(line)[7] == 3900


def test_nothing_goes_on_when_a_goal_was_lost(make):
    rig, line = make()
    rig.open()
    line.one(4).deaf = True  # its goal stays at 100
    with pytest.raises(RigFault, match="goal is not where the servo stands"):
        rig.activate()
    assert not any(torque(line))
    assert not writes(line, line.one(1).torque) or not any(
        d != b"\0" for _, d in writes(line, line.one(1).torque)
    )
    assert rig.status.state == "open"


def test_a_motor_that_does_not_go_on_is_named_and_all_are_off_again(make):
    rig, line = make()
    rig.open()
    store = line.store

    def keep_off(s, address, data):
        return 0 if s.id == 6 and address == s.torque else store(s, address, data)

    line.store = keep_off
    with pytest.raises(RigFault, match=r"\(id 6\): the motor does not switch on"):
        rig.activate()
    assert not any(torque(line))


def test_return_delay_is_set_to_zero_once_and_only_while_motors_are_off(make, kind):
    rig, line = make()
    line.one(1).memory[DELAY[kind]] = 0
    rig.open()
    line.one(2).memory[line.one(2).torque] = 1
    line.one(2).put(line.one(2).goal, line.size, places()[1])
    rig.activate()
    assert {k for k, _ in writes(line, DELAY[kind])} == set(range(3, 27))
    assert line.one(2).memory[DELAY[kind]] == 250
    rig.release()
    rig.activate()
    assert [k for k, _ in writes(line, DELAY[kind])].count(3) == 1
    assert all(s.memory[55] == 1 for s in line.all()) or kind == "dynamixel"  # Feetech: locked again


def test_the_eeprom_is_left_alone_when_asked(make, kind):
    rig, line = make(quick=False)
    with rig:
        rig.activate()
        rig.write(rig.spec.rest)
    assert not any(a < EEPROM[kind] for s in line.all() for a, _ in s.log)


# --- moving -----------------------------------------------------------------------------------------


def test_a_write_is_one_frame_with_all_goals(make):
    rig, line = make()
    rig.open().activate()
    random = np.random.default_rng(0)
    for _ in range(20):
        command = random.uniform(size=26)
        before = len(line.frames)
        sent = rig.write(command)
        assert len(line.frames) == before + 1
        assert goals(line) == rig.wiring.units(command).tolist()
        assert np.array_equal(sent, command)


def test_measured_is_read_from_the_servos(make):
    rig, line = make()
    rig.open().activate()
    for s in line.all():
        s.speed = 0.0  # stuck
    state = rig.read()
    rig.write(np.ones(26))
    after = rig.read()
    assert np.array_equal(after.measured, state.measured)
    assert np.array_equal(after.commanded, np.ones(26))


def test_a_silent_servo_is_held_then_released_and_named(make):
    rig, line = make()
    rig.open().activate()
    line.one(16).silent = True
    with pytest.raises(RigFault, match=r"\(id 16\)"):
        rig.read()
    assert rig.status.state == "held"
    assert rig.spec.names[15] in rig.status.reason
    with pytest.raises(RigFault):
        rig.read()
    assert rig.status.state == "open"
    assert f"released, not confirmed by {rig.spec.names[15]} (id 16)" in rig.status.reason
    assert [s.memory[s.torque] for s in line.all() if not s.silent] == [0] * 25


def test_a_silent_servo_that_is_back_at_once_is_nothing(make):
    rig, line = make()
    rig.open().activate()
    count = [0]

    def once(answer):
        count[0] += 1
        return answer[: len(answer) // 2] if count[0] == 1 else answer

    line.spoil = once
    assert np.isfinite(rig.read().measured).all()
    assert rig.status.retries == 1


def test_a_changed_byte_never_becomes_a_position(make, hasty):
    rig, line = make()
    rig.open().activate()
    truth = rig.read().measured
    random = np.random.default_rng(1)

    def flip(answer):
        out = bytearray(answer)
        out[random.integers(len(out))] ^= 1 << random.integers(8)
        return bytes(out)

    for _ in range(12):
        line.spoil = flip
        with contextlib.suppress(RigFault):
            assert np.array_equal(rig.read().measured, truth)
        line.spoil = None
        if rig.status.state == "open":
            rig.activate()


@pytest.mark.parametrize("gone", ["half", "all"])
def test_release_works_when_servos_are_silent(make, gone):
    rig, line = make()
    rig.open().activate()
    for s in line.all()[:: 2 if gone == "half" else 1]:
        s.silent = True
    rig.release()
    assert rig.status.state == "open"
    assert not any(s.memory[s.torque] for s in line.all() if not s.silent)
    assert "not confirmed by" in rig.status.reason


def test_a_motor_that_missed_the_release_is_told_again(make):
    rig, line = make()
    rig.open().activate()
    line.one(11).deaf = True
    rig.release()
    assert not any(torque(line))
    assert rig.status.reason == ""


def test_a_pulled_cable_ends_in_open_with_the_reason_and_mends(make):
    rig, line = make()
    rig.open().activate()
    line.fails = OSError(5, "scripted has vanished")
    with pytest.raises(RigFault, match="vanished"):
        rig.write(rig.spec.rest)
    assert rig.status.state == "open"
    assert "vanished" in rig.status.reason
    line.fails = None
    assert np.isfinite(rig.read().measured).all()
    rig.activate()
    assert rig.status.state == "active"


def test_an_adapter_that_echoes(make):
    rig, line = make(line_options=None)
    line.echo = True
    rig.open().activate()
    rig.write(np.full(26, 0.3))
    assert goals(line) == rig.wiring.units(np.full(26, 0.3)).tolist()
    assert np.isfinite(rig.read().measured).all()
    rig.release()
    assert not any(torque(line))


def test_closing_switches_off(make):
    rig, line = make()
    with rig:
        rig.activate()
        assert all(torque(line))
    assert not any(torque(line))
    assert not line.is_open


# --- other -------------------------------------------------------------------------------------------


def test_scan_finds_all_and_moves_nothing(make, kind, monkeypatch):
    _, line = make()
    module = {"dynamixel": dynamixel_module, "feetech": feetech_module}[kind]

    def wire(port, *, baud):
        line.baud = baud
        return line

    monkeypatch.setattr(module, "Wire", wire)
    found = module.scan("scripted", bauds=(500_000, 1_000_000))
    assert [f["id"] for f in found] == list(range(1, 27))
    assert {f["baud"] for f in found} == {1_000_000}
    assert {f["model"] for f in found} == {{"dynamixel": "XL330-M288", "feetech": "STS3215"}[kind]}
    assert {f["kind"] for f in found} == {kind}
    assert not any(s.log for s in line.all())


def test_the_same_on_a_port(kind):
    rig_class, line_class, servo = KINDS[kind]
    line = line_class([servo(k + 1, place=p) for k, p in enumerate(places())])
    port = OnPty(line)
    rig = rig_class(port.path)
    with rig:
        rig.activate()
        command = np.linspace(0.1, 0.9, 26)
        rig.write(command)
        for _ in range(50):
            rig.clock.sleep(0.01)
            measured = rig.read().measured
        assert goals(line) == rig.wiring.units(command).tolist()
        assert np.allclose(measured, rig.wiring.commands(rig.wiring.units(command)))
        assert all(torque(line))
        assert rig.status.retries == 0
    assert not any(torque(line))
    port.close()
    with pytest.raises(FaceTwinError, match="no such port"):
        rig_class(port.path + "9").open()


def survive(make, bytes_wanted, seed):
    """Mutated and random answers to everything a driver asks: its own errors, and no others."""
    random = np.random.default_rng(seed)
    fed = [0]

    def mutate(answer):
        if random.random() < 0.5:
            out = random.integers(0, 256, random.integers(0, 200), dtype=np.uint8).tobytes()
        else:
            array = np.frombuffer(answer, np.uint8).copy()
            hits = random.integers(0, len(array), random.integers(0, 4))
            array[hits] = random.integers(0, 256, len(hits))
            out = (
                array.tobytes()[: random.integers(1, len(array) + 1)]
                if random.random() < 0.3
                else array.tobytes()
            )
        fed[0] += len(out)
        return out

    while fed[0] < bytes_wanted:
        rig, line = make()
        line.nap = 0.0
        if random.random() < 0.5:
            rig.open()
            if random.random() < 0.5:
                rig.activate()
        line.spoil = mutate
        for call in (rig.open, rig.read, rig.activate, lambda rig=rig: rig.write(rig.spec.rest), rig.read,
                     rig.hold, rig.read, rig.release, rig.close):  # fmt: skip
            with contextlib.suppress(FaceTwinError):
                call()
        line.spoil = None
        rig.close()
        rig.wires[0].servos.clear()


def test_noise_raises_nothing_but_the_drivers_own(make, hasty):
    survive(make, 20_000, 0)


@pytest.mark.slow
def test_a_million_bytes_of_noise_raise_nothing_but_the_drivers_own(make, hasty):
    survive(make, 1_000_000, 1)
