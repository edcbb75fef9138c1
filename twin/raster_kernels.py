"""The geometry of the fast renderer: vertices to the screen, triangles to samples.

A z-buffer. Corners are snapped to 1/256 pixel and edges are whole numbers, so that two triangles that share
an edge neither overlap nor leave a gap, whatever their size. Groups of triangles that face away or lie behind
what is drawn already are left out, which changes no sample. Nothing here knows of rigs, faces or link names:
that is `facetwin.twin.raster`, whose `Model`, `Lens` and `Canvas` say what the arrays are. Colour is in
`facetwin.twin.raster_shading`.

The kernels take plain arrays and make none: numba compiles that in a fraction of the time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

#: reassociation is allowed, infinities and NaN keep their meaning
FAST = {"reassoc", "contract", "arcp", "nsz"}
#: a pixel's width in screen units
SUB = 256
#: width of a block of the coarse depth picture, px
BLOCK = 4
#: triangles looked at together; a cluster has no more
GROUP = 32
#: columns of a cluster: link, first and last+1 triangle, whether its part is closed
LINK, T0, T1, CLOSED = range(4)
#: numbers of a lens: focal length (px), -1 for a mirror, nearest depth (m), picture's width and height,
#: between which parts of a pixel its samples lie, and the pixel that the lens looks straight at
FOCAL, FLIP, NEAR, WIDTH, HEIGHT, LOW, HIGH, MIDDLE_X, MIDDLE_Y = range(9)
F = np.float32
#: a count that a kernel hands to another: for a literal or a shorter number numba would compile that anew
N: Any = np.int64
#: an index that cannot be negative: without it numba's wrap-around keeps loops from running abreast.
#: Mixed with signed numbers it becomes a float, so whoever meets it is one too.
U = np.uint64

#: which bit of 32 is set, by the upper five bits of its product with a de Bruijn number
BIT = np.zeros(32, np.uint8)
for _n in range(32):
    BIT[(0x077CB531 << _n & 0xFFFFFFFF) >> 27] = _n


@njit(cache=True, fastmath=FAST)
def above(value: Any, floor: Any) -> Any:
    """The larger; without a look at NaN, which would keep loops from running abreast."""
    return value if value > floor else floor


@njit(cache=True, fastmath=FAST)
def below(value: Any, ceiling: Any) -> Any:
    """The smaller, likewise."""
    return value if value < ceiling else ceiling


@njit(cache=True, fastmath=FAST, error_model="numpy")
def refine(vertices: Any, picture: int, rows: Any, columns: Any, weights: Any, skin: Any, seen: Any) -> None:
    """Soft skin [shape=(B, N, 3)] to drawn skin `seen` [shape=(3, R)] by sparse rows."""
    for i in range(U(vertices.shape[1])):
        for n in range(3):
            skin[i, n] = vertices[picture, i, n]
    for i in range(seen.shape[1]):
        x, y, z, _ = F(0), F(0), F(0), F(0)  # four abreast are faster than three
        for j in range(U(rows[i]), U(rows[i + 1])):
            w, c = weights[j], columns[j]
            x += w * skin[c, 0]
            y += w * skin[c, 1]
            z += w * skin[c, 2]
            _ += w * skin[c, 3]
        seen[0, i], seen[1, i], seen[2, i] = x, y, z


@njit(cache=True, fastmath=FAST, error_model="numpy")
def smooth(triangles: Any, count: int, seen: Any, normal: Any) -> None:
    """Unit normals [shape=(3, R)] of the first `count` triangles' corners, weighted by area."""
    normal[:] = F(0)
    for t in range(count):
        a, b, c = triangles[0, t], triangles[1, t], triangles[2, t]
        px, py, pz = seen[0, a], seen[1, a], seen[2, a]
        ux, uy, uz = seen[0, b] - px, seen[1, b] - py, seen[2, b] - pz
        vx, vy, vz = seen[0, c] - px, seen[1, c] - py, seen[2, c] - pz
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        normal[0, a] += x
        normal[1, a] += y
        normal[2, a] += z
        normal[0, b] += x
        normal[1, b] += y
        normal[2, b] += z
        normal[0, c] += x
        normal[1, c] += y
        normal[2, c] += z
    for i in range(U(normal.shape[1])):
        x, y, z = normal[0, i], normal[1, i], normal[2, i]
        scale = F(1) / math.sqrt(x * x + y * y + z * z + F(1e-30))
        normal[0, i], normal[1, i], normal[2, i] = x * scale, y * scale, z * scale


