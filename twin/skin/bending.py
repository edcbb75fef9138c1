"""Bending of the shell, for any mesh: curvature of each triangle from the angles to its neighbours.

A triangle and its three neighbours, laid flat, are six points, and six points fix a quadratic surface. So
the three angles to the neighbours tell the triangle's curvature, exactly for every surface of constant
curvature on every mesh, where a stiffness per hinge is right on one kind of mesh only (measured by
`strip.bending_ratio`). Where a neighbour is missing the curvature takes the shape of least energy, as a free
edge does. The energy is A/2 k.D.k with the plate's D (nu = 1/2); k is the change since rest.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from facetwin.twin.skin.base import FAST, Floats, Ints

#: share of a patch's mean flexibility added to each angle: keeps six points that lie on a conic from being
#: endlessly stiff
GIVE = 3e-3


def patch_stiffness(
    rest: Floats, triangles: Ints, hinges: Ints, sides: Ints, bending: Floats
) -> tuple[Ints, Floats]:
    """Hinges of each triangle and the stiffness between their angles.

    ``hinges`` [shape=(H, 4)] as in `shell.Shell`, ``sides`` [shape=(H, 2)] their two triangles, ``bending``
    [shape=(T,), N m] the plate stiffness E h3 / 12 (1 - nu2). Returns int64 [shape=(T, 3)], H where there is
    no neighbour, and float64 [shape=(T, 3, 3), N m].
    """
    corner = rest[triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    area = np.linalg.norm(normal, axis=1) / 2
    along = corner[:, 1] - corner[:, 0]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(normal, along) / (2 * area)[:, None]
    count = len(hinges)
    own = np.full((len(triangles), 3), count, dtype=np.int64)
    rows = np.zeros((len(triangles), 3, 3))  # angles of the curvatures xx, yy and xy + yx
    for side in (0, 1):
        t = sides[:, side]
        i, j, k, m = hinges[:, 0], hinges[:, 1], hinges[:, 2 + side], hinges[:, 3 - side]

        def flat(points: Floats, t: Ints = t) -> Floats:
            d = points - corner[t, 0]
            return np.stack([(d * along[t]).sum(1), (d * across[t]).sum(1)], axis=1)

        a, b, c = flat(rest[i]), flat(rest[j]), flat(rest[k])
        length = np.linalg.norm(b - a, axis=1, keepdims=True)
        edge = (b - a) / length
        out = np.stack([edge[:, 1], -edge[:, 0]], axis=1)
        out *= np.where(((c - a) * out).sum(1, keepdims=True) > 0, -1.0, 1.0)
        foot = ((rest[m] - rest[i]) * (rest[j] - rest[i])).sum(1, keepdims=True) / length
        beyond = np.sqrt(((rest[m] - rest[i]) ** 2).sum(1, keepdims=True) - foot**2)
        near, height = ((c - a) * edge).sum(1, keepdims=True), -((c - a) * out).sum(1, keepdims=True)
        wa, wb = _bowls(a), _bowls(b)
        slope = (wb - wa) / length
        there = (_bowls(a + foot * edge + beyond * out) - wa - foot * slope) / beyond
        here = (wa + near * slope - _bowls(c)) / height
        which = np.argmax(triangles[t] == k[:, None], axis=1)
        own[t, which] = np.arange(count)
        rows[t, which] = there - here
    flexible = (
        np.array([[4.0, -2.0, 0.0], [-2.0, 4.0, 0.0], [0.0, 0.0, 12.0]]) / 3
    )  # inverse of D, per bending
    give = np.einsum("tia,ab,tjb->tij", rows, flexible, rows)
    known = own < count
    mean = np.trace(give, axis1=1, axis2=2) / np.maximum(known.sum(1), 1)
    slot = np.arange(3)
    give[:, slot, slot] += np.where(known, GIVE * mean[:, None], 1.0)
    stiff = np.linalg.inv(give) * (area * bending)[:, None, None]
    stiff *= known[:, :, None] & known[:, None, :]
    return own, stiff


def _bowls(p: Floats) -> Floats:
    # Heights of the surfaces of unit curvature xx, yy, and xy and yx together by half.
    return np.stack([p[:, 0] ** 2 / 2, p[:, 1] ** 2 / 2, p[:, 0] * p[:, 1] / 2], axis=1)


@njit(cache=True, fastmath=FAST)
def area_normals(x, triangles, normals):
    """Normal of each triangle, twice its area long, into ``normals`` [shape=(T, 3), m2]."""
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = x[b, 0] - x[a, 0], x[b, 1] - x[a, 1], x[b, 2] - x[a, 2]
        vx, vy, vz = x[c, 0] - x[a, 0], x[c, 1] - x[a, 1], x[c, 2] - x[a, 2]
        normals[t, 0], normals[t, 1], normals[t, 2] = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@njit(cache=True, fastmath=FAST, error_model="numpy", inline="always")
def angle(s, c):
    """Atan2 by two halvings and its series, to 1e-10 rad: it runs in vector registers."""
    u = s / (np.sqrt(s * s + c * c) + abs(c))
    u = u / (1.0 + np.sqrt(1.0 + u * u))
    z = u * u
    v = 1 / 17 - z * (1 / 19 - z * (1 / 21 - z * (1 / 23)))
    v = 1 / 9 - z * (1 / 11 - z * (1 / 13 - z * (1 / 15 - z * v)))
    v = 4.0 * u * (1.0 - z * (1 / 3 - z * (1 / 5 - z * (1 / 7 - z * v))))
    return v if c >= 0 else (np.pi - v if s >= 0 else -np.pi - v)


@njit(cache=True, fastmath=FAST)
def hinge_angles(x, hinges, sides, normals, angles):
    """Angle of each hinge in rad, 0 where flat, into ``angles`` [shape=(H,)]; ``normals`` of this shape."""
    count = hinges.shape[0]
    sine, cosine = np.empty(count), np.empty(count)
    for h in range(count):
        i, j, m = hinges[h, 0], hinges[h, 1], hinges[h, 3]
        s, t = sides[h, 0], sides[h, 1]
        ex, ey, ez = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
        qx, qy, qz = x[m, 0] - x[i, 0], x[m, 1] - x[i, 1], x[m, 2] - x[i, 2]
        length = np.sqrt(ex * ex + ey * ey + ez * ez)
        sine[h] = (normals[s, 0] * qx + normals[s, 1] * qy + normals[s, 2] * qz) * length
        cosine[h] = (
            normals[s, 0] * normals[t, 0] + normals[s, 1] * normals[t, 1] + normals[s, 2] * normals[t, 2]
        )
    for h in range(count):
        angles[h] = angle(sine[h], cosine[h])


@njit(cache=True, fastmath=FAST, inline="always")
def hinge_slope(x, hinges, sides, normals, h, slope):
    """Gradient of one hinge's angle to its four points, rad/m, into ``slope`` [shape=(12,)]."""
    i, j, k, m = hinges[h, 0], hinges[h, 1], hinges[h, 2], hinges[h, 3]
    s, t = sides[h, 0], sides[h, 1]
    ex, ey, ez = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
    px, py, pz = x[k, 0] - x[i, 0], x[k, 1] - x[i, 1], x[k, 2] - x[i, 2]
    qx, qy, qz = x[m, 0] - x[i, 0], x[m, 1] - x[i, 1], x[m, 2] - x[i, 2]
    ax, ay, az = normals[s, 0], normals[s, 1], normals[s, 2]
    bx, by, bz = normals[t, 0], normals[t, 1], normals[t, 2]
    length = np.sqrt(ex * ex + ey * ey + ez * ez)
    aa = 1.0 / (ax * ax + ay * ay + az * az)
    bb = 1.0 / (bx * bx + by * by + bz * bz)
    along = (px * ex + py * ey + pz * ez) / length
    beyond = (qx * ex + qy * ey + qz * ez) / length
    fk, fm = length * aa, length * bb
    fik, fim = (along - length) * aa, (beyond - length) * bb
    fjk, fjm = -along * aa, -beyond * bb
    slope[0], slope[1], slope[2] = fik * ax + fim * bx, fik * ay + fim * by, fik * az + fim * bz
    slope[3], slope[4], slope[5] = fjk * ax + fjm * bx, fjk * ay + fjm * by, fjk * az + fjm * bz
    slope[6], slope[7], slope[8] = fk * ax, fk * ay, fk * az
    slope[9], slope[10], slope[11] = fm * bx, fm * by, fm * bz


