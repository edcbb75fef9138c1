"""A facetwin driver in a package of its own: the blinkbox, two eyelids over UDP.

``blinkbox:192.168.7.2`` is a rig like any other once this is installed: `facetwin rig list` shows it, and
`facetwin rig check blinkbox:127.0.0.1` puts it through the rules.
"""

from __future__ import annotations

import itertools
import socket
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.rig import Capabilities, Rig, RigFault, RigState
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import RigSpec, load_rig
from facetwin_blinkbox.wire import PORT, pack, unpack

FIRMWARE = 2
MIDDLE = (
    900.0  # tenths of a degree of the servo, where the joint of a servo with sign 1 would be at 90 degrees
)


class BlinkBox(Rig):
    """Two eyelids.

    Everything that callers use (states, checks, retries, release at the end) comes from `Rig`; a driver
    fills hooks. What fails is an `OSError`, `TimeoutError` or `RigFault`, and is repeated by `Rig`.

    Parameters
    ----------
    address : "host" or "host:port"
    table : RigSpec or path, optional
        Another rig table than the box's own.
    timeout : float, s
        How long an answer may take.
    """

    def __init__(
        self, address: str, *, table: RigSpec | str | Path | None = None, timeout: float = 0.05
    ) -> None:
        spec = (
            table
            if isinstance(table, RigSpec)
            else load_rig(table or Path(__file__).with_name("blinkbox.toml"))
        )
        if spec.size != 2:
            raise UsageError(
                "this box has two lids", where=f"blinkbox:{address}", found=f"{spec.size} motors"
            )
        super().__init__(spec)
        host, _, port = str(address).partition(":")
        if not host or (port and not port.isdigit()):
            raise UsageError("not an address", where="blinkbox:", found=address, expected="host or host:port")
        self.address, self.timeout = (host, int(port or PORT)), timeout
        sign = np.array([m.sign for m in spec.motors])
        # servo position = zero + per_rad x joint angle
        self._per_rad = sign * 1800 / np.pi
        self._zero = np.where(sign > 0, 0.0, 1800.0)
        self._socket: socket.socket | None = None
        self._number = itertools.count(1)

    @property
    def capabilities(self) -> Capabilities:
        """Real time, real lids, servos that tell where they stand; no camera of its own."""
        return Capabilities(simulated=False, measures=True, camera=None)

    # --- hooks ---------------------------------------------------------------------------------

    def _open(self) -> None:
        where = "blinkbox:{}:{}".format(*self.address)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.connect(self.address)
            words = self._ask("ID")
        except OSError as error:
            raise FaceTwinError("no answer", where=where, found=str(error) or type(error).__name__,
                                hint="is it switched on, and in this network?") from error  # fmt: skip
        if words[:1] != ["BLINKBOX"]:
            raise FaceTwinError("not a blinkbox", where=where, found=" ".join(words), hint="another address")
        if words[1:] != [str(FIRMWARE)]:
            raise FaceTwinError("firmware of another version", where=where, found=words[1:],
                                expected=FIRMWARE, hint="update the box")  # fmt: skip

    def _activate(self, present: NDArray[np.float64]) -> None:
        self._ask("ON", *self._positions(present))  # the present pose as target: nothing snaps

    def _write(self, command: NDArray[np.float64]) -> None:
        self._ask("GO", *self._positions(command))

    def _read(self) -> RigState:
        words = self._ask("SEE")
        if len(words) != 8:
            raise RigFault("partial answer", where="blinkbox", found=" ".join(words), expected="8 words")
        try:
            values = np.array([float(w) for w in words[:7]])
        except ValueError:
            raise RigFault("not an answer", where="blinkbox", found=" ".join(words)) from None
        angles = (values[:2] - self._zero) / self._per_rad
        faults = () if words[7] == "-" else (words[7],)
        return RigState(
            time=self.clock.now(), commanded=self._commanded.copy(), measured=self.spec.to_command(angles),
            load=values[2:4] / 100, temperature=values[4:6], voltage=np.full(2, values[6] / 1000),
            faults=faults,
        )  # fmt: skip

    def _release(self) -> None:
        self._ask("OFF")

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # --- the wire ------------------------------------------------------------------------------

    def _positions(self, command: NDArray[np.float64]) -> list[int]:
        tenths = self._zero + self._per_rad * self.spec.to_radians(command)
        return [int(t) for t in np.rint(np.clip(tenths, 0, 1800))]

    def _ask(self, *words: object) -> list[str]:
        """Send a packet and wait for its answer; those to older ones come too late and are thrown away."""
        if self._socket is None:
            raise OSError("not connected")
        number = next(self._number)
        end = time.monotonic() + self.timeout
        self._socket.send(pack(number, *words))
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                packet = unpack(self._socket.recv(512))
            except TimeoutError:
                break
            if packet is None or packet[0] != number:
                continue
            if packet[1][0] != "OK":
                raise RigFault("refused", where=f"blinkbox: {words[0]}", found=" ".join(packet[1]))
            return packet[1][1:]
        raise TimeoutError(f"the box does not answer {words[0]}")
