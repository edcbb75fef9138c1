"""The shell: its rest geometry, elastic energy with gradient, and stiffness at rest (DESIGN section 6).

Membrane: incompressible neo-Hookean in plane stress, W = h A mu/2 (tr C + 1/det C - 3), mu = E/3, on
linear triangles. Bending: k/2 (angle - rest angle)^2 on every inner edge; the angle is the true one, so
that a rigid motion (jaw, neck) costs nothing, and its Hessian at rest goes into the stiffness.
Not here: inertia, gravity, change of thickness (that is in 1/det C), contact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import ArrayLike

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import Floats, Ints, Material

#: share of the textbook hinge stiffness 3 |e|^2 / (A1 + A2) that bends like a beam: measured by
#: `bending_ratio` on a strip of right triangles; the textbook's own is three times too stiff there
HINGE = 0.32
#: a triangle squashed below this share of its area squared ends the line search
FLAT = 1e-6
#: reassociation is allowed, infinities and NaN keep their meaning
FAST = {"reassoc", "contract", "arcp", "nsz"}


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
    springs, angles : float64 [shape=(H,), N m and rad]
        Stiffness and rest angle of the hinges.
    """

    rest: Floats
    triangles: Ints
    material: Material
    slopes: Floats
    frames: Floats
    area: Floats
    volumes: Floats
    hinges: Ints
    springs: Floats
    angles: Floats

    def energy(self, x: Floats, gradient: Floats) -> float:
        """Elastic energy in J, inf if a triangle is flat; adds to ``gradient`` [shape=(N, 3), N]."""
        e = membrane(x, self.triangles, self.slopes, self.volumes, self.material.shear, gradient)
        return e + bend(x, self.hinges, self.springs, self.angles, gradient)

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
        turn = np.empty((len(self.hinges), 12))
        hinge_slopes(self.rest, self.hinges, turn)
        bends = np.einsum("h,ha,hb->hab", self.springs, turn, turn)
        return _assemble(n, self.triangles, membranes) + _assemble(n, self.hinges, bends)


def build_shell(
    rest: ArrayLike, triangles: ArrayLike, material: Material, thickness: ArrayLike | None = None
) -> Shell:
    """Shell of a triangle mesh, vertices [shape=(N, 3), m] and triangles [shape=(T, 3)].

    ``thickness`` [shape=(T,), m] is that of each triangle where the material's does not hold everywhere.
    Raises `FaceTwinError` for indices out of range, flat triangles, or an edge with three triangles.
    """
    v = np.ascontiguousarray(rest, dtype=np.float64)
    f = np.ascontiguousarray(triangles, dtype=np.int64)
    if v.ndim != 2 or v.shape[1] != 3 or not np.isfinite(v).all():
        raise FaceTwinError("not finite points", where="skin rest", found=v.shape, expected="(N, 3)")
    if f.ndim != 2 or f.shape[1] != 3 or not len(f):
        raise FaceTwinError("not triangles", where="skin triangles", found=f.shape, expected="(T, 3)")
    if f.min() < 0 or f.max() >= len(v):
        raise FaceTwinError(
            "vertex out of range", where="skin triangles", found=int(f.max()), expected=f"below {len(v)}"
        )
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
    length2 = ((v[hinges[:, 1]] - v[hinges[:, 0]]) ** 2).sum(1)
    deep = material.thickness if thickness is None else thickness
    deep = np.broadcast_to(np.asarray(deep, dtype=np.float64), area.shape)
    if not (np.isfinite(deep).all() and (deep > 0).all()):
        raise FaceTwinError("not a thickness", where="skin thickness", expected="metres above 0")
    bending = material.bending * (deep[sides] / material.thickness).mean(1) ** 3
    springs = HINGE * bending * 3 * length2 / area[sides].sum(1)
    angles = np.empty(len(hinges))
    hinge_angles(v, hinges, angles)
    return Shell(v, f, material, slopes, frames, area, deep * area, hinges, springs, angles)


