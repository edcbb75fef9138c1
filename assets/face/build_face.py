"""Build the face asset: soft skin, eyes, lids, teeth, tongue, mouth cavity, head shell, neck (DESIGN 5).

    python assets/face/build_face.py     # reads canonical.safetensors, writes face.safetensors beside it

Lengths here are metres in the face frame (x face's left, y up, z out, origin between the eyes); 1 u = 90 mm.
The skin's first 468 vertices are MediaPipe's points. It is the tessellation of FaceMesh, closed at the
mouth, subdivided once (Loop 1987), with rims that roll into the mouth and the eye openings. A second Loop
step, stored as a sparse matrix, turns it into the finer mesh that cameras see.
Rigid parts have fewer triangles, of the same vertices, for small pictures (`simplify`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import trimesh
from mediapipe.python.solutions import face_mesh_connections as connections
from safetensors.numpy import load_file, save_file
from simplify import simplify

HERE = Path(__file__).parent
U = 0.09  # metres per u: outer eye corners of an adult

# Colours, sRGB in 0..1.
SKIN = np.array((0.86, 0.74, 0.67))
BLUSH = np.array((0.85, 0.62, 0.57))
LIP = np.array((0.50, 0.22, 0.22))
RIM = np.array((0.30, 0.09, 0.09))
BROW = np.array((0.30, 0.22, 0.19))
SHELL = np.array((0.90, 0.91, 0.93))
GRAPHITE = np.array((0.17, 0.18, 0.20))
STEEL = np.array((0.52, 0.54, 0.57))

# Rings of the lips from the outside in, face's right corner to left corner.
UPPER = (
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
    (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306),
    (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292),
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
)
LOWER = (
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),
    (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306),
    (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
)
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
RIGHT_EYE_RING2 = (130, 247, 30, 29, 27, 28, 56, 190, 243, 112, 26, 22, 23, 24, 110, 25)
RIGHT_BROW_UPPER = (70, 63, 105, 66, 107)
RIGHT_BROW_LOWER = (46, 53, 52, 65, 55)

# Face labels: what a triangle is.
SKIN_FACE, UPPER_LIP, LOWER_LIP, UPPER_RIM, LOWER_RIM, EYE_RIM = range(6)

RIM_START = 1.0  # rows into the mouth that keep the lips' colour: where the tracker sees their edge
EYE_RADIUS = 0.0165
LID_RADIUS = EYE_RADIUS + 0.0009
COARSENESS = 0.0004  # m, of the parts for small pictures; their pixels are ten times as wide
FEW = 200  # triangles; parts with fewer stay as they are
JAW_PIVOT = np.array((0.0, -0.36, -0.84)) * U
NECK_PIVOT = np.array((0.0, -1.15, -0.95)) * U


# --- the skin ---------------------------------------------------------------------------------------------


def tessellation(points: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """FaceMesh's triangles, the 3-cliques of its edges, facing out: int [shape=(852, 3)].

    Six quads have their diagonals the other way on the left: the right half, mirrored, serves for both.
    """
    near: dict[int, set[int]] = {}
    for a, b in connections.FACEMESH_TESSELATION:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    found = {tuple(sorted((a, b, c))) for a in near for b in near[a] for c in near[a] & near[b]}
    # a clique around a vertex of degree three is no face: all its edges have three triangles
    uses: dict[tuple[int, int], int] = {}
    for a, b, c in found:
        for edge in ((a, b), (a, c), (b, c)):
            uses[edge] = uses.get(edge, 0) + 1
    found = {(a, b, c) for a, b, c in found if min(uses[a, b], uses[a, c], uses[b, c]) < 3}
    triangles = np.array(sorted(found))
    side = points[triangles, 0].mean(1)
    right = triangles[side < -1e-9]
    triangles = np.concatenate([right, mirror[right], triangles[np.abs(side) <= 1e-9]])
    corners = points[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    middle = corners.mean(1)
    # outward: away from an axis inside the head
    outward = middle - np.stack([0 * middle[:, 0], middle[:, 1] * 0.6, np.full(len(middle), -0.5 * U)], 1)
    flip = (normal * outward).sum(1) < 0
    triangles[flip] = triangles[flip][:, ::-1]
    return orient(triangles)


def orient(triangles: np.ndarray) -> np.ndarray:
    """Make neighbours agree on the winding of the majority."""
    mesh = trimesh.Trimesh(np.zeros((triangles.max() + 1, 3)), triangles, process=False, validate=False)
    before = triangles.copy()
    trimesh.repair.fix_winding(mesh)
    after = np.asarray(mesh.faces)
    same = (np.sort(np.roll(after, 0, 1), 1) == np.sort(before, 1)).all()
    if not same:
        raise SystemExit("fix_winding reordered the faces; next: compare trimesh versions")
    even = np.array([tuple(a) in {tuple(np.roll(b, k)) for k in range(3)} for a, b in zip(after, before)])
    return after if even.mean() > 0.5 else after[:, ::-1]


def loop_matrix(triangles: np.ndarray, count: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """One step of Loop subdivision: matrix [shape=(new, count)], new triangles (old ones first, x 4)."""
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, inverse, uses = np.unique(edges, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1, 3)
    opposite: list[list[int]] = [[] for _ in unique]
    for t, row in enumerate(inverse):
        for k in range(3):
            opposite[row[k]].append(int(triangles[t, (k + 2) % 3]))
    rows, cols, values = [], [], []

    def put(r: int, c: int, v: float) -> None:
        rows.append(r)
        cols.append(c)
        values.append(v)

    rim: dict[int, list[int]] = {}
    near: dict[int, set[int]] = {}
    for (a, b), n in zip(unique.tolist(), uses):
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
        if n == 1:
            rim.setdefault(a, []).append(b)
            rim.setdefault(b, []).append(a)
    for v in range(count):
        if v in rim:
            put(v, v, 0.75)
            for w in rim[v][:2]:
                put(v, w, 0.125)
        elif v in near:
            n = len(near[v])
            beta = 3 / 16 if n == 3 else 3 / (8 * n)
            put(v, v, 1 - n * beta)
            for w in near[v]:
                put(v, w, beta)
        else:
            put(v, v, 1.0)
    for e, (a, b) in enumerate(unique.tolist()):
        if uses[e] == 2:
            put(count + e, a, 0.375)
            put(count + e, b, 0.375)
            put(count + e, opposite[e][0], 0.125)
            put(count + e, opposite[e][1], 0.125)
        else:
            put(count + e, a, 0.5)
            put(count + e, b, 0.5)
    matrix = sp.csr_matrix((values, (rows, cols)), shape=(count + len(unique), count))
    m = inverse + count  # (T, 3): midpoints of edges 01, 12, 20
    a, b, c = triangles.T
    split = [(a, m[:, 0], m[:, 2]), (m[:, 0], b, m[:, 1]), (m[:, 2], m[:, 1], c), (m[:, 0], m[:, 1], m[:, 2])]
    fine = np.stack([np.stack(s, 1) for s in split], 1).reshape(-1, 3)
    return matrix, fine


def boundary_loops(triangles: np.ndarray) -> list[np.ndarray]:
    """Boundary edges chained into closed loops, each running along its triangles' winding."""
    directed = {(int(t[k]), int(t[(k + 1) % 3])) for t in triangles for k in range(3)}
    follow = {a: b for a, b in directed if (b, a) not in directed}
    loops = []
    while follow:
        first, nxt = next(iter(follow.items()))
        loop = [first]
        while nxt != first:
            loop.append(nxt)
            nxt = follow[nxt]
        for v in loop:
            del follow[v]
        loops.append(np.array(loop))
    return loops