@njit(cache=True, fastmath=FAST, error_model="numpy")
def bend(x, triangles, hinges, sides, own, stiff, angles, gradient):
    """Bending energy in J; adds its gradient (N) to ``gradient`` [shape=(N, 3)].

    As `hinge_angles` and `hinge_slope`, in loops that only gather, only reckon or only scatter: those that
    reckon run in vector registers.
    """
    count = hinges.shape[0]
    normals, steep = np.empty((triangles.shape[0], 3)), np.empty(triangles.shape[0])
    area_normals(x, triangles, normals)
    for t in range(triangles.shape[0]):
        steep[t] = 1.0 / (normals[t, 0] ** 2 + normals[t, 1] ** 2 + normals[t, 2] ** 2)
    sine, cosine, square = np.empty(count), np.empty(count), np.empty(count)
    along, beyond = np.empty(count), np.empty(count)
    for h in range(count):
        i, j, k, m = hinges[h, 0], hinges[h, 1], hinges[h, 2], hinges[h, 3]
        s, t = sides[h, 0], sides[h, 1]
        ix, iy, iz = x[i, 0], x[i, 1], x[i, 2]
        ex, ey, ez = x[j, 0] - ix, x[j, 1] - iy, x[j, 2] - iz
        px, py, pz = x[k, 0] - ix, x[k, 1] - iy, x[k, 2] - iz
        qx, qy, qz = x[m, 0] - ix, x[m, 1] - iy, x[m, 2] - iz
        ax, ay, az = normals[s, 0], normals[s, 1], normals[s, 2]
        sine[h] = ax * qx + ay * qy + az * qz
        cosine[h] = ax * normals[t, 0] + ay * normals[t, 1] + az * normals[t, 2]
        square[h] = ex * ex + ey * ey + ez * ez
        along[h], beyond[h] = px * ex + py * ey + pz * ez, qx * ex + qy * ey + qz * ez
    change, moment, length = np.empty(count + 1), np.zeros(count + 1), np.empty(count)
    for h in range(count):
        long = np.sqrt(square[h])
        c = cosine[h]
        d = angle(sine[h] * long, c) - angles[h]
        change[h] = d - 2 * np.pi * np.round(d / (2 * np.pi))  # a fold past half a turn goes on, not back
        length[h] = long
        along[h], beyond[h] = along[h] / long, beyond[h] / long
    change[count] = 0.0
    e = 0.0
    for t in range(triangles.shape[0]):
        p, q, r = own[t, 0], own[t, 1], own[t, 2]
        a, b, c = change[p], change[q], change[r]
        ma = stiff[t, 0, 0] * a + stiff[t, 0, 1] * b + stiff[t, 0, 2] * c
        mb = stiff[t, 1, 0] * a + stiff[t, 1, 1] * b + stiff[t, 1, 2] * c
        mc = stiff[t, 2, 0] * a + stiff[t, 2, 1] * b + stiff[t, 2, 2] * c
        moment[p] += ma
        moment[q] += mb
        moment[r] += mc
        e += 0.5 * (ma * a + mb * b + mc * c)
    for h in range(count):
        i, j, k, m = hinges[h, 0], hinges[h, 1], hinges[h, 2], hinges[h, 3]
        s, t = sides[h, 0], sides[h, 1]
        one, two = moment[h] * steep[s], moment[h] * steep[t]
        fk, fm = length[h] * one, length[h] * two
        fjk, fjm = along[h] * one, beyond[h] * two
        for n in range(3):
            a, b = normals[s, n], normals[t, n]
            gradient[k, n] += fk * a
            gradient[m, n] += fm * b
            back = fjk * a + fjm * b
            gradient[j, n] -= back
            gradient[i, n] += back - fk * a - fm * b
    return e


@njit(cache=True)
def hinge_slopes(x, triangles, hinges, sides, slopes):
    """Gradient of each hinge's angle to its four points, rad/m, into ``slopes`` [shape=(H, 12)]."""
    normals = np.empty((triangles.shape[0], 3))
    area_normals(x, triangles, normals)
    for h in range(hinges.shape[0]):
        hinge_slope(x, hinges, sides, normals, h, slopes[h])
