"""A sparse Cholesky factor made for one skin: made again in every pose that asks for it, cheap to use.

Multifrontal: vertices that are eliminated together are a *front*, a small dense matrix; their order is that
of minimum degree. Chosen vertices (where skin touches skin or teeth) are eliminated last, all in one front,
the root, so that contacts can be added to it without touching the rest. Single precision: it only proposes
steps, gradients decide.
Not here: what the entries are (`tangent.py`), equilibrium (`exact.py`).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

from facetwin.twin.skin.base import FAST, Ints

LEAF = 8  # vertices that always make one front
WASTE = 0.06  # share of zeros for which two fronts become one
BLOCK = 48  # rows that plain loops factor; larger fronts are halved
Singles = NDArray[np.float32]


class Fronts:
    """Symbolic part of the factor: the order of elimination and where every entry goes.

    Parameters
    ----------
    pairs : int64 [shape=(P, 2)]
        Vertices whose entries are not zero.
    free : bool [shape=(N,)]
        Vertices that move; the others have no rows.
    last : int64 [shape=(R,)]
        Vertices of the root, R may be 0.

    Attributes
    ----------
    order : int64 [shape=(F,)]
        Free vertices as they are eliminated; the root's come last.
    place : int64 [shape=(N,)]
        Where each vertex stands in `order`, -1 if it is held.
    root : int
        Place in `order` of the root's first vertex.
    size : int
        Numbers that the factor stores.
    """

    def __init__(self, pairs: Ints, free: NDArray[np.bool_], last: Ints) -> None:
        n = len(free)
        kept = pairs[free[pairs].all(1) & (pairs[:, 0] != pairs[:, 1])]
        both = np.concatenate([kept, kept[:, ::-1]])
        both = np.unique(both, axis=0)
        starts = np.searchsorted(both[:, 0], np.arange(n + 1))
        near = [both[starts[v] : starts[v + 1], 1] for v in range(n)]
        in_root = np.zeros(n, dtype=bool)
        in_root[last[free[last]]] = True
        fronts, parents = _tree(near, np.flatnonzero(free & ~in_root), np.flatnonzero(in_root))
        self.order = np.concatenate(fronts).astype(np.int64)
        self.place = np.full(n, -1, dtype=np.int64)
        self.place[self.order] = np.arange(len(self.order))
        self.root = len(self.order) - int(in_root.sum())
        self._borders(fronts, parents, near)

    def _borders(self, fronts: list[Ints], parents: list[int], near: list[Ints]) -> None:
        count = len(fronts)
        widths = np.array([len(f) for f in fronts])
        self.first = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
        borders: list[Ints] = [np.zeros(0, np.int64) for _ in fronts]
        children: list[list[int]] = [[] for _ in fronts]
        for f in range(count):
            if parents[f] >= 0:
                children[parents[f]].append(f)
        for f in range(count):  # children come first
            beyond = [self.place[near[v]] for v in fronts[f]] + [borders[c] for c in children[f]]
            around = np.unique(np.concatenate(beyond)) if beyond else np.zeros(0, np.int64)
            borders[f] = around[around >= self.first[f + 1]].astype(np.int64)
        self.border_start = np.concatenate([[0], np.cumsum([len(b) for b in borders])]).astype(np.int64)
        self.border = np.concatenate(borders).astype(np.int64)
        self._own = np.repeat(np.arange(count), widths)  # front of each place
        deep = np.array([len(b) for b in borders])
        k, b = 3 * widths, 3 * deep
        self.square = np.concatenate([[0], np.cumsum(k * k)]).astype(np.int64)  # where A11 of a front begins
        self.tall = (self.square[-1] + np.concatenate([[0], np.cumsum(b * k)])).astype(np.int64)  # and A12
        self.size = int(self.tall[-1])
        self.update = np.concatenate([[0], np.cumsum(b * b)]).astype(
            np.int64
        )  # and what it leaves its parent
        self.child_start = np.concatenate([[0], np.cumsum([len(c) for c in children])]).astype(np.int64)
        self.children = np.array([c for each in children for c in each], dtype=np.int64)
        # where a border vertex stands in the parent: below its width among its own, else in its border
        local = np.zeros(len(self.border), dtype=np.int64)
        for f in range(count):
            p = parents[f]
            if p < 0:
                continue
            own = borders[f] < self.first[p + 1]
            local[self.border_start[f] : self.border_start[f + 1]] = np.where(
                own, borders[f] - self.first[p], widths[p] + np.searchsorted(borders[p], borders[f])
            )
        self.local = local
        # how many vertices from here on stand in a row in the parent too: they are handed on in one go
        self.run = np.ones(len(local), dtype=np.int64)
        ends = set((self.border_start[1:] - 1).tolist())
        wide = np.concatenate(
            [np.full(len(borders[f]), widths[parents[f]] if parents[f] >= 0 else 0) for f in range(count)]
        )
        for i in range(len(local) - 2, -1, -1):
            if i not in ends and local[i + 1] == local[i] + 1 and local[i + 1] != wide[i]:
                self.run[i] = self.run[i + 1] + 1
        self._widths, self._borders_of = widths, borders
        self._beside = np.empty(int((k + b).max()), dtype=np.float32)

    def targets(self, one: Ints, two: Ints) -> NDArray[np.int64]:
        """Where 3 x 3 blocks of vertex pairs go: offset, row stride, column stride, int64 [shape=(n, 3)].

        Offset -1 where one of the pair is held. Only the upper triangle of the matrix is stored.
        """
        a, b = self.place[one], self.place[two]
        swap = a <= b  # the row is the one eliminated later
        row, column = np.where(swap, b, a), np.where(swap, a, b)
        out = np.full((len(a), 3), -1, dtype=np.int64)
        good = (a >= 0) & (b >= 0)
        for i in np.flatnonzero(good):
            r, c = row[i], column[i]
            f = self._own[c]
            wide = 3 * self._widths[f]
            near, deep = 3 * (c - self.first[f]), 3 * len(self._borders_of[f])
            if r < self.first[f + 1]:
                at, step = self.square[f] + near * wide + 3 * (r - self.first[f]), wide
            else:
                below = int(np.searchsorted(self._borders_of[f], r))
                at, step = self.tall[f] + near * deep + 3 * below, deep
            out[i] = (at, step, 1) if swap[i] else (at, 1, step)
        return out

    def factor(self, values: Singles, room: Singles) -> bool:
        """Factor in place the entries at `targets` [shape=(size,)]; False if it is not positive.

        ``room`` [shape=(update[-1],)] is overwritten.
        """
        return bool(
            _factor(
                values, room, self.first, self.border_start, self.local, self.run, self.child_start,
                self.children, self.square, self.tall, self.update,
            )
        )  # fmt: skip

    def down(self, values: Singles, right: Singles) -> None:
        """Eliminate all but the root from a right-hand side in `order` [shape=(3F,)], in place.

        The root's part is left as its Schur complement's right-hand side, multiplied by its inverse factor.
        """
        _down(values, right, self.first, self.border_start, self.border, self.square, self.tall, self._beside)

    def up(self, values: Singles, right: Singles) -> None:
        """The second half of a solution, in place."""
        _up(values, right, self.first, self.border_start, self.border, self.square, self.tall, self._beside)

    def root_inverse(self, values: Singles) -> Singles:
        """Inverse of the root's Cholesky factor, lower triangular [shape=(3R, 3R)], a view."""
        wide = 3 * (len(self.order) - self.root)
        start = self.square[len(self.first) - 2]
        return values[start : start + wide * wide].reshape(wide, wide)


