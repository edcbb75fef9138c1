"""What every emulated board has in common: how motors are wired to it, and a log of goals.

The wiring is the robot's own: arithmetic here is not that of `facetwin.hardware.wiring`, so that a mistake
there shows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from facetwin.hardware.emulated.faults import Faults
from facetwin.hardware.emulated.servos import Servos

#: frames of goals that the logs keep
KEPT = 20000
#: goals of a motor that count as lately asked for
LATELY = 400


@dataclass(frozen=True)
class Horns:
    """How the servos are mounted: where each hangs, and what its units are; lists of one entry a motor."""

    bus: list[int]
    channel: list[int]
    zero: list[float]
    per_rad: list[float]
    lower: list[float]
    span: list[float]
    places: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for i, place in enumerate(zip(self.bus, self.channel, strict=True)):
            self.places[place] = i

    def command(self, motor: int, units: float) -> float:
        """The command that units of the wire are, not clipped."""
        return ((units - self.zero[motor]) / self.per_rad[motor] - self.lower[motor]) / self.span[motor]

    def units(self, motor: int, command: float) -> float:
        """Units of the wire of a command, not rounded."""
        return self.zero[motor] + self.per_rad[motor] * (self.lower[motor] + self.span[motor] * command)


class Log:
    """Goals as the driver sent them, and goals as servos took them; a strange one was never sent."""

    def __init__(self, n: int) -> None:
        self.asked: deque[tuple[float, list[int], list[int]]] = deque(maxlen=KEPT)  # time, motors, units
        self.done: deque[tuple[float, list[int], list[int]]] = deque(maxlen=KEPT)
        self.strange: deque[tuple[float, int, int]] = deque(maxlen=1000)
        self.count_asked = self.count_done = self.count_strange = 0
        self._lately: list[deque[int]] = [deque(maxlen=LATELY) for _ in range(n)]

    def ask(self, time: float, motors: list[int], units: list[int]) -> None:
        """The driver sent goals (before anything on the wire is spoilt)."""
        self.asked.append((time, motors, units))
        self.count_asked += 1
        for m, u in zip(motors, units, strict=True):
            self._lately[m].append(u)

    def do(self, time: float, motors: list[int], units: list[int]) -> None:
        """Servos took goals."""
        self.done.append((time, motors, units))
        self.count_done += 1
        for m, u in zip(motors, units, strict=True):
            lately = self._lately[m]
            if not lately or (u != lately[-1] and u not in lately):
                self.count_strange += 1
                self.strange.append((time, m, u))


class Bus(ABC):
    """All boards or servos on one line.

    Parameters
    ----------
    servos : Servos
    horns : Horns
    log : Log
    faults : Faults
    say : callable
        Answer: ``say(bytes, start) -> when the last bit has left``.
    """

    #: V of the power supply
    supply = 6.0
    half_duplex = False
    #: which servos tell where they stand
    feedback = False

    def __init__(
        self,
        servos: Servos,
        horns: Horns,
        log: Log,
        faults: Faults,
        say: Callable[[bytes, float], float],
    ) -> None:
        self.servos, self.horns, self.log, self.faults, self.say = servos, horns, log, faults, say
        self.frames = self.bad = 0

    @abstractmethod
    def hear(self, byte: int, time: float) -> None:
        """A byte whose last bit came at a time (s)."""

    @abstractmethod
    def tap(self, byte: int, time: float) -> None:
        """The same byte as the driver sent it, before faults: goals in it go to the log alone."""

    def run(self, now: float) -> None:
        """What boards do by themselves up to `now` (s)."""
        self.servos.advance(now)

    @abstractmethod
    def restart(self, now: float) -> None:
        """The supply came back: everything volatile is lost, motors are off."""

    def latch(self, motor: int) -> None:  # noqa: B027
        """A servo reports an error until it is rebooted."""

    def clear(self) -> None:  # noqa: B027
        """Someone switched the latched errors off."""

    @property
    def down(self) -> bool:
        """Whether the supply is too low for logic."""
        return bool(self.faults.of("brownout")) and self.servos.voltage < 3.3

    def silent(self, motor: int) -> bool:
        """Whether a servo says nothing."""
        return any(f.motor == motor for f in self.faults.of("silent"))

    def next(self, now: float) -> float:
        """When `run` has something to do next, s."""
        return now + 0.005


def clipped(value: float, low: int, high: int) -> int:
    """Rounded and between two ends."""
    return int(min(max(np.rint(value), low), high))
