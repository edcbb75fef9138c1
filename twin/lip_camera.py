"""Lips at a rate: commands to lip crops, landmarks and gap, in batches, for learning from images.

The skin is at rest in each posture; time is left out. Only the part of the mirror camera's picture that the
crop needs is drawn, at the camera's own resolution and with its samples, so that a crop is that of
`lip_crop` of the whole picture.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from facetwin.twin import scene
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import Face, load_face
from facetwin.twin.geometry import GeometricLandmarks
from facetwin.twin.grain import add_grains
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import POINTS
from facetwin.twin.lip_crop import SIDE, SIZE, cut, lip_frame
from facetwin.twin.raster import RasterCamera
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.skin.gap import lip_gaps
from facetwin.twin.spec import RigSpec, load_rig
from facetwin.twin.twin import build_skin

Floats = NDArray[np.float64]
SOLVERS = ("fast", "exact")
#: postures that are drawn in one go
CHUNK = 64
#: a window is this many times as wide as the crop, and lies on a grid of this many px
ROOM, GRID = 1.3, 8


@dataclass(frozen=True)
class LipViews:
    """What N postures look like.

    Attributes
    ----------
    crops : uint8 [shape=(N, 128, 128, 3)], RGB, as `lip_crop` cuts them
    landmarks : float32 [shape=(N, 478, 3), u], by geometry, aligned
    gap_mm : float32 [shape=(N,)], opening between the lips by geometry, below 0 where they overlap
    trust : bool [shape=(N,)], False where the learned skin may be wrong, or the exact one did not converge
    """

    crops: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    gap_mm: NDArray[np.float32]
    trust: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.crops)


class LipCamera:
    """Commands in, lip crops out.

    Parameters
    ----------
    spec : RigSpec or name
        Servo speeds do not matter, horns (`scale`, `trim`), camera and light do. Another body is another
        spec: `facetwin.twin.randomise.draw(spec, rng, ["camera.*", "motor.*"])`.
    threads : int
        That draw at the same time.
    solver : "fast" or "exact"
        The learned skin, of the rig's own material; or the shell, a hundred times slower, of any material.
    noise : bool
        Whether pictures have the camera's noise; the same for the same seed and the same order of calls.
    unsteady : float, u
        How far crops are misplaced, standard deviation in each direction (and, relative, in size): with it
        they are like those of a tracker's landmarks, which jitter. In the same order, the same again.
    samples : 4 or 1
        Samples a pixel; rigs look with four.
    """

    def __init__(
        self,
        spec: RigSpec | str = "face26",
        threads: int = 1,
        *,
        solver: str = "fast",
        noise: bool = False,
        unsteady: float = 0.0,
        samples: int = 4,
        seed: int = 0,
        face: Face | None = None,
    ) -> None:
        if solver not in SOLVERS:
            raise UsageError("unknown skin solver", where="LipCamera", found=solver, expected="fast or exact")
        self.spec = spec if isinstance(spec, RigSpec) else load_rig(spec)
        if "mirror" not in self.spec.cameras:
            raise UsageError("the rig file has no camera", where=self.spec.source, expected="[camera.mirror]")
        self.face = face or load_face()
        self.eye = self.spec.cameras["mirror"]
        self._kinematics = Kinematics(self.spec, self.face)
        self._fast = (
            FastSkin.load(self.spec, self.face, kinematics=self._kinematics) if solver == "fast" else None
        )
        self._exact = None if self._fast else build_skin(self.spec, self.face, self._kinematics)
        self._points = GeometricLandmarks(self.face)
        self._lips = (
            self.face.triangles_of("upper_lip", "upper_rim").astype(np.int64),
            self.face.triangles_of("lower_lip", "lower_rim").astype(np.int64),
        )
        self._scale = np.array([m.scale for m in self.spec.motors])
        self._trim = np.array([m.trim for m in self.spec.motors]) / self.spec.span
        self._trim += (1 - self._scale) * self.spec.rest
        self._noise, self._samples, self._seed, self._seen = noise, samples, int(seed), 0
        self._unsteady = float(unsteady)
        self._to_lens = np.linalg.inv(scene.camera_pose(self.eye))
        self._focal = 0.5 * self.eye.height / np.tan(0.5 * self.eye.vertical_fov)
        across = SIDE * self.face.metres_per_u * self._focal / scene.camera_pose(self.eye)[2, 3]  # px
        self._window = GRID * int(np.ceil((ROOM * across + GRID) / GRID))
        self._cameras: list[dict[tuple[int, int], RasterCamera]] = [{} for _ in range(max(1, threads))]
        self._crew = ThreadPoolExecutor(threads, thread_name_prefix="lips") if threads > 1 else None

    def see(self, commands: ArrayLike) -> LipViews:
        """What the mirror shows of lips that have come to rest at commands [shape=(N, n)]."""
        at = np.asarray(commands, dtype=np.float64)
        if at.ndim != 2 or at.shape[1] != self.spec.size or not np.isfinite(at).all():
            raise FaceTwinError("not commands", where="LipCamera.see", found=at.shape,
                                expected=f"finite (N, {self.spec.size})")  # fmt: skip
        at = self._scale * at + self._trim
        count = len(at)
        views = LipViews(
            np.empty((count, SIZE, SIZE, 3), np.uint8), np.empty((count, POINTS, 3), np.float32),
            np.empty(count, np.float32), np.empty(count, np.bool_),
        )  # fmt: skip
        jobs = []
        for start in range(0, count, CHUNK):
            some = slice(start, min(start + CHUNK, count))
            vertices, views.gap_mm[some], views.trust[some] = self._shapes(at[some])
            poses = self._kinematics.poses(at[some])
            number = self._seen + start
            if self._crew is None:
                self._look(0, vertices, poses, number, views.crops[some], views.landmarks[some])
            else:
                jobs.append((vertices, poses, number, views.crops[some], views.landmarks[some]))
        if self._crew is not None:
            lanes = len(self._cameras)

            def lane(k: int) -> None:
                for job in jobs[k::lanes]:
                    self._look(k, *job)

            list(self._crew.map(lane, range(lanes)))
        self._seen += count
        return views

    def show(self, vertices: ArrayLike, poses: Any) -> LipViews:
        """The same for shapes of the skin [shape=(N, V, 3), m] and poses of the links [shape=(N, 4, 4)]."""
        skin = np.asarray(vertices)
        count = len(skin)
        crops, points = np.empty((count, SIZE, SIZE, 3), np.uint8), np.empty((count, POINTS, 3), np.float32)
        for start in range(0, count, CHUNK):
            some = slice(start, min(start + CHUNK, count))
            here = {link: np.broadcast_to(pose, (count, 4, 4))[some] for link, pose in poses.items()}
            self._look(0, skin[some], here, self._seen + start, crops[some], points[some])
        self._seen += count
        gap = (1e3 * lip_gaps(skin, *self._lips)).astype(np.float32)
        return LipViews(crops, points, gap, np.ones(count, np.bool_))

    def _shapes(self, at: Floats) -> tuple[NDArray[np.floating], Any, Any]:
        # Vertices (b, V, 3) in m, gap in mm and trust of a chunk of positions.
        if self._fast is not None:
            with torch.no_grad():
                shapes = self._fast(torch.from_numpy(at))
            return shapes.vertices.numpy(), 1e3 * shapes.gap.numpy(), shapes.trust.numpy()
        assert self._exact is not None
        out, trust, last = np.empty((len(at), *self.face.rest.shape)), np.empty(len(at), np.bool_), None
        for k, position in enumerate(at):
            goals, seats = self._kinematics.goals(position), self._kinematics.seats(position)
            out[k], report = self._exact.solve_report(goals, last, poses=seats)
            if not report.converged and last is not None:
                out[k], report = self._exact.solve_report(goals, poses=seats)
            last, trust[k] = (out[k].copy() if report.converged else None), report.converged
        return out, 1e3 * lip_gaps(out, *self._lips), trust

    def _look(self, lane: int, vertices: Any, poses: Any, number: int, crops: Any, landmarks: Any) -> None:
        points = self._points(vertices, poses)  # (b, 478, 3), skull's frame
        landmarks[:] = self._points.align(points)
        frames = lip_frame(self._project(points, poses["skull"]))  # (b, 2, 3), unmirrored picture
        if self._unsteady:
            frames = _misplaced(frames, self._unsteady, np.random.default_rng((self._seed, number)))
        corners = frames @ np.array([(0, 0, 1), (SIZE, 0, 1), (0, SIZE, 1), (SIZE, SIZE, 1)]).T  # (b, 2, 4)
        side = self._window
        start = np.round((corners.min(2) + corners.max(2) - side) / (2 * GRID)).astype(int) * GRID  # (b, 2)
        pictures = np.empty((len(vertices), side, side, 3), np.uint8)
        for window in np.unique(start, axis=0):
            rows = np.flatnonzero((start == window).all(1))
            here = {link: pose[rows] for link, pose in poses.items()}
            pictures[rows] = self._camera(lane, *map(int, window)).render_batch(vertices[rows], here)
        if self._noise:
            some = np.arange(len(vertices), dtype=np.int64)
            levels, seeds = np.full(len(some), self.eye.noise), np.full(len(some), self._seed, np.int64)
            add_grains(pictures, levels, seeds, some + number)
        if self.eye.mirror:
            pictures = pictures[:, :, ::-1]
        frames[:, :, 2] -= start
        crops[:] = cut(pictures, frames)

    def _project(self, points: Floats, skull: Floats) -> Floats:
        # Points in the skull's frame (b, 478, 3) to px of the unmirrored picture (b, 478, 2).
        whole = self._to_lens @ skull  # (b, 4, 4)
        seen = points @ np.swapaxes(whole[:, :3, :3], 1, 2) + whole[:, None, :3, 3]
        flat = self._focal * seen[..., :2] / -seen[..., 2:]
        return flat * (1, -1) + (0.5 * self.eye.width, 0.5 * self.eye.height)

    def _camera(self, lane: int, left: int, top: int) -> RasterCamera:
        # The camera of a window whose corner in the unmirrored picture is this.
        known = self._cameras[lane]
        if (left, top) not in known:
            if len(known) > 200:
                known.clear()
            beside = next(iter(known.values()), None)
            across = self.eye.width - left - self._window if self.eye.mirror else left
            known[left, top] = RasterCamera(
                self.face, self.eye, samples=self._samples, beside=beside,
                window=(across, top, self._window, self._window),
            )  # fmt: skip
        return known[left, top]

    def close(self) -> None:
        """Free the cameras and end the threads; closing twice is fine."""
        if self._crew is not None:
            self._crew.shutdown()
        for known in self._cameras:
            for camera in known.values():
                camera.close()
            known.clear()

    def __enter__(self) -> LipCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _misplaced(frames: Floats, spread: float, rng: np.random.Generator) -> Floats:
    # Crops moved by `spread` (u), and made larger or smaller about their middles.
    out = frames.copy()
    out[:, :, :2] *= 1 + rng.normal(0, spread, (len(frames), 1, 1))
    middle = np.array((SIZE / 2, SIZE / 2))
    out[:, :, 2] += (frames[:, :, :2] - out[:, :, :2]) @ middle
    shift = rng.normal(0, spread * SIZE / SIDE, (len(frames), 2, 1))  # crop's px
    out[:, :, 2] += (frames[:, :, :2] @ shift)[..., 0]
    return out
