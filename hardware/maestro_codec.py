"""Bytes of the Pololu Maestro: frames to it, and what its answers mean. Pure functions, no port.

Source: Pololu Maestro Servo Controller User's Guide, sections 4.b (errors) and 5.c to 5.e (protocol, CRC,
servo commands). A command is a byte of 0x80 or more, then data bytes below 0x80; numbers of 14 bits go low
seven bits first. With a device number (Pololu protocol) it starts with 0xAA and the number, and the command
byte loses its top bit. Answers have no frame at all: their length and order is all there is.
"""

from __future__ import annotations

from collections.abc import Sequence

from facetwin.hardware.rig import RigFault
from facetwin.twin.errors import UsageError

SET_TARGET = 0x84  # channel, target (2)
SET_SPEED = 0x87  # channel, speed (2)
SET_ACCELERATION = 0x89  # channel, acceleration (2)
GET_POSITION = 0x90  # channel -> 2
GET_MOVING_STATE = 0x93  # -> 1; on a Micro Maestro it may say 0 too early
SET_MULTIPLE_TARGETS = 0x9F  # number, first channel, targets (2 each); Mini Maestros only
GET_ERRORS = 0xA1  # -> 2, and clears them
GO_HOME = 0xA2
GET_SCRIPT_STATUS = 0xAE  # -> 1; 0: a script runs
POLOLU = 0xAA  # then device number, command without its top bit; also what a board finds the baud rate by

DEVICE = 12  #: as Maestros leave the factory
MICRO = 6  #: channels of the Micro Maestro, which has no Set Multiple Targets
SIZES = (6, 12, 18, 24)  #: channels of the boards there are
MOST = 0x3FFF  #: of a number of 14 bits
LONGEST_PULSE = 4095 * 4  #: 0.25 us; no position is beyond it

#: bit -> (what it says, what to do); bits 0 to 4 are about bytes that were lost, 6 to 8 about the user script
ERRORS = {
    0: ("serial signal error", "check baud rate, level and ground"),
    1: ("serial overrun error", "lower the baud rate"),
    2: ("serial buffer full", "lower the baud rate, or write less often"),
    3: ("serial CRC error", "check the cable; crc must be on or off at both ends"),
    4: ("serial protocol error", "check crc, the cable, and that nobody else writes to this line"),
    5: ("serial timeout", "it was left without commands; raise or switch off its timeout"),
    6: ("script stack error", "stop or repair its script"),
    7: ("script call stack error", "stop or repair its script"),
    8: ("script program counter error", "stop or repair its script"),
    9: (
        "the servo chip does not answer",
        "check I2C wires, power and address of the PCA9685",
    ),  # no Maestro's
}
LINE_ERRORS = 0b1_1111
KNOWN_ERRORS = 0b1_1111_1111


def crc7(data: bytes) -> int:
    """The guide's CRC-7 (section 5.d): polynomial 0x91, low bit first.

    >>> hex(crc7(bytes([0x83, 0x01])))
    '0x17'
    """
    crc = 0
    for byte in data:
        crc = _TABLE[crc ^ byte]
    return crc


def _row(byte: int) -> int:
    for _ in range(8):
        byte = (byte ^ 0x91) >> 1 if byte & 1 else byte >> 1
    return byte


_TABLE = tuple(_row(byte) for byte in range(256))


def frame(command: int, data: bytes = b"", *, device: int | None = None, crc: bool = False) -> bytes:
    """A command with its data bytes (each below 0x80): compact protocol, or Pololu protocol to a `device`.

    >>> frame(SET_TARGET, bytes([2, 0x70, 0x2E])).hex(" ")
    '84 02 70 2e'
    >>> frame(GET_ERRORS, device=12, crc=True).hex(" ")
    'aa 0c 21 78'
    """
    head = bytes([command]) if device is None else bytes([POLOLU, device, command & 0x7F])
    body = head + data
    return body + bytes([crc7(body)]) if crc else body


def two(number: int) -> bytes:
    """A number of 0 to 16383 as two data bytes.

    >>> two(6000).hex(" ")
    '70 2e'
    """
    if not 0 <= number <= MOST:
        raise UsageError("too big for two data bytes", where="Maestro", found=number, expected=f"0 to {MOST}")
    return bytes([number & 0x7F, number >> 7])


