"""The lip crop: a square of the picture around the mouth that stays put while the mouth moves.

What image latents are made from. Place, size and turn come from points that neither speech nor expression
moves (`stable`), so that the crop does not zoom with an opening mouth. The same for a rig's picture with a
tracker's landmarks and for the twin's with those of geometry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import POINTS, canonical, indices

#: px of a crop's side
SIZE = 128
#: u, what a crop's side shows, and where its middle is in the face frame: lips of every posture fit
SIDE = 0.92
MIDDLE = (0.0, -0.83)


def lip_frame(landmarks: ArrayLike) -> NDArray[np.float64]:
    """Where the crop lies in a picture, float64 [shape=(..., 2, 3)]: crop's px to the picture's px.

    Parameters
    ----------
    landmarks : float [shape=(..., 478, 2|3), px]
        x right, y down, 0 at the outer edge of the first pixel; picture not mirrored.

    Least squares similarity of the `stable` points, seen flat, onto the canonical face's.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.ndim < 2 or points.shape[-2] != POINTS or points.shape[-1] not in (2, 3):
        raise FaceTwinError("not landmarks", where="lip crop", found=points.shape,
                            expected=f"(..., {POINTS}, 2 or 3), px")  # fmt: skip
    if not np.isfinite(points[..., :2]).all():
        raise FaceTwinError("landmarks are not finite", where="lip crop", hint="was a face found?")
    stable = indices("stable")
    model = canonical()[stable] @ np.array((1.0, 1j, 0.0))  # (n,), y up
    seen = points[..., stable, 0] - 1j * points[..., stable, 1]  # (..., n)
    middle, origin = seen.mean(-1), model.mean()
    way = (model - origin).conj()
    turn = ((seen - middle[..., None]) * way).sum(-1) / (abs(way) ** 2).sum()  # px per u, and how turned
    step = turn * SIDE / SIZE  # (...,), one crop's px in the picture
    centre = middle + turn * (complex(*MIDDLE) - origin)
    corner = centre + step * (-0.5 + 0.5j) * SIZE
    out = np.empty((*turn.shape, 2, 3))
    out[..., 0, 0], out[..., 0, 1], out[..., 0, 2] = step.real, step.imag, corner.real
    out[..., 1, 0], out[..., 1, 1], out[..., 1, 2] = -step.imag, step.real, -corner.imag
    return out


def lip_crop(image: NDArray[np.uint8], landmarks: ArrayLike, *, mirrored: bool = False) -> NDArray[np.uint8]:
    """The square around the mouth, uint8 [shape=(128, 128, 3)].

    Parameters
    ----------
    image : uint8 [shape=(H, W, 3)], RGB
    landmarks : float [shape=(478, 2|3), px]
        As `Tracker.detect` gives them: of the picture flipped back, if it shows a mirror.
    mirrored : bool
        The picture shows a mirror: it is flipped back first.
    """
    picture = np.asarray(image)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise FaceTwinError("not a picture", where="lip crop", found=f"{picture.dtype} {picture.shape}",
                            expected="uint8 (H, W, 3), RGB")  # fmt: skip
    if mirrored:
        picture = picture[:, ::-1]
    points = np.asarray(landmarks)
    if points.shape not in ((POINTS, 2), (POINTS, 3)):
        raise FaceTwinError("not landmarks", where="lip crop", found=points.shape,
                            expected=f"({POINTS}, 2 or 3), px")  # fmt: skip
    return cut(np.ascontiguousarray(picture)[None], lip_frame(points)[None])[0]


def cut(pictures: NDArray[np.uint8], frames: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Crops of many pictures, uint8 [shape=(B, 128, 128, 3)], by their frames [shape=(B, 2, 3)].

    Linear between pixels; where a crop's pixel covers several of the picture's, the mean of some of them;
    beyond the picture its edge goes on.
    """
    out = np.empty((len(pictures), SIZE, SIZE, 3), np.uint8)
    _cut(np.ascontiguousarray(pictures), np.ascontiguousarray(frames, np.float64), out)
    return out


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "arcp", "nsz"})
def _cut(pictures: Any, frames: Any, out: Any) -> None:
    height, width = pictures.shape[1], pictures.shape[2]
    size = out.shape[1]
    for b in range(out.shape[0]):
        a, c, e = frames[b, 0, 0], frames[b, 0, 1], frames[b, 0, 2]
        d, f, g = frames[b, 1, 0], frames[b, 1, 1], frames[b, 1, 2]
        fine = max(1, min(16, int(np.ceil(np.sqrt(a * a + d * d) - 0.25))))  # looks a side of a pixel
        share = np.float32(1.0 / (fine * fine))
        for y in range(size):
            for x in range(size):
                red = green = blue = np.float32(0.5)
                for j in range(fine):
                    v = y + (j + 0.5) / fine
                    for i in range(fine):
                        u = x + (i + 0.5) / fine
                        px = min(max(a * u + c * v + e - 0.5, 0.0), width - 1.0)
                        py = min(max(d * u + f * v + g - 0.5, 0.0), height - 1.0)
                        x0, y0 = int(px), int(py)
                        x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
                        s, t = np.float32(px - x0), np.float32(py - y0)
                        w11 = s * t * share
                        w01, w10 = s * share - w11, t * share - w11
                        w00 = share - w11 - w01 - w10
                        p, q = pictures[b, y0, x0], pictures[b, y0, x1]
                        r, h = pictures[b, y1, x0], pictures[b, y1, x1]
                        red += w00 * p[0] + w01 * q[0] + w10 * r[0] + w11 * h[0]
                        green += w00 * p[1] + w01 * q[1] + w10 * r[1] + w11 * h[1]
                        blue += w00 * p[2] + w01 * q[2] + w10 * r[2] + w11 * h[2]
                out[b, y, x, 0], out[b, y, x, 1], out[b, y, x, 2] = int(red), int(green), int(blue)
