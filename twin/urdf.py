"""The rig table as URDF: every motor a joint of its own name, for PyBullet and whoever else loads URDF.

A motor that turns its part one to one is that part's joint. Any other motor turns a horn, and what it moves
follows: a part turned at another rate by a `mimic` joint NAME_part, a patch of skin on up to three slides
NAME_x, NAME_y, NAME_z along the face's axes, `mimic` too. URDF can only mimic in proportion, so a bent way
(`arc`) is its chord there; `BulletHead` sets the slides to the true way. A patch that rides on the jaw by a
share is mounted on skull or jaw, whichever has more of it.

Joint limits are the rig table's, in rad, speed too. The table knows no torques: `EFFORT` has those of common
servos. Masses are those of a printed head, as solid balls. No meshes: a URDF with files beside it is not one
text any more. Lengths in m, frame as the face's: x to its left, y up, z out.
"""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import Face, load_face
from facetwin.twin.spec import AXES, Motor, RigSpec

#: N m, by group: a strong servo in the neck, a standard one at the jaw, small ones elsewhere
EFFORT = {"neck": 4.0, "jaw": 1.5, "eyes": 0.2, "lids": 0.2, "brows": 0.35, "lips": 0.35}
#: kg and m: mass and radius of the ball that a link is taken for
BALLS = {"body": (3.0, 0.10), "neck": (1.5, 0.08), "skull": (1.5, 0.08), "jaw": (0.15, 0.04)}
SMALL = (0.02, 0.012)  # an eye, a lid, a horn, a slide
MASSLESS = (0.002, 0.005)  # what stands between two motors of one part
SLIDE_FORCE = 50.0  # N, of a linkage


def build_urdf(spec: RigSpec, face: Face | None = None) -> str:
    """URDF of a rig on a face, the shipped one by default.

    Raises `FaceTwinError` where a motor turns a part that the face has not.

    >>> from facetwin.twin.spec import load_rig
    >>> text = build_urdf(load_rig("face26"))
    >>> text.count('type="revolute"') - text.count('_part"')
    26
    """
    face = face or load_face()
    lines = ['<?xml version="1.0"?>', f"<robot name={quoteattr(spec.name)}>"]
    lines += _link("body")
    turned: dict[str, list[Motor]] = {name: [] for name in face.links}
    for motor in spec.motors:
        if motor.part is not None:
            if motor.part.name not in face.links:
                raise FaceTwinError(
                    "the face has no such part",
                    where=f"{spec.source}: motor {motor.name}: part",
                    found=motor.part.name,
                    expected="one of " + ", ".join(face.links),
                )
            turned[motor.part.name].append(motor)
    at = {"body": np.zeros(3)}  # where each link's frame is at rest, in the face frame
    for name, link in face.links.items():
        at[name] = link.pivot
        lines += _part(name, link.parent, link.pivot - at[link.parent], turned[name])
    for motor in spec.motors:
        if motor.part is None:
            lines += _patch(motor, face, at)
    lines.append("</robot>")
    return "\n".join(lines) + "\n"


def followers(spec: RigSpec) -> dict[str, tuple[str, int]]:
    """Joints that follow a motor: joint -> (motor, 0, 1, 2 for a slide along x, y, z, or -1 for a part)."""
    found: dict[str, tuple[str, int]] = {}
    for motor in spec.motors:
        if motor.part is not None and abs(motor.part.gain) != 1:
            found[motor.name + "_part"] = (motor.name, -1)
        for axis in _slides(motor):
            found[f"{motor.name}_{'xyz'[axis]}"] = (motor.name, axis)
    return found


def _part(name: str, parent: str, origin: NDArray[np.float64], motors: list[Motor]) -> list[str]:
    # a part turned by several motors is a chain of links, the first motor of the file nearest to the parent
    if not motors:
        return _link(name) + _joint(f"{name}_mount", "fixed", parent, name, origin)
    lines: list[str] = []
    for k, motor in enumerate(motors):
        assert motor.part is not None
        last = k == len(motors) - 1
        child = name if last else f"{motor.name}_link"
        lines += _link(child) if last else _link(child, MASSLESS)
        axis, gain = np.array(AXES[motor.part.axis]), motor.part.gain
        if abs(gain) == 1:  # at the rest angle the part stands at rest
            turn = -gain * motor.rest * axis
            lines += _joint(motor.name, "revolute", parent, child, origin, gain * axis, motor, turn=turn)
        else:
            lines += _horn(motor, parent, origin)
            low, high = sorted((gain * (motor.lower - motor.rest), gain * (motor.upper - motor.rest)))
            mimic = (motor.name, gain, -gain * motor.rest)
            limits = (low, high, EFFORT[motor.group], abs(gain) * motor.max_speed)
            lines += _joint(
                motor.name + "_part", "revolute", parent, child, origin, axis, limits=limits, mimic=mimic
            )
        parent, origin = child, np.zeros(3)
    return lines


