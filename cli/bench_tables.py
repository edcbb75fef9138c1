"""The lip-sync benchmark on a terminal: the table, rows by group, and what is asked."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from facetwin.cli.bench_contest import METHODS
from facetwin.policies.lipsync_score import Estimate
from facetwin.policies.lipsync_verdict import RANKED, Verdict

Whole = Mapping[str, Mapping[str, Estimate]]

#: columns of the table on a terminal: short names
COLUMNS = {
    "latent distance": "latent",
    "D-P": "D-P, u",
    "D-V": "D-V",
    "closure - control, tracker": "closure, tracker",
    "closure - control, geometry": "closure, geometry",
    "gap at bilabials": "gap, mm",
    "pucker - control, tracker": "pucker",
    "pucker - control, geometry": "pucker, geometry",
    "lip-teeth - control, tracker": "lip-teeth",
    "lip-teeth - control, geometry": "lip-teeth, geometry",
    "offset": "offset, ms",
    "jerk": "jerk",
    "on a limit": "on a limit",
    "compute": "ms",
}


def print_bench(
    about: Mapping[str, Any], whole: Whole, groups: Mapping[str, Whole], found: Sequence[Verdict]
) -> None:
    """Print everything on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 220)
    grid = Table(title=f"{about['clips']} clips, {about['pictures']} pictures, {about['rig']}")
    grid.add_column("", no_wrap=True)
    shown = [name for name in COLUMNS if any(math.isfinite(row[name].value) for row in whole.values())]
    for name in shown:
        grid.add_column(COLUMNS[name], justify="right")
    for method, row in whole.items():
        grid.add_row(METHODS[method], *(number(row[name].value) for name in shown))
    console.print(grid)
    console.print("closure, pucker, lip-teeth: share at their sounds less the share at controls")
    for name in RANKED:
        if not any(math.isfinite(row[name].value) for row in whole.values()):
            continue
        part = Table(title=f"{name}: all clips with 95 % interval, and by group")
        part.add_column("", no_wrap=True)
        for head in ("all", "from", "to", *groups):
            part.add_column(head, justify="right")
        for method, row in whole.items():
            one = row[name]
            cells = [one.value, one.low, one.high, *(group[method][name].value for group in groups.values())]
            part.add_row(METHODS[method], *map(number, cells))
        console.print(part)
    asked = Table(title="what it must show")
    for head in ("", "found", "asked", ""):
        asked.add_column(head)
    for each in found:
        asked.add_row(each.what, each.found, each.asked, word(each.met))
    console.print(asked)


def number(value: float) -> str:
    """A figure in four places or so; – where there is none.

    >>> number(0.01234), number(1234.5), number(float("nan"))
    ('0.0123', '1234', '–')
    """
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.2f}" if size >= 10 else f"{value:.4f}"


def word(met: bool | None) -> str:
    """Whether something is met, in a word."""
    return "not known" if met is None else "met" if met else "missed"
