"""The exact skin on half the vertices: fine where motors pull and parts touch, coarse where nothing happens.

A face comes from one step of subdivision, so its triangles lie in fours. Where none of the three points in
the middle of the edges is wanted, the four are one again; where one or two are, the cut is patched. Motors,
contacts, law and solver are those of `ExactSkin`; shapes go in and out on the whole mesh, on which the points
left out follow their neighbours (butterfly weights: N. Dyn, D. Levin, J. Gregory, ACM Transactions on
Graphics 9(2), 1990).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import Face
from facetwin.twin.skin.base import Floats, Ints, SolveReport, check_points
from facetwin.twin.skin.exact import ExactSkin


@dataclasses.dataclass(frozen=True)
class Grading:
    """A face with fewer vertices, and the way back.

    Attributes
    ----------
    face : Face
        The same face on the kept vertices, which come in their old order.
    kept : int64 [shape=(n,)]
        Those vertices.
    spread : [shape=(N, n)]
        Displacements of all vertices from those of the kept ones; rows sum to 1.
    """

    face: Face
    kept: Ints
    spread: sp.csr_matrix


class GradedSkin:
    """Equilibrium on a graded mesh, as any `Skin`.

    ``exact`` is the solver on the kept vertices of ``grading``, ``rest`` and ``anchored`` the whole face's.

    Attributes
    ----------
    exact : ExactSkin
    driven : int64 [shape=(m,)]
        Which of the goals it is given: those of kept vertices.
    """

    def __init__(self, exact: ExactSkin, grading: Grading, rest: Floats, anchored: Ints) -> None:
        self.exact, self.rest, self.anchored = exact, rest, anchored
        self._kept, self._spread = grading.kept, grading.spread
        place = np.full(len(rest), -1)
        place[self._kept] = np.arange(len(self._kept))
        self.driven = np.flatnonzero(place[anchored] >= 0)  # goals that the solver knows
        if not np.array_equal(place[anchored[self.driven]], exact.anchored):
            raise FaceTwinError(
                "the two skins are not pulled at the same vertices", where="GradedSkin",
                hint="build it with facetwin.twin.twin.build_graded",
            )  # fmt: skip
        self._led = np.setdiff1d(np.arange(len(anchored)), self.driven)  # held ones that were left out

    @property
    def report(self) -> SolveReport:
        """How the last solve went."""
        return self.exact.report

    def solve(
        self,
        goals: ArrayLike,
        start: ArrayLike | None = None,
        poses: Mapping[str, ArrayLike] | None = None,
    ) -> Floats:
        """Shape for goals of the anchored vertices [shape=(M, 3), m]: all vertices [shape=(N, 3), m].

        As `ExactSkin.solve`; of ``start`` the kept vertices count.
        """
        target = check_points(goals, len(self.anchored), "goals")
        begin = None if start is None else check_points(start, len(self.rest), "start")[self._kept]
        x = self.exact.solve(target[self.driven], begin, poses)
        out = self.rest + self._spread @ (x - self.rest[self._kept])
        out[self._kept] = x
        out[self.anchored[self._led]] = target[self._led]
        return out


def grade(face: Face, wanted: NDArray[np.bool_]) -> Grading:
    """Keep the vertices of the coarser mesh and those ``wanted`` [shape=(N,)].

    Raises `FaceTwinError` for a face whose triangles do not come in fours.
    """
    fours, rest_of_it = _fours(face)
    keep = wanted.copy()
    keep[rest_of_it] = True
    keep[fours[:, 0, 0]] = keep[fours[:, 1, 1]] = keep[fours[:, 2, 2]] = True
    ends = _edges(fours)
    patches, labels = [], []
    for four, label in zip(fours, face.labels[: 4 * len(fours)].reshape(-1, 4)[:, 0]):
        found = _patch(four, keep, face.rest)
        patches.append(found)
        labels.append(np.full(len(found), label))
    patches.append(face.triangles[4 * len(fours) :].astype(np.int64))
    labels.append(face.labels[4 * len(fours) :])
    kept = np.flatnonzero(keep)
    place = np.full(len(keep), -1)
    place[kept] = np.arange(len(kept))
    spread = _spread(keep, place, ends)
    small = dataclasses.replace(
        face,
        rest=face.rest[kept],
        triangles=place[np.concatenate(patches)].astype(np.int32),
        labels=np.concatenate(labels).astype(np.int8),
        border=place[face.border][place[face.border] >= 0].astype(np.int32),
        jaw_share=face.jaw_share[kept],
        detail=(face.detail @ spread).tocsr(),
    )
    return Grading(small, kept, spread)


def _fours(face: Face) -> tuple[Ints, Ints]:
    # Triangles by fours [shape=(F, 4, 3)]: three at the corners, one in the middle; vertices of the others.
    t = face.triangles.astype(np.int64)
    f = t[: len(t) // 4 * 4].reshape(-1, 4, 3)
    good = (f[:, 3] == np.stack([f[:, 0, 1], f[:, 1, 2], f[:, 2, 0]], axis=1)).all(1)
    good &= (f[:, 0, 1] == f[:, 1, 0]) & (f[:, 1, 2] == f[:, 2, 1]) & (f[:, 2, 0] == f[:, 0, 2])
    count = len(good) if good.all() else int(np.argmin(good))
    if not count:
        raise FaceTwinError(
            "triangles do not come in fours", where="face", expected="a face of assets/face/build_face.py"
        )
    return f[:count], np.unique(t[4 * count :])


def _edges(fours: Ints) -> dict[int, tuple[int, int, list[int]]]:
    # Of each point in the middle of an edge: the edge's ends, and what lies opposite on its triangles.
    out: dict[int, tuple[int, int, list[int]]] = {}
    for four in fours.tolist():
        corner = (four[0][0], four[1][1], four[2][2])
        middle = (four[0][1], four[1][2], four[2][0])
        for k in range(3):
            edge = out.setdefault(middle[k], (corner[k], corner[(k + 1) % 3], []))
            edge[2].append(corner[(k + 2) % 3])
    return out


def _patch(four: Ints, keep: NDArray[np.bool_], rest: Floats) -> Ints:
    # The triangles that stand for a four, int64 [shape=(n, 3)].
    corner = (four[0, 0], four[1, 1], four[2, 2])
    middle = (four[0, 1], four[1, 2], four[2, 0])
    cut = [bool(keep[m]) for m in middle]
    if all(cut):
        return four
    if not any(cut):
        return np.array([corner])
    k = cut.index(True) if sum(cut) == 1 else cut.index(False)
    a, b, c = corner[k], corner[(k + 1) % 3], corner[(k + 2) % 3]
    ab, bc, ca = middle[k], middle[(k + 1) % 3], middle[(k + 2) % 3]
    if sum(cut) == 1:
        return np.array([(a, ab, c), (ab, b, c)])
    if np.linalg.norm(rest[a] - rest[bc]) <= np.linalg.norm(rest[b] - rest[ca]):  # the shorter diagonal
        return np.array([(ca, bc, c), (a, b, bc), (a, bc, ca)])
    return np.array([(ca, bc, c), (a, b, ca), (b, bc, ca)])


def _spread(
    keep: NDArray[np.bool_], place: Ints, ends: dict[int, tuple[int, int, list[int]]]
) -> sp.csr_matrix:
    # Rows of kept vertices are those of the identity; others take the butterfly about their edge.
    across = {frozenset((a, b)): over for a, b, over in ends.values()}
    rows, columns, weights = list(np.flatnonzero(keep)), list(place[keep]), [1.0] * int(keep.sum())
    for v in np.flatnonzero(~keep).tolist():
        a, b, over = ends[v]
        wings = [
            u for r in over for e in (a, b) for u in across.get(frozenset((e, r)), ()) if u not in (a, b)
        ]
        parts = {a: 0.5, b: 0.5}
        if len(over) == 2 and len(wings) == 4:
            for u, w in [*((u, 1 / 8) for u in over), *((u, -1 / 16) for u in wings)]:
                parts[u] = parts.get(u, 0.0) + w
        rows += [v] * len(parts)
        columns += [int(place[u]) for u in parts]
        weights += parts.values()
    return sp.csr_matrix((weights, (rows, columns)), shape=(len(keep), int(keep.sum())))
