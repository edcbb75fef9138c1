"""The boards as their data sheets have them: published frames, checksums, what is refused, who answers."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import Table

from facetwin.hardware.emulated.dynamixel_frames import Ear, crc16, fast_status, status
from facetwin.hardware.emulated.faults import Fault
from facetwin.hardware.emulated.feetech_bus import checksum
from facetwin.hardware.emulated.maestro_frames import CRC, PROTOCOL, crc7

JAW = 15  # on board 12, channel 15, of face26


def hexed(text: str) -> bytes:
    return bytes.fromhex(text)


def maestro(*data: int, device: int | None = None) -> bytes:
    frame = bytes(data) if device is None else bytes([0xAA, device, data[0] & 0x7F, *data[1:]])
    return frame + bytes([crc7(frame)])


def dynamixel(number: int, instruction: int, parameters: bytes = b"") -> bytes:
    head = hexed("ff ff fd 00") + struct.pack("<BHB", number, len(parameters) + 3, instruction) + parameters
    return head + struct.pack("<H", crc16(head))


def feetech(number: int, instruction: int, parameters: bytes = b"") -> bytes:
    body = bytes([number, len(parameters) + 2, instruction]) + parameters
    return b"\xff\xff" + body + bytes([checksum(body)])


# --- Maestro -----------------------------------------------------------------------------------------


def test_maestro_examples_of_the_guide():
    assert crc7(hexed("83 01")) == 0x17
    table = Table("maestro", crc=False)
    table.hear(hexed("84 0f 70 2e"))  # set target, channel 15, 1500 us
    table.hear(hexed("aa 0d 1f 02 03 70 2e 00 2f"))  # device 13: channels 3 and 4
    boards = table.bus.boards
    assert boards[0].target[15] == 6000
    assert boards[1].target[3:5] == [6000, 6016]
    assert table.hear(hexed("aa 0c 10 0f")) == hexed("70 17")
    assert table.hear(hexed("aa 0d 21")) == hexed("00 00")


def test_maestro_moves_its_motors_with_the_next_pulse():
    table = Table("maestro")
    table.run(0.1)
    assert not table.servos.on.any()
    table.hear(maestro(0x84, JAW, *divmod_low(8000), device=12))
    table.run(0.125)
    assert table.servos.on[JAW]
    assert table.servos.on.sum() == 1
    assert table.servos.goal[JAW] == pytest.approx(table.horns.command(JAW, 8000))
    table.hear(maestro(0x84, JAW, 0, 0, device=12))
    table.run(0.2)
    assert not table.servos.on[JAW]


def divmod_low(value: int) -> tuple[int, int]:
    return value & 0x7F, value >> 7


def test_maestro_refuses_what_is_damaged_and_says_so_once():
    table = Table("maestro")
    good = maestro(0x9F, 3, 4, *divmod_low(6000) * 3, device=13)
    for k in range(len(good) * 8):
        bad = bytearray(good)
        bad[k // 8] ^= 1 << k % 8
        table.hear(bytes(bad))
        table.hear(maestro(0xA1, device=12))  # ends whatever was left open
    assert table.log.count_done == 0
    assert not any(table.bus.boards[1].target)
    table.hear(bytes(good[:-1]) + bytes([good[-1] ^ 1]))
    errors = int.from_bytes(table.hear(maestro(0xA1, device=13)), "little")
    assert errors & CRC
    assert table.hear(maestro(0xA1, device=13)) == b"\0\0"
    table.hear(maestro(0x84, 24, 0, 0, device=12))  # no such channel
    assert int.from_bytes(table.hear(maestro(0xA1, device=12)), "little") == PROTOCOL


def test_maestro_compact_protocol_is_for_all_boards_and_answers_collide():
    table = Table("maestro", crc=False)
    table.hear(hexed("84 00 70 2e"))
    assert [b.target[0] for b in table.bus.boards] == [6000, 6000]
    table.hear(hexed("aa 0d 04 00 0f 2e"))
    assert table.hear(hexed("90 00")) == bytes(a & b for a, b in zip(hexed("70 17"), hexed("0f 17")))


def test_maestro_limits_of_channel_speed_and_acceleration():
    table = Table("maestro", crc=False, low=4000, high=8000)
    table.hear(hexed("84 0f 00 00"))
    table.hear(bytes([0x84, JAW, *divmod_low(9999)]))
    assert table.bus.boards[0].target[JAW] == 8000  # clipped
    table.run(0.2)
    table.hear(bytes([0x87, JAW, 20, 0]))  # 20 quarter-us per 10 ms
    table.hear(bytes([0x84, JAW, *divmod_low(6000)]))
    start = table.time
    table.run(start + 0.5)
    gone = 8000 - table.bus.boards[0].position[JAW]
    assert 0.46 * 2000 <= gone <= 0.54 * 2000
    assert table.hear(bytes([0xAA, 12, 0x13])) == b"\1"
    table.run(start + 1.2)
    assert table.bus.boards[0].position[JAW] == 6000
    assert table.hear(bytes([0xAA, 12, 0x13])) == b"\0"


def test_maestro_restarts_with_pulses_off():
    table = Table("maestro", crc=False)
    table.hear(hexed("84 0f 70 2e"))
    table.run(0.1)
    table.bus.restart(0.1)
    assert not table.servos.on.any()
    assert table.hear(hexed("aa 0c 10 0f")) == b"\0\0"


def test_pca9685_says_who_it_is_counts_pulses_and_watches():
    table = Table("pca9685")
    told = table.hear(maestro(0xB0, device=126))
    assert told[:7] == bytes([0x46, 0x54, 1, 0, 2, 16, 1])
    assert crc7(told[:7]) == told[7]
    table.hear(maestro(0xB1, *divmod_low(500), device=126))
    table.hear(maestro(0x84, JAW, *divmod_low(6007), device=12))
    table.run(table.time + 0.1)
    count = 80000 / 4096
    assert table.servos.goal[JAW] == pytest.approx(table.horns.command(JAW, round(6007 / count) * count))
    table.run(table.time + 0.6)
    assert not table.servos.on.any()
    assert int.from_bytes(table.hear(maestro(0xA1, device=12)), "little") & 1 << 5


# --- Dynamixel ---------------------------------------------------------------------------------------


def test_dynamixel_examples_of_the_manual():
    assert dynamixel(1, 1) == hexed("ff ff fd 00 01 03 00 01 19 4e")
    assert status(1, 0, hexed("06 04 26")) == hexed("ff ff fd 00 01 07 00 55 00 06 04 26 65 5d")
    assert status(1, 0, hexed("a6 00 00 00")) == hexed("ff ff fd 00 01 08 00 55 00 a6 00 00 00 8c c0")
    assert status(2, 0, hexed("1f 08 00 00")) == hexed("ff ff fd 00 02 08 00 55 00 1f 08 00 00 ba be")
    table = Table("dynamixel", model=1030, firmware=38)
    assert table.hear(dynamixel(1, 1), 1.0) == hexed("ff ff fd 00 01 07 00 55 00 06 04 26 65 5d")
    write = hexed("ff ff fd 00 01 09 00 03 74 00 00 02 00 00 ca 89")
    assert table.hear(write, 1.1) == hexed("ff ff fd 00 01 04 00 55 00 a1 0c")
    table.hear(hexed("ff ff fd 00 fe 11 00 83 74 00 04 00 01 96 00 00 00 02 aa 00 00 00 82 87"), 1.2)
    assert [table.bus.servo[k].get(116, 4) for k in (1, 2)] == [150, 170]
    both = table.hear(hexed("ff ff fd 00 fe 09 00 82 84 00 04 00 01 02 ce fa"), 1.3)
    assert len(both) == 30
    assert (both[4], both[19]) == (1, 2)
    reboot = hexed("ff ff fd 00 01 03 00 08 2f 4e")
    assert table.hear(reboot, 1.4) == hexed("ff ff fd 00 01 04 00 55 00 a1 0c")
    assert table.hear(dynamixel(1, 1), 1.41) == b""  # it is starting
    assert table.hear(dynamixel(1, 1), 1.7) != b""


@given(st.binary(max_size=40), st.integers(0, 252), st.integers(0, 127))
def test_dynamixel_stuffing_and_crc_are_the_makers(data, number, error):
    """The maker's own package reads what the emulated servo says, and it reads what the package says."""
    from dynamixel_sdk import Protocol2PacketHandler

    sdk = Protocol2PacketHandler()
    data = data + b"\xff\xff\xfd" + data
    said = status(number, error, data)
    assert sdk.updateCRC(0, list(said), len(said) - 2) == said[-2] | said[-1] << 8
    plain = sdk.removeStuffing(list(said))
    assert bytes(plain[9 : 9 + len(data)]) == data
    packet = [0xFF, 0xFF, 0xFD, 0, number, 3 + len(data), 0, 0x03, *data, 0, 0]
    packet = sdk.addStuffing(packet)
    size = 7 + (packet[5] | packet[6] << 8)
    crc = sdk.updateCRC(0, packet, size - 2)
    packet[size - 2 : size] = crc & 255, crc >> 8
    ear, out = Ear(), []
    for byte in packet[:size]:
        got = ear.hear(byte, 0.0)
        out += [got] if got else []
    assert [(p.id, p.instruction, p.parameters, p.good) for p in out] == [(number, 3, data, True)]


