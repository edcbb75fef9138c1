"""Faces and rigs for these tests alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from facetwin.hardware.clock import SimClock
from facetwin.hardware.rig import Capabilities, Rig, RigState
from facetwin.twin.spec import RigSpec, load_rig


@dataclass
class FakeState:
    position: np.ndarray
    vertices: np.ndarray
    gap: float


@dataclass
class FakeTwin:
    """No skin: a picture whose rows tell where the motors stand."""

    spec: RigSpec
    size: tuple[int, int] = (24, 16)
    moves: int = 0
    closed: bool = False

    def move(self, position):
        self.moves += 1
        return FakeState(position.copy(), np.repeat(position[:, None], 3, axis=1), float(position[15]) * 0.01)

    def picture(self, state):
        width, height = self.size
        row = np.interp(np.linspace(0, 1, width), np.linspace(0, 1, len(state.position)), state.position)
        return np.broadcast_to((row * 200 + 20)[None, :, None], (height, width, 3)).astype(np.uint8).copy()

    def reset(self):
        pass

    def close(self):
        self.closed = True


@dataclass
class Script:
    """What goes wrong on a `ScriptedRig`."""

    write_fails: int = 0  # so many calls
    read_fails: int = 0
    faults: tuple[str, ...] = ()
    load: float = 0.0
    temperature: float = 30.0
    voltage: float = 6.0
    stuck: tuple[str, ...] = ()  # motors that do not follow
    calls: list[str] = field(default_factory=list)
    sent: list[np.ndarray] = field(default_factory=list)


class ScriptedRig(Rig):
    """Servos without a face, that go wherever they are told at once, unless the script says otherwise."""

    def __init__(self, spec: RigSpec | None = None, script: Script | None = None, start=None) -> None:
        super().__init__(spec or load_rig("face26"), SimClock())
        self.script = script or Script()
        self.place = np.array(self.spec.rest if start is None else start, dtype=float)

    @property
    def capabilities(self):
        return Capabilities(simulated=True, measures=True, camera=None)

    def _open(self):
        self.script.calls.append("open")

    def _activate(self, present):
        self.script.calls.append("activate")

    def _write(self, command):
        if self.script.write_fails > 0:
            self.script.write_fails -= 1
            raise TimeoutError("servo 5 is silent")
        self.script.calls.append("write")
        self.script.sent.append(command.copy())
        free = [i for i, n in enumerate(self.spec.names) if n not in self.script.stuck]
        self.place[free] = command[free]

    def _read(self):
        if self.script.read_fails > 0:
            self.script.read_fails -= 1
            raise TimeoutError("servo 5 is silent")
        n, s = self.spec.size, self.script
        return RigState(
            self.clock.now(), self._commanded.copy(), self.place.copy(), np.full(n, s.load),
            np.full(n, s.temperature), np.full(n, s.voltage), s.faults,
        )  # fmt: skip

    def _hold(self):
        self.script.calls.append("hold")

    def _release(self):
        self.script.calls.append("release")

    def _close(self):
        self.script.calls.append("close")
