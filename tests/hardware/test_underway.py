"""How long a command is under way: bytes of the line, half a pulse, nothing on a simulated rig."""

from __future__ import annotations

import numpy as np
import pytest

from facetwin.hardware.names import make_rig
from facetwin.hardware.rig import Capabilities, Rig, RigState
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.hardware.underway import pulses, under_way
from facetwin.hardware.wiring import wiring_of
from facetwin.twin.spec import load_rig


class Line:
    def __init__(self, port, baud):
        self.port, self.baud, self.sent = port, baud, 0


class LineRig(Rig):
    """Sends 100 bytes a command on each of its lines, and as many for each question."""

    def __init__(self, *wires, kind="dynamixel"):
        super().__init__(load_rig("face26"))
        self.wires, self.wiring, self.kind = list(wires), object(), kind

    capabilities = Capabilities(simulated=False, measures=False, camera=None)

    def _open(self):
        pass

    def _activate(self, present):
        pass

    def _write(self, command):
        for wire in self.wires:
            wire.sent += 100

    def _read(self):
        for wire in self.wires:
            wire.sent += 100
        n = np.full(self.spec.size, np.nan)
        return RigState(self.clock.now(), self._commanded.copy(), n, n, n, n)

    def _release(self):
        pass

    def _close(self):
        pass


@pytest.mark.parametrize(
    ("wires", "kind", "seconds"),
    [
        ([Line("/dev/ttyUSB0", 1_000_000)], "dynamixel", 0.001),
        ([Line("/dev/ttyUSB0", 100_000)], "maestro", 0.020),
        ([Line("/dev/ttyACM0", 9600)], "maestro", 0.010),  # USB: its baud says nothing
        ([Line("/dev/ttyUSB0", 1_000_000), Line("/dev/ttyUSB1", 500_000)], "feetech", 0.002),
    ],
)
def test_bytes_and_pulses(wires, kind, seconds):
    with SafetyLayer(LineRig(*wires, kind=kind)) as rig:
        assert under_way(rig) == 0.0  # not active: nothing is sent
        rig.activate()
        assert under_way(rig) == pytest.approx(seconds)


def test_nothing_on_a_simulated_rig():
    assert under_way(SafetyLayer(SimRig("face26"))) == 0.0


def test_which_board_a_motor_waits_for():
    spec = load_rig("face26")
    maestro = make_rig("maestro:/dev/null")
    found = pulses(SafetyLayer(maestro))
    assert found.period == 0.02
    assert list(found.boards) == wiring_of(spec, "maestro").bus.tolist()
    assert pulses(make_rig("dynamixel:/dev/null")) is None
    assert pulses(SafetyLayer(SimRig("face26"))) is None
