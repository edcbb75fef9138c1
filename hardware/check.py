"""A public test of the rig contract, for our rigs and everybody else's.

    >>> from facetwin.hardware.check import RULES
    >>> RULES[0]
    'starts closed'

It moves a few motors a little, from rest and back, so it is for a rig that may move: bring the face to
rest first, since a bare rig goes wherever it is told at once. Faults are injected by replacing hooks of the
rig for a moment; nothing is done to the hardware.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from facetwin.hardware.check_rules import RULES as _RULES
from facetwin.hardware.check_rules import Broken, Skip
from facetwin.hardware.rig import Rig
from facetwin.twin.errors import FaceTwinError


@dataclass(frozen=True)
class Report:
    """Rules that held, and rules that could not be asked of this rig, with the reason."""

    passed: tuple[str, ...]
    skipped: dict[str, str]

    def __str__(self) -> str:
        lines = [f"ok    {name}" for name in self.passed]
        return "\n".join(lines + [f"skip  {name}: {why}" for name, why in self.skipped.items()])


def check_rig(rig: Rig) -> Report:
    """Check a rig against the contract.

    Parameters
    ----------
    rig : Rig
        Closed; it is closed again afterwards, whatever happened.

    Returns
    -------
    Report

    Raises
    ------
    FaceTwinError
        The first rule that is broken, by name, with what was found.
    """
    passed, skipped, where = [], {}, f"check_rig({type(rig).__name__})"
    try:
        for name, rule in _RULES.items():
            try:
                rule(rig)
            except Skip as why:
                skipped[name] = str(why)
                continue
            except Broken as error:
                raise FaceTwinError(
                    "broken rule: " + name, where=where, found=error.found, expected=error.expected
                ) from None
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
                raise FaceTwinError(
                    "broken rule: " + name, where=where, found=found, expected="no error"
                ) from error
            passed.append(name)
    finally:
        with contextlib.suppress(Exception):
            rig.close()
    return Report(tuple(passed), skipped)


#: names of the rules, in the order in which they are checked
RULES = tuple(_RULES)
