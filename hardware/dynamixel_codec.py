"""Dynamixel Protocol 2.0 in bytes: control table of the X series, models, frames out, answers in.

Pure functions. The maker's sdk does all this too, and `facetwin.hardware.dynamixel_bus` uses it for what is
not in the cycle. But its group reads lose the alert bits, and all of an answer that is not whole, and version
4.1 forgets to stuff what it sends; tests hold the two to each other byte for byte.
Source: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0" and the control tables of the X series.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.servo_bus import Bytes, Register, Status

# EEPROM: written only while the motor is off
MODEL_NUMBER = Register(0, 2)
FIRMWARE = Register(6, 1)
ID = Register(7, 1)
BAUD_RATE = Register(8, 1)
RETURN_DELAY = Register(9, 1)  # 2 us
DRIVE_MODE = Register(10, 1)
OPERATING_MODE = Register(11, 1)
VELOCITY_LIMIT = Register(44, 4)  # 0.229 rev/min
MAX_POSITION = Register(48, 4)  # ticks
MIN_POSITION = Register(52, 4)
# RAM
TORQUE_ENABLE = Register(64, 1)
STATUS_RETURN_LEVEL = Register(68, 1)
HARDWARE_ERROR = Register(70, 1)
BUS_WATCHDOG = Register(98, 1)  # 20 ms; 0 is off, 255 has tripped
PROFILE_ACCELERATION = Register(108, 4)
PROFILE_VELOCITY = Register(112, 4)  # 0.229 rev/min, or ms in a profile of time
GOAL_POSITION = Register(116, 4)
PRESENT_LOAD = Register(126, 2)  # 0.1 %; a current in series that measure one
PRESENT_VELOCITY = Register(128, 4)
PRESENT_POSITION = Register(132, 4)
PRESENT_VOLTAGE = Register(144, 2)  # 0.1 V
PRESENT_TEMPERATURE = Register(146, 1)  # degrees C

#: what one cycle reads of each servo: addresses 126 to 146
STATE = Register(126, 21)
STATE_TYPE = np.dtype([
    ("load", "<i2"), ("velocity", "<i4"), ("position", "<i4"), ("velocity_trajectory", "<i4"),
    ("position_trajectory", "<i4"), ("voltage", "<u2"), ("temperature", "u1"),
])  # fmt: skip

PING, READ, WRITE, REBOOT, STATUS = 0x01, 0x02, 0x03, 0x08, 0x55
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A
BROADCAST = 0xFE
ALERT = 0x80  #: bit of a status: the servo has a hardware error
HEADER = b"\xff\xff\xfd"
LONGEST = 1024  #: bytes; a longer length in a header is damage

#: a revolution a minute is this many rad/s; speeds count in 0.229 of it
RPM = 2 * np.pi / 60
VELOCITY_UNIT = 0.229 * RPM  # rad/s

POSITION, EXTENDED_POSITION, CURRENT_POSITION = 3, 4, 5
MODES = {
    0: "current", 1: "velocity", 3: "position", 4: "extended position", 5: "current-based position",
    16: "PWM",
}  # fmt: skip
SLAVE, TIME_PROFILE = 0x02, 0x04  # bits of the drive mode
TRIPPED = 0xFF  # of the bus watchdog

#: Hardware Error Status(70)
HARDWARE_ERRORS = {0: "input voltage", 1: "hall sensor", 2: "overheating", 3: "encoder",
                   4: "electrical shock", 5: "overload"}  # fmt: skip
#: error number of a status, bits 0 to 6
STATUS_ERRORS = {1: "result fail", 2: "instruction", 3: "CRC", 4: "data range", 5: "data length",
                 6: "data limit", 7: "access"}  # fmt: skip

#: rates of the X series that a face may be found at, the likely ones first
BAUDS = (1_000_000, 57_600, 115_200, 2_000_000, 3_000_000, 4_000_000)


class Model(NamedTuple):
    """What differs between servos of the X series.

    `fast`: firmware from which it knows fast sync read (0: never); `oldest`: firmware from which it has all
    that the driver needs; `load_unit`: share of the stall torque that one unit of its load or current is.
    """

    name: str
    fast: int
    oldest: int
    load_unit: float


def _current(name: str, stall: float) -> Model:
    """A servo that measures its current, in 2.69 mA; `stall` in A at 12 V (24 V for V)."""
    return Model(name, 45, 38, 2.69e-3 / stall)


def _small(name: str, stall: float) -> Model:
    """A 330, which counts in mA and had the bus watchdog from the start."""
    return Model(name, 46, 0, 1e-3 / stall)


def _load(name: str, fast: int = 45) -> Model:
    """A servo that estimates its load in 0.1 %."""
    return Model(name, fast, 38, 1e-3)


#: model number -> what it is. Numbers and stall currents: e-Manual, X series; fast sync read: Protocol 2.0.
MODELS = {
    1000: _current("XH430-W350", 1.3), 1001: _current("XD430-T350", 1.3), 1010: _current("XH430-W210", 1.3),
    1011: _current("XD430-T210", 1.3), 1020: _current("XM430-W350", 2.3), 1030: _current("XM430-W210", 2.3),
    1040: _current("XH430-V350", 0.7), 1050: _current("XH430-V210", 0.7), 1060: _load("XL430-W250"),
    1070: _load("XC430-W150"), 1080: _load("XC430-W240"), 1090: _load("2XL430-W250", 0),
    1100: _current("XH540-W270", 4.9), 1101: _current("XD540-T270", 4.9), 1110: _current("XH540-W150", 4.9),
    1111: _current("XD540-T150", 4.9), 1120: _current("XM540-W270", 4.4), 1130: _current("XM540-W150", 4.4),
    1140: _current("XH540-V270", 2.4), 1150: _current("XH540-V150", 2.4), 1160: _load("2XC430-W250", 0),
    1170: _current("XW540-T260", 4.9), 1180: _current("XW540-T140", 4.9), 1190: _small("XL330-M077", 1.47),
    1200: _small("XL330-M288", 1.47), 1210: _small("XC330-T181", 0.88), 1220: _small("XC330-T288", 0.88),
    1230: _small("XC330-M181", 1.47), 1240: _small("XC330-M288", 1.47), 1270: _current("XW430-T333", 1.3),
}  # fmt: skip


def _table() -> tuple[int, ...]:
    out = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF
        out.append(crc)
    return tuple(out)


_CRC = _table()


def crc16(data: bytes, crc: int = 0) -> int:
    """CRC-16 of the protocol (polynomial 0x8005, no reflection, start 0), going on from `crc`.

    >>> hex(crc16(bytes.fromhex("ff ff fd 00 01 03 00 01")))
    '0x4e19'
    """
    table = _CRC
    for byte in data:
        crc = (crc << 8 & 0xFF00) ^ table[crc >> 8 ^ byte]
    return crc


def stuffed(body: bytes) -> bytes:
    """Instruction and parameters with an FD after each FF FF FD."""
    if HEADER not in body:
        return body
    return body.replace(HEADER, HEADER + b"\xfd")


def unstuffed(body: bytes) -> bytes:
    """The inverse of `stuffed`."""
    if HEADER not in body:
        return body
    return body.replace(HEADER + b"\xfd", HEADER)


def frame(number: int, instruction: int, parameters: bytes = b"") -> bytes:
    """An instruction frame to servo `number` (0 to 252, or `BROADCAST`).

    >>> frame(1, PING).hex(" ")
    'ff ff fd 00 01 03 00 01 19 4e'
    """
    body = stuffed(bytes([instruction]) + parameters)
    out = HEADER + struct.pack("<BBH", 0, number, len(body) + 2) + body
    return out + struct.pack("<H", crc16(out))


def sync_read(ids: Sequence[int], register: Register, fast: bool = False) -> bytes:
    """Ask many servos for the same registers; `fast`: they answer in one frame."""
    asked = struct.pack("<HH", *register) + bytes(ids)
    return frame(BROADCAST, FAST_SYNC_READ if fast else SYNC_READ, asked)


class SyncWrite:
    """Sync writes of four-byte values to the same servos, over and over: all but the values is ready."""

    def __init__(self, ids: Sequence[int], register: Register = GOAL_POSITION) -> None:
        self._rows = np.zeros(len(ids), np.dtype([("id", "u1"), ("value", "<i4")]))
        self._rows["id"] = ids
        self._start = struct.pack("<BHH", SYNC_WRITE, *register)
        length = len(self._start) + self._rows.nbytes + 2
        self._head = HEADER + struct.pack("<BBH", 0, BROADCAST, length) + self._start
        self._crc = crc16(self._head)

    def frame(self, values: NDArray[np.integer]) -> bytes:
        """The frame that writes `values` [shape=(n,)]."""
        self._rows["value"] = values
        rows = self._rows.tobytes()
        if HEADER in rows:
            return frame(BROADCAST, SYNC_WRITE, self._start[1:] + rows)
        return self._head + rows + struct.pack("<H", crc16(rows, self._crc))


def find_status(data: bytes, final: bool = False) -> tuple[list[Status], int, int]:
    """Whole status frames in what was received.

    Parameters
    ----------
    data : bytes
        Frames, damage and echoes of our own instructions in any order.
    final : bool
        Nothing more will come: a frame that was cut off is damage, and what follows its header is searched.

    Returns
    -------
    list of Status
    int
        Where the rest begins that may yet become a frame.
    int
        How many bytes were damage.
    """
    out: list[Status] = []
    at, damage = 0, 0
    while True:
        start = data.find(HEADER, at)
        if start < 0:
            keep = len(data) if final else max(at, len(data) - 2)
            return out, keep, damage + keep - at
        damage += start - at
        at = start
        if len(data) < start + 7:
            if final:
                return out, len(data), damage + len(data) - start
            return out, start, damage
        reserved, number, length = struct.unpack_from("<BBH", data, start + 3)
        end = start + 7 + length
        if reserved or number > BROADCAST or not 3 <= length <= LONGEST:
            at, damage = start + 3, damage + 3
        elif end > len(data):
            if not final:
                return out, start, damage
            at, damage = start + 3, damage + 3
        elif crc16(data[start : end - 2]) != data[end - 2] | data[end - 1] << 8:
            at, damage = start + 3, damage + 3
        else:
            if data[start + 7] == STATUS and length >= 4:
                body = unstuffed(data[start + 8 : end - 2])
                out.append(Status(number, body[0], body[1:]))
            at = end


def status_size(register: Register) -> int:
    """Bytes of one answer to a read, without stuffing."""
    return register.size + 11


def fast_size(count: int, register: Register) -> int:
    """Bytes of the answer of `count` servos to a fast sync read."""
    return 8 + count * (register.size + 4)


def find_fast(data: bytes, ids: Bytes, register: Register) -> tuple[Bytes, Bytes, bool]:
    """The answer to a fast sync read.

    Each servo adds error, id, data and the CRC of everything before to the same frame, in the order asked;
    nothing is stuffed.

    Parameters
    ----------
    data : bytes
        What was received.
    ids : uint8 [shape=(n,)]
        Who was asked.
    register : Register

    Returns
    -------
    uint8 [shape=(k, size)]
        Registers of the first k servos: those before the first that is silent or damaged.
    uint8 [shape=(k,)]
        Their errors.
    bool
        The rest is damaged, not merely missing.
    """
    count, size = len(ids), register.size
    head = HEADER + struct.pack("<BBHB", 0, BROADCAST, 1 + count * (size + 4), STATUS)
    start = data.find(head)
    if start < 0:
        return np.empty((0, size), np.uint8), np.empty(0, np.uint8), bool(data)
    whole = data[start : start + fast_size(count, register)]
    there = (len(whole) - 8) // (size + 4)
    rows = np.frombuffer(whole, np.uint8, there * (size + 4), 8).reshape(there, size + 4)
    good = 0
    if there == count and crc16(whole[:-2]) == whole[-2] | whole[-1] << 8:
        good = there
    else:
        crc = crc16(head)
        for row in rows:
            crc = crc16(row[:-2].tobytes(), crc)
            if crc != int(row[-2]) | int(row[-1]) << 8:
                break
            crc = crc16(row[-2:].tobytes(), crc)
            good += 1
    strange = np.flatnonzero(rows[:good, 1] != ids[:good])
    if len(strange):
        good = int(strange[0])
    return rows[:good, 2:-2], rows[:good, 0], good < there or (len(whole) - 8) % (size + 4) != 0


def hardware_errors(bits: int) -> list[str]:
    """Names of the errors in Hardware Error Status(70).

    >>> hardware_errors(0b100100)
    ['overheating', 'overload']
    """
    return [HARDWARE_ERRORS.get(k, f"bit {k}") for k in range(8) if bits >> k & 1]


def status_error(error: int) -> str:
    """What a status complains about, without the alert bit; empty if nothing."""
    number = error & ~ALERT
    return STATUS_ERRORS.get(number, f"error {number}") if number else ""


def model_name(number: int) -> str:
    """Name of a model, or its number."""
    return MODELS[number].name if number in MODELS else f"model {number}"