@njit(cache=True, fastmath=FAST, error_model="numpy")
def place(
    points: Any, start: int, stop: int, first: int, m: Any, link: int, lens: Any, screen: Any, inverse: Any
) -> int:
    """Points [shape=(3, n)] start .. stop-1 of a link onto the screen, as vertices from `first` on.

    `m` [shape=(links, 4, 4)] puts links before the lens. Says how many points are too near to it.
    """
    fx, fy = lens[FOCAL] * lens[FLIP] * SUB, -lens[FOCAL] * SUB
    a, b, c, d = F(fx * m[link, 0, 0]), F(fx * m[link, 0, 1]), F(fx * m[link, 0, 2]), F(fx * m[link, 0, 3])
    e, f, g, h = F(fy * m[link, 1, 0]), F(fy * m[link, 1, 1]), F(fy * m[link, 1, 2]), F(fy * m[link, 1, 3])
    p, q, r, s = F(-m[link, 2, 0]), F(-m[link, 2, 1]), F(-m[link, 2, 2]), F(-m[link, 2, 3])
    middle_x, middle_y = F(lens[MIDDLE_X] * SUB + 0.5), F(lens[MIDDLE_Y] * SUB + 0.5)
    far, near, wrong = F(1e8), F(lens[NEAR]), 0
    here, there = U(start), U(first)
    # three loops, not one: with fewer arrays in each the compiler sees that they do not overlap
    for n in range(U(stop - start)):
        k, v = here + n, there + n
        w = p * points[0, k] + q * points[1, k] + r * points[2, k] + s
        good = w > near
        wrong += 0 if good else 1
        inverse[v] = F(1) / (w if good else near)
    for n in range(U(stop - start)):
        k, v = here + n, there + n
        at = (a * points[0, k] + b * points[1, k] + c * points[2, k] + d) * inverse[v]
        screen[0, v] = np.int32(np.floor(below(above(at, -far), far) + middle_x))
    for n in range(U(stop - start)):
        k, v = here + n, there + n
        at = (e * points[0, k] + f * points[1, k] + g * points[2, k] + h) * inverse[v]
        screen[1, v] = np.int32(np.floor(below(above(at, -far), far) + middle_y))
    return wrong


