"""Where the camera stands and how wide it sees, from landmarks in pixels of the face at rest.

A pinhole and a rigid face: what a tracker adds is taken from the nominal camera's own picture of the same
face and assumed to be the same. Distance and angle of view tell themselves apart by perspective alone,
which is little: priors share what is left between them. Not here: lens distortion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from facetwin.twin.camera import camera_pose
from facetwin.twin.spec import CameraSpec

Floats = NDArray[np.float64]

#: sd before anything was seen: m, rad, e-folds of distance and of the angle of view
PLACE, TURN, DISTANCE, VIEW = 0.01, 0.02, 0.08, 0.06
#: px, how well a landmark's mean is seen
BLUR = 0.5


@dataclass(frozen=True)
class CameraFit:
    """What was found: keys of ``[camera.NAME]`` and values, px off before and after, share of prior left."""

    changes: dict[str, float]
    before: float
    after: float
    known: dict[str, float]


def project(points: Floats, spec: CameraSpec, size: tuple[int, int]) -> Floats:
    """Pixels [shape=(..., 2)] of points [shape=(..., 3), m, body frame], in the picture flipped back."""
    pose = camera_pose(spec)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    focal = size[1] / 2 / np.tan(spec.vertical_fov / 2)
    x, y = (focal * local[..., k] / -local[..., 2] for k in (0, 1))
    return np.stack([size[0] / 2 + x, size[1] / 2 - y], -1)


def fit_camera(
    seen: Floats, own: Floats, points: Floats, spec: CameraSpec, begin: CameraSpec, size: tuple[int, int]
) -> tuple[CameraSpec, CameraFit]:
    """Another camera that sees what was seen.

    Parameters
    ----------
    seen : float64 [shape=(P, 2), px]
        Mean landmarks of the recorded rest face, flipped back.
    own : float64 [shape=(P, 2), px]
        What the same tracker gives in the twin's own picture by `begin`.
    points : float64 [shape=(P, 3), m]
        The landmarks of the twin's rest face, body frame.
    spec : CameraSpec
        The table's; priors are around it.
    begin : CameraSpec
        The camera of `own`; that of a fit before, to fit again.
    size : (width, height), px
    """
    bias = own - project(points, begin, size)

    def camera(z: Floats) -> CameraSpec:
        x, y, depth = spec.position_error
        a, b, c = spec.rotation_error
        return replace(
            spec,
            position_error=(x + float(z[0]), y + float(z[1]), depth),
            rotation_error=(a + float(z[2]), b + float(z[3]), c + float(z[4])),
            distance=spec.distance * float(np.exp(z[5])),
            vertical_fov=spec.vertical_fov * float(np.exp(z[6])),
        )

    prior = np.array([PLACE, PLACE, TURN, TURN, TURN, DISTANCE, VIEW])
    blur = BLUR * np.sqrt(len(points) / 10)  # neighbours err together

    def wrong(z: Floats) -> Floats:
        off = (project(points, camera(z), size) + bias - seen) / blur
        return np.concatenate([off.ravel(), z / prior])

    found = least_squares(wrong, np.zeros(7), x_scale=prior)
    fitted = camera(found.x)
    sd = np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac))) / prior
    keys = (*(f"position_error.{k}" for k in (0, 1)), *(f"rotation_error.{k}" for k in (0, 1, 2)),
            "distance", "vertical_fov")  # fmt: skip
    values = (*fitted.position_error[:2], *fitted.rotation_error, fitted.distance, fitted.vertical_fov)

    def off(c: CameraSpec) -> float:
        return float(np.linalg.norm(project(points, c, size) + bias - seen, axis=-1).mean())

    changes = {k: float(f"{v:.6g}") for k, v in zip(keys, values)}
    return fitted, CameraFit(changes, off(spec), off(fitted), dict(zip(keys, sd.tolist())))
