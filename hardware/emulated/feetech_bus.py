"""Feetech STS servos on one half-duplex line, as `Bus`, written from the maker's manuals.

Source: Feetech "SCS/SMS/STS communication protocol manual" and "STS3215 memory table". Instruction: FF FF,
id, length, instruction, parameters, checksum (the complement of the sum); numbers low byte first; signs in
a bit of their own (15, of loads 10). Not here: wheel and step mode, PWM mode, offsets, factory reset.
"""

from __future__ import annotations

from collections.abc import Callable

from facetwin.hardware.emulated.bus import Bus, Horns, Log
from facetwin.hardware.emulated.faults import Faults
from facetwin.hardware.emulated.feetech_servo import GOAL, ID, OVERLOAD, FeetechServo, unsigned
from facetwin.hardware.emulated.servos import Servos

PING, READ, WRITE, REG_WRITE, ACTION, REBOOT, SYNC_READ, SYNC_WRITE = 1, 2, 3, 4, 5, 8, 0x82, 0x83
BROADCAST = 0xFE
#: s between two looks at heat and load; s of silence within a frame after which servos give it up
PERIOD, GAP = 0.01, 0.01


def checksum(body: bytes | bytearray) -> int:
    """Complement of the sum from the id on."""
    return ~sum(body) & 0xFF


class Ear:
    """Takes instructions out of a stream: (id, instruction, parameters, good)."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Wait for a header."""
        self._frame = bytearray()
        self._last = 0.0

    def hear(self, byte: int, time: float) -> tuple[int, int, bytes, bool] | None:
        """One byte that ended at a time (s); the instruction that it completes."""
        if self._frame and time - self._last > GAP:
            self.forget()
        self._last = time
        f = self._frame
        f.append(byte)
        n = len(f)
        if n <= 2:
            if byte != 0xFF:
                f.clear()
        elif n == 3 and byte == 0xFF:
            f.pop()  # FF FF FF: a header, one byte late
        elif n == 4 and not 2 <= byte <= 250:
            f.clear()
        elif n >= 5 and n == 4 + f[3]:
            out = (f[2], f[4], bytes(f[5:-1]), checksum(f[2:-1]) == f[-1])
            self._frame = bytearray()
            return out
        return None


