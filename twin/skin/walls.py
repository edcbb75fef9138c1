"""Skin on hard parts: teeth, eyeballs and bone, one-sided and smooth, each moving with its link.

A wall is a shape in its link's frame with a signed distance, positive outside, and the skin vertices that
may lie on it. Three shapes serve: a ball (eye), an arch (teeth: a rounded bar along a parabola) and a
half-space of each vertex's own (bone under skin: the plane that lies `BONE` below the rest shape; right
for skin that slides by less than the bone's radius). The law is that of lips (`contact.py`), and here too
the clearance is the distance at rest where that is less, so that the rest shape bears no load: what was
built sunk into a part, as the rims of the eyes are, may lie as deep as it was built.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import FAST, Contacts, Floats, Ints
from facetwin.twin.skin.contact import CLEARANCE, MODULUS

BONE = 5e-3  # m, from the skin's face to the bone
YIELDING = 0.1  # stiffness of eyeballs and bone under skin, as a share of that between lips
ROUND = 1e-3  # m, radius of a tooth's edges
BALL, ARCH, PLANE = 0, 1, 2
REACH = 4e-3  # m, beyond which a wall is not felt


@dataclass(frozen=True)
class Wall:
    """One hard part.

    Attributes
    ----------
    name : str
        In reports.
    link : str
        What carries it; "" is the frame of the skin itself.
    kind : int
        `BALL`, `ARCH` or `PLANE`.
    shapes : float64 [shape=(n, 8)]
        In the link's frame at rest, one row for all points or one each. Ball: centre, radius. Arch: middle of
        the front (x, y, z), half width, drop of the parabola (1/m), half height, half thickness. Plane:
        normal, distance of the plane from the origin along it.
    points : int64 [shape=(n,)]
        Skin vertices that may touch it.
    """

    name: str
    link: str
    kind: int
    shapes: Floats
    points: Ints


def ball(name: str, link: str, centre: Floats, radius: float, points: Ints) -> Wall:
    """A ball of a radius (m) about a centre [shape=(3,), m]."""
    return Wall(name, link, BALL, np.array([[*centre, radius, 0, 0, 0, 0]], dtype=np.float64), points)


def arch(name: str, link: str, vertices: Floats, points: Ints) -> Wall:
    """A row of teeth, fitted to the vertices [shape=(V, 3), m] of its mesh."""
    x, y, z = vertices.T
    half = float(np.abs(x).max())
    columns = np.round(np.abs(x) / half * 20).astype(int)
    front = np.array([[np.abs(x[columns == c]).mean(), z[columns == c].max()] for c in np.unique(columns)])
    drop, top = np.polyfit(front[:, 0] ** 2, front[:, 1], 1)
    middle = np.abs(x) < 0.1 * half
    thick = float(np.ptp(z[middle])) / 2
    row = [0.0, (y.max() + y.min()) / 2, top - thick, half, -drop, np.ptp(y) / 2, thick, 0.0]
    return Wall(name, link, ARCH, np.array([row]), points)


def bone(name: str, link: str, rest: Floats, normals: Floats, points: Ints) -> Wall:
    """Bone `BONE` below the points; ``normals`` [shape=(N, 3)] face out of the skin."""
    n = normals[points]
    offset = (n * rest[points]).sum(1) - BONE
    shapes = np.zeros((len(points), 8))
    shapes[:, :3], shapes[:, 3] = n, offset
    return Wall(name, link, PLANE, shapes, points)


class Walls:
    """Contact of a skin with its hard parts.

    ``areas`` [shape=(N,), m2] are those of the vertices. Attributes: `count`, points pressed at the last
    `energy`; `links`, the links whose poses matter.
    """

    def __init__(self, rest: Floats, areas: Floats, walls: tuple[Wall, ...]) -> None:
        for w in walls:
            points = np.asarray(w.points)
            if points.ndim != 1 or not len(points) or points.min() < 0 or points.max() >= len(rest):
                raise FaceTwinError(
                    "not vertices of the skin", where=f"wall {w.name}", found=points.shape, expected="(n,)"
                )
            if not np.isfinite(w.shapes).all():
                raise FaceTwinError("not finite", where=f"wall {w.name}", expected="finite metres")
        self.names = tuple(w.name for w in walls)
        self.links = tuple(sorted({w.link for w in walls if w.link}))
        sizes = [len(w.points) for w in walls]
        self._of = np.repeat(np.arange(len(walls)), sizes)
        self._points = np.concatenate([np.asarray(w.points, dtype=np.int64) for w in walls])
        self._kinds = np.repeat([w.kind for w in walls], sizes)
        self._shapes = np.concatenate([np.broadcast_to(w.shapes, (len(w.points), 8)) for w in walls])
        self._carrier = np.repeat([self.links.index(w.link) if w.link else -1 for w in walls], sizes)
        self._poses = np.tile(np.eye(4), (len(self.links), 1, 1))
        n = len(self._points)
        self._distance, self._normal = np.empty(n), np.empty((n, 3))
        # in its link's frame: where each point was last asked about, and how far from its wall it was there
        self._asked, self._apart = np.full((n, 3), np.inf), np.zeros(n)
        self._clearance = np.full(n, CLEARANCE)
        of_points = areas[self._points]
        self._stiffness = MODULUS * np.maximum(of_points, of_points.mean())
        self._stiffness[self._kinds != ARCH] *= YIELDING
        self._spots, self._shares = np.zeros((n, 4), dtype=np.int64), _shares(n)
        self._normals, self._stiff, self.count = np.zeros((n, 3)), np.zeros(n), 0
        self._deep = np.minimum(self.distances(rest), 0.0)
        self._clearance = np.minimum(CLEARANCE, self._distance)

    @property
    def poses(self) -> Floats:
        """Where the links are, in the skin's frame, float64 [shape=(len(links), 4, 4)]."""
        return self._poses

    @poses.setter
    def poses(self, value: Floats) -> None:
        self._poses = np.ascontiguousarray(value)

    def distances(self, x: Floats) -> Floats:
        """Signed distance of every point to its wall, m; `REACH` or more where it is far."""
        self._measure(x, np.inf)
        return self._distance

    def _measure(self, x: Floats, enough: float) -> None:
        # Distances and normals; points farther than ``enough`` may be given a lower bound alone.
        measure(
            x, self._points, self._kinds, self._shapes, self._carrier, self._poses, enough, self._asked,
            self._apart, self._distance, self._normal,
        )  # fmt: skip

    def energy(self, x: Floats, gradient: Floats) -> float:
        """Energy in J of skin pressed on hard parts; adds its gradient (N) to ``gradient``."""
        self._measure(x, CLEARANCE)
        e, self.count = lean(
            self._points, self._distance, self._normal, self._clearance, self._stiffness, gradient,
            self._spots, self._normals, self._stiff,
        )  # fmt: skip
        return e

    def pressed(self) -> list[Contacts]:
        """Contacts of the last `energy`, as `LipContact.pressed`: one vertex each."""
        n = self.count
        return [(self._spots[:n], self._shares[:n], self._normals[:n], self._stiff[:n])]

    def springs(self) -> tuple[Ints, Floats]:
        """The same: vertices [shape=(m,)], and normals and stiffness [shape=(m, 4)]."""
        n = self.count
        return self._spots[:n, 0], np.column_stack([self._normals[:n], self._stiff[:n]])

    def approach(self, x: Floats, motion: Floats) -> Contacts:
        """Contacts that a motion makes, as `LipContact.approach`."""
        own = motion[self._points]
        self._measure(x, min(REACH, CLEARANCE + float(np.abs(own).max()) * np.sqrt(3)))
        overlap = self._clearance - self._distance - (self._normal * own).sum(1)
        met = (overlap > 0) & (self._distance < REACH)
        p = self._points[met]
        return _spots(p), _shares(len(p)), self._normal[met], self._stiffness[met], overlap[met]

    def penetration(self, x: Floats) -> dict[str, float]:
        """How much deeper than at rest the skin lies in each part, m."""
        self._measure(x, CLEARANCE)
        deeper = np.maximum(self._deep - self._distance, 0.0)
        return {name: float(deeper[self._of == k].max()) for k, name in enumerate(self.names)}

    def nearest(self, count: int) -> Ints:
        """Points that lie nearest the teeth at rest."""
        teeth = np.flatnonzero(self._kinds == ARCH)
        near = np.argsort((self._clearance + self._distance)[teeth], kind="stable")[:count]
        return np.unique(self._points[teeth[near]])


