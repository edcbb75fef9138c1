"""Servos played over a whole recording, for many sets of parameters at once.

The arithmetic is that of `facetwin.twin.servo_kernels`; here one motor is played with many sets instead of
many motors with one, so that differences and searches over its parameters cost one call.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from facetwin.twin.servo_kernels import answer, run
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

#: parameters of one motor, in this order; rad, s, Hz
NAMES = (
    "latency", "natural_frequency", "damping_ratio", "dead_band", "backlash", "max_speed", "scale", "trim",
)  # fmt: skip
LATENCY, FREQUENCY, DAMPING, DEAD, BACKLASH, SPEED, SCALE, TRIM = range(len(NAMES))


def table_of(spec: RigSpec) -> Floats:
    """The parameters that a rig table gives, float64 [shape=(n, 8)]."""
    return np.array([[getattr(m, name) for name in NAMES] for m in spec.motors], dtype=np.float64)


def models(spec: RigSpec) -> list[list[int]]:
    """Motors by number, those together whose servos have the same row in the table."""
    rows: dict[tuple[float, ...], list[int]] = {}
    for motor, row in enumerate(table_of(spec)):
        rows.setdefault(tuple(row[:SCALE]), []).append(motor)
    return list(rows.values())


class Playback:
    """Commands of a recording on a grid of ticks, ready to be played.

    Parameters
    ----------
    spec : RigSpec
        For limits and rest of the motors.
    time, sent : float64 [shape=(T,), s], [shape=(T, n)]
        Each command holds until the next. Before the first one all stood still there.
    tick : float, s, optional
        5 ms if the commands came on such a grid, else 2 ms.
    """

    def __init__(self, spec: RigSpec, time: Floats, sent: Floats, tick: float | None = None) -> None:
        if tick is None:
            off = (time - time[0]) / 0.005
            tick = 0.005 if np.abs(off - np.round(off)).max() < 1e-3 else 0.002
        self.spec, self.tick, self.start = spec, tick, float(time[0])
        self.ticks = int(np.ceil((time[-1] - time[0]) / tick)) + round(0.5 / tick)
        at = self.start + tick * np.arange(self.ticks)
        row = np.clip(np.searchsorted(time, at + 1e-7, side="right") - 1, 0, len(time) - 1)
        self._commands = np.ascontiguousarray(np.asarray(sent, np.float64)[row].T)  # (n, ticks)

    def play(self, motor: int, sets: Floats) -> tuple[Floats, Floats]:
        """Shaft and load of one motor for sets of parameters [shape=(B, 8)]: two (B, ticks + 1), commands.

        The first column is the start, each other one the end of a tick. The load is what moves the face:
        behind backlash, scale and trim.
        """
        m = self.spec.motors[motor]
        ticks = sets[:, LATENCY] / self.tick
        whole = np.floor(ticks + 1e-9)
        part = np.clip(ticks - whole, 0.0, 1.0)
        part[part < 1e-9] = 0.0
        constants = np.stack(
            [part, sets[:, DEAD] / m.span, sets[:, SPEED] / m.span, sets[:, BACKLASH] / m.span / 2,
             2 * np.pi * sets[:, FREQUENCY], sets[:, DAMPING]], 1,
        )  # fmt: skip
        shaft, load = np.empty((2, len(sets), self.ticks + 1))
        play(self._commands[motor], whole.astype(np.int64), constants, self.tick, shaft, load)
        scale = sets[:, SCALE, None]
        return shaft, scale * load + sets[:, TRIM, None] / m.span + (1 - scale) * m.rest_command

    def at(self, traces: Floats, time: Floats) -> Floats:
        """Traces [shape=(..., ticks + 1)] at times [shape=(F,), s], by interpolation: (..., F)."""
        place = np.clip((time - self.start) / self.tick, 0.0, self.ticks - 1e-6)
        low = place.astype(np.intp)
        share: Floats = np.asarray(place - np.floor(place), dtype=np.float64)
        first: Floats = traces[..., low]
        return first + share * (traces[..., low + 1] - first)


@njit(cache=True)
def play(command, whole, constants, dt, shaft, load):
    """One motor under ``command`` [shape=(K,)] for B sets: fills ``shaft``, ``load`` [shape=(B, K + 1)]."""
    for b in range(constants.shape[0]):
        part, dead, speed = constants[b, 0], constants[b, 1], constants[b, 2]
        backlash, omega, zeta = constants[b, 3], constants[b, 4], constants[b, 5]
        k0, k1, k2, k3 = answer(omega, zeta, part * dt)
        k4, k5, k6, k7 = answer(omega, zeta, (1 - part) * dt)
        held = reference = x = y = before = command[0]
        v = 0.0
        shaft[b, 0] = load[b, 0] = x
        for k in range(command.shape[0]):
            now = command[max(k - whole[b], 0)]
            if part > 0:
                if abs(before - held) > dead:
                    held = before
                reference, x, v = run(
                    reference, x, v, held, part * dt, speed, omega, zeta, k0, k1, k2, k3
                )  # fmt: skip
            if abs(now - held) > dead:
                held = now
            reference, x, v = run(
                reference, x, v, held, (1 - part) * dt, speed, omega, zeta, k4, k5, k6, k7
            )  # fmt: skip
            y = min(max(min(max(y, x - backlash), x + backlash), 0.0), 1.0)
            before = now
            shaft[b, k + 1], load[b, k + 1] = x, y
