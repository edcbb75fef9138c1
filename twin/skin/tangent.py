"""The skin's stiffness in any pose, factored: what proposes every step of the exact skin.

Element by element, with what would make it indefinite left out: membranes under compression keep no
negative stiffness across themselves, hinges keep only the square of their slope (Gauss-Newton) and their own
stiffness. Both are exact at rest but for the coupling between hinges of one triangle. Contacts are added in
the root of the factor (Woodbury), so that they may change in every iteration.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import FAST, Contacts, Floats, Ints
from facetwin.twin.skin.bending import area_normals, hinge_slope
from facetwin.twin.skin.fronts import Fronts, Singles, cholesky
from facetwin.twin.skin.shell import Shell

FLOOR = -10.0  # share of the shear stiffness that compression may take away
CORNERS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # vertex pairs of a triangle
ENDS = ((0, 0), (1, 1), (2, 2), (3, 3), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))  # and of a hinge


class Tangent:
    """Factored stiffness of a shell on springs.

    Parameters
    ----------
    shell : Shell
    springs : float64 [shape=(N,), N/m]
        To ground, of every vertex.
    free : bool [shape=(N,)]
        Vertices that move; the others are held.
    last : int64 [shape=(R,)]
        Vertices that may be pressed: contacts between them are part of `step`.
    """

    def __init__(self, shell: Shell, springs: Floats, free: NDArray[np.bool_], last: Ints) -> None:
        self._shell, self._springs = shell, springs
        t, h = shell.triangles, shell.hinges
        pairs = [h[:, list(p)] for p in ENDS[4:]] + [t[:, list(p)] for p in CORNERS[3:]]
        self._fronts = f = Fronts(np.concatenate(pairs), free, last)
        self._corners = np.stack([f.targets(t[:, a], t[:, b]) for a, b in CORNERS], axis=1)  # (T, 6, 3)
        self._ends = np.stack([f.targets(h[:, a], h[:, b]) for a, b in ENDS], axis=1)  # (H, 10, 3)
        every = np.arange(len(shell.rest))
        self._alone = f.targets(every, every)
        self._stiff = shell.springs
        self._room = np.empty(int(f.update[-1]), dtype=np.float32)
        self._values = np.empty(f.size, dtype=np.float32)
        self._place = np.where(f.place >= f.root, f.place - f.root, -1)  # in the root
        self._split = 3 * f.root
        self.in_root = self._place >= 0
        if not self._factor(shell.rest, np.zeros((0, 4)), np.zeros(0, np.int64)):
            raise FaceTwinError(
                "the skin is not held", where="stiffness", found="singular",
                hint="anchor three vertices or more",
            )  # fmt: skip
        self._rest = self._values.copy()
        self._root = self._turned()
        self.at_rest = True
        self.sure = True  # whether the shape that was factored last is stable, as far as the factor sees

    def to_rest(self) -> None:
        """Back to the factor at rest; costs a copy."""
        if not self.at_rest:
            self._values[:] = self._rest
            self._root = self._turned()
            self.at_rest = self.sure = True

    def refresh(self, x: Floats, walls: Floats, pressed: Ints) -> None:
        """Factor the stiffness in shape ``x``.

        ``walls`` [shape=(m, 4)] are springs (direction, N/m) to ground at the vertices ``pressed``.
        """
        self.at_rest = False
        # with what compression takes away, where that leaves it positive: so a fold is seen coming
        self.sure = self._factor(x, walls, pressed, FLOOR)
        if self.sure or self._factor(x, walls, pressed):
            self._root = self._turned()
        else:
            self.to_rest()

    def down(self, gradient: Floats) -> Singles:
        """First half of a step [shape=(3N,), N]: eliminated down to the root."""
        y = gather(gradient, self._fronts.order)
        self._fronts.down(self._values, y)
        return y

    def up(self, y: Singles) -> Floats:
        """Second half: the step [shape=(3N,), m], 0 where held. Overwrites ``y``."""
        self._fronts.up(self._values, y)
        return scatter(y, self._fronts.order, len(self._place))

    def rows(self, parts: Sequence[Contacts]) -> tuple[Singles, Floats, Ints]:
        """Rows of contacts in the root [shape=(m, 3R)], of those that lie there; their stiffness; which."""
        count = sum(len(part[3]) for part in parts)
        rows = np.zeros((count, self._root.shape[1]), dtype=np.float32)
        stiff, which = np.empty(count), np.empty(count, dtype=np.int64)
        found = seen = 0
        for spots, shares, normals, k in parts:
            if len(k):
                found = contact_rows(
                    self._place, spots, shares, normals, k, self._root, rows, stiff, which, found, seen
                )
                seen += len(k)
        return rows[:found], stiff[:found], which[:found]

    def relieve(self, y: Singles, parts: Sequence[Contacts]) -> None:
        """Take from the first half of a step what pressed contacts resist (Woodbury), in place."""
        rows, stiff, _ = self.rows(parts)
        if len(rows):
            resist(rows, stiff, y[self._split :])

    def from_root(self, part: Singles) -> Floats:
        """The step that a change of the root's part [shape=(3R,)] brings."""
        y = np.zeros(3 * len(self._fronts.order), dtype=np.float32)
        y[self._split :] = part
        return self.up(y)

    def _turned(self) -> Singles:
        return np.ascontiguousarray(self._fronts.root_inverse(self._values).T)

    def _factor(self, x: Floats, walls: Floats, pressed: Ints, floor: float = 0.0) -> bool:
        s = self._shell
        self._values[:] = 0
        assemble_ground(self._alone, self._springs, walls, pressed, self._values)
        assemble_membrane(
            x, s.triangles, s.slopes, s.volumes, s.material.shear, floor, self._corners, self._values
        )
        assemble_hinges(x, s.triangles, s.hinges, s.sides, self._stiff, self._ends, self._values)
        return self._fronts.factor(self._values, self._room)


