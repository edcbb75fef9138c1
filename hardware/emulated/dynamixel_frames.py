"""Dynamixel Protocol 2.0 as a servo hears and says it, written from the e-Manual.

Source: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0". Instruction: FF FF FD 00, id, length (2), instruction,
parameters, CRC-16 (2); in the body FF FF FD is followed by one more FD. Not the code of
`facetwin.hardware.dynamixel_codec`, on purpose: a mistake in either shows.
"""

from __future__ import annotations

from dataclasses import dataclass

#: s of silence within a frame after which a servo gives it up
GAP = 0.01
LONGEST = 1024


def crc16(data: bytes | bytearray, crc: int = 0) -> int:
    """CRC-16/BUYPASS: polynomial 0x8005, start 0, high bit first."""
    for byte in data:
        crc = ((crc << 8) & 0xFF00) ^ _ROWS[(crc >> 8) ^ byte]
    return crc


def _row(value: int) -> int:
    value <<= 8
    for _ in range(8):
        value = (value << 1) ^ (0x18005 if value & 0x8000 else 0)
    return value & 0xFFFF


_ROWS = [_row(k) for k in range(256)]


@dataclass
class Packet:
    """An instruction; `good`: its CRC holds."""

    id: int
    instruction: int
    parameters: bytes
    good: bool


class Ear:
    """Takes instructions out of a stream of bytes."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Wait for a header."""
        self._frame = bytearray()
        self._size = 0
        self._last = 0.0

    def hear(self, byte: int, time: float) -> Packet | None:
        """One byte that ended at a time (s); the packet that it completes."""
        if self._frame and time - self._last > GAP:
            self.forget()
        self._last = time
        f = self._frame
        f.append(byte)
        n = len(f)
        if n <= 4:
            if f != b"\xff\xff\xfd\x00"[:n]:
                # FF FF FF FD is a header, one byte late
                self._frame = bytearray(b"\xff\xff") if f == b"\xff\xff\xff" else bytearray(
                    b"\xff" if byte == 0xFF else b"")  # fmt: skip
            return None
        if n == 7:
            length = f[5] | f[6] << 8
            if not 3 <= length <= LONGEST:
                self.forget()
                return None
            self._size = 7 + length
        if n < 7 or n < self._size:
            return None
        good = crc16(f[:-2]) == f[-2] | f[-1] << 8
        body = bytes(f[7:-2])
        out = Packet(f[4], body[0], _plain(body)[1:], good)
        self.forget()
        self._last = time
        return out


def _plain(body: bytes) -> bytes:
    out = bytearray()
    k = 0
    while k < len(body):
        out.append(body[k])
        if out[-3:] == b"\xff\xff\xfd" and k + 1 < len(body) and body[k + 1] == 0xFD:
            k += 1
        k += 1
    return bytes(out)


def status(number: int, error: int, data: bytes = b"") -> bytes:
    """A status packet."""
    body = bytearray()
    for byte in (0x55, error, *data):
        body.append(byte)
        if body[-3:] == b"\xff\xff\xfd":
            body.append(0xFD)
    head = bytes([0xFF, 0xFF, 0xFD, 0, number]) + (len(body) + 2).to_bytes(2, "little") + bytes(body)
    return head + crc16(head).to_bytes(2, "little")


def fast_status(parts: list[tuple[int, int, bytes]], count: int) -> bytes:
    """The one packet in which `count` servos answer a fast sync read, as far as `parts` goes.

    Parts: (id, error, data) of those that answer in turn; each appends the CRC of all that came before it.
    """
    each = len(parts[0][2]) + 4
    out = bytearray(bytes([0xFF, 0xFF, 0xFD, 0, 0xFE]) + (1 + count * each).to_bytes(2, "little") + b"\x55")
    crc = crc16(out)
    for number, error, data in parts:
        part = bytes([error, number]) + data
        crc = crc16(part, crc)
        out += part + crc.to_bytes(2, "little")
        crc = crc16(out[-2:], crc)
    return bytes(out)