@njit(cache=True)
def worth(triangles: Any, first: int, last: int, offsets: Any, screen: Any) -> Any:
    """Bits of the triangles first .. last-1, at most GROUP, that may hold a sample of any pixel.

    Where there is one sample a pixel, a triangle whose box holds just one is asked for it, too. Nothing is
    stored, so that the loop runs abreast.
    """
    samples = offsets.shape[0]
    single = samples == 1
    shift = np.int32(8 if single else 6)
    pitch = np.int32(SUB // samples)
    left = right = offsets[0, 0]
    for k in range(1, samples):
        left, right = min(left, offsets[k, 0]), max(right, offsets[k, 0])
    top = offsets[0, 1]
    bits = np.uint32(0)
    before, after = np.int32(SUB - 1 - right), np.int32(left)
    above_row, below_row = np.int32(pitch - 1 - top), np.int32(top)
    zero, eight = np.int32(0), np.int32(8)
    for n in range(U(last - first)):
        t = U(first) + n
        i, j, k = triangles[0, t], triangles[1, t], triangles[2, t]
        ax, bx, cx = screen[0, i], screen[0, j], screen[0, k]
        ay, by, cy = screen[1, i], screen[1, j], screen[1, k]
        x0 = np.int32(min(ax, min(bx, cx)) + before) >> eight
        x1 = np.int32(max(ax, max(bx, cx)) - after) >> eight
        y0 = np.int32(min(ay, min(by, cy)) + above_row) >> shift
        y1 = np.int32(max(ay, max(by, cy)) - below_row) >> shift
        # the three edges' values at the one sample have one sign: these wrap around in large triangles only
        px, py = np.int32(np.int32(x0 << eight) + after), np.int32(np.int32(y0 << eight) + below_row)
        ax, bx, cx = np.int32(ax - px), np.int32(bx - px), np.int32(cx - px)
        ay, by, cy = np.int32(ay - py), np.int32(by - py), np.int32(cy - py)
        e, f, g = np.int32(bx * cy - cx * by), np.int32(cx * ay - ax * cy), np.int32(ax * by - bx * ay)
        inside = ((e >= zero) & (f >= zero) & (g >= zero)) | ((e <= zero) & (f <= zero) & (g <= zero))
        one = (x0 == x1) & (y0 == y1) & single
        keep = (x0 <= x1) & (y0 <= y1) & (inside | (not one))
        bits |= np.uint32(keep) << np.uint32(n)
    return bits


@njit(cache=True, fastmath=FAST, error_model="numpy")
def cover(
    triangles: Any, begin: int, end: int, closed: bool, front: bool, offsets: Any,
    screen: Any, inverse: Any, depth: Any, owner: Any,
) -> None:  # fmt: skip
    """Triangles begin .. end-1 into `depth` and `owner`; of a closed body only those that face the lens.

    `front`: whether a triangle with positive area on the screen faces the lens.
    """
    height, width = depth.shape
    samples = offsets.shape[0]
    x0: Any
    x1: Any
    y0: Any
    y1: Any
    pitch, half = SUB // samples, np.int64(offsets[0, 1])
    shift, mask = np.int64(8 if samples == 1 else 6), samples - 1  # a division would take longest of all
    for first in range(begin, end, GROUP):
        bits = worth(triangles, first, min(first + GROUP, end), offsets, screen)
        while bits != 0:
            lowest = bits & (~bits + np.uint32(1))
            bits &= ~lowest
            t = U(first) + U(BIT[np.uint32(lowest * np.uint32(0x077CB531)) >> np.uint32(27)])
            i, j, k = triangles[0, t], triangles[1, t], triangles[2, t]
            ax, ay = np.int64(screen[0, i]), np.int64(screen[1, i])
            bx, by = np.int64(screen[0, j]), np.int64(screen[1, j])
            cx, cy = np.int64(screen[0, k]), np.int64(screen[1, k])
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if area == 0 or (closed and (area > 0) != front):
                continue
            left, right = min(ax, bx, cx), max(ax, bx, cx)
            top, bottom = min(ay, by, cy), max(ay, by, cy)
            if area < 0:
                area = -area
                bx, by, cx, cy = cx, cy, bx, by
                j, k = k, j
            ux, uy, vx, vy, wx, wy = cx - bx, cy - by, ax - cx, ay - cy, bx - ax, by - ay
            # a sample on an edge belongs to the triangle right of it or below
            edge_u = 0 if uy < 0 or (uy == 0 and ux > 0) else 1
            edge_v = 0 if vy < 0 or (vy == 0 and vx > 0) else 1
            edge_w = 0 if wy < 0 or (wy == 0 and wx > 0) else 1
            base, share = inverse[i], F(1) / F(area)
            rise, slope = (inverse[j] - base) * share, (inverse[k] - base) * share
            y0 = max((top - half + pitch - 1) >> shift, 0)
            y1 = min((bottom - half) >> shift, height - 1)
            for y in range(y0, y1 + 1):  # rows of samples, one for each pixel in a row
                ox = np.int64(offsets[y & mask, 0])
                x0, x1 = max((left - ox + SUB - 1) >> 8, 0), min((right - ox) >> 8, width - 1)
                if x0 > x1:
                    continue
                # edges b to c, c to a, a to b: their values at a point, over the area, are its weights
                px, py = (x0 << 8) + ox - ax, y * pitch + half - ay
                e = ux * (py - wy) - uy * (px - wx) - edge_u
                f = vx * py - vy * px - edge_v
                g = wx * py - wy * px - edge_w
                for x in range(x0, x1 + 1):
                    if (e | f | g) >= 0:
                        z = base + F(f) * rise + F(g) * slope
                        if z > depth[y, x]:
                            depth[y, x] = z
                            owner[y, x] = t
                    e -= uy << 8
                    f -= vy << 8
                    g -= wy << 8


@njit(cache=True)
def coarse_depth(depth: Any, samples: int, blocks: Any, step: int) -> None:
    """The farthest sample of each block of `step` by `step` pixels, for `hidden`."""
    height, width = depth.shape
    blocks[:] = np.inf
    for y in range(height):
        row = y // (step * samples)
        if step == 1:
            for x in range(U(width)):
                blocks[row, x] = below(blocks[row, x], depth[y, x])
            continue
        x = 0
        for column in range(blocks.shape[1]):
            least = blocks[row, column]
            for _ in range(min(step, width - x)):
                least = below(least, depth[y, x])
                x += 1
            blocks[row, column] = least


@njit(cache=True, error_model="numpy")
def turned(cones: Any, boxes: Any, k: int, m: Any, link: int) -> bool:
    """Whether all triangles of cluster `k` show their backs to the lens."""
    # from the cluster's middle to the lens
    dx, dy, dz = m[link, 3, 0] - boxes[k, 0], m[link, 3, 1] - boxes[k, 1], m[link, 3, 2] - boxes[k, 2]
    radius = math.sqrt(boxes[k, 3] ** 2 + boxes[k, 4] ** 2 + boxes[k, 5] ** 2)
    away = dx * cones[k, 0] + dy * cones[k, 1] + dz * cones[k, 2]
    return away < -(cones[k, 3] * math.sqrt(dx * dx + dy * dy + dz * dz) + radius)


@njit(cache=True, error_model="numpy")
def hidden(boxes: Any, k: int, m: Any, link: int, lens: Any, blocks: Any, step: int) -> bool:
    """Whether box `k` of a link is outside the picture or wholly behind what is drawn already."""
    x, y, z, i, j, h = boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3], boxes[k, 4], boxes[k, 5]
    w = -(m[link, 2, 0] * x + m[link, 2, 1] * y + m[link, 2, 2] * z + m[link, 2, 3])
    reach = abs(m[link, 2, 0]) * i + abs(m[link, 2, 1]) * j + abs(m[link, 2, 2]) * h
    near, far = w - reach, w + reach
    if not near > lens[NEAR]:
        return False
    width, height = int(lens[WIDTH]), int(lens[HEIGHT])
    # from here on px per m, at the nearest and at the farthest depth
    near, far = lens[FOCAL] / near, lens[FOCAL] / far
    at = lens[FLIP] * (m[link, 0, 0] * x + m[link, 0, 1] * y + m[link, 0, 2] * z + m[link, 0, 3])
    reach = abs(m[link, 0, 0]) * i + abs(m[link, 0, 1]) * j + abs(m[link, 0, 2]) * h
    left = (at - reach) * (near if at < reach else far) + lens[MIDDLE_X]
    right = (at + reach) * (far if at + reach < 0 else near) + lens[MIDDLE_X]
    at = -(m[link, 1, 0] * x + m[link, 1, 1] * y + m[link, 1, 2] * z + m[link, 1, 3])
    reach = abs(m[link, 1, 0]) * i + abs(m[link, 1, 1]) * j + abs(m[link, 1, 2]) * h
    top = (at - reach) * (near if at < reach else far) + lens[MIDDLE_Y]
    bottom = (at + reach) * (far if at + reach < 0 else near) + lens[MIDDLE_Y]
    # pixels with a sample in there; corners are snapped, so a little more
    before, after = lens[HIGH] + 1.0 / SUB - 1.0, lens[LOW] - 1.0 / SUB
    x0, x1 = max(math.floor(left - before), 0), min(math.floor(right - after), width - 1)
    y0, y1 = max(math.floor(top - before), 0), min(math.floor(bottom - after), height - 1)
    if x0 > x1 or y0 > y1:
        return True
    x0, x1, y0, y1 = x0 // step, x1 // step, y0 // step, y1 // step
    limit = 1.00001 * near / lens[FOCAL]  # depths are rounded
    for by in range(y0, y1 + 1):
        for bx in range(x0, x1 + 1):
            if blocks[by, bx] <= limit:
                return False
    return True


