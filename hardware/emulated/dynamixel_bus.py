"""Dynamixel X servos on one half-duplex line, as `Bus`: who is meant, and who answers when."""

from __future__ import annotations

from collections.abc import Callable

from facetwin.hardware.emulated.bus import Bus, Horns, Log
from facetwin.hardware.emulated.dynamixel_frames import Ear, Packet, fast_status, status
from facetwin.hardware.emulated.dynamixel_servo import (
    ACCESS,
    CRC,
    INSTRUCTION,
    LENGTH,
    OVERLOAD,
    RESULT_FAIL,
    DynamixelServo,
)
from facetwin.hardware.emulated.faults import Faults
from facetwin.hardware.emulated.servos import Servos

PING, READ, WRITE, REG_WRITE, ACTION, REBOOT = 0x01, 0x02, 0x03, 0x04, 0x05, 0x08
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ, BULK_READ, BULK_WRITE = 0x82, 0x83, 0x8A, 0x92, 0x93
BROADCAST = 0xFE
GOAL = 116
#: s between two looks at watchdogs and heat
PERIOD = 0.01
#: s: broadcast pings are answered in slots by id
SLOT = 3e-3


class DynamixelBus(Bus):
    """All servos of a face.

    Parameters
    ----------
    model, firmware, return_delay : int
        Of all servos; the delay in 2 us, as in the control table.
    missing : list of str or int
        Motors (places in the table) whose servo is not there.
    twice : list of int
        Motors whose id another servo has, too: their answers collide.
    fast : bool
        They know fast sync read.
    """

    supply, half_duplex, feedback = 5.0, True, True

    def __init__(
        self,
        servos: Servos,
        horns: Horns,
        log: Log,
        faults: Faults,
        say: Callable[[bytes, float], float],
        *,
        model: int = 1200,
        firmware: int = 46,
        return_delay: int = 250,
        missing: list[int] = (),  # type: ignore[assignment]
        twice: list[int] = (),  # type: ignore[assignment]
        fast: bool = True,
    ) -> None:
        super().__init__(servos, horns, log, faults, say)
        self.fast, self.twice = fast, set(twice)
        self.servo: dict[int, DynamixelServo] = {}
        for motor, number in enumerate(horns.channel):
            if motor not in missing:
                one = DynamixelServo(servos, horns, motor, number, model, firmware, return_delay)
                one.on_goal = self._goal
                self.servo[number] = one
        self._ear, self._tap = Ear(), Ear()
        self._done: tuple[list[int], list[int]] = ([], [])
        self._waiting: dict[int, tuple[int, bytes]] = {}  # of reg write
        self._looked = servos.time

    # --- bytes -------------------------------------------------------------------------------------

    def tap(self, byte: int, time: float) -> None:
        """See `Bus.tap`."""
        packet = self._tap.hear(byte, time)
        if packet is None or not packet.good:
            return
        asked = [
            (self.servo[number].motor, goal)
            for number, address, data in _writes(packet)
            if number in self.servo and (goal := _goal_in(address, data)) is not None
        ]
        if asked:
            self.log.ask(time, [m for m, _ in asked], [g for _, g in asked])

    def hear(self, byte: int, time: float) -> None:
        """See `Bus.hear`."""
        if self.down:
            return
        packet = self._ear.hear(byte, time)
        if packet is None:
            return
        self.run(time)
        self.frames += 1
        if not packet.good:
            self.bad += 1
            one = self.servo.get(packet.id)
            if one is not None and not self._deaf(one, time):
                self._answer(one, CRC, b"", time)
            return
        for one in self.servo.values():
            one.fed = time
        self._done = ([], [])
        self._obey(packet, time)
        if self._done[0]:
            self.log.do(time, *self._done)

    def _goal(self, time: float, motor: int, ticks: int) -> None:
        self._done[0].append(motor)
        self._done[1].append(ticks)

    def _deaf(self, one: DynamixelServo, time: float) -> bool:
        return time < one.deaf_until

    def _obey(self, packet: Packet, time: float) -> None:
        if packet.instruction in (SYNC_READ, FAST_SYNC_READ, BULK_READ):
            self._many(packet, time)
        elif packet.instruction in (SYNC_WRITE, BULK_WRITE):
            for number, address, data in _writes(packet):
                one = self.servo.get(number)
                if one is not None and not self._deaf(one, time):
                    one.write(address, data, time)
        elif packet.id == BROADCAST:
            for number, one in sorted(self.servo.items()):
                if not self._deaf(one, time):
                    slot = number * SLOT if packet.instruction == PING else 0.0
                    self._single(one, packet, time, slot)
        elif packet.id in self.servo and not self._deaf(self.servo[packet.id], time):
            self._single(self.servo[packet.id], packet, time, 0.0)

    def _single(self, one: DynamixelServo, packet: Packet, time: float, slot: float) -> None:
        p, broadcast = packet.parameters, packet.id == BROADCAST
        error, data = 0, b""
        if packet.instruction == PING:
            data = bytes(one.table[0:2]) + bytes(one.table[6:7])
        elif packet.instruction == READ:
            if len(p) != 4:
                error = LENGTH
            else:
                told = one.read(p[0] | p[1] << 8, p[2] | p[3] << 8)
                error, data = (ACCESS, b"") if told is None else (0, told)
        elif packet.instruction == WRITE:
            error = one.write(p[0] | p[1] << 8, p[2:], time) if len(p) > 2 else LENGTH
        elif packet.instruction == REG_WRITE and len(p) > 2:
            self._waiting[one.motor] = (p[0] | p[1] << 8, p[2:])
        elif packet.instruction == ACTION:
            if one.motor in self._waiting:
                error = one.write(*self._waiting.pop(one.motor), time)
            return
        elif packet.instruction == REBOOT:
            self._answer(one, 0, b"", time)
            one.reboot(time)
            return
        else:
            error = INSTRUCTION if packet.instruction < 0x80 else RESULT_FAIL
        level = one.table[68]
        if packet.instruction == PING or (
            not broadcast and (level == 2 or (level == 1 and packet.instruction == READ))
        ):
            self._answer(one, error, data, time + slot)

    def _many(self, packet: Packet, time: float) -> None:
        """Answers one after another; a servo that hears nothing of the one before it says nothing either."""
        asked = _reads(packet)
        if not asked or (packet.instruction == FAST_SYNC_READ and not self.fast):
            return
        parts: list[tuple[int, int, bytes]] = []
        start = time
        for number, address, size in asked:
            one = self.servo.get(number)
            if one is None or self._deaf(one, time) or self.silent(one.motor) or not one.table[68]:
                break
            told = one.read(address, size)
            error = one.alert | (ACCESS if told is None else 0)
            data = bytes(size) if told is None else told
            if packet.instruction == FAST_SYNC_READ:
                if not parts:
                    start += one.return_delay
                parts.append((number, error, data))
            else:
                start = self._answer(one, error & ~0x80, b"" if told is None else data, start)
        if parts:
            self.say(fast_status(parts, len(asked)), start)

    def _answer(self, one: DynamixelServo, error: int, data: bytes, time: float) -> float:
        if self.silent(one.motor):
            return time
        said = status(one.table[7], error | one.alert, data)
        if one.motor in self.twice:  # two talk at once, not quite in step
            said = bytes(a & b for a, b in zip(said, b"\xff\x7f" + said, strict=False))
        return self.say(said, time + one.return_delay)

    # --- time --------------------------------------------------------------------------------------

    def run(self, now: float) -> None:
        """Motion, watchdogs, overload and heat up to `now`."""
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
        """An overload: the motor goes limp and stays so until a reboot."""
        for one in self.servo.values():
            if one.motor == motor:
                one.fail(OVERLOAD, self.servos.time)

    def clear(self) -> None:
        """Someone switched them off and on, those with an error."""
        for one in self.servo.values():
            if one.error:
                one.reboot(self.servos.time)
                one.deaf_until = 0.0


