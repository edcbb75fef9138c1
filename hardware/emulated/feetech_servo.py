"""The memory table of one emulated Feetech STS servo, and what writing to it does.

Source: Feetech "STS3215 memory table"; numbers low byte first, signs in a bit of their own (15, of loads
10). Not here: wheel and step mode, PWM mode, offsets.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from facetwin.hardware.emulated.bus import Horns
from facetwin.hardware.emulated.servos import Servos

#: status bits
VOLTAGE, HEAT, OVERLOAD = 1, 1 << 2, 1 << 5
ID, TORQUE, GOAL, SPEED, LIMIT, LOCK, PRESENT = 5, 40, 42, 46, 48, 55, 56
LAST = 71
#: address -> size, default, of what survives the power (0 to 39)
EEPROM = {0: (1, 3), 1: (1, 10), 3: (2, 777), 5: (1, 1), 6: (1, 0), 7: (1, 0), 8: (1, 1), 9: (2, 0),
          11: (2, 4095), 13: (1, 70), 14: (1, 80), 15: (1, 40), 16: (2, 1000), 18: (1, 12), 19: (1, 44),
          20: (1, 47), 21: (1, 32), 22: (1, 32), 26: (1, 1), 27: (1, 1), 30: (1, 1), 34: (1, 20),
          35: (1, 200), 36: (1, 80)}  # fmt: skip
#: share of the stall torque, and s of it, that are an overload
OVERLOADED, OVERLOAD_TIME = 0.8, 2.0
REBOOT_TIME = 0.15  # s


class FeetechServo:
    """One servo: its memory table, and what writing to it does."""

    def __init__(
        self, servos: Servos, horns: Horns, motor: int, number: int, model: int, firmware: int, delay: int
    ) -> None:
        self.servos, self.horns, self.motor = servos, horns, motor
        self.on_goal: Callable[[float, int, int], None] = lambda time, motor, ticks: None
        self.saved = bytearray(40)
        self.table = self.saved
        for address, (size, value) in EEPROM.items():
            self.put(address, size, value)
        self.put(0, 1, firmware)
        self.put(3, 2, model)
        self.put(ID, 1, number)
        self.put(7, 1, delay)
        self.reboot(servos.time - 1.0)

    def put(self, address: int, size: int, value: int) -> None:
        """Set a register without any effect."""
        self.table[address : address + size] = int(value).to_bytes(size, "little")

    def get(self, address: int, size: int) -> int:
        """A register, unsigned."""
        return int.from_bytes(self.table[address : address + size], "little")

    def reboot(self, now: float) -> None:
        """Power on: what was written while locked is gone, the motor is off."""
        self.servos.power(self.motor, False, now)
        self.servos.limit(self.motor, math.inf)
        self.table = bytearray(self.saved) + bytearray(LAST - 40)
        self.put(LOCK, 1, 1)
        self.put(LIMIT, 2, self.get(16, 2))
        self.put(GOAL, 2, signed(self.place(), 15))
        self.error, self.heavy = 0, 0.0
        self.deaf_until = now + REBOOT_TIME

    def place(self) -> int:
        """Present position, ticks."""
        return round(self.horns.units(self.motor, self.servos.shaft(self.motor)))

    @property
    def return_delay(self) -> float:
        """s before an answer."""
        return self.table[7] * 2e-6 + 2e-5

    def read(self, address: int, size: int) -> bytes | None:
        """Registers as they are now; None beyond the table."""
        if address + size > LAST or not size:
            return None
        s, m = self.servos, self.motor
        turn = math.copysign(1.0, self.horns.per_rad[m])
        ticks = s.velocity(m) * self.horns.span[m] * self.horns.per_rad[m]
        push = turn * math.copysign(float(s.load[m]), float(s.goal[m]) - s.state_of(m) or 1.0)
        self.put(PRESENT, 2, signed(self.place(), 15))
        self.put(58, 2, signed(round(ticks), 15))
        self.put(60, 2, signed(round(push * 1000), 10))
        self.put(62, 1, round(s.voltage * 10))
        self.put(63, 1, round(float(s.temperature[m])))
        self.put(65, 1, self.error)
        self.put(66, 1, abs(ticks) > 20)
        self.put(69, 2, signed(round(push * 2700 / 6.5), 15))
        return bytes(self.table[address : address + size])

    def write(self, address: int, data: bytes, now: float) -> None:
        """Write registers; what cannot be written stays."""
        if address < 40:
            if address <= ID < address + len(data) or address + len(data) > 40 or address < ID:
                return  # the rig stays as it was built
            self.table[address : address + len(data)] = data
            if not self.table[LOCK]:
                self.saved[:] = self.table[:40]
            return
        end = min(address + len(data), PRESENT)
        self.table[address:end] = data[: end - address]
        if address <= TORQUE < end:
            self._torque(now)
        if address < SPEED + 2 and end > SPEED:
            speed = unsigned(self.get(SPEED, 2), 15)
            full = abs(self.horns.per_rad[self.motor]) * self.horns.span[self.motor]
            self.servos.limit(self.motor, abs(speed) / full if speed else math.inf)
        if address <= GOAL and end >= GOAL + 2:
            self._goal(now)

    def _torque(self, now: float) -> None:
        on = self.table[TORQUE] == 1 and not self.error & self.get(19, 1)
        self.table[TORQUE] = on
        if on != bool(self.servos.on[self.motor]):
            self.servos.power(self.motor, on, now)
            if on:
                self._aim(now)

    def _goal(self, now: float) -> None:
        goal = unsigned(self.get(GOAL, 2), 15)
        self.on_goal(now, self.motor, goal)
        if self.table[TORQUE]:
            self._aim(now)

    def _aim(self, now: float) -> None:
        goal = unsigned(self.get(GOAL, 2), 15)
        goal = min(max(goal, self.get(9, 2)), self.get(11, 2))
        self.servos.aim(self.motor, self.horns.command(self.motor, goal), now)

    def look_after(self, now: float, dt: float) -> None:
        """Overload, heat and supply, every `dt` s; all but the overload go away by themselves."""
        self.heavy = self.heavy + dt if self.servos.load[self.motor] > OVERLOADED else 0.0
        if self.heavy > OVERLOAD_TIME:
            self.fail(OVERLOAD, now)
        low, high, volts = self.table[15], self.table[14], self.servos.voltage * 10
        self._set(VOLTAGE, not low <= volts <= high, now)
        self._set(HEAT, float(self.servos.temperature[self.motor]) > self.table[13], now)

    def _set(self, bit: int, there: bool, now: float) -> None:
        if there:
            self.fail(bit, now)
        else:
            self.error &= ~bit

    def fail(self, bit: int, now: float) -> None:
        """An error; those in Unloading Condition(19) switch the motor off."""
        self.error |= bit
        if bit & self.get(19, 1) and self.table[TORQUE]:
            self.table[TORQUE] = 0
            self.servos.power(self.motor, False, now)


def signed(value: int, bit: int) -> int:
    """A number as bits with its sign in `bit`."""
    return value if value >= 0 else -value | 1 << bit


def unsigned(value: int, bit: int) -> int:
    """The inverse of `signed`."""
    return -(value & ~(1 << bit)) if value >> bit & 1 else value
