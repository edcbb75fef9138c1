"""Landmarks as a video of another person: the twin's renderer, a skin of another shape and colour, the sound.

What is drawn follows the landmarks exactly, so that `facetwin track` can be walked with known truth. The
skin between the landmarks follows by harmonic interpolation along the mesh (the lips are apart there), the
lower teeth by the chin. It is a drawing: light, hair and background of the wild are not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetwin.policies.dataset import FPS, RATE, Clip
from facetwin.policies.video import VideoWriter
from facetwin.twin.errors import UsageError
from facetwin.twin.face import Face, load_face
from facetwin.twin.landmarks import MESH_POINTS, canonical, indices
from facetwin.twin.raster import RasterCamera
from facetwin.twin.spec import load_rig
from facetwin.twin.spec_parts import CameraSpec

Floats = NDArray[np.floating]

COMMENT = "Synthetic: a drawn face that says what a synthetic voice says; no person was filmed."
CHIN, LOWER_LIP = 152, 14


@dataclass(frozen=True)
class Look:
    """Another identity's colours and picture.

    Attributes
    ----------
    tint : gain of red, green and blue of the skin
    lips : gain of the same on the lips, on top
    light : gain of the lamps
    yaw, pitch : how far the head is turned, rad
    """

    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    lips: tuple[float, float, float] = (1.0, 1.0, 1.0)
    light: float = 1.0
    yaw: float = 0.0
    pitch: float = 0.0


def make_look(random: np.random.Generator) -> Look:
    """Colours and a pose drawn by chance: from pale to dark skin, the head turned by a few degrees."""
    dark = float(random.uniform(0.45, 1.1))
    tint = tuple(float(dark * g) for g in random.normal((1.0, 0.98, 0.96), 0.03))
    lips = tuple(float(g) for g in random.normal((1.0, 0.85, 0.88), 0.06))
    turn = random.normal(0, (0.06, 0.04))
    return Look(tint, lips, float(random.uniform(0.9, 1.1)), float(turn[0]), float(turn[1]))  # type: ignore[arg-type]


class Portrait:
    """Draws landmarks as a face.

    Parameters
    ----------
    rest : float [shape=(478, 3), u], the face at rest, from which the lower teeth's motion counts
    look : colours, light and pose
    size : side of the square picture, px
    """

    def __init__(self, rest: Floats, look: Look | None = None, size: int = 256) -> None:
        if not 64 <= size <= 2160:
            raise UsageError("no such size", where="size", found=size, expected="64 to 2160 px")
        self.look = look or Look()
        self.rest = rest
        self.face = _coloured(load_face(), self.look)
        spec = next(iter(load_rig("face26").cameras.values()))
        self._camera = RasterCamera(self.face, _frontal(spec, self.look, size), size=(size, size))

    def draw(self, landmarks: Floats) -> NDArray[np.uint8]:
        """Landmarks (478, 3) in u to a picture, uint8 [shape=(size, size, 3), RGB]."""
        unit = self.face.metres_per_u
        moved = (landmarks[:MESH_POINTS] - _origin()) * unit  # (468, 3) m
        skin = self.face.rest + _follow() @ moved
        turn = self._turn()
        poses = {name: turn.copy() for name in self.face.links}
        poses["jaw"] = turn @ self._jaw(landmarks)
        return self._camera.render(skin @ turn[:3, :3].T + turn[:3, 3], poses)

    def _turn(self) -> NDArray[np.float64]:
        from scipy.spatial.transform import Rotation

        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("yx", (self.look.yaw, self.look.pitch)).as_matrix()
        return pose

    def _jaw(self, landmarks: Floats) -> NDArray[np.float64]:
        """Pose of the lower jaw: down with chin and lower lip, and where this identity's mouth is (m)."""
        lips = indices("lips40")
        down = (landmarks - self.rest)[[CHIN, LOWER_LIP], 1].mean()
        own = (self.rest[lips, 1] - canonical()[lips, 1]).mean()
        pose = np.eye(4)
        pose[1, 3] = min(float(down + own), 0.0) * self.face.metres_per_u
        return pose


def film(
    clip: Clip,
    path: str | Path,
    *,
    rest: Floats | None = None,
    look: Look | None = None,
    size: int = 256,
    report: Callable[[int], None] | None = None,
) -> Path:
    """A clip as an mp4 with its sound; `report` hears how many pictures are done.

    `rest` (478, 3) is the face at rest, by default that of the first picture.
    """
    portrait = Portrait(clip.landmarks[0] if rest is None else rest, look, size)
    with VideoWriter(
        path,
        FPS,
        (size, size),
        audio=clip.samples,
        audio_rate=RATE,
        title=clip.name,
        comment=COMMENT,
        quality=16,
    ) as out:
        for k, face in enumerate(clip.landmarks):
            out.write(portrait.draw(face))
            if report is not None:
                report(k + 1)
    return Path(path)


def _frontal(spec: CameraSpec, look: Look, size: int) -> CameraSpec:
    light = replace(spec.light, intensity=spec.light.intensity * look.light)
    return replace(
        spec, mirror=False, width=size, height=size, light=light, distance=1.6 * spec.distance,
        elevation=spec.elevation - 0.02,
    )  # fmt: skip


def _coloured(face: Face, look: Look) -> Face:
    """The face with other colours of skin and lips."""
    gain = np.tile(np.asarray(look.tint, np.float32), (len(face.detail_colours), 1))
    lips = np.zeros(len(face.rest))
    lips[face.vertices_of("upper_lip", "lower_lip")] = 1
    share = np.asarray(face.detail @ lips)[:, None]
    gain *= 1 + share * (np.asarray(look.lips, np.float32) - 1)
    return replace(face, detail_colours=np.clip(face.detail_colours * gain, 0, 1).astype(np.float32))


@cache
def _origin() -> NDArray[np.float64]:
    """Landmarks of the undisturbed skin (468, 3) in u: the canonical face, the lips where the skin's are."""
    face = load_face()
    origin = canonical()[:MESH_POINTS].copy()
    lips = indices("lips40")
    origin[lips] = face.rest[lips] / face.metres_per_u
    return origin


@cache
def _follow() -> NDArray[np.float64]:
    """How all vertices of the skin follow MediaPipe's 468: float64 [shape=(N, 468)], harmonic in between."""
    import scipy.sparse as sp
    from scipy.sparse.linalg import splu

    face = load_face()
    count = len(face.rest)
    t = face.triangles
    edges = np.unique(np.sort(np.concatenate([t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]]]), 1), axis=0)
    weight = 1 / (np.linalg.norm(face.rest[edges[:, 0]] - face.rest[edges[:, 1]], axis=1) + 1e-6)
    graph = sp.coo_matrix((weight, edges.T), shape=(count, count))
    graph = (graph + graph.T).tocsr()
    laplace = sp.diags(np.asarray(graph.sum(1)).ravel()) - graph
    known, free = np.arange(MESH_POINTS), np.arange(MESH_POINTS, count)
    solved = splu(laplace[free][:, free].tocsc()).solve(-laplace[free][:, known].toarray())
    return np.concatenate([np.eye(MESH_POINTS), solved])
