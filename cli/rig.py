"""``facetwin rig list`` and ``facetwin rig check``: which faces there are, which keep the rules."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

from facetwin.twin.errors import FaceTwinError, UsageError

if TYPE_CHECKING:
    from facetwin.hardware.rig import Rig


@dataclass
class RigList:
    """List what can be opened: kinds of rigs and of eyes (installed drivers), and the rig tables that ship.

    A driver that cannot be imported is shown with its error and stops nobody else.
    """

    json: bool = False
    """Print one JSON object."""


@dataclass
class RigCheck:
    """Put a rig through the rules that every rig obeys, behind its safety layer and bare.

    A few motors move a little; a real face is brought to rest slowly first. Exit code 1 names the first
    rule that is broken.
    """

    name: tyro.conf.Positional[str] = "sim:"
    """Rig: sim:, emulated:maestro, maestro:/dev/ttyACM0, a face file, a rig table, …"""
    may_move: bool = False
    """Needed for a rig that is neither simulated nor emulated: yes, it may move now."""
    json: bool = False
    """Print one JSON object."""


def run(options: RigList | RigCheck) -> int:
    """Print the list or what the check found."""
    return _list(options) if isinstance(options, RigList) else _check(options)


def _list(options: RigList) -> int:
    from facetwin.hardware.plugins import EYES, RIGS, broken, clashes, installed
    from facetwin.twin.spec import load_rig, rig_names

    def described(group: str, kind: str) -> list[dict[str, Any]]:
        bad, twice = broken(group, kind), clashes(group)
        return [
            {"name": f"{name}:", "from": entry.value, "package": getattr(entry.dist, "name", None),
             "error": bad.get(name), "note": twice.get(name)}
            for name, entry in installed(group).items()
        ]  # fmt: skip

    kinds, eyes = described(RIGS, "rig"), described(EYES, "eye")
    tables: list[dict[str, Any]] = []
    for name in rig_names():
        try:
            spec = load_rig(name)
            tables.append({"name": name, "motors": spec.size, "hash": spec.hash, "error": None})
        except FaceTwinError as error:
            tables.append({"name": name, "motors": None, "hash": None, "error": str(error)})
    if options.json:
        print(json.dumps({"kinds": kinds, "eyes": eyes, "tables": tables}))
        return 0
    for kind in kinds:
        print(f"{kind['name']:<14} {_about(kind)}")
    for table in tables:
        print(f"sim:{table['name']:<10} {table['error'] or f'''{table['motors']} motors'''}")
    for eye in eyes:
        print(f"{eye['name']:<14} eye, {_about(eye)}")
    return 0


def _about(kind: dict[str, Any]) -> str:
    outside = f" ({kind['package']})" if kind["package"] not in (None, "facetwin") else ""
    note = f"; {kind['note']}" if kind["note"] else ""
    return (kind["error"] or kind["from"] + outside) + note


def _check(options: RigCheck) -> int:
    from facetwin.hardware.check import check_rig
    from facetwin.hardware.names import make_rig
    from facetwin.hardware.safety import SafetyLayer

    rig = make_rig(options.name)
    if not (rig.capabilities.harmless or options.may_move):
        raise UsageError(
            "the check moves this rig", where=options.name, hint="clear the space around it, then --may-move"
        )
    layer = SafetyLayer(rig)
    if not rig.capabilities.harmless:
        print(layer.describe(), file=sys.stderr)
        _to_rest(layer)  # a bare rig goes at once wherever it is told
    found = {"behind the safety layer": check_rig(layer), "bare": check_rig(rig)}
    if options.json:
        print(json.dumps({k: {"passed": r.passed, "skipped": r.skipped} for k, r in found.items()}))
    else:
        for name, report in found.items():
            print(f"{options.name}, {name}: {len(report.passed)} rules hold, {len(report.skipped)} skipped")
            print(report)
    return 0


def _to_rest(rig: Rig, seconds: float = 3.0) -> None:
    """Bring the face to rest slowly, and leave it closed."""
    with rig:
        rig.activate()
        start, begin = rig.read().commanded, rig.clock.now()
        while (share := (rig.clock.now() - begin) / seconds) < 1:
            rig.write(start + share * (rig.spec.rest - start))
            rig.clock.sleep(0.02)
        rig.home()
