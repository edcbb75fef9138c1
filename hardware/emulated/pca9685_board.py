"""PCA9685 servo chips behind a microcontroller that speaks Maestro bytes, as `Bus`.

The protocol is that of ``hardware/firmware/pca9685`` (Maestro commands, device 12 and up; identity and
watchdog to device 126). Pulses are counted in 1/4096 of their period of 20 ms (PCA9685 data sheet, 7.3.3).
"""

from __future__ import annotations

from collections.abc import Callable

from facetwin.hardware.emulated.bus import Horns, Log
from facetwin.hardware.emulated.faults import Faults
from facetwin.hardware.emulated.maestro_board import Board, MaestroBus
from facetwin.hardware.emulated.maestro_frames import (
    ACCELERATION,
    ERRORS,
    HOME,
    LENGTH,
    MOVING,
    MULTIPLE,
    POSITION,
    SET_TARGET,
    SPEED,
    Ear,
    Order,
    crc7,
)
from facetwin.hardware.emulated.servos import Servos

CONTROLLER, IDENTITY, WATCHDOG = 126, 0xB0, 0xB1
CHANNELS = 16
TIMEOUT = 1 << 5
KNOWN = {SET_TARGET, SPEED, ACCELERATION, POSITION, MOVING, MULTIPLE, ERRORS, HOME}
LENGTHS = {**{c: LENGTH[c] for c in KNOWN}, IDENTITY: 0, WATCHDOG: 2}


class Pca9685Bus(MaestroBus):
    """Servo chips of one microcontroller.

    Parameters
    ----------
    firmware : (int, int), optional
        Version that it says.
    """

    def __init__(
        self,
        servos: Servos,
        horns: Horns,
        log: Log,
        faults: Faults,
        say: Callable[[bytes, float], float],
        *,
        devices: list[int],
        channels: int = CHANNELS,
        crc: bool = True,
        period: float = 0.02,
        low: int = 1,
        high: int = 16383,
        firmware: list[int] | None = None,
    ) -> None:
        super().__init__(
            servos, horns, log, faults, say, devices=devices, channels=min(channels, CHANNELS), crc=crc,
            period=period, low=low, high=high,
        )  # fmt: skip
        self.crc, self.firmware = crc, firmware or [1, 0]
        self._ear, self._tap = Ear(crc, LENGTHS), Ear(crc, LENGTHS)
        self.watchdog = 2.0  # s, until told otherwise
        self._fed = servos.time

    def meant(self, order: Order, board: Board) -> bool:
        """The compact protocol is for the first chip alone."""
        if order.command in (IDENTITY, WATCHDOG):
            return False
        return order.device == board.device or (order.device == -1 and board is self.boards[0])

    def special(self, order: Order, time: float) -> bytes | None:
        """Identity and watchdog; any good command feeds the watchdog."""
        if order.error:
            return None
        self._fed = time
        if order.device != CONTROLLER:
            return None
        if order.command == IDENTITY:
            told = bytes([0x46, 0x54, *self.firmware, len(self.boards), CHANNELS, int(self.crc)])
            return told + bytes([crc7(told)])
        if order.command == WATCHDOG:
            self.watchdog = (order.data[0] | order.data[1] << 7) * 1e-3
        return None

    def run(self, now: float) -> None:
        """As the Maestro's, and the watchdog."""
        super().run(now)
        if self.watchdog and now - self._fed > self.watchdog and any(any(b.target) for b in self.boards):
            for board in self.boards:
                for channel in range(board.channels):
                    board.aim(channel, 0)
                board.errors |= TIMEOUT

    def restart(self, now: float) -> None:
        """See `Bus.restart`."""
        super().restart(now)
        self.watchdog, self._fed = 2.0, now

    def shaped(self, pulse: int) -> float:
        """Whole counts of 4096 of the period."""
        count = self.period * 4e6 / 4096
        return round(pulse / count) * count