@njit(cache=True)
def gather(vector, order):
    """Single-precision copy of a vector [shape=(3N,)] in another order of vertices."""
    out = np.empty(3 * order.shape[0], dtype=np.float32)
    for i in range(order.shape[0]):
        for n in range(3):
            out[3 * i + n] = vector[3 * order[i] + n]
    return out


@njit(cache=True)
def scatter(vector, order, count):
    """The way back, double precision [shape=(3 count,)], 0 elsewhere."""
    out = np.zeros(3 * count)
    for i in range(order.shape[0]):
        for n in range(3):
            out[3 * order[i] + n] = vector[3 * i + n]
    return out


@njit(cache=True, fastmath=FAST)
def contact_rows(place, spots, shares, normals, stiffness, root, rows, stiff, which, found, seen):
    """Rows of contacts times the transposed inverse factor of the root, from row ``found`` on.

    Of contacts whose vertices all stand in the root; ``rows`` [shape=(m, 3R)] must be 0 there. Returns how
    many rows there are then; ``which`` counts contacts from ``seen``.
    """
    for i in range(stiffness.shape[0]):
        if min(place[spots[i, 0]], place[spots[i, 1]], place[spots[i, 2]], place[spots[i, 3]]) < 0:
            continue
        out = rows[found]
        for a in range(4):
            if shares[i, a] == 0:
                continue
            r = 3 * place[spots[i, a]]
            u, v, w = (
                np.float32(shares[i, a] * normals[i, 0]),
                np.float32(shares[i, a] * normals[i, 1]),
                np.float32(shares[i, a] * normals[i, 2]),
            )
            one, two, three = root[r], root[r + 1], root[r + 2]
            for j in range(r, root.shape[1]):  # zeros stand below the diagonal
                out[j] += u * one[j] + v * two[j] + w * three[j]
        stiff[found] = stiffness[i]
        which[found] = seen + i
        found += 1
    return found


@njit(cache=True, fastmath=FAST)
def resist(rows, stiff, root):
    """Take from ``root`` [shape=(3R,)] what springs along ``rows`` [shape=(m, 3R)] resist, in place."""
    m = rows.shape[0]
    between, force = np.dot(rows, rows.T), np.dot(rows, root)
    for i in range(m):
        between[i, i] += np.float32(1 / stiff[i])
    if not cholesky(between):
        return
    for i in range(m):
        for j in range(i):
            force[i] -= between[i, j] * force[j]
        force[i] /= between[i, i]
    for i in range(m - 1, -1, -1):
        force[i] /= between[i, i]
        for j in range(i):
            force[j] -= between[i, j] * force[i]
    for i in range(m):
        for j in range(root.shape[0]):
            root[j] -= force[i] * rows[i, j]


@njit(cache=True)
def assemble_ground(alone, springs, walls, pressed, values):
    """Add springs to ground, and springs along one direction at some vertices."""
    for v in range(alone.shape[0]):
        at, wide = alone[v, 0], alone[v, 1]
        if at >= 0:
            for n in range(3):
                values[at + n * wide + n] += springs[v]
    for i in range(pressed.shape[0]):
        at, wide = alone[pressed[i], 0], alone[pressed[i], 1]
        if at >= 0:
            for m in range(3):
                for n in range(3):
                    values[at + m * wide + n] += walls[i, 3] * walls[i, m] * walls[i, n]


