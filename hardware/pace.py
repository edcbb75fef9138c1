"""One loop's pace: absolute deadlines on a rig's clock, and at the end how well they were kept.

A sum of sleeps drifts; here the k-th deadline is start + k / rate, whatever happened before. A tick that
comes late is made up for, none is left out. On a simulated clock nothing is ever late.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from facetwin.hardware.clock import Clock
from facetwin.hardware.priority import Awake, Urgent
from facetwin.twin.errors import UsageError


@dataclass(frozen=True)
class Paced:
    """How a loop kept its time.

    Attributes
    ----------
    rate : float, Hz
    ticks, missed : int
        Deadlines, and those whose work was not done when the next one came.
    late_p50, late_p99, late_max : float, s
        By how much ticks began after their deadlines.
    late_last : float, s
        That of the last tick: what a loop that drifts ends with.
    work_p50, work_p99, work_max : float, s
        From a tick's beginning to the next wait.
    drift : float, s
        Median lateness in the last tenth less that in the first.
    priority : str
        "real-time", "ordinary", or "ordinary: WHY".
    awake : bool
        Whether cores were kept from sleeping between ticks.
    """

    rate: float
    ticks: int
    missed: int
    late_p50: float
    late_p99: float
    late_max: float
    late_last: float
    work_p50: float
    work_p99: float
    work_max: float
    drift: float
    priority: str = "ordinary"
    awake: bool = False

    @property
    def share_missed(self) -> float:
        """Missed deadlines, 0..1."""
        return self.missed / max(self.ticks, 1)

    def __str__(self) -> str:

        def ms(*times: float) -> str:
            return "p50 {:.2f}, p99 {:.2f}, max {:.2f} ms".format(*(1e3 * t for t in times))

        return (
            f"{self.ticks} ticks at {self.rate:g} Hz, {self.missed} missed "
            f"({100 * self.share_missed:.3f} %); "
            f"late {ms(self.late_p50, self.late_p99, self.late_max)}; "
            f"work {ms(self.work_p50, self.work_p99, self.work_max)}; drift {1e3 * self.drift:.3f} ms; "
            f"priority {self.priority}{', cores kept awake' if self.awake else ''}"
        )


class Pace:
    """Wait for one deadline after another.

    Parameters
    ----------
    clock : Clock
    rate : float, Hz
    start : float, s, optional
        Time of deadline 0 on the clock; by default now, or when the context is entered.
    urgent : bool
        Ask for real-time priority and cores that stay awake while the context is entered
        (`facetwin.hardware.priority`).

    As a context it gives a real loop's thread real-time priority, where that is allowed, and keeps the
    garbage collector off: a full collection takes tens of ms with torch loaded. What is dropped in cycles
    waits until the end.

    >>> from facetwin.hardware.clock import SimClock
    >>> with Pace(SimClock(), 50.0) as pace:
    ...     times = [round(pace.wait(), 3) for _ in range(3)]
    >>> times, pace.report().missed
    ([0.0, 0.02, 0.04], 0)
    """

    def __init__(self, clock: Clock, rate: float, start: float | None = None, *, urgent: bool = True) -> None:
        if not (np.isfinite(rate) and rate > 0):
            raise UsageError("bad rate", where="Pace", found=rate, expected="above 0 Hz")
        self.clock, self.rate = clock, float(rate)
        self._given = start
        self.start = clock.now() if start is None else float(start)
        self.tick = 0
        self._late: list[float] = []
        self._work: list[float] = []
        self._began: float | None = None
        self._collecting = False
        self._urgent = Urgent(wanted=urgent and not clock.simulated)
        self._awake = Awake(wanted=urgent and not clock.simulated)

    def due(self, tick: int) -> float:
        """Time of a deadline on the clock, s."""
        return self.start + tick / self.rate

    def wait(self) -> float:
        """Return at the next deadline, at once if it has passed; its time since the start, s."""
        clock, due = self.clock, self.due(self.tick)
        if self._began is not None:
            self._work.append(clock.now() - self._began)
        clock.sleep_until(due)
        self._began = clock.now()
        self._late.append(self._began - due)
        self.tick += 1
        return (self.tick - 1) / self.rate

    def report(self) -> Paced:
        """What it was like so far."""
        if not self._late:
            nothing = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
            return Paced(self.rate, 0, 0, *nothing, priority=self._urgent.why, awake=self._awake.granted)
        late, period = np.array(self._late), 1 / self.rate
        work = np.array([*self._work, self.clock.now() - (self._began or 0.0)])
        missed = int((late + work > period + 1e-9).sum())
        tenth = max(1, len(late) // 10)
        drift = float(np.median(late[-tenth:]) - np.median(late[:tenth]))
        a, b = np.percentile(late, (50, 99, 100)), np.percentile(work, (50, 99, 100))
        return Paced(
            self.rate, len(late), missed, float(a[0]), float(a[1]), float(a[2]), float(late[-1]),
            float(b[0]), float(b[1]), float(b[2]), drift, self._urgent.why,
            self._awake.granted,
        )  # fmt: skip

    def __enter__(self) -> Pace:
        self._collecting = gc.isenabled() and not self.clock.simulated
        if self._collecting:
            gc.collect()  # takes up to a second
            gc.freeze()
            gc.disable()
        self._urgent.__enter__()
        self._awake.__enter__()
        if self._given is None and not self.tick:
            self.start = self.clock.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._awake.__exit__(kind, value, trace)
        self._urgent.__exit__(kind, value, trace)
        if self._collecting:
            gc.enable()
            gc.unfreeze()
