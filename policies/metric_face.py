"""The metric face: what a face does, apart from where its head is (Audio2Landmark report, section 2.1.3).

Picture by picture a similarity (Umeyama 1991) carries the points of the skull, nothing that speech moves,
onto the canonical face; what it undoes is the head's pose, which is kept. As `landmarks.align`, with which
it agrees to rounding where all points are seen well, but a point that does not fit the others (a hand, hair,
a raised brow, a bad contour) is weighed down: the fit is to the person's own median face, and residuals
beyond `OUTLIER` times the usual count less and less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import POINTS, canonical, eye_distance, indices

#: residuals up to this many times the usual one have full weight
OUTLIER = 4.0
#: the usual residual is at least this, u: the tracker is no better
LEAST = 0.005
ROUNDS = 8

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Head:
    """Pose of the head, picture by picture: seen = scale * R @ metric + translation.

    Attributes
    ----------
    rotation : float32 [shape=(T, 3), rad], rotation vector, upright face to seen face (x left, y up, z out)
    translation : float32 [shape=(T, 3), px] of the face's origin, in the camera's axes: y up, z to the camera
    scale : float32 [shape=(T,), px per u]
    """

    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    scale: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, part: slice) -> Head:
        return Head(self.rotation[part], self.translation[part], self.scale[part])

    def matrices(self) -> Doubles:
        """Rotations, float64 [shape=(T, 3, 3)]."""
        from scipy.spatial.transform import Rotation

        return Rotation.from_rotvec(self.rotation).as_matrix()

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name, for a clip file."""
        return {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in self.__annotations__}

    def between(self, at: NDArray[np.intp], nxt: NDArray[np.intp], share: NDArray[np.float64]) -> Head:
        """Poses a share of the way from pictures `at` to pictures `nxt` (rotations: shortest arc)."""
        from scipy.spatial.transform import Rotation

        first, last = Rotation.from_rotvec(self.rotation[at]), Rotation.from_rotvec(self.rotation[nxt])
        step = (first.inv() * last).as_rotvec()  # (n, 3)
        turned = first * Rotation.from_rotvec(step * share[:, None])
        move = self.translation[at] + (self.translation[nxt] - self.translation[at]) * share[:, None]
        scale = self.scale[at] + (self.scale[nxt] - self.scale[at]) * share
        return Head(turned.as_rotvec().astype(np.float32), move.astype(np.float32), scale.astype(np.float32))


def metric_face(points: ArrayLike) -> tuple[NDArray[np.float32], Head]:
    """Take the head's motion out of a clip of one person.

    Parameters
    ----------
    points : float [shape=(T, 478, 3), px]
        Image landmarks: x right, y down, z away from the camera, picture not mirrored.

    Returns
    -------
    face : float32 [shape=(T, 478, 3), u], upright, one unit for all pictures
    head : Head
    """
    p = np.asarray(points, np.float64) * (1.0, -1.0, -1.0)
    if p.ndim != 3 or p.shape[1:] != (POINTS, 3) or not len(p) or not np.isfinite(p).all():
        raise FaceTwinError("not landmarks", found=f"shape {p.shape}", expected=f"finite (T, {POINTS}, 3)")
    rigid = p[:, indices("stable")]  # (T, n, 3)
    target = canonical()[indices("stable")]  # (n, 3)
    whole = np.ones(rigid.shape[:2])  # (T, n)
    fit = _similarity(rigid, target, whole)
    own = np.median(_apply(rigid, fit), axis=0)  # this person's skull
    own = _apply(own[None], _similarity(own[None], target, whole[:1]))[0]
    for _ in range(ROUNDS):
        miss = np.linalg.norm(_apply(rigid, fit) - own, axis=-1)  # (T, n) u
        usual = np.maximum(np.median(miss, axis=0), LEAST)  # (n,)
        weight = np.minimum(1.0, (OUTLIER * usual / np.maximum(miss, 1e-9)) ** 2)
        if weight.min() == 1.0:
            break
        fit = _similarity(rigid, own, weight)
    face = _apply(p, fit)
    unit = float(np.median(eye_distance(face)))
    face /= unit
    rotation, scale, shift = fit  # (T, 3, 3), (T,), (T, 3): face * unit = scale * p @ rotation + shift
    from scipy.spatial.transform import Rotation

    size = unit / scale
    origin = -(shift[:, None] @ np.swapaxes(rotation, 1, 2))[:, 0] / scale[:, None]  # (T, 3) px
    turned = Rotation.from_matrix(rotation).as_rotvec()  # p = size * face @ rotation.T + origin
    return face.astype(np.float32), Head(
        turned.astype(np.float32), origin.astype(np.float32), size.astype(np.float32)
    )


def screen_face(face: ArrayLike, head: Head) -> NDArray[np.float32]:
    """The way back: a metric face in its head's pose, as it was seen, float32 [shape=(T, 478, 3), px]."""
    f = np.asarray(face, np.float64)
    seen = head.scale[:, None, None] * (f @ np.swapaxes(head.matrices(), 1, 2)) + head.translation[:, None]
    return (seen * (1.0, -1.0, -1.0)).astype(np.float32)


def _similarity(a: Doubles, b: Doubles, weight: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Rotation (T, 3, 3), scale (T,) and shift (T, 3) that carry a (T, n, 3) onto b (n, 3) as row vectors."""
    share = (weight / weight.sum(1, keepdims=True))[..., None]  # (T, n, 1)
    ca, cb = (share * a).sum(1, keepdims=True), (share * b).sum(1, keepdims=True)  # (T, 1, 3)
    a0, b0 = a - ca, b - cb
    u, s, vt = np.linalg.svd(np.swapaxes(share * a0, 1, 2) @ b0)  # (T, 3, 3)
    d = np.ones(s.shape)
    d[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * d[:, None, :]) @ vt
    scale = (s * d).sum(1) / np.maximum((share * a0**2).sum((1, 2)), 1e-12)
    shift = cb[:, 0] - scale[:, None] * (ca @ rotation)[:, 0]
    return rotation, scale, shift


def _apply(p: Doubles, fit: tuple[Doubles, Doubles, Doubles]) -> Doubles:
    rotation, scale, shift = fit
    return p @ (scale[:, None, None] * rotation) + shift[:, None]
