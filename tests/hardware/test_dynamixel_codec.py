"""Protocol 2.0 frames: the maker's published examples, the maker's sdk, and damage of every kind."""

import struct

import numpy as np
import pytest
from dynamixel_sdk import (
    COMM_SUCCESS,
    GroupSyncRead,
    GroupSyncWrite,
    PortHandler,
    Protocol2PacketHandler,
)
from hypothesis import assume, example, given
from hypothesis import strategies as st

from facetwin.hardware import dynamixel_codec as dx
from facetwin.hardware.servo_bus import Register, Status

IDS = st.lists(st.integers(0, 252), min_size=1, max_size=40, unique=True)
PAYLOAD = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from([0xFF, 0xFD, 0x00, 0x55]), max_size=60).map(bytes),  # full of headers
)


def hexed(text):
    return bytes.fromhex(text)


# All of ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0", Instruction Details: the examples of each instruction.
GOLDEN = [
    # Ping, example 1 (XM430-W210, id 1) and 2 (broadcast)
    (dx.frame(1, dx.PING), "FF FF FD 00 01 03 00 01 19 4E"),
    (dx.frame(dx.BROADCAST, dx.PING), "FF FF FD 00 FE 03 00 01 31 42"),
    # Read of Present Position(132)
    (dx.frame(1, dx.READ, hexed("84 00 04 00")), "FF FF FD 00 01 07 00 02 84 00 04 00 1D 15"),
    # Write of 512 to Goal Position(116)
    (dx.frame(1, dx.WRITE, struct.pack("<Hi", 116, 512)), "FF FF FD 00 01 09 00 03 74 00 00 02 00 00 CA 89"),
    # Reg Write of 200 to Goal Velocity(104); Action; Factory Reset; Reboot; Clear
    (dx.frame(1, 0x04, struct.pack("<Hi", 104, 200)), "FF FF FD 00 01 09 00 04 68 00 C8 00 00 00 AE 8E"),
    (dx.frame(1, 0x05), "FF FF FD 00 01 03 00 05 02 CE"),
    (dx.frame(1, 0x06, b"\x01"), "FF FF FD 00 01 04 00 06 01 A1 E6"),
    (dx.frame(1, dx.REBOOT), "FF FF FD 00 01 03 00 08 2F 4E"),
    (dx.frame(1, 0x10, hexed("01 44 58 4C 22")), "FF FF FD 00 01 08 00 10 01 44 58 4C 22 B1 DC"),
    # Sync Read of Present Position of ids 1, 2
    (dx.sync_read([1, 2], dx.PRESENT_POSITION), "FF FF FD 00 FE 09 00 82 84 00 04 00 01 02 CE FA"),
    # Sync Write of 150 and 170 to Goal Position of ids 1, 2
    (
        dx.SyncWrite([1, 2]).frame(np.array([150, 170])),
        "FF FF FD 00 FE 11 00 83 74 00 04 00 01 96 00 00 00 02 AA 00 00 00 82 87",
    ),
    # Fast Sync Read of Present Position of ids 3, 7, 4
    (
        dx.sync_read([3, 7, 4], dx.PRESENT_POSITION, fast=True),
        "FF FF FD 00 FE 0A 00 8A 84 00 04 00 03 07 04 20 F2",
    ),
    # Bulk Read, Bulk Write (not used, but frames all the same)
    (
        dx.frame(254, 0x92, hexed("01 90 00 02 00 02 92 00 01 00")),
        "FF FF FD 00 FE 0D 00 92 01 90 00 02 00 02 92 00 01 00 1A 05",
    ),
    (
        dx.frame(254, 0x93, hexed("01 20 00 02 00 A0 00 02 1F 00 01 00 50")),
        "FF FF FD 00 FE 10 00 93 01 20 00 02 00 A0 00 02 1F 00 01 00 50 B7 68",
    ),
]  # fmt: skip

