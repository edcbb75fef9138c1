"""The report of ``facetwin bench lipsync``: one HTML file of figures and pictures that loads nothing."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.bench_contest import METHODS
from facetwin.cli.bench_reference import Ideal
from facetwin.cli.bench_tables import Whole, number, word
from facetwin.cli.bench_video import film_of, pick
from facetwin.cli.perform import FPS
from facetwin.cli.report import _STYLE, EMBED_LIMIT, Table, _jpeg, _section, _table, _text
from facetwin.policies.lipsync_score import FIGURES, Estimate, Shown
from facetwin.policies.lipsync_verdict import RANKED, Verdict
from facetwin.twin.landmarks import opening

Floats = NDArray[np.floating]

#: methods whose opening is drawn beside the reference's
DRAWN = ("transformer", "inverse", "amplitude")
COLOURS = ("#2463c9", "#0b7a4b", "#a03bb5")
STYLE = """
.grid-p { display:grid; gap:4px; align-items:center; font-size:12px; overflow-x:auto }
.grid-p img { border-radius:4px; min-width:72px; max-width:150px }
.grid-p b { font-weight:500; color:var(--soft) }
.dots text { font-size:12px; fill:var(--ink) } .dots .mine { font-weight:650 }
.dots line { stroke:var(--soft); stroke-width:1.4 } .dots circle { fill:var(--seen) }
.met { color:var(--best); font-weight:650 } .missed { color:#c0392b; font-weight:650 }
td.left { text-align:left; white-space:normal }
"""


def write_bench(
    path: Path,
    about: Mapping[str, Any],
    whole: Whole,
    groups: Mapping[str, Whole],
    found: Sequence[Verdict],
    ideals: Sequence[Ideal],
    shown: Mapping[str, Sequence[Shown]],
    store: Path,
    video: Path,
) -> None:
    """Write the report; it appears under its name only when it is whole."""
    chosen = pick(ideals)
    sections = [
        _film(video, path.parent),
        _section("What it must show", "Each figure with its 95 % interval over clips.", _asked(found)),
        _section(
            "All clips",
            "Every method executed on the rig and looked at again, but for the reference's late copies. "
            "Latent distance: standard deviations over babble. Closure, pucker and lip-teeth: share at their "
            "sounds less the share at sounds that ask nothing of the lips.",
            _table(_figures("", whole)),
        ),
        *(
            _section(name, "All clips, 95 % interval.", _dots(name, whole))
            for name in RANKED
            if any(math.isfinite(row[name].value) for row in whole.values())
        ),
        *(
            _section(
                f"Moments of {one.name} ({one.clip.group})", _text(one.clip.text), _moments(one, shown, store)
            )
            for one in chosen
        ),
        *(
            _section(f"Opening in {one.name}", "In u, seen again.", _opening(one, ideals, shown))
            for one in chosen
        ),
        *(_section(f"Group: {name}", "", _table(_figures("", each))) for name, each in groups.items()),
        _section("How it was made", "", _facts(about)),
    ]
    text = (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>facetwin bench lipsync</title><style>{_STYLE}{STYLE}</style></head>\n<body>\n"
        f"<header><h1>Lip sync, executed and looked at again</h1><p class=said>{_text(about['rig'])}</p>"
        "<p class=synthetic>Synthetic: a robot face, not a person.</p></header>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body></html>\n"
    )
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, "utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _film(video: Path, folder: Path) -> str:
    if video.stat().st_size <= EMBED_LIMIT:
        source = "data:video/mp4;base64," + base64.b64encode(video.read_bytes()).decode()
    else:
        source = _text(os.path.relpath(video, folder))
    return f"<section class=film><video controls preload=metadata src='{source}'></video></section>"


def _asked(found: Sequence[Verdict]) -> str:
    rows = "".join(
        f"<tr><th>{_text(one.what)}</th><td class=left>{_text(one.found)}</td><td>{_text(one.asked)}</td>"
        f"<td class={word(one.met).split()[0]}>{word(one.met)}</td></tr>"
        for one in found
    )
    head = "<tr><th></th><th>found</th><th>asked</th><th></th></tr>"
    return (
        f"<div class=scroll><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>" if rows else ""
    )


def _figures(title: str, whole: Whole) -> Table:
    names = [f for f in FIGURES if any(math.isfinite(row[f.name].value) for row in whole.values())]
    return Table(
        title,
        tuple(f"{f.name}, {f.unit}" if f.unit else f.name for f in names),
        tuple((METHODS[method], tuple(row[f.name].value for f in names)) for method, row in whole.items()),
        tuple(f.better for f in names),
    )


def _dots(name: str, whole: Whole) -> str:
    """Value and interval of each method on one axis, the best first, as SVG."""
    known = {m: row[name] for m, row in whole.items() if math.isfinite(row[name].value)}
    better = next(f.better for f in FIGURES if f.name == name)
    order = sorted(known, key=lambda m: known[m].value, reverse=better == "high")
    ends = [v for e in known.values() for v in (e.value, e.low, e.high) if math.isfinite(v)]
    low, high = min(0.0, *ends), max(ends) * 1.02
    left, right, step = 230.0, 910.0, 22.0

    def x(value: float) -> float:
        return left + (right - left) * (value - low) / max(high - low, 1e-9)

    out = []
    for k, method in enumerate(order):
        e, y = known[method], 14 + step * k
        out.append(
            f"<text class={'mine' if k == 0 else 'other'} x=0 y={y + 4}>{_text(METHODS[method])}</text>"
        )
        if math.isfinite(e.low):
            out.append(f"<line x1={x(e.low):.1f} x2={x(e.high):.1f} y1={y} y2={y} />")
        out.append(f"<circle cx={x(e.value):.1f} cy={y} r=4 />")
        out.append(f"<text x=930 y={y + 4}>{_between(e)}</text>")
    box = f"0 0 1110 {step * len(order) + 8:.0f}"
    return f"<div class=scroll><svg class='plot dots' viewBox='{box}'>{''.join(out)}</svg></div>"


def _between(one: Estimate) -> str:
    if not math.isfinite(one.low):
        return number(one.value)
    return f"{number(one.value)} ({number(one.low)} – {number(one.high)})"


def _moments(ideal: Ideal, shown: Mapping[str, Sequence[Shown]], store: Path) -> str:
    """Reference and methods at telling moments: rows of pictures."""
    moments = _telling(ideal)
    names = {"reference": "reference"} | {name: METHODS[name] for name in shown}
    head = "<span></span>" + "".join(f"<b>{_text(c)} {k / FPS:.2f} s</b>" for k, c in moments)
    rows = []
    for name, label in names.items():
        pictures = film_of(name, ideal, store)
        cells = "".join(f"<img alt='{_text(label)}' src='{_jpeg(_mouth(pictures[k]))}'>" for k, _ in moments)
        rows.append(f"<span>{_text(label)}</span>{cells}")
    columns = f"grid-template-columns:150px repeat({len(moments)},1fr)"
    return f"<div class=grid-p style='{columns}'>{head}{''.join(rows)}</div>"


def _mouth(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The lower middle of a picture of the face, where the mouth is."""
    side = picture.shape[0]
    return np.ascontiguousarray(
        picture[round(0.5 * side) : round(0.9 * side), round(0.25 * side) : round(0.75 * side)]
    )


def _telling(ideal: Ideal) -> list[tuple[int, str]]:
    """Frames and captions: up to three closures, a rounded and a lip-teeth sound, widest open."""
    onsets, last = ideal.clip.onsets, len(ideal) - 1
    wide = opening(ideal.wanted.seen.faces())
    picked: list[tuple[int, str]] = [(int(np.argmax(wide)), "widest")]
    for kind, label, most in (
        ("bilabial", "/p b m/", 3),
        ("rounded", "/w u/", 1),
        ("labiodental", "/f v/", 1),
    ):
        for time in [t for t in getattr(onsets, kind) if t > 0.1][:most]:
            picked.append((min(round(time * FPS), last), label))
    return sorted(set(picked))


def _opening(ideal: Ideal, ideals: Sequence[Ideal], shown: Mapping[str, Sequence[Shown]]) -> str:
    """Opening over time of the reference and some methods, as SVG; bilabials are shaded."""
    at = [one.name for one in ideals].index(ideal.name)
    rest = ideal.wanted.seen
    curves: list[tuple[str, str, Floats]] = [("reference", "var(--wanted)", opening(rest.faces()))]
    for name, colour in zip(DRAWN, COLOURS):
        if name in shown:
            seen = shown[name][at].seen
            curves.append((METHODS[name], colour, opening(seen.faces() - seen.rest + rest.rest)))
    high = max(0.06, *(float(c.max()) for _, _, c in curves)) * 1.05
    low = min(0.0, *(float(c.min()) for _, _, c in curves))
    wide, tall = 1000.0, 200.0

    def x(k: float) -> float:
        return wide * k / max(len(ideal) - 1, 1)

    def y(value: float) -> float:
        return tall * (1 - (value - low) / (high - low))

    out = [
        f"<rect class=shut x={x(t * FPS - 0.7):.1f} y=0 width={x(1.4):.1f} height={tall} />"
        for t in ideal.clip.onsets.bilabial
    ]
    for _, colour, curve in curves:
        points = "L".join(f"{x(k):.1f} {y(float(v)):.1f}" for k, v in enumerate(curve))
        out.append(f"<path style='stroke:{colour}' d='M{points}'/>")
    legend = "".join(f"<span style='color:{colour}'>{_text(name)}</span>" for name, colour, _ in curves)
    svg = f"<svg class=plot viewBox='0 0 {wide:.0f} {tall:.0f}' preserveAspectRatio=none>{''.join(out)}</svg>"
    return f"<div class=scroll>{svg}</div><p class=legend>{legend}</p>"


def _facts(about: Mapping[str, Any]) -> str:
    return "<dl>" + "".join(f"<dt>{_text(k)}</dt><dd>{_text(v)}</dd>" for k, v in about.items()) + "</dl>"