def test_dynamixel_fast_sync_read_is_one_frame():
    parts = [(k, 0, bytes([k, 0, 0, 0])) for k in (3, 7)]
    whole = fast_status(parts, 2)
    assert len(whole) == 8 + 2 * 8
    assert whole[5] | whole[6] << 8 == len(whole) - 7
    assert crc16(whole[:-2]) == whole[-2] | whole[-1] << 8
    assert fast_status(parts[:1], 2) == whole[:16]  # the second one is silent


def test_dynamixel_eeprom_is_locked_while_the_motor_is_on():
    table = Table("dynamixel")
    at = [1.0]

    def write(address: int, size: int, value: int) -> int:
        at[0] += 0.05
        said = table.hear(dynamixel(1, 3, struct.pack("<H", address) + value.to_bytes(size, "little")), at[0])
        return said[8]

    assert write(9, 1, 0) == 0
    assert write(64, 1, 1) == 0
    assert write(9, 1, 5) == 7  # access
    assert write(116, 4, 4096) == 6  # data limit
    assert write(64, 1, 2) == 4  # data range
    assert write(132, 4, 0) == 7  # read only
    assert write(64, 1, 0) == 0
    assert write(9, 1, 250) == 0
    assert table.servos.on.sum() == 0


def test_dynamixel_moves_to_its_goal_register_when_switched_on():
    table = Table("dynamixel")
    table.hear(dynamixel(16, 3, struct.pack("<Hi", 116, 2300)), 1.0)
    table.run(1.5)
    assert table.servos.state_of(JAW) == pytest.approx(table.spec.rest[JAW])
    table.hear(dynamixel(16, 3, struct.pack("<HB", 64, 1)), 1.6)
    table.run(2.6)
    read = table.hear(dynamixel(16, 2, struct.pack("<HH", 132, 4)), 2.7)
    place = int.from_bytes(read[9:13], "little")
    assert abs(place - 2300) <= 4
    assert abs(place - table.horns.units(JAW, table.servos.state_of(JAW))) <= 2