# The status frames of the same examples.
GOLDEN_STATUS = [
    ("FF FF FD 00 01 07 00 55 00 06 04 26 65 5D", Status(1, 0, hexed("06 04 26"))),  # Ping: 1030, firmware 38
    ("FF FF FD 00 02 07 00 55 00 06 04 26 6F 6D", Status(2, 0, hexed("06 04 26"))),
    ("FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0", Status(1, 0, hexed("A6 00 00 00"))),  # Read: 166
    ("FF FF FD 00 02 08 00 55 00 1F 08 00 00 BA BE", Status(2, 0, hexed("1F 08 00 00"))),  # Sync Read: 2079
    ("FF FF FD 00 01 04 00 55 00 A1 0C", Status(1, 0, b"")),  # Write
    ("FF FF FD 00 01 06 00 55 00 77 00 C3 69", Status(1, 0, hexed("77 00"))),  # Bulk Read: 11.9 V
    ("FF FF FD 00 02 05 00 55 00 24 8B A9", Status(2, 0, hexed("24"))),
]

# Fast Sync Read of ids 3, 7, 4 (XC330-T288): one frame, to which each servo adds its part.
FAST = hexed(
    "FF FF FD 00 FE 19 00 55 00 03 A6 00 00 00 84 08 00 07 1F 08 00 00 16 CA 00 04 FF 03 00 00 D1 9E"
)
FAST_IDS = np.array([3, 7, 4], np.uint8)


@pytest.mark.parametrize(("made", "published"), GOLDEN)
def test_published_instructions(made, published):
    assert made == hexed(published)


@pytest.mark.parametrize(("published", "meaning"), GOLDEN_STATUS)
def test_published_answers(published, meaning):
    assert dx.find_status(hexed(published)) == ([meaning], len(hexed(published)), 0)


def test_published_fast_answer():
    rows, errors, damaged = dx.find_fast(FAST, FAST_IDS, dx.PRESENT_POSITION)
    assert rows.view("<i4")[:, 0].tolist() == [166, 2079, 1023]
    assert not errors.any()
    assert not damaged


# --- against the sdk -----------------------------------------------------------------------------------


class Port(PortHandler):
    """Keeps what the sdk sends, gives it what it should receive."""

    def __init__(self, waiting=b""):
        super().__init__("")
        self.sent, self.waiting = b"", waiting

    def clearPort(self):
        pass

    def writePort(self, packet):
        self.sent = bytes(packet)
        return len(packet)

    def readPort(self, length):
        out, self.waiting = self.waiting[:length], self.waiting[length:]
        return out

    def isPacketTimeout(self):
        return True


SDK = Protocol2PacketHandler()


@given(st.binary(max_size=300))
def test_crc_is_the_sdks(data):
    assert dx.crc16(data) == SDK.updateCRC(0, data, len(data))
    assert dx.crc16(data[7:], dx.crc16(data[:7])) == dx.crc16(data)


@given(st.integers(0, 252), st.integers(0, 0xFE00), st.binary(min_size=1, max_size=60))
def test_writes_are_the_sdks(number, address, data):
    assume(b"\xff\xff\xfd" not in struct.pack("<H", address) + data)
    port = Port()
    SDK.writeTxOnly(port, number, address, len(data), list(data))
    assert dx.frame(number, dx.WRITE, struct.pack("<H", address) + data) == port.sent


@given(IDS, st.data())
def test_sync_writes_are_the_sdks(ids, data):
    values = data.draw(st.lists(st.integers(-4096, 8191), min_size=len(ids), max_size=len(ids)))
    port = Port()
    group = GroupSyncWrite(port, SDK, *dx.GOAL_POSITION)
    for number, value in zip(ids, values, strict=True):
        assert group.addParam(number, list(value.to_bytes(4, "little", signed=True)))
    assert group.txPacket() == COMM_SUCCESS
    maker = dx.SyncWrite(ids)
    assert maker.frame(np.array(values)) == port.sent
    assert maker.frame(np.array(values)) == port.sent  # and again


def test_a_sync_write_full_of_headers_is_stuffed():
    row = b"\xff\xff\xfd\xff"
    value = int.from_bytes(row, "little", signed=True)
    made = dx.SyncWrite([1, 2]).frame(np.array([value, value]))
    parameters = struct.pack("<HH", 116, 4) + b"\x01" + row + b"\x02" + row
    assert made == sdk_frame(254, dx.SYNC_WRITE, parameters)
    assert len(made) == 14 + 2 * 5 + 2


