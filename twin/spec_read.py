"""From the tables of a rig file to the checked fields of a `RigSpec`; errors name file, key, value, range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import MESH_POINTS
from facetwin.twin.spec_change import expand, put, to_tables
from facetwin.twin.spec_parts import (
    AXES,
    CARRIERS,
    EXACT,
    GROUPS,
    PARTS,
    SERVO,
    Anchor,
    BoxRule,
    CameraSpec,
    LightSpec,
    LinearRule,
    Material,
    Motor,
    Part,
    Pull,
    Range,
    SkinTime,
    broken,
)
from facetwin.twin.spec_table import Table, suggest


def read_rig(tree: Any, file: str, *, check_ranges: bool = True) -> dict[str, Any]:
    """The fields of a `RigSpec`, checked, from the tables of a file; `file` is what errors name.

    ``check_ranges=False`` takes [ranges] as they are, where they were checked before.
    """
    top = Table(tree, file, "")
    name = top.text("name")
    count = top.integer("motors", 1, 256)
    unit = top.choice("angle_unit", ("rad", "deg"), "rad")
    factor = math.pi / 180 if unit == "deg" else 1.0

    servo = top.table("servo", {})
    feedback = servo.flag("feedback", True)
    defaults = {
        key: servo.number(key, low, high / (factor if angle else 1.0), None) if key in servo.left else None
        for key, (low, high, angle) in SERVO.items()
    }
    servo.known += [k for k in SERVO if k not in servo.known]
    servo.done()
    for key, value in EXACT.items():
        defaults[key] = value if defaults[key] is None else defaults[key]

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

    table = top.table("skin_time", {})
    none = SkinTime()
    skin_time = SkinTime(
        creep_share=table.number("creep_share", 0.0, 0.9, none.creep_share),
        creep_time=table.number("creep_time", 1e-3, 100.0, none.creep_time),
        modes=table.integer("modes", 0, 64, none.modes),
        mode_damping=table.number("mode_damping", 0.001, 5.0, none.mode_damping),
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

    parts = {"name": name, "motors": motors, "anchors": anchors, "couplings": couplings, "cameras": cameras,
             "material": material, "limits": limits, "ranges": ranges, "feedback": feedback,
             "skin_time": skin_time, "source": file}  # fmt: skip
    if ranges and check_ranges:
        _check_ranges(parts, ranges, table)
    return parts


def _check_ranges(parts: Mapping[str, Any], ranges: Mapping[str, Range], table: Table) -> None:
    """Both ends of every range must be values that the rig takes."""

    def build(drawn: Mapping[str, float]) -> None:
        tree = to_tables(parts)
        tree["ranges"] = {}
        for pattern, value in drawn.items():
            for key in expand(tree, pattern, pattern):
                put(tree, key, value, pattern)
        read_rig(tree, parts["source"])

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


def _motor(t: Table, factor: float, defaults: Mapping[str, float | None]) -> Motor:
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
    for key, (low, high, angle) in SERVO.items():
        scale = factor if angle else 1.0
        default = defaults[key]
        if default is None and key not in t.left:
            raise t.error(key, "missing", "nothing", "a value", f"add {key} = ... here or under [servo]")
        values[key] = t.number(key, low / scale, high / scale, default) * scale
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


def _landmarks(t: Table) -> tuple[int, ...]:
    value = t.take("landmarks")
    right = f"a list of landmark numbers, each from 0 to {MESH_POINTS - 1}, none twice"
    if not isinstance(value, (list, tuple)) or not value or len(set(map(str, value))) != len(value):
        raise t.error("landmarks", "wrong value", value, right)
    for i in value:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < MESH_POINTS:
            raise t.error("landmarks", "no such landmark", i, right)
    return tuple(value)


def _pull(t: Table) -> Pull:
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
        places = Table({str(i): p for i, p in enumerate(arc)}, t.file, t.path + ".arc")
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


def _anchor(t: Table) -> Anchor:
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


def _coupling(t: Table, number: int, names: tuple[str, ...]) -> BoxRule | LinearRule:
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


def _camera(t: Table, factor: float) -> CameraSpec:
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


def _known_motor(t: Table, key: str, names: tuple[str, ...]) -> None:
    if key not in names:
        raise t.error(key, "no such motor", key, "a motor of this rig", suggest(key, names))


def _unique(t: Table, key: str, values: list[str], what: str) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise t.error(key, f"same {what} twice", value, f"every {what} once")