class FeetechBus(Bus):
    """All servos of a face; parameters as those of `DynamixelBus`."""

    supply, half_duplex, feedback = 7.4, True, True

    def __init__(
        self,
        servos: Servos,
        horns: Horns,
        log: Log,
        faults: Faults,
        say: Callable[[bytes, float], float],
        *,
        model: int = 777,
        firmware: int = 3,
        return_delay: int = 0,
        missing: list[int] = (),  # type: ignore[assignment]
        twice: list[int] = (),  # type: ignore[assignment]
    ) -> None:
        super().__init__(servos, horns, log, faults, say)
        self.twice = set(twice)
        self.servo: dict[int, FeetechServo] = {}
        for motor, number in enumerate(horns.channel):
            if motor not in missing:
                one = FeetechServo(servos, horns, motor, number, model, firmware, return_delay)
                one.on_goal = self._goal
                self.servo[number] = one
        self._ear, self._tap = Ear(), Ear()
        self._done: tuple[list[int], list[int]] = ([], [])
        self._waiting: dict[int, tuple[int, bytes]] = {}
        self._looked = servos.time

    def tap(self, byte: int, time: float) -> None:
        """See `Bus.tap`."""
        heard = self._tap.hear(byte, time)
        if heard is None or not heard[3]:
            return
        asked = [
            (self.servo[k].motor, unsigned(int.from_bytes(d[GOAL - a : GOAL - a + 2], "little"), 15))
            for k, a, d in _writes(*heard[:3])
            if k in self.servo and a <= GOAL and a + len(d) >= GOAL + 2
        ]
        if asked:
            self.log.ask(time, [m for m, _ in asked], [g for _, g in asked])

    def hear(self, byte: int, time: float) -> None:
        """See `Bus.hear`."""
        if self.down:
            return
        heard = self._ear.hear(byte, time)
        if heard is None:
            return
        self.run(time)
        self.frames += 1
        number, instruction, p, good = heard
        if not good:
            self.bad += 1
            return
        self._done = ([], [])
        if instruction == SYNC_READ and len(p) > 2:
            self._many(p, time)
        elif instruction == SYNC_WRITE:
            for k, address, data in _writes(number, instruction, p):
                if k in self.servo and time >= self.servo[k].deaf_until:
                    self.servo[k].write(address, data, time)
        else:
            for k in sorted(self.servo) if number == BROADCAST else [number]:
                if k in self.servo and time >= self.servo[k].deaf_until:
                    self._single(self.servo[k], number == BROADCAST, instruction, p, time)
        if self._done[0]:
            self.log.do(time, *self._done)

    def _goal(self, time: float, motor: int, ticks: int) -> None:
        self._done[0].append(motor)
        self._done[1].append(ticks)

    def _single(self, one: FeetechServo, broadcast: bool, instruction: int, p: bytes, time: float) -> None:
        data: bytes | None = b""
        if instruction == READ and len(p) == 2:
            data = one.read(p[0], p[1])
        elif instruction == WRITE and len(p) > 1:
            one.write(p[0], p[1:], time)
        elif instruction == REG_WRITE and len(p) > 1:
            self._waiting[one.motor] = (p[0], p[1:])
        elif instruction == ACTION:
            if one.motor in self._waiting:
                one.write(*self._waiting.pop(one.motor), time)
            return
        elif instruction == REBOOT:
            one.reboot(time)
            return
        elif instruction != PING:
            return
        if data is None or (broadcast and instruction != PING):
            return
        if instruction in (PING, READ) or one.table[8]:
            self._answer(one, data, time)

    def _many(self, p: bytes, time: float) -> None:
        start = time
        for number in p[2:]:
            one = self.servo.get(number)
            if one is None or time < one.deaf_until or self.silent(one.motor):
                return  # the next one waits for it in vain
            data = one.read(p[0], p[1])
            if data is None:
                return
            start = self._answer(one, data, start)

    def _answer(self, one: FeetechServo, data: bytes, time: float) -> float:
        if self.silent(one.motor):
            return time
        body = bytes([one.table[ID], len(data) + 2, one.error]) + data
        said = b"\xff\xff" + body + bytes([checksum(body)])
        if one.motor in self.twice:  # two talk at once, not quite in step
            said = bytes(a & b for a, b in zip(said, b"\xff\x7f" + said, strict=False))
        return self.say(said, time + one.return_delay)

    def run(self, now: float) -> None:
        """Motion, overload, heat and supply up to `now`."""
        while self._looked + PERIOD <= now:
            self._looked += PERIOD
            self.servos.advance(self._looked)
            if not self.down:
                for one in self.servo.values():
                    one.look_after(self._looked, PERIOD)
        self.servos.advance(now)

    def restart(self, now: float) -> None:
        """See `Bus.restart`."""
        self._ear.forget()
        for one in self.servo.values():
            one.reboot(now)

    def latch(self, motor: int) -> None:
        """An overload: the motor goes limp until it is switched off and on."""
        for one in self.servo.values():
            if one.motor == motor:
                one.fail(OVERLOAD, self.servos.time)

    def clear(self) -> None:
        """Someone switched them off and on, those with an error."""
        for one in self.servo.values():
            if one.error:
                one.reboot(self.servos.time)
                one.deaf_until = 0.0


def _writes(number: int, instruction: int, p: bytes) -> list[tuple[int, int, bytes]]:
    """Who shall write what where: (id, address, data)."""
    if instruction == SYNC_WRITE and len(p) > 2:
        size = p[1]
        return [(p[k], p[0], p[k + 1 : k + 1 + size]) for k in range(2, len(p) - size, size + 1)]
    if instruction in (WRITE, REG_WRITE) and len(p) > 1:
        return [(number, p[0], p[1:])]
    return []
