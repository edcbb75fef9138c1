"""Real-time priority, as robots' control loops have it, and cores that do not fall asleep between two ticks.

The loop's thread runs before any other program (`Urgent`); a core that has nothing to do spins, so that no
time is lost with waking it (`Awake`).

Linux: SCHED_FIFO for one thread, which needs CAP_SYS_NICE (root) or a line ``@group - rtprio 80`` in
/etc/security/limits.conf. Elsewhere, or where it is not allowed, threads stay as they are. Threads and
programs that such a thread starts are ordinary ones; the kernel keeps 5 % of a core for the rest. Awake by
the kernel's PM QoS interface (Documentation/power/pm_qos_interface.rst): while its file is open and says
0 us, idle states that take longer to leave are not entered. In a virtual machine they are what counts: a
core that sleeps is given away by the host.
"""

from __future__ import annotations

import logging
import os
import struct
from types import TracebackType

log = logging.getLogger("facetwin.pace")

#: of 1 to 99: a program's loop; and the emulated robot's boards, which as hardware wait for no program
LOOP, BOARDS = 40, 45
#: keeps cores awake while it is open
LATENCY = "/dev/cpu_dma_latency"
HINT = "needs CAP_SYS_NICE, or rtprio in /etc/security/limits.conf"
_told = False  # that it was not granted


class Urgent:
    """While it is entered, the calling thread runs before all ordinary ones, if that is allowed.

    Parameters
    ----------
    rank : int, 1..99
        Among threads that are urgent; the higher goes first.
    wanted : bool
        False: nothing is asked for.

    Attributes
    ----------
    granted : bool
    why : str
        "real-time", "ordinary", or "ordinary: WHY it was not granted".

    >>> with Urgent(wanted=False) as urgent:
    ...     urgent.granted, urgent.why
    (False, 'ordinary')
    """

    def __init__(self, rank: int = LOOP, wanted: bool = True) -> None:
        self.rank, self.wanted = rank, wanted
        self.granted, self.why = False, "ordinary"
        self._before: tuple[int, int] | None = None

    def __enter__(self) -> Urgent:
        if not self.wanted:
            return self
        if not hasattr(os, "sched_setscheduler"):
            self.why = "ordinary: this system has none"
            return self
        try:
            before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(self.rank))
        except OSError as error:
            self.why = f"ordinary: {error.strerror or error}"
            _tell(self.why)
        else:
            self._before, self.granted, self.why = before, True, "real-time"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            policy, rank = self._before
            os.sched_setscheduler(0, policy, os.sched_param(rank))
            self._before = None


class Awake:
    """While it is entered, no core of this machine sleeps deeper than it can wake from at once, if allowed.

    It costs the power of cores that spin. Where it is not allowed (not root, no such kernel) nothing
    happens.

    Attributes
    ----------
    granted : bool
    """

    def __init__(self, wanted: bool = True) -> None:
        self.wanted, self.granted = wanted, False
        self._file = -1

    def __enter__(self) -> Awake:
        if self.wanted and self._file < 0:
            try:
                self._file = os.open(LATENCY, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
                os.write(self._file, struct.pack("i", 0))
                self.granted = True
            except OSError:
                self._close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _tell(why: str) -> None:
    # once a program: a loop without it is worse, not wrong
    global _told
    if not _told:
        _told = True
        log.info("real-time priority not granted (%s): %s", why.partition(": ")[2], HINT)