def shape_neutral(points: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Our resting face: mouth closed with 0.3 mm of air, corners level, eye openings wide enough for lids."""
    p = points.copy()
    for upper, lower in zip(UPPER[3][1:-1], LOWER[3][1:-1]):
        middle = (p[upper] + p[lower]) / 2
        p[upper], p[lower] = middle + (0, 0.00015, 0), middle - (0, 0.00015, 0)
    # fuller lips: the middle rings stand forward
    for ring, forward in ((1, 0.0012), (2, 0.0016), (3, 0.0002)):
        for side in (UPPER, LOWER):
            taper = np.sin(np.linspace(0, np.pi, 11))
            p[list(side[ring]), 2] += forward * taper
    # eye openings: taller, so that the lids' own edges are what is seen
    centre = (p[33] + p[133]) / 2
    for ring, grow in ((RIGHT_EYE, 1.42), (RIGHT_EYE_RING2, 1.12)):
        for i in ring:
            d = p[i] - centre
            p[i, 1] = centre[1] + d[1] * grow + (0.0008 if d[1] > 0 else 0.0)
            p[mirror[i]] = p[i] * (-1, 1, 1)
    return p


def add_rim(
    p: np.ndarray, t: np.ndarray, loop: np.ndarray, rows: list[Callable[[np.ndarray], np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Extrude a boundary loop row by row: points, triangles, the new triangles' loop position and row."""
    before, n = loop, len(loop)
    new, position = [], []
    for row, make in enumerate(rows):
        q = make(p[loop])
        after = np.arange(len(p), len(p) + n)
        p = np.concatenate([p, q])
        for k in range(n):
            a, b, c, d = before[k], before[(k + 1) % n], after[(k + 1) % n], after[k]
            if p[loop[k], 0] + p[loop[(k + 1) % n], 0] < 0:  # diagonals mirror each other
                new += [(b, a, d), (b, d, c)]
            else:
                new += [(b, a, c), (a, d, c)]
            position += [(k, row), (k, row)]
        before = after
    return p, np.concatenate([t, np.array(new)]), np.array(position)


def build_skin(canonical: np.ndarray, mirror: np.ndarray) -> dict[str, np.ndarray]:
    """Skin arrays of the asset: rest, triangles, labels, border, jaw_share, detail (CSR), colours."""
    p = shape_neutral(canonical[:468] * U, mirror)
    t = tessellation(p, mirror)
    upper = {i for ring in UPPER for i in ring}
    lower = {i for ring in LOWER for i in ring}
    label = np.full(len(t), SKIN_FACE)
    label[[set(f) <= upper for f in t.tolist()]] = UPPER_LIP
    label[[set(f) <= lower for f in t.tolist()]] = LOWER_LIP

    matrix, t = loop_matrix(t, len(p))
    keep = p.copy()
    p = matrix @ p
    label = np.repeat(label, 4)
    # Loop thins the lips' edge where it is a boundary: put the seam's own points back
    seam = [i for ring in (UPPER[3], LOWER[3]) for i in ring]
    p[seam] = keep[seam]

    loops = boundary_loops(t)
    border = next(v for v in loops if 10 in v)
    mouth = next(v for v in loops if 13 in v)
    # close the seam evenly for the new points too
    on_top = np.isin(mouth, np.unique(t[label == UPPER_LIP]))
    corner = on_top & np.isin(mouth, np.unique(t[label == LOWER_LIP]))
    top, bottom = mouth[on_top & ~corner], mouth[~on_top]
    top, bottom = top[np.argsort(p[top, 0])], bottom[np.argsort(p[bottom, 0])]
    middle = (p[top] + p[bottom]) / 2
    p[top], p[bottom] = middle + (0, 0.00015, 0), middle - (0, 0.00015, 0)

    side = np.where(corner, 0.0, np.where(on_top, 1.0, -1.0))[:, None]
    inward = -np.sign(p[mouth, 0])[:, None] * np.array((1.0, 0, 0)) * np.where(corner, 1.0, 0.0)[:, None]
    rows = [
        lambda q: q + (0, 0, -0.0022) + side * (0, 0.00005, 0) + inward * 0.0005,
        lambda q: q + (0, 0, -0.0048) + side * (0, 0.0011, 0) + inward * 0.0010,
        lambda q: q + (0, 0, -0.0076) + side * (0, 0.0036, 0) + inward * 0.0012,
    ]
    count = len(t)
    p, t, position = add_rim(p, t, mouth, rows)
    depth = np.concatenate([np.zeros(count), 1.0 + position[:, 1]])  # row of the rim, 0 outside
    position = position[:, 0]
    segment_top = on_top[position] | on_top[(position + 1) % len(mouth)]
    segment_top &= ~((corner[position] & ~on_top[(position + 1) % len(mouth)]) | (~on_top[position]))
    label = np.concatenate([label, np.where(segment_top, UPPER_RIM, LOWER_RIM)])
    assert len(label) == len(t) > count

    for loop in loops:
        if 33 in loop or 263 in loop:
            centre = eye_centre(p, loop)
            rows = [lambda q, c=centre: c + (q - c) * 0.90 + (0, 0, -0.0022)]
            p, t, _ = add_rim(p, t, loop, rows)
            label = np.concatenate([label, np.full(len(t) - len(label), EYE_RIM)])
            depth = np.concatenate([depth, np.zeros(len(t) - len(depth))])

    p = exact_symmetry(p)
    detail, fine = loop_matrix(t, len(p))
    fine_label = np.repeat(label, 4)
    q = detail @ p
    return {
        "rest": p,
        "triangles": t.astype(np.int32),
        "labels": label.astype(np.int8),
        "border": border.astype(np.int32),
        "jaw_share": jaw_share(p),
        "detail.data": detail.data,
        "detail.indices": detail.indices.astype(np.int32),
        "detail.indptr": detail.indptr.astype(np.int32),
        "detail.triangles": fine.astype(np.int32),
        "detail.colours": paint(q, fine, fine_label, np.repeat(depth, 4)).astype(np.float32),
    }


def exact_symmetry(p: np.ndarray) -> np.ndarray:
    """Pair vertices by reflection and average the pairs: the resting face is symmetric to the last bit."""
    from scipy.spatial import cKDTree

    flipped = p * (-1, 1, 1)
    partner = cKDTree(p).query(flipped)[1]
    if not (partner[partner] == np.arange(len(p))).all():
        raise SystemExit("the skin is not symmetric enough to pair its vertices")
    return (p + flipped[partner]) / 2


def eye_centre(p: np.ndarray, loop: np.ndarray) -> np.ndarray:
    """Centre of the eyeball behind an eye opening: the sphere's front lies just behind the lids."""
    ring = p[loop]
    middle = (ring[np.argmax(ring[:, 0])] + ring[np.argmin(ring[:, 0])]) / 2
    return np.array((middle[0], middle[1] + 0.0006, ring[:, 2].max() - 0.0010 - EYE_RADIUS))


def jaw_share(p: np.ndarray) -> np.ndarray:
    """How much of the jaw's motion the flange at each vertex takes: 0 at the ears, 1 at the chin."""
    s = np.clip((-0.50 - p[:, 1] / U) / 0.55, 0, 1)
    return s * s * (3 - 2 * s)


def paint(q: np.ndarray, triangles: np.ndarray, label: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Vertex colours of the fine skin, sRGB float [shape=(R, 3)]."""
    colour = np.tile(SKIN, (len(q), 1))
    x, y = np.abs(q[:, 0]) / U, q[:, 1] / U

    def blend(weight: np.ndarray, target: np.ndarray) -> None:
        colour[:] = colour * (1 - weight[:, None]) + target * weight[:, None]

    blend(0.35 * np.exp(-(((x - 0.42) / 0.16) ** 2 + ((y + 0.42) / 0.13) ** 2)), BLUSH)  # cheeks
    blend(0.22 * np.exp(-((x / 0.12) ** 2 + ((y + 0.42) / 0.10) ** 2)), BLUSH)  # nose tip
    line = brow_line(q)
    blend(np.clip(1.4 - line / 0.0024, 0, 1) * 0.95, BROW)
    # share of lip triangles around a vertex: 1 inside, 1/2 on the edge
    share = np.zeros(len(q))
    uses = np.zeros(len(q))
    np.add.at(
        share, triangles.ravel(), np.repeat(np.isin(label, (UPPER_LIP, LOWER_LIP, UPPER_RIM, LOWER_RIM)), 3)
    )
    np.add.at(uses, triangles.ravel(), 1)
    blend(np.clip(share / np.maximum(uses, 1) * 1.15, 0, 1), LIP)
    rim = np.zeros(len(q))
    np.add.at(rim, triangles.ravel(), np.repeat(depth, 3))
    blend(np.clip(rim / np.maximum(uses, 1) - RIM_START, 0, 1), RIM)
    eye = np.zeros(len(q))
    np.add.at(eye, triangles.ravel(), np.repeat(label == EYE_RIM, 3))
    blend(np.clip(eye / np.maximum(uses, 1), 0, 1) * 0.5, np.array((0.60, 0.46, 0.41)))
    return colour.clip(0, 1)


_brow: np.ndarray | None = None


def brow_line(q: np.ndarray) -> np.ndarray:
    """Distance of each point to the brows' centre lines, tapered towards the temple, in metres."""
    assert _brow is not None
    flat = np.stack([-np.abs(q[:, 0]), q[:, 1]], 1)
    best = np.full(len(q), np.inf)
    for k in range(len(_brow) - 1):
        a, b = _brow[k, :2], _brow[k + 1, :2]
        s = np.clip(((flat - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        along = (k + s) / (len(_brow) - 1)
        taper = 0.55 + 0.6 * along  # thin at the temple, full at the nose
        best = np.minimum(best, np.linalg.norm(flat - (a + s[:, None] * (b - a)), axis=1) / taper)
    return best


# --- rigid parts ------------------------------------------------------------------------------------------


class Parts:
    """Collects rigid parts: mesh, colours, the link that carries it, gloss."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.meta: dict[str, dict[str, object]] = {}

    def add(
        self, name: str, mesh: trimesh.Trimesh, colour: np.ndarray, link: str, gloss: float = 0.2
    ) -> None:
        """Store one part; colour [shape=(3,)] or [shape=(V, 3)]."""
        v = np.asarray(mesh.vertices, float)
        c = np.broadcast_to(np.asarray(colour, float), v.shape)
        self.arrays[f"part.{name}.vertices"] = v
        self.arrays[f"part.{name}.triangles"] = np.asarray(mesh.faces, np.int32)
        self.arrays[f"part.{name}.colours"] = np.array(c, np.float32)
        if len(mesh.faces) > FEW:
            self.arrays[f"part.{name}.small"] = simplify(v, np.asarray(mesh.faces), c, COARSENESS)
        self.meta[name] = {"link": link, "gloss": gloss}


def grid_mesh(points: np.ndarray, wrap: bool = False) -> trimesh.Trimesh:
    """Triangles over a grid of points [shape=(rows, columns, 3)]."""
    r, c = points.shape[:2]
    i = np.arange(r * c).reshape(r, c)
    j = np.concatenate([i, i[:, :1]], 1) if wrap else i
    a, b, d, e = j[:-1, :-1].ravel(), j[:-1, 1:].ravel(), j[1:, :-1].ravel(), j[1:, 1:].ravel()
    faces = np.concatenate([np.stack([a, d, b], 1), np.stack([b, d, e], 1)])
    return trimesh.Trimesh(points.reshape(-1, 3), faces, process=False)


def eyeball(centre: np.ndarray) -> tuple[trimesh.Trimesh, np.ndarray]:
    """A globe looking along +z with pupil, iris, limbus and sclera, and a corneal bulge."""
    edges = np.deg2rad([0, 4, 7.6, 8.0, 11, 15, 19.5, 20.4, 22.4, 23.2, 27, 33, 42, 55, 70, 90, 115])
    ring_colour = [
        (0.02, 0.02, 0.02), (0.02, 0.02, 0.02), (0.02, 0.02, 0.02), (0.16, 0.20, 0.22), (0.26, 0.36, 0.40),
        (0.22, 0.31, 0.36), (0.14, 0.19, 0.23), (0.10, 0.13, 0.16), (0.12, 0.14, 0.16), (0.86, 0.85, 0.83),
        (0.90, 0.89, 0.87), (0.90, 0.89, 0.87), (0.89, 0.87, 0.85), (0.88, 0.84, 0.82), (0.86, 0.80, 0.78),
        (0.8, 0.7, 0.68), (0.8, 0.7, 0.68),
    ]  # fmt: skip
    around = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    radius = EYE_RADIUS + 0.0004 * np.clip(1 - (edges / np.deg2rad(24)) ** 2, 0, 1)
    points = np.stack(
        [
            np.stack(
                [r * np.sin(e) * np.cos(around), r * np.sin(e) * np.sin(around), r * np.cos(e) + 0 * around],
                1,
            )
            for e, r in zip(edges, radius)
        ]
    )
    mesh = grid_mesh(points + centre, wrap=True)
    colours = np.repeat(np.array(ring_colour), len(around), 0)
    return mesh, colours


def lid(centre: np.ndarray, upper: bool, margin: float) -> tuple[trimesh.Trimesh, np.ndarray]:
    """A lid: the part of a sphere above (or below) the plane through its x axis at `margin` (rad)."""
    sign = 1.0 if upper else -1.0
    elevation = np.concatenate([[0.0, 0.03, 0.06, 0.09], np.linspace(0.14, 1.45, 12)])
    azimuth = np.linspace(-np.pi / 2 * 0.985, np.pi / 2 * 0.985, 33)
    points, colours = [], []
    for k, e in enumerate(elevation):
        a = margin + sign * e
        r = LID_RADIUS + (0.00035 if 0 < k < 3 else 0.0)  # a soft bead at the edge
        ring = np.stack(
            [r * np.sin(azimuth), r * np.cos(azimuth) * np.sin(a), r * np.cos(azimuth) * np.cos(a)], 1
        )
        points.append(ring)
        lash = np.array((0.20, 0.13, 0.12)) if upper else np.array((0.38, 0.24, 0.22))
        shade = SKIN * 0.97
        w = max(0.0, 1 - k / 4) if upper else max(0.0, 1 - k / 3)
        colours.append(np.tile(lash * w + shade * (1 - w), (len(azimuth), 1)))
    mesh = grid_mesh(np.array(points) + centre)
    if upper:
        mesh.invert()
    if mesh.face_normals[:, 2].mean() < 0:
        mesh.invert()
    return mesh, np.concatenate(colours)


def arch(
    width: float, depth: float, height: float, top: float, front: np.ndarray, grow: float
) -> trimesh.Trimesh:
    """A dental arch: a parabolic wall with a scalloped edge and grooves between teeth."""
    s = np.linspace(-1, 1, 113)
    x, z = s * width, -depth * s**2
    tooth = np.abs(((s * 7) % 1.0) - 0.5) * 2  # 0 in the middle of a tooth, 1 between two
    groove = 0.0006 * np.clip((tooth - 0.72) / 0.28, 0, 1) ** 2
    rows = []
    for f in np.linspace(0, 1, 5):
        edge = 0.0005 * np.clip((tooth - 0.6) / 0.4, 0, 1) ** 2 * (1 - f) * grow
        y = top + grow * f * height + edge
        bulge = 0.0005 * np.sin(np.pi * f)
        rows.append(np.stack([x, y, z - groove + bulge], 1))
    back = np.stack([x, rows[0][:, 1], z - 0.004], 1)
    mesh = grid_mesh(np.array([back, *rows]) + front)
    return mesh


def ellipsoid(centre: np.ndarray, radii: tuple[float, float, float], fine: int = 3) -> trimesh.Trimesh:
    """An icosphere, stretched."""
    mesh = trimesh.creation.icosphere(subdivisions=fine)
    mesh.apply_scale(radii)
    mesh.apply_translation(centre)
    return mesh


def build_mouth(parts: Parts, p: np.ndarray) -> None:
    """Teeth, tongue and the dark behind them."""
    lips = p[[13, 14]].mean(0)
    ivory = np.array((0.80, 0.77, 0.70))
    front = lips + (0, 0, -0.0095)
    upper = arch(0.0245, 0.021, 0.0085, 0.0006, front + (0, 0, 0.0006), +1.0)
    lower = arch(0.0225, 0.019, 0.0075, -0.0012, front + (0, 0, -0.0016), -1.0)
    for name, mesh, link in (("upper_teeth", upper, "skull"), ("lower_teeth", lower, "jaw")):
        if mesh.face_normals[:, 2].mean() < 0:
            mesh.invert()
        x = np.abs(mesh.vertices[:, :1]) / 0.0245
        parts.add(name, mesh, ivory * (1 - 0.55 * np.clip(x, 0, 1) ** 1.5), link, 0.5)
    for name, y, link in (("upper_gum", 0.0135, "skull"), ("lower_gum", -0.0175, "jaw")):
        gum = ellipsoid(lips + (0, y, -0.030), (0.0235, 0.0055, 0.0195), 2)
        parts.add(name, gum, np.array((0.24, 0.08, 0.08)), link, 0.3)
    tongue = ellipsoid(lips + (0, -0.0150, -0.0335), (0.0165, 0.0060, 0.0205), 2)
    groove = np.exp(-((tongue.vertices[:, 0] / 0.003) ** 2))[:, None]
    parts.add("tongue", tongue, np.array((0.34, 0.11, 0.12)) * (1 - 0.25 * groove), "jaw", 0.4)
    # an open bowl behind the teeth, nearly black: what an opening shows
    bowl = ellipsoid(lips + (0, -0.004, -0.020), (0.0255, 0.0300, 0.045), 3)
    keep = bowl.triangles_center[:, 2] < lips[2] - 0.0200
    bowl.update_faces(keep)
    bowl.remove_unreferenced_vertices()
    bowl.invert()
    parts.add("mouth_cavity", bowl, np.array((0.055, 0.018, 0.02)), "skull", 0.0)


def build_head(parts: Parts, p: np.ndarray, border: np.ndarray) -> None:
    """Shell, jaw guard, ears, neck and collar: the robot around the face."""
    loop = p[border]
    order = np.argsort(np.arctan2(loop[:, 0], loop[:, 1] + 0.3 * U))  # around, from the back of the crown
    loop = loop[order]
    centre = np.array((0.0, -0.12, -0.80)) * U
    radii = np.array((0.86, 1.02, 1.02)) * U
    back = np.array((0.0, 0.10, -1.0)) / np.linalg.norm((0.0, 0.10, -1.0))

    def loft(steps: np.ndarray, start: float) -> np.ndarray:
        rows = []
        d0 = loop - centre
        r0 = np.linalg.norm(d0, axis=1, keepdims=True)
        d0 = d0 / r0
        angle = np.arccos(np.clip(d0 @ back, -1, 1))[:, None]
        for s in steps:
            d = (np.sin((1 - s) * angle) * d0 + np.sin(s * angle) * back) / np.sin(angle)
            r = 1 / np.linalg.norm(d / radii, axis=1, keepdims=True)
            w = min(1.0, s / 0.35)
            w = w * w * (3 - 2 * w)
            rows.append(centre + d * ((r0 * start) * (1 - w) + r * w))
        return np.array(rows)

    steps = np.concatenate([[0.0, 0.0, 0.012], np.linspace(0.04, 0.985, 22)])
    grid = loft(steps, 1.035)
    grid[0] = loop + (grid[2] - loop) * 0.15 + (0, 0, -0.002)  # a flange under the skin's edge
    grid[1] = loop + (grid[2] - loop) * 0.9 + (0, 0, 0.0012)
    shell = grid_mesh(grid, wrap=True)
    lower = shell.triangles_center[:, 1] < -0.66 * U
    front = shell.triangles_center[:, 2] > -0.75 * U
    outward = ((shell.triangles_center - centre) * shell.face_normals).sum(1)
    if outward.mean() < 0:
        shell.invert()
    for name, mask, colour, link in (
        ("head_shell", ~(lower & front), SHELL, "skull"),
        ("jaw_guard", lower & front, GRAPHITE * 1.25, "jaw"),
    ):
        piece = shell.copy()
        piece.update_faces(mask)
        piece.remove_unreferenced_vertices()
        parts.add(name, piece, colour, link, 0.55)
    for side, x in (("right", -1.0), ("left", 1.0)):
        disc = trimesh.creation.cylinder(radius=0.017, height=0.010, sections=32)
        disc.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (0, 1, 0)))
        disc.apply_translation((x * 0.83 * U, -0.18 * U, -0.62 * U))
        parts.add(f"{side}_ear", smooth(disc), GRAPHITE, "skull", 0.5)
        ring = trimesh.creation.torus(0.0165, 0.0026, major_sections=32, minor_sections=8)
        ring.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (0, 1, 0)))
        ring.apply_translation((x * (0.83 * U + 0.0048), -0.18 * U, -0.62 * U))
        parts.add(f"{side}_ear_ring", ring, STEEL, "skull", 0.8)
    # the neck stands on the body: bellows under the head, a collar below
    around = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    rows, colours = [], []
    for k, y in enumerate(np.linspace(-0.95, -1.95, 29) * U):
        r = 0.40 * U + 0.0020 * np.cos(k * np.pi / 2) + 0.004 * (k / 28) ** 2
        rows.append(
            np.stack([r * np.cos(around), 0 * around + y, r * np.sin(around) + NECK_PIVOT[2] + 0.012], 1)
        )
        colours.append(np.tile(GRAPHITE * (1.0 + 0.35 * np.cos(k * np.pi / 2)), (32, 1)))
    neck = grid_mesh(np.array(rows), wrap=True)
    if (neck.face_normals * (neck.triangles_center - (0, 0, NECK_PIVOT[2])) * (1, 0, 1)).sum() < 0:
        neck.invert()
    parts.add("neck", neck, np.concatenate(colours).clip(0, 1), "body", 0.3)
    collar = trimesh.creation.torus(0.052, 0.010, major_sections=40, minor_sections=12)
    collar.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
    collar.apply_translation((0, -1.86 * U, NECK_PIVOT[2] + 0.012))
    parts.add("collar", collar, SHELL, "body", 0.55)
    chest = ellipsoid(np.array((0.0, -2.62 * U, NECK_PIVOT[2] + 0.006)), (0.165, 0.062, 0.072), 3)
    parts.add("shoulders", chest, SHELL * 0.97, "body", 0.45)


def smooth(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Split vertices at sharp edges so that smooth shading keeps them sharp."""
    return trimesh.graph.smooth_shade(mesh, angle=np.deg2rad(40))


def main() -> None:
    """Write face.safetensors."""
    global _brow
    source = load_file(HERE / "canonical.safetensors")
    canonical, mirror = source["points"].astype(float), source["mirror"]
    _brow = (canonical[list(RIGHT_BROW_UPPER)] + canonical[list(RIGHT_BROW_LOWER)]) / 2 * U
    skin = build_skin(canonical, mirror)
    p = skin["rest"]
    parts = Parts()
    centres = {}
    neutral = shape_neutral(canonical[:468] * U, mirror)
    loops = boundary_loops(tessellation(neutral, mirror))
    for side, corner in (("right", 33), ("left", 263)):
        loop = next(v for v in loops if corner in v)
        centre = eye_centre(p, loop)
        centres[side] = centre
        ball, colours = eyeball(centre)
        parts.add(f"{side}_eye", ball, colours, f"{side}_eye", 0.9)
        for which, upper in (("upper", True), ("lower", False)):
            mesh, colours = lid(centre, upper, 0.42 if upper else -0.45)
            parts.add(f"{side}_{which}_lid", mesh, colours, f"{side}_{which}_lid", 0.25)
    build_mouth(parts, p)
    build_head(parts, p, skin["border"])
    links = {
        "neck": {"pivot": NECK_PIVOT.tolist(), "parent": "body"},
        "skull": {"pivot": [0.0, 0.0, 0.0], "parent": "neck"},
        "jaw": {"pivot": JAW_PIVOT.tolist(), "parent": "skull"},
    }
    for side, centre in centres.items():
        for name in (f"{side}_eye", f"{side}_upper_lid", f"{side}_lower_lid"):
            links[name] = {"pivot": centre.tolist(), "parent": "skull"}
    meta = {
        "made_by": "assets/face/build_face.py",
        "licence": "Apache-2.0",
        "metres_per_u": U,
        "links": links,
        "parts": parts.meta,
    }
    arrays = {**skin, **parts.arrays}
    arrays = {
        k: np.ascontiguousarray(
            v.astype(np.float32) if v.dtype == np.float64 and not k.startswith("rest") else v
        )
        for k, v in arrays.items()
    }
    save_file(arrays, HERE / "face.safetensors.part", metadata={"face": json.dumps(meta, sort_keys=True)})
    (HERE / "face.safetensors.part").replace(HERE / "face.safetensors")
    print(
        f"skin {len(p)} vertices, {len(skin['triangles'])} triangles; "
        f"seen {len(skin['detail.colours'])} vertices; {len(parts.meta)} rigid parts"
    )


if __name__ == "__main__":
    main()
