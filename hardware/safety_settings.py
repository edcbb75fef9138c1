"""Settings of the safety layer, and what it does about what servos report: nothing, warn, or stop."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from facetwin.twin.errors import UsageError

ACTIONS = ("off", "warn", "stop")


class Level(NamedTuple):
    """A value, and how long (s) it must be passed to count."""

    value: float
    time: float = 0.0


class Limit(NamedTuple):
    """From where on to warn and to stop; None: off.

    >>> Limit.of(70), Limit.of(("warn", 60)).stop
    (Limit(warn=None, stop=Level(value=70.0, time=0.0)), None)
    >>> Limit.of({"warn": 60, "stop": (70, 1.5)}).stop
    Level(value=70.0, time=1.5)
    """

    warn: Level | None = None
    stop: Level | None = None

    @classmethod
    def of(cls, given: Any, where: str = "limit", low: float = -math.inf, high: float = math.inf) -> Limit:
        """From ``None`` or "off", ``70`` or ``(70, seconds)`` (stop), ``("warn", 60)``, or
        ``{"warn": 60, "stop": (70, seconds)}``; values from low to high. Raises `UsageError`."""
        if isinstance(given, Limit):
            given = {"warn": given.warn, "stop": given.stop}
        if given is None or given is False or given == "off":
            return cls()
        if isinstance(given, Mapping):
            pairs = dict(given)
        elif isinstance(given, (list, tuple)) and given and isinstance(given[0], str):
            pairs = {given[0]: given[1] if len(given) == 2 else tuple(given[1:])}
        else:
            pairs = {"stop": given}
        levels: dict[str, Level | None] = {}
        for action, value in pairs.items():
            if action == "off":
                continue
            if action not in ACTIONS:
                raise _wrong(where, action, "off, warn or stop", action, ACTIONS)
            levels[action] = None if value is None or value == "off" else _level(value, where, low, high)
        return cls(**levels)

    def said(self, sign: str, unit: str) -> str:
        """The limit for people, e.g. ``warn > 60 C, stop > 70 C for 1 s``, or ``off``."""
        parts = []
        for action, level in (("warn", self.warn), ("stop", self.stop)):
            if level is not None:
                lasting = f" for {level.time:g} s" if level.time else ""
                parts.append(f"{action} {sign} {level.value:g} {unit}{lasting}".replace("  ", " ").rstrip())
        return ", ".join(parts) or "off"


@dataclass(frozen=True)
class SafetySettings:
    """What the safety layer watches, beside the limits of the rig table.

    A limit is off, or warns, or stops (`Limit.of` says how it is written).

    Attributes
    ----------
    watchdog : float, s, or None
        Without a `write` for so long the face is held; None: off.
    ease_after : float, s
        After so much longer it travels to rest; a rig held by a fault is switched off then.
    ease_speed : float, commands/s
        How fast it travels to rest.
    idle_detach : float, s, or None
        So long after it came to rest by itself, motors are switched off; without a watchdog, so long after
        the last `write`. None: off.
    longest_step : float, s
        However long ago the last command was, the next step is no longer than this time allows; after a
        longer pause the face counts as standing.
    poll : float, s, or None
        The state is read at least so often while motors are on, whether the program reads it or not, so that
        the limits below are watched. None: only when the program reads.
    temperature : limit, degrees C
        Above it is too hot; motors are switched off at once.
    voltage : limit, V
        Below it is too low; the face is held, then released.
    overload : limit, share of the stall torque, s
        A load above it for so long; motors are switched off at once.
    stall : limit, commands, s
        So far from the command without moving for so long; motors are switched off at once.
    faults : "off", "warn" or "stop"
        What servos complain about themselves; the face is held, then released.
    """

    watchdog: float | None = 1.0
    ease_after: float = 2.0
    ease_speed: float = 0.5
    idle_detach: float | None = None
    longest_step: float = 0.1
    poll: float | None = 0.2
    temperature: Any = Limit(Level(60.0), Level(70.0))  # noqa: RUF009 (a tuple)
    voltage: Any = Limit()  # noqa: RUF009
    overload: Any = Limit(Level(0.9, 2.0))  # noqa: RUF009
    stall: Any = Limit(None, Level(0.25, 0.5))  # noqa: RUF009
    faults: str = "stop"

    def __post_init__(self) -> None:
        for key in ("watchdog", "idle_detach", "ease_after", "ease_speed", "longest_step", "poll"):
            value = getattr(self, key)
            if value in (False, "off") and value != 0:
                value = None
            needed = key in ("ease_after", "ease_speed", "longest_step")
            good = isinstance(value, (int, float)) and not isinstance(value, bool)
            if key == "longest_step" and good and not 0 < value <= 1:
                raise _wrong(key, value, "above 0, at most 1 s")
            if (value is None and needed) or (value is not None and not (good and 0 < value < math.inf)):
                raise _wrong(key, value, "above 0" + ("" if needed else ", or None"))
            object.__setattr__(self, key, value)
        for key, (low, high) in _RANGES.items():
            object.__setattr__(self, key, Limit.of(getattr(self, key), key, low, high))
        if any(level is not None and level.time <= 0 for level in self.stall):
            raise _wrong("stall", self.stall, "a distance and a time, e.g. (0.25, 0.5)")
        if self.faults not in ACTIONS:
            raise _wrong("faults", self.faults, "off, warn or stop", self.faults, ACTIONS)

    def with_(self, changes: Mapping[str, Any]) -> SafetySettings:
        """A changed copy, checked; also takes ``max_temperature`` (C) and ``min_voltage`` (V), which stop."""
        known = [f.name for f in fields(self)]
        values = {name: getattr(self, name) for name in known}
        for key, value in changes.items():
            if key in ("max_temperature", "min_voltage"):
                name = key[4:]
                values[name] = values[name]._replace(stop=None if value is None else Level(value))
            elif key in known:
                values[key] = value
            else:
                raise _wrong(key, value, "one of " + ", ".join(known), key, known, "no such setting")
        return SafetySettings(**values)

    def describe(self) -> str:
        """All of them for people, also those that are off."""

        def said(value: float | None, unit: str) -> str:
            return "off" if value is None else f"{value:g} {unit}"

        return "\n".join([
            f"watchdog: {said(self.watchdog, 's')}, then {self.ease_after:g} s later to rest at "
            f"{self.ease_speed:g}/s; idle detach: {said(self.idle_detach, 's')}; longest step "
            f"{self.longest_step:g} s; state read every {said(self.poll, 's')}",
            f"temperature: {self.temperature.said('>', 'C')}; voltage: {self.voltage.said('<', 'V')}; "
            f"overload: {self.overload.said('>', '')}; stall: {self.stall.said('>', 'off the command')}; "
            f"faults of servos: {self.faults}",
        ])  # fmt: skip


_RANGES = {
    "temperature": (-20.0, 200.0), "voltage": (0.5, 100.0), "overload": (0.01, 10.0), "stall": (0.01, 1.0)
}  # fmt: skip


def _level(value: Any, where: str, low: float, high: float) -> Level:
    if isinstance(value, (list, tuple)) and len(value) == 2:
        number, time = value
    else:
        number, time = value, 0.0
    for part, least, most in ((number, low, high), (time, 0.0, 3600.0)):
        good = isinstance(part, (int, float)) and not isinstance(part, bool)
        if not good or not least <= part <= most:
            raise _wrong(where, value, f"a number from {low:g} to {high:g}, or (number, seconds)")
    return Level(float(number), float(time))


def _wrong(
    key: str, found: Any, expected: str, word: str = "", options: Any = (), what: str = "bad setting"
) -> UsageError:
    close = difflib.get_close_matches(str(word), list(options), 1) if word else []
    return UsageError(what, where=f"SafetyLayer: {key}", found=found, expected=expected,
                      hint=f"did you mean {close[0]}?" if close else None)  # fmt: skip
