"""Lip on lip: a smooth one-sided energy that keeps the two lips from passing through each other.

Every point of one lip, both ways round, has a signed distance to the surface of the other: to the nearest
point of its triangles, positive outside. Where it is less than the point's clearance the skin pays
k/2 o^2 (1 + o^2 / 2 c^2), o = clearance - distance, c = `CLEARANCE`: soft at first, then harder. The
clearance is c, or the distance at rest where that is less, so that the rest shape bears no load. It is the
nearest point that decides, in any direction, and so the same rule serves lips that meet edge to edge, one lip
tucked behind the other, and rims rolled into the mouth.
A point whose nearest place is on the open border of the other lip touches nothing: there the surface ends,
and with it inside and outside. Deeper than `DEEP` there is no saying on which side a point is; the solver
takes steps too short to get there.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import FAST, Contacts, Floats, Ints

CLEARANCE = 2e-4  # m, the distance at which lips begin to press
MODULUS = 3e8  # N/m per m2 of lip and m of overlap
DEEP = 2.5e-3  # m, how far inside is still inside
FORESEEN = 4.5e-3  # m, how far apart they may be for a motion to be judged
ROAM = 1e-4  # m, how far they may move before what is known of their distances is brought up to date
TIE = 1e-9  # share of a squared distance that makes two places equally near
HEAP = 8  # triangles that lie together
NONE = np.zeros(0)


class LipContact:
    """Contact between two lips.

    Parameters
    ----------
    rest : float64 [shape=(N, 3), m]
    upper, lower : int64 [shape=(n, 3)]
        Triangles of the lips, inner rims included, all facing out of the flesh. They may share vertices
        at the mouth corners; triangles there press on nothing.

    Attributes
    ----------
    vertices : int64 [shape=(L,)]
        All vertices of both lips.
    count : int
        Points pressed at the last `energy`.
    """

    def __init__(self, rest: Floats, upper: ArrayLike, lower: ArrayLike) -> None:
        lips = [np.ascontiguousarray(t, dtype=np.int64) for t in (upper, lower)]
        for name, lip in zip(("upper_lip", "lower_lip"), lips):
            if lip.ndim != 2 or lip.shape[1] != 3 or not len(lip) or lip.min() < 0 or lip.max() >= len(rest):
                raise FaceTwinError(
                    "not triangles of the skin", where=name, found=lip.shape, expected="(n, 3)"
                )
        shared = np.intersect1d(lips[0], lips[1])
        corner = [lip[np.isin(lip, shared).any(1)] for lip in lips]
        self.vertices = np.union1d(lips[0], lips[1])
        self._sides = []
        for a, b in ((1, 0), (0, 1)):  # lower points on the upper lip, then the other way round
            points = np.setdiff1d(lips[a], corner[a])
            self._sides.append(_Side(rest, points, lips[a], lips[b]))
        self._rest = rest
        self.count = 0

    def energy(self, x: Floats, gradient: Floats) -> float:
        """Energy in J of lips that press; adds its gradient (N) to ``gradient`` [shape=(N, 3)]."""
        e = 0.0
        for side in self._sides:
            e += side.energy(x, gradient)
        self.count = sum(side.count for side in self._sides)
        return e

    def penetration(self, x: Floats) -> float:
        """Depth of the deepest lip point inside the other lip, in m, 0 if there is none."""
        return max(side.depth(x) for side in self._sides)

    def pressed(self) -> list[Contacts]:
        """Contacts of the last `energy`: vertices, shares [shape=(m, 4)], normals, stiffness [shape=(m,)].

        Views, one set for either lip's points; the next `energy` writes over them.
        """
        return [
            (a.spots[: a.count], a.shares[: a.count], a.normals[: a.count], a.stiff[: a.count])
            for a in self._sides
        ]

    def approach(self, x: Floats, motion: Floats) -> Contacts:
        """Contacts that a motion [shape=(N, 3), m] from ``x`` makes, as `pressed`, and their overlaps (m).

        Every point is judged by the plane of its nearest place before the motion.
        """
        found = [side.approach(x, motion) for side in self._sides]
        return tuple(np.concatenate(a) for a in zip(*found))

    def nearest(self, count: int) -> Ints:
        """The ``count`` lip points that lie nearest the other lip at rest."""
        points = np.concatenate([side.points for side in self._sides])
        apart = np.concatenate([np.abs(side.distances(self._rest)) for side in self._sides])
        return np.sort(points[np.argsort(apart, kind="stable")[:count]])


class _Side:
    # Points of one lip against the triangles of the other.

    def __init__(self, rest: Floats, points: Ints, own: Ints, triangles: Ints) -> None:
        self.points = points
        middle = rest[triangles].mean(1)
        self.triangles = triangles[np.lexsort((middle[:, 2], np.round(middle[:, 0] / 3e-3)))]
        triangles = self.triangles
        corners = rest[own]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        areas = np.bincount(own.ravel(), np.repeat(area / 6, 3), len(rest))[points]
        self.border = _border(triangles, len(rest))
        n = len(points)
        self.spots = np.zeros((2 * n, 4), dtype=np.int64)
        self.shares, self.normals = np.zeros((2 * n, 4)), np.zeros((2 * n, 3))
        self.stiff, self._overlaps = np.zeros(2 * n), np.zeros(2 * n)
        self.count = 0
        self._stiffness = MODULUS * np.maximum(areas, areas.mean())
        self._clearance = np.full(n, CLEARANCE)
        self._vertices = np.union1d(points, triangles)
        # a shape, and between what bounds each point's distance to the other lip lies there
        self._asked = np.full_like(rest, np.inf)
        self._below, self._above = np.zeros(n), np.zeros(n)
        self._faces = np.zeros((len(triangles), 3))
        self._vertex = np.zeros_like(rest)
        self._clearance = np.minimum(CLEARANCE, self.distances(rest))

    def distances(self, x: Floats) -> Floats:
        # Signed distance of each point, m; inf where it is farther than DEEP or faces a border.
        self._asked[:] = np.inf
        return self._distances(x)

    def _distances(self, x: Floats) -> Floats:
        # The same, inf also where it is surely above the clearance.
        out = np.full(len(self.points), np.inf)
        self._press(x, np.zeros((0, 3)), out)
        return out

    def energy(self, x: Floats, gradient: Floats) -> float:
        e, self.count = self._press(x, gradient, NONE)
        return e

    def depth(self, x: Floats) -> float:
        return max(0.0, -float(self._distances(x).min()))

    def _press(self, x: Floats, gradient: Floats, distances: Floats) -> tuple[float, int]:
        return press(
            x, self.points, self.triangles, self.border, self._vertices, self._asked, self._below,
            self._above, self._faces, self._vertex, self._clearance, self._stiffness, gradient, distances,
            self.spots, self.shares, self.normals, self.stiff, self._overlaps,
        )  # fmt: skip

    def approach(self, x: Floats, motion: Floats) -> Contacts:
        # Vertices, shares, normals, stiffness and overlap of points that the motion makes meet a triangle.
        n = len(self.points)
        spots, shares, normals, overlap = (
            np.zeros((n, 4), np.int64),
            np.zeros((n, 4)),
            np.zeros((n, 3)),
            np.zeros(n),
        )
        moved = travel(x, self._asked, self._vertices)
        met = approach(
            x, motion, self.points, self._vertices, self.triangles, self.border, moved, self._below,
            self._above, self._clearance, spots, shares, normals, overlap,
        )  # fmt: skip
        return spots[met], shares[met], normals[met], self._stiffness[met], overlap[met]


def _border(triangles: Ints, count: int) -> Ints:
    # Bit k of a triangle: the edge from corner k is open; bit 3 + k: the corner k lies on an open edge.
    ends = np.roll(triangles, -1, axis=1)
    key = np.minimum(triangles, ends) * count + np.maximum(triangles, ends)
    _, where, times = np.unique(key, return_inverse=True, return_counts=True)
    open_edge = (times[where] == 1).reshape(triangles.shape)
    open_vertex = np.zeros(count, dtype=bool)
    open_vertex[triangles[open_edge]] = True
    open_vertex[ends[open_edge]] = True
    bits = np.concatenate([open_edge, open_vertex[triangles]], axis=1)
    return (bits * (1 << np.arange(6))).sum(1)


@njit(cache=True, fastmath=FAST)
def travel(x, seen, vertices):
    """The farthest that a vertex has moved since ``seen``, m."""
    far = 0.0
    for v in vertices:
        dx, dy, dz = x[v, 0] - seen[v, 0], x[v, 1] - seen[v, 1], x[v, 2] - seen[v, 2]
        far = max(far, dx * dx + dy * dy + dz * dz)
    return np.sqrt(far)


@njit(cache=True, fastmath=FAST)
def bound(x, triangles):
    """Balls about triangles and heaps of them: middle, radius, [shape=(T, 4)] and [shape=(H, 4), m]."""
    count = triangles.shape[0]
    balls, heaps = np.empty((count, 4)), np.empty(((count + HEAP - 1) // HEAP, 4))
    for t in range(count):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        mx = (x[a, 0] + x[b, 0] + x[c, 0]) / 3
        my = (x[a, 1] + x[b, 1] + x[c, 1]) / 3
        mz = (x[a, 2] + x[b, 2] + x[c, 2]) / 3
        r = (x[a, 0] - mx) ** 2 + (x[a, 1] - my) ** 2 + (x[a, 2] - mz) ** 2
        r = max(r, (x[b, 0] - mx) ** 2 + (x[b, 1] - my) ** 2 + (x[b, 2] - mz) ** 2)
        r = max(r, (x[c, 0] - mx) ** 2 + (x[c, 1] - my) ** 2 + (x[c, 2] - mz) ** 2)
        balls[t, 0], balls[t, 1], balls[t, 2], balls[t, 3] = mx, my, mz, np.sqrt(r)
    for h in range(heaps.shape[0]):
        first, last = h * HEAP, min(count, (h + 1) * HEAP)
        mx, my, mz = 0.0, 0.0, 0.0
        for t in range(first, last):
            mx, my, mz = mx + balls[t, 0], my + balls[t, 1], mz + balls[t, 2]
        mx, my, mz = mx / (last - first), my / (last - first), mz / (last - first)
        r = 0.0
        for t in range(first, last):
            d = (mx - balls[t, 0]) ** 2 + (my - balls[t, 1]) ** 2 + (mz - balls[t, 2]) ** 2
            r = max(r, np.sqrt(d) + balls[t, 3])
        heaps[h, 0], heaps[h, 1], heaps[h, 2], heaps[h, 3] = mx, my, mz, r
    return balls, heaps


@njit(cache=True, fastmath=FAST)
def seek(x, p, triangles, balls, heaps, reach):
    """Squared distance to the nearest triangle within reach (m), that triangle (or -1), and one as near."""
    best, nearest, rival = reach * reach, -1, -1
    px, py, pz = x[p, 0], x[p, 1], x[p, 2]
    for h in range(heaps.shape[0]):
        d = (px - heaps[h, 0]) ** 2 + (py - heaps[h, 1]) ** 2 + (pz - heaps[h, 2]) ** 2
        if d > (reach + heaps[h, 3]) ** 2:
            continue
        for t in range(h * HEAP, min(triangles.shape[0], (h + 1) * HEAP)):
            d = (px - balls[t, 0]) ** 2 + (py - balls[t, 1]) ** 2 + (pz - balls[t, 2]) ** 2
            if d > (reach + balls[t, 3]) ** 2:
                continue
            d2 = nearest_on_triangle(x, p, triangles[t, 0], triangles[t, 1], triangles[t, 2])[0]
            if d2 < best * (1 - TIE):
                best, nearest, rival = d2, t, -1
                reach = np.sqrt(best) * (1 + TIE)
            elif d2 < best * (1 + TIE):
                rival = t
    return best, nearest, rival


@njit(cache=True, fastmath=FAST)
def press(
    x, points, triangles, border, vertices, asked, below, above, faces, vertex, clearance, stiffness,
    gradient, distances, spots, shares, normals, stiff, overlaps,
):  # fmt: skip
    """Contact energy (J) and the number of pressed points, of points against triangles.

    Adds to ``gradient`` [shape=(N, 3)], or, if that is empty, writes signed ``distances`` (m) only. Each
    pressed point leaves its four vertices, their shares (1, and minus barycentric), normal and stiffness.
    Points that were ``below`` to ``above`` (m) apart in the shape ``asked`` about and cannot have come to
    press are passed over. Where the lips have left that shape, the bounds are made wider, and narrow again
    for points that might be near before the next time.
    """
    moved = travel(x, asked, vertices)
    asking = moved > ROAM
    if asking:
        for i in range(points.shape[0]):
            below[i] -= 2 * moved
            above[i] += 2 * moved
        for v in vertices:
            asked[v, 0], asked[v, 1], asked[v, 2] = x[v, 0], x[v, 1], x[v, 2]
        moved = 0.0
    slack = 2 * (ROAM if asking else moved)
    near = False
    for i in range(points.shape[0]):
        near |= below[i] - slack <= clearance[i]
    if not near:
        return 0.0, 0
    for t in range(triangles.shape[0]):
        for k in range(3):
            vertex[triangles[t, k], :] = 0.0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = x[b, 0] - x[a, 0], x[b, 1] - x[a, 1], x[b, 2] - x[a, 2]
        vx, vy, vz = x[c, 0] - x[a, 0], x[c, 1] - x[a, 1], x[c, 2] - x[a, 2]
        faces[t, 0], faces[t, 1], faces[t, 2] = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in range(3):
            for n in range(3):
                vertex[triangles[t, k], n] += faces[t, n]
    balls, heaps = bound(x, triangles)
    e = 0.0
    count = 0
    for i in range(points.shape[0]):
        if below[i] - slack > clearance[i]:
            continue
        p = points[i]
        best, nearest, rival = seek(
            x, p, triangles, balls, heaps, min(DEEP, (above[i] + 2 * moved) * (1 + TIE) + TIE)
        )
        if asking:
            below[i], above[i] = (DEEP, np.inf) if nearest < 0 else (np.inf, np.sqrt(best))
        if nearest < 0:
            continue
        found = count
        for t in (nearest, rival):  # a point between two mirrored places is pushed from both
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            d2, bu, bv, code = nearest_on_triangle(x, p, a, b, c)
            if border[t] & code:
                if asking:
                    below[i] = -np.inf  # it may be past the border in a moment
                continue
            bw = 1.0 - bu - bv
            dx = x[p, 0] - bw * x[a, 0] - bu * x[b, 0] - bv * x[c, 0]
            dy = x[p, 1] - bw * x[a, 1] - bu * x[b, 1] - bv * x[c, 1]
            dz = x[p, 2] - bw * x[a, 2] - bu * x[b, 2] - bv * x[c, 2]
            if code == 0:
                nx, ny, nz = faces[t, 0], faces[t, 1], faces[t, 2]
            else:
                nx = bw * vertex[a, 0] + bu * vertex[b, 0] + bv * vertex[c, 0]
                ny = bw * vertex[a, 1] + bu * vertex[b, 1] + bv * vertex[c, 1]
                nz = bw * vertex[a, 2] + bu * vertex[b, 2] + bv * vertex[c, 2]
            length = np.sqrt(d2)
            distance = length if dx * nx + dy * ny + dz * nz >= 0 else -length
            if asking:
                below[i] = min(below[i], distance)
            if gradient.shape[0] == 0:
                distances[i] = distance
                break
            overlap = clearance[i] - distance
            if overlap <= 0:
                continue
            if code == 0 or length < 1e-12:  # on the surface only the normal tells the direction
                size = np.sqrt(nx * nx + ny * ny + nz * nz)
                nx, ny, nz = nx / size, ny / size, nz / size
            else:
                nx, ny, nz = dx / distance, dy / distance, dz / distance
            spots[count, 0], spots[count, 1], spots[count, 2], spots[count, 3] = p, a, b, c
            shares[count, 0], shares[count, 1], shares[count, 2], shares[count, 3] = 1.0, -bw, -bu, -bv
            normals[count, 0], normals[count, 1], normals[count, 2] = nx, ny, nz
            stiff[count] = stiffness[i]
            overlaps[count] = overlap
            count += 1
        for n in range(found, count):
            soft = stiff[n] / (count - found)
            harder = (overlaps[n] / CLEARANCE) ** 2
            e += 0.5 * soft * (1 + 0.5 * harder) * overlaps[n] * overlaps[n]
            stiff[n] = soft * (1 + 3 * harder)
            for m in range(4):
                f = -soft * (1 + harder) * overlaps[n] * shares[n, m]
                for k in range(3):
                    gradient[spots[n, m], k] += f * normals[n, k]
    return e, count


@njit(cache=True)
def approach(
    x, motion, points, vertices, triangles, border, moved, below, above, clearance, spots, shares, normals,
    overlap,
):  # fmt: skip
    """Which points a motion takes within their clearance of their nearest triangle's plane, and how far."""
    met = np.zeros(points.shape[0], dtype=np.bool_)
    balls, heaps = bound(x, triangles)
    far = 0.0  # nothing moves farther, so what is twice as far outside does not meet
    for v in vertices:
        far = max(far, motion[v, 0] ** 2 + motion[v, 1] ** 2 + motion[v, 2] ** 2)
    far = min(FORESEEN, 2 * np.sqrt(far) + CLEARANCE)
    for i in range(points.shape[0]):
        p = points[i]
        reach = min(far if below[i] > 2 * moved else FORESEEN, (above[i] + 2 * moved) * (1 + TIE) + TIE)
        nearest = seek(x, p, triangles, balls, heaps, reach)[1]
        if nearest < 0:
            continue
        best, bu, bv, code = nearest_on_triangle(
            x, p, triangles[nearest, 0], triangles[nearest, 1], triangles[nearest, 2]
        )
        if border[nearest] & code:
            continue
        a, b, c = triangles[nearest, 0], triangles[nearest, 1], triangles[nearest, 2]
        spots[i, 0], spots[i, 1], spots[i, 2], spots[i, 3] = p, a, b, c
        shares[i, 0], shares[i, 1], shares[i, 2], shares[i, 3] = 1.0, bu + bv - 1.0, -bu, -bv
        away, way = np.zeros(3), np.zeros(3)
        for k in range(4):
            away += shares[i, k] * x[spots[i, k]]
            way += shares[i, k] * motion[spots[i, k]]
        normal = np.cross(x[b] - x[a], x[c] - x[a])
        size = np.sqrt(best)
        side = 1.0 if (away * normal).sum() >= 0 else -1.0
        if code == 0 or size < 1e-9:
            normals[i] = normal / np.sqrt((normal * normal).sum())
        else:
            normals[i] = side * away / size
        overlap[i] = clearance[i] - side * size - (normals[i] * way).sum()
        met[i] = overlap[i] > 0 and side * size > -DEEP
    return met


