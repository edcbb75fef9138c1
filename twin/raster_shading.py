"""The colours of the fast renderer, and the loop over pictures.

Shading is deferred: only what is seen is shaded, once for each pixel and triangle, in rows of sixteen.
The light is that of `shaders/mesh.frag`, line for line.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from facetwin.twin.raster_kernels import (
    FAST,
    FLIP,
    FOCAL,
    MIDDLE_X,
    MIDDLE_Y,
    SUB,
    F,
    N,
    U,
    above,
    below,
    coarse_depth,
    cover,
    cover_clusters,
    place,
    place_links,
    refine,
    smooth,
)
from facetwin.twin.raster_small import cover_all

#: corners of a triangle's quarters among its own and its edges' middles
QUARTERS = np.array([[0, 3, 5, 4], [3, 1, 4, 5], [5, 4, 2, 3]], np.uint64)
#: fragments shaded together
CHUNK = 512
#: pixels looked at in one go
RUN = 64
I: Any = np.int32  # noqa: E741
NO: Any = np.bool_  # of a literal, as N
#: rows of the fragments, each CHUNK long, in one flat array whose offsets the compiler knows:
#: normal, colour, gloss, place on the screen, shaded colour
NX, NY, NZ, RED, GREEN, BLUE, GLOSS, PX, PY, OUT_R, OUT_G, OUT_B = (np.uint64(k * CHUNK) for k in range(12))


@njit(cache=True, fastmath=FAST, error_model="numpy")
def power(base: Any, exponent: Any) -> Any:
    """base ** exponent for base in (0, 1], float32, to 1e-4; without branches, so that loops run abreast."""
    bits = F(base).view(np.int32)
    whole = F((bits >> np.int32(23)) - np.int32(127))
    m = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)  # 1 .. 2
    # log2(m) / (m - 1) and 2 ** x on [0, 1) as polynomials
    p = F(-0.465725644288844) + m * F(0.0596515482674574)
    p = F(2.8882704548164776) + m * (F(-2.52074962577807) + m * (F(1.48116647521213) + m * p))
    x = above(exponent * (whole + (m - F(1)) * p), F(-120))
    whole = np.floor(x)
    x -= whole
    p = F(0.055826318) + x * (F(0.0089893397) + x * F(0.0018775767))
    p = F(0.99999994) + x * (F(0.69315308) + x * (F(0.24015361) + x * p))
    return p * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(cache=True, fastmath=FAST, error_model="numpy")
def gather(
    count: int, triangles: Any, skin: int, link_of: Any, kids: Any, tints: Any, front: bool, turns: Any,
    normal: Any, screen: Any, inverse: Any, look: Any, corner: Any, out: Any,
) -> None:  # fmt: skip
    """Normal (towards the lens), colour and gloss of each fragment, from the corners of its triangle."""
    half, one, two = F(0.5), F(1), F(2)
    for f in range(U(count)):
        t = corner[0, f]
        i, j, k = triangles[0, t], triangles[1, t], triangles[2, t]
        ax, ay = screen[0, i], screen[1, i]
        ux, uy = F(screen[0, j] - ax), F(screen[1, j] - ay)
        vx, vy = F(screen[0, k] - ax), F(screen[1, k] - ay)
        px, py = out[PX + f] - F(ax), out[PY + f] - F(ay)
        area = ux * vy - vx * uy
        b, c = px * vy - vx * py, ux * py - px * uy
        wa, wb, wc = (area - b - c) * inverse[i], b * inverse[j], c * inverse[k]
        scale = one / (wa + wb + wc)
        wa, wb, wc = wa * scale, wb * scale, wc * scale
        sign = one if (area > 0) == front else -one
        if t < skin:
            x = sign * (wa * normal[0, i] + wb * normal[0, j] + wc * normal[0, k])
            y = sign * (wa * normal[1, i] + wb * normal[1, j] + wc * normal[1, k])
            z = sign * (wa * normal[2, i] + wb * normal[2, j] + wc * normal[2, k])
        else:
            x = sign * (wa * look[i, 4] + wb * look[j, 4] + wc * look[k, 4])
            y = sign * (wa * look[i, 5] + wb * look[j, 5] + wc * look[k, 5])
            z = sign * (wa * look[i, 6] + wb * look[j, 6] + wc * look[k, 6])
        n = link_of[t]
        out[NX + f] = turns[n, 0] * x + turns[n, 1] * y + turns[n, 2] * z
        out[NY + f] = turns[n, 3] * x + turns[n, 4] * y + turns[n, 5] * z
        out[NZ + f] = turns[n, 6] * x + turns[n, 7] * y + turns[n, 8] * z
        out[GLOSS + f] = wa * look[i, 3] + wb * look[j, 3] + wc * look[k, 3]
        if t < kids.shape[0]:  # colours are finer than the triangles: find the quarter
            # without branches: which quarter it is, no processor can guess
            q = U(0) if wa > half else (U(1) if wb > half else (U(2) if wc > half else U(3)))
            i, j, k = kids[t, QUARTERS[0, q]], kids[t, QUARTERS[1, q]], kids[t, QUARTERS[2, q]]
            twice, inner = (-two if q == U(3) else two), (one if q == U(3) else F(0))
            wa = twice * wa + (-one if q == U(0) else inner)
            wb = twice * wb + (-one if q == U(1) else inner)
            wc = twice * wc + (-one if q == U(2) else inner)
            out[RED + f] = wa * tints[i, 0] + wb * tints[j, 0] + wc * tints[k, 0]
            out[GREEN + f] = wa * tints[i, 1] + wb * tints[j, 1] + wc * tints[k, 1]
            out[BLUE + f] = wa * tints[i, 2] + wb * tints[j, 2] + wc * tints[k, 2]
        else:
            out[RED + f] = wa * look[i, 0] + wb * look[j, 0] + wc * look[k, 0]
            out[GREEN + f] = wa * look[i, 1] + wb * look[j, 1] + wc * look[k, 1]
            out[BLUE + f] = wa * look[i, 2] + wb * look[j, 2] + wc * look[k, 2]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def shade(count: int, to_lens: Any, lens: Any, lamps: Any, ambient: Any, out: Any) -> None:
    """Colour, 0 .. 255, of each fragment: `shaders/mesh.frag`, line for line, for two lamps."""
    unit = 1.0 / (lens[FOCAL] * SUB)
    right, down = F(lens[FLIP] * unit), F(-unit)
    middle_x, middle_y = F(lens[MIDDLE_X] * SUB), F(lens[MIDDLE_Y] * SUB)
    r00, r01, r02 = F(to_lens[0, 0]), F(to_lens[0, 1]), F(to_lens[0, 2])
    r10, r11, r12 = F(to_lens[1, 0]), F(to_lens[1, 1]), F(to_lens[1, 2])
    r20, r21, r22 = F(to_lens[2, 0]), F(to_lens[2, 1]), F(to_lens[2, 2])
    ax, ay, az, astrong = lamps[0, 0], lamps[0, 1], lamps[0, 2], lamps[0, 3]
    bx, by, bz, bstrong = lamps[1, 0], lamps[1, 1], lamps[1, 2], lamps[1, 3]
    one, zero, tiny, most = F(1), F(0), F(1e-20), F(255)
    for f in range(U(count)):
        # from the fragment to the lens, in the body's frame
        x, y = (out[PX + f] - middle_x) * right, (out[PY + f] - middle_y) * down
        ex, ey, ez = r20 - x * r00 - y * r10, r21 - x * r01 - y * r11, r22 - x * r02 - y * r12
        i = one / math.sqrt(ex * ex + ey * ey + ez * ez)
        ex, ey, ez = ex * i, ey * i, ez * i
        nx, ny, nz = out[NX + f], out[NY + f], out[NZ + f]
        i = one / math.sqrt(nx * nx + ny * ny + nz * nz + F(1e-30))
        nx, ny, nz = nx * i, ny * i, nz * i
        gloss = out[GLOSS + f]
        sharp = F(12) + F(100) * gloss
        light = ambient * (F(0.75) + F(0.25) * ny)
        light += astrong * above((nx * ax + ny * ay + nz * az + F(0.25)) * F(0.8), zero)
        light += bstrong * above((nx * bx + ny * by + nz * bz + F(0.25)) * F(0.8), zero)
        hx, hy, hz = ax + ex, ay + ey, az + ez
        h = (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz)
        sheen = astrong * power(below(above(h, tiny), one), sharp)
        hx, hy, hz = bx + ex, by + ey, bz + ez
        h = (nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz)
        sheen += bstrong * power(below(above(h, tiny), one), sharp)
        edge = one - above(nx * ex + ny * ey + nz * ez, zero)
        sheen = gloss * (F(0.35) * sheen + ambient * F(0.25) * edge * edge * edge)
        red, green, blue = out[RED + f], out[GREEN + f], out[BLUE + f]
        out[OUT_R + f] = most * math.sqrt(below(above(red * red * light + sheen, zero), one))
        out[OUT_G + f] = most * math.sqrt(below(above(green * green * light + sheen, zero), one))
        out[OUT_B + f] = most * math.sqrt(below(above(blue * blue * light + sheen, zero), one))


@njit(cache=True, fastmath=FAST, error_model="numpy")
def finish(
    count: int, slots: int, share: Any, triangles: Any, skin: int, link_of: Any, kids: Any, tints: Any,
    turns: Any, normal: Any, screen: Any, inverse: Any, look: Any, to_lens: Any, lens: Any, lamps: Any,
    ambient: Any, corner: Any, fragment: Any, total: Any, out: Any, picture: int,
) -> None:  # fmt: skip
    """Shade the fragments that have gathered and write the pixels (`slots`) that they belong to."""
    full = (count + 15) & ~15  # rows of sixteen: the last ones are shaded for nothing
    for f in range(count, full):
        corner[0, f] = corner[0, 0]
        fragment[PX + U(f)], fragment[PY + U(f)] = fragment[PX], fragment[PY]
    front = lens[FLIP] < 0
    gather(
        full, triangles, skin, link_of, kids, tints, front, turns, normal, screen, inverse, look,
        corner, fragment,
    )  # fmt: skip
    shade(full, to_lens, lens, lamps, ambient, fragment)
    if share == F(1):
        for f in range(U(count)):
            y, x = corner[3, f], corner[4, f]
            out[picture, y, x, 0] = np.uint8(np.int32(fragment[OUT_R + f] + F(0.5)))
            out[picture, y, x, 1] = np.uint8(np.int32(fragment[OUT_G + f] + F(0.5)))
            out[picture, y, x, 2] = np.uint8(np.int32(fragment[OUT_B + f] + F(0.5)))
        return
    for f in range(U(count)):
        s, w = corner[1, f], F(corner[2, f]) * share
        total[s, 0] += w * fragment[OUT_R + f]
        total[s, 1] += w * fragment[OUT_G + f]
        total[s, 2] += w * fragment[OUT_B + f]
    for s in range(U(slots)):
        y, x = corner[3, s], corner[4, s]
        for n in range(3):
            out[picture, y, x, n] = np.uint8(total[s, n] + F(0.5))


@njit(cache=True)
def copy(source: Any, target: Any) -> None:
    """Flat arrays; numba's own copy of more dimensions takes twenty times as long."""
    for n in range(U(source.shape[0])):
        target[n] = source[n]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def resolve_single(
    owner: Any, offsets: Any, triangles: Any, skin: int, link_of: Any, kids: Any, tints: Any,
    turns: Any, normal: Any, screen: Any, inverse: Any, look: Any, to_lens: Any, lens: Any, lamps: Any,
    ambient: Any, corner: Any, fragment: Any, total: Any, out: Any, picture: int,
) -> None:  # fmt: skip
    """Samples that are pixels."""
    height, width = owner.shape
    ox, oy = offsets[0, 0], offsets[0, 1]
    count = U(0)
    for y in range(U(height)):
        for left in range(0, width, RUN):
            for x in range(U(left), U(min(left + RUN, width))):  # kept or overwritten: no branches
                corner[3, count], corner[4, count] = y, x
                count += U(owner[y, x] >= 0)
            if count + U(RUN) <= U(CHUNK) and (y + U(1) < U(height) or left + RUN < width):
                continue
            for f in range(count):
                i, j = corner[3, f], corner[4, f]
                corner[0, f] = owner[i, j]
                fragment[PX + f], fragment[PY + f] = F(I(j) * I(SUB) + ox), F(I(i) * I(SUB) + oy)
            finish(
                N(count), N(count), F(1), triangles, skin, link_of, kids, tints, turns, normal, screen,
                inverse, look, to_lens, lens, lamps, ambient, corner, fragment, total, out, picture,
            )  # fmt: skip
            count = U(0)


