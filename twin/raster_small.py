"""Triangles to samples where there is one sample a pixel, as in training.

What `raster_kernels.cover` does, to the bit, but in three goes over a list of triangles that may hold a
sample: their corners are fetched, their edges worked out abreast, and then they are painted, most of them
a sample or two. Triangles wider than `WIDE` are left to `cover`, whose numbers are longer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from facetwin.twin.raster_kernels import (
    CLOSED,
    FAST,
    FLIP,
    LINK,
    T0,
    T1,
    F,
    N,
    U,
    coarse_depth,
    cover,
    hidden,
    turned,
)

#: triangles worked out together
MANY = 256
#: 1/256 px; products of numbers smaller than this fit 32 bits
WIDE = 1 << 14
I: Any = np.int32  # noqa: E741
#: this bit of a listed triangle says that its body is closed
SHUT = np.uint32(1 << 31)
#: rows of the table, each MANY long, in one flat array of int32 whose offsets the compiler knows (depths are
#: kept as the bits of their float32). Corners, then, in their place, how the edges' values change by a pixel
#: to the right (A) and down (B); depths of the corners, then depth at the first corner and its slopes;
#: first and last sample's column and row; edges' values at the first sample; in boxes of at most two by two
#: samples their depths, -1 where one is not covered; where the first one is; what to do; and two lists of
#: rows of the table: those boxes, and all others
AX, AY, BX, BY, CX, CY, ZA, ZB, ZC, X0, X1, Y0, Y1, E, G, H = (U(k * MANY) for k in range(16))
Z00, Z10, Z01, Z11, PLACE, KIND, BACK, FEW, MORE = (U(k * MANY) for k in range(16, 25))
ROWS = 25
#: kinds
LOOP, SMALL, LARGE, NOTHING = range(4)


@njit(cache=True)
def cells_of(screen: Any, first: int, last: int, offsets: Any, cells: Any) -> None:
    """Between which samples vertices first .. last-1 lie, row and column in 16 bits each."""
    before, over = I(I(255) - offsets[0, 0]), I(I(255) - offsets[0, 1])
    least, most, low, half = I(-(1 << 15)), I((1 << 15) - 1), np.uint32(0xFFFF), np.uint32(16)
    for n in range(U(last - first)):
        v = U(first) + n
        x = min(max(I(I(screen[0, v] + before) >> I(8)), least), most)
        y = min(max(I(I(screen[1, v] + over) >> I(8)), least), most)
        cells[v] = np.uint32(np.uint32(y) << half) | (np.uint32(x) & low)


@njit(cache=True)
def listed(triangles: Any, begin: int, end: int, mark: Any, cells: Any, count: int, which: Any) -> int:
    """Append to `which` those of the triangles begin .. end-1 that may hold a sample; the new count.

    Those whose corners lie in one row or in one column of cells hold none. `which` has room for one more.
    """
    low, half, none = np.uint32(0xFFFF), np.uint32(16), np.uint32(0)
    for n in range(U(end - begin)):
        t = U(begin) + n
        a, b, c = cells[triangles[0, t]], cells[triangles[1, t]], cells[triangles[2, t]]
        apart = np.uint32((a ^ b) | (a ^ c))
        which[U(count)] = np.uint32(t) | mark
        count += N(((apart & low) != none) & ((apart >> half) != none))
    return count


@njit(cache=True, fastmath=FAST, error_model="numpy")
def fetch(first: int, count: int, which: Any, triangles: Any, screen: Any, inverse: Any, s: Any) -> None:
    """Corners of listed triangles into the table `s`."""
    for n in range(U(count)):
        t = which[U(first) + n]
        s[BACK + n] = I(t >> np.uint32(31))
        t &= ~SHUT
        i, j, k = triangles[0, t], triangles[1, t], triangles[2, t]
        s[AX + n], s[BX + n], s[CX + n] = screen[0, i], screen[0, j], screen[0, k]
        s[AY + n], s[BY + n], s[CY + n] = screen[1, i], screen[1, j], screen[1, k]
        s[ZA + n], s[ZB + n] = F(inverse[i]).view(np.int32), F(inverse[j]).view(np.int32)
        s[ZC + n] = F(inverse[k]).view(np.int32)


@njit(cache=True, fastmath=FAST, error_model="numpy")
def work_out(count: int, front: bool, offsets: Any, height: int, width: int, s: Any) -> None:
    """From corners to edges, planes and boxes; all in 32 bits and without branches: it runs abreast."""
    zero, one, eight = I(0), I(1), I(8)
    ox, oy, right_most, lowest = I(offsets[0, 0]), I(offsets[0, 1]), I(width - 1), I(height - 1)
    before, over = I(I(255) - ox), I(I(255) - oy)
    facing, none = one if front else I(-1), F(-1)
    for n in range(U(count)):
        ax, ay, bx, by, cx, cy = s[AX + n], s[AY + n], s[BX + n], s[BY + n], s[CX + n], s[CY + n]
        left, right = min(ax, min(bx, cx)), max(ax, max(bx, cx))
        top, bottom = min(ay, min(by, cy)), max(ay, max(by, cy))
        x0, x1 = max(I(I(left + before) >> eight), zero), min(I(I(right - ox) >> eight), right_most)
        y0, y1 = max(I(I(top + over) >> eight), zero), min(I(I(bottom - oy) >> eight), lowest)
        ux, uy, vx, vy, wx, wy = I(cx - bx), I(cy - by), I(ax - cx), I(ay - cy), I(bx - ax), I(by - ay)
        area = I(I(vx * wy) - I(wx * vy))
        side = one if area > zero else I(-1)
        ux, vx, wx = I(ux * side), I(vx * side), I(wx * side)
        uy, vy, wy = I(uy * side), I(vy * side), I(wy * side)
        # a sample on an edge belongs to the triangle right of it or below
        edge_u = I((uy > zero) | ((uy == zero) & (ux <= zero)))
        edge_v = I((vy > zero) | ((vy == zero) & (vx <= zero)))
        edge_w = I((wy > zero) | ((wy == zero) & (wx <= zero)))
        # edges b to c, c to a, a to b: their values at a point, over the area, are its weights
        px, py = I(I(I(x0 << eight) + ox) - ax), I(I(I(y0 << eight) + oy) - ay)
        qx, qy = I(px - I(bx - ax)), I(py - I(by - ay))
        e = I(I(I(ux * qy) - I(uy * qx)) - edge_u)
        g = I(I(I(vx * py) - I(vy * px)) - edge_v)
        h = I(I(I(wx * py) - I(wy * px)) - edge_w)
        share = F(1) / F(I(area * side))
        base = I(s[ZA + n]).view(np.float32)
        rise = (I(s[ZB + n]).view(np.float32) - base) * share
        slope = (I(s[ZC + n]).view(np.float32) - base) * share
        # the first sample, the next one, and those below them
        right_e, right_g, right_h = I(e - I(uy << eight)), I(g - I(vy << eight)), I(h - I(wy << eight))
        z = base + F(g) * rise + F(h) * slope
        s[Z00 + n] = F(z if I(e | I(g | h)) >= zero else none).view(np.int32)
        hit = (I(right_e | I(right_g | right_h)) >= zero) & (x1 > x0)
        z = base + F(right_g) * rise + F(right_h) * slope
        s[Z10 + n] = F(z if hit else none).view(np.int32)
        low_e, low_g, low_h = I(e + I(ux << eight)), I(g + I(vx << eight)), I(h + I(wx << eight))
        hit = (I(low_e | I(low_g | low_h)) >= zero) & (y1 > y0)
        z = base + F(low_g) * rise + F(low_h) * slope
        s[Z01 + n] = F(z if hit else none).view(np.int32)
        low_e, low_g, low_h = I(low_e - I(uy << eight)), I(low_g - I(vy << eight)), I(low_h - I(wy << eight))
        hit = (I(low_e | I(low_g | low_h)) >= zero) & (y1 > y0) & (x1 > x0)
        z = base + F(low_g) * rise + F(low_h) * slope
        s[Z11 + n] = F(z if hit else none).view(np.int32)
        s[ZB + n], s[ZC + n] = F(rise).view(np.int32), F(slope).view(np.int32)
        s[AX + n], s[AY + n], s[BX + n] = I(uy << eight), I(ux << eight), I(vy << eight)
        s[BY + n], s[CX + n], s[CY + n] = I(vx << eight), I(wy << eight), I(wx << eight)
        s[X0 + n], s[X1 + n], s[Y0 + n], s[Y1 + n] = x0, x1, y0, y1
        s[E + n], s[G + n], s[H + n] = e, g, h
        s[PLACE + n] = I(I(y0 * I(width)) + x0)
        outside = (x0 > x1) | (y0 > y1)
        kind = I(SMALL) if (I(x1 - x0) <= one) & (I(y1 - y0) <= one) else I(LOOP)
        wide = (I(right - left) >= I(WIDE)) | (I(bottom - top) >= I(WIDE))
        back = (area == zero) | ((s[BACK + n] != zero) & (side != facing))
        kind = I(NOTHING) if back else kind
        kind = I(LARGE) if wide else kind
        s[KIND + n] = I(NOTHING) if outside else kind


@njit(cache=True, fastmath=FAST, error_model="numpy")
def paint(
    first: int, count: int, which: Any, s: Any, triangles: Any, front: bool, offsets: Any,
    screen: Any, inverse: Any, depth: Any, owner: Any,
) -> None:  # fmt: skip
    """Triangles of the table into `depth` and `owner`."""
    n: Any
    width = U(depth.shape[1])
    flat, owners = depth.reshape(-1), owner.reshape(-1)
    few = more = U(0)
    for n in range(U(count)):  # sorted without branches: which kind comes next, no processor can guess
        s[FEW + few] = s[MORE + more] = I(n)
        few += U(s[KIND + n] == SMALL)
        more += U((s[KIND + n] == LOOP) | (s[KIND + n] == LARGE))
    for r in range(few):
        n = U(s[FEW + r])
        t, at = I(which[U(first) + n] & ~SHUT), U(s[PLACE + n])
        right, down = U(s[X1 + n] > s[X0 + n]), width if s[Y1 + n] > s[Y0 + n] else U(0)
        update(flat, owners, at, I(s[Z00 + n]).view(np.float32), t)
        update(flat, owners, at + right, I(s[Z10 + n]).view(np.float32), t)
        update(flat, owners, at + down, I(s[Z01 + n]).view(np.float32), t)
        update(flat, owners, at + right + down, I(s[Z11 + n]).view(np.float32), t)
    for r in range(more):
        n = U(s[MORE + r])
        t = which[U(first) + n]
        shut = t >= SHUT
        t &= ~SHUT
        if s[KIND + n] == LARGE:
            cover(triangles, N(t), N(t) + N(1), shut, front, offsets, screen, inverse, depth, owner)
            continue
        x0, y0, x1, y1 = U(s[X0 + n]), U(s[Y0 + n]), U(s[X1 + n]) + U(1), U(s[Y1 + n]) + U(1)
        e, g, h = s[E + n], s[G + n], s[H + n]
        uy, ux, vy, vx, wy, wx = s[AX + n], s[AY + n], s[BX + n], s[BY + n], s[CX + n], s[CY + n]
        base, rise = I(s[ZA + n]).view(np.float32), I(s[ZB + n]).view(np.float32)
        slope = I(s[ZC + n]).view(np.float32)
        for y in range(y0, y1):
            i, j, k = e, g, h
            for x in range(x0, x1):
                z = base + F(j) * rise + F(k) * slope
                update(flat, owners, y * width + x, z if I(i | I(j | k)) >= 0 else F(-1), I(t))
                i, j, k = I(i - uy), I(j - vy), I(k - wy)
            e, g, h = I(e + ux), I(g + vx), I(h + wx)


@njit(cache=True, inline="always")
def update(depth: Any, owner: Any, at: Any, z: Any, t: Any) -> None:
    """Put triangle `t` where it is the nearest one; always stores, as no processor can guess the answer."""
    old, who = depth[at], owner[at]
    nearer = z > old
    depth[at] = z if nearer else old
    owner[at] = t if nearer else who


@njit(cache=True)
def cover_listed(
    count: int, which: Any, s: Any, triangles: Any, front: bool, offsets: Any,
    screen: Any, inverse: Any, depth: Any, owner: Any,
) -> None:  # fmt: skip
    """The first `count` triangles of a list into `depth` and `owner`."""
    for first in range(0, count, MANY):
        some = min(MANY, count - first)
        fetch(first, some, which, triangles, screen, inverse, s)
        work_out(some, front, offsets, depth.shape[0], depth.shape[1], s)
        paint(first, some, which, s, triangles, front, offsets, screen, inverse, depth, owner)


@njit(cache=True)
def list_clusters(
    backs: bool, start: int, stop: int, clusters: Any, boxes: Any, cones: Any, m: Any, triangles: Any,
    lens: Any, blocks: Any, step: int, cells: Any, which: Any,
) -> int:  # fmt: skip
    """Triangles of those of the clusters start .. stop-1 that may be seen, fronts or `backs`; how many."""
    count = N(0)
    for c in range(start, stop):
        link, closed = clusters[c, LINK], clusters[c, CLOSED] != 0
        if (closed and backs) or turned(cones, boxes, c, m, link) != backs:
            continue
        if not hidden(boxes, c, m, link, lens, blocks, step):
            mark = SHUT if closed else np.uint32(0)
            first, last = N(clusters[c, T0]), N(clusters[c, T1])
            count = listed(triangles, first, last, mark, cells, N(count), which)
    return count


@njit(cache=True)
def cover_all(
    skin: int, moving: int, clusters: Any, boxes: Any, cones: Any, m: Any, triangles: Any, offsets: Any,
    lens: Any, blocks: Any, step: int, screen: Any, inverse: Any, cells: Any, which: Any, table: Any,
    depth: Any, owner: Any,
) -> None:  # fmt: skip
    """The skin, then what moves in it: first the fronts, which hide most of the backs."""
    front = lens[FLIP] < 0
    cells_of(screen, 0, screen.shape[1], offsets, cells)
    count = listed(triangles, N(0), N(skin), np.uint32(0), cells, N(0), which)
    cover_listed(count, which, table, triangles, front, offsets, screen, inverse, depth, owner)
    for backs in (False, True):
        coarse_depth(depth, N(1), blocks, step)
        count = list_clusters(
            backs, N(0), moving, clusters, boxes, cones, m, triangles, lens, blocks, step, cells, which
        )
        cover_listed(count, which, table, triangles, front, offsets, screen, inverse, depth, owner)
