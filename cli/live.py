"""Playing in real time: what is different on a rig whose clock nobody can stop.

Commands are made ahead, so that nothing has to be waited for; a picture is the one exposed nearest to its
time, by the camera's own time stamps; looking, packing and writing are done beside the loop.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from facetwin.cli.backlog import Backlog
from facetwin.cli.perform import Command, prefetch
from facetwin.cli.watcher import Watcher
from facetwin.hardware.rig import Frame, Rig

#: pieces of commands that are made before a face begins, and that are made ahead while it speaks
FIRST, AHEAD = 12, 4
#: s without a picture of its time, after which the newest one has to do
PATIENCE = 0.3


def looker(rig: Rig, stack: ExitStack) -> Watcher | Backlog:
    """A tracker for what a rig shows, closed with `stack`; in real time one that holds nobody up."""
    if rig.clock.simulated:
        return stack.enter_context(Watcher())
    return stack.enter_context(Backlog(stack.enter_context(Watcher(gentle=True))))


def ahead(rig: Rig, pieces: Iterator[Command]) -> Iterator[Command]:
    """Pieces of commands as a rig can take them: in real time the first ones are made before it begins."""
    if rig.clock.simulated:
        return prefetch(pieces)
    return itertools.chain(list(itertools.islice(pieces, FIRST)), prefetch(pieces, AHEAD))


@dataclass
class Nearest:
    """Pictures as they come → for each moment the one exposed nearest to it."""

    last: Frame | None = None
    before: Frame | None = None
    _times: list[float] = field(default_factory=list)

    def put(self, frame: Frame) -> None:
        """Take in the newest picture; the same one again changes nothing."""
        if self.last is None or frame.time > self.last.time:
            self.before, self.last = self.last, frame

    def at(self, time: float, now: float) -> Frame | None:
        """The picture nearest to a time (s, the rig's clock); None while a nearer one may come."""
        last, before = self.last, self.before
        if last is None or (last.time < time and now < time + PATIENCE):
            return None
        if before is not None and abs(before.time - time) < abs(last.time - time):
            return before
        return last


class Scribe:
    """Calls done in order by a thread, so that files and films do not hold up a loop.

    An error in one is raised by the next `do`, or by `close`, and what came after it is not done.

    >>> with Scribe() as scribe:
    ...     done: list[int] = []
    ...     scribe.do(done.append, 1)
    ...     scribe.finish()
    >>> done
    [1]
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="facetwin scribe", daemon=True)
        self._thread.start()

    def do(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Have ``call(*arguments)`` done; returns at once."""
        if self._error is not None:
            raise self._error
        self._jobs.put((call, arguments))

    def finish(self) -> None:
        """Wait until all is done; raises what went wrong. Finishing twice is fine."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Scribe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is None:
            self.finish()
        elif self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._error is None:
                try:
                    job[0](*job[1])
                except BaseException as error:  # raised again where the caller is
                    self._error = error