@njit(cache=True)
def cover_clusters(
    start: int, stop: int, clusters: Any, boxes: Any, cones: Any, m: Any, triangles: Any, offsets: Any,
    lens: Any, blocks: Any, step: int, screen: Any, inverse: Any, depth: Any, owner: Any,
) -> None:  # fmt: skip
    """Clusters start .. stop-1, those that may be seen: first the fronts, which hide most of the backs."""
    front = lens[FLIP] < 0
    for backs in range(2):
        if backs == 1:
            coarse_depth(depth, offsets.shape[0], blocks, step)
        for c in range(start, stop):
            link, closed = clusters[c, LINK], clusters[c, CLOSED] != 0
            if closed and backs == 1:
                continue
            if turned(cones, boxes, c, m, link) != (backs == 1):
                continue
            if not hidden(boxes, c, m, link, lens, blocks, step):
                t0, t1 = N(clusters[c, T0]), N(clusters[c, T1])
                cover(triangles, t0, t1, closed, front, offsets, screen, inverse, depth, owner)


@njit(cache=True)
def place_links(pose: Any, to_lens: Any, m: Any, turns: Any) -> None:
    """Fill `m` [shape=(links, 4, 4)]: the upper rows of to_lens @ pose, then the lens in the link's frame.

    And `turns` [shape=(links, 9)]: the rotation alone, rounded.
    """
    for link in range(m.shape[0]):
        for i in range(3):
            for j in range(4):
                total = 0.0
                for k in range(4):
                    total += to_lens[i, k] * pose[link, k, j]
                m[link, i, j] = total
        for j in range(3):
            for k in range(3):
                turns[link, 3 * j + k] = pose[link, j, k]
            m[link, 3, j] = 0.0
            for k in range(3):
                m[link, 3, j] -= m[link, k, j] * m[link, k, 3]
