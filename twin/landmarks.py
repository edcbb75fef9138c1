"""Landmark sets and the similarity alignment that makes people, twin and rig comparable.

Landmarks are in MediaPipe's order (478 points: 468 of the mesh, 5 of each iris). *Aligned* landmarks
are in the face frame, x to the face's left, y up, z out of the face, origin between the eyes, and in
**u**, the distance of the outer eye corners (points 33 and 263). DESIGN sections 3 and 10.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file

from facetwin import assets
from facetwin.twin.errors import FaceTwinError

Floats = NDArray[np.floating]

POINTS = 478
MESH_POINTS = 468

UPPER_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_OUTER = (146, 91, 181, 84, 17, 314, 405, 321, 375)
UPPER_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER = (95, 88, 178, 87, 14, 317, 402, 318, 324)

#: named subsets, each a tuple of MediaPipe indices; "right" and "left" are the face's own
SETS: dict[str, tuple[int, ...]] = {
    "outer_lips20": UPPER_OUTER + LOWER_OUTER[::-1],
    "inner_lips20": UPPER_INNER + LOWER_INNER[::-1],
    "right_eye16": (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    "left_eye16": (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
    "right_brow10": (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    "left_brow10": (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    "right_iris5": (468, 469, 470, 471, 472),
    "left_iris5": (473, 474, 475, 476, 477),
    "jaw11": (136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365),
    "cheeks12": (50, 205, 187, 207, 216, 212, 280, 425, 411, 427, 436, 432),
}
SETS["lips40"] = SETS["outer_lips20"] + SETS["inner_lips20"]
#: the seeds' simplified set of 113 points: lips 40, eyes 32, brows 20, irises 10, jaw 11
SETS["face113"] = (
    SETS["lips40"] + SETS["right_eye16"] + SETS["left_eye16"] + SETS["right_brow10"]
    + SETS["left_brow10"] + SETS["right_iris5"] + SETS["left_iris5"] + SETS["jaw11"]
)  # fmt: skip
#: what speech moves: lips 40, jaw 11, cheeks 12
SETS["speech63"] = SETS["lips40"] + SETS["jaw11"] + SETS["cheeks12"]
#: points that neither speech nor expression moves much: the similarity is fitted to them
SETS["stable"] = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 45, 275, 10, 127, 356, 234, 454)


@cache
def indices(name: str) -> NDArray[np.intp]:
    """Indices of a named set, intp [shape=(n,)]; raises `FaceTwinError` for an unknown name.

    >>> len(indices("face113")), len(indices("lips40"))
    (113, 40)
    """
    try:
        found = np.array(SETS[name], dtype=np.intp)
    except KeyError:
        raise FaceTwinError(
            "unknown landmark set", found=name, expected="one of " + ", ".join(sorted(SETS))
        ) from None
    found.flags.writeable = False
    return found


@cache
def canonical() -> NDArray[np.float64]:
    """The canonical face, our own face asset at rest: float64 [shape=(478, 3), u], face frame."""
    points: NDArray[np.float64] = load_file(assets.path("face", "canonical.safetensors"))["points"]
    points = points.astype(np.float64)
    points.flags.writeable = False
    return points


@cache
def mirror_index() -> NDArray[np.intp]:
    """Index of each point's left-right partner, intp [shape=(478,)], an involution."""
    return load_file(assets.path("face", "canonical.safetensors"))["mirror"].astype(np.intp)


def eye_distance(points: ArrayLike) -> Floats:
    """Distance of the outer eye corners, in the unit of `points` [shape=(..., 478, 2|3)] -> (...)."""
    p = np.asarray(points)
    return np.linalg.norm(p[..., 33, :] - p[..., 263, :], axis=-1)


