"""Other rigs than the one in the file: drawing its parameters from their ranges.

A pure function of a rig, a generator and a choice. What was drawn is told as dotted keys, so that
``spec.with_(drawn)`` is the drawn rig again. Nothing here moves or builds a face.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec
from facetwin.twin.spec_change import expand, to_tables
from facetwin.twin.spec_table import suggest

#: True: every range; patterns of keys; or ranges of one's own
Choice = bool | str | Iterable[str] | Mapping[str, tuple[float, float]] | None
WHERE = "randomise"


def draw(spec: RigSpec, rng: np.random.Generator, which: Choice = True) -> tuple[RigSpec, dict[str, float]]:
    """A rig like `spec` with other parameters, and what was drawn.

    Parameters
    ----------
    spec : RigSpec
        Its `ranges` say what may be drawn: a key as `RigSpec.with_` takes it, ``motor.*.KEY`` for each
        motor by itself, ``KEY.factor`` for a factor on the file's own value.
    rng : numpy Generator
        The same state gives the same rig, bit for bit.
    which : bool, str, list of str, or mapping
        True: all ranges; False or None: nothing. Patterns such as ``"camera.*"`` or ``"motor.jaw.*"``
        choose among the ranges. A mapping of keys to (low, high) draws those from these ranges instead.

    Returns
    -------
    RigSpec, dict of key -> float
        Each value is uniform between its ends, log-uniform where they are ten-fold apart.

    Raises
    ------
    UsageError
        A pattern that chooses nothing, an unknown key, a range that is none or that the rig does not take.

    >>> from facetwin.twin.spec import load_rig
    >>> other, drawn = draw(load_rig(), np.random.default_rng(0), ["material.young"])
    >>> other.material.young == drawn["material.young"]
    True
    """
    drawn = {}
    for key, (low, high) in sorted(chosen(spec, which).items()):
        if low > 0 and high >= 10 * low:
            drawn[key] = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        else:
            drawn[key] = float(rng.uniform(low, high))
    if not drawn:
        return spec, {}
    try:
        return spec.with_(drawn), drawn
    except UsageError as error:
        raise UsageError(f"a draw that this rig does not take: {error}", where=WHERE) from None


def chosen(spec: RigSpec, which: Choice = True) -> dict[str, tuple[float, float]]:
    """The keys and ranges that `draw` would draw from, each motor's by itself."""
    if which is None or which is False:
        return {}
    tree = to_tables({f.name: getattr(spec, f.name) for f in fields(spec)})

    def each(ranges: Mapping[str, Any]) -> dict[str, Any]:
        return {key: ranges[k] for k in ranges for key in expand(tree, str(k), WHERE)}

    if isinstance(which, Mapping):
        return {key: _range(key, ends) for key, ends in each(which).items()}
    every = each(spec.ranges)
    if which is True:
        return every
    patterns = [which] if isinstance(which, str) else which
    if not isinstance(patterns, Iterable):
        raise UsageError("not a choice", where=WHERE, found=which,
                         expected="True, patterns of keys, or a mapping of keys to [low, high]")  # fmt: skip
    out: dict[str, tuple[float, float]] = {}
    for pattern in patterns:
        found = {k: ends for k, ends in every.items() if fnmatchcase(k, str(pattern))}
        if not found:
            raise UsageError("no such range", where=WHERE, found=pattern,
                             expected=f"a pattern of the keys in [ranges] of {spec.source or spec.name}",
                             hint=suggest(str(pattern), every))  # fmt: skip
        out.update(found)
    return out


def _range(key: str, ends: Any) -> tuple[float, float]:
    right = "[low, high] with low <= high"
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        raise UsageError("not a range", where=f"{WHERE}: {key}", found=ends, expected=right) from None
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise UsageError("not a range", where=f"{WHERE}: {key}", found=[low, high], expected=right)
    return low, high
