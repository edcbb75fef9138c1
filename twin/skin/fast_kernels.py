"""Kernels of the fast skin on one core: from commands to vertices, a few poses at a time."""

from __future__ import annotations

import numpy as np
from numba import njit

from facetwin.twin.skin.shell import FAST

#: poses that go through all layers together, so that what lies between them stays in the cache
ROWS = 16
#: multiplications in a product, up to which OpenBLAS has a quick kernel, without threads
SMALL = 1_000_000
# tanh as a quotient of polynomials in x, to some 3e-7, where |x| < 7.9 (Eigen's `ptanh_float`)
LIMIT = np.float32(7.9)
O0, O1, O2, O3, O4, O5, O6 = np.array(
    [4.89352455891786e-03, 6.37261928875436e-04, 1.48572235717979e-05, 5.12229709037114e-08,
     -8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16], np.float32
)  # fmt: skip
E0, E1, E2, E3 = np.array(
    [4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06], np.float32
)


# Without error_model="numpy" each division asks whether to raise, and no loop with one runs abreast.
@njit(cache=True, fastmath=FAST, error_model="numpy")
def batch(
    positions, motors, layers, heads, last, basis, places, scales, bounds, work, out, gap, error, trust
):  # fmt: skip
    """Poses [shape=(B, n)] into ``out`` [shape=(B, 3 P), m], gap and error (m) and trust, all (B,).

    Arguments are those of `fast_net.arrays` and `FastSkin._aim`; ``scales``: m, of gap and error; ``bounds``:
    the largest error and the largest input to be trusted; ``work``: `buffers`. Units run down, poses and then
    their mirror images across: BLAS is quickest so. False, and nothing of use in ``out``, where a position is
    not finite.
    """
    weights, biases = layers
    head_weights, head_biases = heads
    units, deep, z, halves, told, asides = work
    blocks, modes, _ = basis.shape
    own, lips = weights[0].shape[1], z.shape[0] - blocks * modes
    depth, hidden, rows = len(weights), weights[0].shape[0], 2 * ROWS
    x, features = told[:own], deep[hidden:-1]
    source, half = halves.reshape(-1), np.float32(0.5)
    far, margins = np.empty(ROWS, np.float32), z[blocks * modes :]
    for start in range(0, positions.shape[0], ROWS):
        count = min(ROWS, positions.shape[0] - start)
        for n in range(count):
            for k in range(positions.shape[1]):
                if not np.isfinite(positions[start + n, k]):
                    return False
            far[n] = _inputs(
                positions[start + n], motors, x[:, n], x[:, ROWS + n], features[:, n], features[:, ROWS + n]
            )
        for i in range(depth):
            h = deep[:hidden] if i == depth - 1 else units[i % 2]
            _product(weights[i], x if i == 0 else units[(i + 1) % 2], h)
            _activate(h, biases[i])
        _product(last, deep, z)
        for b in range(blocks):
            np.dot(z[b * modes : (b + 1) * modes].T, basis[b], halves[b, :rows])
        _place(source, ROWS, rows + 1, places, out[start : start + count])
        for k in range(lips):
            for n in range(ROWS):
                told[own + k, n] = told[own + lips + k, ROWS + n] = margins[k, n]
                told[own + k, ROWS + n] = told[own + lips + k, n] = margins[k, ROWS + n]
        one, two, said = asides
        np.dot(head_weights[0], told, one)
        _activate(one, head_biases[0])
        np.dot(head_weights[1], one, two)
        _activate(two, head_biases[1])
        np.dot(head_weights[2], two, said)
        for n in range(count):
            to, m, widest = start + n, ROWS + n, margins[0, n]
            for k in range(lips):
                widest = max(widest, margins[k, n], margins[k, m])
            gap[to] = scales[0] * (widest + np.sinh(head_biases[2][0] + half * (said[0, n] + said[0, m])))
            error[to] = scales[1] * np.exp(head_biases[2][1] + half * (said[1, n] + said[1, m]))
            trust[to] = error[to] <= bounds[0] and far[n] <= bounds[1]
    return True


def buffers(layers, heads, last, basis):
    """Memory that `batch` works in, kept between calls: fresh memory costs as much as the work."""
    blocks, _, wide = basis.shape
    rows = 2 * ROWS

    def empty(*shape: int):
        return np.zeros(shape, np.float32)

    deep = empty(last.shape[1], rows)
    deep[-1] = 1
    return (
        empty(2, len(layers[0][0]), rows),
        deep,
        empty(len(last), rows),
        # a row more: else all blocks would compete for the same places in the cache
        empty(blocks, rows + 1, wide),
        empty(heads[0][0].shape[1], rows),
        tuple(empty(len(w), rows) for w in heads[0]),
    )