def test_dynamixel_watchdog_stops_and_refuses_goals():
    table = Table("dynamixel")
    table.hear(dynamixel(16, 3, struct.pack("<HB", 64, 1)), 1.0)
    table.hear(dynamixel(16, 3, struct.pack("<HB", 98, 5)), 1.01)  # 100 ms
    table.hear(dynamixel(16, 3, struct.pack("<Hi", 116, 2600)), 1.02)
    table.run(1.4)
    stopped = table.servos.state_of(JAW)
    told = table.hear(dynamixel(16, 2, struct.pack("<HH", 98, 1)), 1.5)
    assert told[9] == 255
    assert table.hear(dynamixel(16, 3, struct.pack("<Hi", 116, 2500)), 1.51)[8] == 4
    assert table.servos.state_of(JAW) == pytest.approx(stopped)
    table.hear(dynamixel(16, 3, struct.pack("<HB", 98, 0)), 1.52)
    assert table.hear(dynamixel(16, 3, struct.pack("<Hi", 116, 2500)), 1.53)[8] == 0


def test_dynamixel_hardware_error_stays_until_a_reboot():
    table = Table("dynamixel")
    table.hear(dynamixel(16, 3, struct.pack("<HB", 64, 1)), 1.0)
    table.bus.latch(JAW)
    ping = table.hear(dynamixel(16, 1), 1.1)
    assert ping[8] & 0x80
    assert not table.servos.on[JAW]
    assert table.hear(dynamixel(16, 3, struct.pack("<HB", 64, 1)), 1.2)[8] == 0x87
    assert table.hear(dynamixel(16, 2, struct.pack("<HH", 70, 1)), 1.3)[9] == 1 << 5
    table.hear(dynamixel(16, 8), 1.4)
    assert table.hear(dynamixel(16, 1), 1.7)[8] == 0


def test_dynamixel_gets_too_hot_and_too_heavy():
    table = Table("dynamixel")
    for number in (15, 16):
        table.hear(dynamixel(number, 3, struct.pack("<HB", 64, 1)))
    table.servos.heater[14] = 30.0
    table.servos.block(JAW, True, table.time)
    table.hear(dynamixel(16, 3, struct.pack("<Hi", 116, 2600)))
    table.run(3.0)
    assert table.bus.servo[15].error == 1 << 2
    assert table.bus.servo[16].error == 1 << 5
    assert not table.servos.on[14:16].any()


def test_who_is_silent_ends_a_sync_read():
    for kind, ask, size in (
        ("dynamixel", dynamixel(254, 0x82, struct.pack("<HH", 132, 4) + bytes([1, 2, 3, 4])), 15),
        ("feetech", feetech(254, 0x82, bytes([56, 2, 1, 2, 3, 4])), 8),
    ):
        table = Table(kind)
        assert len(table.hear(ask, 1.0)) == 4 * size
        table.faults.add(Fault("silent", motor=2))
        assert len(table.hear(ask, 1.1)) == 2 * size


