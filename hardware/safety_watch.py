"""What the safety layer thinks of the states that servos report: warnings, and reasons to stop."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.rig import Floats, RigState
from facetwin.hardware.safety_settings import Level, SafetySettings

MOVED = 0.01  # commands: a motor that is stalled moves less
CALM = 1.0  # s, without which a warning is still the same one


class Reason(NamedTuple):
    """Why to stop, and whether motors must be switched off at once because something would burn."""

    text: str
    off: bool


class Watch:
    """Judges states, one after another.

    Parameters
    ----------
    settings : SafetySettings
    names : tuple of str
        Motors.

    Attributes
    ----------
    warnings : dict
        What is not right now: (kind, motor or complaint) -> text.
    """

    def __init__(self, settings: SafetySettings, names: tuple[str, ...]) -> None:
        self._settings, self._names = settings, names
        self._limits = [
            (kind, action, level)
            for action in ("stop", "warn")  # a stop makes the warning needless
            for kind in ("temperature", "voltage", "overload", "stall")
            if (level := getattr(getattr(settings, kind), action)) is not None
        ]
        self.warnings: dict[tuple[str, str], str] = {}
        self.reset()

    def reset(self) -> None:
        """Forget how long anything has lasted; `warnings` too."""
        n = len(self._names)
        self._since = {key[:2]: np.full(n, np.nan) for key in self._limits}
        self._place = {key[:2]: np.full(n, np.nan) for key in self._limits if key[0] == "stall"}
        self.warnings.clear()
        self._warned: dict[tuple[str, str], float] = {}  # when it was last so

    def judge(self, state: RigState) -> tuple[Reason | None, list[str]]:
        """The reason to stop, if there is one, and the warnings that are new with this state."""
        new: list[str] = []
        for kind, action, level in self._limits:
            lasting = self._lasting(kind, action, level, state)
            if not lasting.any():
                continue
            for i in np.flatnonzero(lasting):
                text = self._text(kind, level, int(i), state)
                if action == "stop":
                    return Reason(text, off=kind != "voltage"), new
                self._warn((kind, self._names[i]), text, state.time, new)
        if self._settings.faults == "stop" and state.faults:
            return Reason("; ".join(state.faults), off=False), new
        if self._settings.faults == "warn":
            for fault in state.faults:
                self._warn(("fault", fault), fault, state.time, new)
        for key in [k for k, last in self._warned.items() if state.time - last > CALM]:
            del self._warned[key], self.warnings[key]
        return None, new

    def _warn(self, key: tuple[str, str], text: str, time: float, new: list[str]) -> None:
        if key not in self.warnings:
            new.append(text)
        self.warnings[key], self._warned[key] = text, time

    def _lasting(self, kind: str, action: str, level: Level, state: RigState) -> NDArray[np.bool_]:
        """Motors that have been beyond a level for as long as it takes; what is not known never is."""
        since = self._since[kind, action]
        if kind == "stall":
            away = np.abs(state.measured - state.commanded) > level.value
            place = self._place[kind, action]
            moves = away & ~(np.abs(state.measured - place) < MOVED)
            place[moves] = state.measured[moves]
            since[moves] = state.time
        else:
            away = _beyond(kind, level.value, state)
            since[away & np.isnan(since)] = state.time
        since[~away] = np.nan
        if kind == "stall":
            self._place[kind, action][~away] = np.nan
        lasting: NDArray[np.bool_] = state.time - since >= level.time
        return lasting

    def _text(self, kind: str, level: Level, i: int, state: RigState) -> str:
        name = self._names[i]
        lasting = f" for {level.time:g} s" if level.time else ""
        if kind == "temperature":
            return f"{name}: {state.temperature[i]:.0f} C, limit {level.value:g} C{lasting}"
        if kind == "voltage":
            return f"{name}: {state.voltage[i]:.2f} V, limit {level.value:g} V{lasting}"
        if kind == "overload":
            return f"{name}: load {state.load[i]:.2f} of stall, limit {level.value:g}{lasting}"
        return f"{name}: stalled at {state.measured[i]:.2f}, command {state.commanded[i]:.2f}"


def _beyond(kind: str, value: float, state: RigState) -> NDArray[np.bool_]:
    load: Floats = np.abs(state.load)
    beyond: NDArray[np.bool_] = {
        "temperature": state.temperature > value,
        "voltage": state.voltage < value,
        "overload": load > value,
    }[kind]
    return beyond
