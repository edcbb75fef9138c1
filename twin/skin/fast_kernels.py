"""Kernels of the fast skin on one core: a whole pose at once, and halves of faces put together."""

from __future__ import annotations

import numpy as np
from numba import njit

from facetwin.twin.skin.shell import FAST


@njit(cache=True, fastmath=FAST)
def single(
    position,
    motors,
    mirror,
    rest_command,
    angle,
    table,
    shape,
    heads,
    linear,
    margins,
    shut,
    basis,
    places,
    out,
):
    """One pose into ``out`` [shape=(P, 3), m]; gap and error in their scales, and the largest input.

    Arguments are those of `FastSkin._aim`; the two rows of every array are the pose and its mirror image.
    """
    right_to, right_from, right_rest, left_to, left_from, left_rest, middle_to, middle_from, middle_rest = (
        places
    )
    x = np.empty((2, motors.shape[0]), np.float32)
    features = np.empty((2, table.shape[0]), np.float32)
    widest = _inputs(
        position, motors, mirror, rest_command, angle, table, x[0], x[1], features[0], features[1]
    )
    z = _mlp(x, shape)
    _add(features, linear, z)
    blocks, modes, wide = basis.shape
    half = np.zeros((2, blocks * wide), np.float32)
    for b in range(blocks):
        right, left = half[0, b * wide : (b + 1) * wide], half[1, b * wide : (b + 1) * wide]
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
    flat, row, to = half.reshape(-1), np.uint64(half.shape[1]), out.reshape(-1)
    for i in range(right_to.shape[0]):
        _right(flat, right_from[i], right_rest[i], to, right_to[i])
    for i in range(left_to.shape[0]):
        _left(flat, row + left_from[i], left_rest[i], to, left_to[i])
    for i in range(middle_to.shape[0]):
        _middle(flat, middle_from[i], row + middle_from[i], middle_rest[i], to, middle_to[i])
    m, lips = x.shape[1], shut.shape[0]
    apart = np.empty((2, lips), np.float32)
    for r in range(2):
        for i in range(lips):
            apart[r, i] = shut[i]
    _add(z, margins, apart)
    told = np.empty((2, m + 2 * lips), np.float32)
    for r in range(2):
        told[r, :m] = x[r]
        told[r, m : m + lips] = apart[r]
        told[r, m + lips :] = apart[1 - r]
    said = _mlp(told, heads)
    two = np.float32(0.5)
    gap, error = (said[0, 0] + said[1, 0]) * two, (said[0, 1] + said[1, 1]) * two
    return apart.max() + np.sinh(gap), np.exp(error), widest


@njit(cache=True, fastmath=FAST)
def inputs(positions, motors, mirror, rest_command, angle, table, x, features):
    """Inputs [shape=(2 B, m)] and features [shape=(2 B, F)] of poses and then of their mirror images."""
    batch = positions.shape[0]
    for n in range(batch):
        _inputs(
            positions[n], motors, mirror, rest_command, angle, table,
            x[n], x[batch + n], features[n], features[batch + n],
        )  # fmt: skip


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
    """Halves [shape=(blocks, 2 B, 3 slots)] to ``out`` [shape=(B, P, 3), m].

    ``places``, for points on the right, on the left and in the middle: where they go in a row of ``out``,
    where they come from in a row of halves, in rising order (both counted in numbers, not points), and where
    they are at rest.
    """
    batch, wide = out.shape[0], halves.shape[2]
    row = np.uint64(out.shape[1] * 3)
    source, to = halves.reshape(-1), out.reshape(-1)
    right_to, right_from, right_rest, left_to, left_from, left_rest, middle_to, middle_from, middle_rest = (
        places
    )
    r = q = m = 0
    for b in range(halves.shape[0]):
        r0, q0, m0, end = r, q, m, np.uint64((b + 1) * wide)
        while r < right_to.shape[0] and right_from[r] < end:
            r += 1
        while q < left_to.shape[0] and left_from[q] < end:
            q += 1
        while m < middle_to.shape[0] and middle_from[m] < end:
            m += 1
        for n in range(batch):
            one = np.uint64((2 * b * batch + n) * wide) - np.uint64(b * wide)
            two = one + np.uint64(batch * wide)
            start = np.uint64(n) * row
            for i in range(r0, r):
                _right(source, one + right_from[i], right_rest[i], to, start + right_to[i])
            for i in range(q0, q):
                _left(source, two + left_from[i], left_rest[i], to, start + left_to[i])
            for i in range(m0, m):
                s = middle_from[i]
                _middle(source, one + s, two + s, middle_rest[i], to, start + middle_to[i])


@njit(cache=True, fastmath=FAST, inline="always")
def _right(moved, s, rest, out, t):
    u, v = np.uint64(1), np.uint64(2)
    out[t], out[t + u], out[t + v] = rest[0] + moved[s], rest[1] + moved[s + u], rest[2] + moved[s + v]


@njit(cache=True, fastmath=FAST, inline="always")
def _left(moved, s, rest, out, t):
    u, v = np.uint64(1), np.uint64(2)
    out[t], out[t + u], out[t + v] = rest[0] - moved[s], rest[1] + moved[s + u], rest[2] + moved[s + v]


@njit(cache=True, fastmath=FAST, inline="always")
def _middle(moved, r, q, rest, out, t):
    half, u, v = np.float32(0.5), np.uint64(1), np.uint64(2)
    out[t] = rest[0] + half * (moved[r] - moved[q])
    out[t + u] = rest[1] + half * (moved[r + u] + moved[q + u])
    out[t + v] = rest[2] + half * (moved[r + v] + moved[q + v])


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