@njit(cache=True, fastmath=FAST, inline="always")
def nearest_on_triangle(x, p, a, b, c):
    """Squared distance, shares of b and c, where: 0 inside, bit k on edge k, bit 3 + k on corner k."""
    ux, uy, uz = x[b, 0] - x[a, 0], x[b, 1] - x[a, 1], x[b, 2] - x[a, 2]
    vx, vy, vz = x[c, 0] - x[a, 0], x[c, 1] - x[a, 1], x[c, 2] - x[a, 2]
    wx, wy, wz = x[p, 0] - x[a, 0], x[p, 1] - x[a, 1], x[p, 2] - x[a, 2]
    uu, uv, vv = ux * ux + uy * uy + uz * uz, ux * vx + uy * vy + uz * vz, vx * vx + vy * vy + vz * vz
    d1, d2 = ux * wx + uy * wy + uz * wz, vx * wx + vy * wy + vz * wz
    d3, d4 = d1 - uu, d2 - uv
    d5, d6 = d1 - uv, d2 - vv
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    if d1 <= 0 and d2 <= 0:
        s, t, code = 0.0, 0.0, 8
    elif d3 >= 0 and d4 <= d3:
        s, t, code = 1.0, 0.0, 16
    elif d6 >= 0 and d5 <= d6:
        s, t, code = 0.0, 1.0, 32
    elif vc <= 0 and d1 >= 0 and d3 <= 0:
        s, t, code = d1 / (d1 - d3), 0.0, 1
    elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        t = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        s, code = 1.0 - t, 2
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        s, t, code = 0.0, d2 / (d2 - d6), 4
    else:
        scale = 1.0 / (va + vb + vc)
        s, t, code = vb * scale, vc * scale, 0
    rx, ry, rz = wx - s * ux - t * vx, wy - s * uy - t * vy, wz - s * uz - t * vz
    return rx * rx + ry * ry + rz * rz, s, t, code