def sdk_frame(number, instruction, parameters):
    """By the sdk's own steps, one by one, as its `txPacket` loses what `addStuffing` returns."""
    packet = [0xFF, 0xFF, 0xFD, 0, number, (len(parameters) + 3) & 255, (len(parameters) + 3) >> 8]
    packet = SDK.addStuffing([*packet, instruction, *parameters, 0, 0])
    crc = SDK.updateCRC(0, packet, len(packet) - 2)
    packet[-2:] = [crc & 255, crc >> 8]
    return bytes(packet)


@given(st.integers(0, 252), st.integers(0, 0xFFFF), PAYLOAD)
def test_stuffed_writes_are_the_sdks(number, address, data):
    parameters = struct.pack("<H", address) + data
    assert dx.frame(number, dx.WRITE, parameters) == sdk_frame(number, dx.WRITE, parameters)


@given(IDS, st.integers(0, 1000), st.integers(1, 64), st.booleans())
def test_sync_reads_are_the_sdks(ids, address, size, fast):
    port = Port()
    group = GroupSyncRead(port, SDK, address, size)
    for number in ids:
        group.addParam(number)
    (group.fastSyncReadTxPacket if fast else group.txPacket)()
    assert dx.sync_read(ids, Register(address, size), fast) == port.sent


def fast_frame(ids, rows, errors):
    """As the servos make it, one after another."""
    size = rows.shape[1]
    out = b"\xff\xff\xfd\x00\xfe" + struct.pack("<H", 1 + len(ids) * (size + 4)) + b"\x55"
    for number, row, error in zip(ids, rows, errors, strict=True):
        out += bytes([error, number]) + row.tobytes()
        out += struct.pack("<H", SDK.updateCRC(0, out, len(out)))
    return out


@given(IDS.filter(lambda ids: len(ids) < 20), st.integers(1, 30), st.randoms(use_true_random=False))
def test_fast_answers_are_read_as_by_the_sdk(ids, size, random):
    rows = np.array([[random.choice([0, 0xFD, 0xFF, 7]) for _ in range(size)] for _ in ids], np.uint8)
    errors = np.array([random.choice([0, 0x80, 7]) for _ in ids], np.uint8)
    whole = fast_frame(ids, rows, errors)
    asked = np.array(ids, np.uint8)
    assert len(whole) == dx.fast_size(len(ids), Register(0, size))
    found, wrong, damaged = dx.find_fast(whole, asked, Register(0, size))
    assert np.array_equal(found, rows)
    assert np.array_equal(wrong, errors)
    assert not damaged
    port = Port(whole)
    group = GroupSyncRead(port, SDK, 0, size)
    for number in ids:
        group.addParam(number)
    assert group.fastSyncReadRxPacket() == COMM_SUCCESS
    assert [bytes(group.data_dict[k]) for k in ids] == [row.tobytes() for row in rows]


# --- damage ------------------------------------------------------------------------------------------


def status(number, error, data):
    body = dx.stuffed(bytes([dx.STATUS, error]) + data)
    out = b"\xff\xff\xfd\x00" + struct.pack("<BH", number, len(body) + 2) + body
    return out + struct.pack("<H", SDK.updateCRC(0, out, len(out)))


STATUSES = st.lists(st.tuples(st.integers(0, 252), st.integers(0, 255), PAYLOAD), max_size=5)
NOISE = st.binary(max_size=12).filter(lambda b: b"\xff" not in b)


@given(PAYLOAD)
def test_stuffing_goes_there_and_back(data):
    there = dx.stuffed(data)
    assert dx.unstuffed(there) == data
    ends = [k + 3 for k in range(len(there)) if there[k : k + 3] == b"\xff\xff\xfd"]
    assert all(there[k : k + 1] == b"\xfd" for k in ends)  # no header in it


def test_unstuffing_looks_at_what_was_sent():
    # the sdk's removeStuffing looks back at bytes that it has moved already, and drops one of these
    data = b"\xff\xff\xfd\xff\xfd\xfd"
    assert dx.find_status(status(1, 0, data))[0] == [Status(1, 0, data)]


