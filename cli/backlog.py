"""Pictures that wait for the tracker without holding up who takes them: a real face does not wait.

The tracker takes longer over a picture than the camera does. In simulated time the loop is held up; in real
time pictures go to the tracker while it keeps up, and beyond that wait on the disk, losslessly packed.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from facetwin.cli.watcher import AHEAD, Watcher
from facetwin.twin.errors import FaceTwinError

Image = NDArray[np.uint8]


class Backlog:
    """A `Watcher` whose `put` never waits; answers come in the order of the pictures.

    Parameters
    ----------
    watcher : Watcher
        Used by nobody else meanwhile.
    folder : path, optional
        Where waiting pictures lie; the system's folder for temporary files by default.
    """

    def __init__(self, watcher: Watcher, folder: str | None = None) -> None:
        self._watcher = watcher
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._packer = ThreadPoolExecutor(1, "facetwin backlog")
        self._waiting: deque[tuple[Future[tuple[int, int]], bool]] = deque()
        self._end = 0
        self._given = 0  # pictures that the watcher has not answered yet
        self.most = 0  #: how many waited at worst

    def put(self, image: Image, mirrored: bool = False) -> None:
        """Hand over a picture, uint8 [shape=(H, W, 3), RGB]; returns at once."""
        self._waiting.append((self._packer.submit(self._pack, np.array(image)), mirrored))
        self.most = max(self.most, len(self._waiting))

    def ready(self) -> Iterator[NDArray[np.float32] | None]:
        """What has been seen by now, as `Watcher.ready`."""
        yield from self._answers(self._watcher.ready())
        while self._waiting and self._given < AHEAD - 1 and self._waiting[0][0].done():
            self._give()

    def finish(self) -> Iterator[NDArray[np.float32] | None]:
        """Wait for the rest."""
        while self._waiting:
            if self._given < AHEAD - 1:
                self._give()
            yield from self._answers(self._watcher.ready())
            if self._given >= AHEAD - 1:
                yield from self._answers(self._watcher.some())
        yield from self._answers(self._watcher.finish())

    def close(self) -> None:
        """Throw away what waits; closing twice is fine."""
        self._packer.shutdown(wait=True, cancel_futures=True)
        self._waiting.clear()
        self._file.close()

    def __enter__(self) -> Backlog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answers(self, answers: Iterator[NDArray[np.float32] | None]) -> Iterator[NDArray[np.float32] | None]:
        for answer in answers:
            self._given -= 1
            yield answer

    def _give(self) -> None:
        packed, mirrored = self._waiting.popleft()
        start, size = packed.result()
        data = os.pread(self._file.fileno(), size, start)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise FaceTwinError(
                "a waiting picture cannot be read", where="backlog", found=f"{len(data)} bytes"
            )
        self._watcher.put(np.ascontiguousarray(image[..., ::-1]), mirrored)
        self._given += 1

    def _pack(self, image: Image) -> tuple[int, int]:
        # in the one thread of the packer; cv2 lets go of the interpreter meanwhile
        data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
        start = self._end
        os.pwrite(self._file.fileno(), data, start)
        self._end += len(data)
        return start, len(data)
