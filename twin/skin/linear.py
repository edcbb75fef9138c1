"""The linear skin: the exact one's tangent at rest, for tables, gradients and speed.

Right for small motions only: at 3 mm of travel it is wrong by about half of the motion, at 1 mm by a
quarter. It knows no contact.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import Floats, Ints, check_points
from facetwin.twin.skin.exact import ExactSkin


class LinearSkin:
    """Linear map from goals to vertices, that of an `ExactSkin` at rest: one back-substitution a shape."""

    def __init__(self, exact: ExactSkin) -> None:
        self._exact = exact
        self.rest: Floats = exact.rest
        self.triangles: Ints = exact.triangles
        self.anchored: Ints = exact.anchored

    def solve(
        self,
        goals: ArrayLike,
        start: ArrayLike | None = None,
        poses: Mapping[str, ArrayLike] | None = None,
    ) -> Floats:
        """Vertices [shape=(N, 3), m] for goals [shape=(M, 3), m]; ``start`` and ``poses`` change nothing."""
        target = check_points(goals, len(self.anchored), "goals")
        return self.rest + self.jacobian((target - self.rest[self.anchored])[None])[0]

    def jacobian(self, tangents: ArrayLike) -> Floats:
        """Velocities of the vertices [shape=(K, N, 3)] for velocities of the goals [shape=(K, M, 3)].

        With the tangents of K motors (m per unit of command) this is the table command -> vertices.
        Raises `FaceTwinError` for a wrong shape or numbers that are not finite.
        """
        given = np.asarray(tangents, dtype=np.float64)
        if given.ndim != 3 or given.shape[1:] != (len(self.anchored), 3):
            raise FaceTwinError(
                "wrong shape", where="tangents", found=given.shape, expected=("K", len(self.anchored), 3)
            )
        if not np.isfinite(given).all():
            raise FaceTwinError("not finite", where="tangents", expected="finite numbers")
        return (
            np.stack([self._exact.respond(t) for t in given])
            if len(given)
            else np.zeros((0, *self.rest.shape))
        )
