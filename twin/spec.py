"""The rig table: motors, what they pull, couplings, cameras and material, read from one TOML file.

DESIGN section 4. Everything is checked at load; an error names the file, the key, the value and the
range. A `RigSpec` never changes: `with_` returns a changed copy, checked again. Angles are radians once
loaded, whatever `angle_unit` the file uses.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin import assets
from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import MESH_POINTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

GROUPS = ("neck", "eyes", "lids", "brows", "jaw", "lips")
PARTS = (
    "neck", "jaw", "right_eye", "left_eye",
    "right_upper_lid", "right_lower_lid", "left_upper_lid", "left_lower_lid",
)  # fmt: skip
#: right-hand rotations in the face frame: yaw turns the nose to the face's left, pitch the nose down,
#: roll the face's left side up
AXES = {"pitch": (1.0, 0.0, 0.0), "yaw": (0.0, 1.0, 0.0), "roll": (0.0, 0.0, 1.0)}
CARRIERS = ("skull", "jaw")

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
class RigSpec:
    """A rig: everything that twin, safety layer and drivers need to know of it (see the module's head)."""

    name: str
    motors: tuple[Motor, ...]
    anchors: tuple[Anchor, ...]
    couplings: tuple[BoxRule | LinearRule, ...]
    cameras: dict[str, CameraSpec]
    material: Material
    limits: dict[str, Range]
    ranges: dict[str, Range]
    feedback: bool
    source: str = field(default="", compare=False)

    @property
    def size(self) -> int:
        """Number of motors."""
        return len(self.motors)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the motors, in order."""
        return tuple(m.name for m in self.motors)

    @cached_property
    def rest(self) -> NDArray[np.float64]:
        """The rest command, float64 [shape=(n,)] in [0, 1], read-only."""
        return _frozen([m.rest_command for m in self.motors])

    @cached_property
    def lower(self) -> NDArray[np.float64]:
        """Angles at command 0, float64 [shape=(n,), rad], read-only."""
        return _frozen([m.lower for m in self.motors])

    @cached_property
    def span(self) -> NDArray[np.float64]:
        """Angles from command 0 to command 1, float64 [shape=(n,), rad], read-only."""
        return _frozen([m.span for m in self.motors])

    @cached_property
    def soft_limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest command that the safety layer lets through, two float64 [shape=(n,)]."""
        pairs = [self.limits.get(name, (0.0, 1.0)) for name in self.names]
        return _frozen([p[0] for p in pairs]), _frozen([p[1] for p in pairs])

    @cached_property
    def hash(self) -> str:
        """Sha256 (hex) of the content, whatever the file's layout, comments and angle unit."""
        text = json.dumps(_canonical(self.to_dict()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def index(self, name: str) -> int:
        """Place of a motor in every command; raises `UsageError` for an unknown name."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UsageError(
                "no such motor", where=self.name, found=name, hint=_suggest(name, self.names)
            ) from None

    def group(self, name: str) -> NDArray[np.intp]:
        """Places of the motors of a group (neck, eyes, lids, brows, jaw, lips), intp [shape=(k,)]."""
        if name not in GROUPS:
            raise UsageError(
                "no such group", where=self.name, found=name, expected="one of " + ", ".join(GROUPS)
            )
        return np.array([i for i, m in enumerate(self.motors) if m.group == name], dtype=np.intp)

    def to_radians(self, command: ArrayLike) -> NDArray[np.float64]:
        """Command [shape=(..., n)] to angles [shape=(..., n), rad]."""
        return self.lower + np.asarray(command, dtype=np.float64) * self.span

    def to_command(self, radians: ArrayLike) -> NDArray[np.float64]:
        """Angles [shape=(..., n), rad] to command [shape=(..., n)]; not clipped."""
        return (np.asarray(radians, dtype=np.float64) - self.lower) / self.span

    def to_dict(self) -> dict[str, Any]:
        """The content as plain dicts and lists, in SI units (what `hash` is taken of)."""
        content = asdict(self)
        del content["source"]
        return content

    def with_(self, changes: Mapping[str, Any] | None = None, **more: Any) -> RigSpec:
        """A changed copy, checked like a file.

        Parameters
        ----------
        changes, more
            Dotted keys to new values: ``material.young``, ``camera.mirror.noise``, ``motor.jaw.latency``,
            ``motor.jaw.pull.travel``, ``anchor.forehead.share``, ``limits.jaw``, ``ranges.KEY``, ``name``;
            ``servo.latency`` changes every motor; ``couplings`` takes a whole new tuple of rules. Angles
            in rad. As keyword, a table: ``with_(material={"young": 1e5})``.

        >>> load_rig("face26").with_({"material.young": 9e4}).material.young
        90000.0
        """
        tree = _to_tables(self)
        for key, value in _flat({**(changes or {}), **more}):
            _put(tree, key, value, self.name)
        return _build(tree, self.source or self.name)

    def randomised(self, seed: int | np.random.Generator) -> RigSpec:
        """A copy with every key of `ranges` drawn uniformly between its two ends (log-uniform if 10-fold)."""
        rng = np.random.default_rng(seed)
        drawn = {}
        for key, (low, high) in sorted(self.ranges.items()):
            if low > 0 and high >= 10 * low:
                drawn[key] = float(np.exp(rng.uniform(np.log(low), np.log(high))))
            else:
                drawn[key] = float(rng.uniform(low, high))
        return self.with_(drawn)

    def table(self) -> str:
        """The motors as a Markdown table: number, name, group, limits, rest, speed."""
        rows = [
            "| # | motor | group | lower rad | upper rad | rest command | max speed rad/s |",
            "|--" * 7 + "|",
        ]
        rows += [
            f"| {i} | {m.name} | {m.group} | {m.lower:.3f} | {m.upper:.3f} | {m.rest_command:.3f} | "
            f"{m.max_speed:g} |"
            for i, m in enumerate(self.motors)
        ]
        return "\n".join(rows)


def rig_names() -> tuple[str, ...]:
    """Names of the rigs that ship with facetwin."""
    return tuple(sorted(p.stem for p in assets.path("rigs").glob("*.toml")))


def load_rig(name: str | Path = "face26") -> RigSpec:
    """Read and check a rig table.

    Parameters
    ----------
    name : str or Path
        Name of a shipped rig (``face26``, ``emo23``), or path of a TOML file.

    Raises
    ------
    UsageError
        No such rig or file, or its content is wrong: names file, key, value and range.

    >>> load_rig("face26").size
    26
    """
    text = str(name)
    if text in rig_names():
        file = assets.path("rigs", text + ".toml")
    elif text.endswith(".toml") or "/" in text:
        file = Path(name)
    else:
        raise UsageError("no such rig", found=text, expected="a path to a .toml file, or one of "
                         + ", ".join(rig_names()), hint=_suggest(text, rig_names()))  # fmt: skip
    try:
        with open(file, "rb") as stream:
            tree = tomllib.load(stream)
    except FileNotFoundError:
        raise UsageError("no such rig file", where=file, hint="check the path") from None
    except OSError as error:
        raise UsageError("cannot read the rig file", where=file, found=error.strerror or str(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("not TOML", where=file, found=str(error), hint="see https://toml.io") from None
    return _build(tree, str(file))


# --- reading one table after another -------------------------------------------------------------


class _Table:
    """One TOML table being read: every key is asked for once, what is left over is an error."""

    def __init__(self, content: Any, file: str, path: str) -> None:
        self.file, self.path = file, path
        if not isinstance(content, Mapping):
            raise self.error("", "not a table", content, "key = value pairs")
        self.left = dict(content)
        self.known: list[str] = []

    def error(self, key: str, what: str, found: Any, expected: str, hint: str | None = None) -> UsageError:
        full = ".".join(p for p in (self.path, key) if p)
        return UsageError(what, where=f"{self.file}: {full}" if full else self.file, found=found,
                          expected=expected, hint=hint)  # fmt: skip

    def take(self, key: str, default: Any = ...) -> Any:
        self.known.append(key)
        if key in self.left:
            return self.left.pop(key)
        if default is ...:
            close = difflib.get_close_matches(key, self.left, 1)
            hint = f"is {close[0]} meant to be {key}?" if close else f"add {key} = ..."
            raise self.error(key, "missing", "nothing", "a value", hint)
        return default

    def number(self, key: str, low: float, high: float, default: Any = ..., *, factor: float = 1.0) -> float:
        value = self.take(key, default)
        return self.checked(key, value, low, high) * (factor if value is not default else 1.0)

    def checked(self, key: str, value: Any, low: float, high: float) -> float:
        span = f"a number from {low:g} to {high:g}"
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise self.error(key, "wrong type", value, span)
        if math.isnan(value) or not low <= value <= high:
            raise self.error(key, "out of range", float(value), span)
        return float(value)

    def integer(self, key: str, low: int, high: int, default: Any = ...) -> int:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
            raise self.error(key, "wrong value", value, f"a whole number from {low} to {high}")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "wrong type", value, "true or false")
        return value

    def text(self, key: str, default: Any = ...) -> str:
        value = self.take(key, default)
        if not isinstance(value, str):
            raise self.error(key, "wrong type", value, "a text in quotes")
        return value

    def choice(self, key: str, options: Iterable[str], default: Any = ...) -> str:
        value, options = self.text(key, default), tuple(options)
        if value not in options:
            raise self.error(
                key, "unknown value", value, "one of " + ", ".join(options), _suggest(value, options)
            )
        return value

    def name(self, key: str = "name") -> str:
        value = self.text(key)
        if not value.isidentifier() or value != value.lower():
            raise self.error(key, "bad name", value, "lower-case letters, digits and _")
        return value

    def vector(self, key: str, size: int, default: Any = ..., *, low: float = -1e6, high: float = 1e6) -> Any:
        value = self.take(key, default)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or len(value) != size:
            raise self.error(key, "wrong type", value, f"a list of {size} numbers")
        return tuple(self.checked(f"{key}[{i}]", v, low, high) for i, v in enumerate(value))

    def range(self, key: str, low: float, high: float) -> Range:
        pair = self.vector(key, 2, low=low, high=high)
        if pair[0] > pair[1]:
            raise self.error(key, "swapped limits", list(pair), "[low, high] with low <= high")
        return pair

    def table(self, key: str, default: Any = ...) -> _Table:
        return _Table(self.take(key, default), self.file, ".".join(p for p in (self.path, key) if p))

    def tables(self, key: str) -> list[_Table]:
        value = self.take(key, [])
        if not isinstance(value, (list, tuple)):
            raise self.error(key, "wrong type", value, f"tables, each under [[{key}]]")
        out = []
        for i, content in enumerate(value):
            name = content.get("name", i) if isinstance(content, Mapping) else i
            out.append(_Table(content, self.file, f"{key}[{name}]"))
        return out

    def done(self) -> None:
        for key, value in self.left.items():
            close = _suggest(key, self.known)
            raise self.error(key, "unknown key", value, "one of " + ", ".join(self.known), close)


_SERVO = {  # key: (low, high, is an angle)
    "max_speed": (1e-3, 1e3, True),
    "max_acceleration": (1e-2, 1e6, True),
    "dead_band": (0.0, 0.5, True),
    "backlash": (0.0, 0.5, True),
    "latency": (0.0, 1.0, False),
    "natural_frequency": (0.1, 200.0, False),
    "damping_ratio": (0.1, 5.0, False),
}


def _build(tree: Any, file: str) -> RigSpec:
    top = _Table(tree, file, "")
    name = top.text("name")
    count = top.integer("motors", 1, 256)
    unit = top.choice("angle_unit", ("rad", "deg"), "rad")
    factor = math.pi / 180 if unit == "deg" else 1.0

    servo = top.table("servo", {})
    feedback = servo.flag("feedback", True)
    defaults = {
        key: servo.number(key, low, high / (factor if angle else 1.0), None) if key in servo.left else None
        for key, (low, high, angle) in _SERVO.items()
    }
    servo.known += [k for k in _SERVO if k not in servo.known]
    servo.done()

    motors = tuple(_motor(t, factor, defaults) for t in top.tables("motor"))
    if len(motors) != count:
        hint = "add or remove a [[motor]], or correct motors = ... at the top"
        raise top.error("motors", "wrong number of motors", len(motors), f"{count} as declared", hint)
    _unique(top, "motor", [m.name for m in motors], "name")
    _unique(top, "motor", [f"bus {m.bus} channel {m.channel}" for m in motors], "channel")
    names = tuple(m.name for m in motors)

    anchors = tuple(_anchor(t) for t in top.tables("anchor"))
    _unique(top, "anchor", [a.name for a in anchors], "name")

    rest = {m.name: m.rest_command for m in motors}
    couplings = tuple(_coupling(t, i, names) for i, t in enumerate(top.tables("coupling")))
    _unique(top, "coupling", [c.name for c in couplings], "name")
    for rule in couplings:
        if broken(rule, rest):
            raise top.error(
                f"coupling[{rule.name}]", "forbids the rest pose", rule.name, "a rule that rest obeys"
            )

    table = top.table("camera", {})
    cameras = {key: _camera(table.table(key), factor) for key in list(table.left)}
    table = top.table("material")
    material = Material(
        young=table.number("young", 1e3, 1e8),
        thickness=table.number("thickness", 1e-4, 0.02),
        density=table.number("density", 100, 5000, 1070.0),
        foundation=table.number("foundation", 0.0, 1e9, 0.0),
    )
    table.done()

    table = top.table("limits", {})
    limits = {}
    for key in list(table.left):
        _known_motor(table, key, names)
        limits[key] = table.range(key, 0.0, 1.0)
        if not limits[key][0] <= rest[key] <= limits[key][1]:
            raise table.error(key, "rest command outside the soft limits", list(limits[key]),
                              f"limits around {rest[key]:.3f}")  # fmt: skip
    table = top.table("ranges", {})
    ranges = {key: table.range(key, -1e9, 1e9) for key in list(table.left)}
    top.done()

    spec = RigSpec(name, motors, anchors, couplings, cameras, material, limits, ranges, feedback, file)
    if ranges:
        _check_ranges(spec, ranges, table)
    return spec


def _check_ranges(spec: RigSpec, ranges: Mapping[str, Range], table: _Table) -> None:
    """Both ends of every range must be values that the rig takes."""

    def build(drawn: Mapping[str, float]) -> None:
        tree = _to_tables(spec)
        tree["ranges"] = {}
        for key, value in drawn.items():
            _put(tree, key, value, key)
        _build(tree, spec.source)

    try:
        for end in (0, 1):
            build({key: ends[end] for key, ends in ranges.items()})
    except UsageError:  # which one?
        for key, ends in ranges.items():
            for value in ends:
                try:
                    build({key: value})
                except UsageError as error:
                    raise table.error(
                        f'"{key}"', "not a range of this rig", value, "a key and values it takes", str(error)
                    ) from None
        raise


def _motor(t: _Table, factor: float, defaults: Mapping[str, float | None]) -> Motor:
    name = t.name()
    group = t.choice("group", GROUPS)
    bus, channel = t.integer("bus", 0, 255, 0), t.integer("channel", 0, 255)
    turn = 2 * math.pi / factor
    lower, upper = t.number("lower", -turn, turn), t.number("upper", -turn, turn)
    if lower >= upper:
        raise t.error(
            "lower", "swapped limits", lower, f"less than upper = {upper:g}", "swap lower and upper"
        )
    rest = t.number("rest", -turn, turn)
    if not lower <= rest <= upper:
        raise t.error("rest", "outside the limits", rest, f"from {lower:g} to {upper:g}")
    sign = t.integer("sign", -1, 1, 1)
    if sign == 0:
        raise t.error("sign", "wrong value", sign, "1 or -1")
    values = {}
    for key, (low, high, angle) in _SERVO.items():
        scale = factor if angle else 1.0
        default = defaults[key]
        if default is None and key not in t.left:
            raise t.error(key, "missing", "nothing", "a value", f"add {key} = ... here or under [servo]")
        values[key] = t.number(key, low, high / scale, default) * scale
    part = pull = None
    if "part" in t.left:
        part = Part(t.choice("part", PARTS), t.choice("axis", AXES), t.number("gain", -100, 100, 1.0))
    if "pull" in t.left:
        if part is not None:
            raise t.error("pull", "a motor turns a part or pulls skin, not both", name, "part or pull")
        pull = _pull(t.table("pull"))
    t.known += [k for k in ("part", "axis", "gain", "pull") if k not in t.known]
    t.done()
    return Motor(name, group, bus, channel, lower * factor, upper * factor, rest * factor, sign,
                 part=part, pull=pull, **values)  # fmt: skip


def _landmarks(t: _Table) -> tuple[int, ...]:
    value = t.take("landmarks")
    right = f"a list of landmark numbers, each from 0 to {MESH_POINTS - 1}, none twice"
    if not isinstance(value, (list, tuple)) or not value or len(set(map(str, value))) != len(value):
        raise t.error("landmarks", "wrong value", value, right)
    for i in value:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < MESH_POINTS:
            raise t.error("landmarks", "no such landmark", i, right)
    return tuple(value)


def _pull(t: _Table) -> Pull:
    landmarks = _landmarks(t)
    arc = t.take("arc", None)
    direction, travel = None, 0.0
    if arc is None:
        direction = t.vector("direction", 3)
        length = math.sqrt(sum(x * x for x in direction))
        if length == 0:
            raise t.error("direction", "has no length", list(direction), "a vector other than zero")
        # A vector that is a unit already stays bit for bit what it was: `with_` must not change the hash.
        if abs(length - 1) > 1e-12:
            direction = tuple(x / length for x in direction)
        travel = t.number("travel", 1e-5, 0.05)
    else:
        right = "2 to 5 places [x, y, z] in m, from command 0 to command 1, without direction and travel"
        if not isinstance(arc, (list, tuple)) or not 2 <= len(arc) <= 5:
            raise t.error("arc", "wrong value", arc, right)
        places = _Table({str(i): p for i, p in enumerate(arc)}, t.file, t.path + ".arc")
        arc = tuple(places.vector(str(i), 3, low=-0.05, high=0.05) for i in range(len(arc)))
        if t.take("direction", None) is not None or t.take("travel", None) not in (None, 0.0):
            raise t.error("arc", "given beside direction or travel", list(arc), right)
    pull = Pull(
        landmarks=landmarks,
        radius=t.number("radius", 1e-4, 0.05, 0.006),
        direction=direction,
        travel=travel,
        arc=arc,
        stiffness=t.number("stiffness", 1e-3, math.inf, 400.0),
        carrier=t.choice("carrier", CARRIERS, "skull"),
        share=t.number("share", 0.0, 1.0, 1.0),
    )
    t.done()
    return pull


def _anchor(t: _Table) -> Anchor:
    anchor = Anchor(
        name=t.name(),
        landmarks=_landmarks(t),
        radius=t.number("radius", 1e-4, 0.05, 0.006),
        carrier=t.choice("carrier", CARRIERS, "skull"),
        share=t.number("share", 0.0, 1.0, 1.0),
        stiffness=t.number("stiffness", 1e-3, math.inf, 400.0),
    )
    t.done()
    return anchor


def _coupling(t: _Table, number: int, names: tuple[str, ...]) -> BoxRule | LinearRule:
    name, why = t.text("name", f"rule {number + 1}"), t.text("why", "")
    rule: BoxRule | LinearRule
    if "when" in t.left:
        when = t.table("when")
        sides = []
        for key in list(when.left):
            _known_motor(when, key, names)
            low, high = when.range(key, 0.0, 1.0)
            if low == high:
                raise when.error(key, "empty range", [low, high], "[low, high] with low < high")
            sides.append((key, (low, high)))
        if all(low <= 0 and high >= 1 for _, (low, high) in sides):
            raise when.error("", "forbids every command", sides, "at least one range shorter than [0, 1]")
        rule = BoxRule(name, tuple(sides), why)
    else:
        table = t.table("weights")
        for key in table.left:
            _known_motor(table, key, names)
        weights = tuple((key, table.number(key, -1e3, 1e3)) for key in list(table.left))
        at_most = t.number("at_most", -1e6, 1e6)
        lowest = sum(min(w, 0.0) for _, w in weights)
        if not any(w for _, w in weights) or lowest > at_most:
            raise t.error("at_most", "forbids every command", at_most, f"at least {lowest:g} and a weight")
        rule = LinearRule(name, weights, at_most, why)
    t.known += [k for k in ("when", "weights", "at_most") if k not in t.known]
    t.done()
    return rule


def _camera(t: _Table, factor: float) -> CameraSpec:
    zero = (0.0, 0.0, 0.0)
    light = t.table("light", {})
    plain = LightSpec()
    spec = CameraSpec(
        width=t.integer("width", 16, 8192),
        height=t.integer("height", 16, 8192),
        vertical_fov=t.number("vertical_fov", 0.01 / factor, 2.5 / factor) * factor,
        distance=t.number("distance", 0.02, 20.0),
        elevation=t.number("elevation", -2.0, 2.0, 0.0),
        mirror=t.flag("mirror", True),
        delay=t.number("delay", 0.0, 2.0, 0.0),
        rate=t.number("rate", 0.0, 2000.0, 0.0),
        noise=t.number("noise", 0.0, 100.0, 0.0),
        exposure=t.number("exposure", 0.01, 100.0, 1.0),
        position_error=t.vector("position_error", 3, zero, low=-1, high=1),
        rotation_error=tuple(
            x * factor for x in t.vector("rotation_error", 3, zero, low=-2 / factor, high=2 / factor)
        ),
        background=t.vector("background", 3, (0.55, 0.57, 0.6), low=0.0, high=1.0),
        light=LightSpec(
            direction=light.vector("direction", 3, plain.direction),
            intensity=light.number("intensity", 0.0, 100.0, plain.intensity),
            ambient=light.number("ambient", 0.0, 10.0, plain.ambient),
        ),
    )
    light.done()
    t.done()
    return spec


def broken(rule: BoxRule | LinearRule, command: Mapping[str, float], tolerance: float = 1e-9) -> bool:
    """Whether a command, given motor by motor, breaks a rule."""
    if isinstance(rule, LinearRule):
        norm = math.sqrt(sum(w * w for _, w in rule.weights))
        return sum(w * command[n] for n, w in rule.weights) > rule.at_most + tolerance * norm
    return all(
        (low <= 0 or command[n] > low) and (high >= 1 or command[n] < high) for n, (low, high) in rule.when
    )


# --- helpers -------------------------------------------------------------------------------------


def _known_motor(t: _Table, key: str, names: tuple[str, ...]) -> None:
    if key not in names:
        raise t.error(key, "no such motor", key, "a motor of this rig", _suggest(key, names))


def _unique(t: _Table, key: str, values: list[str], what: str) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise t.error(key, f"same {what} twice", value, f"every {what} once")


def _suggest(word: str, options: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(str(word), list(options), 1)
    return f"did you mean {close[0]}?" if close else None


def _frozen(values: ArrayLike) -> NDArray[np.float64]:
    out = np.array(values, dtype=np.float64)
    out.flags.writeable = False
    return out


def _lagrange(points: NDArray[np.float64], c: NDArray[np.float64]) -> NDArray[np.float64]:
    nodes = np.linspace(0.0, 1.0, len(points))
    total = np.zeros((*c.shape[:-1], 3))
    for i, point in enumerate(points):
        others = np.delete(nodes, i)
        total = total + np.prod((c - others) / (nodes[i] - others), axis=-1, keepdims=True) * point
    return total


def _canonical(value: Any) -> Any:
    """JSON with every number rounded to 12 digits, so that degrees and radians of one rig agree."""
    if isinstance(value, Mapping):
        return {k: _canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(v) for v in value]
    if isinstance(value, float):
        return f"{value + 0.0:.12g}"
    return value


def _to_tables(spec: RigSpec) -> dict[str, Any]:
    """The spec as the tables of a file in radians."""

    def plain(thing: Any) -> dict[str, Any]:
        return {k: v for k, v in asdict(thing).items() if v is not None}

    motors = []
    for m in spec.motors:
        table = plain(m)
        if m.part is not None:
            table.update(part=m.part.name, axis=m.part.axis, gain=m.part.gain)
        if m.pull is not None:
            table["pull"] = plain(m.pull)
            if m.pull.arc is not None:
                del table["pull"]["travel"]
        motors.append(table)
    rules = []
    for rule in spec.couplings:
        rules.append({**plain(rule), ("when" if isinstance(rule, BoxRule) else "weights"): dict(
            rule.when if isinstance(rule, BoxRule) else rule.weights)})  # fmt: skip
    return {
        "name": spec.name,
        "motors": spec.size,
        "servo": {"feedback": spec.feedback},
        "motor": motors,
        "anchor": [plain(a) for a in spec.anchors],
        "coupling": rules,
        "camera": {k: plain(c) for k, c in spec.cameras.items()},
        "material": plain(spec.material),
        "limits": dict(spec.limits),
        "ranges": dict(spec.ranges),
    }


def _flat(changes: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in changes.items():
        # The keys of `ranges` are dotted themselves, and rules of couplings are whole.
        if isinstance(value, Mapping) and not (prefix + key).startswith(("ranges", "couplings")):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _put(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key of `_to_tables`; raises `UsageError` when it leads nowhere."""
    head, *path = key.split(".")
    head = {"motors": "motor", "anchors": "anchor", "cameras": "camera"}.get(head, head)
    if head == "couplings" and not path:
        rules = [value] if isinstance(value, (BoxRule, LinearRule)) else list(value)
        for i, rule in enumerate(rules):
            if isinstance(rule, BoxRule):
                rules[i] = {"name": rule.name, "why": rule.why, "when": dict(rule.when)}
            elif isinstance(rule, LinearRule):
                rules[i] = {"name": rule.name, "why": rule.why, "weights": dict(rule.weights),
                            "at_most": rule.at_most}  # fmt: skip
        tree["coupling"] = rules
    elif head == "ranges":
        if path:
            tree["ranges"][key.removeprefix("ranges.")] = value
        else:
            tree["ranges"] = dict(value)
    elif head == "servo" and len(path) == 1 and path[0] in _SERVO:
        for motor in tree["motor"]:
            motor[path[0]] = value
    elif head in ("motor", "anchor") and len(path) >= 2:
        found = [t for t in tree[head] if t["name"] == path[0]]
        if not found:
            names = [t["name"] for t in tree[head]]
            raise UsageError(f"no such {head}", where=where, found=path[0], hint=_suggest(path[0], names))
        _set(found[0], path[1:], value, key, where)
    elif head in tree and head not in ("motor", "anchor", "coupling", "motors"):
        _set(tree, [head, *path], value, key, where)
    else:
        raise UsageError("no such key", where=where, found=key, hint=_suggest(head, tree))


def _set(table: Any, path: list[str], value: Any, key: str, where: str) -> None:
    for step in path[:-1]:
        if isinstance(table, (list, tuple)) and step.isdigit() and int(step) < len(table):
            table = table[int(step)]
        elif isinstance(table, dict) and step in table:
            if isinstance(table[step], tuple):
                table[step] = list(table[step])
            table = table[step]
        else:
            raise UsageError("no such key", where=where, found=key)
    if isinstance(table, list):
        if not path[-1].isdigit() or int(path[-1]) >= len(table):
            raise UsageError("no such key", where=where, found=key)
        table[int(path[-1])] = value
    elif isinstance(table, dict):
        table[path[-1]] = value
    else:
        raise UsageError("no such key", where=where, found=key)


__all__ = [
    "AXES", "CARRIERS", "GROUPS", "PARTS", "Anchor", "BoxRule", "CameraSpec",
    "LightSpec", "LinearRule", "Material", "Motor", "Part", "Pull", "RigSpec", "broken", "load_rig",
    "rig_names",
]  # fmt: skip
