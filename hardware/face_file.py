"""Face files: a TOML that names a real face, its buses, its camera, its safety settings.

::

    name = "my face"
    table = "face26"                    # a rig table that ships, or the path of one, from this file

    [[bus]]
    rig = "maestro:/dev/ttyACM0?crc=true"
    motors = ["neck", "eyes", "lids"]   # motors or groups of the table; default: all
    [bus.wiring.neck_yaw]               # what differs from the table on this face
    zero = 6120

    [camera]
    eye = "webcam:0?width=640&height=480"

    [safety]
    temperature = { warn = 55, stop = 65 }

A TOML with ``[[bus]]`` is a face file wherever a rig is named; one without is a rig table, which is
simulated. One bus with all motors gives the driver itself, anything else a `CompositeRig`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetwin.hardware.clock import SimClock
from facetwin.hardware.plugins import RIGS, construct, installed, load, parse_url
from facetwin.hardware.rig import Rig
from facetwin.hardware.safety_settings import SafetySettings
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import RigSpec, load_rig, rig_names, tomllib
from facetwin.twin.spec_parts import GROUPS
from facetwin.twin.spec_table import Table, suggest


@dataclass(frozen=True)
class Bus:
    """One bus of a face: the rig's name, the motors on it, in the table's order, and their wiring."""

    name: str
    rig: str
    motors: tuple[str, ...]
    wiring: dict[str, dict[str, float]]


@dataclass(frozen=True)
class FaceFile:
    """What a face file says, checked."""

    name: str
    spec: RigSpec
    buses: tuple[Bus, ...]
    eye: str | None
    safety: dict[str, Any]
    source: str


def is_face_file(path: str | Path) -> bool:
    """Whether a file can be read, is TOML, and has ``[[bus]]`` (or ``[bus]``, of which `read_face` tells)."""
    try:
        return "bus" in _content(Path(path))
    except UsageError:
        return False


def read_face(path: str | Path) -> FaceFile:
    """Read and check a face file.

    Raises `UsageError` that names the file, the key, the value and what is expected there.
    """
    file = Path(path)
    top = Table(_content(file), str(file), "")
    name = top.text("name", file.stem)
    spec = _spec(top, file)
    buses = tuple(_bus(table, i, spec) for i, table in enumerate(top.tables("bus")))
    if not buses:
        raise top.error("bus", "no buses", "nothing", "at least one [[bus]]")
    for i, bus in enumerate(buses):
        if bus.name in [b.name for b in buses[:i]]:
            raise top.error(f"bus[{i}].name", "given twice", bus.name, "a name for each bus")
    owner: dict[str, str] = {}
    for bus in buses:
        for motor in bus.motors:
            if motor in owner:
                raise top.error(f"bus[{bus.name}].motors", "a motor on two buses", motor,
                                f"it on {owner[motor]} or here", "list the motors of each bus")  # fmt: skip
            owner[motor] = bus.name
    if missing := [n for n in spec.names if n not in owner]:
        raise top.error("bus", "motors on no bus", ", ".join(missing), f"all of {spec.name}'s {spec.size}")
    eye = None
    if "camera" in top.left:
        camera = top.table("camera")
        eye = camera.text("eye")
        camera.done()
    safety = _safety(top)
    top.known += ["camera", "safety"]
    top.done()
    return FaceFile(name, spec, buses, eye, safety, str(file))


def face_rig(path: str) -> Rig:
    """The bare rig of a face file, closed; its `safety` are the file's settings for the safety layer."""
    face = read_face(path)
    rig = _whole(face)
    rig.safety = dict(face.safety)
    return rig


