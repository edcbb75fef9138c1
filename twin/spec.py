"""The rig table: motors, what they pull, couplings, cameras and material, read from one TOML file.

DESIGN section 4. Everything is checked at load; an error names the file, the key, the value and the
range. A `RigSpec` never changes: `with_` returns a changed copy, checked again. Angles are radians once
loaded, whatever `angle_unit` the file uses.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin import assets
from facetwin.twin.errors import UsageError
from facetwin.twin.spec_change import flat, put, tables_of, to_tables, value_at
from facetwin.twin.spec_parts import (
    AXES,
    CARRIERS,
    EXACT,
    GROUPS,
    PARTS,
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
    Vector,
    broken,
)
from facetwin.twin.spec_read import read_rig
from facetwin.twin.spec_table import suggest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
    skin_time: SkinTime = SkinTime()  # noqa: RUF009 (frozen)
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
        """Sha256 (hex) of what the rig is, whatever the file's layout, comments, angle unit and ranges.

        What a rig does not have (creep, errors of its horns) is left out, so that a file that does not use
        a newer key keeps its hash.
        """
        content = self.to_dict()
        del content["ranges"]
        if self.skin_time == SkinTime():
            del content["skin_time"]
        for motor in content["motors"]:
            for key, value in EXACT.items():
                if motor[key] == value:
                    del motor[key]
        text = json.dumps(_canonical(content), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def index(self, name: str) -> int:
        """Place of a motor in every command; raises `UsageError` for an unknown name."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UsageError(
                "no such motor", where=self.name, found=name, hint=suggest(name, self.names)
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
        """The content as plain dicts and lists, in SI units."""
        content = asdict(self)
        del content["source"]
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], source: str = "") -> RigSpec:
        """The rig whose `to_dict` this is, perhaps by way of JSON; checked like a file, `source` in errors.

        >>> spec = load_rig("face26")
        >>> RigSpec.from_dict(spec.to_dict()) == spec
        True
        """
        return cls(**read_rig(tables_of(content), source or str(content["name"]), check_ranges=False))

    def with_(self, changes: Mapping[str, Any] | None = None, **more: Any) -> RigSpec:
        """A changed copy, checked like a file.

        Parameters
        ----------
        changes, more
            Dotted keys to new values: ``material.young``, ``camera.mirror.noise``, ``motor.jaw.latency``,
            ``motor.jaw.pull.travel``, ``anchor.forehead.share``, ``limits.jaw``, ``ranges.KEY``, ``name``;
            ``servo.latency`` changes every motor; ``KEY.factor`` multiplies (``servo.latency.factor`` each
            motor's own); ``couplings`` takes a whole new tuple of rules. Angles
            in rad. As keyword, a table: ``with_(material={"young": 1e5})``.

        >>> load_rig("face26").with_({"material.young": 9e4}).material.young
        90000.0
        """
        tree = to_tables({f.name: getattr(self, f.name) for f in fields(self)})
        pairs = list(flat({**(changes or {}), **more}))
        for key, value in pairs:
            put(tree, key, value, self.name)
        # Ranges that were not touched stay, even where they no longer suit: `draw` says so when it must.
        asked = any(key.split(".")[0] == "ranges" for key, _ in pairs)
        return RigSpec(**read_rig(tree, self.source or self.name, check_ranges=asked))

    def number(self, key: str) -> float:
        """The number behind a dotted key as `with_` takes it; raises `UsageError` where there is none.

        >>> load_rig("face26").number("camera.mirror.light.direction.2")
        1.0
        """
        value = value_at(to_tables({f.name: getattr(self, f.name) for f in fields(self)}), key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError("no such number", where=self.name, found=key)
        return float(value)

    def randomised(self, seed: int | np.random.Generator) -> RigSpec:
        """A copy with every key of `ranges` drawn (`facetwin.twin.randomise.draw`)."""
        from facetwin.twin.randomise import draw

        return draw(self, np.random.default_rng(seed))[0]

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
                         + ", ".join(rig_names()), hint=suggest(text, rig_names()))  # fmt: skip
    try:
        with open(file, "rb") as stream:
            tree = tomllib.load(stream)
    except FileNotFoundError:
        raise UsageError("no such rig file", where=file, hint="check the path") from None
    except OSError as error:
        raise UsageError("cannot read the rig file", where=file, found=error.strerror or str(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError("not TOML", where=file, found=str(error), hint="see https://toml.io") from None
    return RigSpec(**read_rig(tree, str(file)))


def _frozen(values: ArrayLike) -> NDArray[np.float64]:
    out = np.array(values, dtype=np.float64)
    out.flags.writeable = False
    return out


def _canonical(value: Any) -> Any:
    """JSON with every number rounded to 12 digits, so that degrees and radians of one rig agree."""
    if isinstance(value, Mapping):
        return {k: _canonical(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(v) for v in value]
    if isinstance(value, float):
        return f"{value + 0.0:.12g}"
    return value


__all__ = [
    "AXES", "CARRIERS", "GROUPS", "PARTS", "Anchor", "BoxRule", "CameraSpec", "LightSpec", "LinearRule",
    "Material", "Motor", "Part", "Pull", "Range", "RigSpec", "SkinTime", "Vector", "broken", "load_rig",
    "rig_names",
]  # fmt: skip