def _spots(points: Ints) -> Ints:
    return np.repeat(points[:, None], 4, axis=1)


def _shares(count: int) -> Floats:
    shares = np.zeros((count, 4))
    shares[:, 0] = 1.0
    return shares


@njit(cache=True, fastmath=FAST)
def lean(points, distance, normal, clearance, stiffness, gradient, spots, normals, stiff):
    """Energy and number of points nearer than their clearance; where, their normals and stiffness."""
    e, count = 0.0, 0
    for i in range(points.shape[0]):
        overlap = clearance[i] - distance[i]
        if overlap <= 0:
            continue
        harder = (overlap / CLEARANCE) ** 2
        e += 0.5 * stiffness[i] * (1 + 0.5 * harder) * overlap * overlap
        f = -stiffness[i] * (1 + harder) * overlap
        for n in range(3):
            gradient[points[i], n] += f * normal[i, n]
            normals[count, n] = normal[i, n]
        stiff[count] = stiffness[i] * (1 + 3 * harder)
        spots[count, :] = points[i]
        count += 1
    return e, count


@njit(cache=True, fastmath=FAST)
def measure(x, points, kinds, shapes, carrier, poses, enough, asked, apart, distance, normal):
    """Signed distances (m) of points to their walls and the normals there, in the skin's frame.

    Of points on arches that cannot have come nearer than ``enough`` (m) since they were last ``asked`` only a
    lower bound is given, and no normal: a distance changes by no more than the way.
    """
    p, n = np.empty(3), np.empty(3)
    for i in range(points.shape[0]):
        v, link = points[i], carrier[i]
        if link < 0:
            p[0], p[1], p[2] = x[v, 0], x[v, 1], x[v, 2]
        else:
            for a in range(3):
                p[a] = 0.0
                for b in range(3):
                    p[a] += poses[link, b, a] * (x[v, b] - poses[link, b, 3])
        s = shapes[i]
        if kinds[i] == BALL:
            size = 0.0
            for a in range(3):
                n[a] = p[a] - s[a]
                size += n[a] * n[a]
            size = max(np.sqrt(size), 1e-12)
            distance[i] = size - s[3]
            for a in range(3):
                n[a] /= size
        elif kinds[i] == PLANE:
            distance[i] = s[0] * p[0] + s[1] * p[1] + s[2] * p[2] - s[3]
            n[0], n[1], n[2] = s[0], s[1], s[2]
        else:
            dx, dy, dz = p[0] - asked[i, 0], p[1] - asked[i, 1], p[2] - asked[i, 2]
            least = apart[i] - np.sqrt(dx * dx + dy * dy + dz * dz)
            if least > enough:
                distance[i] = least
                continue
            distance[i] = apart[i] = bar(p, s, n)
            asked[i, 0], asked[i, 1], asked[i, 2] = p[0], p[1], p[2]
        for a in range(3):
            if link < 0:
                normal[i, a] = n[a]
            else:
                normal[i, a] = poses[link, a, 0] * n[0] + poses[link, a, 1] * n[1] + poses[link, a, 2] * n[2]