def _whole(face: FaceFile) -> Rig:
    drivers = installed(RIGS)
    made = []
    clock: SimClock | None = None
    for bus in face.buses:
        where = f"{face.source}: bus[{bus.name}]"
        scheme, rest, options = parse_url(bus.rig)
        driver = _load(str(scheme), drivers, where)
        takes = inspect.signature(driver).parameters
        any_name = any(p.kind is p.VAR_KEYWORD for p in takes.values())
        alone = len(face.buses) == 1 and bus.motors == face.spec.names
        spec = face.spec if alone else _part(face.spec, bus.motors)
        extra: dict[str, Any] = {}
        if "table" in takes or any_name:
            extra["table"] = spec
        elif "spec" in takes and not rest:  # a simulated one
            extra["spec"] = spec
        if bus.wiring:
            if not ("wiring" in takes or any_name):
                raise UsageError("this driver takes no wiring", where=where, found=f"{scheme}:",
                                 hint="remove [bus.wiring...]")  # fmt: skip
            extra["wiring"] = bus.wiring
        own_eye = alone and face.eye is not None and "camera" in takes and takes["camera"].default is None
        if own_eye:
            extra["camera"] = face.eye
        if "clock" in takes and not alone:
            clock = clock or SimClock()
            extra["clock"] = clock
        if twice := sorted(set(options) & set(extra)):
            raise UsageError("option given in the name and beside it", where=f"{where}.rig",
                             found=", ".join(twice), expected="once")  # fmt: skip
        try:
            rig: Rig = construct(bus.rig, driver, rest, {**options, **extra})
        except FaceTwinError as error:
            raise type(error)(f"{where}: {error}") from error
        if rig.spec.names != spec.names:
            raise UsageError("this driver moves other motors", where=where, found=", ".join(rig.spec.names),
                             expected=", ".join(spec.names))  # fmt: skip
        if alone and (own_eye or face.eye is None):
            return rig
        made.append((bus.name, rig))
    from facetwin.hardware.composite import CompositeRig
    from facetwin.hardware.eye import make_eye

    eye = None
    if face.eye is not None:
        try:
            eye = make_eye(face.eye)
        except FaceTwinError as error:
            raise type(error)(f"{face.source}: camera.eye: {error}") from error
    return CompositeRig(face.spec, dict(made), eye)


def _part(spec: RigSpec, motors: tuple[str, ...]) -> RigSpec:
    from facetwin.hardware.composite import part_of

    return part_of(spec, motors)


def _load(scheme: str, drivers: Mapping[str, Any], where: str) -> Any:
    try:
        return load(scheme, drivers, "rig")
    except FaceTwinError as error:
        raise type(error)(f"{where}.rig: {error}") from error


def _content(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        raise UsageError("no such face file", where=file, hint="check the path") from None
    except OSError as error:
        raise UsageError("cannot read the face file", where=file, found=error.strerror or error) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("not TOML", where=file, found=str(error), hint="see https://toml.io") from None


def _spec(top: Table, file: Path) -> RigSpec:
    table = top.text("table")
    if table in rig_names():
        return load_rig(table)
    if not table.endswith(".toml"):
        raise top.error("table", "no such rig table", table,
                        "a .toml file, or one of " + ", ".join(rig_names()),
                        suggest(table, rig_names()))  # fmt: skip
    if is_face_file(file.parent / table):
        raise top.error("table", "not a rig table", table, "the table of motors, not a face file")
    return load_rig(file.parent / table)


def _bus(table: Table, i: int, spec: RigSpec) -> Bus:
    rig = table.text("rig")
    scheme, rest, _ = parse_url(rig)
    if scheme is None or scheme == "face":
        raise table.error(
            "rig", "not the name of a bus", rig, "scheme:port?options, e.g. maestro:/dev/ttyACM0"
        )
    given = table.take("motors", None)
    chosen: list[str] = []
    if given is None:
        chosen = list(spec.names)
    elif not isinstance(given, list) or not given:
        raise table.error("motors", "wrong type", given, 'a list of motors or groups, e.g. ["jaw", "lips"]')
    else:
        for one in given:
            if one in spec.names:
                mine = [str(one)]
            elif one in GROUPS:
                mine = [spec.names[k] for k in spec.group(one)]
            else:
                options = (*spec.names, *GROUPS)
                raise table.error("motors", "no such motor or group", one, f"of {spec.name}",
                                  suggest(str(one), options))  # fmt: skip
            if double := sorted(set(mine) & set(chosen)):
                raise table.error("motors", "given twice", ", ".join(double), "each motor once")
            chosen += mine
    motors = tuple(n for n in spec.names if n in chosen)
    wiring = table.take("wiring", {})
    if not isinstance(wiring, dict):
        raise table.error("wiring", "not a table", wiring, "[bus.wiring.MOTOR]")
    for motor, own in wiring.items():
        if motor not in motors:
            raise table.error("wiring", "no such motor on this bus", motor, "one of " + ", ".join(motors),
                              suggest(motor, motors))  # fmt: skip
        if not isinstance(own, dict):
            raise table.error(f"wiring.{motor}", "not a table", own, "zero = ..., per_rad = ...")
    name = table.text("name", f"{scheme}:{rest}" if rest else f"{scheme}: {i}")
    table.done()
    return Bus(name, rig, motors, wiring)


def _safety(top: Table) -> dict[str, Any]:
    given = top.take("safety", {})
    if not isinstance(given, dict):
        raise top.error("safety", "not a table", given, "[safety]")
    try:
        SafetySettings().with_(given)
    except UsageError as error:
        text = str(error).replace("SafetyLayer: ", "", 1)
        raise UsageError(f"{top.file}: safety.{text}") from None
    return dict(given)
