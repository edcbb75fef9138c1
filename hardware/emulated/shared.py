"""Memory that the wire process, the body process and the program share: motion of the motors, pictures.

Memory files without a name (memfd): nothing of them is left when the last process has gone, however it went.
Each block has one writer. A block that is being written has an odd number, so readers take it again.
"""

from __future__ import annotations

import mmap
import os
import time

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: rows of the ring of positions: 2 s at the tick of `servos`
ROWS = 2048
#: pictures that are kept: those whose delay is not over yet, and the one that is being written
SLOTS = 8


def create(name: str, size: int) -> int:
    """An anonymous memory file of `size` bytes; returns its descriptor, which children may inherit."""
    if not hasattr(os, "memfd_create"):
        raise OSError("the emulated rig needs Linux (memfd)")
    fd = os.memfd_create("facetwin " + name)
    os.ftruncate(fd, size)
    return fd


class Motion:
    """Where the motors stand and stood, written by the wire process.

    Parameters
    ----------
    fd : int
        Of a memory file of `Motion.bytes(n)` bytes.
    n : int
        Number of motors.

    Attributes
    ----------
    head : float64 [shape=(4,)]
        Time of tick 0 (s, monotonic), tick (s), and two that are free.
    ticks : int64 [shape=(1,)]
        Ticks that are done; the last of them is row ``ticks % ROWS`` of `trail`.
    trail : float64 [shape=(ROWS, 1, n)]
        Load positions before `scale` and `trim`, one row a tick, a ring.
    """

    def __init__(self, fd: int, n: int) -> None:
        self._map = mmap.mmap(fd, self.bytes(n))
        self.head = np.frombuffer(self._map, np.float64, 4, 0)
        self.ticks = np.frombuffer(self._map, np.int64, 1, 32)
        self.trail = np.frombuffer(self._map, np.float64, ROWS * n, 64).reshape(ROWS, 1, n)

    @staticmethod
    def bytes(n: int) -> int:
        """Size of the memory file for n motors."""
        return 64 + ROWS * n * 8

    @property
    def now(self) -> float:
        """Time of the last tick that is done, s, monotonic."""
        return float(self.head[0] + self.head[1] * self.ticks[0])

    def between(self, start: float, end: float, step: float = 0.0) -> tuple[Floats, Floats]:
        """Positions at the ticks within (start, end) and at `end`, and their times, (k, n) and (k,).

        `end` is at most `now`; what is older than the ring is left out. Ticks nearer than `step` (s) to each
        other are left out, too.
        """
        zero, tick = float(self.head[0]), float(self.head[1])
        done = int(self.ticks[0])
        last = done % ROWS
        first = max(int(np.floor((start - zero) / tick)) + 1, done - ROWS + 64, 0)
        place = min(max((end - zero) / tick, 0.0), float(done))
        low = int(place)
        numbers = np.arange(first, low + 1, max(round(step / tick), 1))
        numbers = numbers[numbers * tick + zero < end - 1e-9]
        rows = self.trail[(last - (done - numbers)) % ROWS, 0]
        a = self.trail[(last - (done - low)) % ROWS, 0]
        b = self.trail[(last - (done - min(low + 1, done))) % ROWS, 0]
        final = a + (place - low) * (b - a)
        return np.vstack([rows, final[None]]), np.r_[numbers * tick + zero, end]


class Film:
    """The newest pictures, written by the body process.

    Parameters
    ----------
    fd : int
        Of a memory file of `Film.bytes(shape, n)` bytes.
    shape : (H, W, 3)
    n : int
        Number of motors.
    """

    def __init__(self, fd: int, shape: tuple[int, int, int], n: int) -> None:
        self.shape, self.n = shape, n
        self._map = mmap.mmap(fd, self.bytes(shape, n))
        self.newest = np.frombuffer(self._map, np.int64, 1, 0)  # pictures written
        self.state = np.frombuffer(self._map, np.float64, 4, 16)  # heartbeat, rate, solve s, picture s
        self._slots = []
        each, pixels = self._each(shape, n), int(np.prod(shape))
        for k in range(SLOTS):
            at = 64 + k * each
            self._slots.append(
                (
                    np.frombuffer(self._map, np.int64, 1, at),
                    np.frombuffer(self._map, np.float64, 3 + n, at + 8),
                    np.frombuffer(self._map, np.uint8, pixels, at + 32 + 8 * n).reshape(shape),
                )
            )

    @staticmethod
    def _each(shape: tuple[int, int, int], n: int) -> int:
        return (32 + 8 * n + int(np.prod(shape)) + 63) // 64 * 64

    @classmethod
    def bytes(cls, shape: tuple[int, int, int], n: int) -> int:
        """Size of the memory file."""
        return 64 + SLOTS * cls._each(shape, n)

    def put(self, image: NDArray[np.uint8], exposed: float, ready: float, gap: float, at: Floats) -> None:
        """Publish a picture: when it was exposed, from when it may be seen (s), lips' gap (m), motors."""
        count = int(self.newest[0])
        number, values, pixels = self._slots[count % SLOTS]
        number[0] = 2 * count + 1
        values[:3] = exposed, ready, gap
        values[3:] = at
        pixels[:] = image
        number[0] = 2 * count + 2
        self.newest[0] = count + 1

    def get(self, now: float | None = None) -> tuple[NDArray[np.uint8], float, float, Floats] | None:
        """The newest picture that may be seen: image, exposed (s), gap (m), motors; None if there is none."""
        now = time.monotonic() if now is None else now
        for _ in range(20):
            count = int(self.newest[0])
            for k in range(count - 1, max(count - SLOTS, -1), -1):
                number, values, pixels = self._slots[k % SLOTS]
                before = int(number[0])
                if before != 2 * k + 2 or values[1] > now:
                    continue
                image, told = pixels.copy(), values.copy()
                if int(number[0]) == before:
                    return image, float(told[0]), float(told[2]), told[3:]
                break
            else:
                return None
        return None