def _patch(motor: Motor, face: Face, at: dict[str, NDArray[np.float64]]) -> list[str]:
    pull = motor.pull
    if pull is None:  # a motor that the table leaves without a task
        return _horn(motor, "skull", np.zeros(3))
    carrier = "jaw" if pull.carrier == "jaw" and pull.share > 0.5 else "skull"
    place = face.rest[list(pull.landmarks)].mean(0) - at[carrier]
    lines = _horn(motor, carrier, place)
    parent, origin = carrier, place
    commands = np.linspace(0, 1, 41)
    way = pull.displacement(commands, motor.rest_command)  # (41, 3)
    slides = _slides(motor)
    for axis in slides:
        last = axis == slides[-1]
        name = f"{motor.name}_{'xyz'[axis]}"
        child = f"{motor.name}_patch" if last else f"{name}_link"
        slope = float(way[-1, axis] - way[0, axis]) / motor.span
        limits = (
            float(way[:, axis].min()) - 1e-6, float(way[:, axis].max()) + 1e-6, SLIDE_FORCE,
            max(abs(slope) * motor.max_speed, 1e-3),
        )  # fmt: skip
        mimic = (motor.name, slope, float(way[0, axis]) - slope * motor.lower)
        lines += _link(child, MASSLESS)
        unit = np.eye(3)[axis]
        lines += _joint(name, "prismatic", parent, child, origin, unit, limits=limits, mimic=mimic)
        parent, origin = child, np.zeros(3)
    return lines


def _slides(motor: Motor) -> list[int]:
    if motor.pull is None:
        return []
    way = motor.pull.displacement(np.linspace(0, 1, 41), motor.rest_command)
    return [axis for axis in range(3) if np.ptp(way[:, axis]) > 1e-9]


def _horn(motor: Motor, parent: str, origin: NDArray[np.float64]) -> list[str]:
    child = f"{motor.name}_horn"
    return _link(child, MASSLESS) + _joint(
        motor.name, "revolute", parent, child, origin, np.array([1.0, 0.0, 0.0]), motor
    )


def _link(name: str, ball: tuple[float, float] | None = None) -> list[str]:
    mass, radius = ball or BALLS.get(name, SMALL)
    i = 0.4 * mass * radius**2
    inertia = f'<inertia ixx="{i:.6g}" iyy="{i:.6g}" izz="{i:.6g}" ixy="0" ixz="0" iyz="0"/>'
    return [f'  <link name="{name}"><inertial><mass value="{mass:g}"/>{inertia}</inertial></link>']


def _joint(
    name: str,
    kind: str,
    parent: str,
    child: str,
    origin: NDArray[np.float64],
    axis: NDArray[np.float64] | None = None,
    motor: Motor | None = None,
    *,
    limits: tuple[float, float, float, float] | None = None,
    mimic: tuple[str, float, float] | None = None,
    turn: NDArray[np.float64] | None = None,
) -> list[str]:
    def text(vector: NDArray[np.float64]) -> str:
        return " ".join(f"{x:.9g}" for x in vector + 0.0)  # no -0

    # a turn about one axis is its own roll, pitch, yaw
    lines = [f'  <joint name="{name}" type="{kind}">']
    lines.append(f'    <origin xyz="{text(origin)}" rpy="{text(np.zeros(3) if turn is None else turn)}"/>')
    lines.append(f'    <parent link="{parent}"/><child link="{child}"/>')
    if axis is not None:
        lines.append(f'    <axis xyz="{text(axis)}"/>')
    if motor is not None:
        limits = (motor.lower, motor.upper, EFFORT[motor.group], motor.max_speed)
    if limits is not None:
        low, high, effort, speed = limits
        lines.append(
            f'    <limit lower="{low:.12g}" upper="{high:.12g}" effort="{effort:g}" velocity="{speed:.6g}"/>'
        )
    if mimic is not None:
        lines.append(f'    <mimic joint="{mimic[0]}" multiplier="{mimic[1]:.9g}" offset="{mimic[2]:.9g}"/>')
    lines.append("  </joint>")
    return lines
