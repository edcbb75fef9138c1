"""Kernels of the fast skin on one core: a whole pose at once, and halves of faces put together."""

from __future__ import annotations

import numpy as np
from numba import njit

from facetwin.twin.skin.shell import FAST


@njit(cache=True, fastmath=FAST)
def single(position, motors, mirror, rest_command, angle, table, shape, heads, tables, places, out):
    """One pose into ``out`` [shape=(1, 3 P), m]; gap and error in their scales, and the largest input.

    Arguments are those of `FastSkin._aim`; the two rows of every array are the pose and its mirror image.
    """
    linear, margins, shut, basis = tables
    x = np.empty((2, motors.shape[0]), np.float32)
    features = np.empty((2, table.shape[0]), np.float32)
    widest = _inputs(
        position, motors, mirror, rest_command, angle, table, x[0], x[1], features[0], features[1]
    )
    z = _mlp(x, shape)
    _add(features, linear, z)
    blocks, modes, wide = basis.shape
    halves = np.zeros((blocks, 2, wide), np.float32)
    for b in range(blocks):
        right, left = halves[b, 0], halves[b, 1]
        at = b * modes
        k = 0
        while k + 1 < modes:  # two modes at a time: half the traffic of the sums
            p, q = basis[b, k], basis[b, k + 1]
            r0, r1, l0, l1 = z[0, at + k], z[0, at + k + 1], z[1, at + k], z[1, at + k + 1]
            for j in range(wide):
                right[j] += r0 * p[j] + r1 * q[j]
                left[j] += l0 * p[j] + l1 * q[j]
            k += 2
        if k < modes:
            p = basis[b, k]
            for j in range(wide):
                right[j] += z[0, at + k] * p[j]
                left[j] += z[1, at + k] * p[j]
    place(halves, places, out)
    apart = np.empty((2, shut.shape[0]), np.float32)
    apart[:] = shut
    _add(z, margins, apart)
    told = np.empty((2, x.shape[1] + 2 * shut.shape[0]), np.float32)
    tell(x, apart, told)
    said = _mlp(told, heads)
    two = np.float32(0.5)
    gap, error = (said[0, 0] + said[1, 0]) * two, (said[0, 1] + said[1, 1]) * two
    return apart.max() + np.sinh(gap), np.exp(error), widest


@njit(cache=True, fastmath=FAST)
def inputs(positions, motors, mirror, rest_command, angle, table, x, features):
    """Inputs [shape=(2 B, m)] and features [shape=(2 B, F)] of poses and then of their mirror images.

    Returns whether all positions are finite.
    """
    batch = positions.shape[0]
    for n in range(batch):
        for k in range(positions.shape[1]):
            if not np.isfinite(positions[n, k]):
                return False
        _inputs(
            positions[n], motors, mirror, rest_command, angle, table,
            x[n], x[batch + n], features[n], features[batch + n],
        )  # fmt: skip
    return True


@njit(cache=True, fastmath=FAST)
def _inputs(position, motors, mirror, rest_command, angle, table, x0, x1, f0, f1):
    one, half = np.float32(1.0), np.float32(0.5)
    m = motors.shape[0]
    widest = np.float32(0.0)
    for k in range(m):
        x0[k] = np.float32(2.0) * np.float32(position[motors[k]]) - one
        widest = max(widest, abs(x0[k]))
    for k in range(m):
        x1[k] = x0[mirror[k]]
    for x, f in ((x0, f0), (x1, f1)):
        turn = np.float32(0.0)
        for k in range(m):
            turn += angle[k] * ((x[k] + one) * half - rest_command[k])
        sine, bend = np.sin(turn), one - np.cos(turn)
        for i in range(table.shape[0]):
            v = one
            if table[i, 0] >= 0:
                d = (x[table[i, 0]] + one) * half - rest_command[table[i, 0]]
                for _ in range(table[i, 1]):
                    v *= d
            if table[i, 2] == 1:
                v *= sine
            elif table[i, 2] == 2:
                v *= bend
            f[i] = v
    return widest


