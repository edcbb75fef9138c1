"""Lips by geometry, beside their gap: on the teeth, narrow, pushed forward; rulers that no tracker is.

The teeth never move against the skull and so neither against the skin's frame: vertices are enough. For
/f v/ the lower lip meets the edge of the upper teeth. Two lengths say how nearly: `edge`, as it is seen
from the front (like `facetwin.twin.skin.gap`), and `touch`, the true distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import Face
from facetwin.twin.skin.walls import arch, measure

#: lower lip seen nearer than this to the edge of the upper teeth is on them, m
ON_TEETH = 0.0005
CORNERS = (61, 291)  #: outer corners of the mouth
FRONT = (0, 13, 14, 17)  #: middle of the lips, outer and inner edges
INNER = (78, 308)  #: inner corners: what is looked at lies in the middle third between them

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Lips:
    """What the skin's vertices say of the mouth, m.

    Attributes
    ----------
    edge : from the edge of the upper teeth down to the lower lip, as seen from the front; below 0 covered
    touch : from the lower lip to the nearest point of the upper teeth
    width : between the corners
    forward : how far the middle of the lips stands before the face at rest
    """

    edge: float
    touch: float
    width: float
    forward: float


class LipRuler:
    """Measures the lips of one face; raises `FaceTwinError` where the face has no upper teeth.

    `shape` is that of the skins it takes, (N, 3).
    """

    def __init__(self, face: Face) -> None:
        parts = {part.name: part for part in face.parts}
        if "upper_teeth" not in parts:
            raise FaceTwinError("face without upper teeth", where="LipRuler", found=sorted(parts))
        self.shape = face.rest.shape
        teeth = parts["upper_teeth"].vertices
        self._lower = face.vertices_of("lower_lip", "lower_rim").astype(np.int64)
        self._wall = arch("upper_teeth", "", teeth, self._lower)
        self._bottom = float(teeth[:, 1].min())
        self._forward = float(face.rest[list(FRONT), 2].mean())
        count = len(self._lower)
        self._kinds = np.full(count, self._wall.kind)
        self._shapes = np.broadcast_to(self._wall.shapes, (count, 8)).copy()
        self._free = np.full(count, -1)  # carried by nothing but the skin's own frame
        self._distance, self._normal = np.empty(count), np.empty((count, 3))
        self._asked, self._apart = np.full((count, 3), np.inf), np.zeros(count)

    def __call__(self, vertices: NDArray[np.floating]) -> Lips:
        """Lips of a skin [shape=(N, 3), m] in the skull's frame."""
        v = np.asarray(vertices, np.float64)
        measure(
            v, self._lower, self._kinds, self._shapes, self._free, np.eye(4)[None], np.inf, self._asked,
            self._apart, self._distance, self._normal,
        )  # fmt: skip
        right, left = v[INNER[0], 0], v[INNER[1], 0]
        x = v[self._lower, 0]
        middle = np.abs(x - (right + left) / 2) < (left - right) / 6
        if not middle.any():  # a face that was never this: all of the lip
            middle[:] = True
        return Lips(
            edge=float(self._bottom - v[self._lower[middle], 1].max()),
            touch=float(self._distance[middle].min()),
            width=float(np.linalg.norm(v[CORNERS[0]] - v[CORNERS[1]])),
            forward=float(v[list(FRONT), 2].mean() - self._forward),
        )
