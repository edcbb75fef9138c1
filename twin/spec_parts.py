"""What a rig table is made of: motors, pulls, anchors, couplings, cameras, material. Plain values, unchecked.

`facetwin.twin.spec` gives all of them too; `facetwin.twin.spec_read` checks them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

GROUPS = ("neck", "eyes", "lids", "brows", "jaw", "lips")
PARTS = (
    "neck", "jaw", "right_eye", "left_eye",
    "right_upper_lid", "right_lower_lid", "left_upper_lid", "left_lower_lid",
)  # fmt: skip
#: right-hand rotations in the face frame: yaw turns the nose to the face's left, pitch the nose down,
#: roll the face's left side up
AXES = {"pitch": (1.0, 0.0, 0.0), "yaw": (0.0, 1.0, 0.0), "roll": (0.0, 0.0, 1.0)}
CARRIERS = ("skull", "jaw")

#: what every motor has: key -> (lowest, highest, whether it is an angle)
SERVO = {
    "max_speed": (1e-3, 1e3, True),
    "max_acceleration": (1e-2, 1e6, True),
    "dead_band": (0.0, 0.5, True),
    "backlash": (0.0, 0.5, True),
    "latency": (0.0, 1.0, False),
    "natural_frequency": (0.1, 200.0, False),
    "damping_ratio": (0.1, 5.0, False),
    "scale": (0.2, 5.0, False),
    "trim": (-1.0, 1.0, True),
}
#: what a motor has of them when the file says nothing
EXACT = {"scale": 1.0, "trim": 0.0}

Vector = tuple[float, float, float]
Range = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """A rigid part turned by a motor: the part turns `gain` x (motor angle - its rest angle) about `axis`."""

    name: str
    axis: str
    gain: float


@dataclass(frozen=True)
class Pull:
    """A patch of skin pulled by a motor.

    Attributes
    ----------
    landmarks : tuple of int
        MediaPipe indices; skin within `radius` (m) of any of them at rest belongs to the patch.
    direction : unit vector, or None when `arc` is given
        Way of the patch for rising commands, face frame of its carrier.
    travel : float, m
        Way over the whole command range.
    arc : tuple of 2 to 5 points, m, or None
        A bent way: places of the patch evenly spaced over the command range, joined by the one
        polynomial through them. Only differences count: the patch is at its rest place at the rest command.
    stiffness : float, N/m per vertex
        Of magnet and linkage; inf means that the skin goes exactly where it is pulled.
    carrier : str, share : float in [0, 1]
        The patch rides on `carrier` by `share` of its motion, and on the skull by the rest.
    """

    landmarks: tuple[int, ...]
    radius: float
    direction: Vector | None
    travel: float
    arc: tuple[Vector, ...] | None
    stiffness: float
    carrier: str
    share: float

    def displacement(self, command: ArrayLike, rest: float) -> NDArray[np.float64]:
        """Way of the patch from its rest place at `command` [shape=(...)] -> (..., 3), m, in the carrier."""
        c = np.asarray(command, dtype=np.float64)[..., None]  # (..., 1)
        if self.arc is None:
            return self.travel * (c - rest) * np.asarray(self.direction)
        points = np.asarray(self.arc)  # (k, 3)
        return _lagrange(points, c) - _lagrange(points, np.full(1, rest))


@dataclass(frozen=True)
class Anchor:
    """A patch of skin glued to a rigid carrier, pulled by no motor (fields as in `Pull`)."""

    name: str
    landmarks: tuple[int, ...]
    radius: float
    carrier: str
    share: float
    stiffness: float


@dataclass(frozen=True)
class Motor:
    """One motor of the rig table.

    Angles in rad, `max_speed` rad/s, `max_acceleration` rad/s2, `latency` s, `natural_frequency` Hz.
    Command 0 is `lower`, 1 is `upper`. The servo itself stands at `sign` x angle (drivers alone need that).
    What is mounted on the shaft turns `scale` x as far from rest as the shaft does, and stands `trim` (rad)
    off: 1 and 0 on a rig without errors.
    """

    name: str
    group: str
    bus: int
    channel: int
    lower: float
    upper: float
    rest: float
    sign: int
    max_speed: float
    max_acceleration: float
    dead_band: float
    backlash: float
    latency: float
    natural_frequency: float
    damping_ratio: float
    scale: float = 1.0
    trim: float = 0.0
    part: Part | None = None
    pull: Pull | None = None

    @property
    def span(self) -> float:
        """Angle from command 0 to command 1, rad."""
        return self.upper - self.lower

    @property
    def rest_command(self) -> float:
        """The rest angle as a command in [0, 1]."""
        return (self.rest - self.lower) / self.span


@dataclass(frozen=True)
class BoxRule:
    """Commands that are forbidden together: all motors of `when` strictly inside their ranges at once.

    A range that reaches 0 or 1 includes it; the other ends are allowed, so that a nearest allowed
    command exists.
    """

    name: str
    when: tuple[tuple[str, Range], ...]
    why: str = ""


@dataclass(frozen=True)
class LinearRule:
    """Commands must satisfy sum(weight x command) <= at_most."""

    name: str
    weights: tuple[tuple[str, float], ...]
    at_most: float
    why: str = ""


@dataclass(frozen=True)
class LightSpec:
    """Light of the scene: where it comes from (face frame), its strength, and the share from everywhere."""

    direction: Vector = (-0.4, 0.6, 1.0)
    intensity: float = 1.0
    ambient: float = 0.35


@dataclass(frozen=True)
class CameraSpec:
    """A camera that looks at the face, by default through a mirror.

    Attributes
    ----------
    width, height : int, px
    vertical_fov : float, rad
    distance : float, m
        From camera to glass, and from face to glass (so the face is seen at twice that); with
        `mirror` false, from camera to face.
    elevation : float, m
        The camera looks level at this height of the face frame.
    mirror : bool
        The picture is flipped left-right.
    delay : float, s
        From exposure until the picture can be had.
    rate : float, Hz
        Pictures are exposed at multiples of 1 / rate; 0: whenever one is asked for.
    noise : float
        Standard deviation of each pixel value, in steps of 1/255.
    exposure : float
        Factor on the linear brightness.
    position_error : vector, m; rotation_error : vector, rad
        How far the camera stands from where it should.
    background : three numbers in [0, 1], RGB
    """

    width: int
    height: int
    vertical_fov: float
    distance: float
    elevation: float
    mirror: bool
    delay: float
    rate: float
    noise: float
    exposure: float
    position_error: Vector
    rotation_error: Vector
    background: Vector
    light: LightSpec


@dataclass(frozen=True)
class Material:
    """The skin: Young's modulus (Pa), thickness (m), density (kg/m3), foundation (Pa/m).

    `foundation` is the stiffness of whatever lies between skin and skull, per area.
    """

    young: float
    thickness: float
    density: float
    foundation: float


@dataclass(frozen=True)
class SkinTime:
    """How the skin takes its time (`facetwin.twin.dynamics`); the defaults take none.

    Attributes
    ----------
    creep_share : float in [0, 1)
        Share of the way that free skin creeps; it goes the rest at once.
    creep_time : float, s
        Time constant of the creep.
    modes : int
        Number of lowest modes of the skin that swing; 0: none.
    mode_damping : float
        Damping ratio of each of them.
    """

    creep_share: float = 0.0
    creep_time: float = 0.3
    modes: int = 0
    mode_damping: float = 0.1

    @property
    def still(self) -> bool:
        """Whether the skin takes no time at all."""
        return self.creep_share == 0 and self.modes == 0


def broken(rule: BoxRule | LinearRule, command: Mapping[str, float], tolerance: float = 1e-9) -> bool:
    """Whether a command, given motor by motor, breaks a rule."""
    if isinstance(rule, LinearRule):
        norm = math.sqrt(sum(w * w for _, w in rule.weights))
        return sum(w * command[n] for n, w in rule.weights) > rule.at_most + tolerance * norm
    return all(
        (low <= 0 or command[n] > low) and (high >= 1 or command[n] < high) for n, (low, high) in rule.when
    )


def _lagrange(points: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.float64]:
    nodes = np.linspace(0.0, 1.0, len(points))
    total = np.zeros((*c.shape[:-1], 3))
    for i, point in enumerate(points):
        others = np.delete(nodes, i)
        total = total + np.prod((c - others) / (nodes[i] - others), axis=-1, keepdims=True) * point
    return total
