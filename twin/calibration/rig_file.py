"""A rig file with some numbers changed and everything else, comments included, as it stood.

The text is edited, read again, and compared with the table that was meant: what comes out differs in the
asked keys only, or nothing is written. Not a TOML writer: arrays over several lines are not edited.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facetwin import assets
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import RigSpec, load_rig, rig_names
from facetwin.twin.spec_parts import SERVO

_TABLE = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\-\"' ]+?)\s*\]\]?\s*(#.*)?$")
_NAME = re.compile(r"^\s*name\s*=\s*[\"']([^\"']*)[\"']")
#: keys that are angles wherever they stand
_ANGLES = {key for key, (_, _, angle) in SERVO.items() if angle} | {"vertical_fov", "rotation_error"}


def source_of(name: str | Path) -> Path:
    """The file behind a rig's name or path."""
    text = str(name)
    return assets.path("rigs", text + ".toml") if text in rig_names() else Path(text)


def write_rig(out: str | Path, source: str | Path, changes: Mapping[str, float], note: str = "") -> RigSpec:
    """Write the rig file `source` with other numbers; it has its name only when it is whole.

    Parameters
    ----------
    out : path
    source : rig name or path of the file to begin from
    changes : dotted keys as `RigSpec.with_` takes them, in SI units: motor.NAME.KEY, motor.NAME.pull.KEY,
        anchor.NAME.KEY, material.KEY, skin_time.KEY, camera.NAME.KEY, camera.NAME.KEY.INDEX
    note : str
        A comment for the first line.

    Returns
    -------
    RigSpec of what was written, the same as ``load_rig(source).with_(changes)``

    Raises
    ------
    UsageError
        A key that the file cannot take, or `out` cannot be written.
    FaceTwinError
        The edited text does not mean what was asked; nothing is written.
    """
    file, out = source_of(source), Path(out)
    spec = load_rig(source)
    wanted = spec.with_(dict(changes))
    text = edited(file.read_text("utf-8"), changes)
    if note:
        text = f"# {note}\n{text}"
    if out.suffix != ".toml":
        raise UsageError("not the name of a rig file", where=out, expected="a name that ends in .toml")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(suffix=".part.toml", prefix=out.stem + "-", dir=out.parent)
        os.close(handle)
    except OSError as why:
        raise UsageError("cannot write there", where=out, found=why.strerror or str(why)) from None
    try:
        Path(part).write_text(text, "utf-8")
        got = load_rig(part)
        worst = _differ(got.to_dict(), wanted.to_dict())
        if worst:
            raise FaceTwinError(
                "the edited rig file does not say what was meant", where=file, found=worst,
                hint="put each changed key on a line of its own",
            )  # fmt: skip
        os.chmod(part, 0o644)
        os.replace(part, out)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
    return load_rig(out)


def edited(text: str, changes: Mapping[str, float]) -> str:
    """The text of a rig file with numbers changed; `changes` as in `write_rig`."""
    lines = text.splitlines()
    degrees = any(re.match(r"^\s*angle_unit\s*=\s*[\"']deg", line) for line in lines)
    for key, value in _whole(text, changes).items():
        head, *path = key.split(".")
        named = head in ("motor", "anchor")
        name = path.pop(0) if named or head == "camera" else None
        table = ".".join([head, *([] if named or name is None else [name]), *path[:-1]])
        leaf = path[-1]
        shown = value
        if degrees and leaf in _ANGLES:
            shown = np.degrees(value).tolist()
        lines = _put(lines, table, name if named else None, leaf, _written(shown), key)
    return "\n".join(lines) + "\n"


def _whole(text: str, changes: Mapping[str, float]) -> dict[str, Any]:
    # Keys of single places of an array as the whole array.
    from facetwin.twin.spec import tomllib

    tree = tomllib.loads(text)
    out: dict[str, Any] = {}
    for key, value in changes.items():
        *path, last = key.split(".")
        if not last.isdigit():
            out[key] = float(value)
            continue
        whole = ".".join(path)
        if whole not in out:
            at: Any = tree
            for step in path:
                at = at.get(step, {}) if isinstance(at, dict) else {}
            at = at or [0.0] * 3
            if tree.get("angle_unit") == "deg" and path[-1] in _ANGLES:
                at = np.radians(at).tolist()
            out[whole] = [float(v) for v in at]
        if int(last) >= len(out[whole]):
            raise UsageError("no such place", where="rig file", found=key)
        out[whole][int(last)] = float(value)
    return out


def _written(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_written(v) for v in value) + "]"
    return repr(float(value))


def _put(lines: list[str], table: str, name: str | None, leaf: str, value: str, key: str) -> list[str]:
    """Replace or add ``leaf = value`` in a table; of tables in an array, in the one with this name."""
    start = _find(lines, table, name)
    if start is None:
        if name is not None or "." not in table:
            if name is None:
                return [*lines, "", f"[{table}]", f"{leaf} = {value}"]
            raise UsageError("no such table", where="rig file", found=key)
        return [*lines, "", f"[{table}]", f"{leaf} = {value}"]
    end = start + 1
    while end < len(lines) and not _TABLE.match(lines[end]):
        end += 1
    own = re.compile(rf"^(\s*{re.escape(leaf)}\s*=\s*)([^#]*?)(\s*#.*)?$")
    for at in range(start + 1, end):
        found = own.match(lines[at])
        if found:
            return [*lines[:at], f"{found[1]}{value}{found[3] or ''}", *lines[at + 1 :]]
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1  # before blank lines, and comments that belong to what follows
    return [*lines[:end], f"{leaf} = {value}", *lines[end:]]


def _find(lines: list[str], table: str, name: str | None) -> int | None:
    head, _, rest = table.partition(".")
    inside = name is None
    for at, line in enumerate(lines):
        found = _TABLE.match(line)
        if not found:
            continue
        here = found[2].replace('"', "").replace("'", "").replace(" ", "")
        if name is None:
            if here == table:
                return at
            continue
        if found[1] == "[[":
            inside = here == head and _name_of(lines, at) == name
            if inside and not rest:
                return at
        elif inside and here == table:
            return at
    return None


def _name_of(lines: list[str], at: int) -> str | None:
    for line in lines[at + 1 :]:
        if _TABLE.match(line):
            return None
        found = _NAME.match(line)
        if found:
            return found[1]
    return None


def _differ(a: Any, b: Any, path: str = "") -> str:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in {**a, **b}:
            worst = _differ(a.get(key), b.get(key), f"{path}.{key}".strip("."))
            if worst:
                return worst
        return ""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return next((w for i in range(len(a)) if (w := _differ(a[i], b[i], f"{path}.{i}"))), "")
    if isinstance(a, float) and isinstance(b, (int, float)):
        return "" if abs(a - b) <= 1e-9 * max(1.0, abs(b)) else f"{path} = {a!r}, not {b!r}"
    return "" if a == b else f"{path} = {a!r}, not {b!r}"
