"""Rigid parts in small pieces, so that a renderer can leave out at once what nobody sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.scene import LinkMesh


@dataclass(frozen=True)
class Cluster:
    """A few neighbouring triangles of one part.

    Attributes
    ----------
    link : str
    triangles : int32 [shape=(T, 3)]
        Vertices of the link's mesh.
    closed : bool
        Part of a surface without a border: its back is never seen.
    box : float64 [shape=(6,), m]
        Middle and half the sides of a box around it, in the link's frame.
    cone : float64 [shape=(4,)]
        Where its triangles look on average, unit vector, and the sine of the widest angle from there; 2 if
        they look every way.
    """

    link: str
    triangles: NDArray[np.int32]
    closed: bool
    box: NDArray[np.float64]
    cone: NDArray[np.float64]


def clusters(meshes: Mapping[str, LinkMesh], size: int) -> list[Cluster]:
    """All rigid parts in pieces of at most `size` triangles, the foremost first."""
    found = []
    for link, mesh in meshes.items():
        for part in range(int(mesh.part.max(initial=-1)) + 1):
            own = mesh.triangles[mesh.part == part]
            closed = is_closed(mesh.vertices, own)
            corners = mesh.vertices[own]  # (T, 3, 3)
            ways = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            for piece in halves(corners.mean(axis=1), size):
                low, high = corners[piece].min(axis=(0, 1)), corners[piece].max(axis=(0, 1))
                box = np.concatenate([(low + high) / 2, (high - low) / 2])
                found.append(Cluster(link, own[piece], closed, box, cone_of(ways[piece])))
    return sorted(found, key=lambda c: -(c.box[2] + c.box[5]))


def cone_of(ways: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of vectors [shape=(n, 3)] and the sine of the widest angle from it; 2 from a right angle on."""
    long = np.linalg.norm(ways, axis=1)
    unit = ways[long > 0] / long[long > 0, None]
    mean = unit.sum(axis=0)
    mean = mean / max(float(np.linalg.norm(mean)), 1e-12)
    least = float((unit @ mean).min(initial=1.0))
    return np.array([*mean, np.sqrt(1 - min(least, 1.0) ** 2) if least > 0 else 2.0])


def halves(points: NDArray[np.float64], size: int) -> list[NDArray[np.intp]]:
    """Indices of the points in groups of `size`, split along the longest side again and again."""
    waiting, done = [np.arange(len(points))], []
    while waiting:
        group = waiting.pop()
        if len(group) <= size:
            done.append(group)
            continue
        axis = int(np.argmax(np.ptp(points[group], axis=0)))
        order = group[np.argsort(points[group, axis], kind="stable")]
        middle = size * round(len(group) / (2 * size)) or size  # all but the last group are full
        waiting += [order[:middle], order[middle:]]
    return done


def is_closed(vertices: NDArray[np.float64], triangles: NDArray[np.int32]) -> bool:
    """Whether the surface has no border: every edge, seams of colour aside, is run once in each direction."""
    _, same = np.unique(vertices.round(7), axis=0, return_inverse=True)
    t = same.reshape(-1)[triangles]
    t = t[(t[:, 0] != t[:, 1]) & (t[:, 1] != t[:, 2]) & (t[:, 2] != t[:, 0])]
    edges = np.concatenate([t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]]])
    forth = edges[:, 0].astype(np.int64) * len(vertices) + edges[:, 1]
    back = edges[:, 1].astype(np.int64) * len(vertices) + edges[:, 0]
    ways = np.sort(forth)
    return bool((np.diff(ways) > 0).all() and np.array_equal(ways, np.sort(back)))
