"""Lines of servos for these tests alone: they answer at once, and do what the script says.

Frames are taken apart and put together here by other means than in the product: the sdk's CRC, plain loops.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
import tty
from dataclasses import dataclass, field

import numpy as np
from dynamixel_sdk import Protocol2PacketHandler

_crc = Protocol2PacketHandler().updateCRC


@dataclass
class Servo:
    """A memory, and a shaft that turns to the goal at a constant speed while the motor is on."""

    id: int
    memory: bytearray
    goal: int  # address
    place: int
    torque: int
    speed: float = 6000.0  # ticks/s
    silent: bool = False
    deaf: bool = False  # hears no sync write
    log: list[tuple[int, bytes]] = field(default_factory=list)  # what was written where
    since: float = field(default_factory=time.monotonic)

    def value(self, address: int, size: int) -> int:
        return int.from_bytes(self.memory[address : address + size], "little")

    def put(self, address: int, size: int, value: int) -> None:
        self.memory[address : address + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def turn(self, size: int) -> None:
        now = time.monotonic()
        way = self.speed * (now - self.since)
        self.since = now
        if self.memory[self.torque]:
            at, goal = self.value(self.place, size), self.value(self.goal, size)
            self.put(self.place, size, int(at + np.clip(goal - at, -way, way)))


class Line:
    """Stands for a `Wire`, and the servos at its other end.

    Attributes
    ----------
    servos : dict
        id -> list of Servo (two of them: same id).
    true_baud : int
        Silence at any other.
    echo : bool
        What is sent comes back first.
    spoil : callable or None
        bytes -> bytes, done to each answer.
    """

    size = 4

    def __init__(self, servos, baud=1_000_000, true_baud=1_000_000, port="scripted"):
        self.servos = {}
        for s in servos:
            self.servos.setdefault(s.id, []).append(s)
        self.port, self.baud, self.true_baud, self.timeout = port, baud, true_baud, 0.01
        self.sent = self.received = 0
        self.waiting = b""
        self.is_open = False
        self.nap = 1e-3  # s, how long a read waits for what does not come
        self.echo, self.spoil, self.fails = False, None, None
        self.frames: list[bytes] = []

    def open(self):
        self.is_open = True

    def close(self):
        self.is_open = False
        self.waiting = b""

    def discard(self):
        out, self.waiting = self.waiting, b""
        return out

    def read(self, size, timeout=None):
        if self.fails:
            raise self.fails
        out, self.waiting = self.waiting[: max(size, 0)], self.waiting[max(size, 0) :]
        if len(out) < size:
            time.sleep(min(self.timeout if timeout is None else max(timeout, 0), self.nap))
        self.received += len(out)
        return out

    def write(self, data):
        if self.fails:
            raise self.fails
        self.sent += len(data)
        self.frames.append(bytes(data))
        if self.echo:
            self.waiting += data
        if self.baud != self.true_baud:
            return
        for one in self.split(bytes(data)):
            for s in self.all():
                s.turn(self.size)
            answer = self.answer(one)
            if self.spoil is not None and answer:
                answer = self.spoil(answer)
            self.waiting += answer

    def all(self):
        return [s for many in self.servos.values() for s in many]

    def one(self, number):
        return self.servos[number][0]

    def who(self, number):
        return [s for s in self.servos.get(number, []) if not s.silent]


class DynamixelLine(Line):
    """X servos: ping, read, write, reboot, sync write, sync read, fast sync read."""

    def __init__(self, servos, *, knows_fast=True, **more):
        super().__init__(servos, **more)
        self.knows_fast = knows_fast

    @staticmethod
    def frame_end(data):
        """Bytes of the first frame, 0 while it is not whole."""
        if len(data) < 7:
            return 0
        end = 7 + struct.unpack_from("<H", data, 5)[0]
        return end if len(data) >= end else 0

    def split(self, data):
        while len(data) >= 10:
            assert data[:4] == b"\xff\xff\xfd\x00", data.hex(" ")
            (length,) = struct.unpack_from("<H", data, 5)
            one, data = data[: 7 + length], data[7 + length :]
            assert _crc(0, one, len(one) - 2) == struct.unpack("<H", one[-2:])[0], one.hex(" ")
            yield one
        assert not data

    @staticmethod
    def status(number, error, data):
        body = (b"\x55" + bytes([error]) + data).replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
        out = b"\xff\xff\xfd\x00" + bytes([number]) + struct.pack("<H", len(body) + 2) + body
        return out + struct.pack("<H", _crc(0, out, len(out)))

    def alert(self, s):
        return 0x80 if s.memory[70] else 0

    def answer(self, one):
        number, what = one[4], one[7]
        p = one[8:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
        targets = self.who(number) if number != 0xFE else [s for s in self.all() if not s.silent]
        if what == 1:
            return b"".join(
                self.status(s.id, self.alert(s), bytes([*s.memory[0:2], s.memory[6]])) for s in targets
            )
        if what == 2:
            a, n = struct.unpack("<HH", p)
            return b"".join(self.status(s.id, self.alert(s), bytes(s.memory[a : a + n])) for s in targets)
        if what == 3:
            (a,) = struct.unpack_from("<H", p)
            return b"".join(self.status(s.id, self.alert(s) | self.store(s, a, p[2:]), b"") for s in targets)
        if what == 8:
            for s in targets:
                s.memory[64] = s.memory[70] = s.memory[98] = 0
            return b"".join(self.status(s.id, 0, b"") for s in targets)
        if what == 0x83:
            a, n = struct.unpack_from("<HH", p)
            for k in range(4, len(p), n + 1):
                for s in self.who(p[k]):
                    if not s.deaf:
                        self.store(s, a, p[k + 1 : k + 1 + n])
            return b""
        if what == 0x82:
            a, n = struct.unpack_from("<HH", p)
            return b"".join(
                self.status(s.id, self.alert(s), bytes(s.memory[a : a + n]))
                for k in p[4:]
                for s in self.who(k)
            )
        if what == 0x8A and self.knows_fast:
            a, n = struct.unpack_from("<HH", p)
            out = b"\xff\xff\xfd\x00\xfe" + struct.pack("<H", 1 + (n + 4) * (len(p) - 4)) + b"\x55"
            for k in p[4:]:
                if not self.who(k):
                    break  # the chain ends at who is silent
                s = self.who(k)[0]
                out += bytes([self.alert(s), k]) + bytes(s.memory[a : a + n])
                out += struct.pack("<H", _crc(0, out, len(out)))
            return out if len(out) > 8 else b""
        return b""

    def store(self, s, address, data):
        """Error number."""
        if address < 64 and s.memory[64]:
            return 7
        if address == 116:
            goal = int.from_bytes(data, "little", signed=True)
            if s.memory[98] == 255:
                return 4
            low, high = s.value(52, 4), s.value(48, 4)
            if s.memory[11] == 3 and not low <= goal <= high:
                return 6
        if address == 112 and int.from_bytes(data, "little") > s.value(44, 4):
            return 6
        if address == 98 and s.memory[98] == 255 and data != b"\0":
            return 4
        s.memory[address : address + len(data)] = data
        s.log.append((address, bytes(data)))
        return 0


def dynamixel(number, place=2048, model=1200, firmware=50, delay=250):
    s = Servo(number, bytearray(256), goal=116, place=132, torque=64)
    s.put(0, 2, model)
    s.memory[6], s.memory[7], s.memory[9], s.memory[11] = firmware, number, delay, 3
    s.put(44, 4, 445), s.put(48, 4, 4095), s.put(52, 4, 0)
    s.memory[68] = 2
    s.put(116, 4, 100)  # a goal that must not be gone to
    s.put(132, 4, place), s.put(126, 2, 147), s.put(144, 2, 51)
    s.memory[146] = 31
    return s


class FeetechLine(Line):
    """STS servos: ping, read, write, sync write, sync read."""

    size = 2

    def __init__(self, servos, *, knows_sync=True, **more):
        super().__init__(servos, **more)
        self.knows_sync = knows_sync

    @staticmethod
    def frame_end(data):
        """Bytes of the first frame, 0 while it is not whole."""
        return 4 + data[3] if len(data) >= 4 and len(data) >= 4 + data[3] else 0

    def split(self, data):
        while len(data) >= 6:
            assert data[:2] == b"\xff\xff", data.hex(" ")
            one, data = data[: 4 + data[3]], data[4 + data[3] :]
            assert (sum(one[2:]) & 0xFF) == 0xFF, one.hex(" ")
            yield one
        assert not data

    @staticmethod
    def status(s, data):
        body = [s.id, len(data) + 2, s.memory[65], *data]
        return bytes([255, 255, *body, 255 - sum(body) % 256])

    def answer(self, one):
        number, what, p = one[2], one[4], one[5:-1]
        targets = self.who(number) if number != 0xFE else [s for s in self.all() if not s.silent]
        if what == 1:
            return b"".join(self.status(s, b"") for s in targets)
        if what == 2:
            return b"".join(self.status(s, s.memory[p[0] : p[0] + p[1]]) for s in targets)
        if what == 3:
            for s in targets:
                self.store(s, p[0], p[1:])
            return b"".join(self.status(s, b"") for s in targets if s.memory[8]) if number != 0xFE else b""
        if what == 0x83:
            for k in range(2, len(p), p[1] + 1):
                for s in self.who(p[k]):
                    if not s.deaf:
                        self.store(s, p[0], p[k + 1 : k + 1 + p[1]])
        if what == 0x82 and self.knows_sync:
            return b"".join(self.status(s, s.memory[p[0] : p[0] + p[1]]) for k in p[2:] for s in self.who(k))
        return b""

    def store(self, s, address, data):
        if address < 40 and s.memory[55]:
            return  # locked
        s.memory[address : address + len(data)] = data
        s.log.append((address, bytes(data)))


def feetech(number, place=2048, model=777, delay=250):
    s = Servo(number, bytearray(128), goal=42, place=56, torque=40)
    s.memory[0], s.memory[1], s.memory[5], s.memory[7], s.memory[8] = 3, 10, number, delay, 1
    s.put(3, 2, model), s.put(9, 2, 0), s.put(11, 2, 4095)
    s.memory[18], s.memory[55] = 12, 1
    s.put(42, 2, 100), s.put(56, 2, place), s.put(60, 2, 0x400 | 123)
    s.memory[62], s.memory[63] = 74, 33
    return s


def on(rig, line):
    """A rig on a scripted line."""
    rig.wires[0] = line
    rig.bus = rig._make_bus()
    return rig


class OnPty:
    """The servos of a scripted line behind a pty, for a real `Wire`; `path` is its other end."""

    def __init__(self, line):
        self.line = line
        self._far, self._near = os.openpty()
        tty.setraw(self._far)
        tty.setraw(self._near)
        self.path = os.ttyname(self._near)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        data = b""
        with contextlib.suppress(OSError):
            while more := os.read(self._far, 4096):
                data += more
                while (end := self.line.frame_end(data)) > 0:
                    self.line.write(data[:end])
                    data = data[end:]
                os.write(self._far, self.line.discard())

    def close(self):
        for fd in (self._far, self._near):
            with contextlib.suppress(OSError):
                os.close(fd)