@njit(cache=True, fastmath=FAST)
def bar(p, s, n):
    """Signed distance to an arch (m), its normal into ``n``."""
    x, y, z = p[0] - s[0], p[1] - s[1], p[2] - s[2]
    half, drop = s[3], s[4]
    u = min(max(x, -half), half)
    for _ in range(12):  # the nearest place on the parabola z = -drop u^2
        gap = z + drop * u * u
        slope = (u - x) + 2 * drop * u * gap
        bend = 1 + 2 * drop * gap + 4 * drop * drop * u * u
        step = slope / max(bend, 0.2)
        u = min(max(u - step, -half), half)
        if abs(step) < 1e-12:
            break
    dx, dz = x - u, z + drop * u * u
    across = max(np.sqrt(dx * dx + dz * dz), 1e-12)
    one, two = across - (s[6] - ROUND), abs(y) - (s[5] - ROUND)
    side = 1.0 if y >= 0 else -1.0
    a, b = max(one, 0.0), max(two, 0.0)
    corner = np.sqrt(a * a + b * b)
    if corner > 0:
        a, b = a / corner, b / corner
    elif one > two:
        a, b = 1.0, 0.0
    else:
        a, b = 0.0, 1.0
    n[0], n[1], n[2] = a * dx / across, b * side, a * dz / across
    return corner + min(max(one, two), 0.0) - ROUND
