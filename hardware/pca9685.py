"""The `pca9685:` rig: hobby servos on two PCA9685 chips behind a microcontroller that speaks Maestro bytes.

``pca9685:/dev/ttyUSB0``. The firmware is in ``hardware/firmware/pca9685`` (Arduino core): chip 0x41 answers
as Maestro 12, chip 0x42 as Maestro 13, 16 channels each, and two commands are added, to device 126::

    Get Identity  AA 7E 30        answered by 'F' 'T' major minor boards channels options crc7(of those seven)
    Set Watchdog  AA 7E 31 lo hi  outputs off after so many ms (14 bits) without a command; 0: never

(with CRC-7 on, a CRC byte follows, as after every command). The chips' pulses are counted in 20000/4096 us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facetwin.hardware import maestro_codec as codec
from facetwin.hardware.maestro import MaestroRig
from facetwin.hardware.maestro_link import Board, ask
from facetwin.hardware.rig import Floats
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import RigSpec

if TYPE_CHECKING:
    from facetwin.hardware.eye import Eye

CONTROLLER = 126  #: device number of the microcontroller itself
GET_IDENTITY = 0xB0  # -> 8
SET_WATCHDOG = 0xB1  # ms (2)
FIRMWARE = (1, 0)  #: version that belongs to this driver; another major number is another protocol
KNOWN_ERRORS = codec.KNOWN_ERRORS | 1 << 9


@dataclass(frozen=True)
class Identity:
    """What the firmware says of itself: version, servo chips, channels of each, whether it wants CRC."""

    major: int
    minor: int
    boards: int
    channels: int
    crc: bool


def get_identity(*, crc: bool = False) -> bytes:
    """Ask who is there; answered by 8 bytes (`identity`).

    >>> get_identity().hex(" ")
    'aa 7e 30'
    """
    return codec.frame(GET_IDENTITY, device=CONTROLLER, crc=crc)


def set_watchdog(milliseconds: int, *, crc: bool = False) -> bytes:
    """Outputs off after so long a silence (0 to 16383 ms; 0: never).

    >>> set_watchdog(2000).hex(" ")
    'aa 7e 31 50 0f'
    """
    return codec.frame(SET_WATCHDOG, codec.two(milliseconds), device=CONTROLLER, crc=crc)


def identity(answer: bytes) -> Identity | None:
    """The firmware's answer, or None if it is not one."""
    if len(answer) != 8 or answer[:2] != b"FT" or codec.crc7(answer[:7]) != answer[7]:
        return None
    return Identity(answer[2], answer[3], answer[4], answer[5], bool(answer[6] & 1))


class Pca9685Rig(MaestroRig):
    """A face on PCA9685 servo chips behind a microcontroller.

    Parameters
    ----------
    port, table, baud, crc, headroom, camera, wiring, timeout
        See `MaestroRig`. The rig table's buses, in order, are the chips; `crc` is how the firmware was built.
    watchdog : float, s
        The firmware switches the outputs off after so long without a command, as when this program dies;
        up to 16.3; 0: never. A loop that reads keeps it quiet.
    """

    most_ports = 1
    maker = "PCA9685 controller"
    scripts = False
    patience = 3.0  # opening the port restarts many boards, and their boot loader waits

    def __init__(
        self,
        port: str,
        *,
        table: RigSpec | str | Path = "emo23",
        baud: int = 115200,
        crc: bool = False,
        headroom: float = 2.0,
        watchdog: float = 5.0,
        camera: str | Eye | None = None,
        wiring: Mapping[str, Mapping[str, float]] | None = None,
        timeout: float = 0.05,
    ) -> None:
        super().__init__(
            port, table=table, baud=baud, crc=crc, headroom=headroom, camera=camera, wiring=wiring,
            timeout=timeout,
        )  # fmt: skip
        if isinstance(watchdog, (bool, str)) or not 0 <= watchdog <= 16.3:
            raise UsageError("bad setting", where=f"{port}: watchdog", found=watchdog, expected="0 to 16.3 s")
        self.watchdog = float(watchdog)
        self.identity: Identity | None = None

    def _boards(self, devices: int | str | Sequence[int] | None) -> list[Board]:
        buses = len({int(b) for b in self.wiring.bus})
        boards = super()._boards([codec.DEVICE + k for k in range(buses)])
        for board in boards:
            board.known = KNOWN_ERRORS
        return boards

    def _batches(self, channels: list[int]) -> bool:
        return True

    def _meet(self) -> None:
        try:
            super()._meet()
        except FaceTwinError:
            if self._ask_identity() is None:
                raise
            self._check_identity()  # what it says of itself explains more
            raise
        if self._ask_identity() is None:
            raise FaceTwinError(
                "this is no PCA9685 firmware of facetwin", where=self.port,
                found="a board that speaks Maestro bytes but does not say who it is", expected="version 1",
                hint="a real Maestro is maestro:; else load hardware/firmware/pca9685 onto it",
            )  # fmt: skip
        self._check_identity()

    def _ask_identity(self) -> Identity | None:
        try:
            self.identity = identity(ask(self.boards[0], get_identity(crc=self.crc), 8))
        except TimeoutError:
            self.identity = None
        return self.identity

    def _check_identity(self) -> None:
        who = self.identity
        assert who is not None
        if who.major != FIRMWARE[0]:
            raise FaceTwinError(
                "firmware of another version", where=self.port, found=f"{who.major}.{who.minor}",
                expected=f"{FIRMWARE[0]}.x", hint="load hardware/firmware/pca9685 onto the board",
            )  # fmt: skip
        channels = max(max(board.channels) for board in self.boards)
        if who.boards < len(self.boards) or who.channels <= channels:
            raise FaceTwinError(
                "fewer channels than the rig table says", where=self.port,
                found=f"{who.boards} chips of {who.channels}",
                expected=f"{len(self.boards)} with channel {channels}", hint="another table",
            )  # fmt: skip

    def _activate(self, present: Floats) -> None:
        with self._noticing():
            self.wire.write(set_watchdog(round(self.watchdog * 1000), crc=self.crc))
        super()._activate(present)
