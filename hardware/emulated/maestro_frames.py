"""Maestro commands as a board hears them, written from the user's guide.

Source: Pololu Maestro Servo Controller User's Guide, sections 5.c (protocols), 5.d (CRC), 5.e (commands).
"""

from __future__ import annotations

from dataclasses import dataclass

#: bits of the error register
OVERRUN, CRC, PROTOCOL = 1 << 1, 1 << 3, 1 << 4
SET_TARGET, SPEED, ACCELERATION, PWM, POSITION, MOVING = 0x84, 0x87, 0x89, 0x8A, 0x90, 0x93
MULTIPLE, ERRORS, HOME, STOP, RESTART, RESTART_WITH, SCRIPT = 0x9F, 0xA1, 0xA2, 0xA4, 0xA7, 0xA8, 0xAE
MINI_SSC, POLOLU = 0xFF, 0xAA
#: command -> bytes of data; MULTIPLE has 2 and then two for each channel
LENGTH = {SET_TARGET: 3, SPEED: 3, ACCELERATION: 3, PWM: 4, POSITION: 1, MOVING: 0, MULTIPLE: 2, ERRORS: 0,
          HOME: 0, STOP: 0, RESTART: 1, RESTART_WITH: 3, SCRIPT: 0}  # fmt: skip


def crc7(data: bytes | bytearray) -> int:
    """Pololu's CRC-7: polynomial 0x91, low bit first (user's guide, 5.d)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0x48 if crc & 1 else crc >> 1
    return crc


@dataclass
class Order:
    """One command from the line; device -1: for all boards. `error`: why it cannot be obeyed, or 0."""

    device: int
    command: int
    data: bytes
    error: int = 0


class Ear:
    """Takes commands out of a stream of bytes; `hear` returns those that a byte completes."""

    def __init__(self, crc: bool, lengths: dict[int, int] | None = None) -> None:
        self.crc, self.lengths = crc, LENGTH if lengths is None else lengths
        self.forget()

    def forget(self) -> None:
        """Wait for the start of a command."""
        self._frame = bytearray()
        self._need = 0
        self._head = 0

    def hear(self, byte: int) -> list[Order]:
        """One byte; the orders that it completes."""
        out: list[Order] = []
        if self._frame and self._frame[0] == MINI_SSC:
            self._frame.append(byte)
            if len(self._frame) == 3:
                out.append(Order(-1, MINI_SSC, bytes(self._frame[1:])))
                self.forget()
            return out
        if byte & 0x80:
            if self._frame:  # the last one never ended
                out.append(Order(self._device(), 0, b"", PROTOCOL))
            self.forget()
            self._frame.append(byte)
            if byte not in (POLOLU, MINI_SSC):
                self._begin(byte, 1)
        elif not self._frame:
            return out  # data without a command
        else:
            self._frame.append(byte)
            if self._frame[0] == POLOLU and len(self._frame) == 3:
                self._begin(byte | 0x80, 3)
        if not self._head:
            if self._need < 0:
                out.append(Order(self._device(), 0, b"", PROTOCOL))
                self.forget()
            return out
        if self._command() == MULTIPLE and len(self._frame) == self._head + 2:
            self._need = 2 + 2 * self._frame[self._head]
        if len(self._frame) >= self._head + self._need + self.crc:
            out.append(self._order())
            self.forget()
        return out

    def _begin(self, command: int, head: int) -> None:
        self._need = self.lengths.get(command, -1)
        self._head = head if self._need >= 0 else 0

    def _device(self) -> int:
        return self._frame[1] if self._frame[0] == POLOLU and len(self._frame) > 1 else -1

    def _command(self) -> int:
        return self._frame[self._head - 1] | 0x80

    def _order(self) -> Order:
        body = self._frame[: self._head + self._need]
        error = CRC if self.crc and crc7(body) != self._frame[-1] else 0
        return Order(self._device(), self._command(), bytes(body[self._head :]), error)
