"""Closed scores as tables: for the report, for a terminal, for machines."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facetwin.cli.report import Table
    from facetwin.policies.scores import Score

#: columns of the two score tables
CLOSENESS = ("D-P", "D-V", "opening correlation", "offset", "jerk")
CLOSURES = ("closure", "control", "closure - control", "pucker", "lip-teeth")


def report_tables(table: Mapping[str, Mapping[str, Score]], where: str) -> list[Table]:
    """The two tables of the report; `where` says what the figures are against."""
    from facetwin.cli.report import Table

    first = next(iter(table.values()))

    def make(title: str, wished: tuple[str, ...], note: str) -> Table:
        columns = [name for name in wished if name in first]
        return Table(
            title,
            tuple(f"{name}, {first[name].unit}" if first[name].unit else name for name in columns),
            tuple(
                (maker, tuple(row[name].value if name in row else None for name in columns))
                for maker, row in table.items()
            ),
            tuple(first[name].better for name in columns),
            note,
        )

    tables = [
        make(
            "Closeness to the reference",
            CLOSENESS,
            where
            + "D-P and D-V: mean distance of position and velocity of 40 lip points. They reward a dead "
            "dead mouth: read them with the closures. A positive offset is a late picture.",
        )
    ]
    if math.isfinite(first["closure"].value):
        extra = tuple(n for n in first if n.endswith("geometry"))
        tables.append(
            make(
                "Lips that must meet",
                (*CLOSURES, *extra),
                where
                + "Share of /p b m/ with the lips shut within one frame of the onset, and the same share "
                "at sounds that ask nothing of the lips; their difference is the score. Shut is below 0.02 u "
                "by the tracker, below 0.5 mm by geometry. So pucker (/w u/: narrower than .96 of the "
                "median) and lip on teeth (/f v/: lower lip within .02 u of its height at rest, or within "
                "0.5 mm of the edge of the upper teeth), each less its control.",
            )
        )
    return tables


def plain(table: Mapping[str, Mapping[str, Score]]) -> dict[str, dict[str, float | None]]:
    """The figures alone, None where there is none, for JSON."""

    def known(value: float) -> float | None:
        return round(float(value), 6) if math.isfinite(value) else None

    return {maker: {name: known(score.value) for name, score in row.items()} for maker, row in table.items()}


def print_scores(scores: Mapping[str, Mapping[str, float | None]], title: str) -> None:
    """Print figures by maker on stdout."""
    from rich.console import Console
    from rich.table import Table as Grid

    ours = next(iter(scores.values()))
    extra = tuple(name for name in ours if name.endswith("geometry"))
    names = [
        name
        for name in (*CLOSENESS, *CLOSURES, *extra)
        if any(row.get(name) is not None for row in scores.values())
    ]
    grid = Grid(title=title)
    grid.add_column("", no_wrap=True)
    for name in names:
        grid.add_column(name, justify="right")
    for maker, row in scores.items():
        figures = (row.get(name) for name in names)
        grid.add_row(maker, *("–" if value is None else f"{value:.3f}" for value in figures))
    Console(width=None if sys.stdout.isatty() else 200).print(grid)
