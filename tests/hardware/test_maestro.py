"""The Maestro driver against scripted boards behind a pty."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scripted_maestro import Line, Model

from facetwin.hardware.check import check_rig
from facetwin.hardware.maestro import MaestroRig
from facetwin.hardware.rig import RigFault
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import load_rig

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def boards():
    lines = []

    def make(*models, **more):
        line = Line(*(models or (Model(12), Model(13))), **more)
        lines.append(line)
        return line

    yield make
    for line in lines:
        line.close()


def rig_on(line, **more):
    return MaestroRig(line.port, **{"timeout": 0.15, **more})  # the line is a thread on a busy machine


def pulses(line):
    """As the boards have them, in the order of the rig table."""
    return [line.boards[m.bus].pulses.get(m.channel, 0) for m in load_rig().motors]


@pytest.mark.parametrize("crc", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_keeps_the_rules_of_every_rig(boards, crc):
    line = boards(crc=crc)
    rig = rig_on(line, crc=crc)
    assert "a silent servo is held, then released, with the reason" in check_rig(rig).passed
    assert not any(pulses(line))


def test_every_motor_gets_its_own_pulse(boards):
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        command = np.linspace(0, 1, 26)
        rig.write(command)
        rig.read()  # asks both boards: the write has arrived
        assert pulses(line) == list(rig.wiring.units(command))
    assert not any(pulses(line))


def test_a_write_is_one_string_of_bytes(boards):
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        before, sent = len(line.received), rig.wire.sent
        rig.write(rig.spec.rest)
        rig.read()
        # two boards, 16 and 10 channels: header of 5 bytes, 2 per target
        assert rig.wire.sent - sent == 2 * 5 + 2 * 26 + 2 * (3 + 4)
        # each board is asked for a pulse, then told 16 or 10 targets
        first = bytes(line.received[before : before + 9])
        assert first == bytes([0xAA, 12, 0x10, 0, 0xAA, 12, 0x1F, 16, 0])


def test_activate_starts_from_the_pulses_that_are(boards):
    line = boards()
    there = np.linspace(0.2, 0.8, 26)
    with rig_on(line) as rig:
        for motor, unit in zip(rig.spec.motors, rig.wiring.units(there)):
            line.boards[motor.bus].pulses[motor.channel] = int(unit)
        before = pulses(line)
        assert np.allclose(rig.read().commanded, there, atol=1e-3)
        rig.activate()
        assert pulses(line) == before
        for board in line.boards:
            targets = [data for command, data in board.log if command == 0x9F]
            assert len(targets) == 1
        assert np.isnan(rig.read().measured).all()


def test_opening_asks_and_nothing_else(boards):
    line = boards()
    rig = rig_on(line)
    rig.open()
    commands = {command for board in line.boards for command, _ in board.log}
    assert commands == {0x90, 0xA1, 0xAE}
    assert line.received[0] == 0xAA  # what a board that detects the baud rate waits for
    rig.close()


def test_limits_are_the_tables(boards):
    line = boards()
    with rig_on(line, headroom=1.0) as rig:
        rig.activate()
        # 3 rad/s x 8000/pi units/rad x 10 ms = 76.4; 40 rad/s2 would not let it follow: 75, x .0008 = 152.8
        assert line.boards[0].speeds[0] == 77
        assert line.boards[0].accelerations[0] == 153
        # 10 rad/s; 300 rad/s2 is more than a Maestro can limit to
        assert line.boards[1].speeds[9] == 255
        assert line.boards[1].accelerations[9] == 0
    with rig_on(line, headroom=0) as rig:
        rig.activate()
        assert set(line.boards[0].speeds.values()) == {0}


def test_two_ports(boards):
    first, second = boards(Model(12)), boards(Model(12))
    rig = MaestroRig(f"{first.port},{second.port}", timeout=0.15)
    with rig:
        rig.activate()
        rig.write(rig.spec.rest)
        rig.read()
        units = rig.wiring.units(rig.spec.rest)
        assert [first.boards[0].pulses[i] for i in range(16)] == list(units[:16])
        assert [second.boards[0].pulses[i] for i in range(10)] == list(units[16:])


def test_a_board_alone_is_found_whatever_its_number(boards):
    spec = one_board(20)
    line = boards(Model(99))
    with MaestroRig(line.port, table=spec, timeout=0.15) as rig:
        rig.activate()
        assert rig.boards[0].device is None  # compact protocol
        assert line.boards[0].pulses[19]


def test_the_micro_gets_single_targets(boards):
    line = boards(Model(12, channels=6))
    with MaestroRig(line.port, table=one_board(6), timeout=0.15) as rig:
        rig.activate()
        rig.write(rig.spec.rest)
        rig.read()
        assert not [1 for command, _ in line.boards[0].log if command == 0x9F]
        assert len(line.boards[0].pulses) == 6


def one_board(n):
    """The first motors of face26, all on one board."""
    from dataclasses import replace

    spec = load_rig()
    motors = tuple(replace(m, bus=0, channel=i) for i, m in enumerate(spec.motors[:n]))
    return replace(spec, motors=motors, couplings=(), limits={})


# --- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "given", "says"),
    [
        ((Model(12), Model(14)), {}, "no answer from Maestro, device 13"),
        ((Model(12, silent=True), Model(13)), {}, "no answer from Maestro, device 12"),
        ((Model(12, channels=12), Model(13)), {}, "fewer channels.*found 12, expected channel 15 for jaw"),
        ((Model(12), Model(13, channels=6)), {}, "found 6, expected channel 9 for left_corner_stretch"),
        ((Model(12), Model(13)), {"crc": True}, "this board has CRC off"),
        ((Model(12, script=True), Model(13)), {}, "a script runs on this board"),
    ],
)  # fmt: skip
def test_the_wrong_board_is_told(boards, models, given, says):
    rig = rig_on(boards(*models), **given)
    with pytest.raises(FaceTwinError, match=says) as caught:
        rig.open()
    assert "\n" not in str(caught.value)
    assert "next: " in str(caught.value)
    assert rig.status.state == "closed"
    assert not rig.wire.is_open


def test_a_board_with_crc_is_told_without_breaking_a_command(boards):
    line = boards(crc=True)
    with pytest.raises(FaceTwinError, match="this board has CRC on"):
        rig_on(line).open()
    assert not any(board.errors for board in line.boards)


def test_an_echo_is_told(boards):
    line = boards()
    line.echo = True
    with pytest.raises(FaceTwinError, match="gives back what is sent"):
        rig_on(line).open()


def test_garbage_is_told(boards):
    line = boards()
    line.reply = b"\xf3\x9e"
    with pytest.raises(FaceTwinError, match=r"makes no sense.*wrong baud rate"):
        rig_on(line).open()


def test_a_cable_pulled_while_opening_is_told(boards):
    line = boards()
    rig = rig_on(line)

    def gone(size, timeout=None):
        raise OSError(5, "Input/output error")

    rig.wire.read = gone
    with pytest.raises(FaceTwinError, match=r"vanished.*check cable and power"):
        rig.open()
    assert rig.status.state == "closed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": ""},
        {"port": None},
        {"port": "/dev/a,/dev/a"},
        {"port": "/dev/a,/dev/b,/dev/c"},
        {"baud": 5},
        {"baud": True},
        {"baud": "fast"},
        {"crc": "yes"},
        {"devices": "12"},
        {"devices": "12,12"},
        {"devices": "12,128"},
        {"devices": "12,x"},
        {"headroom": 0.5},
        {"headroom": float("nan")},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"wiring": {"jow": {"zero": 1}}},
        {"wiring": {"jaw": {"zerro": 1}}},
        {"wiring": {"jaw": {"channel": 0}}},
        {"wiring": {"jaw": {"zero": 9900}}},
    ],
)
def test_wrong_settings_are_refused_before_opening(wrong):
    given = {"port": "/dev/nowhere", **wrong}
    with pytest.raises(UsageError) as caught:
        MaestroRig(given.pop("port"), **given)
    assert "\n" not in str(caught.value)


# --- what goes wrong on the way --------------------------------------------------------------------------


def test_lost_bytes_are_asked_again(boards):
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        line.boards[0].errors = 0b1000
        rig.read()
        assert rig.status.retries == 1
        line.cut = 1
        rig.read()
        line.prefix = b"\xff\xff\xff"
        rig.read()
        assert rig.status.state == "active"


def test_a_late_answer_is_not_taken_for_the_next(boards):
    line = boards()
    there = np.linspace(0.2, 0.8, 26)
    with rig_on(line) as rig:
        for motor, unit in zip(rig.spec.motors, rig.wiring.units(there)):
            line.boards[motor.bus].pulses[motor.channel] = int(unit)
        for late in (0.2, 0.3, 0.4):
            retries = rig.status.retries
            line.late = late
            assert np.allclose(rig.read().commanded, there, atol=1e-3)
            assert rig.status.retries > retries


def test_pulses_under_way(boards):
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        assert not rig.moving()
        line.boards[1].moving = True
        assert rig.moving()
    with pytest.raises(FaceTwinError, match="closed"):
        rig.moving()


def test_errors_of_the_script_are_faults(boards):
    from facetwin.hardware.safety import SafetyLayer

    line = boards()
    rig = SafetyLayer(rig_on(line))
    with rig:
        rig.activate()
        line.boards[1].errors = 1 << 6
        rig.read()
        assert "Maestro 13" in rig.fault
        assert "script stack error" in rig.fault
        with pytest.raises(RigFault, match="latched"):
            rig.write(rig.spec.rest)


def test_a_board_that_was_reset_is_a_fault(boards):
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        line.boards[0].pulses.clear()
        assert "no pulses" in rig.read().faults[0]


def test_a_reset_between_two_writes_is_a_fault(boards):
    """After the second write the pulses are back: only the question before it can tell."""
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        for _ in range(3):
            rig.write(rig.spec.rest)
        assert not rig.read().faults
        line.boards[1].pulses.clear()
        rig.write(rig.spec.rest)
        (fault,) = rig.read().faults
        assert "Maestro 13" in fault
        assert "no pulses" in fault
        assert all(pulses(line))
        assert not rig.read().faults  # told once


def test_a_write_notices_that_nobody_is_there(boards):
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        line.boards[0].silent = True
        rig.wire.timeout = 0.03
        rig.write(rig.spec.rest)
        with pytest.raises(RigFault, match="Maestro 12"):  # no read in between
            rig.write(rig.spec.rest)
        assert rig.status.state == "held"
        line.boards[0].silent, rig.wire.timeout = False, 0.15
        rig.write(rig.spec.rest)
        assert rig.status.state == "active"


def test_a_lost_answer_to_a_write_is_got_over(boards):
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        for k in range(6):
            if k == 2:
                line.cut = 1
            rig.write(np.full(26, 0.1 * k))
        assert rig.status.retries == 1
        assert not rig.read().faults
        assert not rig.moving()
        rig.write(rig.spec.rest)
        assert not rig.moving()  # with an answer waiting
        assert pulses(line) == list(rig.wiring.units(rig.spec.rest))


def test_pulses_on_their_way_are_no_fault_those_that_never_come_are(boards):
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        rig._since[:] = -1e9
        rig._settle[:] = 0.4
        for board in line.boards:
            board.deaf_to.add(0x9F)  # the command is lost
        command = np.clip(rig.spec.rest + 0.3, 0, 1)
        rig.write(command)
        assert not rig.read().faults
        rig.clock.sleep(0.5)
        assert "were set" in rig.read().faults[0]


def test_one_flipped_bit_is_no_fault(boards):
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        rig._settle[:] = 0
        read, flipped = rig.wire.read, []

        def flip(size, timeout=None):
            answer = bytearray(read(size, timeout))
            if size == 4 and not flipped:
                flipped.append(True)
                answer[3] ^= 2
            return bytes(answer)

        rig.wire.read = flip
        assert not rig.read().faults
        assert flipped


def test_one_flipped_bit_does_not_move_a_face_at_activation(boards):
    line = boards()
    there = np.linspace(0.2, 0.8, 26)
    with rig_on(line) as rig:
        for motor, unit in zip(rig.spec.motors, rig.wiring.units(there)):
            line.boards[motor.bus].pulses[motor.channel] = int(unit)
        before = pulses(line)
        read, flipped = rig.wire.read, []

        def flip(size, timeout=None):
            answer = bytearray(read(size, timeout))
            if size == 12 and not flipped:
                flipped.append(True)
                answer[3] ^= 2
            return bytes(answer)

        rig.wire.read = flip
        rig.activate()
        assert flipped
        assert pulses(line) == before


def test_a_narrower_range_in_the_board_is_a_fault(boards):
    line = boards(Model(12, highest=8000), Model(13))
    with rig_on(line) as rig:
        rig.activate()
        command = rig.spec.rest.copy()
        lid = rig.spec.index("right_upper_lid")
        command[lid] = 1.0  # 2162 us
        for _ in range(60):
            rig.write(command)
            faults = rig.read().faults
            if faults:
                break
            rig.clock.sleep(0.02)
        assert "right_upper_lid" in faults[0]
        assert "2000 us" in faults[0]


def test_a_silent_board_is_held_then_released(boards):
    line = boards()
    with rig_on(line) as rig:
        rig.activate()
        line.boards[1].silent = True
        rig.wire.timeout = 0.03
        with pytest.raises(RigFault, match="Maestro 13"):
            rig.read()
        assert rig.status.state == "held"
        with pytest.raises(RigFault):
            rig.read()
        assert rig.status.state == "open"
        assert not any(line.boards[0].pulses.values())
        line.boards[1].silent, rig.wire.timeout = False, 0.15
        rig.activate()
        assert rig.status.state == "active"


def test_a_pulled_cable(boards, tmp_path):
    line, link = boards(), tmp_path / "maestro"
    link.symlink_to(line.port)
    rig = MaestroRig(str(link), timeout=0.15)
    rig.open()
    rig.activate()
    line.pull()
    with pytest.raises(RigFault, match="vanished"):
        rig.read()
    with pytest.raises(FaceTwinError, match="vanished"):
        rig.write(rig.spec.rest)
    assert rig.status.state == "open"
    assert "vanished" in rig.status.reason
    with pytest.raises(FaceTwinError):
        rig.activate()
    link.unlink()
    line = boards()
    link.symlink_to(line.port)  # put back: no need to close
    rig.activate()
    rig.write(rig.spec.rest)
    rig.read()
    assert rig.status.state == "active"
    rig.close()


def test_release_is_sent_again_when_it_was_lost(boards):
    line = boards(crc=True)
    rig = rig_on(line, crc=True)
    rig.open()
    rig.activate()
    write, lost = rig.wire.write, [1]

    def damaged(data):
        if lost and len(data) > 40:
            lost.pop()
            data = data[:9] + bytes([data[9] ^ 1]) + data[10:]
        write(data)

    rig.wire.write = damaged
    rig.release()
    assert not lost
    assert not any(pulses(line))
    rig.close()


# --- fuzz ---------------------------------------------------------------------------------------------------


class BabblingWire:
    """Answers with whatever it is given, at once."""

    port, baud, timeout, sent, received, owed, is_open = "nowhere", 115200, 0.0, 0, 0, 0, True

    def __init__(self, data, seed):
        self.data, self.at, self.random = data, 0, random.Random(seed)

    def open(self):
        pass

    close = open

    def write(self, data):
        self.asked = data

    def read(self, size, timeout=None):
        size = self.random.choice((size, size, size, max(0, size - 1)))
        out = self.data[self.at : self.at + size]
        self.at += len(out)
        return out

    def discard(self):
        return b""

    def settle(self, quiet=None):
        out = self.data[self.at : self.at + self.random.randrange(3)]
        self.at += len(out)
        return out


def fuzz(size, seed):
    """Feed `size` bytes, random and nearly right, into the answers; returns reads that went well, and not."""
    rng = random.Random(seed)
    pool = [bytes([0, 0]), bytes([0x70, 0x17]), bytes([8, 0]), bytes([0x40, 0])]
    data = bytearray()
    while len(data) < size:
        piece = bytearray(rng.randbytes(2) if rng.random() < 0.3 else rng.choice(pool))
        if rng.random() < 0.1:
            piece[rng.randrange(2)] ^= 1 << rng.randrange(8)
        data += piece
    rig = MaestroRig("/dev/nowhere")
    wire = BabblingWire(bytes(data), seed)
    rig.wires = [wire]
    for board in rig.boards:
        board.wire = wire
    rig._pack()
    rig.status.state = "open"
    well = badly = 0
    while wire.at < size - 200:
        before = wire.at
        if rig.status.state == "open":
            rig.status.state = rng.choice(("open", "active"))
        try:
            if rig.status.state == "active" and rng.random() < 0.5:
                rig._write(rig.spec.rest)
            state = rig.read()
            assert np.isnan(state.measured).all()
            well += 1
        except (RigFault, TimeoutError):
            badly += 1
        if wire.at == before:
            wire.at += 1
    return well, badly


def test_any_bytes_are_an_answer_or_a_fault():
    well, badly = fuzz(20_000, 0)
    assert well > 20
    assert badly > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_million_bytes(seed):
    well, badly = fuzz(500_000, seed)
    assert well > 500
    assert badly > 500
