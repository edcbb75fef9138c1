"""Maestros behind a pty, for the driver's tests alone: a script of bytes, no servos, no time.

Not the emulator: pulses jump, and what goes wrong is set by attributes.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import threading
import time
import tty
from dataclasses import dataclass, field


def long_division(message: bytes) -> int:
    """CRC-7 as the user's guide does it by hand: bits, low ones first, divided by 10001001."""
    bits = [byte >> i & 1 for byte in message for i in range(8)] + [0] * 7
    for i in range(len(bits) - 7):
        if bits[i]:
            for k, one in enumerate((1, 0, 0, 0, 1, 0, 0, 1)):
                bits[i + k] ^= one
    return sum(bit << i for i, bit in enumerate(bits[-7:]))


@dataclass
class Model:
    """One board."""

    device: int = 12
    channels: int = 24
    pulses: dict[int, int] = field(default_factory=dict)
    speeds: dict[int, int] = field(default_factory=dict)
    accelerations: dict[int, int] = field(default_factory=dict)
    errors: int = 0
    silent: bool = False
    deaf_to: set[int] = field(default_factory=set)  # commands that are lost on the way
    moving: bool = False
    script: bool = False
    highest: int = 16383  # of the channels' own range
    log: list[tuple[int, bytes]] = field(default_factory=list)

    def obey(self, command: int, data: bytes) -> bytes:
        if command in self.deaf_to:
            return b""
        self.log.append((command, data))
        if command in (0x84, 0x87, 0x89, 0x90) and data[0] >= self.channels:
            self.errors |= 16
            return b""
        if command == 0x84:
            self.pulses[data[0]] = min(data[1] + 128 * data[2], self.highest)
        elif command == 0x9F:
            for k in range(data[0]):
                value = data[2 + 2 * k] + 128 * data[3 + 2 * k]
                self.pulses[data[1] + k] = min(value, self.highest)
        elif command in (0x87, 0x89):
            where = self.speeds if command == 0x87 else self.accelerations
            where[data[0]] = data[1] + 128 * data[2]
        elif command == 0x90:
            return self.pulses.get(data[0], 0).to_bytes(2, "little")
        elif command == 0xA1:
            out, self.errors = self.errors.to_bytes(2, "little"), 0
            return out
        elif command == 0x93:
            return bytes([self.moving])
        elif command == 0xAE:
            return bytes([not self.script])
        else:
            self.errors |= 16
        return b""


class Line:
    """A pty with boards on it; a thread answers until `close`."""

    def __init__(self, *boards: Model, crc: bool = False) -> None:
        self.boards, self.crc = boards or (Model(),), crc
        self.prefix = b""  # goes before the next answer
        self.cut = 0  # so many bytes are missing from the next answer
        self.echo = False
        self.late = 0.0  # s, the next answer
        self.reply: bytes | None = None  # instead of every answer
        self.received = bytearray()
        self._frame = bytearray()
        self._open()

    def _open(self) -> None:
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        self.port = os.ttyname(self.slave)
        self._go = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def pull(self) -> None:
        """The cable is pulled: the port hangs up."""
        self._go = False
        self._thread.join(2)
        for fd in (self.slave, self.master):
            with contextlib.suppress(OSError):
                os.close(fd)

    close = pull

    def _serve(self) -> None:
        while self._go:
            try:
                if not select.select([self.master], [], [], 0.02)[0]:
                    continue
                data = os.read(self.master, 4096)
            except OSError:  # the cable was pulled
                return
            self.received += data
            if self.echo:
                os.write(self.master, data)
                continue
            for byte in data:
                answer = self._hear(byte)
                if answer:
                    answer = self.reply if self.reply is not None else answer
                    answer = self.prefix + answer[self.cut :]
                    late, self.prefix, self.cut, self.late = self.late, b"", 0, 0.0
                    time.sleep(late)
                    os.write(self.master, answer)

    def _hear(self, byte: int) -> bytes:
        if byte > 127:
            if self._frame:
                for board in self.boards:
                    board.errors |= 16
            self._frame = bytearray()
        elif not self._frame:
            return b""
        self._frame.append(byte)
        head = 3 if self._frame[0] == 0xAA else 1
        if len(self._frame) < head:
            return b""
        command = self._frame[head - 1] | 0x80
        data = self._frame[head:]
        size = {0x84: 3, 0x87: 3, 0x89: 3, 0x90: 1, 0x9F: 2 + 2 * data[0] if data else 2}.get(command, 0)
        if len(data) < size + self.crc:
            return b""
        whole, self._frame = bytes(self._frame), bytearray()
        mine = [b for b in self.boards if head == 1 or b.device == whole[1]]
        if self.crc and long_division(whole[:-1]) != whole[-1]:
            for board in mine:
                board.errors |= 8
            return b""
        return b"".join(b.obey(command, bytes(data[:size])) for b in mine if not b.silent)
