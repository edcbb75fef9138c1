"""Real-time priority, as robots' control loops have it: the loop's thread runs before any other program.

Linux: SCHED_FIFO for one thread, which needs CAP_SYS_NICE (root) or a line ``@group - rtprio 80`` in
/etc/security/limits.conf. Elsewhere, or where it is not allowed, threads stay as they are. Threads and
programs that such a thread starts are ordinary ones; the kernel keeps 5 % of a core for the rest.
"""

from __future__ import annotations

import logging
import os
from types import TracebackType

log = logging.getLogger("facetwin.pace")

#: of 1 to 99: a program's loop; and the emulated robot's boards, which as hardware wait for no program
LOOP, BOARDS = 40, 45
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


def _tell(why: str) -> None:
    # once a program: a loop without it is worse, not wrong
    global _told
    if not _told:
        _told = True
        log.info("real-time priority not granted (%s): %s", why.partition(": ")[2], HINT)
