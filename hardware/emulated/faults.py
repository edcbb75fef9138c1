"""What goes wrong on the emulated robot, and when it is over.

| kind | what happens | how it is set |
|---|---|---|
| drop | bytes are lost on the wire | rate (share of bytes), where |
| corrupt | one bit of a byte is flipped | rate (share of bytes), where |
| delay | each answer comes later | delay (s), default .03 |
| silent | a servo hears and says nothing (a Maestro: its board) | motor |
| latched | a servo reports an overload and goes limp until it is rebooted | motor |
| hot | a servo warms up | motor, rate (degrees C/s, default 20) |
| stall | a servo is blocked where it stands | motor |
| brownout | the supply sags, servos and boards start again | depth (V), duration (s), default .2 |
| unplug | the cable is pulled | plugged in again after `duration`, or by "plug" |

`where` is "both", "robot" (what the robot hears) or "driver" (what the driver hears). Every fault may have
a `duration` (s); without one it lasts until `clear`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facetwin.twin.errors import UsageError

#: kind -> what `Emulator.fault` takes for it, with defaults
KINDS: dict[str, dict[str, float | str | int | None]] = {
    "drop": {"rate": 0.02, "where": "both"},
    "corrupt": {"rate": 0.02, "where": "both"},
    "delay": {"delay": 0.03},
    "silent": {"motor": 0},
    "latched": {"motor": 0},
    "hot": {"motor": 0, "rate": 20.0},
    "stall": {"motor": 0},
    "brownout": {"depth": 4.0, "duration": 0.2},
    "unplug": {},
    "plug": {},
}
WHERE = ("both", "robot", "driver")


@dataclass
class Fault:
    """One fault that is on."""

    kind: str
    until: float = float("inf")  # s, monotonic
    motor: int = 0
    rate: float = 0.0
    delay: float = 0.0
    depth: float = 0.0
    where: str = "both"


def checked(kind: str, how: dict[str, object], names: tuple[str, ...]) -> dict[str, object]:
    """The settings of a fault, complete; raises `UsageError` for an unknown kind, setting or motor."""
    if kind not in KINDS:
        raise UsageError("no such fault", found=kind, expected="one of " + ", ".join(KINDS))
    takes = {**KINDS[kind], "duration": KINDS[kind].get("duration")}
    out: dict[str, object] = dict(takes)
    for key, value in how.items():
        if key not in takes:
            raise UsageError("no such setting", where=f"fault {kind}", found=key,
                             expected="of " + ", ".join(takes))  # fmt: skip
        out[key] = value
    if "motor" in takes:
        motor = out["motor"]
        if isinstance(motor, str):
            if motor not in names:
                raise UsageError("no such motor", where=f"fault {kind}", found=motor)
            out["motor"] = names.index(motor)
        elif not isinstance(motor, (int, np.integer)) or not 0 <= int(motor) < len(names):
            raise UsageError("no such motor", where=f"fault {kind}", found=motor,
                             expected=f"a name or a number from 0 to {len(names) - 1}")  # fmt: skip
        else:
            out["motor"] = int(motor)
    if out.get("where", "both") not in WHERE:
        raise UsageError("no such side", where=f"fault {kind}", found=out["where"],
                         expected="one of " + ", ".join(WHERE))  # fmt: skip
    for key in ("rate", "delay", "depth", "duration"):
        value = out.get(key)
        if value is None:
            continue
        good = isinstance(value, (int, float)) and np.isfinite(value) and value >= 0
        if not good or (key == "rate" and kind != "hot" and float(value) > 1):  # type: ignore[arg-type]
            raise UsageError("not a size of a fault", where=f"fault {kind}: {key}", found=value,
                             expected="a number from 0, a rate of bytes at most 1")  # fmt: skip
    return out


class Faults:
    """The faults that are on, and the dice."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 13])
        self.on: list[Fault] = []
        self.dropped = self.flipped = 0

    def add(self, fault: Fault) -> None:
        """One more."""
        self.on.append(fault)

    def over(self, now: float) -> list[Fault]:
        """Those that ended by `now` (s); they are taken away."""
        done = [f for f in self.on if f.until <= now]
        if done:
            self.on = [f for f in self.on if f.until > now]
        return done

    def of(self, kind: str) -> list[Fault]:
        """Those of one kind."""
        return [f for f in self.on if f.kind == kind]

    @property
    def next(self) -> float:
        """When the next one ends, s."""
        return min((f.until for f in self.on), default=float("inf"))

    def delay(self) -> float:
        """By how much answers are late, s."""
        return sum(f.delay for f in self.of("delay"))

    def spoil(self, byte: int, side: str) -> int | None:
        """A byte on its way to the "robot" or the "driver": the same, another one, or None for lost."""
        for fault in self.on:
            if fault.kind in ("drop", "corrupt") and fault.where in ("both", side):
                if self._rng.random() >= fault.rate:
                    continue
                if fault.kind == "drop":
                    self.dropped += 1
                    return None
                self.flipped += 1
                byte ^= 1 << int(self._rng.integers(8))
        return byte
