"""The safety layer: a rig that stands in front of every rig, the simulated one included.

What it does to a command, in this order: refuse what is not finite (the contract does), clip to the soft
limits, move to the nearest command that the couplings allow, and go there no faster than the motors'
speed and acceleration permit, without ever passing the target, a limit or a forbidden combination. It
also watches: for silence of the program (hold, then ease to rest), and for what the servos report
(latched until `reset`). Limits live in the rig file, not in drivers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facetwin.hardware.clock import Timer
from facetwin.hardware.rig import ACTIVE, HELD, OPEN, Capabilities, Floats, Frame, Rig, RigFault, RigState
from facetwin.hardware.safety_kernels import ACCELERATION, SPEED, toward
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError, UsageError

Change = dict[str, tuple[float, float]]
_PERIOD = 0.02  # s, how often the watchdog looks


class SafetyLayer(Rig):
    """A safe rig made of another one.

    Parameters
    ----------
    rig : Rig
        Not active yet.
    watchdog : float, s, or None
        Without a `write` for so long the face is held; None: off.
    ease_after : float, s
        After so much longer it travels to rest.
    ease_speed : float, commands/s
        How fast it does.
    idle_detach : float, s, or None
        So long after it came to rest by itself, motors are switched off; None: off.
    on_idle : callable, optional
        Called once when that happens.
    longest_step : float, s
        However long ago the last command was, the next step is no longer than this time allows.
    max_temperature : float, degrees C, or None; min_voltage : float, V, or None
        A servo beyond it is a fault.
    stall : (float, float) or None
        Distance (commands) from the command and time (s) without motion that count as a stall.

    Attributes
    ----------
    last_change : dict
        What the last `write` did to the command: rule -> {motor: (before, after)}. Rules: ``range``,
        ``soft limit``, ``coupling: NAME``, ``speed``, ``acceleration``, ``coupling on the way``.
    fault : str
        Why it refuses to move, or empty.
    """

    retries = 0  # the rig behind has done its own

    def __init__(
        self,
        rig: Rig,
        *,
        watchdog: float | None = 1.0,
        ease_after: float = 2.0,
        ease_speed: float = 0.5,
        idle_detach: float | None = None,
        on_idle: Callable[[], None] | None = None,
        longest_step: float = 0.1,
        max_temperature: float | None = 70.0,
        min_voltage: float | None = None,
        stall: tuple[float, float] | None = (0.25, 0.5),
    ) -> None:
        super().__init__(rig.spec, rig.clock)
        for key, value in (("watchdog", watchdog), ("idle_detach", idle_detach), ("ease_after", ease_after),
                           ("ease_speed", ease_speed), ("longest_step", longest_step)):  # fmt: skip
            if value is not None and not (np.isfinite(value) and value > 0):
                raise UsageError(
                    "bad setting", where=f"SafetyLayer: {key}", found=value, expected="above 0, or None"
                )
        self.inner = rig
        self.watchdog, self.ease_after, self.ease_speed = watchdog, ease_after, ease_speed
        self.idle_detach, self.on_idle = idle_detach, on_idle
        self.longest_step = longest_step
        self.max_temperature, self.min_voltage, self.stall = max_temperature, min_voltage, stall
        self.couplings = Couplings(rig.spec)
        self.lower, self.upper = rig.spec.soft_limits
        self.max_speed = np.array([m.max_speed for m in rig.spec.motors]) / rig.spec.span  # commands/s
        self.max_acceleration = np.array([m.max_acceleration for m in rig.spec.motors]) / rig.spec.span
        self.last_change: dict[str, Change] = {}
        self.fault = ""
        self._faulty_since = 0.0
        self.trips = 0  #: how often the watchdog had to hold the face
        self._timer: Timer | None = None
        self._time = self._since = self._written = 0.0
        self._stage = ""  # of the watchdog: "", "held", "easing", "rest"
        self._forget(rig.spec.rest)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the rig behind."""
        return self.inner.capabilities

    def describe(self) -> str:
        """All limits, also those that are off, as a table for people."""

        def said(value: object, unit: str) -> str:
            return "off" if value is None else f"{value} {unit}"

        lines = [
            f"watchdog: {said(self.watchdog, 's')}, then {self.ease_after:g} s later to rest at "
            f"{self.ease_speed:g}/s; idle detach: {said(self.idle_detach, 's')}; longest step "
            f"{self.longest_step:g} s",
            f"temperature: {said(self.max_temperature, 'C')}; voltage: {said(self.min_voltage, 'V')}; "
            f"stall: {said(self.stall, '(command, s)')}",
            f"couplings: {', '.join(r.name for r in self.couplings.rules) or 'off'}",
            f"{'motor':<22}{'soft limits':>14}{'speed 1/s':>12}{'acc. 1/s2':>12}",
        ]
        for i, name in enumerate(self.spec.names):
            limits = f"{self.lower[i]:.2f} to {self.upper[i]:.2f}"
            lines.append(f"{name:<22}{limits:>14}{self.max_speed[i]:>12.2f}{self.max_acceleration[i]:>12.1f}")
        return "\n".join(lines)

    def reset(self) -> None:
        """Clear a latched fault; `activate` follows if the rig was released."""
        with self._lock:
            self.fault = ""
            self._stalled_since = np.full(self.spec.size, np.nan)
            if self.inner.status.state == OPEN and self.status.state in (ACTIVE, HELD):
                self.release()

    # --- hooks ---------------------------------------------------------------------------------

    def _open(self) -> None:
        self.inner.open()

    def _ready(self, what: str) -> None:
        if self.fault:
            raise RigFault("a fault is latched", where=what, found=self.fault, hint="reset() first")

    def _activate(self, present: Floats) -> None:
        self.inner.activate()
        state = self.inner.read()
        self._forget(np.where(np.isfinite(state.commanded), state.commanded, present))
        if self.watchdog is not None:
            self._timer = self.clock.every(_PERIOD, self._look)

    def _write(self, command: Floats) -> Floats:
        now = self.clock.now()
        if now > self._time:
            self._base, self._speed, self._since = self._at, self._velocity, self._time
            self._time = now
        if self._stage and now > self._written:  # after the watchdog it starts gently
            self._since = max(self._since, now - _PERIOD)
        # A second command within the same instant replaces the first one: it starts from where that did.
        dt = min(self._time - self._since, self.longest_step)
        changes: dict[str, Change] = {}
        if self.status.clipped:
            changes["range"] = dict(self.status.clipped)
        goal = self._goal(command, changes)
        at = self._step(self._base, self._speed, goal, dt, self.max_speed, changes)
        self._send(at, dt)
        self.last_change = changes
        self._written, self._stage = now, ""
        return at

    def _read(self) -> RigState:
        state = self.inner.read()
        self._judge(state)
        return state

    def _capture(self) -> Frame:
        return self.inner.capture()

    def _hold(self) -> None:
        self.inner.hold()
        self._velocity = np.zeros(self.spec.size)

    def _release(self) -> None:
        self._stop_timer()
        self.inner.release()

    def _close(self) -> None:
        self._stop_timer()
        self.inner.close()

    def _home(self, seed: int | None) -> bool:
        with self.inner._lock:
            if self.fault or not self.inner._home(seed):
                return False
            self.inner._commanded = self.spec.rest.copy()
        self._forget(self.spec.rest)
        return True

    # --- the way of a command ----------------------------------------------------------------------

    def _goal(self, command: Floats, changes: dict[str, Change]) -> Floats:
        soft = np.clip(command, self.lower, self.upper)
        self._note(changes, "soft limit", command, soft)
        goal = soft
        if not self.couplings.allowed(soft):
            goal = self.couplings.project(soft, self.lower, self.upper)
            for name in self.couplings.violations(soft):
                self._note(changes, f"coupling: {name}", soft, goal)
        return goal

    def _step(
        self, x: Floats, v: Floats, goal: Floats, dt: float, speed: Floats, changes: dict[str, Change]
    ) -> Floats:
        """Where to be `dt` s after being at `x` with speed `v`, on the way to `goal`, all [shape=(n,)]."""
        if dt <= 0:
            return x.copy()
        out, reason = np.empty_like(x), np.empty(len(x), np.int64)
        toward(x, v, goal, dt, speed, self.max_acceleration, out, reason)
        if reason.any():
            self._note(changes, "speed", goal, np.where(reason == SPEED, out, goal))
            self._note(changes, "acceleration", goal, np.where(reason == ACCELERATION, out, goal))
        if not self.couplings.allowed(out):
            low, high = np.minimum(x, out), np.maximum(x, out)
            try:
                kept = self.couplings.project(out, low, high)  # x itself is allowed: there is an answer
            except FaceTwinError:
                kept = out  # it started in a forbidden pose, and leaves it
            self._note(changes, "coupling on the way", out, kept)
            out = kept
        return out

    def _send(self, at: Floats, dt: float) -> None:
        try:
            sent = self.inner.write(at)
        except FaceTwinError as error:
            self._latch(f"write: {error}")
            raise
        self._at = sent
        self._velocity = (sent - self._base) / dt if dt > 0 else self._speed

    def _forget(self, at: Floats) -> None:
        """Stand still at a command."""
        self._at = self._base = np.array(at, dtype=np.float64)
        self._velocity = self._speed = np.zeros(self.spec.size)
        self._time = self._written = self.clock.now()
        self._since = self._time - _PERIOD  # a first command in this very instant may move, too
        self._stage = ""
        self._idle_since: float | None = None
        self._stalled_since = np.full(self.spec.size, np.nan)
        self._seen = np.full(self.spec.size, np.nan)

    def _note(self, changes: dict[str, Change], rule: str, before: Floats, after: Floats) -> None:
        where = np.flatnonzero(before != after)
        if len(where):
            names = self.spec.names
            changes[rule] = {names[i]: (float(before[i]), float(after[i])) for i in where}

    # --- what it watches ---------------------------------------------------------------------------

    def _look(self) -> None:
        """The watchdog's turn, every `_PERIOD` s of the rig's clock."""
        with self._lock:
            if self.status.state not in (ACTIVE, HELD) or self.watchdog is None:
                return
            now = self.clock.now()
            if self.fault:
                if now - self._faulty_since >= self.ease_after:
                    self._latch(self.fault, off=True)
                return
            silent = now - self._written
            if silent < self.watchdog - 1e-9:
                return
            try:
                if self._stage == "":
                    self._stage = "held"
                    self.trips += 1
                    self.status.reason = f"watchdog: no write for {self.watchdog:g} s"
                    self.hold()
                elif self._stage == "held":
                    if silent >= self.watchdog + self.ease_after - 1e-9:
                        self._stage, self._time = "easing", now
                elif self._stage == "easing":
                    self._ease(now)
                elif self.idle_detach is not None and now - (self._idle_since or now) >= self.idle_detach:
                    self.status.reason = f"idle for {self.idle_detach:g} s"
                    self.release()
                    if self.on_idle is not None:
                        self.on_idle()
            except Exception as error:  # whatever it is, the watchdog lives on
                self._latch(f"watchdog: {error or type(error).__name__}")

    def _ease(self, now: float) -> None:
        dt = min(now - self._time, self.longest_step)
        self._base, self._speed, self._since, self._time = self._at, self._velocity, self._time, now
        slow = np.minimum(self.max_speed, self.ease_speed)
        at = self._step(self._base, self._speed, self.spec.rest, dt, slow, {})
        self._send(at, dt)
        if np.array_equal(at, self.spec.rest):
            self._stage, self._idle_since = "rest", now
            self.status.reason += ", came to rest"

    def _judge(self, state: RigState) -> None:
        """Latch what the servos complain about."""
        if self.fault or self.status.state not in (ACTIVE, HELD):
            return
        names = self.spec.names
        if self.max_temperature is not None and (hot := state.temperature > self.max_temperature).any():
            i = int(np.flatnonzero(hot)[0])
            self._latch(
                f"{names[i]}: {state.temperature[i]:.0f} C, limit {self.max_temperature:g} C", off=True
            )
        elif self.min_voltage is not None and (low := state.voltage < self.min_voltage).any():
            i = int(np.flatnonzero(low)[0])
            self._latch(f"{names[i]}: {state.voltage[i]:.2f} V, limit {self.min_voltage:g} V")
        elif state.faults:
            self._latch("; ".join(state.faults))
        elif self.stall is not None:
            distance, patience = self.stall
            away = np.abs(state.measured - state.commanded) > distance  # NaN is never away
            still = np.abs(state.measured - self._seen) < 0.01
            fresh = away & ~(still & np.isfinite(self._stalled_since))
            self._seen = np.where(fresh, state.measured, self._seen)
            self._stalled_since = np.where(fresh, state.time, np.where(away, self._stalled_since, np.nan))
            stuck = state.time - self._stalled_since > patience
            if stuck.any():
                i = int(np.flatnonzero(stuck)[0])
                self._latch(
                    f"{names[i]}: stalled at {state.measured[i]:.2f}, command {state.commanded[i]:.2f}",
                    off=True,
                )

    def _latch(self, reason: str, off: bool = False) -> None:
        """Refuse to move until `reset`: hold and later release, or switch off at once what would burn."""
        if not self.fault:
            self.fault, self._faulty_since = reason, self.clock.now()
        self.status.reason = self.fault
        try:
            if off:
                self.release()
            elif self.inner.status.state == ACTIVE:
                self.inner.hold()
                self.status.state = HELD
        except (FaceTwinError, OSError) as error:
            self.status.reason = self.fault + f"; then: {error}"

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