def _tree(near: list[Ints], loose: Ints, root: Ints) -> tuple[list[Ints], list[int]]:
    # Fronts, children first, the root at the end; and the parent of each, -1 for the root.
    n = len(near)
    rank = np.full(n, -1)
    rank[loose] = np.arange(len(loose))
    rows = np.concatenate([np.full(len(near[v]), rank[v]) for v in loose] or [np.zeros(0, int)])
    columns = np.concatenate([rank[near[v]] for v in loose] or [np.zeros(0, int)])
    kept = columns >= 0
    graph = sp.csc_matrix((-np.ones(kept.sum()), (rows[kept], columns[kept])), shape=(len(loose),) * 2)
    graph = (graph + sp.diags(1.0 + np.asarray(-graph.sum(0)).ravel())).tocsc()
    sequence = np.zeros(0, dtype=np.int64)
    if len(loose):  # SuperLU's minimum degree; only its order is used
        order = splu(graph, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).perm_c
        sequence = loose[np.argsort(order)]
    when = np.full(n, -1)
    when[sequence] = np.arange(len(sequence))
    when[root] = len(sequence)  # all of the root at once
    # what each vertex meets when it is eliminated, and who inherits it
    meets: list[set[int]] = []
    wide, heir = np.ones(len(sequence), dtype=np.int64), np.full(len(sequence), -1)
    below: list[list[int]] = [[] for _ in sequence]
    for i, v in enumerate(sequence):
        later = {int(u) for u in near[v] if when[u] > i}
        for c in below[i]:
            later |= meets[c]
        later.discard(int(v))
        meets.append(later)
        heir[i] = min((when[u] for u in later), default=len(sequence))
        if heir[i] < len(sequence):
            below[heir[i]].append(i)
    # neighbours in the tree become one front where few zeros are stored for it
    group = [[i] for i in range(len(sequence))]
    alive = np.ones(len(sequence), dtype=bool)
    for i in range(len(sequence)):
        for c in sorted(below[i], key=lambda c: -len(meets[c])):
            full = (wide[i] + len(meets[i])) * wide[c]
            waste = full - wide[c] * len(meets[c])
            if waste <= WASTE * full or wide[i] + wide[c] <= LEAF:
                group[i] = group[c] + group[i]
                wide[i] += wide[c]
                alive[c] = False
                below[i] = [b for b in below[i] if b != c] + below[c]
    fronts: list[Ints] = []
    parents: list[int] = []

    def put(i: int) -> int:
        under = [put(c) for c in sorted(below[i])]
        fronts.append(sequence[np.array(group[i])])
        parents.append(-1)
        for f in under:
            parents[f] = len(fronts) - 1
        return len(fronts) - 1

    tops = [put(i) for i in range(len(sequence)) if alive[i] and heir[i] == len(sequence)]
    fronts.append(root)
    parents.append(-1)
    for f in tops:
        parents[f] = len(fronts) - 1
    return fronts, parents