@given(STATUSES, st.lists(NOISE, min_size=6, max_size=6))
def test_frames_are_found_between_noise(frames, noise):
    data, lost = noise[0], len(noise[0])
    for k, parts in enumerate(frames):
        data += status(*parts) + noise[k + 1]
        lost += len(noise[k + 1])
    found, rest, damage = dx.find_status(data, final=True)
    assert found == [Status(*parts) for parts in frames]
    assert (rest, damage) == (len(data), lost)


@given(STATUSES, st.integers(0, 400))
@example([(0, 255, b"\xff\xfd")], 0)  # an error that is part of what was stuffed
def test_frames_cut_anywhere_are_found_when_the_rest_has_come(frames, cut):
    data = b"".join(status(*parts) for parts in frames)
    first, rest, damage = dx.find_status(data[:cut])
    second, _, more = dx.find_status(data[:cut][rest:] + data[cut:], final=True)
    assert first + second == [Status(*parts) for parts in frames]
    assert damage == more == 0


@given(st.integers(0, 252), PAYLOAD, st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_never_taken_for_an_answer(number, data, where, change):
    whole = bytearray(status(number, 0, data))
    whole[where % len(whole)] ^= change
    # CRC-16 notices every burst of up to 16 bits; a changed length may only hide the frame
    assert dx.find_status(bytes(whole), final=True)[0] == []


def test_own_echo_is_no_answer():
    echo = dx.sync_read([1, 2], dx.STATE)
    assert dx.find_status(echo + status(1, 0, b"x"), final=True)[0] == [Status(1, 0, b"x")]


@given(st.integers(0, len(FAST)))
def test_a_fast_answer_that_ends_early_gives_those_before(cut):
    rows, errors, damaged = dx.find_fast(FAST[:cut], FAST_IDS, dx.PRESENT_POSITION)
    whole = max((cut - 8) // 8, 0)
    assert rows.view("<i4")[:, 0].tolist() == [166, 2079, 1023][:whole]
    assert len(errors) == whole
    assert damaged == (0 < cut < 8 or (cut > 8 and cut % 8 != 0))


@given(st.integers(0, len(FAST) - 1), st.integers(1, 255))
def test_a_changed_byte_spoils_a_fast_answer_from_there(where, change):
    data = bytearray(FAST)
    data[where] ^= change
    rows, _, damaged = dx.find_fast(bytes(data), FAST_IDS, dx.PRESENT_POSITION)
    assert damaged
    good = max((where - 8) // 8, 0)
    assert rows.view("<i4")[:, 0].tolist() == [166, 2079, 1023][:good]


def test_fast_answers_in_another_order_are_not_taken():
    rows, _, damaged = dx.find_fast(FAST, np.array([3, 4, 7], np.uint8), dx.PRESENT_POSITION)
    assert len(rows) == 1
    assert damaged


def feed(count, seed):
    """`count` random and mutated bytes through both parsers, in pieces of what is read at once."""
    random = np.random.default_rng(seed)
    good = FAST + b"".join(hexed(p) for p, _ in GOLDEN_STATUS) + status(9, 0x80, b"\xff\xff\xfd" * 5)
    done = 0
    while done < count:
        if random.random() < 0.5:
            data = random.integers(0, 256, random.integers(1, 700), dtype=np.uint8).tobytes()
        else:
            part = np.frombuffer(good * 3, np.uint8).copy()[random.integers(0, 200) :]
            hits = random.integers(0, len(part), random.integers(0, 6))
            part[hits] = random.integers(0, 256, len(hits))
            data = part.tobytes()
        done += len(data)
        for final in (False, True):
            frames, rest, damage = dx.find_status(data, final)
            assert 0 <= rest <= len(data)
            assert 0 <= damage <= len(data)
            assert all(s.id <= dx.BROADCAST for s in frames)
        rows, errors, _ = dx.find_fast(data, FAST_IDS, dx.PRESENT_POSITION)
        assert len(rows) == len(errors) <= 3


def test_parsers_survive_noise():
    feed(100_000, 0)


@pytest.mark.slow
def test_parsers_survive_a_million_bytes_of_noise():
    feed(1_000_000, 1)
