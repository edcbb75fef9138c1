"""The twin itself: motor positions in; shape of the face, its lips' gap and its mirror picture out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from facetwin.twin.camera import RENDERERS, Camera, open_camera
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import Face, load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.raster import RasterCamera
from facetwin.twin.skin.base import Floats, Ints, Material, Skin, SolveReport
from facetwin.twin.skin.exact import ExactSkin
from facetwin.twin.skin.gap import lip_gap
from facetwin.twin.skin.graded import GradedSkin, grade
from facetwin.twin.skin.linear import LinearSkin
from facetwin.twin.skin.walls import Wall, arch, ball, bone
from facetwin.twin.spec import RigSpec

SOLVERS = ("exact", "graded", "linear", "fast", "fast+exact")
#: lips and rims are cast this many times as thick as the skin: thin ones crumple
LIPS = 2.0
#: closed borders of a face: its edge, two eyes, the mouth
OPENINGS = 4
#: m, about the lips, where the graded skin is as fine as the exact one
BY_THE_LIPS = 8e-3
#: vertices in the root of its factor: see `ExactSkin`
GRADED_ROOT = (110, 20)


@dataclass(frozen=True)
class State:
    """One posture of the face.

    Attributes
    ----------
    position : float64 [shape=(n,)]
        Where the motors stand, in command units.
    vertices : float64 [shape=(N, 3), m]
        The skin in the skull's frame.
    poses : mapping link -> float64 [shape=(4, 4)]
        The rigid parts in the body's frame.
    gap : float, m
        Opening between the lips by geometry (`facetwin.twin.skin.gap.lip_gap`); below 0 where they overlap.
    report : SolveReport or None
        How the solve went.
    """

    position: NDArray[np.float64]
    vertices: NDArray[np.float64]
    poses: Mapping[str, NDArray[np.float64]]
    gap: float
    report: SolveReport | None = None


def build_skin(spec: RigSpec, face: Face, kinematics: Kinematics, *, tolerance: float = 1e-4) -> ExactSkin:
    """The exact skin of a rig: its material, its anchors, lips that keep apart."""
    return _exact(spec, face, kinematics.anchored, kinematics.stiffness, tolerance=tolerance)


def build_graded(spec: RigSpec, face: Face, kinematics: Kinematics, *, tolerance: float = 1e-4) -> GradedSkin:
    """The same skin on half the vertices: those that motors pull, that touch, that lie by the lips."""
    loose = np.isfinite(kinematics.stiffness)
    wanted = np.zeros(len(face.rest), dtype=bool)
    wanted[kinematics.anchored[loose]] = True
    lips = face.vertices_of("upper_lip", "lower_lip", "upper_rim", "lower_rim")
    wanted |= cKDTree(face.rest[lips]).query(face.rest)[0] < BY_THE_LIPS
    grading = grade(face, wanted)
    place = np.full(len(face.rest), -1)
    place[grading.kept] = np.arange(len(grading.kept))
    at = place[kinematics.anchored]
    exact = _exact(
        spec, grading.face, at[at >= 0], kinematics.stiffness[at >= 0], tolerance=tolerance, root=GRADED_ROOT
    )
    return GradedSkin(exact, grading, face.rest, kinematics.anchored)


def _exact(spec: RigSpec, face: Face, anchored: Ints, stiffness: Floats, **options: Any) -> ExactSkin:
    m = spec.material
    return ExactSkin(
        face.rest,
        face.triangles,
        anchored,
        stiffness,
        Material(young=m.young, thickness=m.thickness, density=m.density),
        upper_lip=face.triangles_of("upper_lip", "upper_rim"),
        lower_lip=face.triangles_of("lower_lip", "lower_rim"),
        foundation=m.foundation * (1 - face.jaw_share),  # what the jaw carries is not held to the skull
        thickness=np.where(face.labels == 0, m.thickness, LIPS * m.thickness),
        openings=OPENINGS,
        walls=hard_parts(face),
        **options,
    )


def hard_parts(face: Face) -> tuple[Wall, ...]:
    """What the skin lies on: teeth under lips, eyeballs under the rims of the eyes, bone under the rest."""
    rest, parts = face.rest, {part.name: part for part in face.parts}
    lips = face.vertices_of("upper_lip", "upper_rim", "lower_lip", "lower_rim").astype(np.int64)
    rims = face.vertices_of("eye_rim").astype(np.int64)
    walls = [
        arch(name, parts[name].link, parts[name].vertices, lips)
        for name in ("upper_teeth", "lower_teeth")
        if name in parts
    ]
    for name in ("right_eye", "left_eye"):
        if name in parts:
            centre = face.links[parts[name].link].pivot
            radius = float(np.linalg.norm(parts[name].vertices - centre, axis=1).min())
            walls.append(ball(name, parts[name].link, centre, radius, rims[rest[rims, 0] * centre[0] > 0]))
    corners = rest[face.triangles]
    turns = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(rest)
    for k in range(3):
        np.add.at(normals, face.triangles[:, k], turns)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    outer = np.setdiff1d(face.vertices_of("skin"), np.concatenate([lips, rims, face.border]))
    for name, link, which in (
        ("skull", "", face.jaw_share[outer] < 0.1),
        ("chin", "jaw", face.jaw_share[outer] > 0.9),
    ):
        if which.any():
            walls.append(bone(name, link, rest, normals, outer[which].astype(np.int64)))
    return tuple(walls)


class FaceTwin:
    """A robot face without time: servos and clocks belong to the rig that holds it.

    Parameters
    ----------
    spec : RigSpec
    solver : "exact", "graded", "linear", "fast" or "fast+exact"
        The hyperelastic shell; the same on half the vertices; its linear map (wrong by a quarter to a half of
        the motion); the learned map of its solutions, for training; or that one with the poses that it does
        not trust solved exactly.
    size : (width, height), px, optional
        Picture size; the rig file's by default.
    renderer : "quality" or "fast"
        GL, or the z-buffer of `facetwin.twin.raster`.
    samples : 4 or 0
        Multisampling of the picture. Without it pictures come 2.5 times faster and the tracker's jitter
        doubles.
    tolerance : float, m
        Of the exact solver.
    camera : str
        Which of the rig's cameras looks.
    """

    def __init__(
        self,
        spec: RigSpec,
        *,
        solver: str = "exact",
        renderer: str = "quality",
        size: tuple[int, int] | None = None,
        samples: int = 4,
        tolerance: float = 1e-4,
        camera: str = "mirror",
        face: Face | None = None,
    ) -> None:
        if solver not in SOLVERS:
            raise UsageError("unknown skin solver", found=solver, expected="one of " + ", ".join(SOLVERS))
        if renderer not in RENDERERS:
            raise UsageError("unknown renderer", found=renderer, expected="one of " + ", ".join(RENDERERS))
        if camera not in spec.cameras:
            raise UsageError(
                "no such camera", where=spec.name, found=camera, expected="one of " + ", ".join(spec.cameras)
            )
        self.spec = spec
        self.face = face or load_face()
        self.kinematics = Kinematics(spec, self.face)
        self.skin: Skin = self._build(solver, tolerance)
        self._learned = solver.startswith("fast")
        self._renderer = renderer
        self._camera_spec, self._size, self._samples = spec.cameras[camera], size, samples
        self._camera: Camera | RasterCamera | None = None
        self._lips = (
            self.face.triangles_of("upper_lip", "upper_rim"),
            self.face.triangles_of("lower_lip", "lower_rim"),
        )
        self._last: NDArray[np.float64] | None = None
        self._goals: NDArray[np.float64] | None = None

    def _build(self, solver: str, tolerance: float) -> Skin:
        if solver == "fast":
            from facetwin.twin.skin.fast import FastSkin  # brings torch: only when needed

            return FastSkin.load(self.spec, self.face, kinematics=self.kinematics)
        if solver == "graded":
            return build_graded(self.spec, self.face, self.kinematics, tolerance=tolerance)
        exact = build_skin(self.spec, self.face, self.kinematics, tolerance=tolerance)
        if solver == "fast+exact":
            from facetwin.twin.skin.fast import FastSkin

            return FastSkin.load(self.spec, self.face, kinematics=self.kinematics, backup=exact)
        return exact if solver == "exact" else LinearSkin(exact)

    def move(self, position: ArrayLike, *, fresh: bool = False) -> State:
        """Posture for motor positions [shape=(n,)] in command units.

        The exact skin starts from the last posture, as skin does, or from rest where that is nearer;
        `fresh` always starts from rest, so that the answer does not depend on the past.
        """
        at = np.asarray(position, dtype=np.float64)
        if at.shape != (self.spec.size,) or not np.isfinite(at).all():
            raise FaceTwinError(
                "not a motor position", where="move()", found=at.tolist() if at.size < 40 else at.shape,
                expected=f"{self.spec.size} finite numbers",
            )  # fmt: skip
        poses = self.kinematics.poses(at)
        if self._learned:
            shape = self.skin.shape(at)  # type: ignore[attr-defined]
            told = SolveReport(0, shape.error, shape.trust, float("nan"))
            return State(at.copy(), shape.vertices.astype(np.float64), poses, shape.gap, told)
        goals = self.kinematics.goals(at)
        seats = self.kinematics.seats(at)
        start = None if fresh or self._far(goals) else self._last
        try:
            vertices = self.skin.solve(goals, start, seats)
            report = getattr(self.skin, "report", None)
            lost = report is not None and not report.converged
        except FaceTwinError:
            if start is None:
                raise
            lost = True
        if lost and start is not None:  # from rest there may be a way where there is none from here
            vertices = self.skin.solve(goals, None, seats)
            report = getattr(self.skin, "report", None)
        self._last, self._goals = vertices, goals
        return State(at.copy(), vertices, poses, self.gap(vertices), report)

    def _far(self, goals: NDArray[np.float64]) -> bool:
        """Whether rest is a nearer start than the last posture: a jump that no face makes in a picture."""
        if self._goals is None:
            return True
        held = self.face.rest[self.kinematics.anchored]
        return bool(np.linalg.norm(goals - self._goals) > np.linalg.norm(goals - held))

    def gap(self, vertices: NDArray[np.float64]) -> float:
        """Opening between the lips in m, of skin vertices [shape=(N, 3), m]; below 0 where they overlap."""
        return lip_gap(vertices, *self._lips)

    def picture(self, state: State) -> NDArray[np.uint8]:
        """What the mirror camera sees, without noise: uint8 [shape=(H, W, 3)], RGB."""
        if self._camera is None:
            self._camera = open_camera(
                self.face, self._camera_spec, size=self._size, samples=self._samples, renderer=self._renderer
            )
        return self._camera.render(state.vertices, state.poses)

    def reset(self) -> None:
        """Forget the last posture: the next solve starts from rest."""
        self._last = self._goals = None

    def close(self) -> None:
        """Free the camera; closing twice is fine."""
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()

    def __enter__(self) -> FaceTwin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