@njit(cache=True, fastmath=FAST)
def cholesky(a):
    """Lower factor in place of a small symmetric matrix, its lower triangle read; False if not positive."""
    n = a.shape[0]
    for i in range(n):
        for j in range(i):
            total = a[i, j]
            for k in range(j):
                total -= a[i, k] * a[j, k]
            a[i, j] = total / a[j, j]
        total = a[i, i]
        for k in range(i):
            total -= a[i, k] * a[i, k]
        if not total > 0:
            return False
        a[i, i] = np.sqrt(total)
    return True


@njit(cache=True, fastmath=FAST)
def invert(a):
    """Inverse in place of a small lower triangular matrix; zeros above."""
    n = a.shape[0]
    row = np.empty(n, dtype=a.dtype)
    for i in range(n):
        scale = np.float32(1.0) / a[i, i]
        for j in range(i):
            row[j] = a[i, j]
            a[i, j] = 0
        for k in range(i):
            w = -row[k] * scale
            for j in range(k + 1):
                a[i, j] += w * a[k, j]
        a[i, i] = scale
        for j in range(i + 1, n):
            a[i, j] = 0


@njit(cache=True)
def invert_factor(a):
    """Inverse of the Cholesky factor of ``a`` [shape=(n, n)], in place, by halves; False if not positive."""
    n = a.shape[0]
    if n <= BLOCK:
        if not cholesky(a):
            return False
        invert(a)
        return True
    h = n // 2
    one = a[:h, :h].copy()
    if not invert_factor(one):
        return False
    low = np.dot(np.ascontiguousarray(a[h:, :h]), one.T)
    two = a[h:, h:] - np.dot(low, low.T)
    if not invert_factor(two):
        return False
    a[:h, :h] = one
    a[:h, h:] = 0
    a[h:, h:] = two
    a[h:, :h] = -np.dot(two, np.dot(low, one))
    return True


