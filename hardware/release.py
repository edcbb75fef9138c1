"""Motors are switched off however a program ends: an exception, SIGINT, SIGTERM, SIGHUP, its last line."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facetwin.hardware.rig import Rig

_active: dict[int, Callable[[], Rig | None]] = {}
_installed = False
_PATIENCE = 3.0  # s, for a rig that is busy when the program ends


def watch(rig: Rig) -> None:
    """Remember an active rig, so that the end of the program releases it."""
    global _installed
    # A real rig must outlive every other reference to it while its motors are on; a twin need not.
    _active[id(rig)] = weakref.ref(rig) if rig.capabilities.simulated else (lambda: rig)
    if not _installed:
        _installed = True
        atexit.register(release_all, os.getpid())
    handle_signals()


def handle_signals() -> None:
    """Make the signals that end a program unwind it, where it does not handle them itself."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _terminate)


def unwatch(rig: Rig) -> None:
    """It is switched off."""
    _active.pop(id(rig), None)


def _terminate(number: int, frame: FrameType | None) -> None:
    # Unwinds `with` blocks and runs atexit; SIGINT does the same through KeyboardInterrupt.
    raise SystemExit(128 + number)


def release_all(pid: int | None = None) -> None:
    """Release and close every active rig of this process, newest first."""
    if pid is not None and pid != os.getpid():  # a forked child does not own its parent's rigs
        return
    for find in list(_active.values())[::-1]:
        rig = find()
        if rig is None:
            continue
        # A thread may hang in a driver with the lock in its hands: motors off is worth more than order.
        locked = rig._lock.acquire(timeout=_PATIENCE)
        with contextlib.suppress(Exception):
            rig.close() if locked else rig._release()
        if locked:
            rig._lock.release()
    _active.clear()
