"""The fast renderer: a camera for training, without GL (DESIGN section 7).

The same scene, light and shading as `facetwin.twin.camera.Camera`, drawn on one core by the kernels of
`raster_kernels` and `raster_shading`. It holds no context, only arrays: it may be made anywhere and used
after a fork; a camera serves one thread at a time. Not here: noise and delay (the rig's).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin import raster_kernels as kernels
from facetwin.twin import raster_shading as shading
from facetwin.twin import raster_small as small
from facetwin.twin import scene
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import Face
from facetwin.twin.raster_model import known_model, links_of
from facetwin.twin.spec import CameraSpec

#: where the samples lie in a pixel, in 1/256: its middle, or GL's four; their rows are equally far apart
SAMPLES = {1: ((128, 128),), 4: ((96, 32), (224, 96), (32, 160), (160, 224))}
#: blocks of the coarse depth picture from top to bottom
BLOCKS = 64
#: px
LARGEST = 4096
#: no vertex lies as far from the origin, m
FARTHEST = 1e3


class Lens(NamedTuple):
    """Camera and light."""

    to_lens: NDArray[np.float64]  # (4, 4), body's frame to the camera's: x right, y up, looks along -z
    numbers: NDArray[np.float64]  # (9,), as in `raster_kernels`
    offsets: NDArray[np.int32]  # (S, 2), where the samples lie in a pixel, 1/256 px
    lamps: NDArray[np.float32]  # (2, 4), unit vector towards the lamp, strength
    ambient: np.float32
    step: int  # width of a block of the coarse depth picture, px


class Canvas(NamedTuple):
    """Buffers of one camera, used again for every picture."""

    views: NDArray[np.float64]  # (links, 4, 4), link's frame to the camera's; lens in the link's frame
    turns: NDArray[np.float32]  # (links, 9), rotations of the links
    skin: NDArray[np.float32]  # (N, 4)
    seen: NDArray[np.float32]  # (3, R)
    normal: NDArray[np.float32]  # (3, R), unit, in the skin's frame
    screen: NDArray[np.int32]  # (2, V), 1/256 px
    inverse: NDArray[np.float32]  # (V,), 1 / depth
    look: NDArray[np.float32]  # (V, 7): sRGB, gloss, unit normal of rigid parts
    depth: NDArray[np.float32]  # (H S, W), 1 / depth of each sample, 0 where nothing is
    owner: NDArray[np.int32]  # (H S, W), triangle, -1 where nothing moves
    blocks: NDArray[np.float32]  # (h, w), least of `depth` in a block
    still_depth: NDArray[np.float32]  # (H S, W), of what stands still
    still_colour: NDArray[np.float32]  # (H S, W, 3), 0 .. 255
    still_pixels: NDArray[np.uint8]  # (H, W, 3)
    corner: NDArray[np.uint32]  # (5, CHUNK), of fragments: triangle, slot, samples; of slots: row, column
    fragment: NDArray[np.float32]  # (12 CHUNK,), rows as in `raster_shading`
    total: NDArray[np.float32]  # (CHUNK, 3), of slots: colour
    cells: NDArray[np.uint32]  # (V,), between which samples a vertex lies, as in `raster_small`
    which: NDArray[np.uint32]  # (T + 1,), triangles that may hold a sample
    table: NDArray[np.int32]  # rows as in `raster_small`


class RasterCamera:
    """Pictures of the face in its mirror, the same as `Camera`'s but for the order of a few roundings.

    Parameters
    ----------
    face : Face
    spec : CameraSpec
        Where the camera stands and what light there is; a rig file's ``[camera.mirror]``. With `spec.mirror`
        the picture is flipped left-right. Delay, rate and noise belong to whoever reads the camera.
    size : (width, height), px, optional
        Another size than the spec's.
    samples : 4, 1 or 0
        Samples a pixel: four as GL lays them, or one (faster; 0 means the same).
    window : (left, top, width, height), px, optional
        Draw only this part of the picture; it may reach beyond its edges.
    beside : RasterCamera, optional
        Another camera, of the same size and samples, in whose memory this one works, too: both serve the
        same thread. What it makes is the same.

    One picture's bits depend on nothing but its own vertices and poses, whether drawn alone or in a batch.
    """

    def __init__(
        self,
        face: Face,
        spec: CameraSpec,
        *,
        size: tuple[int, int] | None = None,
        samples: int = 4,
        window: tuple[int, int, int, int] | None = None,
        beside: RasterCamera | None = None,
    ) -> None:
        self.face = face
        self.spec = spec
        self._whole = _checked_size(size or (spec.width, spec.height))
        self._corner = (0, 0) if window is None else (int(window[0]), int(window[1]))
        self.width, self.height = self._whole if window is None else _checked_size(window[2:])
        self.samples = samples
        if samples not in (0, 1, 4):
            raise UsageError("cannot sample like that", where="camera", found=samples, expected="4, 1 or 0")
        self._links = links_of(face)
        self._lens = self._build_lens()
        pixel = max(scene.camera_pose(spec)[2, 3], scene.NEAR) / self._lens.numbers[kernels.FOCAL]
        self._model, looks = known_model(face, float(pixel))
        self._canvas: Canvas | None = self._build_canvas(looks, beside)
        self._still: NDArray[np.float64] | None = None  # the pose for which the still layer was drawn

    def _build_lens(self) -> Lens:
        spec = self.spec
        offsets = np.array(SAMPLES[self.samples or 1], np.int32)
        if spec.mirror:  # GL draws unflipped, so its samples are flipped too
            offsets[:, 0] = kernels.SUB - offsets[:, 0]
        low, high = offsets.min() / kernels.SUB, offsets.max() / kernels.SUB
        lamps = [(*lamp.towards, lamp.strength) for lamp in scene.lamps(spec)]
        focal = 0.5 * self._whole[1] / np.tan(0.5 * spec.vertical_fov)
        flip = -1.0 if spec.mirror else 1.0
        middle = (0.5 * whole - start for whole, start in zip(self._whole, self._corner))
        numbers = (focal, flip, scene.NEAR, self.width, self.height, low, high, *middle)
        return Lens(
            to_lens=np.linalg.inv(scene.camera_pose(spec)),
            numbers=np.array(numbers, np.float64),
            offsets=offsets,
            lamps=np.array(lamps, np.float32),
            ambient=np.float32(scene.ambient(spec)),
            step=max(1, self.height // BLOCKS),
        )

    def _build_canvas(self, looks: NDArray[np.float32], beside: RasterCamera | None) -> Canvas:
        h, w, s = self.height, self.width, len(self._lens.offsets)
        step = self._lens.step
        still: dict[str, Any] = {
            "still_depth": np.zeros((h * s, w), np.float32),
            "still_colour": np.zeros((h * s, w, 3), np.float32),
            "still_pixels": np.zeros((h, w, 3), np.uint8),
        }
        other = beside._canvas if beside is not None and beside._model is self._model else None
        if other is not None and other.depth.shape == (h * s, w):
            return other._replace(**still)
        seen = len(self._model.rows) - 1
        return Canvas(
            views=np.zeros((len(self._links), 4, 4)),
            turns=np.zeros((len(self._links), 9), np.float32),
            skin=np.zeros((len(self.face.rest), 4), np.float32),
            seen=np.zeros((3, seen), np.float32),
            normal=np.zeros((3, seen), np.float32),
            screen=np.zeros((2, len(looks)), np.int32),
            inverse=np.zeros(len(looks), np.float32),
            look=looks,
            depth=np.zeros((h * s, w), np.float32),
            owner=np.zeros((h * s, w), np.int32),
            blocks=np.zeros((-(-h // step), -(-w // step)), np.float32),
            corner=np.zeros((5, shading.CHUNK), np.uint32),
            fragment=np.zeros(12 * shading.CHUNK, np.float32),
            total=np.zeros((shading.CHUNK, 3), np.float32),
            cells=np.zeros(len(looks), np.uint32),
            which=np.zeros(self._model.triangles.shape[1] + 1, np.uint32),
            table=np.zeros(small.ROWS * small.MANY, np.int32),
            **still,
        )

    # -- pictures ------------------------------------------------------------------------------------------

    def render(self, vertices: ArrayLike, poses: Mapping[str, NDArray[np.float64]]) -> NDArray[np.uint8]:
        """One picture, uint8 [shape=(H, W, 3)], RGB.

        Parameters
        ----------
        vertices : float [shape=(N, 3), m]
            Skin in the skull's frame.
        poses : mapping link -> float [shape=(4, 4)]
            Where each link is now; a missing link stays at rest.
        """
        skin = np.asarray(vertices)
        if skin.ndim != 2:
            self._refuse(skin, f"({len(self.face.rest)}, 3)")
        picture: NDArray[np.uint8] = self.render_batch(skin[None], poses)[0]
        return picture

    def render_batch(
        self,
        vertices: ArrayLike,
        poses: Mapping[str, NDArray[np.float64]],
        *,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Many pictures, uint8 [shape=(B, H, W, 3)], RGB; each is bit for bit what `render` makes.

        Parameters
        ----------
        vertices : float [shape=(B, N, 3), m]
        poses : mapping link -> float [shape=(B, 4, 4)]
            Or [shape=(4, 4)] for a link that is at the same place in all pictures.
        out : uint8 [shape=(B, H, W, 3)], optional
            Draw into this and return it.
        """
        if self._canvas is None:
            raise FaceTwinError("the camera is closed", where="camera", hint="make a new one")
        skin = np.asarray(vertices)
        if skin.ndim != 3 or skin.shape[1:] != self.face.rest.shape:
            self._refuse(skin, f"(B, {len(self.face.rest)}, 3)")
        if skin.size and not (skin.min() > -FARTHEST and skin.max() < FARTHEST):  # a NaN fails this, too
            raise FaceTwinError(
                "vertices are not finite, or far away", where="camera", hint="did the skin's solver diverge?"
            )
        skin = np.ascontiguousarray(skin, np.float32)
        count = len(skin)
        placed = np.empty((count, len(self._links), 4, 4))
        for k, link in enumerate(self._links):
            pose = np.asarray(poses.get(link, _IDENTITY))
            if pose.shape not in ((4, 4), (count, 4, 4)):
                raise FaceTwinError(
                    "not a pose", where=f"camera: {link}", found=pose.shape,
                    expected=f"(4, 4) or ({count}, 4, 4)",
                )  # fmt: skip
            placed[:, k] = pose
        if not np.isfinite(placed.sum()):
            raise FaceTwinError("poses are not finite", where="camera", hint="check the motor positions")
        shape = (count, self.height, self.width, 3)
        if out is None:
            out = np.empty(shape, np.uint8)
        elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise FaceTwinError(
                "cannot draw into that", where="camera", found=f"{out.dtype} {out.shape}",
                expected=f"uint8 {shape}, contiguous",
            )  # fmt: skip
        start = 0
        while start < count:  # in one go, as long as what stands still does
            still = placed[start, 0]
            stop = start + 1
            while stop < count and np.array_equal(placed[stop, 0], still):
                stop += 1
            if self._still is None or not np.array_equal(self._still, still):
                self._draw_still(placed[start])
            near = shading.draw(
                skin[start:stop],
                placed[start:stop],
                out[start:stop],
                *self._model,
                *self._lens,
                *self._canvas,
            )
            if near >= 0:
                _too_near(start + near)
            start = stop
        return out

    def _draw_still(self, pose: NDArray[np.float64]) -> None:
        """Draw neck, collar and shoulders and keep them: they move only when the body does."""
        model, lens, canvas = self._model, self._lens, self._canvas
        assert canvas is not None
        self._still = None
        canvas.depth[:] = 0
        canvas.owner[:] = -1
        canvas.blocks[:] = 0
        kernels.place_links(pose, lens.to_lens, canvas.views, canvas.turns)
        start, stop = map(int, model.spans[0])
        if kernels.place(
            model.points, start, stop, canvas.seen.shape[1] + start, canvas.views, 0, lens.numbers,
            canvas.screen, canvas.inverse,
        ):  # fmt: skip
            _too_near(0)
        kernels.cover_clusters(
            model.moving, len(model.clusters), model.clusters, model.boxes, model.cones, canvas.views,
            model.triangles, lens.offsets, lens.numbers, canvas.blocks, lens.step,
            canvas.screen, canvas.inverse, canvas.depth, canvas.owner,
        )  # fmt: skip
        canvas.still_depth[:] = canvas.depth
        canvas.still_colour[:] = np.float32(255) * np.array(self.spec.background, np.float32)
        canvas.still_pixels[:] = np.uint8(np.round(255 * np.array(self.spec.background)))
        layer = np.empty((1, self.height, self.width, 3), np.uint8)
        samples = len(lens.offsets)
        for s in range(samples):  # every sample by itself: they meet moving ones later
            row = slice(s, None, samples)
            still = canvas.still_colour[row].copy()
            shading.resolve(
                canvas.owner[row].copy(), lens.offsets[s : s + 1], still, canvas.still_pixels,
                model.triangles, model.skin, model.link_of, model.kids, model.tints,
                canvas.turns, canvas.normal, canvas.screen, canvas.inverse, canvas.look,
                lens.to_lens, lens.numbers, lens.lamps, lens.ambient, canvas.corner,
                canvas.fragment, canvas.total, layer, 0,
            )  # fmt: skip
            canvas.still_colour[row] = layer[0]
        mean = canvas.still_colour.reshape(self.height, samples, self.width, 3).mean(axis=1)
        canvas.still_pixels[:] = (mean + np.float32(0.5)).astype(np.uint8)
        self._still = pose[0].copy()

    def _refuse(self, skin: NDArray[Any], expected: str) -> None:
        raise FaceTwinError(
            "not the vertices of this face", where="camera", found=skin.shape, expected=expected
        )

    def close(self) -> None:
        """Free the buffers; closing twice is fine."""
        self._canvas = None

    def __enter__(self) -> RasterCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_IDENTITY = np.eye(4)


def _too_near(picture: int) -> None:
    raise FaceTwinError(
        "the face reaches the lens", where=f"camera: picture {picture}",
        expected=f"everything farther than {scene.NEAR} m", hint="look at the camera's distance",
    )  # fmt: skip


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    good = len(size) == 2 and all(
        isinstance(s, (int, np.integer)) and not isinstance(s, bool) and 1 <= s <= LARGEST for s in size
    )
    if not good:
        raise UsageError(
            "no such picture size", where="camera", found=size, expected=f"(width, height) in 1..{LARGEST} px"
        )
    return int(size[0]), int(size[1])
