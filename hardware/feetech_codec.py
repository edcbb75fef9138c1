"""Feetech's bus protocol in bytes: memory table of the STS and SMS series, frames out, answers in.

Pure functions. Sources: Feetech, "SCS communication protocol" and "STS servo, memory table". The frames are
those of Dynamixel Protocol 1.0; numbers are little-endian, and signs are a bit of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.servo_bus import Bytes, Register, Status

# EEPROM: written only while LOCK is 0
FIRMWARE = Register(0, 2)
BIG_ENDIAN = Register(2, 1)
MODEL = Register(3, 2)
ID = Register(5, 1)
RETURN_DELAY = Register(7, 1)  # 2 us
STATUS_RETURN_LEVEL = Register(8, 1)  # 0: only pings and reads are answered
MIN_POSITION = Register(9, 2)  # steps; both limits 0: it counts turns
MAX_POSITION = Register(11, 2)
PHASE = Register(18, 1)
MODE = Register(33, 1)
# RAM
TORQUE_ENABLE = Register(40, 1)
ACCELERATION = Register(41, 1)  # 100 steps/s2, 0 is none
GOAL_POSITION = Register(42, 2)  # steps, bit 15 is the sign
GOAL_TIME = Register(44, 2)  # ms
GOAL_SPEED = Register(46, 2)  # see `SPEED_FINE`
LOCK = Register(55, 1)  # 48 in the SCS series, which is not driven here
PRESENT_POSITION = Register(56, 2)
PRESENT_SPEED = Register(58, 2)
PRESENT_LOAD = Register(60, 2)  # 0.1 %, bit 10 is the sign
PRESENT_VOLTAGE = Register(62, 1)  # 0.1 V
PRESENT_TEMPERATURE = Register(63, 1)  # degrees C
STATUS = Register(65, 1)
MOVING = Register(66, 1)
PRESENT_CURRENT = Register(69, 2)  # 6.5 mA

#: what one cycle reads of each servo: addresses 56 to 63; what is at 65 is in each answer anyway
STATE = Register(56, 8)
STATE_TYPE = np.dtype(
    [("position", "<u2"), ("speed", "<u2"), ("load", "<u2"), ("voltage", "u1"), ("temperature", "u1")]
)
#: identity and limits, addresses 0 to 33
IDENTITY = Register(0, 34)
#: what is written before the motor is switched on: acceleration, goal, time, speed
MOTION = Register(41, 7)
MOTION_TYPE = np.dtype([("acceleration", "u1"), ("goal", "<u2"), ("time", "<u2"), ("speed", "<u2")])

PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x04, 0x05, 0x82, 0x83
BROADCAST = 0xFE
HEADER = b"\xff\xff"
LONGEST = 250  #: bytes of a frame that servos take
SIGN, LOAD_SIGN = 15, 10
SPEED_FINE = 0x04  # bit of the phase: speeds count in steps/s, otherwise in 50 of them
POSITION_MODE = 0
MODES = {0: "position", 1: "speed", 2: "PWM", 3: "steps"}

#: error byte of a status, and STATUS(65)
ERRORS = {0: "input voltage", 1: "encoder", 2: "overheating", 3: "overcurrent", 5: "overload"}

#: first byte of the model -> series; only the first two have this memory table
SERIES = {9: "STS", 8: "SMS", 5: "SCS", 10: "HLS"}
DRIVEN = (9, 8)
MODELS = {777: "STS3215", 2825: "STS3250", 2569: "STS3095", 11272: "SM8512BL", 1284: "SCS0009"}

#: rates of the STS and SMS series, the likely ones first
BAUDS = (1_000_000, 115_200, 500_000, 250_000, 128_000, 76_800, 57_600, 38_400)


def checksum(body: bytes) -> int:
    """Complement of the sum of all but the header.

    >>> hex(checksum(bytes([1, 2, 1])))
    '0xfb'
    """
    return ~sum(body) & 0xFF


def frame(number: int, instruction: int, parameters: bytes = b"") -> bytes:
    """An instruction frame to servo `number` (0 to 253, or `BROADCAST`).

    >>> frame(1, PING).hex(" ")
    'ff ff 01 02 01 fb'
    """
    body = bytes([number, len(parameters) + 2, instruction]) + parameters
    return HEADER + body + bytes([checksum(body)])


def sync_read(ids: Sequence[int], register: Register) -> bytes:
    """Ask many servos for the same registers."""
    return frame(BROADCAST, SYNC_READ, bytes([*register, *ids]))


def sync_write(ids: Bytes, register: Register, rows: Bytes) -> bytes:
    """Write `rows` uint8 [shape=(n, size)] to the same registers of servos `ids` uint8 [shape=(n,)].

    As many frames as the longest that servos take makes necessary.
    """
    most = (LONGEST - 8) // (register.size + 1)
    each = np.concatenate([ids[:, None], rows], axis=1)
    parts = [each[k : k + most].tobytes() for k in range(0, len(each), most)]
    return b"".join(frame(BROADCAST, SYNC_WRITE, bytes(register) + part) for part in parts)


def rows_of(values: NDArray[np.integer], size: int) -> Bytes:
    """Whole numbers [shape=(n,)] as little-endian bytes, uint8 [shape=(n, size)]."""
    kind = {1: "u1", 2: "<u2"}[size]
    return np.asarray(values).astype(kind).view(np.uint8).reshape(-1, size)


def find_status(data: bytes, final: bool = False) -> tuple[list[Status], int, int]:
    """Whole frames in what was received; an echo of our own looks like one, its instruction as the error.

    Parameters
    ----------
    data : bytes
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
            keep = len(data) if final else max(at, len(data) - 1)
            return out, keep, damage + keep - at
        damage += start - at
        at = start
        if len(data) < start + 4:
            if final:
                return out, len(data), damage + len(data) - start
            return out, start, damage
        number, length = data[start + 2], data[start + 3]
        end = start + 4 + length
        if number > BROADCAST or length < 2:
            at, damage = start + 1, damage + 1
        elif end > len(data):
            if not final:
                return out, start, damage
            at, damage = start + 1, damage + 1
        elif checksum(data[start + 2 : end - 1]) != data[end - 1]:
            at, damage = start + 1, damage + 1
        else:
            out.append(Status(number, data[start + 4], data[start + 5 : end - 1]))
            at = end