def _writes(packet: Packet) -> list[tuple[int, int, bytes]]:
    """Who shall write what where: (id, address, data)."""
    p, out = packet.parameters, []
    if packet.instruction == SYNC_WRITE and len(p) >= 4:
        address, size = p[0] | p[1] << 8, p[2] | p[3] << 8
        for k in range(4, len(p) - size, size + 1):
            out.append((p[k], address, p[k + 1 : k + 1 + size]))
    elif packet.instruction == BULK_WRITE:
        k = 0
        while k + 5 <= len(p):
            size = p[k + 3] | p[k + 4] << 8
            if k + 5 + size > len(p):
                break
            out.append((p[k], p[k + 1] | p[k + 2] << 8, p[k + 5 : k + 5 + size]))
            k += 5 + size
    elif packet.instruction in (WRITE, REG_WRITE) and len(p) > 2:
        out.append((packet.id, p[0] | p[1] << 8, p[2:]))
    return out


def _reads(packet: Packet) -> list[tuple[int, int, int]]:
    """Who shall read what: (id, address, size)."""
    p = packet.parameters
    if packet.instruction == BULK_READ:
        return [(p[k], p[k + 1] | p[k + 2] << 8, p[k + 3] | p[k + 4] << 8) for k in range(0, len(p) - 4, 5)]
    if len(p) < 5:
        return []
    return [(number, p[0] | p[1] << 8, p[2] | p[3] << 8) for number in p[4:]]


def _goal_in(address: int, data: bytes) -> int | None:
    """The goal position in a write, if it has one."""
    if address <= GOAL and address + len(data) >= GOAL + 4:
        return int.from_bytes(data[GOAL - address : GOAL - address + 4], "little", signed=True)
    return None
