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
#: what learns nothing and is played on the rig, and the late copies of the reference: the six baselines
PLAYED = ("amplitude", "nearest-landmarks", "nearest-latents", "random", "frozen", "frozen-landmarks")
BASELINES = (*PLAYED, "late-1", "late-15")
#: what is judged
OURS = ("transformer-refined", "transformer", "transformer-speech")
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
    sums: Sums, whole: Mapping[str, Mapping[str, Estimate]], *, draws: int, seed: int
) -> list[Verdict]:
    """What the benchmark must show of each of `OURS`; only what its methods allow to say."""
    out: list[Verdict] = []
    for ours in OURS:
        if ours in sums:
            out += _ratios(sums, ours, draws, seed) + _ranks(whole, ours) + _pace(whole, ours)
    return out


def _ratios(sums: Sums, ours: str, draws: int, seed: int) -> list[Verdict]:
    """How far ours is from the reference, by how far others are."""
    out = []
    for figure, other, name, most in (
        ("latent distance", "frozen", "frozen best face", 0.15),
        ("latent error", "frozen", "frozen best face", 0.15),
        ("latent distance", "late-1", "reference one frame late", 1.0),
        ("latent error", "late-1", "reference one frame late", 1.0),
        ("D-P", "gradient", "gradient ceiling", 1.25),
    ):
        if other in sums:
            found = quotient(sums[ours], sums[other], BY_NAME[figure], draws=draws, seed=seed)
            met = found.value <= most if np.isfinite(found.value) else None
            out.append(Verdict(f"{figure}, {ours} / {name}", _interval(found), f"at most {most:g}", met))
    return out


def _ranks(whole: Mapping[str, Mapping[str, Estimate]], ours: str) -> list[Verdict]:
    """Our place among all baselines, and among those that a rig plays."""
    out = []
    for rivals, note in ((BASELINES, ""), (PLAYED, ", late reference left out")):
        known = [name for name in rivals if name in whole]
        for name in RANKED:
            values = {m: whole[m][name] for m in (ours, *known)}
            if not known or not np.isfinite(values[ours].value):
                continue
            better = BY_NAME[name].better
            order = ranking(values, better)
            place = order.index(ours) + 1
            other = order[1] if place == 1 else order[0]
            apart = place == 1 and stands_apart(values, ours, known, better)
            found = (
                f"{_ordinal(place)} with {_interval(values[ours])}; "
                f"{'second' if place == 1 else 'first'} {other} {_interval(values[other])}"
            )
            out.append(Verdict(f"rank of {ours} on {name}{note}", found, "first, intervals apart", apart))
    return out


def _pace(whole: Mapping[str, Mapping[str, Estimate]], ours: str) -> list[Verdict]:
    """Whether ours keeps up with a camera, its encoder included."""
    spent = whole[ours]["compute"].value
    if not np.isfinite(spent):
        return []
    room = 1000 / RATE / spent
    found = f"{room:.1f} x real time at {RATE:g} frames/s ({spent:.2f} ms a frame)"
    return [Verdict(f"{ours}, one core", found, f"at least {SPARE:g} x", room >= SPARE)]


def _interval(one: Estimate) -> str:
    if not np.isfinite(one.low):
        return f"{one.value:.3f}"
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _ordinal(place: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(place, f"{place}th")
