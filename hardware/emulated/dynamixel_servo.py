"""The control table of one emulated Dynamixel of the X series, and what writing to it does.

Source: ROBOTIS e-Manual, control tables of XL330-M288 and XL430-W250. Not here: operating modes other than
position, gains, homing offset, current and PWM goals, indirect addresses, the external port.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from facetwin.hardware.emulated.bus import Horns
from facetwin.hardware.emulated.servos import Servos

#: rad/s of one unit of velocity, 0.229 rev/min
VELOCITY = 0.229 * 2 * math.pi / 60
#: bits of Hardware Error Status(70)
VOLTAGE, OVERHEATING, OVERLOAD = 1, 1 << 2, 1 << 5
RESULT_FAIL, INSTRUCTION, CRC, RANGE, LENGTH, LIMIT, ACCESS = range(1, 8)
ALERT = 0x80
#: share of the stall torque, and s of it, that are an overload
OVERLOADED, OVERLOAD_TIME = 0.85, 1.0
REBOOT_TIME = 0.15  # s
#: models that tell a current: model -> mA of the stall torque and mA of a unit; others tell 0.1 % of load
CURRENTS = {1190: (1470, 1.0), 1200: (1470, 1.0), 1220: (880, 1.0), 1020: (2300, 2.69)}
#: RAM that can be written: address -> size
WRITABLE = {64: 1, 65: 1, 68: 1, 69: 1, 76: 2, 78: 2, 80: 2, 82: 2, 84: 2, 88: 2, 90: 2, 98: 1, 100: 2,
            102: 2, 104: 4, 108: 4, 112: 4, 116: 4}  # fmt: skip
#: EEPROM: address -> size, default
EEPROM = {
    0: (2, 0), 2: (4, 0), 6: (1, 0), 7: (1, 1), 8: (1, 3), 9: (1, 250), 10: (1, 0), 11: (1, 3), 12: (1, 255),
    13: (1, 2), 20: (4, 0), 24: (4, 10), 31: (1, 70), 32: (2, 70), 34: (2, 35), 36: (2, 885), 38: (2, 1750),
    44: (4, 445), 48: (4, 4095), 52: (4, 0), 60: (1, 0), 63: (1, 52),
}  # fmt: skip


class DynamixelServo:
    """One servo.

    Parameters
    ----------
    motor : int
        Its place in the rig table.
    number : int
        Its id.
    """

    def __init__(
        self, servos: Servos, horns: Horns, motor: int, number: int, model: int, firmware: int, delay: int
    ) -> None:
        self.servos, self.horns, self.motor = servos, horns, motor
        self.on_goal: Callable[[float, int, int], None] = lambda time, motor, ticks: None
        self.table = bytearray(256)
        for address, (size, value) in EEPROM.items():
            self.put(address, size, value)
        self.put(0, 2, model)
        self.put(6, 1, firmware)
        self.put(7, 1, number)
        self.put(9, 1, delay)
        self.model = model
        self.error = 0  # Hardware Error Status
        self.reboot(servos.time - 1.0)

    # --- registers -------------------------------------------------------------------------------

    def get(self, address: int, size: int) -> int:
        """A register, unsigned."""
        return int.from_bytes(self.table[address : address + size], "little")

    def put(self, address: int, size: int, value: int) -> None:
        """Set a register without any effect."""
        self.table[address : address + size] = (int(value) % (1 << 8 * size)).to_bytes(size, "little")

    @property
    def on(self) -> bool:
        """Torque Enable(64)."""
        return bool(self.table[64])

    @property
    def alert(self) -> int:
        """The bit of every status while there is a hardware error."""
        return ALERT if self.error else 0

    @property
    def return_delay(self) -> float:
        """s before an answer."""
        return self.table[9] * 2e-6

    def reboot(self, now: float) -> None:
        """Power on, or reboot: RAM at its defaults, motor off."""
        self.servos.power(self.motor, False, now)
        self.servos.limit(self.motor, math.inf)
        self.table[64:] = bytes(len(self.table) - 64)
        self.put(68, 1, 2)
        self.put(76, 2, 1920)
        self.put(84, 2, 400)
        self.put(100, 2, self.get(36, 2))
        self.error = 0
        self.heavy = 0.0  # s of overload
        self.deaf_until = now + REBOOT_TIME
        self.fed = now
        self.tripped = False
        self.put(116, 4, self.place())

    def place(self) -> int:
        """Present position, ticks."""
        return round(self.horns.units(self.motor, self.servos.shaft(self.motor)))

    def refresh(self) -> None:
        """Put what the sensors say into the table."""
        s, m = self.servos, self.motor
        load, speed = float(s.load[m]), s.velocity(m) * self.horns.span[m]
        turn = math.copysign(1.0, self.horns.per_rad[m])
        push = turn * math.copysign(load, float(s.goal[m]) - s.state_of(m) or 1.0)
        stall, unit = CURRENTS.get(self.model, (1000, 1.0))
        place = self.place()
        self.put(70, 1, self.error)
        self.put(98, 1, 255 if self.tripped else self.table[98])
        self.put(122, 1, abs(speed) > self.get(24, 4) * VELOCITY)
        self.put(126, 2, round(push * stall / unit))
        self.put(128, 4, round(turn * speed / VELOCITY))
        self.put(132, 4, place)
        self.put(140, 4, self.get(116, 4) if self.on else place)
        self.put(144, 2, round(s.voltage * 10))
        self.put(146, 1, round(float(s.temperature[m])))

    def read(self, address: int, size: int) -> bytes | None:
        """Registers as they are now; None beyond the table."""
        if address + size > 148 or not size:
            return None
        self.refresh()
        return bytes(self.table[address : address + size])

    # --- writing -----------------------------------------------------------------------------------

    def write(self, address: int, data: bytes, now: float) -> int:
        """Write registers; returns the error number."""
        known = WRITABLE if address >= 64 else EEPROM
        at, end = address, address + len(data)
        while at < end:
            entry = known.get(at)
            size = entry if isinstance(entry, int) else entry[0] if entry else 0
            if not size or at + size > end:
                return ACCESS if not size else LENGTH
            error = self._set(
                at, size, int.from_bytes(data[at - address : at - address + size], "little"), now
            )
            if error:
                return error
            at += size
        return 0

    def _set(self, address: int, size: int, value: int, now: float) -> int:
        if address < 64:
            if self.on or address in (0, 2, 6):
                return ACCESS
            if (
                (address == 7 and value > 252)
                or (address == 8 and value > 7)
                or (address == 9 and value > 254)
            ):
                return RANGE
            if address in (7, 8):
                return ACCESS  # the rig stays as it was built
            self.put(address, size, value)
        elif address == 64:
            return self._torque(value, now)
        elif address == 98:
            if value > 127:
                return RANGE
            self.tripped = False
            self.put(98, 1, value)
            self.fed = now
        elif address == 116:
            return self._goal(value, now)
        else:
            if address == 112 and value > self.get(44, 4):
                return LIMIT
            self.put(address, size, value)
            if address == 112:
                ticks_per_s = value * VELOCITY * 2048 / math.pi
                full = abs(self.horns.per_rad[self.motor]) * self.horns.span[self.motor]
                self.servos.limit(self.motor, ticks_per_s / full if value else math.inf)
        return 0

    def _torque(self, value: int, now: float) -> int:
        if value > 1:
            return RANGE
        if value and self.error & self.get(63, 1):
            return ACCESS
        if bool(value) != self.on:
            self.put(64, 1, value)
            self.servos.power(self.motor, bool(value), now)
            if value:
                self._aim(now)
        return 0

    def _goal(self, value: int, now: float) -> int:
        if self.tripped:
            return RANGE
        goal = value - (1 << 32) if value >= 1 << 31 else value
        if not self.get(52, 4) <= goal <= self.get(48, 4):
            return LIMIT
        self.put(116, 4, value)
        self.on_goal(now, self.motor, goal)
        if self.on:
            self._aim(now)
        return 0

    def _aim(self, now: float) -> None:
        self.servos.aim(self.motor, self.horns.command(self.motor, self.get(116, 4)), now)

    # --- time --------------------------------------------------------------------------------------

    def look_after(self, now: float, dt: float) -> None:
        """Watchdog, overload and heat, every `dt` s."""
        watchdog = self.table[98]
        if watchdog and not self.tripped and now - self.fed > watchdog * 0.02:
            self.tripped = True
            self.servos.stop(self.motor, now)
        load, temperature = float(self.servos.load[self.motor]), float(self.servos.temperature[self.motor])
        self.heavy = self.heavy + dt if load > OVERLOADED else 0.0
        if self.heavy > OVERLOAD_TIME:
            self.fail(OVERLOAD, now)
        if temperature > self.get(31, 1):
            self.fail(OVERHEATING, now)
        volts = self.servos.voltage * 10
        if not self.get(34, 2) <= volts <= self.get(32, 2):
            self.fail(VOLTAGE, now)

    def fail(self, bit: int, now: float) -> None:
        """A hardware error: latched until a reboot; those in Shutdown(63) switch the motor off."""
        self.error |= bit
        if bit & self.get(63, 1) and self.on:
            self.put(64, 1, 0)
            self.servos.power(self.motor, False, now)
