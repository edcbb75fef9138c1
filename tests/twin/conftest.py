"""Fixtures of the twin's tests: a skin with closed lips, built from the canonical face."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import trimesh
from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION
from numpy.typing import NDArray

from facetwin.twin import landmarks

EYE_CORNERS = 0.09  # m between the outer eye corners
CORNERS = ((61, 76), (76, 62), (62, 78), (291, 306), (306, 292), (292, 308))  # mouth corner to inner corner
RIM = ((0.0006, -0.0012), (0.0018, -0.0030), (0.0034, -0.0046), (0.0050, -0.0056))  # (away, back) in m


@dataclass(frozen=True)
class SkinMesh:
    """Rest (N, 3) m, triangles (T, 3), the two lips (n, 3), the mirrored vertex of each vertex (N,)."""

    rest: NDArray[np.float64]
    triangles: NDArray[np.int64]
    upper_lip: NDArray[np.int64]
    lower_lip: NDArray[np.int64]
    mirror: NDArray[np.int64]

    def near(self, point: tuple[float, float, float], radius: float) -> NDArray[np.int64]:
        """Vertices within a radius (m) of a point of the face frame."""
        return np.flatnonzero(np.linalg.norm(self.rest - np.array(point), axis=1) < radius)


def cliques(edges: frozenset[tuple[int, int]]) -> NDArray[np.int64]:
    """Triangles of a set of edges: its 3-cliques, less those that only close a ring of three others."""
    near: dict[int, set[int]] = {}
    for a, b in edges:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    found = sorted({tuple(sorted((a, b, c))) for a, b in edges for c in near[a] & near[b]})
    owners = Counter(e for t in found for e in itertools.combinations(t, 2))
    return np.array([t for t in found if any(owners[e] < 3 for e in itertools.combinations(t, 2))])


def oriented(rest: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.int64]:
    mesh = trimesh.Trimesh(rest, triangles, process=False)
    trimesh.repair.fix_winding(mesh)
    faces = np.array(mesh.faces)
    return faces if mesh.face_normals[:, 2].sum() > 0 else faces[:, ::-1]


def flood(triangles: NDArray[np.int64], seed: int, fence: set[tuple[int, int]]) -> NDArray[np.int64]:
    """Triangles reached from those at vertex `seed` across edges that are not in the fence."""
    owners: dict[tuple[int, int], list[int]] = {}
    for t, (a, b, c) in enumerate(triangles):
        for e in ((a, b), (b, c), (c, a)):
            owners.setdefault((min(e), max(e)), []).append(t)
    seen = {int(t) for t in np.flatnonzero((triangles == seed).any(1))}
    queue = list(seen)
    while queue:
        a, b, c = triangles[queue.pop()]
        for e in ((a, b), (b, c), (c, a)):
            key = (min(e), max(e))
            if key not in fence:
                new = set(owners[key]) - seen
                seen |= new
                queue += new
    return np.array(sorted(seen))


def pairs(loop: tuple[int, ...]) -> set[tuple[int, int]]:
    return {(min(e), max(e)) for e in itertools.pairwise(loop)}


def build() -> SkinMesh:
    """The canonical face at human size, lips shut, subdivided once, with a rim rolled into the mouth."""
    canonical = landmarks.load_file(landmarks.assets.path("face", "canonical.safetensors"))
    rest = canonical["points"][:468].astype(np.float64) * EYE_CORNERS
    triangles = cliques(FACEMESH_TESSELATION)
    half = triangles[rest[triangles, 0].mean(1) < 0]  # FaceMesh's diagonals are not quite mirrored
    triangles = oriented(rest, np.concatenate([half, canonical["mirror"][half]]))
    upper, lower = landmarks.UPPER_INNER, (78, *landmarks.LOWER_INNER, 308)
    middle = (rest[list(upper[1:-1]), 1] + rest[list(lower[1:-1]), 1]) / 2
    rest[list(upper[1:-1]), 1] = middle + 0.0001
    rest[list(lower[1:-1]), 1] = middle - 0.0001
    fence = (
        pairs(landmarks.UPPER_OUTER) | pairs((61, *landmarks.LOWER_OUTER, 291)) | pairs(upper) | pairs(lower)
    )
    fence |= {(min(e), max(e)) for e in CORNERS}
    kind = np.zeros(len(triangles), int)
    kind[flood(triangles, 12, fence)] = 1
    kind[flood(triangles, 15, fence)] = 2

    ring = [*upper, *lower[-2:0:-1]]  # once round the mouth: 11 above, 9 below
    turn = np.array([0.0] + [1.0] * 9 + [0.0] + [-1.0] * 9)  # which way the rim rolls: up, down
    previous = np.array(ring)
    rows = [rest]
    faces, kinds = [triangles], [kind]
    for away, back in RIM:
        row = np.arange(len(ring)) + sum(map(len, rows))
        rows.append(rest[ring] + np.stack([0 * turn, away * turn, 0 * turn + back], axis=1))
        for i in range(len(ring)):
            j = (i + 1) % len(ring)
            a, b, c, d = previous[i], previous[j], row[i], row[j]
            slash = i < 5 or i >= 15  # diagonals mirror about the middle
            faces.append(np.array([(a, b, d), (a, d, c)] if slash else [(a, b, c), (b, d, c)]))
            kinds.append(np.full(2, 1 if i < 10 else 2))
        previous = row
    rest, triangles, kind = np.concatenate(rows), np.concatenate(faces), np.concatenate(kinds)
    triangles = oriented(rest, triangles)
    rest, triangles, index = trimesh.remesh.subdivide(rest, triangles, return_index=True)
    fine = np.zeros(len(triangles), int)
    for old, new in index.items():
        fine[new] = kind[old]
    mirror = np.array([np.argmin(((rest - p) ** 2).sum(1)) for p in rest * (-1, 1, 1)])
    return SkinMesh(rest, triangles, triangles[fine == 1], triangles[fine == 2], mirror)


@pytest.fixture(scope="session")
def skin_mesh() -> SkinMesh:
    return build()


@dataclass(frozen=True)
class Anchors:
    """Vertices that skull, jaw and seven lip motors hold, how hard, and goals for pulls in millimetres."""

    mesh: SkinMesh
    index: NDArray[np.int64]
    stiffness: NDArray[np.float64]
    patch: NDArray[np.int64]

    NAMES = ("skull", "jaw", "upper", "lower", "right", "left")
    PIVOT = np.array((0.0, -0.01, -0.03))

    def goals(self, jaw: float = 0.0, **pulls: tuple[float, float, float]) -> NDArray[np.float64]:
        goals = self.mesh.rest[self.index].copy()
        rides = np.isin(self.patch, [self.NAMES.index("jaw"), self.NAMES.index("lower")])
        c, s = np.cos(jaw), np.sin(jaw)
        turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        goals[rides] = (goals[rides] - self.PIVOT) @ turn.T + self.PIVOT
        for name, pull in pulls.items():
            goals[self.patch == self.NAMES.index(name)] += np.array(pull) * 1e-3
        return goals


@pytest.fixture(scope="session")
def anchors(skin_mesh: SkinMesh) -> Anchors:
    rest = skin_mesh.rest
    edges = np.sort(skin_mesh.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    border = np.unique(unique[count == 1])
    lips = np.abs(rest[border] - rest[13]).max(1) < 0.035
    eyes = (np.abs(rest[border, 1]) < 0.02) & (np.abs(rest[border, 0]) < 0.06)
    border = border[~lips | eyes]
    low = rest[border, 1] < -0.05

    def near(*points: int, radius: float = 0.004) -> NDArray[np.int64]:
        return np.unique(np.concatenate([skin_mesh.near(tuple(rest[p]), radius) for p in points]))

    patches = [
        np.concatenate([border[~low], near(4, 6, radius=0.008)]),
        np.concatenate([border[low], near(152, radius=0.012)]),
        near(0, 37, 267),
        near(17, 84, 314),
        near(61),
        near(291),
    ]
    index, first = np.unique(np.concatenate(patches), return_index=True)
    patch = np.concatenate([np.full(len(p), k) for k, p in enumerate(patches)])[first]
    return Anchors(skin_mesh, index, np.where(patch < 2, np.inf, 120.0), patch)
