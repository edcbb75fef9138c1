"""A skin made of equal springs that stretches and bends like rubber: what PyBullet's deformables can carry.

PyBullet's cloth has one spring constant for all links and no modulus, and its bending springs do not bend a
flat sheet at all: they lie in it, and across it their length changes only in the second order. So the skin
is a truss of two layers instead, like corrugated board: two nodes for every vertex, half a gap inside and
half a gap outside of it, and links along every edge of both, upright at every vertex, and crosswise over
every edge. Its spring constant and its gap are fitted to the strip that calibrates the exact shell
(`shell.bending_ratio`), against beam theory. Nothing here knows of PyBullet; `bullet.BulletSkin` hands the
truss to it.

What equal springs cannot be: incompressible. A net of them has Poisson's ratio 1/3 where rubber in plane
stress has 1/2; it shears an eighth too hard and spreads a quarter too easily. And a thickness that varies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.optimize import root

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import Floats, Ints, Material, check_mesh

#: spring constant over Young's modulus times thickness, and gap over thickness, of a strip that stretches and
#: bends as beam theory says: found by `fit_springs` on a grid of 4 mm, the face's own typical edge
STIFFNESS, GAP = 0.277, 0.735
STRIP = (0.05, 0.2)  # m, width and length of the strip, clamped at one short edge
PULL = 1e-5  # N, what pulls at the other


@dataclass(frozen=True)
class Truss:
    """Springs of a two-layered skin.

    Attributes
    ----------
    nodes : float64 [shape=(2N, 3), m]
        The inner layer in the order of the vertices, then the outer one; a vertex is midway.
    faces : int64 [shape=(F, 3)]
        Triangles whose edges are the links; they hang together by their edges.
    links : int64 [shape=(L, 2)]
    lengths : float64 [shape=(L,), m]
    stiffness : float, N/m
        Of every link.
    """

    nodes: Floats
    faces: Ints
    links: Ints
    lengths: Floats
    stiffness: float

    def vertices(self, x: Floats) -> Floats:
        """Vertices [shape=(N, 3)] of node positions [shape=(2N, 3)]."""
        n = len(x) // 2
        return 0.5 * (x[:n] + x[n:])

    def energy(self, x: Floats) -> float:
        """Energy in J of node positions [shape=(2N, 3), m]."""
        longer = np.linalg.norm(x[self.links[:, 1]] - x[self.links[:, 0]], axis=1) - self.lengths
        return 0.5 * self.stiffness * float(longer @ longer)

    def hessian(self) -> sp.csc_matrix:
        """Stiffness at rest, [shape=(6N, 6N), N/m]."""
        way = (self.nodes[self.links[:, 1]] - self.nodes[self.links[:, 0]]) / self.lengths[:, None]
        both = np.concatenate([-way, way], axis=1)  # (L, 6)
        blocks = self.stiffness * both[:, :, None] * both[:, None, :]
        dof = (3 * self.links[:, :, None] + np.arange(3)).reshape(-1, 6)
        rows, columns = np.repeat(dof, 6, axis=1).ravel(), np.tile(dof, (1, 6)).ravel()
        n = 3 * len(self.nodes)
        return sp.coo_matrix((blocks.ravel(), (rows, columns)), shape=(n, n)).tocsc()

    def laplacian(self) -> sp.csc_matrix:
        """Graph Laplacian of the links, [shape=(2N, 2N)]: what equal dampers along them do to velocities."""
        n = len(self.nodes)
        i, j = self.links.T
        one = np.ones(len(i))
        near = sp.coo_matrix((np.r_[one, one], (np.r_[i, j], np.r_[j, i])), shape=(n, n)).tocsc()
        return (sp.diags(np.asarray(near.sum(1)).ravel()) - near).tocsc()


def build_truss(rest: ArrayLike, triangles: ArrayLike, stiffness: float, gap: float) -> Truss:
    """Truss on vertices [shape=(N, 3), m] and triangles [shape=(T, 3)]; ``stiffness`` N/m, ``gap`` m.

    Raises `FaceTwinError` for indices out of range, flat triangles, loose vertices or a mesh in pieces: a
    mesh whose triangles do not hang together by edges never finishes loading in PyBullet.
    """
    v, f = check_mesh(rest, triangles)
    for name, value in (("stiffness", stiffness), ("gap", gap)):
        if not (np.isfinite(value) and value > 0):
            raise FaceTwinError("not a truss", where=name, found=value, expected="a number above 0")
    n = len(v)
    loose = np.setdiff1d(np.arange(n), f)
    if len(loose):
        raise FaceTwinError("vertex in no triangle", where="skin triangles", found=int(loose[0]))
    cross = np.cross(v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]])
    if np.linalg.norm(cross, axis=1).min() <= 2e-12:
        raise FaceTwinError(
            "flat triangle",
            where=f"skin triangles[{int(np.linalg.norm(cross, axis=1).argmin())}]",
        )
    normal = np.zeros_like(v)
    for corner in range(3):
        np.add.at(normal, f[:, corner], cross)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    edges = np.unique(np.sort(f[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    pieces = sp.csgraph.connected_components(_meeting(f, edges), directed=False)[0]
    if pieces > 1:
        raise FaceTwinError(
            "the mesh is in pieces",
            where="skin triangles",
            found=pieces,
            expected="triangles that hang together by their edges",
        )
    i, j = edges.T
    nodes = np.concatenate([v - 0.5 * gap * normal, v + 0.5 * gap * normal])
    upright = np.arange(n)
    links = np.concatenate(
        [
            edges,
            edges + n,
            np.stack([i, j + n], 1),
            np.stack([j, i + n], 1),
            np.stack([upright, upright + n], 1),
        ]
    )
    # PyBullet knows links only as edges of triangles, so each edge of the mesh gets two of them, and a
    # vertex that is never an edge's first end one more for its upright link
    last = np.setdiff1d(upright, i)
    at = np.array([np.flatnonzero(j == k)[0] for k in last], dtype=np.int64)
    faces = np.concatenate(
        [
            f,
            np.stack([i, j, i + n], 1),
            np.stack([i + n, j + n, i], 1),
            np.stack([j[at], j[at] + n, i[at]], 1),
        ]
    )
    lengths = np.linalg.norm(nodes[links[:, 1]] - nodes[links[:, 0]], axis=1)
    return Truss(nodes, faces, links, lengths, float(stiffness))


def springs_of(material: Material) -> tuple[float, float]:
    """Spring constant (N/m) and gap (m) that stretch and bend like a sheet of this material.

    >>> stiffness, gap = springs_of(Material(young=100e3, thickness=2e-3))
    >>> 50 < stiffness < 60, 1.4e-3 < gap < 1.5e-3
    (True, True)
    """
    return STIFFNESS * material.young * material.thickness, GAP * material.thickness


def strip_ratio(
    stiffness: float, gap: float, rows: int = 51, columns: int = 13, material: Material | None = None
) -> tuple[float, float]:
    """Tip deflection of a clamped strip of truss over beam theory's, bent and stretched; 1 when right.

    The strip of `shell.bending_ratio`: 50 mm by 200 mm, pulled with 10 uN at its end, small motion.
    """
    material = material or Material()
    rest, triangles = strip_mesh(rows, columns)
    truss = build_truss(rest, triangles, stiffness, gap)
    n = len(rest)
    held = np.r_[0 : 2 * columns, n : n + 2 * columns]  # two rows are clamped, as in `bending_ratio`
    free = np.setdiff1d(np.arange(2 * n), held)
    dof = (3 * free[:, None] + np.arange(3)).ravel()
    share = np.ones(columns)
    share[[0, -1]] = 0.5
    share /= 2 * share.sum()  # half to either layer
    load = np.zeros((2 * n, 3, 2))
    for layer in (0, n):
        load[layer + n - columns : layer + n, 2, 0] = PULL * share
        load[layer + n - columns : layer + n, 1, 1] = PULL * share
    u = np.zeros((6 * n, 2))
    u[dof] = sp.linalg.spsolve(truss.hessian()[dof][:, dof], load.reshape(-1, 2)[dof])
    tip = u.reshape(2, n, 3, 2)[:, -columns:].mean((0, 1))
    width, length = STRIP
    reach, h = length - length / (rows - 1), material.thickness
    bent = PULL * reach**3 / (3 * material.young * width * h**3 / 12)
    stretched = PULL * reach / (material.young * width * h)
    return float(tip[2, 0] / bent), float(tip[1, 1] / stretched)


def fit_springs(material: Material | None = None, rows: int = 51, columns: int = 13) -> tuple[float, float]:
    """Spring constant (N/m) and gap (m) with which the strip stretches and bends like a beam.

    This is where `STIFFNESS` and `GAP` come from; takes a few seconds.
    """
    material = material or Material()
    scale = np.array([material.young * material.thickness, material.thickness])

    def wrong(guess: Floats) -> list[float]:
        stiffness, gap = (np.exp(guess) * scale).tolist()
        ratio = strip_ratio(stiffness, gap, rows, columns, material)
        return [float(np.log(r)) for r in ratio]

    found = root(wrong, np.log([STIFFNESS, GAP]), tol=1e-4)
    if not found.success:
        raise FaceTwinError("the strip test cannot be met", where="fit_springs()", found=found.message)
    stiffness, gap = np.exp(found.x) * scale
    return float(stiffness), float(gap)


def strip_mesh(rows: int, columns: int) -> tuple[Floats, Ints]:
    """A flat strip 50 mm by 200 mm: vertices [shape=(rows * columns, 3), m] and triangles."""
    width, length = STRIP
    x, y = np.meshgrid(np.linspace(0, width, columns), np.linspace(0, length, rows))
    rest = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
    i = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel(), i[1:, :-1].ravel()
    return rest, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def _meeting(triangles: Ints, edges: Ints) -> sp.csr_matrix:
    # Which triangles share an edge: a graph of triangles and edges, joined where one belongs to the other.
    n = int(edges.max()) + 1
    key = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1) @ (n, 1)
    which = np.searchsorted(edges @ (n, 1), key)
    t = np.repeat(np.arange(len(triangles)), 3)
    size = len(triangles) + len(edges)
    return sp.coo_matrix((np.ones(len(t)), (t, len(triangles) + which)), shape=(size, size)).tocsr()
