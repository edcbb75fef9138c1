"""The shell: its rest geometry, elastic energy with gradient, and stiffness at rest (DESIGN section 6).

Membrane: incompressible neo-Hookean in plane stress, W = h A mu/2 (tr C + 1/det C - 3), mu = E/3, on
linear triangles. Bending: quadratic in the changes of the angles between neighbours (`bending.py`); they are
the true angles, so that a rigid motion (jaw, neck) costs nothing.
Not here: inertia, gravity, change of thickness (that is in 1/det C), contact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import FAST, Floats, Ints, Material, check_mesh
from facetwin.twin.skin.bending import area_normals, bend, hinge_angles, hinge_slopes, patch_stiffness

#: a triangle squashed below this share of its area squared ends the line search
FLAT = 1e-6
SAME = 1e-6  # m, nearer vertices are one place


@dataclass(frozen=True)
class Shell:
    """Rest geometry of a skin, ready for the kernels.

    Attributes
    ----------
    rest : float64 [shape=(N, 3), m]
    triangles : int64 [shape=(T, 3)]
    slopes : float64 [shape=(T, 3, 2), 1/m]
        Gradients of the three shape functions in the triangle's own frame.
    frames : float64 [shape=(T, 2, 3)]
        That frame: two unit vectors.
    area, volumes : float64 [shape=(T,), m2 and m3]
    hinges : int64 [shape=(H, 4)]
        Edge from, edge to, the opposite corners of the two triangles.
    sides : int64 [shape=(H, 2)]
        Those two triangles.
    angles : float64 [shape=(H,), rad]
        Rest angle of the hinges.
    own, bends : int64 [shape=(T, 3)], float64 [shape=(T, 3, 3), N m]
        Hinges of each triangle (H: no neighbour), and the stiffness between their angles.
    """

    rest: Floats
    triangles: Ints
    material: Material
    slopes: Floats
    frames: Floats
    area: Floats
    volumes: Floats
    hinges: Ints
    sides: Ints
    angles: Floats
    own: Ints
    bends: Floats

    def energy(self, x: Floats, gradient: Floats) -> float:
        """Elastic energy in J, inf if a triangle is flat; adds to ``gradient`` [shape=(N, 3), N]."""
        e = membrane(x, self.triangles, self.slopes, self.volumes, self.material.shear, gradient)
        return e + self.fold(x, gradient)

    def fold(self, x: Floats, gradient: Floats) -> float:
        """Bending energy alone, in J; adds to ``gradient``."""
        return bend(x, self.triangles, self.hinges, self.sides, self.own, self.bends, self.angles, gradient)

    def areas(self) -> Floats:
        """Rest area of each vertex, a third of its triangles' [shape=(N,), m2]."""
        thirds = np.repeat(self.area / 3, 3)
        return np.bincount(self.triangles.ravel(), thirds, len(self.rest)).astype(np.float64)

    def stiffness(self) -> sp.csc_matrix:
        """Hessian of the energy at rest, [shape=(3N, 3N), N/m]."""
        n, mu = len(self.rest), self.material.shear
        # strains xx, yy, xy of the triangle's frame from its nine coordinates
        t1, t2 = self.frames[:, None, 0], self.frames[:, None, 1]
        gx, gy = self.slopes[:, :, 0, None], self.slopes[:, :, 1, None]
        strain = np.stack([gx * t1, gy * t2, gx * t2 + gy * t1], axis=1).reshape(-1, 3, 9)  # (T, 3, 9)
        law = mu * np.array([[4.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
        membranes = np.einsum("t,tia,ij,tjb->tab", self.volumes, strain, law, strain)
        count = len(self.hinges)
        turn = np.empty((count, 12))
        hinge_slopes(self.rest, self.triangles, self.hinges, self.sides, turn)
        dof = (3 * self.hinges[:, :, None] + np.arange(3)).reshape(count, 12)
        hinge = np.repeat(np.arange(count), 12)
        turns = sp.csr_matrix((turn.ravel(), (hinge, dof.ravel())), shape=(count + 1, 3 * n))
        rows, columns = np.repeat(self.own, 3, axis=1).ravel(), np.tile(self.own, (1, 3)).ravel()
        between = sp.csr_matrix((self.bends.ravel(), (rows, columns)), shape=(count + 1,) * 2)
        return (_assemble(n, self.triangles, membranes) + turns.T @ between @ turns).tocsc()

    @property
    def springs(self) -> Floats:
        """Stiffness of each hinge by itself, float64 [shape=(H,), N m]."""
        own = np.bincount(
            self.own.ravel(), np.einsum("tii->ti", self.bends).ravel(), minlength=len(self.hinges) + 1
        )
        return own[:-1].astype(np.float64)


def build_shell(
    rest: ArrayLike,
    triangles: ArrayLike,
    material: Material,
    thickness: ArrayLike | None = None,
    openings: int | None = None,
) -> Shell:
    """Shell of a triangle mesh, vertices [shape=(N, 3), m] and triangles [shape=(T, 3)].

    ``thickness`` [shape=(T,), m] is that of each triangle where the material's does not hold everywhere.
    ``openings`` is the number of closed borders that it should have (a face: eyes, mouth, outer edge); any
    number without it. Raises `FaceTwinError` for indices out of range, vertices without a triangle or twice
    in one place, flat triangles, an edge with three triangles, neighbours that face opposite ways, and
    other openings.
    """
    v, f = check_mesh(rest, triangles)
    twins = cKDTree(v).query_pairs(SAME, output_type="ndarray")
    if len(twins):
        raise FaceTwinError(
            "two vertices in one place", where="skin rest", found=tuple(twins[0].tolist()),
            hint="merge them: the skin would have a slit there",
        )  # fmt: skip
    e1, e2 = v[f[:, 1]] - v[f[:, 0]], v[f[:, 2]] - v[f[:, 0]]
    normal = np.cross(e1, e2)
    area = np.linalg.norm(normal, axis=1) / 2
    if area.min() <= 1e-12:
        raise FaceTwinError(
            "flat triangle", where=f"skin triangles[{int(area.argmin())}]", found=float(area.min())
        )
    t1 = e1 / np.linalg.norm(e1, axis=1, keepdims=True)
    t2 = np.cross(normal, t1) / (2 * area)[:, None]
    frames = np.stack([t1, t2], axis=1)  # (T, 2, 3)
    edges = np.einsum("tax,tex->tae", frames, np.stack([e1, e2], axis=1))  # columns: edges in the frame
    g12 = np.linalg.inv(edges)  # (T, 2, 2): row e is the gradient of corner e + 1
    slopes = np.concatenate([-g12.sum(1, keepdims=True), g12], axis=1)
    hinges, sides = _hinges(f)
    unused = np.setdiff1d(np.arange(len(v)), f)
    if len(unused):
        raise FaceTwinError("vertex without a triangle", where="skin rest", found=int(unused[0]))
    found = _openings(f)
    if openings is not None and found != openings:
        raise FaceTwinError(
            "holes where none may be", where="skin triangles", found=f"{found} openings", expected=openings
        )
    deep = material.thickness if thickness is None else thickness
    deep = np.broadcast_to(np.asarray(deep, dtype=np.float64), area.shape)
    if not (np.isfinite(deep).all() and (deep > 0).all()):
        raise FaceTwinError("not a thickness", where="skin thickness", expected="metres above 0")
    own, bends = patch_stiffness(v, f, hinges, sides, material.bending * (deep / material.thickness) ** 3)
    angles, normals = np.empty(len(hinges)), np.empty_like(v, shape=f.shape)
    area_normals(v, f, normals)
    hinge_angles(v, hinges, sides, normals, angles)
    return Shell(v, f, material, slopes, frames, area, deep * area, hinges, sides, angles, own, bends)


def _hinges(triangles: Ints) -> tuple[Ints, Ints]:
    # Each edge that two triangles share: (from, to, apex of one, apex of the other), and the two triangles.
    start = triangles.ravel()
    end = np.roll(triangles, -1, axis=1).ravel()
    apex = np.roll(triangles, -2, axis=1).ravel()
    key = np.stack([np.minimum(start, end), np.maximum(start, end)], axis=1)
    order = np.lexsort(key.T)
    same = (key[order[1:]] == key[order[:-1]]).all(1)
    if (same[1:] & same[:-1]).any():
        edge = key[order[np.flatnonzero(same[1:] & same[:-1])[0]]]
        raise FaceTwinError("an edge has three triangles", where="skin triangles", found=tuple(edge.tolist()))
    one, two = order[:-1][same], order[1:][same]
    if (start[one] == start[two]).any():
        edge = key[one[np.flatnonzero(start[one] == start[two])[0]]]
        raise FaceTwinError(
            "neighbours face opposite ways", where="skin triangles", found=tuple(edge.tolist())
        )
    return np.stack([start[one], end[one], apex[one], apex[two]], axis=1), np.stack(
        [one // 3, two // 3], axis=1
    )


def _openings(triangles: Ints) -> int:
    # How many closed borders: vertices on open edges, joined along them.
    ends = np.stack([triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()], axis=1)
    key = np.sort(ends, axis=1)
    edges, uses = np.unique(key, axis=0, return_counts=True)
    open_edges = edges[uses == 1]
    if not len(open_edges):
        return 0
    vertices, joined = np.unique(open_edges, return_inverse=True)
    joined = joined.reshape(-1, 2)
    graph = sp.coo_matrix((np.ones(len(joined)), joined.T), shape=(len(vertices),) * 2)
    return int(connected_components(graph, directed=False)[0])


def _assemble(n: int, elements: Ints, blocks: Floats) -> sp.csc_matrix:
    dof = (3 * elements[:, :, None] + np.arange(3)).reshape(len(elements), -1)
    wide = dof.shape[1]
    rows, columns = np.repeat(dof, wide, axis=1).ravel(), np.tile(dof, (1, wide)).ravel()
    return sp.coo_matrix((blocks.ravel(), (rows, columns)), shape=(3 * n, 3 * n)).tocsc()


@njit(cache=True, fastmath=FAST)
def membrane(x, triangles, slopes, volumes, mu, gradient):
    """Membrane energy in J, inf if a triangle is flat; adds to ``gradient`` [shape=(N, 3), N]."""
    e = 0.0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        g00, g10, g20 = slopes[t, 0, 0], slopes[t, 1, 0], slopes[t, 2, 0]
        g01, g11, g21 = slopes[t, 0, 1], slopes[t, 1, 1], slopes[t, 2, 1]
        # the two columns of the deformation gradient
        fx = g00 * x[a, 0] + g10 * x[b, 0] + g20 * x[c, 0]
        fy = g00 * x[a, 1] + g10 * x[b, 1] + g20 * x[c, 1]
        fz = g00 * x[a, 2] + g10 * x[b, 2] + g20 * x[c, 2]
        hx = g01 * x[a, 0] + g11 * x[b, 0] + g21 * x[c, 0]
        hy = g01 * x[a, 1] + g11 * x[b, 1] + g21 * x[c, 1]
        hz = g01 * x[a, 2] + g11 * x[b, 2] + g21 * x[c, 2]
        c11 = fx * fx + fy * fy + fz * fz
        c22 = hx * hx + hy * hy + hz * hz
        c12 = fx * hx + fy * hy + fz * hz
        det = c11 * c22 - c12 * c12
        if not det > FLAT:
            return np.inf
        k = mu * volumes[t]
        inverse = 1.0 / det
        e += 0.5 * k * (c11 + c22 + inverse - 3.0)
        p = k * (1.0 - c22 * inverse * inverse)
        q = k * c12 * inverse * inverse
        r = k * (1.0 - c11 * inverse * inverse)
        sx, sy, sz = p * fx + q * hx, p * fy + q * hy, p * fz + q * hz
        ux, uy, uz = r * hx + q * fx, r * hy + q * fy, r * hz + q * fz
        gradient[a, 0] += g00 * sx + g01 * ux
        gradient[a, 1] += g00 * sy + g01 * uy
        gradient[a, 2] += g00 * sz + g01 * uz
        gradient[b, 0] += g10 * sx + g11 * ux
        gradient[b, 1] += g10 * sy + g11 * uy
        gradient[b, 2] += g10 * sz + g11 * uz
        gradient[c, 0] += g20 * sx + g21 * ux
        gradient[c, 1] += g20 * sy + g21 * uy
        gradient[c, 2] += g20 * sz + g21 * uz
    return e
