"""The grain of a camera: the same noise for the same seed and picture, cheap enough for training.

A table of normal numbers is drawn once; each picture reads it from a place of its own, a hash of seed and
number. So looking twice or seldom changes nothing.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

TABLE = 1 << 18  # numbers; a power of two


@lru_cache(maxsize=1)
def _table() -> NDArray[np.float32]:
    return np.random.default_rng(20).standard_normal(TABLE, dtype=np.float32)


def add_grain(
    image: NDArray[np.uint8], level: float, seed: int, number: int, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """A picture with normal noise of standard deviation `level` (steps of 1/255), uint8 of its shape.

    Parameters
    ----------
    image : uint8 [any shape, contiguous]
    level : float, at least 0
    seed, number : int
        Of the camera, and of the picture.
    out : uint8, optional
        Where to put it; may be `image` itself.
    """
    out = np.empty_like(image) if out is None else out
    if out is not image:
        out[...] = image
    most = 2**63 - 1
    _add(out.reshape(-1), np.float32(level), _table(), seed & most, number & most)
    return out


def measured_grain(images: NDArray[np.uint8], block: int = 8) -> float:
    """Standard deviation of a camera's noise, in steps of 1/255, from pictures of one still scene.

    Parameters
    ----------
    images : uint8 [shape=(K, H, W, 3)], two or more

    The median over blocks of pixels: what moved a little or is too bright does not count. The rounding to
    whole steps is taken out; noise below about 0.3 rounds to none.

    >>> still = np.full((4, 64, 64, 3), 120, np.uint8)
    >>> measured_grain(still)
    0.0
    """
    variance = images.astype(np.float64).var(0, ddof=1).mean(-1)  # (H, W)
    rows, columns = (size // block * block for size in variance.shape)
    blocks = variance[:rows, :columns].reshape(rows // block, block, columns // block, block).mean((1, 3))
    return float(np.sqrt(max(np.median(blocks) - 1 / 12, 0.0)))


def add_grains(
    images: NDArray[np.uint8],
    levels: NDArray[np.floating],
    seeds: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> None:
    """`add_grain` for many cameras [shape=(B,)], in place: images uint8 [shape=(B, ...), contiguous]."""
    most = 2**63 - 1
    _add_all(
        images.reshape(len(images), -1), levels.astype(np.float32), _table(), seeds & most, numbers & most
    )


@njit(cache=True, nogil=True)
def _add_all(images, levels, table, seeds, numbers):
    for b in range(images.shape[0]):
        if levels[b] != 0:
            _add(images[b], levels[b], table, seeds[b], numbers[b])


@njit(cache=True)
def _hash(x):
    # splitmix64 (Steele, Lea, Flood 2014)
    x = (x + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _add(image, level, table, seed, number):
    size = table.shape[0]
    key = _hash(_hash(np.uint64(seed)) ^ np.uint64(number))
    at = np.int64(key >> np.uint64(16)) & (size - 1)
    i = 0
    low, high, half = np.float32(0), np.float32(255), np.float32(0.5)
    while i < image.shape[0]:
        count = min(image.shape[0] - i, size - at)
        here, noise = image[i : i + count], table[at : at + count]
        for k in range(np.uint64(count)):  # unsigned, in place, without branches: the loop runs abreast
            value = np.float32(np.int32(here[k])) + level * noise[k] + half
            value = value if value > low else low
            value = value if value < high else high
            here[k] = np.uint8(np.int32(value))
        i, at = i + count, 0
