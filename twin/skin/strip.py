"""A clamped strip against beam theory: how well the shell bends and stretches, on grids and off them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from facetwin.twin.skin.base import Material
from facetwin.twin.skin.shell import build_shell


def bending_ratio(rows: int = 41, columns: int = 11, seed: int | None = None) -> tuple[float, float]:
    """Tip deflection of a clamped strip over beam theory's, bent and stretched.

    A strip 50 mm by 200 mm, 2 mm thick, clamped at one short edge, with 10 uN at the other, in the small-
    motion limit. ``seed`` shakes the inner vertices, as a face mesh is no grid. Both are 1 when right.

    >>> bend, stretch = bending_ratio()
    >>> abs(bend - 1) < .05, abs(stretch - 1) < .05
    (True, True)
    """
    width, length, force = 0.05, 0.2, 1e-5
    x, y = np.meshgrid(np.linspace(0, width, columns), np.linspace(0, length, rows))
    rest = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
    if seed is not None:
        step = np.array([width / (columns - 1), length / (rows - 1)])
        noise = np.random.default_rng(seed).uniform(-0.3, 0.3, (rows, columns, 2)) * step
        noise[[0, 1, -1]] = 0
        noise[:, [0, -1]] = 0
        rest[:, :2] += noise.reshape(-1, 2)
    i = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = i[:-1, :-1].ravel(), i[:-1, 1:].ravel(), i[1:, 1:].ravel(), i[1:, :-1].ravel()
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    material = Material()
    free = np.arange(6 * columns, 3 * len(rest))  # two rows are clamped
    k = build_shell(rest, triangles, material).stiffness().tocsc()[free][:, free]
    share = np.ones(columns)
    share[[0, -1]] = 0.5
    load = np.zeros((len(rest), 3, 2))
    load[-columns:, 2, 0] = load[-columns:, 1, 1] = force * share / share.sum()
    u = np.zeros((3 * len(rest), 2))
    u[free] = sp.linalg.spsolve(k, load.reshape(-1, 2)[free])
    tip = u.reshape(-1, 3, 2)[-columns:].mean(0)
    reach, h = length - length / (rows - 1), material.thickness
    bent = force * reach**3 / (3 * material.young * width * h**3 / 12)
    stretched = force * reach / (material.young * width * h)
    return float(tip[2, 0] / bent), float(tip[1, 1] / stretched)
