"""The mirror camera: pyrender on EGL, one context for life, vertices updated in place (DESIGN section 7).

The camera stands in front of a mirror: it sees the face from twice the distance to the glass, flipped
left-right. `open_camera` chooses between this one, the quality picture, and `facetwin.twin.raster`, the
fast one, which also takes over, and says so once, where there is no GL. What both draw is in
`facetwin.twin.scene`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from facetwin.twin import scene
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import Face
from facetwin.twin.raster import RasterCamera
from facetwin.twin.scene import camera_pose
from facetwin.twin.spec import CameraSpec

SHADERS = Path(__file__).parent / "shaders"
RENDERERS = ("quality", "fast")
_log = logging.getLogger(__name__)
_said_no_gl = False


def open_camera(
    face: Face,
    spec: CameraSpec,
    *,
    size: tuple[int, int] | None = None,
    samples: int = 4,
    renderer: str = "quality",
) -> Camera | RasterCamera:
    """A camera by the name of its renderer; arguments as those of `Camera`.

    Parameters
    ----------
    renderer : "quality" or "fast"
        OpenGL, for videos and panels, or our own kernels, for training. Without GL the fast one serves
        for both, and the log says so once (a warning of logger ``facetwin.twin.camera``).
    """
    global _said_no_gl
    if renderer not in RENDERERS:
        raise UsageError("unknown renderer", found=renderer, expected="one of " + ", ".join(RENDERERS))
    if renderer == "quality":
        try:
            return Camera(face, spec, size=size, samples=samples)
        except NoGL as error:
            if not _said_no_gl:
                _log.warning("%s; pictures come from the fast renderer instead", error)
            _said_no_gl = True
    return RasterCamera(face, spec, size=size, samples=samples)


class NoGL(FaceTwinError):
    """OpenGL cannot be had here: no library, no device or no context."""


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

    Raises `NoGL` where there is no OpenGL.

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
            raise NoGL(
                f"no OpenGL through EGL ({type(error).__name__}: {error})",
                where="camera",
                hint="apt-get install libegl1 libgl1 libgl1-mesa-dri",
            ) from None
        inner = self._renderer._renderer
        inner._program_cache = ShaderProgramCache(shader_dir=str(SHADERS))
        _read_colour_only(inner)
        if self.samples == 0:
            _no_multisampling(inner)
        self._scene = pyrender.Scene(
            bg_color=[*self.spec.background, 1.0], ambient_light=np.full(3, scene.ambient(self.spec))
        )
        lens = pyrender.PerspectiveCamera(
            yfov=self.spec.vertical_fov,
            znear=scene.NEAR,
            zfar=scene.FAR,
            aspectRatio=self.width / self.height,
        )
        self._add(camera=lens, matrix=camera_pose(self.spec))
        for lamp in scene.lamps(self.spec):
            source = pyrender.DirectionalLight(intensity=lamp.strength)
            self._add(light=source, matrix=scene.facing(lamp.towards))
        self._nodes: dict[str, list[Any]] = {}
        for link, mesh in scene.link_meshes(self.face).items():
            self._add_mesh(link, mesh.vertices, mesh.normals, mesh.colours, mesh.triangles)
        seen = self._detail @ self.face.rest.astype(np.float32)
        colours = scene.skin_colours(self.face)
        triangles = self.face.detail_triangles
        self._skin = self._add_mesh(scene.SKIN_LINK, seen, self._normals(seen), colours, triangles)
        self._buffer = np.concatenate([seen, self._skin.normals, self._skin.color_0], 1).astype(np.float32)

    def _add_mesh(self, link: str, *arrays: NDArray[Any]) -> Any:
        """Hang a mesh on a link: vertices, normals, colours with gloss, triangles."""
        import pyrender

        vertices, normals, colours, triangles = arrays
        primitive = pyrender.Primitive(
            positions=vertices.astype(np.float32),
            normals=normals.astype(np.float32),
            color_0=colours.astype(np.float32),
            indices=triangles.astype(np.uint32),
            material=pyrender.MetallicRoughnessMaterial(doubleSided=True),
            mode=4,
        )
        self._nodes.setdefault(link, []).append(self._add(mesh=pyrender.Mesh([primitive])))
        return primitive

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