@njit(cache=True)
def _factor(values, room, first, border_start, local, run, child_start, children, square, tall, update):
    # What a front leaves its parent is kept as the positive matrix to take away, its upper half.
    for f in range(first.shape[0] - 1):
        w, d = first[f + 1] - first[f], border_start[f + 1] - border_start[f]
        k, b = 3 * w, 3 * d
        head = values[square[f] : square[f] + k * k].reshape(k, k)
        body = values[tall[f] : tall[f] + b * k].reshape(k, b)
        own = room[update[f] : update[f] + b * b].reshape(b, b)
        for q in range(child_start[f], child_start[f + 1]):
            c = children[q]
            s, e = border_start[c], border_start[c + 1]
            left = room[update[c] : update[c] + 9 * (e - s) ** 2].reshape(3 * (e - s), 3 * (e - s))
            _inherit(left, local[s:e], run[s:e], w, head, body)
        for i in range(k):
            for j in range(i):
                head[i, j] = head[j, i]
        if k > 0 and not invert_factor(head):
            return False
        if b == 0:
            continue
        body[:] = np.dot(head, body)
        np.dot(body.T, body, own)
        for q in range(child_start[f], child_start[f + 1]):
            c = children[q]
            s, e = border_start[c], border_start[c + 1]
            left = room[update[c] : update[c] + 9 * (e - s) ** 2].reshape(3 * (e - s), 3 * (e - s))
            _hand_on(left, local[s:e], run[s:e], w, own)
    return True


@njit(cache=True, fastmath=FAST)
def _inherit(left, local, run, w, head, body):
    d = local.shape[0]
    for i in range(d):
        r = local[i]
        if r >= w:
            break  # the border is sorted: its own first
        j = i
        while j < d:
            c, size = local[j], 3 * run[j]
            for m in range(3):
                take = left[3 * i + m, 3 * j : 3 * j + size]
                give = (
                    head[3 * r + m, 3 * c : 3 * c + size]
                    if c < w
                    else body[3 * r + m, 3 * (c - w) : 3 * (c - w) + size]
                )
                for n in range(size):
                    give[n] -= take[n]
            j += run[j]


@njit(cache=True, fastmath=FAST)
def _hand_on(left, local, run, w, own):
    d = local.shape[0]
    for i in range(d):
        r = local[i] - w
        if r < 0:
            continue
        j = i
        while j < d:
            c, size = local[j] - w, 3 * run[j]
            for m in range(3):
                take, give = left[3 * i + m, 3 * j : 3 * j + size], own[3 * r + m, 3 * c : 3 * c + size]
                for n in range(size):
                    give[n] += take[n]
            j += run[j]


@njit(cache=True, fastmath=FAST)
def _down(values, right, first, border_start, border, square, tall, room):
    for f in range(first.shape[0] - 1):
        o, k = 3 * first[f], 3 * (first[f + 1] - first[f])
        near = border[border_start[f] : border_start[f + 1]]
        b = 3 * near.shape[0]
        y, edge, own = room[:k], room[k : k + b], right[o : o + k]
        lower_times(values[square[f] : square[f] + k * k].reshape(k, k), own, y)
        own[:] = y
        if b > 0:
            edge[:] = 0
            add_rows(values[tall[f] : tall[f] + k * b].reshape(k, b), y, edge)
            for v in range(near.shape[0]):
                q = 3 * near[v]
                right[q] -= edge[3 * v]
                right[q + 1] -= edge[3 * v + 1]
                right[q + 2] -= edge[3 * v + 2]