def set_target(channel: int, target: int, *, device: int | None = None, crc: bool = False) -> bytes:
    """Pulses of `target` x 0.25 us on a channel; 0: no pulses.

    >>> set_target(2, 6000).hex(" ")
    '84 02 70 2e'
    """
    return frame(SET_TARGET, bytes([channel]) + two(target), device=device, crc=crc)


def set_targets(first: int, targets: Sequence[int], *, device: int | None = None, crc: bool = False) -> bytes:
    """Targets (0.25 us) of channels in a row, in one command. Not for the Micro Maestro.

    >>> set_targets(3, [0, 6000]).hex(" ")
    '9f 02 03 00 00 70 2e'
    """
    data = bytes([len(targets), first]) + b"".join(two(t) for t in targets)
    return frame(SET_MULTIPLE_TARGETS, data, device=device, crc=crc)


def set_speed(channel: int, speed: int, *, device: int | None = None, crc: bool = False) -> bytes:
    """Limit of speed, 0.25 us per 10 ms; 0: none.

    >>> set_speed(5, 140).hex(" ")
    '87 05 0c 01'
    """
    return frame(SET_SPEED, bytes([channel]) + two(speed), device=device, crc=crc)


def set_acceleration(channel: int, value: int, *, device: int | None = None, crc: bool = False) -> bytes:
    """Limit of acceleration, 0.25 us per 10 ms per 80 ms, 0 to 255; 0: none."""
    if not 0 <= value <= 255:
        raise UsageError("bad acceleration", where="Maestro", found=value, expected="0 to 255")
    return frame(SET_ACCELERATION, bytes([channel]) + two(value), device=device, crc=crc)


def get_position(channel: int, *, device: int | None = None, crc: bool = False) -> bytes:
    """Ask for the pulse of a channel; answered by 2 bytes (`number`)."""
    return frame(GET_POSITION, bytes([channel]), device=device, crc=crc)


def get_errors(*, device: int | None = None, crc: bool = False) -> bytes:
    """Ask for the error register, which this clears; answered by 2 bytes (`number`)."""
    return frame(GET_ERRORS, device=device, crc=crc)


def get_moving_state(*, device: int | None = None, crc: bool = False) -> bytes:
    """Ask whether pulses are on their way to their targets; answered by 1 byte."""
    return frame(GET_MOVING_STATE, device=device, crc=crc)


def get_script_status(*, device: int | None = None, crc: bool = False) -> bytes:
    """Ask whether the board runs a script of its own; answered by 1 byte, 0 if it does."""
    return frame(GET_SCRIPT_STATUS, device=device, crc=crc)


def number(answer: bytes) -> int:
    """Two bytes of an answer, low one first.

    >>> number(bytes([0x70, 0x17]))
    6000
    """
    return answer[0] | answer[1] << 8


def position(answer: bytes, where: str) -> int:
    """A pulse (0.25 us) out of an answer; raises `RigFault` if no Maestro can have said so."""
    pulse = number(answer)
    if pulse > LONGEST_PULSE:
        found, expected = f"a pulse of {pulse / 4:g} us", f"up to {LONGEST_PULSE // 4} us"
        raise RigFault(
            "garbled answer", where=where, found=found, expected=expected, hint="check baud rate and cable"
        )
    return pulse


def errors(answer: bytes, where: str, known: int = KNOWN_ERRORS) -> int:
    """The error register out of an answer; raises `RigFault` if it has bits that are not `known`."""
    register = number(answer)
    if register & ~known:
        found, expected = f"error register {register:#06x}", f"at most {known:#06x}"
        raise RigFault(
            "garbled answer", where=where, found=found, expected=expected, hint="check baud rate and cable"
        )
    return register


def named(register: int) -> tuple[str, ...]:
    """What an error register says, with what to do.

    >>> named(0b1000)
    ('serial CRC error (check the cable; crc must be on or off at both ends)',)
    """
    return tuple(f"{what} ({todo})" for bit, (what, todo) in ERRORS.items() if register >> bit & 1)


def runs(channels: Sequence[int], *, multiple: bool = True) -> list[tuple[int, int]]:
    """Rising channels as runs (place of the first, length) that one command each can set.

    >>> runs([0, 1, 2, 3, 6, 7, 11])
    [(0, 4), (4, 2), (6, 1)]
    """
    out: list[tuple[int, int]] = []
    for i, channel in enumerate(channels):
        if multiple and out and channel == channels[i - 1] + 1:
            out[-1] = (out[-1][0], out[-1][1] + 1)
        else:
            out.append((i, 1))
    return out
