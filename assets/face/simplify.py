"""Fewer triangles for small pictures: a part's mesh with most of its vertices left out.

Edges are collapsed onto one of their ends in the order of quadric error (Garland and Heckbert, 1998: "with
colour and texture", which adds the colours to the coordinates). What is left are vertices of the full mesh,
so that their colours and normals serve, too, and only triangles have to be stored.
"""

from __future__ import annotations

import heapq

import numpy as np

#: what a colour's full range counts as, m
COLOUR = 0.002
#: borders weigh this much more than surfaces
BORDER = 10.0
#: a triangle may turn this far, cosine
TURN = 0.3


def simplify(
    vertices: np.ndarray, triangles: np.ndarray, colours: np.ndarray, tolerance: float
) -> np.ndarray:
    """Triangles [shape=(t, 3)] of vertices of the mesh, about `tolerance` (m, root mean square) from it.

    Surfaces stay surfaces: an edge is collapsed only if no hole opens or shuts and no triangle turns over.
    """
    p = np.asarray(vertices, float)
    p = p - p.mean(0)
    x = np.concatenate([p, COLOUR * np.asarray(colours, float)], 1)  # (V, 6)
    corners = {k: tuple(t) for k, t in enumerate(np.asarray(triangles).tolist())}
    around: list[set[int]] = [set() for _ in p]  # triangles of a vertex
    for k, t in corners.items():
        for v in t:
            around[v].add(k)
    quadrics, weights = _quadrics(x, np.asarray(triangles))

    def next_to(v: int) -> set[int]:
        return {w for k in around[v] for w in corners[k]} - {v}

    def cost(v: int, u: int) -> float:
        a, b, c = (one + other for one, other in zip(quadrics[v], quadrics[u]))
        error = x[u] @ a @ x[u] + 2 * b @ x[u] + c
        return float(np.sqrt(max(error, 0.0) / (weights[v] + weights[u])))

    def allowed(v: int, u: int) -> bool:
        shared = around[v] & around[u]
        near = next_to(v)
        if not shared or len(near & next_to(u)) != len(shared):
            return False
        border = len(near) != len(around[v])
        if border and len(shared) != 1:
            return False
        for k in around[v] - shared:
            old = p[list(corners[k])]
            new = p[[u if w == v else w for w in corners[k]]]
            n, m = (np.cross(q[1] - q[0], q[2] - q[0]) for q in (old, new))
            if n @ m <= TURN * np.linalg.norm(n) * np.linalg.norm(m):
                return False
        return len(around[v]) > len(shared)

    heap = [(cost(v, u), v, u) for v in range(len(p)) for u in sorted(next_to(v))]
    heapq.heapify(heap)
    while heap:
        known, v, u = heapq.heappop(heap)
        if known > tolerance:
            break
        if u not in next_to(v) or known != cost(v, u) or not allowed(v, u):
            continue  # (what becomes allowed later is asked again when its neighbours change)
        for k in around[v] & around[u]:
            for w in corners.pop(k):
                around[w].discard(k)
        for k in sorted(around[v]):
            corners[k] = tuple(u if w == v else w for w in corners[k])
            around[u].add(k)
        around[v] = set()
        quadrics[u] = tuple(one + other for one, other in zip(quadrics[v], quadrics[u]))  # type: ignore[assignment]
        weights[u] += weights[v]
        for w in sorted(next_to(u)):
            for one, other in ((w, u), (u, w)):
                heapq.heappush(heap, (cost(one, other), one, other))
            for far in sorted(next_to(w) - {u}):
                heapq.heappush(heap, (cost(w, far), w, far))
    return np.array([corners[k] for k in sorted(corners)], np.int32).reshape(-1, 3)


def _quadrics(
    x: np.ndarray, triangles: np.ndarray
) -> tuple[list[tuple[np.ndarray, np.ndarray, float]], np.ndarray]:
    """Sums of squared distances from each vertex's triangles (A, b, c), weighted by area, and the weights."""
    wide = x.shape[1]
    a, b, c = np.zeros((len(x), wide, wide)), np.zeros((len(x), wide)), np.zeros(len(x))
    weights = np.zeros(len(x))

    def add(v: int, n: np.ndarray, at: np.ndarray, w: float) -> None:
        # distance from the space through `at` that the projector n is orthogonal to
        a[v] += w * n
        b[v] -= w * (n @ at)
        c[v] += w * (at @ n @ at)

    uses: dict[tuple[int, int], list[int]] = {}
    for k, t in enumerate(triangles.tolist()):
        e = x[t[1]] - x[t[0]]
        f = x[t[2]] - x[t[0]]
        e = e / max(np.linalg.norm(e), 1e-12)
        f = f - (f @ e) * e
        area = np.linalg.norm(f) * np.linalg.norm(x[t[1]] - x[t[0]]) / 2
        f = f / max(np.linalg.norm(f), 1e-12)
        n = np.eye(wide) - np.outer(e, e) - np.outer(f, f)
        for v in t:
            add(v, n, x[t[0]], area)
            weights[v] += area
        for i in range(3):
            uses.setdefault(tuple(sorted((t[i], t[(i + 1) % 3]))), []).append(k)  # type: ignore[arg-type]
    for (i, j), sides in uses.items():
        if len(sides) == 1:
            e = x[j] - x[i]
            long = np.linalg.norm(e)
            e = e / max(long, 1e-12)
            for v in (i, j):
                add(v, np.eye(wide) - np.outer(e, e), x[i], BORDER * long**2)
    return list(zip(a, b, c)), np.maximum(weights, 1e-15)
