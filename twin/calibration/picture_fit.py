"""Camera, light, horns and skin from pictures: the twin's own pictures are drawn until they are the film's.

Landmarks alone do not tell a camera that stands aside from a head that is turned, a tracker knows little of
lids, and it sees the same face elsewhere under another light (half a millimetre here, more than all else that
a calibration leaves). Pixels tell all of it: collar and shoulders stand still however the head is turned,
shading says where the light comes from, and lids and lips have edges. Gauss-Newton, with differences of
pictures of the fast renderer, from blurred small pictures to sharp ones, robust against what the twin does
not have.

Meant for films that the twin can be made to look like. Where it cannot (a face of other colours), the
difference that is left says so, and who calls must go by landmarks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from facetwin.twin.calibration.parameters import PRIOR, SCALE, TRIM
from facetwin.twin.errors import UsageError
from facetwin.twin.face import Face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.raster import RasterCamera
from facetwin.twin.spec import CameraSpec, RigSpec
from facetwin.twin.spec_parts import SERVO

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class _Key:
    """A key of ``[camera.NAME]``: sd before anything was seen, step of the differences, factor or not."""

    name: str
    prior: float
    step: float
    factor: bool = False


#: height and depth of the camera's place are told by two keys each: one is left alone. So is the light's
#: intensity: only its products with the exposure show
KEYS = (
    _Key("position_error.0", 0.01, 2e-3), _Key("position_error.1", 0.01, 2e-3),
    _Key("rotation_error.0", 0.02, 3e-3), _Key("rotation_error.1", 0.02, 3e-3),
    _Key("rotation_error.2", 0.02, 3e-3),
    _Key("distance", 0.08, 0.01, True), _Key("vertical_fov", 0.06, 0.01, True),
    _Key("exposure", 0.4, 0.02, True), _Key("light.ambient", 0.4, 0.03, True),
    _Key("light.direction.0", 0.4, 0.03), _Key("light.direction.1", 0.3, 0.03),
    *(_Key(f"background.{k}", 0.3, 0.02) for k in range(3)),
)  # fmt: skip
#: rad: step of the differences along a motor
TURN = 0.015
#: e-folds: sd of what else changes the skin's shape, and the step of its differences
SHAPE, SHAPE_STEP = 0.3, 0.3


@dataclass(frozen=True)
class Stage:
    """One look at the pictures.

    Attributes
    ----------
    width, blur : px
        The film's own width where that is less.
    pixel : of 1
        Difference that counts as one sigma: neighbours are wrong together.
    steps : int, at most
    """

    width: int
    blur: float
    pixel: float
    steps: int


#: for a face at rest of which nothing is known, and for many pictures of one that is nearly known
AT_REST = (Stage(64, 2.0, 0.4, 20), Stage(128, 2.0, 0.2, 8), Stage(256, 2.0, 0.1, 6))
IN_MOTION = (Stage(128, 1.5, 0.2, 3),)
#: of 1: from here on differences count linearly
ROUGH = 0.06
#: of 1, root mean square over the pictures: what is left where the film shows another face
ALIKE = 0.06


@dataclass(frozen=True)
class Views:
    """Pictures of the film, and the twin in them as far as it is known.

    Attributes
    ----------
    film : float64 [shape=(K, H, W, 3), 0 .. 1]
    positions : float64 [shape=(K, n), commands]
        Where the motors stand.
    levers : float64 [shape=(K, n), commands]
        How far from rest they are by their shafts: what `scale` multiplies.
    vertices : float64 [shape=(K, N, 3), m]
        The skin there, in the skull's frame.
    slopes : float64 [shape=(n, N, 3), m / command]
        What each motor does to it, about.
    shapes : float64 [shape=(K, q, N, 3), m]
        What other parameters of the skin do to it, for each e-fold of theirs, about; q may be 0.
    keys : q of str
        Those parameters, as keys of the table.
    """

    film: Floats
    positions: Floats
    levers: Floats
    vertices: Floats
    slopes: Floats
    shapes: Floats
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureFit:
    """What was found.

    Attributes
    ----------
    changes : dict of key of the table -> value
        camera.NAME.KEY, motor.NAME.trim and .scale (rad, 1).
    factors : dict of key of the table -> factor
        For those of the skin.
    before, after : float
        Root mean square of pixel differences, of 1, as the last stage looks.
    known : dict of key -> share of the prior's spread that is left
        Of the pixels alone, as if they were independent within `pixel`: for telling what shows from what does
        not, not for intervals.
    """

    changes: dict[str, float]
    factors: dict[str, float]
    before: float
    after: float
    known: dict[str, float]

    @property
    def alike(self) -> bool:
        """Whether the twin could be made to look like the film."""
        return self.after <= ALIKE


def fit_pictures(
    views: Views,
    spec: RigSpec,
    begin: RigSpec,
    face: Face,
    *,
    camera: str = "mirror",
    stages: Sequence[Stage] = AT_REST,
    tell: Callable[[int], object] = lambda _: None,
) -> PictureFit:
    """What makes the twin's pictures the film's: camera, light, each motor's trim and scale, skin.

    Parameters
    ----------
    spec : RigSpec
        The table: priors are around it.
    begin : RigSpec
        The rig whose motors and skin `views` has; its camera is begun from.
    """
    scene = _Scene(views, spec, begin, face, camera)
    z = scene.begin()
    first = z.copy()
    for stage in stages:
        scene.focus(stage)
        z, matrix = _descend(scene, z, stage.steps, tell)
    sd = np.sqrt(np.maximum(np.diag(np.linalg.inv(matrix)), 0)) / scene.prior
    trims, scales, shapes = scene.parts(z)
    changes = {f"camera.{camera}.{key}": value for key, value in scene.changes(z).items()}
    for what, values in (("trim", trims), ("scale", scales)):
        low, high, _ = SERVO[what]
        changes |= {
            f"motor.{name}.{what}": min(max(v, low), high) for name, v in zip(spec.names, values.tolist())
        }
    factors = np.exp(np.clip(shapes, -1.0, 1.0)).tolist()
    return PictureFit(
        {key: float(f"{value:.6g}") for key, value in changes.items()},
        dict(zip(views.keys, factors)), scene.off(first), scene.off(z),
        dict(zip([*changes, *views.keys], sd.tolist())),
    )  # fmt: skip


def _descend(scene: _Scene, z: Floats, steps: int, tell: Callable[[int], object]) -> tuple[Floats, Floats]:
    # Damped Gauss-Newton steps; the matrix of the last one, priors included.
    damping = 1e-3
    matrix = np.eye(len(z))
    for _ in range(steps):
        cost, matrix, right = scene.normal(z)
        tell(1)
        for _ in range(5):
            step = np.linalg.solve(matrix + damping * np.diag(np.diag(matrix)), right)
            after = scene.cost(z + step)
            if after < cost:
                break
            damping *= 10
        else:
            break
        z, damping = z + step, max(damping / 10, 1e-6)
        if cost - after < 1e-4 * cost:
            break
    return z, matrix


class _Scene:
    """The twin in some pictures, and how they differ from the film, for numbers z around the table's.

    z: the keys of the camera, trims (rad), scales, shapes.
    """

    def __init__(self, views: Views, spec: RigSpec, begin: RigSpec, face: Face, camera: str) -> None:
        self.views, self.face, self.name = views, face, camera
        self.spec, self._begin = spec, begin
        self._table = [spec.number(f"camera.{camera}.{key.name}") for key in KEYS]
        self._kinematics = Kinematics(spec, face)
        n, self._extra = spec.size, views.shapes.shape[1]
        self.prior = np.concatenate(
            [[key.prior for key in KEYS], np.full(n, PRIOR[TRIM]), np.full(n, PRIOR[SCALE]),
             np.full(self._extra, SHAPE)]
        )  # fmt: skip
        self._trims = [np.array([m.trim for m in rig.motors]) for rig in (spec, begin)]
        self._scales = [np.array([m.scale for m in rig.motors]) for rig in (spec, begin)]

    def begin(self) -> Floats:
        """z of the rig to begin from."""
        camera = []
        for key, old in zip(KEYS, self._table):
            new = self._begin.number(f"camera.{self.name}.{key.name}")
            camera.append(np.log(new / old) if key.factor else new - old)
        trims, scales = (both[1] - both[0] for both in (self._trims, self._scales))
        return np.concatenate([camera, trims, scales, np.zeros(self._extra)])

    def parts(self, z: Floats) -> tuple[Floats, Floats, Floats]:
        """Trims (rad), scales, shapes."""
        n, k = self.spec.size, len(KEYS)
        return self._trims[0] + z[k : k + n], self._scales[0] + z[k + n : k + 2 * n], z[k + 2 * n :]

    def focus(self, stage: Stage) -> None:
        """Look at the pictures like this from now on."""
        height, whole = self.views.film.shape[1:3]
        width = min(stage.width, whole)
        self._size = (width, max(1, round(height * width / whole)))
        self._blur, self._pixel = stage.blur, stage.pixel
        self._every = max(1, int(stage.blur))  # what is blurred so far needs no more
        self._goal = [
            self._blurred(cv2.resize(one, self._size, interpolation=cv2.INTER_AREA))
            for one in self.views.film
        ]

    def changes(self, z: Floats) -> dict[str, float]:
        """Keys of the camera and their values."""
        out = {}
        for key, old, value in zip(KEYS, self._table, z):
            new = old * float(np.exp(value)) if key.factor else old + float(value)
            out[key.name] = min(max(new, 0.0), 1.0) if key.name.startswith("background") else new
        return out

    def camera(self, z: Floats) -> RasterCamera:
        """The camera with its light."""
        changes = {f"camera.{self.name}.{key}": value for key, value in self.changes(z).items()}
        lens: CameraSpec = self.spec.with_(changes).cameras[self.name]
        return RasterCamera(self.face, lens, size=self._size)

    def _stand(self, z: Floats, k: int) -> tuple[Floats, Floats]:
        # Positions and vertices of picture k.
        trims, scales, shapes = self.parts(z)
        more = (trims - self._trims[1]) / self.spec.span + (scales - self._scales[1]) * self.views.levers[k]
        vertices = self.views.vertices[k] + np.tensordot(more, self.views.slopes, 1)  # (N, 3)
        vertices += np.tensordot(shapes, self.views.shapes[k], 1)
        return self.views.positions[k] + more, vertices

    def _picture(self, camera: RasterCamera, positions: Floats, vertices: Floats) -> Singles:
        image = camera.render(vertices, self._kinematics.poses(positions))
        return self._blurred(image / 255.0)

    def cost(self, z: Floats) -> float:
        """What is minimised; infinite where no rig table would take such numbers."""
        total = 0.5 * float(((z / self.prior) ** 2).sum())
        try:
            camera = self.camera(z)
        except UsageError:
            return float("inf")
        with camera:
            for k, goal in enumerate(self._goal):
                total += self._cost(self._picture(camera, *self._stand(z, k)) - goal)
        return total

    def off(self, z: Floats) -> float:
        """Root mean square of the differences, of 1."""
        with self.camera(z) as camera:
            squares = [
                ((self._picture(camera, *self._stand(z, k)) - goal) ** 2).mean()
                for k, goal in enumerate(self._goal)
            ]
        return float(np.sqrt(np.mean(squares)))

    def _cost(self, off: Singles) -> float:
        # Squares of small differences, the size of large ones.
        return float((np.sqrt(1 + (off / ROUGH) ** 2) - 1).sum(dtype=np.float64) * (ROUGH / self._pixel) ** 2)

    def normal(self, z: Floats) -> tuple[float, Floats, Floats]:
        """Cost, matrix and right side of a step, priors included."""
        cost = 0.5 * float(((z / self.prior) ** 2).sum())
        matrix, right = np.diag(1 / self.prior**2), -z / self.prior**2
        c, n, span = len(KEYS), self.spec.size, self.spec.span
        others = []
        for k, key in enumerate(KEYS):
            other = z.copy()
            other[k] += key.step
            others.append(self.camera(other))
        own = self.camera(z)
        for k, goal in enumerate(self._goal):
            positions, vertices = self._stand(z, k)
            here = self._picture(own, positions, vertices)
            off = here - goal
            cost += self._cost(off)
            weight = (1 / np.sqrt(1 + (off / ROUGH) ** 2) / self._pixel**2).ravel()
            columns = np.empty((off.size, c + 2 * n + self._extra), np.float32)
            for a, camera in enumerate(others):
                there = self._picture(camera, positions, vertices)
                columns[:, a] = ((there - here) / KEYS[a].step).ravel()
            for i in range(n):
                step = np.zeros(n)
                step[i] = TURN / span[i]
                way = step[i] * self.views.slopes[i]
                more = self._picture(own, positions + step, vertices + way)
                less = self._picture(own, positions - step, vertices - way)
                columns[:, c + i] = ((more - less) / (2 * TURN)).ravel()
            # a scale acts as a trim times its lever
            columns[:, c + n : c + 2 * n] = columns[:, c : c + n] * (span * self.views.levers[k])
            for q in range(self._extra):
                there = self._picture(own, positions, vertices + SHAPE_STEP * self.views.shapes[k, q])
                columns[:, c + 2 * n + q] = ((there - here) / SHAPE_STEP).ravel()
            matrix += columns.T @ (columns * weight[:, None])
            right -= columns.T @ (weight * off.ravel())
        return cost, matrix, right

    def _blurred(self, image: Floats) -> Singles:
        smooth = gaussian_filter(image.astype(np.float32), (self._blur, self._blur, 0), mode="nearest")
        out: Singles = smooth[:: self._every, :: self._every]
        return out
