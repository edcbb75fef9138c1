"""Landmarks by geometry: where MediaPipe's points are on the twin, instead of where a tracker sees them.

Cheap, exact and differentiable in principle, so what training in bulk looks at; a rig has nothing like it.
Points of the skin are its own first vertices. The edge of an eye is the skin's or its lid's, whichever
covers more of it. Irises ride on the globes. Not here: what a tracker would make of it (it is blind to
small openings and jitters, DESIGN section 10).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import Face
from facetwin.twin.landmarks import MESH_POINTS, POINTS, align, canonical, fit_unit, indices

Floats = NDArray[np.float64]
IRIS = np.deg2rad(22.4)  # half the angle that the iris takes of its globe
RING = 33  # vertices along the edge of a lid, the first of its mesh
_SIDES = ("right", "left")


class GeometricLandmarks:
    """The 478 points of one face.

    Attributes
    ----------
    unit : float
        What `facetwin.twin.landmarks.align` needs to make the face at rest 1 u wide between the eyes.
    skin : int [shape=(468,)]
        Skin vertices that are needed: `FastSkin.only` can leave out the others.
    """

    def __init__(self, face: Face) -> None:
        self.face = face
        self.skin = np.arange(MESH_POINTS)
        self._iris = {side: _iris(face, side) for side in _SIDES}
        self._edges = {
            (side, which): _edge(face, side, which) for side in _SIDES for which in ("upper", "lower")
        }
        self.unit = fit_unit(_as_seen(self(face.rest, {})))

    def __call__(self, vertices: ArrayLike, poses: Mapping[str, NDArray[np.floating]]) -> Floats:
        """Points in the skull's frame, float64 [shape=(..., 478, 3), m].

        Parameters
        ----------
        vertices : float [shape=(..., N, 3), m]
            Skin in the skull's frame; N at least 468, more are not looked at.
        poses : mapping link -> float [shape=(..., 4, 4)]
            As `Kinematics.poses`; a missing link stays at rest.
        """
        skin = np.asarray(vertices, dtype=np.float64)
        if skin.ndim < 2 or skin.shape[-1] != 3 or skin.shape[-2] < MESH_POINTS:
            raise FaceTwinError("not a skin", where="landmarks by geometry", found=skin.shape,
                                expected=f"(..., {MESH_POINTS} or more, 3)")  # fmt: skip
        out = np.empty((*skin.shape[:-2], POINTS, 3))
        out[..., :MESH_POINTS, :] = skin[..., :MESH_POINTS, :]
        back = _inverse(poses["skull"]) if "skull" in poses else None

        def place(link: str, points: Floats) -> Floats:
            pose = poses.get(link)
            if pose is None:
                return points
            local = pose if back is None else back @ pose  # the skin does not know the neck
            return points @ np.swapaxes(local[..., :3, :3], -1, -2) + local[..., None, :3, 3]

        for side in _SIDES:
            out[..., indices(f"{side}_iris5"), :] = place(f"{side}_eye", self._iris[side])
            for which, sign in (("upper", 1.0), ("lower", -1.0)):
                ids, edge = self._edges[side, which]
                lid = place(f"{side}_{which}_lid", edge)  # (..., 7, 3)
                covered = sign * lid[..., 1:2] < sign * out[..., ids, 1:2]
                out[..., ids, :] = np.where(covered, lid, out[..., ids, :])
        return out

    def aligned(self, vertices: ArrayLike, poses: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float32]:
        """The same in the face frame and in u, float32 [shape=(..., 478, 3)], as trackers' are aligned."""
        return self.align(self(vertices, poses))

    def align(self, points: ArrayLike) -> NDArray[np.float32]:
        """What `__call__` gave, in the face frame and in u, float32 [shape=(..., 478, 3)]."""
        return align(points, unit=self.unit, upright=True)


def _as_seen(points: Floats) -> Floats:
    """To the axes of image landmarks: x right, y down, z away."""
    return points * (1.0, -1.0, -1.0)


def _inverse(pose: NDArray[np.floating]) -> Floats:
    out = np.zeros(pose.shape)
    turn = np.swapaxes(pose[..., :3, :3], -1, -2)
    out[..., :3, :3] = turn
    out[..., :3, 3] = -(turn @ pose[..., :3, 3:])[..., 0]
    out[..., 3, 3] = 1.0
    return out


def _iris(face: Face, side: str) -> Floats:
    """Centre and four points of the rim, float64 [shape=(5, 3), m], gaze straight."""
    centre = face.links[f"{side}_eye"].pivot
    globe = next(part for part in face.parts if part.name == f"{side}_eye")
    radius = float(np.linalg.norm(globe.vertices - centre, axis=1).max())
    seen = canonical()[indices(f"{side}_iris5")]
    way = seen[1:, :2] - seen[0, :2]
    way /= np.linalg.norm(way, axis=1, keepdims=True)  # (4, 2)
    rim = np.concatenate([np.sin(IRIS) * way, np.full((4, 1), np.cos(IRIS))], axis=1)
    return centre + radius * np.concatenate([[[0.0, 0.0, 1.0]], rim])


def _edge(face: Face, side: str, which: str) -> tuple[NDArray[np.intp], Floats]:
    """Points of the eye's contour that a lid can cover, and the places of its edge beside them (7, 3)."""
    contour = indices(f"{side}_eye16")
    ids = contour[1:8] if which == "upper" else contour[9:16]
    ring = next(part for part in face.parts if part.name == f"{side}_{which}_lid").vertices[:RING]
    order = np.argsort(ring[:, 0])
    across = face.rest[ids, 0]
    edge = np.stack([np.interp(across, ring[order, 0], ring[order, k]) for k in range(3)], axis=1)
    return ids, edge
