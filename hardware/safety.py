"""The safety layer: a rig that stands in front of every rig, the simulated one included.

What it does to a command, in this order: refuse what is not finite (the contract does), clip to the soft
limits, move to the nearest command that the couplings allow, and go there no faster than the motors'
speed and acceleration permit, from the last command sent, without passing a limit or a forbidden
combination on the way (`facetwin.hardware.safety_kernels` says how that is kept). It also watches: for
silence of the program (hold, then ease to rest), and for what the servos report (latched until `reset`).
Limits of motors live in the rig file, not in drivers; the rest is `SafetySettings`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from facetwin.hardware.clock import Timer
from facetwin.hardware.rig import ACTIVE, HELD, OPEN, Capabilities, Floats, Frame, Rig, RigFault, RigState
from facetwin.hardware.safety_kernels import ACCELERATION, COUPLING, SPEED, rules_of, step
from facetwin.hardware.safety_settings import SafetySettings
from facetwin.hardware.safety_watch import Watch
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError

Change = dict[str, tuple[float, float]]
_Motion = tuple[Floats, Floats, Floats, float]  # where, speed, stopping point, time of the last step
_Noted = list[tuple[str, Floats, Floats]]  # rule, before, after
_PERIOD = 0.02  # s, how often the watchdog looks
_ROUNDING = 0.005  # commands: a driver that sent something so near only rounded it
_AGAIN = 1.0  # s between attempts to switch motors off that did not hear
_LATELY = 0.1  # s: who wrote so lately will write again
_STUCK = 20.0  # s, longest way to rest

_log = logging.getLogger("facetwin.safety")


class SafetyLayer(Rig):
    """A safe rig made of another one.

    Parameters
    ----------
    rig : Rig
        Not active yet. A rig from a face file brings the file's settings.
    settings : SafetySettings, optional
        Instead of the default ones.
    on_idle : callable, optional
        Called once when idle motors are switched off.
    on_warning : callable, optional
        Called once with the text of each new warning; by default it is logged (``facetwin.safety``), which
        Python prints on stderr.
    changes
        Single settings by name, e.g. ``watchdog=None``, ``temperature=("stop", 65)``, ``stall="off"``; they
        win over the face file's.

    Attributes
    ----------
    settings : SafetySettings
    fault : str
        Why it refuses to move, or empty.
    seen : RigState or None
        The newest state, whoever asked for it.
    trips : int
        How often the watchdog had to hold the face.
    polls : bool
        It reads by itself, every `settings.poll` s.
    """

    retries = 0  # the rig behind has done its own

    def __init__(
        self,
        rig: Rig,
        settings: SafetySettings | None = None,
        *,
        on_idle: Callable[[], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
        **changes: Any,
    ) -> None:
        super().__init__(rig.spec, rig.clock)
        self.inner = rig
        self.settings = (settings or SafetySettings().with_(rig.safety)).with_(changes)
        self.on_idle, self.on_warning = on_idle, on_warning
        self.couplings = Couplings(rig.spec)
        self._rules = rules_of(self.couplings)
        self.lower, self.upper = rig.spec.soft_limits
        self.max_speed = np.array([m.max_speed for m in rig.spec.motors]) / rig.spec.span  # commands/s
        self.max_acceleration = np.array([m.max_acceleration for m in rig.spec.motors]) / rig.spec.span
        self._noted: _Noted = []
        self.fault = ""
        self.seen: RigState | None = None
        self._faulty_since = 0.0
        self.trips = 0
        self.polls = self.settings.poll is not None
        self._timer: Timer | None = None
        self._watch = Watch(self.settings, rig.spec.names)
        self._on, self._tried = False, 0.0  # motors that may be on though they were told to be off
        self._stage = ""  # of the watchdog: "", "held", "easing", "rest"
        self._time = self._written = self._polled = 0.0
        self._now: _Motion = (rig.spec.rest, np.zeros(rig.spec.size), rig.spec.rest, 0.0)
        self._forget(rig.spec.rest)

    @property
    def watchdog(self) -> float | None:
        """Without a `write` for so long (s) the face is held; None: off."""
        return self.settings.watchdog

    @property
    def longest_step(self) -> float:
        """The most time (s) that a step may make use of."""
        return self.settings.longest_step

    @property
    def last_change(self) -> dict[str, Change]:
        """What the last `write` did to the command: rule -> {motor: (before, after)}.

        Rules: ``range``, ``soft limit``, ``coupling: NAME``, ``speed``, ``acceleration``, ``coupling on the
        way``.
        """
        out: dict[str, Change] = {}
        if self.status.clipped:
            out["range"] = dict(self.status.clipped)
        for rule, before, after in self._noted:
            where = np.flatnonzero(before != after)
            if not len(where):
                continue
            change = {self.spec.names[i]: (float(before[i]), float(after[i])) for i in where}
            broken = self.couplings.violations(before) if rule == "coupling" else ()
            out.update({f"coupling: {name}": change for name in broken} if broken else {rule: change})
        return out

    @property
    def capabilities(self) -> Capabilities:
        """Those of the rig behind."""
        return self.inner.capabilities

    def describe(self) -> str:
        """All limits, also those that are off, as a table for people."""
        lines = [
            *self.settings.describe().splitlines(),
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
            self._watch.reset()
            self.status.warnings = ()
            if self.inner.status.state == OPEN and self.status.state in (ACTIVE, HELD):
                self.release()

    # --- hooks ---------------------------------------------------------------------------------

    def _open(self) -> None:
        self.inner.open()

    def _ready(self, what: str) -> None:
        if self.fault:
            raise RigFault("a fault is latched", where=what, found=self.fault, hint="reset() first")

    def _activate(self, present: Floats) -> None:
        if not self.capabilities.harmless:
            _log.info("%s", self.describe())
        self.inner.activate()
        state = self.inner.read()
        self._forget(np.where(np.isfinite(state.commanded), state.commanded, present))
        self._polled = self.clock.now()
        self._stop_timer()
        self._timer = self.clock.every(_PERIOD, self._look)

    def _write(self, command: Floats) -> Floats:
        now = self.clock.now()
        if now > self._time:
            self._from, self._from_time, self._time = self._now, self._time, now
        # A second command within the same instant replaces the first one: it starts from where that did.
        gap = self._time - self._from_time
        noted: _Noted = []
        goal = self._goal(command, noted)
        gentle = bool(self._stage)  # it starts so after the watchdog
        sent = self._move(goal, gap, self.max_speed, noted, gentle)
        self._noted = noted
        self._written, self._stage = now, ""
        return sent

    def _read(self) -> RigState:
        state = self.inner.read()
        self._polled, self.seen = self.clock.now(), state
        self._judge(state)
        return state

    def _capture(self) -> Frame:
        return self.inner.capture()

    def _hold(self) -> None:
        self.inner.hold()
        self._stand(self._now[0])

    def _release(self) -> None:
        self._on = True
        self.inner.release()
        self._on = False
        self._stop_timer()

    def _close(self) -> None:
        self._stop_timer()
        self.inner.close()

    def _home(self, seed: int | None) -> bool:
        with self.inner._lock:
            if self.fault or not self.inner._home(seed):
                return False
            self.inner._commanded = self.spec.rest.copy()
        self._forget(self.spec.rest)
        self._polled = self.clock.now()
        return True

    # --- the way of a command ----------------------------------------------------------------------

    def _goal(self, command: Floats, noted: _Noted) -> Floats:
        soft = np.clip(command, self.lower, self.upper)
        noted.append(("soft limit", command, soft))
        if self.couplings.allowed(soft):
            return soft
        goal = self.couplings.project(soft, self.lower, self.upper)
        noted.append(("coupling", soft, goal))
        return goal

    def _move(self, goal: Floats, gap: float, speed: Floats, noted: _Noted, gentle: bool = False) -> Floats:
        """Send the next step towards a goal, `gap` s after `self._from`; returns what was sent."""
        x, v, held, last = self._from
        dt = self.settings.longest_step
        if gap <= dt:
            dt = gap
        else:  # it stood
            v, held, last = np.zeros_like(x), x, 0.0
            dt = min(dt, _PERIOD) if gentle else dt
        out, velocity, stop = np.empty_like(x), np.empty_like(x), np.empty_like(x)
        reason = np.empty(len(x), np.int64)
        step(
            x, v, held, last, goal, dt, speed, self.max_acceleration, self._rules, out, velocity, stop, reason
        )
        if reason.any():
            for code, rule in _RULES.items():
                noted.append((rule, goal, np.where(reason == code, out, goal)))
        try:
            sent = self.inner.write(out)
        except FaceTwinError as error:
            self._latch(f"write: {error}")
            raise
        # Rounded by the driver, it goes on from where it was sent: steps smaller than a unit of the wire
        # would never add up otherwise. Kept from going there by something else, it stands there.
        other = np.abs(sent - out) > _ROUNDING
        if other.any():
            out, velocity, stop = (
                np.where(other, a, b) for a, b in ((sent, out), (0.0, velocity), (sent, stop))
            )
        self._now = (out, velocity, stop, dt)
        return sent

    def _stand(self, at: Floats) -> None:
        """Take it that the face stands at a command, still."""
        at = np.array(at, dtype=np.float64)
        self._now = self._from = (at, np.zeros(self.spec.size), at, 0.0)

    def _forget(self, at: Floats) -> None:
        """Stand at a command as if nothing had been."""
        self._stand(at)
        self._time = self._written = self._polled = self.clock.now()
        self._from_time = self._time - _PERIOD  # a first command in this very instant may move, too
        self._stage = ""
        self._idle_since: float | None = None
        self._watch.reset()
        self.status.warnings = ()

    # --- what it watches ---------------------------------------------------------------------------

    def _look(self) -> None:
        """The watchdog's turn, every `_PERIOD` s of the rig's clock."""
        with self._lock:
            try:
                now = self.clock.now()
                if self.status.state not in (ACTIVE, HELD):
                    self._insist(now)
                    return
                if self.fault:
                    if now - self._faulty_since >= self.settings.ease_after:
                        self._latch(self.fault, off=True)
                    return
                if now - self._written > _LATELY:
                    self._poll(now)
                if not self.fault:
                    self._guard(now, now - self._written)
            except Exception as error:  # whatever it is, the watchdog lives on
                self._latch(f"watchdog: {error or type(error).__name__}")

    def _insist(self, now: float) -> None:
        """Motors that could not be switched off: try again, every second."""
        if not self._on or now - self._tried < _AGAIN:
            return
        self._tried = now
        with contextlib.suppress(Exception):
            self.inner.release()
            self._on = False
            self.status.reason += "; released later"
            self._stop_timer()

    def _after_write(self) -> None:
        # Who writes is read for after a command has gone, so that none has to wait for an answer.
        self._poll(self._time)

    def _poll(self, now: float) -> None:
        """Read the state, if nobody has for long enough."""
        poll = self.settings.poll
        if not self.polls or poll is None or self.fault or now - self._polled < poll - 1e-9:
            return
        try:
            self._read()
        except Exception as error:
            self._latch(f"read: {error or type(error).__name__}")

    def _guard(self, now: float, silent: float) -> None:
        """What to do about a program that has been silent for so long (s)."""
        s = self.settings
        if s.watchdog is None:
            if s.idle_detach is not None and silent >= s.idle_detach - 1e-9:
                self._detach()
        elif silent < s.watchdog - 1e-9:
            return
        elif self._stage == "":
            self._stage = "held"
            self.trips += 1
            self.status.reason = f"watchdog: no write for {s.watchdog:g} s"
            self.hold()
        elif self._stage == "held":
            if silent >= s.watchdog + s.ease_after - 1e-9:
                self._stage, self._time = "easing", now
        elif self._stage == "easing":
            self._ease(now, silent)
        elif s.idle_detach is not None and now - (self._idle_since or now) >= s.idle_detach:
            self._detach()

    def _ease(self, now: float, silent: float) -> None:
        self._from, self._from_time, self._time = self._now, self._time, now
        slow = np.minimum(self.max_speed, self.settings.ease_speed)
        self._move(self.spec.rest, now - self._from_time, slow, [])
        there = np.array_equal(self._now[0], self.spec.rest)
        if there or silent > _STUCK + (self.settings.watchdog or 0) + self.settings.ease_after:
            self._stage, self._idle_since = "rest", now
            self.status.reason += ", came to rest" if there else ", did not come to rest"

    def _detach(self) -> None:
        self.status.reason = f"idle for {self.settings.idle_detach:g} s"
        self.release()
        if self.on_idle is not None:
            self.on_idle()

    def _judge(self, state: RigState) -> None:
        """Latch what the servos complain about, and tell what is not right yet."""
        if self.fault or self.status.state not in (ACTIVE, HELD):
            return
        stop, new = self._watch.judge(state)
        self.status.warnings = tuple(self._watch.warnings.values())
        for text in new:
            if self.on_warning is not None:
                self.on_warning(text)
            else:
                _log.warning("%s", text)
        if stop is not None:
            self._latch(stop.text, off=stop.off)

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
                self._stand(self._now[0])
                self.status.state = HELD
        except Exception as error:
            self.status.reason = self.fault + f"; then: {error or type(error).__name__}"

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


_RULES = {SPEED: "speed", ACCELERATION: "acceleration", COUPLING: "coupling on the way"}
