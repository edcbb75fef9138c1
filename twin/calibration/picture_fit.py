"""Camera and light from pictures: the twin's own picture of its rest face is drawn until it is the film's.

Landmarks alone do not tell a camera that stands aside from a head that is turned, and a tracker sees the
same face elsewhere under another light (half a millimetre here, more than all else that a calibration
leaves). Pixels tell both: collar and shoulders stand still however the head is turned, and shading says
where the light comes from. From coarse to fine: blurred small pictures first, by Gauss-Newton steps with
differences, each of them one picture of the fast renderer.

Meant for films that the twin can be made to look like. Where it cannot (a face of other colours), the
difference that is left says so, and who calls must go by landmarks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from facetwin.twin.face import Face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.raster import RasterCamera
from facetwin.twin.spec import CameraSpec, RigSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Key:
    """A key of ``[camera.NAME]``: sd before anything was seen, step of the differences, as a factor or not."""

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
#: rad: of a part's stand at rest, and the step of its differences
STAND, STAND_STEP = 0.06, 4e-3
#: px: widths of the pictures from coarse to fine (those that the film has), blur, most steps
STAGES = ((64, 2.0, 25), (128, 2.0, 12), (256, 2.0, 8))
#: of 1: difference of a pixel that counts as one sigma, as many neighbours are wrong together; from
#: `ROUGH` on differences count linearly
PIXEL, ROUGH = 0.4, 0.06
#: of 1, root mean square over the picture: what is left where the film shows another face
ALIKE = 0.06


@dataclass(frozen=True)
class PictureFit:
    """What was found.

    Attributes
    ----------
    camera : CameraSpec
    changes : dict of key of ``[camera.NAME]`` -> value
    stands : dict of motor number -> rad
        Trim of each motor that turns a rigid part (neck, eyes, lids): how far off its rest it stands.
    before, after : float
        Root mean square of pixel differences, of 1, blurred by the last stage.
    known : dict of key -> share of the prior's spread that is left
    """

    camera: CameraSpec
    changes: dict[str, float]
    stands: dict[int, float]
    before: float
    after: float
    known: dict[str, float]

    @property
    def alike(self) -> bool:
        """Whether the twin could be made to look like the film."""
        return self.after <= ALIKE


def rigid_motors(spec: RigSpec) -> list[int]:
    """Motors that turn a part which takes no skin along: neck, eyes, lids."""
    return [i for i, m in enumerate(spec.motors) if m.part is not None and m.part.name != "jaw"]


def fit_picture(
    film: NDArray[np.number],
    spec: RigSpec,
    begin: RigSpec,
    face: Face,
    vertices: Floats,
    *,
    camera: str = "mirror",
    stages: Sequence[tuple[int, float, int]] = STAGES,
) -> PictureFit:
    """Camera, light and stand of the rigid parts that make the twin's picture the film's.

    Parameters
    ----------
    film : [shape=(H, W, 3), 0 .. 255]
        Mean of pictures of the rest face, as the camera gives them.
    spec : RigSpec
        The table's camera: priors are around it.
    begin : RigSpec
        Its camera and the trims of its rigid parts are begun from.
    vertices : float64 [shape=(N, 3), m]
        Skin at rest, in the skull's frame.
    stages : of (width in px, blur in px, most steps)
        The last one is the film's own width if that is less than it says.
    """
    scene = _Scene(np.asarray(film, np.float64) / 255, spec, begin, face, vertices, camera)
    z = scene.begin()
    first = z.copy()
    for width, blur, steps in stages:
        scene.focus(min(width, film.shape[1]), blur)
        found = least_squares(
            scene.wrong, z, jac=scene.slopes, x_scale=scene.prior, loss="soft_l1", f_scale=ROUGH / PIXEL,
            max_nfev=steps, ftol=1e-5, xtol=1e-4,
        )  # fmt: skip
        z = found.x
    sd = np.sqrt(np.maximum(np.diag(np.linalg.inv(found.jac.T @ found.jac)), 0)) / scene.prior
    changes = scene.changes(z)
    names = [key.name for key in KEYS] + [spec.motors[i].name for i in scene.motors]
    return PictureFit(
        scene.camera(z), {key: float(f"{value:.6g}") for key, value in changes.items()},
        {i: float(v) for i, v in zip(scene.motors, scene.stands(z))},
        scene.off(first), scene.off(z), dict(zip(names, sd.tolist())),
    )  # fmt: skip


class _Scene:
    """The twin at rest, and how its picture differs from the film's, for numbers z around the table's."""

    def __init__(
        self, film: Floats, spec: RigSpec, begin: RigSpec, face: Face, vertices: Floats, camera: str
    ) -> None:
        self.face, self.vertices, self.name = face, vertices, camera
        self.spec, self.table = spec, spec.cameras[camera]
        self._film, self._begin = film, begin
        self._kinematics = Kinematics(spec, face)
        self.motors = rigid_motors(spec)
        self.prior = np.array([key.prior for key in KEYS] + [STAND] * len(self.motors))
        self._step = np.array([key.step for key in KEYS] + [STAND_STEP] * len(self.motors))

    def begin(self) -> Floats:
        """z of the camera and the trims to begin from."""
        there = self._begin.cameras[self.name]
        z = np.zeros(len(self.prior))
        for k, key in enumerate(KEYS):
            old, new = _get(self.table, key.name), _get(there, key.name)
            z[k] = np.log(new / old) if key.factor else new - old
        z[len(KEYS) :] = self._trims(self._begin) - self._trims(self.spec)
        return z

    def _trims(self, spec: RigSpec) -> Floats:
        return np.array([spec.motors[i].trim for i in self.motors])

    def stands(self, z: Floats) -> Floats:
        """How far off their rest the rigid parts stand, float64 [shape=(k,), rad]."""
        return self._trims(self.spec) + z[len(KEYS) :]

    def focus(self, width: int, blur: float) -> None:
        """Look at pictures of this width from now on, blurred by so many px."""
        height, whole = self._film.shape[:2]
        self._size = (width, max(1, round(height * width / whole)))
        self._blur = blur
        self._goal = self._blurred(_shrunk(self._film, self._size))

    def changes(self, z: Floats) -> dict[str, float]:
        """Keys of the camera and their values."""
        out = {}
        for key, value in zip(KEYS, z):
            old = _get(self.table, key.name)
            new = old * float(np.exp(value)) if key.factor else old + float(value)
            out[key.name] = min(max(new, 0.0), 1.0) if key.name.startswith("background") else new
        return out

    def camera(self, z: Floats) -> CameraSpec:
        """The camera with its light."""
        changes = {f"camera.{self.name}.{key}": value for key, value in self.changes(z).items()}
        return self.spec.with_(changes).cameras[self.name]

    def picture(self, z: Floats) -> Floats:
        """The twin's picture, 0 .. 1, (H, W, 3)."""
        position = self.spec.rest.copy()
        position[self.motors] += self.stands(z) / self.spec.span[self.motors]
        with RasterCamera(self.face, self.camera(z), size=self._size) as camera:
            image = camera.render(self.vertices, self._kinematics.poses(position))
        return image / 255.0

    def wrong(self, z: Floats) -> Floats:
        """Differences in sigma, then what priors say."""
        off = (self._blurred(self.picture(z)) - self._goal) / PIXEL
        return np.concatenate([off.ravel(), z / self.prior])

    def slopes(self, z: Floats) -> Floats:
        """Derivatives of `wrong`, by differences to both sides."""
        out = np.empty((self._goal.size + len(z), len(z)))
        for k, step in enumerate(self._step):
            more, less = z.copy(), z.copy()
            more[k] += step
            less[k] -= step
            out[:, k] = (self.wrong(more) - self.wrong(less)) / (2 * step)
        return out

    def off(self, z: Floats) -> float:
        """Root mean square of the differences, of 1."""
        return float(np.sqrt(((self._blurred(self.picture(z)) - self._goal) ** 2).mean()))

    def _blurred(self, image: Floats) -> Floats:
        out: Floats = gaussian_filter(image, (self._blur, self._blur, 0), mode="nearest")
        return out


def _get(camera: CameraSpec, key: str) -> float:
    value: Any = camera
    for part in key.split("."):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    return float(value)


def _shrunk(image: Floats, size: tuple[int, int]) -> Floats:
    # Means over areas where it goes evenly, else the nearest pixels of a blurred picture.
    (height, width), (w, h) = image.shape[:2], size
    if (width, height) == size:
        return image
    if width % w == 0 and height % h == 0:
        out: Floats = image.reshape(h, height // h, w, width // w, 3).mean((1, 3))
        return out
    smooth = gaussian_filter(image, (0.4 * height / h, 0.4 * width / w, 0), mode="nearest")
    rows = ((np.arange(h) + 0.5) * height / h).astype(np.intp)
    columns = ((np.arange(w) + 0.5) * width / w).astype(np.intp)
    shrunk: Floats = smooth[np.ix_(rows, columns)]
    return shrunk