@njit(cache=True, fastmath=FAST, error_model="numpy")
def resolve(
    owner: Any, offsets: Any, still_colour: Any, still_pixels: Any,
    triangles: Any, skin: int, link_of: Any, kids: Any, tints: Any,
    turns: Any, normal: Any, screen: Any, inverse: Any, look: Any, to_lens: Any, lens: Any, lamps: Any,
    ambient: Any, corner: Any, fragment: Any, total: Any, out: Any, picture: int,
) -> None:  # fmt: skip
    """Samples to pixels: each triangle of a pixel is shaded once, in the middle of its samples there."""
    samples = offsets.shape[0]
    height, width = owner.shape[0] // samples, owner.shape[1]
    share = F(1) / F(samples)
    count = slots = 0
    copy(still_pixels.reshape(-1), out[picture].reshape(-1))
    if samples == 1:
        resolve_single(
            owner, offsets, triangles, skin, link_of, kids, tints, turns, normal, screen, inverse, look,
            to_lens, lens, lamps, ambient, corner, fragment, total, out, picture,
        )  # fmt: skip
        return
    for y in range(height):
        for x in range(width):
            start = count
            for s in range(samples):
                t = owner[y * samples + s, x]
                if t < 0:
                    continue
                f = start
                while f < count and corner[0, f] != t:
                    f += 1
                if f == count:
                    corner[0, f], corner[1, f], corner[2, f] = t, slots, 0
                    fragment[PX + U(f)] = fragment[PY + U(f)] = F(0)
                    count += 1
                corner[2, f] += 1
                fragment[PX + U(f)] += F(offsets[s, 0])
                fragment[PY + U(f)] += F(offsets[s, 1])
            if count == start:
                continue
            for f in range(start, count):
                i = F(1) / F(corner[2, f])
                fragment[PX + U(f)] = F(x * SUB) + fragment[PX + U(f)] * i
                fragment[PY + U(f)] = F(y * SUB) + fragment[PY + U(f)] * i
            total[slots, 0] = total[slots, 1] = total[slots, 2] = F(0)
            for s in range(samples):
                if owner[y * samples + s, x] < 0:
                    for n in range(3):
                        total[slots, n] += share * still_colour[y * samples + s, x, n]
            corner[3, slots], corner[4, slots] = y, x
            slots += 1
            if count + samples > CHUNK:
                finish(
                    N(count), N(slots), share, triangles, skin, link_of, kids, tints, turns, normal,
                    screen, inverse, look, to_lens, lens, lamps, ambient,
                    corner, fragment, total, out, picture,
                )  # fmt: skip
                count = slots = 0
    finish(
        N(count), N(slots), share, triangles, skin, link_of, kids, tints, turns, normal,
        screen, inverse, look, to_lens, lens, lamps, ambient,
        corner, fragment, total, out, picture,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def draw(
    vertices: Any, poses: Any, out: Any,
    # Model
    rows: Any, columns: Any, weights: Any, count: int, triangles: Any, link_of: Any, kids: Any, tints: Any,
    points: Any, spans: Any, clusters: Any, boxes: Any, cones: Any, moving: int, skin_link: int,
    # Lens
    to_lens: Any, lens: Any, offsets: Any, lamps: Any, ambient: Any, step: int,
    # Canvas
    m: Any, turns: Any, skin: Any, seen: Any, normal: Any, screen: Any, inverse: Any, look: Any,
    depth: Any, owner: Any, blocks: Any, still_depth: Any, still_colour: Any, still_pixels: Any,
    corner: Any, fragment: Any, total: Any, cells: Any, which: Any, table: Any,
) -> int:  # fmt: skip
    """Pictures of a batch into `out`, each by itself; -1, or the first one that is too near to the lens.

    Parameters
    ----------
    vertices : float [shape=(B, N, 3), m]
    poses : float64 [shape=(B, links, 4, 4)]
    out : uint8 [shape=(B, H, W, 3)]
    the rest : the fields of `Model`, `Lens` and `Canvas` of `facetwin.twin.raster`
    """
    drawn = seen.shape[1]
    front = lens[FLIP] < 0
    for b in range(vertices.shape[0]):
        pose = poses[b]
        place_links(pose, to_lens, m, turns)
        refine(vertices, b, rows, columns, weights, skin, seen)
        smooth(triangles, count, seen, normal)
        wrong = place(seen, N(0), drawn, N(0), m, skin_link, lens, screen, inverse)
        for link in range(1, spans.shape[0]):  # link 0 stands still
            start, stop = N(spans[link, 0]), N(spans[link, 1])
            wrong += place(points, start, stop, drawn + start, m, link, lens, screen, inverse)
        if wrong > 0:
            return b
        depth[:] = still_depth
        owner[:] = -1
        if offsets.shape[0] == 1:
            cover_all(
                count, moving, clusters, boxes, cones, m, triangles, offsets, lens, blocks, step,
                screen, inverse, cells, which, table, depth, owner,
            )  # fmt: skip
        else:
            cover(triangles, N(0), N(count), NO(False), front, offsets, screen, inverse, depth, owner)
            coarse_depth(depth, offsets.shape[0], blocks, step)
            cover_clusters(
                N(0), moving, clusters, boxes, cones, m, triangles, offsets, lens, blocks, step,
                screen, inverse, depth, owner,
            )  # fmt: skip
        resolve(
            owner, offsets, still_colour, still_pixels, triangles, count, link_of, kids, tints, turns, normal,
            screen, inverse, look, to_lens, lens, lamps, ambient, corner, fragment, total, out, b,
        )  # fmt: skip
    return -1
