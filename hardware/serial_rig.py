"""What drivers of servos on serial lines have in common: ports, wiring, an eye, and a way back to life.

A driver fills `_meet` (talk to the boards, move nothing), `_activate`, `_write`, `_read`, `_release`.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facetwin.hardware.ports import explain
from facetwin.hardware.rig import OPEN, Capabilities, Frame, Rig
from facetwin.hardware.wire import Wire
from facetwin.hardware.wiring import Wiring, wiring_of
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import RigSpec, load_rig

if TYPE_CHECKING:
    from facetwin.hardware.eye import Eye


class SerialRig(Rig):
    """A face whose servos hang on one or several serial lines; constructing opens nothing.

    Parameters
    ----------
    port : str
        Port, or several, separated by commas.
    table : RigSpec, name or path of a rig table
    baud : int
        Of every port.
    camera : str or Eye, optional
        What looks at the face, e.g. ``"webcam:0"``; without one `capture` raises.
    wiring : dict, optional
        Motor -> changes, see `facetwin.hardware.wiring.wiring_of`.
    timeout : float, s
        How long an answer may take.

    Attributes
    ----------
    wires : list of Wire
        One per port.
    wiring : Wiring
    eye : Eye or None
    """

    kind = "maestro"  #: key of `facetwin.hardware.wiring.KINDS`
    feedback = False  #: the servos tell where they stand
    most_ports = 1

    def __init__(
        self,
        port: str,
        *,
        table: RigSpec | str | Path = "face26",
        baud: int,
        camera: str | Eye | None = None,
        wiring: Mapping[str, Mapping[str, float]] | None = None,
        timeout: float = 0.05,
    ) -> None:
        super().__init__(table if isinstance(table, RigSpec) else load_rig(table))
        ports = [p.strip() for p in str(port or "").split(",")]
        if len(ports) > self.most_ports or len(set(ports)) < len(ports):
            raise UsageError("wrong ports", where=type(self).__name__, found=port,
                             expected=f"up to {self.most_ports}, each once")  # fmt: skip
        self.wires = [Wire(p, baud=baud, timeout=timeout) for p in ports]
        self.port, self.baud = str(port), baud
        self.wiring: Wiring = wiring_of(self.spec, self.kind, wiring)
        self.eye: Eye | None = None
        if isinstance(camera, str):
            from facetwin.hardware.eye import make_eye

            self.eye = make_eye(camera)
        else:
            self.eye = camera
        self._broken = False

    @property
    def wire(self) -> Wire:
        """The first port."""
        return self.wires[0]

    @property
    def capabilities(self) -> Capabilities:
        """A real rig: measures if its servos do, looks if it was given an eye."""
        return Capabilities(simulated=False, measures=self.feedback,
                            camera=self.eye.shape if self.eye is not None else None)  # fmt: skip

    @abstractmethod
    def _meet(self) -> None:
        """Make sure of who is at the other end; move nothing. Raise `FaceTwinError` with what to do."""

    def _open(self) -> None:
        self._connect()
        if self.eye is not None:
            self.eye.open()

    def _connect(self) -> None:
        at = self.wires[0]
        try:
            for at in self.wires:
                at.open()
                at.discard()
            self._meet()
        except OSError as error:
            raise explain(error, at.port, at.baud) from None
        self._broken = False

    def _mend(self) -> None:
        """After a pulled cable connect anew, only while the motors are off; drivers call it in `_read`."""
        if not self._broken or self.status.state != OPEN:
            return
        for wire in self.wires:
            wire.close()
        try:
            self._connect()
        except FaceTwinError as error:
            raise OSError(str(error)) from error

    @contextlib.contextmanager
    def _noticing(self) -> Any:
        """Remember that a port failed, so that `_mend` has something to do."""
        try:
            yield
        except OSError as error:
            if not isinstance(error, TimeoutError):
                self._broken = True
            raise

    def _capture(self) -> Frame:
        if self.eye is None:
            return super()._capture()
        return self.eye.look()

    def _close(self) -> None:
        for wire in self.wires:
            wire.close()
        if self.eye is not None:
            self.eye.close()
