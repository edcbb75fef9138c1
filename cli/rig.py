"""``facetwin rig list`` and ``facetwin rig check``: which faces there are, which keep the rules."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import tyro

from facetwin.twin.errors import FaceTwinError, UsageError


@dataclass
class RigList:
    """List the rigs that can be opened: kinds (installed drivers), and rig tables that ship with facetwin.

    A driver that cannot be imported is shown with its error and stops nobody else.
    """

    json: bool = False
    """Print one JSON object."""


@dataclass
class RigCheck:
    """Put a rig through the rules that every rig obeys, bare and behind its safety layer.

    The face moves a little. Exit code 1 names the first rule that is broken.
    """

    name: tyro.conf.Positional[str] = "sim:"
    """Rig: sim:, sim:emo23, a rig table, …"""
    may_move: bool = False
    """Needed for a rig that is not simulated: yes, it may move now."""
    json: bool = False
    """Print one JSON object."""


def run(options: RigList | RigCheck) -> int:
    """Print the list or what the check found."""
    return _list(options) if isinstance(options, RigList) else _check(options)


def _list(options: RigList) -> int:
    from facetwin.hardware.names import broken_drivers, schemes
    from facetwin.twin.spec import load_rig, rig_names

    broken = broken_drivers()
    kinds = [{"name": f"{s}:", "from": e.value, "error": broken.get(s)} for s, e in schemes().items()]
    tables: list[dict[str, Any]] = []
    for name in rig_names():
        try:
            spec = load_rig(name)
            tables.append({"name": name, "motors": spec.size, "hash": spec.hash, "error": None})
        except FaceTwinError as error:
            tables.append({"name": name, "motors": None, "hash": None, "error": str(error)})
    if options.json:
        print(json.dumps({"kinds": kinds, "tables": tables}))
        return 0
    for kind in kinds:
        print(f"{kind['name']:<14} {kind['error'] or kind['from']}")
    for table in tables:
        print(f"sim:{table['name']:<10} {table['error'] or f'''{table['motors']} motors'''}")
    return 0


def _check(options: RigCheck) -> int:
    from facetwin.hardware.check import check_rig
    from facetwin.hardware.names import make_rig
    from facetwin.hardware.safety import SafetyLayer

    rig = make_rig(options.name)
    if not (rig.capabilities.harmless or options.may_move):
        raise UsageError(
            "the check moves this rig", where=options.name, hint="clear the space around it, then --may-move"
        )
    found = {"bare": check_rig(rig), "behind the safety layer": check_rig(SafetyLayer(rig))}
    if options.json:
        print(json.dumps({k: {"passed": r.passed, "skipped": r.skipped} for k, r in found.items()}))
    else:
        for name, report in found.items():
            print(f"{options.name}, {name}: {len(report.passed)} rules hold, {len(report.skipped)} skipped")
            print(report)
    return 0
