"""The servos of the emulated robot: the twin's servo model in real time, with heat, load and supply.

Positions are a function of time and of the goals' times alone: a machine that is busy catches up by
computed ticks, so that it changes no physics. The arithmetic of motion is `facetwin.twin.servo_kernels`.
What is added here: torque that is off (the horn stays, gears hold it), a servo that is blocked, slow goals
(the ramps of the boards), and plausible numbers for load, temperature and supply, which are not fitted to
any servo. This is not a model of the motor's electricity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.emulated.shared import ROWS, Motion
from facetwin.twin import servo_kernels as kernels
from facetwin.twin.servo import constants_of
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

TICK = 1e-3  # s
AMBIENT = 26.0  # degrees C
#: degrees C that a servo is warmer in the long run per load squared, and its time, s
WARMING, COOLING_TIME = 55.0, 90.0
#: share of the stall torque: of moving at full speed, per command of distance, of holding the skin away
FRICTION, STIFFNESS, SKIN = 0.12, 4.0, 0.18


class Servos:
    """All servos of one robot.

    Parameters
    ----------
    spec : RigSpec
        The hidden body.
    motion : Motion
        Where positions are published.
    now : float, s
        Monotonic time of tick 0.
    supply : float, V
        Of the power supply, without load.
    seed : int
        Of the sensors' noise.
    """

    def __init__(self, spec: RigSpec, motion: Motion, now: float, *, supply: float, seed: int) -> None:
        self.spec, self.motion, self.supply = spec, motion, supply
        self.n = spec.size
        self._rng = np.random.default_rng([seed, 77])
        whole, constants = constants_of(spec, TICK)
        self._delay, self._constants = whole[None].copy(), constants[None].copy()
        self._known = np.empty((1, self.n, 8))
        kernels.answers(self._constants, TICK, self._known)
        self._past = np.repeat(spec.rest[None, None], int(whole.max()) + 70, axis=0)
        self._newest = 0
        self._state = np.repeat(spec.rest[None, :, None], 5, axis=-1)
        self._state[..., kernels.V] = 0.0
        self.goal = spec.rest.copy()  # what the boards ask for now
        self.on: Bools = np.zeros(self.n, np.bool_)
        self.blocked: Bools = np.zeros(self.n, np.bool_)
        self.temperature = np.full(self.n, AMBIENT + 2.0)
        self.heater = np.zeros(self.n)  # degrees C/s, of the fault "hot"
        self.load = np.zeros(self.n)
        self.sag = 0.0  # V, of the fault "brownout"
        self._speed = constants[:, kernels.SPEED].copy()
        motion.head[:2] = now, TICK
        motion.trail[:] = spec.rest
        motion.ticks[0] = 0

    # --- time ------------------------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Of the last tick that is done, s."""
        return self.motion.now

    def advance(self, until: float) -> None:
        """Step up to a monotonic time (s) under the present goals."""
        done = int(self.motion.ticks[0])
        left = int((until - float(self.motion.head[0])) / TICK + 1e-6) - done
        while left > 0:
            count = min(left, 64)
            self._run(count)
            left -= count

    def _run(self, count: int) -> None:
        still = ~self.on | self.blocked
        if still.any():
            kept = self._state[0, still].copy()
        newest, last = kernels.advance(
            0, self.goal, count, self._past, self._newest, self._delay, self._constants, TICK, self._known,
            self._state, self.motion.trail, int(self.motion.ticks[0]) % ROWS,
        )  # fmt: skip
        if still.any():
            self._freeze(still, kept, count, last)
        self._newest = newest
        self.motion.ticks[0] += count
        self._warm(count * TICK)

    def _freeze(self, still: Bools, kept: Floats, count: int, last: int) -> None:
        kept[:, kernels.V] = 0.0
        kept[:, kernels.REFERENCE] = kept[:, kernels.X]
        self._state[0, still] = kept
        rows = np.arange(last - count + 1, last + 1) % ROWS
        self.motion.trail[rows[:, None], 0, np.flatnonzero(still)] = kept[:, kernels.Y]

    def _warm(self, dt: float) -> None:
        state = self._state[0]
        away = np.abs(self.goal - state[:, kernels.X])
        rest = np.abs(state[:, kernels.X] - self.spec.rest)
        speed = np.abs(state[:, kernels.V]) / self._speed
        load = FRICTION * np.minimum(speed, 1.0) + STIFFNESS * np.maximum(away - 0.02, 0.0) * self.blocked
        load += np.minimum(away, 0.1) + SKIN * rest
        self.load = np.where(self.on, np.minimum(load, 1.0), 0.0)
        self.temperature += self.heater * dt + dt / COOLING_TIME * (
            AMBIENT + WARMING * self.load**2 - self.temperature
        )

    # --- what boards do to them ------------------------------------------------------------------

    def aim(self, motor: int, command: float, time: float) -> None:
        """A new goal of a motor (command) from a monotonic time (s) on; a servo that is off forgets it."""
        self.advance(time)
        self.goal[motor] = command

    def power(self, motor: int, on: bool, time: float) -> None:
        """Torque on or off; the horn stays where it is."""
        if bool(self.on[motor]) == on:
            return
        self.advance(time)
        x = self._state[0, motor, kernels.X]
        self._past[:, 0, motor] = x
        self._state[0, motor, [kernels.HELD, kernels.REFERENCE]] = x
        self._state[0, motor, kernels.V] = 0.0
        self.goal[motor] = x
        self.on[motor] = on

    def stop(self, motor: int, time: float) -> None:
        """Stay where it stands, torque on."""
        if not self.on[motor]:
            return
        self.power(motor, False, time)
        self.power(motor, True, time)

    def limit(self, motor: int, speed: float) -> None:
        """A limit of speed by the servo's own settings, commands/s; inf: what the motor can."""
        self._constants[0, motor, kernels.SPEED] = min(float(self._speed[motor]), max(speed, 1e-3))

    def block(self, motor: int, blocked: bool, time: float) -> None:
        """Block a motor's horn, or let it go."""
        self.advance(time)
        self.blocked[motor] = blocked

    # --- what sensors say ------------------------------------------------------------------------

    def shaft(self, motor: int) -> float:
        """Where a servo's own sensor sees its shaft, in commands, with its noise (.02 degrees)."""
        noise = 3.5e-4 * self._rng.standard_normal() / self.spec.span[motor]
        return float(self._state[0, motor, kernels.X] + noise)

    def state_of(self, motor: int) -> float:
        """Where a shaft is, without noise, in commands."""
        return float(self._state[0, motor, kernels.X])

    def velocity(self, motor: int) -> float:
        """Commands/s."""
        return float(self._state[0, motor, kernels.V])

    @property
    def voltage(self) -> float:
        """At the servos, V: the supply less what cables and load take."""
        return max(self.supply - self.sag - 0.02 * float(self.load.sum()), 0.0)

    @property
    def position(self) -> Floats:
        """Where the loads stand, after backlash, gain and trim, in commands [shape=(n,)]."""
        return placed(self.spec, self._state[0, :, kernels.Y])


def placed(spec: RigSpec, shown: Floats) -> Floats:
    """Loads' positions from shafts' [shape=(..., n)], commands: what is mounted askew or turns too far."""
    scale = np.array([m.scale for m in spec.motors])
    trim = np.array([m.trim for m in spec.motors]) / spec.span
    return scale * shown + trim + (1 - scale) * spec.rest
