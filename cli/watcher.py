"""The tracker in a process of its own, so that looking at one picture overlaps with drawing the next.

Pictures wait in a short queue: whoever draws too fast is held up, and memory stays bounded.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.errors import FaceTwinError

LOOKS = 4  #: looks at each picture, as when the face babbled
AHEAD = 12  #: pictures that may wait
PATIENCE = 120.0  #: s without any answer before the tracker counts as stuck


class Watcher:
    """Look for the face in one picture after another of one video, in another process.

    Parameters
    ----------
    gentle : bool
        Give way to other processes: for a rig that runs in real time beside it.

    >>> with Watcher() as watcher:
    ...     watcher.put(np.zeros((64, 64, 3), np.uint8))
    ...     list(watcher.finish())
    [None]
    """

    def __init__(self, *, gentle: bool = False) -> None:
        context = multiprocessing.get_context("spawn")  # fork would copy an open GL context
        self._jobs: Any = context.Queue(AHEAD)
        self._answers: Any = context.Queue()
        self._waiting = 0
        self._process = context.Process(target=_watch, args=(self._jobs, self._answers, gentle), daemon=True)
        self._process.start()

    def put(self, image: NDArray[np.uint8], mirrored: bool = False) -> None:
        """Hand over a picture, uint8 [shape=(H, W, 3), RGB]; waits while too many wait already."""
        job = (np.ascontiguousarray(image), mirrored)
        for _ in range(round(PATIENCE)):
            try:
                self._jobs.put(job, timeout=1.0)
                self._waiting += 1
                return
            except queue.Full:
                self._check()
        raise FaceTwinError("the tracker is stuck", found=f"no answer for {PATIENCE:.0f} s")

    def ready(self) -> Iterator[NDArray[np.float32] | None]:
        """What has been seen by now, in the order of `put`: float32 [shape=(478, 3), px], None: no face."""
        while self._waiting:
            try:
                answer = self._answers.get_nowait()
            except queue.Empty:
                return
            yield self._open(answer)

    def some(self) -> Iterator[NDArray[np.float32] | None]:
        """Wait for the next answer, where one is due."""
        return self._wait(1)

    def finish(self) -> Iterator[NDArray[np.float32] | None]:
        """Wait for the rest, in order."""
        return self._wait(self._waiting)

    def _wait(self, count: int) -> Iterator[NDArray[np.float32] | None]:
        waited, until = 0.0, max(self._waiting - count, 0)
        while self._waiting > until:
            try:
                answer = self._answers.get(timeout=1.0)
            except queue.Empty:
                self._check()
                waited += 1.0
                if waited > PATIENCE:
                    raise FaceTwinError(
                        "the tracker is stuck", found=f"no answer for {PATIENCE:.0f} s"
                    ) from None
                continue
            waited = 0.0
            yield self._open(answer)

    def close(self) -> None:
        """End the process; closing twice is fine."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(5.0)
        for each in (self._jobs, self._answers):
            each.cancel_join_thread()
            each.close()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, answer: Any) -> NDArray[np.float32] | None:
        self._waiting -= 1
        if isinstance(answer, str):
            raise FaceTwinError("the tracker failed", found=answer)
        return answer

    def _check(self) -> None:
        if not self._process.is_alive():
            raise FaceTwinError(
                "the tracker process has died",
                found=f"exit code {self._process.exitcode}",
                hint="is there enough memory? try a smaller --size",
            )


def _watch(jobs: Any, answers: Any, gentle: bool = False) -> None:
    if gentle and hasattr(os, "nice"):
        os.nice(15)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    if not os.environ.get("FACETWIN_TRACKER_LOG"):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the tracker's chatter; errors come as answers
    import cv2

    from facetwin.twin.tracker import Tracker

    cv2.setNumThreads(1)
    try:
        tracker = Tracker(looks=LOOKS)
        while True:
            image, mirrored = jobs.get()
            answers.put(tracker.detect(image, mirrored=mirrored))
    except Exception as error:
        answers.put(f"{type(error).__name__}: {error}")