@njit(cache=True, fastmath=FAST, error_model="numpy")
def single(position, motors, layers, heads, last, basis, places, out):
    """One pose into ``out`` [shape=(1, 3 P), m]; gap and error in their scales, and the largest input.

    As `batch`, but weights are (in, out); the two rows of every array are the pose and its mirror image.
    """
    weights, biases = layers
    head_weights, head_biases = heads
    x = np.empty((2, weights[0].shape[0]), np.float32)
    features = np.empty((2, motors[4].shape[0]), np.float32)
    far = _inputs(position, motors, x[0], x[1], features[0], features[1])
    h = x
    for i in range(len(weights)):
        h = _times(h, weights[i])
        _activate_rows(h, biases[i])
    hidden = h.shape[1]
    z = np.zeros((2, last.shape[1]), np.float32)
    _add(h, last[:hidden], z)
    _add(features, last[hidden:-1], z)
    z += last[-1]
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
    _place(halves.reshape(-1), 1, 2, places, out)
    apart = z[:, blocks * modes :]
    told = np.empty((2, head_weights[0].shape[0]), np.float32)
    for r in range(2):
        told[r, : x.shape[1]] = x[r]
        told[r, x.shape[1] : x.shape[1] + apart.shape[1]] = apart[r]
        told[r, x.shape[1] + apart.shape[1] :] = apart[1 - r]
    for i in range(2):
        told = _times(told, head_weights[i])
        _activate_rows(told, head_biases[i])
    said = _times(told, head_weights[2])
    half, bias = np.float32(0.5), head_biases[2]
    gap, error = bias[0] + half * (said[0, 0] + said[1, 0]), bias[1] + half * (said[0, 1] + said[1, 1])
    return apart.max() + np.sinh(gap), np.exp(error), far


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _place(source, rows, stride, places, out):
    # Halves (blocks, stride rows, 3 slots), of which `rows` of poses and as many of their mirror images, to
    # out (poses, 3 P), m, in the order of the points, so that memory is written once and straight on. Per
    # point: block, side (0 | 1), where in the block, sign of x; points in the middle are the mean of both.
    block, side, inside, sign, middle, wide = places
    target = out.reshape(-1)
    # unsigned: an index that may be negative costs a comparison each
    u, v, three = np.uint64(1), np.uint64(2), np.uint64(3)
    begin = np.empty(block.shape[0], np.uint64)
    for i in range(block.shape[0]):
        begin[i] = (block[i] * stride + side[i] * rows) * wide + inside[i]
    other, half = np.uint64(rows * wide), np.float32(0.5)
    for n in range(out.shape[0]):
        shift, t = np.uint64(n * wide), np.uint64(n * out.shape[1])
        for i in range(begin.shape[0]):
            s = begin[i] + shift
            target[t] = sign[i] * source[s]
            target[t + u] = source[s + u]
            target[t + v] = source[s + v]
            t += three
        for i in middle:
            s, t = begin[i] + shift, np.uint64(n * out.shape[1] + 3 * i)
            q = s + other
            target[t] = half * (source[s] - source[q])
            target[t + u] = half * (source[s + u] + source[q + u])
            target[t + v] = half * (source[s + v] + source[q + v])


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _product(weight, x, out):
    # out = weight @ x, in slabs that are small enough for the quick kernel
    slabs = 1 + weight.shape[0] * weight.shape[1] * x.shape[1] // SMALL
    high = (weight.shape[0] + slabs - 1) // slabs
    for start in range(0, weight.shape[0], high):
        np.dot(weight[start : start + high], x, out[start : start + high])


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _inputs(position, tables, x0, x1, f0, f1):
    motors, mirror, rest_command, angle, table = tables
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


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _times(x, weight):
    out = np.zeros((2, weight.shape[1]), np.float32)
    _add(x, weight, out)
    return out


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _add(x, weight, out):
    # out += x @ weight, for two rows
    wide = weight.shape[1]
    o0, o1 = out[0], out[1]
    for k in range(weight.shape[0]):
        a, b, w = x[0, k], x[1, k], weight[k]
        for j in range(wide):
            o0[j] += a * w[j]
            o1[j] += b * w[j]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _activate(h, bias):
    # h + bias through SiLU in place; units run down
    for j in range(h.shape[0]):
        for n in range(h.shape[1]):
            h[j, n] = _silu(h[j, n] + bias[j])


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _activate_rows(h, bias):
    for n in range(h.shape[0]):
        for j in range(h.shape[1]):
            h[n, j] = _silu(h[n, j] + bias[j])


@njit(cache=True, fastmath=FAST, error_model="numpy", inline="always")
def _silu(x):
    # x / (1 + exp(-x)) = x / 2 (1 + tanh(x / 2))
    x *= np.float32(0.5)
    y = x if x < LIMIT else LIMIT
    y = y if y > -LIMIT else -LIMIT
    q = y * y
    p = y * (O0 + q * (O1 + q * (O2 + q * (O3 + q * (O4 + q * (O5 + q * O6))))))
    return x * (np.float32(1.0) + p / (E0 + q * (E1 + q * (E2 + q * E3))))
