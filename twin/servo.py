"""A bank of servos: delay, dead band, rate limit, second-order lag, backlash, in this order.

DESIGN section 6 (time). Between two ticks everything is solved in closed form: the delayed command
switches at its exact fraction of a tick, the rate-limited reference is a ramp and then a hold, and the lag
answers both exactly. So the answer hardly depends on `dt`. What hangs on the shaft may be mounted askew
(`trim`) or turn too far (`scale`). This is not a model of load: nothing that the skin does slows a servo
down. Acceleration has no limit of its own: the lag bounds it, and the safety layer keeps to the file's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]


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

        def each(key: str) -> Floats:
            return np.array([getattr(m, key) for m in spec.motors], dtype=np.float64)

        ticks = each("latency") / dt
        whole = np.floor(ticks + 1e-9)
        self._whole = whole.astype(np.intp)
        self._fraction = np.clip(ticks - whole, 0.0, 1.0)
        self._fraction[self._fraction < 1e-9] = 0.0
        self._dead = each("dead_band") / spec.span
        self._speed = each("max_speed") / spec.span
        self._play = each("backlash") / spec.span / 2
        self._omega = 2 * np.pi * each("natural_frequency")
        self._zeta = each("damping_ratio")
        self._d = self._omega * np.sqrt(np.abs(self._zeta**2 - 1))
        self._even = self._d * dt < 1e-6  # critically damped
        self._scale = each("scale")
        self._trim = each("trim") / spec.span + (1 - self._scale) * spec.rest
        self._motors = np.arange(spec.size)
        self.reset(spec.rest)

    def reset(self, command: ArrayLike) -> Floats:
        """Stand still at `command` [shape=(..., n)] as if held there for ever; returns the position."""
        c = np.array(command, dtype=np.float64)
        if c.shape[-1:] != (self.spec.size,):
            raise FaceTwinError("not a command", where="ServoBank.reset", found=c.shape,
                                expected=f"(..., {self.spec.size})")  # fmt: skip
        self._past = np.repeat(c[None], int(self._whole.max()) + 2, axis=0)  # (ticks, ..., n), newest first
        self._held = c.copy()
        self._reference = c.copy()
        self._x = c.copy()
        self._v = np.zeros_like(c)
        self._y = c.copy()
        return self.position

    @property
    def position(self) -> Floats:
        """Where the load stands, after the backlash, in commands [shape=(..., n)].

        In [0, 1] for a motor that is mounted right, beyond it by `scale` and `trim`.
        """
        return self._scale * self._y + self._trim

    @property
    def shaft(self) -> Floats:
        """Where the servo's own sensor is, before the backlash, in commands [shape=(..., n)]."""
        return self._x.copy()

    @property
    def velocity(self) -> Floats:
        """Speed of the shaft, commands/s [shape=(..., n)]."""
        return self._v.copy()

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
        if c.shape != self._x.shape:
            raise FaceTwinError(
                "not a command", where="ServoBank.step", found=c.shape, expected=self._x.shape
            )
        self._past = np.roll(self._past, 1, axis=0)
        self._past[0] = c
        if self._fraction.any():
            self._run(self._delayed(1), self._fraction * self.dt)
        self._run(self._delayed(0), (1 - self._fraction) * self.dt)
        self._y = np.clip(np.clip(self._y, self._x - self._play, self._x + self._play), 0.0, 1.0)
        return self.position

    def _delayed(self, more: int) -> Floats:
        picked = self._past[self._whole + more, ..., self._motors]  # (n, ...)
        return np.moveaxis(picked, 0, -1)

    def _run(self, command: Floats, duration: Floats) -> None:
        moved = np.abs(command - self._held) > self._dead
        self._held = np.where(moved, command, self._held)
        way = self._held - self._reference
        ramp = np.minimum(np.abs(way) / self._speed, duration)  # s, then hold
        slope = np.sign(way) * self._speed
        self._lag(self._reference, slope, ramp)
        # A ramp that ends within this stretch ends exactly on the command.
        self._reference = np.where(ramp < duration, self._held, self._reference + slope * ramp)
        self._lag(self._reference, 0.0, duration - ramp)

    def _lag(self, start: Floats, slope: Floats | float, t: Floats) -> None:
        """x'' = w^2 (r - x) - 2 z w x' with r = start + slope t, solved for a time t."""
        w, z = self._omega, self._zeta
        trail = 2 * z * slope / w  # how far the answer trails a ramp in the long run
        e, u = self._x - start + trail, self._v - slope
        decay = np.exp(-z * w * t)
        cosine, sine = np.ones_like(t), t  # critically damped: the limit of both other cases
        if not self._even.all():
            d, under = self._d, z < 1
            grow = np.where(under, 0.0, d) * t
            cosine = np.where(under, np.cos(d * t), np.cosh(grow))
            sine = np.where(under, np.sin(d * t), np.sinh(grow)) / np.where(self._even, 1.0, d)
            sine = np.where(self._even, t, sine)
        x = decay * ((cosine + z * w * sine) * e + sine * u)
        v = decay * (-(w**2) * sine * e + (cosine - z * w * sine) * u)
        self._x = start + slope * t - trail + x
        self._v = v + slope
