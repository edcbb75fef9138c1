"""The lip-sync benchmark's figures: what a rig showed against the reference video, clip by clip, pooled.

Both sides are looked at the same way: landmarks and latents of pictures, never a method's own answer. A
figure of many clips is a ratio of sums over them, so that a bootstrap over clips (Efron 1979) is a sum over
the clips drawn; the same draws serve all methods, which makes their differences paired.

Landmarks are compared as displacements from each side's own face at rest, in u; latents in units of their
spread over babble, by root mean square over dimensions ("latent distance") and by mean square ("latent
error").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.policies.alignment import Onsets
from facetwin.policies.closed_loop import ON_TEETH_MM, SHUT_MM, Seen
from facetwin.policies.scores import (
    FPS,
    NARROW,
    Reference,
    at_teeth,
    clipped,
    closed,
    peak_lag,
    puckered,
)  # fmt: skip
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import indices, opening

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

#: the cross-correlation of openings is looked at so many pictures either way
LAGS = 12
#: a closure counts this many pictures before and after the onset
WINDOW = 1
#: rounding lasts longer than a closure: pictures either way
LONG = 2


@dataclass(frozen=True)
class Wanted:
    """The reference video of one clip, looked at.

    Attributes
    ----------
    name, group : str, which clip, and which row of the table it belongs to ("people", "fr-fr", "singing")
    seen : Seen, landmarks of the reference's pictures and of its face at rest
    latents : float32 [shape=(T, k)], of its lip crops, standardised (`Vae.standard`)
    onsets : Onsets, when lips must shut, round or touch the teeth, s
    """

    name: str
    group: str
    seen: Seen
    latents: Floats
    onsets: Onsets = field(default_factory=Onsets)

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True)
class Shown:
    """What a rig showed of one clip, at 25 pictures a second.

    Attributes
    ----------
    seen : Seen, landmarks, and the lips by geometry where the rig knows them
    latents : float32 [shape=(T, k)], of the lip crops, standardised
    commands : float32 [shape=(N, motors)], as sent; empty for what no rig did
    asked : float32 [shape=(N, motors)], before the safety layer
    compute : float, ms of one core for each picture's command
    """

    seen: Seen
    latents: Floats
    commands: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    asked: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    compute: float = float("nan")

    def __len__(self) -> int:
        return len(self.latents)


#: sums of one take or of many: name -> [numerator, denominator]; "lags" holds the curve of correlations
Counts = dict[str, NDArray[np.float64]]


def count(shown: Shown, wanted: Wanted) -> Counts:
    """Sums of one take that every figure is made of."""
    if len(shown) != len(wanted):
        raise FaceTwinError("a take and its reference differ", where=wanted.name, found=len(shown),
                            expected=f"{len(wanted)} pictures")  # fmt: skip
    wished = wanted.seen.faces()  # (T, 478, 3)
    face = shown.seen.faces() - shown.seen.rest + wanted.seen.rest
    known = shown.seen.found & wanted.seen.found
    lips = indices("lips40")
    square = ((shown.latents - wanted.latents) ** 2).mean(1)  # (T,)
    out: Counts = {
        "latent": _sum(np.sqrt(square)[known]),
        "latent squared": _sum(square[known]),
        "position": _sum(_apart(face, wished, lips)[known]),
        "velocity": _sum(
            _apart(np.diff(face, axis=0), np.diff(wished, axis=0), lips)[known[1:] & known[:-1]]
        ),
        "jerk": _sum(np.linalg.norm(np.diff(face[:, lips, :2], 3, axis=0), axis=-1).ravel() * FPS**3),
        "compute": np.array([shown.compute, 1.0]),
        "lags": _lags(opening(face), opening(wished)),
    }
    if len(shown.commands):
        moved = np.abs(shown.asked - shown.commands).max(1) > 0.005
        out["clipped"] = np.array([clipped(shown.commands) * len(shown.commands), len(shown.commands)])
        out["safety"] = _sum(moved)
    rest = wanted.seen.rest
    person = Reference(wanted.name, wished.astype(np.float32), known, wanted.onsets, rest)
    tests = [
        ("closure, tracker", "bilabial", closed(face, person), known, WINDOW),
        ("pucker, tracker", "rounded", puckered(face, person), known, LONG),
        ("lip-teeth, tracker", "labiodental", at_teeth(face, person), known, WINDOW),
    ]
    every = np.ones(len(wanted), bool)
    if shown.seen.gap is not None:
        tests.append(("closure, geometry", "bilabial", shown.seen.gap < SHUT_MM, every, WINDOW))
        out["gap"] = _least(shown.seen.gap, wanted.onsets.bilabial, WINDOW)
    if shown.seen.lips is not None:
        wide, edge = shown.seen.lips["width"], shown.seen.lips["edge"]
        tests.append(("pucker, geometry", "rounded", wide < NARROW * np.median(wide), every, LONG))
        tests.append(("lip-teeth, geometry", "labiodental", edge < ON_TEETH_MM, every, WINDOW))
    for name, kind, true, seen, window in tests:
        out[name] = _hits(true, getattr(wanted.onsets, kind), seen, window)
        out[f"{name}, control"] = _hits(true, wanted.onsets.control, seen, window)
    return out


@dataclass(frozen=True)
class Figure:
    """A column: share or mean `of` some counts, less that of `minus`; `better` is "low", "high" or ""."""

    name: str
    unit: str
    better: str
    of: str
    minus: str = ""
    scale: float = 1.0


def _less_control(what: str, by: str) -> tuple[Figure, Figure]:
    """Share at the sounds that ask for it, alone and less that at sounds that ask nothing."""
    name = f"{what}, {by}"
    return (
        Figure(f"{what} - control, {by}", "share", "high", name, f"{name}, control"),
        Figure(name, "share", "", name),
    )


FIGURES = (
    Figure("latent distance", "", "low", "latent"),
    Figure("latent error", "", "low", "latent squared"),
    Figure("D-P", "u", "low", "position"),
    Figure("D-V", "u/frame", "low", "velocity"),
    *_less_control("closure", "tracker"),
    *_less_control("closure", "geometry"),
    Figure("gap at bilabials", "mm", "low", "gap"),
    *_less_control("pucker", "tracker"),
    *_less_control("pucker", "geometry"),
    *_less_control("lip-teeth", "tracker"),
    *_less_control("lip-teeth", "geometry"),
    Figure("offset", "ms", "", "lags"),
    Figure("jerk", "u/s3", "", "jerk"),
    Figure("on a limit", "share", "", "clipped"),
    Figure("changed by safety", "share", "", "safety"),
    Figure("compute", "ms/frame", "low", "compute"),
)
BY_NAME = {figure.name: figure for figure in FIGURES}


def figure_values(counts: Sequence[Counts], figure: Figure, draws: NDArray[np.intp]) -> NDArray[np.float64]:
    """A figure of each draw of clips [shape=(draws, clips)]: float64 [shape=(draws,)], NaN where unknown."""
    if figure.of == "lags":
        curves = _stack(counts, "lags", 2 * LAGS + 1)
        return np.array([peak_lag(curves[rows].sum(0)) * 1000 / FPS for rows in draws])
    value = _ratio(_stack(counts, figure.of)[draws].sum(1))
    if figure.minus:
        value = value - _ratio(_stack(counts, figure.minus)[draws].sum(1))
    return value * figure.scale


@dataclass(frozen=True)
class Estimate:
    """A figure over all clips and its bootstrap interval."""

    value: float
    low: float
    high: float


def resamples(clips: int, draws: int, seed: int) -> NDArray[np.intp]:
    """Which clips each draw takes, intp [shape=(draws, clips)]; the same for every method."""
    return np.random.default_rng(seed).integers(clips, size=(draws, clips))


def estimate(
    counts: Sequence[Counts], figure: Figure, *, draws: int = 2000, seed: int = 0, level: float = 0.95
) -> Estimate:
    """A figure of some clips with its percentile interval; without a second clip there is no interval."""
    value = float(figure_values(counts, figure, np.arange(len(counts))[None])[0])
    if len(counts) < 2 or not np.isfinite(value):
        return Estimate(value, float("nan"), float("nan"))
    found = figure_values(counts, figure, resamples(len(counts), draws, seed))
    found = found[np.isfinite(found)]
    if not len(found):
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))


def quotient(
    over: Sequence[Counts], under: Sequence[Counts], figure: Figure, *, draws: int = 2000, seed: int = 0
) -> Estimate:
    """Figure of one method by that of another on the same clips, with its paired interval."""

    def of(rows: NDArray[np.intp]) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            out: NDArray[np.float64] = figure_values(over, figure, rows) / figure_values(under, figure, rows)
        return out

    value = float(of(np.arange(len(over))[None])[0])
    if len(over) < 2:
        return Estimate(value, float("nan"), float("nan"))
    low, high = np.nanquantile(of(resamples(len(over), draws, seed)), [0.025, 0.975])
    return Estimate(value, float(low), float(high))


def ranking(values: Mapping[str, Estimate], better: str) -> list[str]:
    """Names in order, the best first; what is not known comes last."""
    sign = 1.0 if better == "low" else -1.0
    known = {name: sign * one.value if np.isfinite(one.value) else np.inf for name, one in values.items()}
    return sorted(known, key=lambda name: known[name])


def stands_apart(values: Mapping[str, Estimate], name: str, others: Iterable[str], better: str) -> bool:
    """Whether `name` beats each of the others by more than both intervals."""
    mine = values[name]
    for other in others:
        theirs = values[other]
        clear = mine.high < theirs.low if better == "low" else mine.low > theirs.high
        if not clear:  # also where an interval is not known
            return False
    return True


def pooled(parts: Iterable[Counts]) -> Counts:
    """Sums of several takes as one."""
    out: Counts = {}
    for part in parts:
        for name, value in part.items():
            out[name] = out[name] + value if name in out else value.copy()
    return out


def late_by(wanted: Wanted, frames: int) -> Shown:
    """The reference itself, some pictures late; its first picture is held until then."""
    at = np.maximum(np.arange(len(wanted)) - frames, 0)
    seen = wanted.seen
    gap = None if seen.gap is None else seen.gap[at]
    lips = None if seen.lips is None else {name: value[at] for name, value in seen.lips.items()}
    return Shown(Seen(seen.rest, seen.points[at], seen.found[at], gap, lips), wanted.latents[at])


def _sum(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.array([float(np.sum(values)), float(np.size(values))])


def _ratio(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        out: NDArray[np.float64] = np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)
    return out


def _stack(counts: Sequence[Counts], name: str, size: int = 2) -> NDArray[np.float64]:
    """One count of all clips, zeros where a clip has none: float64 [shape=(clips, size)]."""
    return np.stack([one.get(name, np.zeros(size)) for one in counts])


def _apart(a: Floats, b: Floats, points: NDArray[np.intp]) -> Floats:
    out: Floats = np.linalg.norm(a[:, points, :2] - b[:, points, :2], axis=-1).mean(-1)
    return out


def _near(times: Sequence[float], length: int, window: int) -> list[slice]:
    """Pictures around each onset that lie in the clip."""
    at = [round(time * FPS) for time in times]
    return [slice(max(0, k - window), k + window + 1) for k in at if max(0, k - window) < length]


def _hits(true: Bools, times: Sequence[float], known: Bools | None, window: int) -> NDArray[np.float64]:
    """How many onsets have a true picture near, of how many that were seen."""
    found = [
        bool(true[near].any())
        for near in _near(times, len(true), window)
        if known is None or known[near].all()
    ]
    return np.array([float(sum(found)), float(len(found))])


def _least(gap: Floats, times: Sequence[float], window: int) -> NDArray[np.float64]:
    """Sum of the smallest gaps near each onset, overlap counted as touching, mm."""
    return _sum(np.array([max(float(gap[near].min()), 0.0) for near in _near(times, len(gap), window)]))


def _lags(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Cross-correlation of two openings at -12 .. 12 pictures; zeros for a mouth that does not move."""
    curve = np.zeros(2 * LAGS + 1)
    if a.std() < 1e-6:
        return curve
    a, b, n = a - a.mean(), b - b.mean(), len(a)
    for k, lag in enumerate(range(-LAGS, LAGS + 1)):
        if n > abs(lag):
            curve[k] = float(a[max(0, lag) : n + min(0, lag)] @ b[max(0, -lag) : n - max(0, lag)])
    return curve
