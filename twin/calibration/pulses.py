"""When hobby servos heard of commands: at the pulses of their board, whose phase a mirror shows.

A hobby servo looks at a command only when its next pulse comes, 0 to 20 ms after it was sent. Taken as 10 ms
each time, that scatter is more than all else in a latency found by a camera: wide steps are few, and all
motors of a board err together. But pulses are regular. Their phase is tried in steps, by each motor's trace;
motors of one board agree on it, over all turns, on a board whose clock runs a little off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.servo_trace import Trace
from facetwin.twin.calibration.traces import LATENCY

Floats = NDArray[np.float64]

#: phases that are tried, of a period
PHASES = 20
#: s: latencies beside a motor's own that are tried with each phase
BESIDE = np.arange(-0.012, 0.0121, 0.003)
#: by how much a board's clock may run off, and what is tried
OFF = np.arange(-1e-3, 1.001e-3, 4e-5)
#: standard deviation of that among crystals and resonators
USUAL = 5e-4


@dataclass(frozen=True)
class Pulses:
    """The pulses of a rig's boards.

    Attributes
    ----------
    period : float, s
    boards : sequence of int, one a motor
        Which board it hangs on; -1: its servo hears of commands at once.
    """

    period: float
    boards: Sequence[int]


@dataclass(frozen=True)
class Heard:
    """One board's pulses in a recording: one at `phase` (s), and every `period` (s) before and after."""

    phase: float
    period: float

    def hold(self, arrived: Floats, sent: Floats) -> tuple[Floats, Floats]:
        """Times of pulses, and the commands that they carry: the last that had arrived by then.

        Parameters
        ----------
        arrived, sent : float64 [shape=(T,), s], [shape=(T, n)]
            When commands reached the board. What is before the first pulse after the first one is lost.
        """
        first = int(np.ceil((arrived[0] - self.phase) / self.period - 1e-9))
        last = int(np.ceil((arrived[-1] - self.phase) / self.period - 1e-9))
        at = self.phase + self.period * np.arange(first, last + 1)
        carried = np.searchsorted(arrived, at + 1e-9, side="right") - 1
        return at, sent[np.maximum(carried, 0)]


@dataclass(frozen=True)
class Stretch:
    """One motor's turn: its board, its trace, the servo that was fitted to it by itself, and what was sent,
    with the times when it reached the board."""

    board: int
    trace: Trace
    values: Floats
    arrived: Floats
    sent: Floats


def find(stretches: Mapping[int, Stretch], period: float) -> dict[int, Heard]:
    """The pulses of each board, from the turns of its motors.

    Parameters
    ----------
    stretches : motor's number -> Stretch
    period : float, s, by the board's own clock

    Returns
    -------
    dict of board -> Heard
    """
    out = {}
    for board in sorted({s.board for s in stretches.values()}):
        own = [s for s in stretches.values() if s.board == board]
        costs = np.stack([_costs(s, period) for s in own])  # (motors, PHASES)
        middle = np.array([(s.arrived[0] + s.arrived[-1]) / 2 for s in own])
        out[board] = _agreed(costs, middle, period)
    return out


def _costs(stretch: Stretch, period: float) -> Floats:
    """Cost of each phase, its best latency taken, float64 [shape=(PHASES,)]."""
    trace, values = stretch.trace, stretch.values
    trace.measure(values)
    sets = np.repeat(values[None], len(BESIDE), axis=0)
    sets[:, LATENCY] = np.maximum(values[LATENCY] + BESIDE, 0.0)
    tried = (Heard(k * period / PHASES, period).hold(stretch.arrived, stretch.sent) for k in range(PHASES))
    return np.array([trace.told(*heard).costs(sets).min() for heard in tried])


def _agreed(costs: Floats, middle: Floats, period: float) -> Heard:
    """The phase (at time 0) and period that suit all turns, whose middles are given, s."""
    phases = np.arange(0.0, PHASES, 0.25)  # steps of the costs' own, finer
    # a clock that is off by a share moves the phase of a turn by that share of the turn's time
    moved = OFF[:, None] * middle / period * PHASES  # (off, motors)
    at = (phases[:, None, None] + moved) % PHASES  # (phases, off, motors)
    low = at.astype(np.intp)
    share, motor = at - low, np.arange(len(middle))
    each = (1 - share) * costs[motor, low % PHASES] + share * costs[motor, (low + 1) % PHASES]
    total = each.sum(-1) + 0.5 * (OFF / USUAL) ** 2  # (phases, off)
    best, off = np.unravel_index(int(total.argmin()), total.shape)
    return Heard(float(phases[best] * period / PHASES), period * (1 + float(OFF[off])))