@njit(cache=True, fastmath=FAST)
def place(halves, places, out):
    """Halves [shape=(blocks, 2 B, 3 slots)] to ``out`` [shape=(B, 3 P), m].

    ``places``: how many points lie on the right, and how many on the right or left (the others lie in the
    middle and come from both); then for each point, in that order, where it goes in a row of ``out``, its
    block, where in the block, and where it is at rest [shape=(3 P,)].
    """
    right, sides, to, block, inside, rest = places
    batch, wide = out.shape[0], halves.shape[2]
    source, target = halves.reshape(-1), out.reshape(-1)
    # unsigned: an index that may be negative costs a comparison each
    u, v, other = np.uint64(1), np.uint64(2), np.uint64(batch * wide)
    half = np.float32(0.5)
    begin = np.empty(to.shape[0], np.uint64)
    for i in range(to.shape[0]):
        begin[i] = (2 * block[i] * batch + (batch if right <= i < sides else 0)) * wide + inside[i]
    for n in range(batch):
        row, shift = np.uint64(n * out.shape[1]), np.uint64(n * wide)
        for i in range(right):
            t, s, r = row + to[i], begin[i] + shift, np.uint64(3 * i)
            target[t] = rest[r] + source[s]
            target[t + u] = rest[r + u] + source[s + u]
            target[t + v] = rest[r + v] + source[s + v]
        for i in range(right, sides):
            t, s, r = row + to[i], begin[i] + shift, np.uint64(3 * i)
            target[t] = rest[r] - source[s]
            target[t + u] = rest[r + u] + source[s + u]
            target[t + v] = rest[r + v] + source[s + v]
        for i in range(sides, to.shape[0]):
            t, s, r = row + to[i], begin[i] + shift, np.uint64(3 * i)
            q = s + other
            target[t] = rest[r] + half * (source[s] - source[q])
            target[t + u] = rest[r + u] + half * (source[s + u] + source[q + u])
            target[t + v] = rest[r + v] + half * (source[s + v] + source[q + v])


@njit(cache=True, fastmath=FAST)
def tell(x, apart, told):
    """What the heads are told [shape=(2 B, m + 2 L)]: inputs, own margins, margins of the mirror image."""
    rows, m, lips = x.shape[0], x.shape[1], apart.shape[1]
    for r in range(rows):
        told[r, :m] = x[r]
        told[r, m : m + lips] = apart[r]
        told[r, m + lips :] = apart[(r + rows // 2) % rows]


@njit(cache=True, fastmath=FAST)
def hear(x, apart, said, scales, bounds, gap, error, trust):
    """Gap, expected error (m) and trust of B poses from what the heads say [shape=(2 B, 2)].

    ``scales``: m, of gap and error; ``bounds``: the largest error and the largest input to be trusted.
    """
    batch, half = gap.shape[0], np.float32(0.5)
    for n in range(batch):
        widest = max(apart[n].max(), apart[batch + n].max())
        gap[n] = scales[0] * (widest + np.sinh(half * (said[n, 0] + said[batch + n, 0])))
        error[n] = scales[1] * np.exp(half * (said[n, 1] + said[batch + n, 1]))
        trust[n] = error[n] <= bounds[0] and np.abs(x[n]).max() <= bounds[1]


@njit(cache=True, fastmath=FAST)
def _mlp(x, layers):
    w0, b0, w1, b1, w2, b2 = layers
    h = _dense(x, w0, b0)
    _silu(h)
    h = _dense(h, w1, b1)
    _silu(h)
    return _dense(h, w2, b2)


@njit(cache=True, fastmath=FAST)
def _dense(x, weight, bias):
    out = np.empty((2, weight.shape[1]), np.float32)
    for j in range(out.shape[1]):
        out[0, j] = out[1, j] = bias[0, j]
    _add(x, weight, out)
    return out


@njit(cache=True, fastmath=FAST)
def _add(x, weight, out):
    # out += x @ weight, for two rows
    wide = weight.shape[1]
    o0, o1 = out[0], out[1]
    for k in range(weight.shape[0]):
        a, b, w = x[0, k], x[1, k], weight[k]
        for j in range(wide):
            o0[j] += a * w[j]
            o1[j] += b * w[j]


@njit(cache=True, fastmath=FAST)
def _silu(h):
    one = np.float32(1.0)
    for r in range(2):
        for j in range(h.shape[1]):
            h[r, j] = h[r, j] / (one + np.exp(-h[r, j]))
