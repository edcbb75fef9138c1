"""A bank of servos: delay, dead band, rate limit, second-order lag, backlash, in this order.

DESIGN section 6 (time). Between two ticks everything is solved in closed form: the delayed command
switches at its exact fraction of a tick, the rate-limited reference is a ramp and then a hold, and the lag
answers both exactly. So the answer hardly depends on `dt`. What hangs on the shaft may be mounted askew
(`trim`) or turn too far (`scale`). This is not a model of load: nothing that the skin does slows a servo
down. Acceleration has no limit of its own: the lag bounds it, and the safety layer keeps to the file's.
The arithmetic is in `facetwin.twin.servo_kernels`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin import servo_kernels as kernels
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]


def constants_of(spec: RigSpec, dt: float) -> tuple[NDArray[np.int64], Floats]:
    """A rig's servos as `servo_kernels` take them: whole ticks of delay [shape=(n,)], constants (n, 6)."""

    def each(key: str) -> Floats:
        return np.array([getattr(m, key) for m in spec.motors], dtype=np.float64)

    ticks = each("latency") / dt
    whole = np.floor(ticks + 1e-9)
    fraction = np.clip(ticks - whole, 0.0, 1.0)
    fraction[fraction < 1e-9] = 0.0
    constants = np.stack(
        [
            fraction,
            each("dead_band") / spec.span,
            each("max_speed") / spec.span,
            each("backlash") / spec.span / 2,
            2 * np.pi * each("natural_frequency"),
            each("damping_ratio"),
        ],
        axis=-1,
    )
    return whole.astype(np.int64), constants


class ServoBank:
    """All servos of a rig, one or many rigs at a time.

    Parameters
    ----------
    spec : RigSpec
        Takes `latency`, `dead_band`, `max_speed`, `natural_frequency`, `damping_ratio`, `backlash`,
        `scale` and `trim` of each motor.
    dt : float, s
        Length of a tick, above 0.
    """

    def __init__(self, spec: RigSpec, dt: float) -> None:
        if not (np.isfinite(dt) and dt > 0):
            raise FaceTwinError("bad tick", where="ServoBank", found=dt, expected="dt > 0 s")
        self.spec, self.dt = spec, float(dt)

        self._whole, self._constants = constants_of(spec, dt)
        self._scale = np.array([m.scale for m in spec.motors])
        trim = np.array([m.trim for m in spec.motors])
        self._trim = trim / spec.span + (1 - self._scale) * spec.rest
        self.reset(spec.rest)

    def reset(self, command: ArrayLike) -> Floats:
        """Stand still at `command` [shape=(..., n)] as if held there for ever; returns the position."""
        c = np.array(command, dtype=np.float64)
        if c.shape[-1:] != (self.spec.size,):
            raise FaceTwinError("not a command", where="ServoBank.reset", found=c.shape,
                                expected=f"(..., {self.spec.size})")  # fmt: skip
        self._lead = c.shape
        rows = np.ascontiguousarray(c.reshape(-1, self.spec.size))  # (B, n)
        size = len(rows)
        self._past = np.repeat(rows[None], int(self._whole.max()) + 2, axis=0)  # (H, B, n), a ring
        self._newest = 0
        self._all = np.ascontiguousarray(np.broadcast_to(self._constants, (size, *self._constants.shape)))
        self._delay = np.ascontiguousarray(np.broadcast_to(self._whole, rows.shape))
        self._known = np.empty((*rows.shape, 8))
        kernels.answers(self._all, self.dt, self._known)
        self._state = np.repeat(rows[..., None], 5, axis=-1)  # (B, n, 5)
        self._state[..., kernels.V] = 0.0
        self._trail = rows[None].copy()
        return self.position

    @property
    def position(self) -> Floats:
        """Where the load stands, after the backlash, in commands [shape=(..., n)].

        In [0, 1] for a motor that is mounted right, beyond it by `scale` and `trim`.
        """
        return self._scale * self._part(kernels.Y) + self._trim

    @property
    def shaft(self) -> Floats:
        """Where the servo's own sensor is, before the backlash, in commands [shape=(..., n)]."""
        return self._part(kernels.X).copy()

    @property
    def velocity(self) -> Floats:
        """Speed of the shaft, commands/s [shape=(..., n)]."""
        return self._part(kernels.V).copy()

    def step(self, command: ArrayLike) -> Floats:
        """Hold `command` for one tick; returns the position at its end.

        Parameters
        ----------
        command : float [shape=(..., n)]
            Same leading shape as at `reset`.

        Returns
        -------
        float64 [shape=(..., n)], commands
        """
        c = np.asarray(command, dtype=np.float64)
        if c.shape != self._lead:
            raise FaceTwinError("not a command", where="ServoBank.step", found=c.shape, expected=self._lead)
        rows = c.reshape(-1, self.spec.size)
        ring = len(self._past)
        newest = (self._newest + 1) % ring
        for b in range(len(rows)):
            kernels.advance(
                b, rows[b], 1, self._past, self._newest, self._delay, self._all, self.dt, self._known,
                self._state, self._trail, 0,
            )  # fmt: skip
        self._newest = newest
        return self.position

    def _part(self, which: int) -> Floats:
        return np.ascontiguousarray(self._state[..., which]).reshape(self._lead)
