"""Clocks: real time for real rigs, simulated time for simulated ones, one interface for both.

A loop that paces itself by `rig.clock` runs in real time on a real rig and as fast as it can on a
simulated one. Timers (`every`) are how a watchdog gets its turn in either.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from facetwin.hardware.priority import Urgent
from facetwin.twin.errors import FaceTwinError


class Timer:
    """A running `Clock.every`; `cancel` stops it, for good."""

    def __init__(self, period: float, call: Callable[[], None]) -> None:
        if not period > 0:
            raise FaceTwinError("bad period", where="Clock.every", found=period, expected="more than 0 s")
        self.period, self.call = period, call
        self._stop = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Stop; from inside of the call too."""
        self._stop.set()


class Clock(ABC):
    """Seconds that never run backwards."""

    simulated: bool

    @abstractmethod
    def now(self) -> float:
        """Time in s, from an arbitrary zero."""

    @abstractmethod
    def sleep_until(self, t: float) -> None:
        """Return when `now()` is at least `t` (s); at once if it is already."""

    @abstractmethod
    def every(self, period: float, call: Callable[[], None]) -> Timer:
        """Call `call()` each `period` s until the timer is cancelled."""

    def sleep(self, duration: float) -> None:
        """Let `duration` s pass."""
        self.sleep_until(self.now() + duration)


class RealClock(Clock):
    """The machine's monotonic clock; each timer is a daemon thread."""

    simulated = False

    def now(self) -> float:
        """Time in s since an arbitrary zero (`time.monotonic`)."""
        return time.monotonic()

    def sleep_until(self, t: float) -> None:
        """Wait in real time."""
        while (left := t - time.monotonic()) > 0:
            time.sleep(left)

    def every(self, period: float, call: Callable[[], None]) -> Timer:
        """Call from a thread of its own; missed turns are not made up for."""
        timer = Timer(period, call)

        def run() -> None:
            # a loop with real-time priority waits for what this thread holds, locks and interpreter: it must
            # not be kept from running by others meanwhile
            with Urgent():
                while not timer._stop.wait(timer.period):
                    timer.call()

        threading.Thread(target=run, name="facetwin timer", daemon=True).start()
        return timer


class SimClock(Clock):
    """Time that passes only when someone sleeps; timers run inside of that sleep, in order."""

    simulated = True

    def __init__(self) -> None:
        self._now = 0.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, float, int, Timer]] = []  # due, order, start, turn, timer

    def now(self) -> float:
        """Simulated seconds since the start, or the last `reset`."""
        return self._now

    def sleep_until(self, t: float) -> None:
        """Jump to `t`, running what is due on the way."""
        while self._timers and self._timers[0][0] <= t:
            due, _, start, turn, timer = heapq.heappop(self._timers)
            if timer.cancelled:
                continue
            self._now = max(self._now, due)
            # Counted from the start: a sum of periods would drift.
            due = start + (turn + 1) * timer.period
            heapq.heappush(self._timers, (due, next(self._order), start, turn + 1, timer))
            timer.call()
        self._now = max(self._now, t)

    def every(self, period: float, call: Callable[[], None]) -> Timer:
        """Call at each multiple of `period` from now on."""
        timer = Timer(period, call)
        heapq.heappush(self._timers, (self._now + period, next(self._order), self._now, 1, timer))
        return timer

    def reset(self) -> None:
        """Back to time zero; timers start over."""
        self._now = 0.0
        timers = [entry[-1] for entry in sorted(self._timers) if not entry[-1].cancelled]
        self._timers = [(timer.period, next(self._order), 0.0, 1, timer) for timer in timers]
        heapq.heapify(self._timers)
