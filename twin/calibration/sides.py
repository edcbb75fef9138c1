"""One side of a comparison: what a rig or a twin was told, read and seen doing, and its motors' turns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.observed import Observed
from facetwin.twin.calibration.probes import Turn
from facetwin.twin.calibration.pulses import Pulses
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

#: s before and after a motor's turn that belong to it
BEFORE, AFTER = 0.3, 0.2

#: a motor's turn as `servo_trace.fit_servo` takes it
Told = tuple[RigSpec, int, Floats, Floats, Floats, Floats]


@dataclass(frozen=True)
class Side:
    """One of both: the table it believes in, and what was recorded of it; time 0 is the program's start.

    `data.measured` may have times of its own (`read_time`, float64 [shape=(T,), s]); `zero` is the time of
    the program's start on the rig's clock, s; `under_way` what is known to lie between `write` and a servo
    that can act, s: it is in `data.time` already, so latencies are the servos' own. `pulses`: of hobby
    servos' boards; half a period of them is in `under_way`.
    """

    spec: RigSpec
    data: Observed
    read_time: Floats | None = None
    zero: float = 0.0
    under_way: float = 0.0
    pulses: Pulses | None = None

    @property
    def measures(self) -> bool:
        """Whether its servos say where they stand."""
        return bool(np.isfinite(self.data.measured).any())


def window(time: Floats, turn: Turn) -> NDArray[np.bool_]:
    """Which times (s) belong to a motor's turn."""
    out: NDArray[np.bool_] = (time >= turn.start - BEFORE) & (time < turn.end + AFTER)
    return out


def told(side: Side, motor: int, turn: Turn, at: Floats, seen: Floats) -> Told:
    """A motor's turn, with where it seemed to stand (``seen``, commands) when (``at``, s)."""
    rows = window(side.data.time, turn)
    return side.spec, motor, side.data.time[rows], side.data.sent[rows], at, seen