def align(points: ArrayLike, *, unit: float | None = None, upright: bool = False) -> NDArray[np.float32]:
    """Remove translation, rotation and scale: image landmarks to the face frame, in u.

    Least-squares similarity (Umeyama 1991) of the `stable` points onto the canonical face, frame by
    frame; then one factor for all frames makes the outer eye corners 1 u apart.

    Parameters
    ----------
    points : float [shape=(..., 478, 3)]
        Image landmarks: x right, y down, z away from the camera, all in pixels, picture not mirrored.
    unit : float, optional
        Eye-corner distance after the fit that counts as 1 u. Default: the median over the frames given.
        Pass one value (`fit_unit`) to put single frames of one face on one scale.
    upright : bool
        The axes are those of the face frame already: y up, z towards the camera.

    Returns
    -------
    float32 [shape=(..., 478, 3), u]
    """
    p = np.asarray(points, dtype=np.float64)
    p = p if upright else p * (1.0, -1.0, -1.0)
    if p.shape[-2:] != (POINTS, 3):
        raise FaceTwinError("not landmarks", found=f"shape {p.shape}", expected=f"(..., {POINTS}, 3)")
    fitted = _fit(p)
    scale = float(np.median(eye_distance(fitted))) if unit is None else unit
    fitted /= scale
    return fitted.astype(np.float32)


def fit_unit(points: ArrayLike) -> float:
    """The `unit` to hand to `align` for one face: median eye-corner distance after the fit."""
    p = np.asarray(points, dtype=np.float64) * (1.0, -1.0, -1.0)
    return float(np.median(eye_distance(_fit(p))))


def head_rotation(points: ArrayLike) -> NDArray[np.float64]:
    """Rotation of the head in the camera's view, float64 [shape=(..., 3, 3)]: canonical to seen (R @ x)."""
    p = np.asarray(points, dtype=np.float64) * (1.0, -1.0, -1.0)
    return _umeyama(p)[0]


def head_turn(points: ArrayLike) -> NDArray[np.float32]:
    """Rotation vector that turns the seen head back upright, float32 [shape=(..., 3), rad]."""
    from scipy.spatial.transform import Rotation

    seen = head_rotation(points)
    turn = Rotation.from_matrix(seen.reshape(-1, 3, 3)).inv().as_rotvec()
    return turn.reshape(seen.shape[:-1]).astype(np.float32)


def _umeyama(p: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    stable = indices("stable")
    a = p[..., stable, :]  # (..., n, 3)
    b = canonical()[stable]  # (n, 3)
    ca, cb = a.mean(-2, keepdims=True), b.mean(0)
    a0, b0 = a - ca, b - cb
    u, s, vt = np.linalg.svd(np.swapaxes(a0, -1, -2) @ b0)  # (..., 3, 3)
    d = np.ones((*p.shape[:-2], 3))
    d[..., 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * d[..., None, :]) @ vt  # row vectors: a @ rotation ~ b
    scale = (s * d).sum(-1) / np.maximum((a0**2).sum((-1, -2)), 1e-12)
    return rotation, scale, ca, cb


def _fit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    rotation, scale, ca, cb = _umeyama(p)
    p = p - ca
    p = p @ (scale[..., None, None] * rotation)
    p += cb
    return p


def opening(aligned: ArrayLike) -> Floats:
    """Opening of the mouth in u: upper minus lower inner lip (points 13, 14), along y [shape=(...)]."""
    p = np.asarray(aligned)
    return p[..., 13, 1] - p[..., 14, 1]


def width(aligned: ArrayLike) -> Floats:
    """Width of the mouth in u: distance of the lip corners (points 61, 291) [shape=(...)]."""
    p = np.asarray(aligned)
    return np.linalg.norm(p[..., 61, :2] - p[..., 291, :2], axis=-1)


def mirrored(aligned: ArrayLike) -> Floats:
    """The same face seen in a mirror: x changes sign and left and right points change places."""
    p = np.asarray(aligned)[..., mirror_index(), :].copy()
    p[..., 0] *= -1
    return p
