"""What a camera draws, said once for both renderers: where it stands, the lamps, the parts, their gloss.

`facetwin.twin.camera` hands this to OpenGL, `facetwin.twin.raster` to its own kernels; what is said here
cannot differ between them. The shading itself is in `shaders/mesh.frag` and, line for line the same, in
`facetwin.twin.raster_kernels.shade`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.face import Face, Part
from facetwin.twin.spec import CameraSpec

#: link that carries the skin
SKIN_LINK = "skull"
#: link that stands still: neck, collar and shoulders
STILL_LINK = "body"
SKIN_GLOSS = 0.16
#: what is nearer to the lens than this, or farther, is not drawn, m
NEAR, FAR = 0.05, 4.0
#: strength of the fill light, relative to the key light
FILL = 0.28


@dataclass(frozen=True)
class Lamp:
    """A light far away: unit vector towards it, float64 [shape=(3,)], and its strength with exposure."""

    towards: NDArray[np.float64]
    strength: float


def lamps(spec: CameraSpec) -> tuple[Lamp, ...]:
    """Key light and fill light."""
    x, y, z = spec.light.direction
    strength = spec.light.intensity * spec.exposure
    return tuple(
        Lamp(np.array(way) / np.linalg.norm(way), share * strength)
        for share, way in ((1.0, (x, y, z)), (FILL, (-2.5 * x, 0.3 * y, z)))
    )


def ambient(spec: CameraSpec) -> float:
    """Strength of the sky, with exposure."""
    return spec.light.ambient * spec.exposure


@dataclass(frozen=True)
class LinkMesh:
    """All parts of one link as one mesh.

    Attributes
    ----------
    vertices, normals : float64 [shape=(V, 3), m and unit]
    triangles : int32 [shape=(T, 3)]
    colours : float32 [shape=(V, 4)]
        sRGB and gloss.
    part : int32 [shape=(T,)]
        Which part a triangle belongs to, counted within the link.
    """

    vertices: NDArray[np.float64]
    normals: NDArray[np.float64]
    triangles: NDArray[np.int32]
    colours: NDArray[np.float32]
    part: NDArray[np.int32]


def link_meshes(face: Face, small: bool = False) -> dict[str, LinkMesh]:
    """The rigid parts, merged link by link; with `small` those with fewer triangles, normals as in full."""
    found: dict[str, LinkMesh] = {}
    for link in dict.fromkeys(part.link for part in face.parts):
        parts = [part for part in face.parts if part.link == link]
        cut = [_used(part, small) for part in parts]  # vertices, triangles among them
        starts = np.cumsum([0] + [len(used) for used, _ in cut])
        found[link] = LinkMesh(
            vertices=np.concatenate([p.vertices[used] for p, (used, _) in zip(parts, cut)]),
            normals=np.concatenate(
                [vertex_normals(p.vertices, p.triangles)[used] for p, (used, _) in zip(parts, cut)]
            ),
            triangles=np.concatenate([t + s for (_, t), s in zip(cut, starts)]).astype(np.int32),
            colours=np.concatenate(
                [
                    np.concatenate([p.colours[used], np.full((len(used), 1), p.gloss)], 1)
                    for p, (used, _) in zip(parts, cut)
                ]
            ).astype(np.float32),
            part=np.repeat(np.arange(len(parts)), [len(t) for _, t in cut]).astype(np.int32),
        )
    return found


def _used(part: Part, small: bool) -> tuple[NDArray[np.intp], NDArray[np.integer]]:
    """Vertices of a part that are drawn, and its triangles among them."""
    if not small or part.small is None:
        return np.arange(len(part.vertices)), part.triangles
    used, inverse = np.unique(part.small, return_inverse=True)
    return used, inverse.reshape(-1, 3)


def skin_colours(face: Face) -> NDArray[np.float32]:
    """sRGB and gloss of the seen skin, float32 [shape=(R, 4)]."""
    gloss = np.full((len(face.detail_colours), 1), SKIN_GLOSS, np.float32)
    return np.concatenate([face.detail_colours, gloss], 1)


def vertex_normals(vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> NDArray[np.floating]:
    """Area-weighted unit normals [shape=(V, 3)]."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    normal = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normal, triangles[:, k], face)
    return normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-20)


def camera_pose(spec: CameraSpec) -> NDArray[np.float64]:
    """Where the camera stands, looking along its -z: float64 [shape=(4, 4)], body frame."""
    pose = np.eye(4)
    pose[:3, 3] = (0.0, spec.elevation, spec.distance * (2 if spec.mirror else 1))
    pose[:3, 3] += spec.position_error
    for angle, (i, j) in zip(spec.rotation_error, ((1, 2), (2, 0), (0, 1))):
        turn = np.eye(4)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        pose = pose @ turn
    return pose


def facing(source: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pose whose -z points from `source` to the origin, float64 [shape=(4, 4)]."""
    z = source / np.linalg.norm(source)
    x = np.cross((0.0, 1.0, 0.0), z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    return pose
