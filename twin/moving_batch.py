"""Skins of many faces in motion: what `MovingFace` does for one, for a batch, without its sums of shapes.

Between two looks a face's equilibrium goes from one shape to the next as the motors went, plus what the
linear skin says of motors that took another way. Creep is linear in all of these, so its memory is four
numbers and one row of motors for each face, worked out along the way, and then a single pass over the
vertices. Swinging modes are not here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import UsageError
from facetwin.twin.moving import STILL
from facetwin.twin.spec import SkinTime

Floats = NDArray[np.float64]
Small = NDArray[np.float32]
#: commands; a motor farther than this from the straight way counts
ASIDE = 1e-6


class MovingFaces:
    """The memory of a batch of skins.

    Parameters
    ----------
    times : SkinTime
        Of all faces until `reset` says otherwise; raises `UsageError` where it has modes.
    anchored : int [shape=(M,)]
        Vertices that follow their goals at once.
    slope : float [shape=(n, N, 3), m per command]
        What the linear skin does for each motor.
    count : int
        Faces.
    """

    def __init__(self, times: SkinTime, anchored: ArrayLike, slope: ArrayLike, count: int) -> None:
        _check_modes(times)
        way = np.asarray(slope, dtype=np.float64)
        self._slope: Small = way.reshape(len(way), -1).astype(np.float32)  # (n, 3N)
        flat = way.reshape(len(way), -1)
        self._metric = np.ascontiguousarray(flat @ flat.T)
        free = np.ones(way.shape[1], np.float32)
        free[np.asarray(anchored, dtype=np.intp)] = 0.0
        self._free: Small = np.repeat(free, 3)
        self._share = np.full(count, times.creep_share)
        self._time = np.full(count, times.creep_time)
        size = flat.shape[1]
        self._position = np.zeros((count, len(way)))
        self._shape, self._memory = np.zeros((count, size), np.float32), np.zeros((count, size), np.float32)
        self._seen = np.zeros(count)

    def reset(
        self,
        which: NDArray[np.intp],
        position: Floats,
        shape: Small,
        times: Sequence[SkinTime] | None = None,
    ) -> None:
        """Faces stand still at positions [shape=(k, n)] with shapes [shape=(k, N, 3), m], at time 0.

        `times`: the creep of each from now on, if it is another one.
        """
        for b, one in zip(which, times or ()):
            _check_modes(one)
            self._share[b], self._time[b] = one.creep_share, one.creep_time
        self._position[which] = position
        self._shape[which] = shape.reshape(len(which), -1)
        self._memory[which] = self._shape[which]
        self._seen[which] = 0.0

    def look(
        self,
        part: slice,
        shapes: Small,
        positions: Floats,
        when: Floats,
        trail: Floats,
        last: NDArray[np.int64],
        done: NDArray[np.int64],
        kept: NDArray[np.int64],
        tick: float,
        scale: Floats,
        trim: Floats,
    ) -> Small:
        """What is seen of the faces of `part`, float32 [shape=(b, N, 3), m].

        Parameters
        ----------
        shapes : float32 [shape=(b, N, 3), m]
            Equilibria at the positions.
        positions, when : float64 [shape=(b, n)], [shape=(b,), s]
        trail, last, done, kept, scale, trim : as `Fleet` has them, of all faces
        """
        b = shapes.shape[0]
        numbers = np.empty((b, 3))
        aside = np.zeros((b, positions.shape[1]))
        _follow(
            part.start, positions, when, self._position, self._seen, trail, last, done, kept, tick, scale,
            trim, self._metric, self._time, numbers, aside,
        )  # fmt: skip
        beside = aside.astype(np.float32) @ self._slope  # (b, 3N)
        after = shapes.reshape(b, -1)
        shown = np.empty_like(after)
        old, memory = self._shape[part], self._memory[part]
        _show(after, old, memory, beside, numbers, self._share[part], self._free, shown)
        self._position[part] = positions
        self._seen[part] = np.maximum(when, self._seen[part])
        return shown.reshape(shapes.shape)


def _check_modes(times: SkinTime) -> None:
    if times.modes:
        raise UsageError("a batch of skins does not swing", where="skin_time.modes", found=times.modes,
                         expected=0, hint="use single environments")  # fmt: skip


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "nnan"})
def _follow(
    first, positions, when, before, seen, trail, last, done, remembered, tick, scale, trim, metric, times,
    numbers, aside,
):  # fmt: skip
    """Shares of memory, old and new shape, and of motors beside the way, in the new memory of creep."""
    kept, n = trail.shape[0], positions.shape[1]
    forget, slide = np.exp(-tick / times), -np.expm1(-tick / times) / (tick / times)  # over one tick
    way, toll, beside, old = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for row in range(positions.shape[0]):
        b = first + row
        time = times[b]
        farthest, length = 0.0, 0.0
        for i in range(n):
            way[i] = positions[row, i] - before[b, i]
        for i in range(n):
            toll[i] = 0.0
            for j in range(n):
                toll[i] += metric[i, j] * way[j]
            length += way[i] * toll[i]
        m, x0, x1 = 1.0, 0.0, 0.0  # shares of the memory
        s = 0.0  # share of the way that the equilibrium has gone
        beside[:] = 0.0
        start = seen[b]
        oldest = max(done[b] - min(kept, remembered[b]) + 1, 0)
        tk = np.int64(np.floor((start + 1e-9) / tick)) + 1
        tk = max(tk, oldest)
        while True:
            inner = tk * tick < when[row] - 1e-9 and tk <= done[b]
            end = tk * tick if inner else max(when[row], start)
            place = last[b] - (done[b] - tk)
            place = place + kept if place < 0 else place
            share, old[:] = s, beside
            if inner:
                gone = 0.0
                for i in range(n):
                    beside[i] = scale[b, i] * trail[place, b, i] + trim[b, i] - before[b, i]
                    gone += beside[i] * toll[i]
                    farthest = max(farthest, abs(beside[i]))
                s = min(max(gone / length, 0.0), 1.0) if length > 1e-12 else 0.0
                most = 0.0
                for i in range(n):
                    beside[i] -= s * way[i]
                    most = max(most, abs(beside[i]))
                if most <= ASIDE:
                    beside[:] = 0.0
            else:
                s = 1.0
                beside[:] = 0.0
            if abs(end - start - tick) < 1e-12:
                decay, ramp = forget[b], slide[b]
            else:
                k = (end - start) / time
                decay = np.exp(-k)
                ramp = -np.expm1(-k) / k if k > 0 else 1.0
            m *= decay
            x0 = (1 - s) + (x0 - (1 - share)) * decay - (share - s) * ramp
            x1 = s + (x1 - share) * decay - (s - share) * ramp
            for i in range(n):
                a = aside[row, i]
                aside[row, i] = beside[i] + (a - old[i]) * decay - (beside[i] - old[i]) * ramp
            start = end
            tk += 1
            if not inner:
                break
        for i in range(n):
            farthest = max(farthest, abs(way[i]))
        if farthest <= STILL:  # nothing moved: the equilibrium went straight from shape to shape
            aside[row] = 0.0
        numbers[row, 0], numbers[row, 1], numbers[row, 2] = m, x0, x1


@njit(cache=True, nogil=True)
def _show(after, shape, memory, beside, numbers, share, free, shown):
    for b in range(after.shape[0]):
        lag = np.float32(share[b])
        m, x0, x1 = np.float32(numbers[b, 0]), np.float32(numbers[b, 1]), np.float32(numbers[b, 2])
        for i in range(after.shape[1]):
            new = m * memory[b, i] + x0 * shape[b, i] + x1 * after[b, i] + beside[b, i]
            memory[b, i] = new
            shown[b, i] = after[b, i] - lag * free[i] * (after[b, i] - new)
            shape[b, i] = after[b, i]