def status_size(register: Register) -> int:
    """Bytes of one answer to a read."""
    return register.size + 6


def find_rows(data: bytes, ids: Bytes, register: Register) -> tuple[Bytes, Bytes] | None:
    """Answers to a sync read when nothing but all of them came, in order: registers and errors."""
    size = status_size(register)
    if len(data) != size * len(ids):
        return None
    rows = np.frombuffer(data, np.uint8).reshape(len(ids), size)
    sums = ~rows[:, 2:-1].sum(axis=1, dtype=np.uint8)
    good = (rows[:, 0] == 0xFF) & (rows[:, 1] == 0xFF) & (rows[:, 2] == ids)
    good &= (rows[:, 3] == register.size + 2) & (rows[:, -1] == sums)
    return (rows[:, 5:-1], rows[:, 4]) if good.all() else None


def signed(values: NDArray[np.integer], bit: int = SIGN) -> NDArray[np.int64]:
    """Sign and magnitude to whole numbers.

    >>> signed(np.array([5, 0x8005])).tolist()
    [5, -5]
    """
    v = np.asarray(values, dtype=np.int64)
    magnitude = v & ((1 << bit) - 1)
    return np.where(v >> bit & 1, -magnitude, magnitude)


def magnitude(values: NDArray[np.integer], bit: int = SIGN) -> NDArray[np.int64]:
    """The inverse of `signed`; values beyond 2^bit - 1 are clipped."""
    v = np.asarray(values, dtype=np.int64)
    return np.minimum(np.abs(v), (1 << bit) - 1) | np.where(v < 0, 1 << bit, 0)


def error_names(bits: int) -> list[str]:
    """What an error byte says.

    >>> error_names(0b100001)
    ['input voltage', 'overload']
    """
    return [ERRORS.get(k, f"bit {k}") for k in range(8) if bits >> k & 1]


def model_name(number: int) -> str:
    """Name of a model, or of its series and number."""
    if number in MODELS:
        return MODELS[number]
    return f"{SERIES.get(number & 0xFF, 'unknown')} model {number}"
