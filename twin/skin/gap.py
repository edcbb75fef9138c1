"""The opening between the lips, by geometry: the ruler that the tracker is not (DESIGN section 10)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: lips nearer than this count as shut, m
SHUT = 0.0005
#: places across the mouth that are looked at
COLUMNS = 11
#: skin vertices at the ends of the mouth (MediaPipe's inner lip corners)
CORNERS = (78, 308)

Floats = NDArray[np.float64]


def lip_gap(vertices: Floats, upper: NDArray[np.integer], lower: NDArray[np.integer]) -> float:
    """How far the lips are apart seen from the front, m; below 0 where one lies before the other.

    In each of `COLUMNS` upright planes over the middle third of the mouth, the lowest point of the upper
    lip is compared with the highest of the lower one. The largest difference is the gap: when it is shut
    (below `SHUT`), no light passes anywhere in that third. `upper`, `lower`: triangles of the lips, rims
    included, int [shape=(n, 3)].
    """
    return float(lip_profile(vertices, upper, lower).max())


def lip_profile(vertices: Floats, upper: NDArray[np.integer], lower: NDArray[np.integer]) -> Floats:
    """The gap in each plane, right to left, float64 [shape=(COLUMNS,), m]."""
    right, left = (vertices[c, 0] for c in CORNERS)
    middle, sixth = (right + left) / 2, (left - right) / 6
    x = np.linspace(middle - sixth, middle + sixth, COLUMNS)
    over = _edge(vertices, np.ascontiguousarray(upper, dtype=np.int64), x, -1.0)
    under = _edge(vertices, np.ascontiguousarray(lower, dtype=np.int64), x, 1.0)
    gap: Floats = -over - under
    return gap


def lip_gaps(vertices: NDArray[np.floating], upper: NDArray[np.int64], lower: NDArray[np.int64]) -> Floats:
    """`lip_gap` of many faces [shape=(B, N, 3), m]: float64 [shape=(B,), m]."""
    out = np.empty(len(vertices))
    _gaps(vertices, upper, lower, out)
    return out


@njit(cache=True, nogil=True)
def _gaps(vertices, upper, lower, out):
    columns = np.arange(COLUMNS) / (COLUMNS - 1) - 0.5
    for b in range(vertices.shape[0]):
        p = vertices[b]
        right, left = np.float64(p[CORNERS[0], 0]), np.float64(p[CORNERS[1], 0])
        x = (right + left) / 2 + (left - right) / 3 * columns
        gap = -_edge(p, upper, x, -1.0) - _edge(p, lower, x, 1.0)
        out[b] = gap.max()


@njit(cache=True, nogil=True)
def _edge(p, triangles, x, sign):
    """Largest ``sign * y`` of the triangles in each plane x = const."""
    out = np.full(len(x), -np.inf)
    for t in range(triangles.shape[0]):
        for k in range(3):
            a, b = triangles[t, k], triangles[t, (k + 1) % 3]
            xa, xb = p[a, 0], p[b, 0]
            low, high = min(xa, xb), max(xa, xb)
            if high < x[0] or low > x[-1]:
                continue
            for c in range(len(x)):
                if low <= x[c] <= high:
                    s = 0.0 if high - low < 1e-12 else (x[c] - xa) / (xb - xa)
                    y = sign * (p[a, 1] + s * (p[b, 1] - p[a, 1]))
                    if y > out[c]:
                        out[c] = y
    return out
