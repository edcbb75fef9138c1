"""The lip-sync benchmark's table, and what it must show, figure by figure, met or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facetwin.policies.lipsync_score import (
    BY_NAME,
    FIGURES,
    Counts,
    Estimate,
    Shown,
    Wanted,
    count,
    estimate,
    quotient,
    ranking,
    stands_apart,
)

#: figures that methods are ranked by; closures by the tracker, and by geometry where it is known
RANKED = ("latent distance", "D-P", "closure - control, tracker", "closure - control, geometry")
#: the six baselines of the issue's ranking: what needs a rig, and no learning
BASELINES = ("amplitude", "nearest-landmarks", "nearest-latents", "random", "frozen", "frozen-landmarks")
#: pictures a second that must be kept up, and with how much to spare
RATE, SPARE = 30.0, 3.0

#: method -> clip by clip
Sums = dict[str, list[Counts]]


@dataclass(frozen=True)
class Verdict:
    """One figure that is asked for, what was found, and whether it is met (None: not known)."""

    what: str
    found: str
    asked: str
    met: bool | None


def all_counts(shown: Mapping[str, Sequence[Shown]], wanted: Sequence[Wanted]) -> Sums:
    """Sums of every take, by method."""
    return {name: [count(a, b) for a, b in zip(takes, wanted, strict=True)] for name, takes in shown.items()}


def table(sums: Sums, *, draws: int, seed: int) -> dict[str, dict[str, Estimate]]:
    """Every figure of every method over all clips, with its interval."""
    return {
        name: {figure.name: estimate(every, figure, draws=draws, seed=seed) for figure in FIGURES}
        for name, every in sums.items()
    }


def by_group(sums: Sums, groups: Sequence[str], *, draws: int, seed: int) -> dict[str, Any]:
    """The same for each group of clips (`groups`: one name a clip), groups in their order."""
    out = {}
    for group in dict.fromkeys(groups):
        rows = [k for k, name in enumerate(groups) if name == group]
        out[group] = table({m: [c[k] for k in rows] for m, c in sums.items()}, draws=draws, seed=seed)
    return out


def verdicts(
    sums: Sums,
    whole: Mapping[str, Mapping[str, Estimate]],
    *,
    draws: int,
    seed: int,
    ours: str = "transformer",
) -> list[Verdict]:
    """What the benchmark must show of the method `ours`; only what its methods allow to say."""
    out: list[Verdict] = []

    def ratio(what: str, figure: str, other: str, most: float) -> None:
        if other in sums:
            found = quotient(sums[ours], sums[other], BY_NAME[figure], draws=draws, seed=seed)
            met = None if not np.isfinite(found.value) else found.value <= most
            out.append(Verdict(what, _interval(found), f"at most {most:g}", met))

    if ours not in sums:
        return out
    for figure in ("latent distance", "latent error"):
        ratio(f"{figure}, {ours} / frozen best face", figure, "frozen", 0.15)
    for figure in ("latent distance", "latent error"):
        ratio(f"{figure}, {ours} / reference one frame late", figure, "late-1", 1.0)
    rivals = [name for name in BASELINES if name in whole]
    for name in RANKED:
        values = {m: whole[m][name] for m in (ours, *rivals)}
        if not rivals or not np.isfinite(values[ours].value):
            continue
        better = BY_NAME[name].better
        order = ranking(values, better)
        place = order.index(ours) + 1
        second = order[1] if place == 1 else order[0]
        apart = place == 1 and stands_apart(values, ours, rivals, better)
        found = (
            f"{_ordinal(place)} with {_interval(values[ours])}; "
            f"{'second' if place == 1 else 'first'} {second} {_interval(values[second])}"
        )
        out.append(Verdict(f"rank on {name}", found, "first, intervals apart", apart))
    ratio(f"D-P, {ours} / gradient ceiling", "D-P", "gradient", 1.25)
    spent = whole[ours]["compute"].value
    if np.isfinite(spent):
        room = 1000 / RATE / spent
        out.append(
            Verdict("VAE and transformer, one core", f"{room:.1f} x real time at {RATE:g} frames/s "
                    f"({spent:.2f} ms a frame)", f"at least {SPARE:g} x", room >= SPARE)
        )  # fmt: skip
    return out


def _interval(one: Estimate) -> str:
    if not np.isfinite(one.low):
        return f"{one.value:.3f}"
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _ordinal(place: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(place, f"{place}th")
