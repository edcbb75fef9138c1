"""Robots without processes, for tests of boards and servos: time is an argument."""

from __future__ import annotations

from facetwin.hardware.emulated.boards import make_bus
from facetwin.hardware.emulated.bus import Bus, Horns, Log
from facetwin.hardware.emulated.faults import Faults
from facetwin.hardware.emulated.kinds import KINDS
from facetwin.hardware.emulated.servos import Servos
from facetwin.hardware.emulated.shared import Motion, create
from facetwin.hardware.wiring import wiring_of
from facetwin.twin.spec import RigSpec, load_rig


class Table:
    """A robot on the workbench: bytes in by `hear`, answers in `said` as (bytes, start)."""

    def __init__(self, kind: str, spec: RigSpec | None = None, **boards) -> None:
        spec = spec or load_rig("face26")
        w = wiring_of(spec, "maestro" if kind == "pca9685" else kind)
        horns = Horns(
            *(getattr(w, key).tolist() for key in ("bus", "channel", "zero", "per_rad", "lower", "span"))
        )
        self.kind, self.spec, self.horns = kind, spec, horns
        self.motion = Motion(create("test", Motion.bytes(spec.size)), spec.size)
        self.servos = Servos(spec, self.motion, 0.0, supply=KINDS[kind].supply, seed=1)
        self.faults, self.log = Faults(1), Log(spec.size)
        self.said: list[tuple[bytes, float]] = []
        self.time = 0.0
        if kind in ("maestro", "pca9685"):
            boards = {"devices": [12, 13], **boards}
        setup = {"kind": kind, "boards": {**KINDS[kind].boards, **boards}}
        self.bus: Bus = make_bus(setup, self.servos, horns, self.log, self.faults, self._say)

    def _say(self, data: bytes, start: float) -> float:
        self.said.append((data, start))
        return start + len(data) * 1e-5

    def hear(self, data: bytes, at: float | None = None) -> bytes:
        """Bytes on the wire from a time (s) on; what is answered to them."""
        self.time = self.time + 1e-3 if at is None else at
        before = len(self.said)
        for byte in data:
            self.time += 1e-5
            self.bus.tap(byte, self.time)
            self.bus.hear(byte, self.time)
        return b"".join(d for d, _ in self.said[before:])

    def run(self, until: float) -> None:
        """Let time pass, in turns as uneven as a busy machine's."""
        while self.time < until:
            self.time = min(self.time + 0.0037, until)
            self.bus.run(self.time)
