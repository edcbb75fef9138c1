"""Progress on stderr: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 2.0  #: s; what takes less says nothing in a log
LINE_EVERY = 10.0  #: s between lines when the total is unknown


class Progress:
    """Progress of one task, as a context manager.

    Parameters
    ----------
    description : str
        What is being done, e.g. "speaking".
    total : float, optional
        How much there is to do, in `unit`; unknown when None.
    unit : str
        Unit of `total`, shown behind the numbers ("s", "clips", …).

    >>> with Progress("counting", total=3) as progress:
    ...     for _ in range(3):
    ...         progress.advance()
    >>> progress.done
    3.0
    """

    def __init__(self, description: str, total: float | None = None, unit: str = "") -> None:
        self.description = description
        self.total = total
        self.unit = unit
        self.done = 0.0  #: in `unit`
        self._bar: Any = None
        self._task: Any = None
        self._told = 0.0  # share, or time, of the last line
        self._start = time.monotonic()

    def __enter__(self) -> Progress:
        self._start = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} " + self.unit)
                if self.total is not None
                else TextColumn("{task.completed:.0f} " + self.unit),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total)
        return self

    def advance(self, amount: float = 1.0) -> None:
        """Say that `amount` more is done."""
        self.update(self.done + amount)

    def update(self, done: float) -> None:
        """Say that `done` is done in all."""
        self.done = float(done)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done)
        else:
            self._maybe_line()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        elif kind is None and self._told:
            self._line(f"done in {time.monotonic() - self._start:.0f} s")

    def _maybe_line(self) -> None:
        elapsed = time.monotonic() - self._start
        if elapsed < PATIENCE:
            return
        if self.total:
            share = min(self.done / self.total, 1.0)
            if share - self._told < 0.1 or share == 1.0:
                return
            self._told = share
            left = elapsed * (1 - share) / share
            self._line(f"{100 * share:.0f} %, {left:.0f} s to go")
        elif elapsed - self._told >= LINE_EVERY:
            self._told = elapsed
            self._line(f"{self.done:.0f} {self.unit} in {elapsed:.0f} s")

    def _line(self, text: str) -> None:
        print(f"{self.description}: {text}", file=sys.stderr, flush=True)


def track(iterable: Iterable[T], total: float | None = None, description: str = "working") -> Iterator[T]:
    """Yield the items of `iterable` with progress shown.

    >>> list(track([1, 2], description="counting"))
    [1, 2]
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Progress(description, total) as progress:
        for item in iterable:
            yield item
            progress.advance()