def test_missing_and_doubled_servos():
    table = Table("dynamixel", missing=[4], twice=[6])
    assert table.hear(dynamixel(5, 1), 1.0) == b""
    twice = table.hear(dynamixel(7, 1), 1.1)
    assert twice
    assert crc16(twice[:-2]) != twice[-2] | twice[-1] << 8
    assert table.hear(dynamixel(8, 1), 1.2)


# --- Feetech -----------------------------------------------------------------------------------------


def test_feetech_examples_of_the_manual():
    assert feetech(1, 1) == hexed("ff ff 01 02 01 fb")
    table = Table("feetech")
    assert table.hear(feetech(1, 1), 1.0) == hexed("ff ff 01 02 00 fc")
    assert feetech(1, 2, bytes([0x38, 2])) == hexed("ff ff 01 04 02 38 02 be")
    told = table.hear(feetech(1, 2, bytes([0x38, 2])), 1.1)
    assert told[:5] == hexed("ff ff 01 04 00")
    assert checksum(told[2:-1]) == told[-1]
    place = int.from_bytes(told[5:7], "little")
    assert abs(place - table.horns.units(0, table.spec.rest[0])) <= 2


def test_feetech_goals_torque_and_lock():
    table = Table("feetech")
    goal = struct.pack("<H", 2300)
    table.hear(feetech(254, 0x83, bytes([42, 2, 16]) + goal), 1.0)
    table.run(1.5)
    assert table.servos.state_of(JAW) == pytest.approx(table.spec.rest[JAW])
    assert table.hear(feetech(16, 3, bytes([40, 1])), 1.6) == feetech(16, 0)
    table.run(2.6)
    assert table.servos.state_of(JAW) == pytest.approx(table.horns.command(JAW, 2300), abs=0.01)
    servo = table.bus.servo[16]
    table.hear(feetech(16, 3, bytes([13, 60])), 2.7)
    assert servo.table[13] == 60
    table.bus.restart(2.8)
    assert servo.table[13] == 70  # it was locked: gone with the power
    table.hear(feetech(16, 3, bytes([55, 0])), 3.0)
    table.hear(feetech(16, 3, bytes([13, 60])), 3.1)
    table.bus.restart(3.2)
    assert servo.table[13] == 60
    assert not table.servos.on.any()


def test_feetech_bad_checksum_is_not_obeyed():
    table = Table("feetech")
    good = feetech(16, 3, bytes([40, 1]))
    for k in range(16, len(good) * 8):
        bad = bytearray(good)
        bad[k // 8] ^= 1 << k % 8
        table.hear(bytes(bad), 1.0 + k * 0.05)
    assert not table.servos.on.any()
    assert table.log.count_done == 0


# --- all of them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["maestro", "pca9685", "dynamixel", "feetech"])
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_noise_moves_nothing_and_frames_after_it_are_heard(kind, data):
    table = Table(kind)
    for chunk in data.draw(st.lists(st.binary(max_size=80), max_size=5)):
        table.hear(chunk, table.time + 0.02)
    done = {row[0] for row in table.log.done}
    assert len(done) <= 1  # a checksum of 7 bits lets one in 128 through
    ask = {"dynamixel": dynamixel(3, 1), "feetech": feetech(3, 1)}.get(kind, maestro(0xA1, device=13))
    table.hear(ask, table.time + 0.02)
    assert table.hear(ask, table.time + 0.02)


@pytest.mark.parametrize("kind", ["maestro", "pca9685", "dynamixel", "feetech"])
def test_log_of_what_was_asked_and_done(kind):
    table = Table(kind)
    units = [round(table.horns.units(m, 0.4)) for m in (0, 1)]
    if kind == "dynamixel":
        rows = b"".join(struct.pack("<Bi", m + 1, u) for m, u in enumerate(units))
        frame = dynamixel(254, 0x83, struct.pack("<HH", 116, 4) + rows)
    elif kind == "feetech":
        rows = b"".join(struct.pack("<BH", m + 1, u) for m, u in enumerate(units))
        frame = feetech(254, 0x83, bytes([42, 2]) + rows)
    else:
        frame = maestro(0x9F, 2, 0, *divmod_low(units[0]), *divmod_low(units[1]), device=12)
    table.hear(frame, 1.0)
    assert [row[1:] for row in table.log.asked] == [([0, 1], units)]
    assert [row[1:] for row in table.log.done] == [([0, 1], units)]
    table.log.do(1.1, [0], [units[0] + 1])
    assert table.log.count_strange == 1
    assert np.isclose(table.log.strange[0][0], 1.1)