@njit(cache=True, fastmath=FAST)
def assemble_hinges(x, triangles, hinges, sides, stiff, targets, values):
    """Add the hinges' stiffness at ``targets`` [shape=(H, 10, 3)]."""
    normals = np.empty((triangles.shape[0], 3))
    area_normals(x, triangles, normals)
    slope = np.empty(12)
    for h in range(hinges.shape[0]):
        hinge_slope(x, hinges, sides, normals, h, slope)
        for a in range(4):
            _add_rank_one(slope, a, a, stiff[h], targets[h, a], values)
        q = 4
        for a in range(4):
            for b in range(a + 1, 4):
                _add_rank_one(slope, a, b, stiff[h], targets[h, q], values)
                q += 1


@njit(cache=True, fastmath=FAST, inline="always")
def _add_rank_one(slope, a, b, k, target, values):
    at, down, right = target[0], target[1], target[2]
    if at >= 0:
        for m in range(3):
            w = k * slope[3 * a + m]
            for n in range(3):
                values[at + m * down + n * right] += w * slope[3 * b + n]


@njit(cache=True, fastmath=FAST)
def assemble_membrane(x, triangles, slopes, volumes, mu, floor, targets, values):
    """Add the membranes' stiffness, without its negative part, at ``targets`` [shape=(T, 6, 3)].

    In the frame of the principal stretches s, t the Hessian falls apart: a 2 x 2 block of the stretches, a
    sum and a difference of the shears, and the two tilts out of the plane.
    """
    p, q = np.empty(3), np.empty(3)
    u, v, w = np.empty(3), np.empty(3), np.empty(3)
    for e in range(triangles.shape[0]):
        k = mu * volumes[e]
        c11, c22, c12 = 0.0, 0.0, 0.0
        for n in range(3):
            f, g = 0.0, 0.0
            for a in range(3):
                f += slopes[e, a, 0] * x[triangles[e, a], n]
                g += slopes[e, a, 1] * x[triangles[e, a], n]
            u[n], v[n] = f, g
            c11 += f * f
            c22 += g * g
            c12 += f * g
        turn = 0.5 * np.arctan2(2 * c12, c11 - c22)
        c, s = np.cos(turn), np.sin(turn)
        one, two = 0.0, 0.0
        for n in range(3):
            f, g = u[n], v[n]
            u[n], v[n] = c * f + s * g, c * g - s * f
            one += u[n] * u[n]
            two += v[n] * v[n]
        one, two = max(one, 1e-4), max(two, 1e-4)  # squared stretches
        long, short = np.sqrt(one), np.sqrt(two)
        for n in range(3):
            u[n] /= long
            v[n] /= short
        w[0], w[1], w[2] = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
        for a in range(3):
            p[a] = c * slopes[e, a, 0] + s * slopes[e, a, 1]
            q[a] = c * slopes[e, a, 1] - s * slopes[e, a, 0]
        both = 1.0 / (one * two)
        cube = both / (long * short)
        k11, k22, k12 = k * (1 + 3 * both / one), k * (1 + 3 * both / two), 2 * k * cube
        twist, flip = max(k * (1 - cube), floor * k), k * (1 + cube)
        shear, cross = 0.5 * (twist + flip), 0.5 * (flip - twist)
        tilt1, tilt2 = max(k * (1 - both / one), floor * k), max(k * (1 - both / two), floor * k)
        for z in range(6):
            a = z if z < 3 else (0 if z < 5 else 1)
            b = z if z < 3 else (1 if z == 3 else 2)
            at, down, right = targets[e, z, 0], targets[e, z, 1], targets[e, z, 2]
            if at < 0:
                continue
            pp, qq, pq, qp = p[a] * p[b], q[a] * q[b], p[a] * q[b], q[a] * p[b]
            uu, vv = k11 * pp + shear * qq, k22 * qq + shear * pp
            uv, vu = k12 * pq + cross * qp, k12 * qp + cross * pq
            ww = tilt1 * pp + tilt2 * qq
            for m in range(3):
                left, middle = uu * u[m] + vu * v[m], uv * u[m] + vv * v[m]
                for n in range(3):
                    values[at + m * down + n * right] += left * u[n] + middle * v[n] + ww * w[m] * w[n]