def bending_ratio(rows: int = 41, columns: int = 11, seed: int | None = None) -> tuple[float, float]:
    """Tip deflection of a clamped strip over beam theory's, bent and stretched: what `HINGE` is set by.

    A strip 50 mm by 200 mm, 2 mm thick, clamped at one short edge, with 10 uN at the other, in the small-
    motion limit. ``seed`` shakes the inner vertices, as a face mesh is no grid. Both are 1 when right.

    >>> bend, stretch = bending_ratio()
    >>> abs(bend - 1) < .05, abs(stretch - 1) < .05
    (True, True)
    """
    width, length, force = 0.05, 0.2, 1e-5
    x, y = np.meshgrid(np.linspace(0, width, columns), np.linspace(0, length, rows))
    rest = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
    if seed is not None:
        step = np.array([width / (columns - 1), length / (rows - 1)])
        noise = np.random.default_rng(seed).uniform(-0.3, 0.3, (rows, columns, 2)) * step
        noise[[0, 1, -1]] = 0
        noise[:, [0, -1]] = 0
        rest[:, :2] += noise.reshape(-1, 2)
    i = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel(), i[1:, :-1].ravel()
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    material = Material()
    free = np.arange(6 * columns, 3 * len(rest))  # two rows are clamped
    k = build_shell(rest, triangles, material).stiffness().tocsc()[free][:, free]
    share = np.ones(columns)
    share[[0, -1]] = 0.5
    load = np.zeros((len(rest), 3, 2))
    load[-columns:, 2, 0] = load[-columns:, 1, 1] = force * share / share.sum()
    u = np.zeros((3 * len(rest), 2))
    u[free] = sp.linalg.spsolve(k, load.reshape(-1, 2)[free])
    tip = u.reshape(-1, 3, 2)[-columns:].mean(0)
    reach, h = length - length / (rows - 1), material.thickness
    bent = force * reach**3 / (3 * material.young * width * h**3 / 12)
    stretched = force * reach / (material.young * width * h)
    return float(tip[2, 0] / bent), float(tip[1, 1] / stretched)


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


@njit(cache=True, fastmath=FAST, inline="always")
def _hinge(x, i, j, k, m, slope):
    # Angle of the hinge on edge i-j between corners k and m, and its gradient in `slope` [shape=(12,)].
    ex, ey, ez = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
    px, py, pz = x[k, 0] - x[i, 0], x[k, 1] - x[i, 1], x[k, 2] - x[i, 2]
    qx, qy, qz = x[m, 0] - x[i, 0], x[m, 1] - x[i, 1], x[m, 2] - x[i, 2]
    ax, ay, az = ey * pz - ez * py, ez * px - ex * pz, ex * py - ey * px  # normal of the first triangle
    bx, by, bz = qy * ez - qz * ey, qz * ex - qx * ez, qx * ey - qy * ex  # and of the second
    length = np.sqrt(ex * ex + ey * ey + ez * ez)
    aa = 1.0 / (ax * ax + ay * ay + az * az)
    bb = 1.0 / (bx * bx + by * by + bz * bz)
    sine = (ax * qx + ay * qy + az * qz) * length  # (a x b) . e / |e|
    angle = np.arctan2(sine, ax * bx + ay * by + az * bz)
    along = (px * ex + py * ey + pz * ez) / length
    beyond = (qx * ex + qy * ey + qz * ez) / length
    fk, fm = length * aa, length * bb
    fik, fim = (along - length) * aa, (beyond - length) * bb
    fjk, fjm = -along * aa, -beyond * bb
    slope[0], slope[1], slope[2] = fik * ax + fim * bx, fik * ay + fim * by, fik * az + fim * bz
    slope[3], slope[4], slope[5] = fjk * ax + fjm * bx, fjk * ay + fjm * by, fjk * az + fjm * bz
    slope[6], slope[7], slope[8] = fk * ax, fk * ay, fk * az
    slope[9], slope[10], slope[11] = fm * bx, fm * by, fm * bz
    return angle


@njit(cache=True, fastmath=FAST)
def bend(x, hinges, springs, angles, gradient):
    """Bending energy in J; adds its gradient (N) to ``gradient`` [shape=(N, 3)]."""
    e = 0.0
    slope = np.empty(12)
    for h in range(hinges.shape[0]):
        i, j, k, m = hinges[h, 0], hinges[h, 1], hinges[h, 2], hinges[h, 3]
        d = _hinge(x, i, j, k, m, slope) - angles[h]
        d -= 2 * np.pi * np.round(d / (2 * np.pi))  # a fold past half a turn goes on, not back
        moment = springs[h] * d
        e += 0.5 * moment * d
        for n in range(3):
            gradient[i, n] += moment * slope[n]
            gradient[j, n] += moment * slope[3 + n]
            gradient[k, n] += moment * slope[6 + n]
            gradient[m, n] += moment * slope[9 + n]
    return e


@njit(cache=True)
def hinge_angles(x, hinges, angles):
    """Angle of each hinge in rad, 0 where flat, into ``angles`` [shape=(H,)]."""
    slope = np.empty(12)
    for h in range(hinges.shape[0]):
        angles[h] = _hinge(x, hinges[h, 0], hinges[h, 1], hinges[h, 2], hinges[h, 3], slope)


@njit(cache=True)
def hinge_slopes(x, hinges, slopes):
    """Gradient of each hinge's angle to its four points, rad/m, into ``slopes`` [shape=(H, 12)]."""
    for h in range(hinges.shape[0]):
        _hinge(x, hinges[h, 0], hinges[h, 1], hinges[h, 2], hinges[h, 3], slopes[h])
