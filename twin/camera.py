"""The mirror camera: pyrender on EGL, one context for life, vertices updated in place (DESIGN section 7).

The camera stands in front of a mirror: it sees the face from twice the distance to the glass, flipped
left-right. If no GL is present, pybullet's TinyRenderer takes over (`facetwin.twin.tiny`), and says so once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import Face
from facetwin.twin.spec import CameraSpec

SHADERS = Path(__file__).parent / "shaders"
#: strength of the fill light, relative to the key light
FILL = 0.28
#: link name of the skin's own node: it hangs on the skull
SKIN_LINK = "skull"


class Camera:
    """Pictures of the face in its mirror.

    Parameters
    ----------
    face : Face
    spec : CameraSpec
        Where the camera stands and what light there is; a rig file's ``[camera.mirror]``. With `spec.mirror`
        the picture is flipped left-right. Delay, rate and noise belong to whoever reads the camera.
    size : (width, height), px, optional
        Another size than the spec's.
    samples : 4 or 0
        Multisampling, or none (faster).

    Use `close()` or a with-block: each camera holds a GL context, to be used in the thread that made it.
    """

    def __init__(
        self, face: Face, spec: CameraSpec, *, size: tuple[int, int] | None = None, samples: int = 4
    ) -> None:
        self.face = face
        self.spec = spec
        self.width, self.height = size or (spec.width, spec.height)
        self.samples = samples
        self._renderer: Any = None
        triangles = face.detail_triangles
        rows = triangles.T.ravel()
        columns = np.tile(np.arange(len(triangles)), 3)
        self._incidence = sp.csr_matrix(
            (np.ones(len(rows), np.float32), (rows, columns)),
            shape=(len(face.detail_colours), len(triangles)),
        )
        self._detail = face.detail.astype(np.float32)
        self._build()

    # -- scene ---------------------------------------------------------------------------------------------

    def _build(self) -> None:
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
        os.environ.setdefault("LP_NUM_THREADS", "1")
        try:
            import pyrender
            from pyrender.shader_program import ShaderProgramCache

            self._renderer = pyrender.OffscreenRenderer(self.width, self.height)
        except Exception as error:  # GL fails in many ways: no library, no device, no context
            raise FaceTwinError(
                f"no OpenGL through EGL ({type(error).__name__}: {error})",
                where="camera",
                hint="apt-get install libegl1 libgl1 libgl1-mesa-dri",
            ) from None
        inner = self._renderer._renderer
        inner._program_cache = ShaderProgramCache(shader_dir=str(SHADERS))
        _read_colour_only(inner)
        if self.samples == 0:
            _no_multisampling(inner)
        light, exposure = self.spec.light, self.spec.exposure
        self._scene = pyrender.Scene(
            bg_color=[*self.spec.background, 1.0], ambient_light=np.full(3, light.ambient * exposure)
        )
        lens = pyrender.PerspectiveCamera(
            yfov=self.spec.vertical_fov, znear=0.05, zfar=4.0, aspectRatio=self.width / self.height
        )
        self._add(camera=lens, matrix=camera_pose(self.spec))
        x, y, z = light.direction
        for share, source in ((1.0, (x, y, z)), (FILL, (-2.5 * x, 0.3 * y, z))):
            lamp = pyrender.DirectionalLight(intensity=share * light.intensity * exposure)
            self._add(light=lamp, matrix=_facing(np.array(source)))
        self._nodes: dict[str, list[Any]] = {}
        for link in dict.fromkeys(part.link for part in self.face.parts):
            self._add_link(pyrender, link)
        seen = self._detail @ self.face.rest.astype(np.float32)
        gloss = np.full((len(seen), 1), 0.16, np.float32)
        self._skin = pyrender.Primitive(
            positions=seen,
            normals=self._normals(seen),
            color_0=np.concatenate([self.face.detail_colours, gloss], 1),
            indices=self.face.detail_triangles.astype(np.uint32),
            material=pyrender.MetallicRoughnessMaterial(doubleSided=True),
            mode=4,
        )
        self._buffer = np.concatenate([seen, self._skin.normals, self._skin.color_0], 1).astype(np.float32)
        node = self._add(mesh=pyrender.Mesh([self._skin]))
        self._nodes.setdefault(SKIN_LINK, []).append(node)

    def _add_link(self, pyrender: Any, link: str) -> None:
        positions, normals, colours, indices, start = [], [], [], [], 0
        for part in self.face.parts:
            if part.link != link:
                continue
            positions.append(part.vertices)
            normals.append(vertex_normals(part.vertices, part.triangles))
            colours.append(np.concatenate([part.colours, np.full((len(part.colours), 1), part.gloss)], 1))
            indices.append(part.triangles + start)
            start += len(part.vertices)
        primitive = pyrender.Primitive(
            positions=np.concatenate(positions).astype(np.float32),
            normals=np.concatenate(normals).astype(np.float32),
            color_0=np.concatenate(colours).astype(np.float32),
            indices=np.concatenate(indices).astype(np.uint32),
            material=pyrender.MetallicRoughnessMaterial(doubleSided=True),
            mode=4,
        )
        self._nodes.setdefault(link, []).append(self._add(mesh=pyrender.Mesh([primitive])))

    def _add(self, **content: Any) -> Any:
        import pyrender

        number = len(self._scene.nodes)

        class Node(pyrender.Node):
            # pyrender draws in the order of sets: by address, that would differ from process to process,
            # and with it the pixels where two parts or lights meet.
            def __hash__(self) -> int:
                return number

        node = Node(**content)
        self._scene.add_node(node)
        return node

    # -- pictures ------------------------------------------------------------------------------------------

    def render(
        self, vertices: NDArray[np.float64], poses: Mapping[str, NDArray[np.float64]]
    ) -> NDArray[np.uint8]:
        """One picture, uint8 [shape=(H, W, 3)], RGB.

        Parameters
        ----------
        vertices : float [shape=(N, 3), m]
            Skin in the skull's frame.
        poses : mapping link -> float [shape=(4, 4)]
            Where each link is now; a missing link stays at rest.
        """
        from OpenGL import GL

        if self._renderer is None:
            raise FaceTwinError("the camera is closed", where="camera", hint="make a new one")
        seen = self._detail @ vertices.astype(np.float32)  # (R, 3)
        self._buffer[:, 0:3] = seen
        self._buffer[:, 3:6] = self._normals(seen)
        for link, nodes in self._nodes.items():
            for node in nodes:
                self._scene.set_pose(node, poses.get(link, _IDENTITY))
        self._renderer._platform.make_current()
        if self._skin._buffers:
            GL.glBindBuffer(GL.GL_ARRAY_BUFFER, self._skin._buffers[0])
            GL.glBufferSubData(GL.GL_ARRAY_BUFFER, 0, self._buffer.nbytes, self._buffer)
        else:  # first picture: the primitive uploads its own arrays
            self._skin.positions = seen
            self._skin.normals = self._buffer[:, 3:6].copy()
        image, _ = self._renderer.render(self._scene)
        return np.ascontiguousarray(image[:, ::-1] if self.spec.mirror else image)

    def _normals(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        t = self.face.detail_triangles
        a, b, c = seen[t[:, 0]], seen[t[:, 1]], seen[t[:, 2]]
        n = self._incidence @ np.cross(b - a, c - a)
        return (n / (np.linalg.norm(n, axis=1, keepdims=True) + 1e-20)).astype(np.float32)

    def close(self) -> None:
        """Free the GL context; closing twice is fine."""
        renderer, self._renderer = self._renderer, None
        if renderer is not None:
            _keep_display(renderer._platform)
            renderer.delete()

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_IDENTITY = np.eye(4)


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


def _facing(source: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pose whose -z points from `source` to the origin."""
    z = source / np.linalg.norm(source)
    x = np.cross((0.0, 1.0, 0.0), z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    return pose


def _keep_display(platform: Any) -> None:
    """Make `delete_context` free its context only: pyrender ends the display, and all other cameras too."""
    if not hasattr(platform, "_egl_display"):
        return

    def delete_context() -> None:
        from OpenGL import EGL

        display, context = platform._egl_display, platform._egl_context
        platform._egl_display = platform._egl_context = None
        if display is not None and context is not None:
            EGL.eglMakeCurrent(display, EGL.EGL_NO_SURFACE, EGL.EGL_NO_SURFACE, EGL.EGL_NO_CONTEXT)
            EGL.eglDestroyContext(display, context)

    platform.delete_context = delete_context


def _read_colour_only(renderer: Any) -> None:
    """Leave out the depth picture, which pyrender resolves, reads and converts every time."""
    from OpenGL import GL

    def read(scene: Any, flags: int) -> tuple[NDArray[np.uint8], None]:
        width, height = renderer._main_fb_dims[0], renderer._main_fb_dims[1]
        if renderer._main_fb_ms != renderer._main_fb:
            GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, renderer._main_fb_ms)
            GL.glBindFramebuffer(GL.GL_DRAW_FRAMEBUFFER, renderer._main_fb)
            box = (0, 0, width, height)
            GL.glBlitFramebuffer(*box, *box, GL.GL_COLOR_BUFFER_BIT, GL.GL_LINEAR)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, renderer._main_fb)
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        pixels = GL.glReadPixels(0, 0, width, height, GL.GL_RGB, GL.GL_UNSIGNED_BYTE)
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)[::-1], None

    renderer._read_main_framebuffer = read


def _no_multisampling(renderer: Any) -> None:
    """Draw straight into the single-sample buffer: pyrender always allocates four samples."""
    from OpenGL import GL

    configure = renderer._configure_main_framebuffer

    def configured() -> None:
        fresh = renderer._main_fb is None
        configure()
        if fresh:
            GL.glDeleteFramebuffers(1, [renderer._main_fb_ms])
            renderer._main_fb_ms = renderer._main_fb

    renderer._configure_main_framebuffer = configured