@njit(cache=True, fastmath=FAST)
def _up(values, right, first, border_start, border, square, tall, room):
    for f in range(first.shape[0] - 2, -1, -1):
        o, k = 3 * first[f], 3 * (first[f + 1] - first[f])
        near = border[border_start[f] : border_start[f + 1]]
        b = 3 * near.shape[0]
        y, edge, own = room[:k], room[k : k + b], right[o : o + k]
        if b > 0:
            for v in range(near.shape[0]):
                q = 3 * near[v]
                edge[3 * v], edge[3 * v + 1], edge[3 * v + 2] = right[q], right[q + 1], right[q + 2]
            rows_times(values[tall[f] : tall[f] + k * b].reshape(k, b), edge, y)
            for j in range(k):
                y[j] = own[j] - y[j]
        else:
            y[:] = own
        own[:] = 0
        add_lower(values[square[f] : square[f] + k * k].reshape(k, k), y, own)


# Products of one matrix and one vector, four rows at a time: every number is read once and in order. They are
# too small for a BLAS. Views and plain loop counters, no sums of counters as indices: numba would ask of each
# whether it is negative, and nothing would run in vector registers (it was eight times slower so).


@njit(cache=True, fastmath=FAST)
def lower_times(a, x, y):
    """``y`` = ``a`` ``x`` for a lower triangle [shape=(k, k)] with zeros above."""
    k = a.shape[0]
    whole = k - k % 4
    for i in range(0, whole, 4):
        p, q, r, s = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for j in range(i + 4):
            w = x[j]
            p += a[i, j] * w
            q += a[i + 1, j] * w
            r += a[i + 2, j] * w
            s += a[i + 3, j] * w
        y[i], y[i + 1], y[i + 2], y[i + 3] = p, q, r, s
    for i in range(whole, k):
        p = np.float32(0)
        for j in range(i + 1):
            p += a[i, j] * x[j]
        y[i] = p


@njit(cache=True, fastmath=FAST)
def add_lower(a, x, y):
    """``y`` += transposed ``a`` ``x`` for a lower triangle [shape=(k, k)] with zeros above."""
    k = a.shape[0]
    whole = k - k % 4
    for i in range(0, whole, 4):
        p, q, r, s = x[i], x[i + 1], x[i + 2], x[i + 3]
        for j in range(i + 4):
            y[j] += p * a[i, j] + q * a[i + 1, j] + r * a[i + 2, j] + s * a[i + 3, j]
    for i in range(whole, k):
        p = x[i]
        for j in range(i + 1):
            y[j] += p * a[i, j]


@njit(cache=True, fastmath=FAST)
def rows_times(a, x, y):
    """``y`` = ``a`` ``x`` [shape=(k, b)]."""
    k, b = a.shape
    whole = k - k % 4
    for i in range(0, whole, 4):
        p, q, r, s = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for j in range(b):
            w = x[j]
            p += a[i, j] * w
            q += a[i + 1, j] * w
            r += a[i + 2, j] * w
            s += a[i + 3, j] * w
        y[i], y[i + 1], y[i + 2], y[i + 3] = p, q, r, s
    for i in range(whole, k):
        p = np.float32(0)
        for j in range(b):
            p += a[i, j] * x[j]
        y[i] = p


@njit(cache=True, fastmath=FAST)
def add_rows(a, x, y):
    """``y`` += transposed ``a`` ``x`` [shape=(k, b)]."""
    k, b = a.shape
    whole = k - k % 4
    for i in range(0, whole, 4):
        p, q, r, s = x[i], x[i + 1], x[i + 2], x[i + 3]
        for j in range(b):
            y[j] += p * a[i, j] + q * a[i + 1, j] + r * a[i + 2, j] + s * a[i + 3, j]
    for i in range(whole, k):
        p = x[i]
        for j in range(b):
            y[j] += p * a[i, j]
