"""The report of a spoken recording: one HTML file of pictures, curves and scores that loads nothing.

Not a dashboard: it is written once, from arrays, and opens from a disk or an attachment in ten years.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

#: a video larger than this stays a file of its own, beside the report
EMBED_LIMIT = 8_000_000  # bytes
#: a curve longer than this is shown as an envelope, with its liveliest stretch in full below it
DETAIL = 20.0  # s
BINS = 1200  #: points of a curve at most: what a screen can show


@dataclass(frozen=True)
class Event:
    """Something that was said from `start` to `end` (s): a phoneme or a word."""

    start: float
    end: float
    label: str
    closes: bool = False  #: the lips must meet: /p b m/


@dataclass(frozen=True)
class Moment:
    """One picture of the face: when (s), why it is shown, uint8 [shape=(H, W, 3), RGB]."""

    time: float
    caption: str
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Table:
    """Rows of figures; the first row is the one that the others are held against.

    `best` says per column which end is good: "low", "high" or "" (no such end).
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    best: tuple[str, ...]
    note: str = ""


@dataclass
class Report:
    """Everything that the report shows.

    Attributes
    ----------
    fps : pictures a second of `seen` and `reference`
    seen : float [shape=(T,), u], opening by the tracker, NaN where no face was found
    reference : float [shape=(T,), u], opening that was wanted
    reference_name : what `reference` is, in a few words
    gap : float [shape=(T,), mm], lip gap by geometry, where the rig knows it
    asked, sent : float [shape=(N, n), 0..1], commands before and after the safety layer, at `rate` Hz
    """

    title: str
    said: str
    fps: float
    seen: Floats
    reference: Floats
    reference_name: str
    motors: tuple[str, ...]
    groups: tuple[str, ...]  # group of each motor
    asked: Floats
    sent: Floats
    rate: float
    gap: Floats | None = None
    events: Sequence[Event] = ()
    tables: Sequence[Table] = ()
    moments: Sequence[Moment] = ()
    facts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    video: Path | None = None
    synthetic: str = field(default="Synthetic: a robot face, not a person.")


def write_report(path: str | Path, report: Report) -> None:
    """Write `report` as one HTML file; it appears under its name only when it is whole."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(render(report, folder=path.parent), encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def render(report: Report, *, folder: Path | None = None) -> str:
    """The report as HTML text; `folder` is where it will lie, for the link to a large video."""
    sections = [
        _video(report, folder),
        _moments(report),
        _section(
            "Opening of the mouth",
            f"Seen by the tracker against {_text(report.reference_name)}, in u (distance of the outer eye "
            "corners). Shaded: the lips must meet (/p b m/)."
            + (" Click to play from there." if report.video else ""),
            _opening(report),
        ),
        "".join(_section(table.title, _text(table.note), _table(table)) for table in report.tables),
        _section(
            "Motors",
            "Commands in [0, 1]; dashed: what was asked, where the safety layer sent something else.",
            _motors(report),
        ),
        _section("How it was made", "", _facts(report)),
    ]
    notes = "".join(f"<li>{_text(note)}</li>" for note in report.notes)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{_text(report.title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f"<header><h1>{_text(report.title)}</h1>"
        + (f"<p class=said>“{_text(report.said)}”</p>" if report.said else "")
        + f"<p class=synthetic>{_text(report.synthetic)}</p>"
        + (f"<ul class=notes>{notes}</ul>" if notes else "")
        + "</header>\n"
        + "\n".join(section for section in sections if section)
        + f"\n<script>{_SCRIPT}</script></body></html>\n"
    )


def choose_moments(
    seen: Floats, reference: Floats, width: Floats, fps: float, events: Sequence[Event] = ()
) -> list[tuple[int, str]]:
    """Frames worth a picture: (frame, caption), in order of time.

    Widest opening, a bilabial, broadest and narrowest mouth, and where the face is most wrong.

    >>> seen = np.array([0, 0, 0, 0.1, 0.3, 0.1, 0]); wide = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4])
    >>> choose_moments(seen, seen, wide, 25.0)
    [(0, 'broadest'), (4, 'widest open'), (6, 'narrowest')]
    """
    picked: dict[int, str] = {}

    def pick(frame: int, caption: str) -> None:
        if all(abs(frame - other) > 0.04 * fps for other in picked):
            picked[frame] = caption

    known = np.isfinite(seen)
    if not known.any():
        return []
    pick(int(np.argmax(np.where(known, seen, -np.inf))), "widest open")
    shut = [event for event in events if event.closes and event.end * fps < len(seen)]
    if shut:
        # the closure right after the widest opening tells more than one out of a silence
        def drop(event: Event) -> float:
            frame = round(event.start * fps)
            before = reference[max(0, frame - round(0.2 * fps)) : frame + 1]
            return float(np.nanmax(before, initial=0.0))

        event = max(shut, key=drop)
        pick(round(event.start * fps), f"/{event.label}/")
    pick(int(np.argmin(np.where(known, width, np.inf))), "narrowest")
    pick(int(np.argmax(np.where(known, width, -np.inf))), "broadest")
    wrong = np.abs(np.where(known, seen, 0) - reference)
    if np.nanmax(wrong) > 0.02:
        pick(int(np.nanargmax(np.where(known, wrong, -1))), "furthest from the reference")
    return sorted(picked.items())


def _section(title: str, lead: str, body: str) -> str:
    if not body:
        return ""
    return (
        f"<section><h2>{_text(title)}</h2>"
        + (f"<p class=lead>{lead}</p>" if lead else "")
        + f"{body}</section>"
    )


def _video(report: Report, folder: Path | None) -> str:
    if report.video is None or not report.video.exists():
        return ""
    if report.video.stat().st_size <= EMBED_LIMIT:
        source = "data:video/mp4;base64," + base64.b64encode(report.video.read_bytes()).decode()
    else:
        source = html.escape(
            os.path.relpath(report.video, folder) if folder else report.video.name, quote=True
        )
    return f"<section class=film><video controls preload=auto src='{source}'></video></section>"


def _moments(report: Report) -> str:
    figures = []
    for moment in report.moments:
        frame = min(round(moment.time * report.fps), len(report.seen) - 1)
        caption = _text(moment.caption)
        figures.append(
            f"<figure data-t={moment.time:.2f}><img alt='{caption}' src='{_jpeg(moment.image)}'>"
            f"<figcaption><b>{caption}</b> <span>{moment.time:.2f} s · seen "
            f"{_number(report.seen[frame])} u, wanted {_number(report.reference[frame])} u</span>"
            "</figcaption></figure>"
        )
    if not figures:
        return ""
    return _section("The face at the telling moments", "", f"<div class=moments>{''.join(figures)}</div>")


def _opening(report: Report) -> str:
    duration = len(report.seen) / report.fps
    if duration <= DETAIL:
        return _curves(report, 0.0, duration)
    span = round(DETAIL * report.fps)
    moving = np.abs(np.diff(np.nan_to_num(report.reference), prepend=0.0))
    total = np.convolve(moving, np.ones(span), "valid")
    start = int(np.argmax(total)) / report.fps
    return (
        _curves(report, 0.0, duration)
        + f"<p class=lead>The liveliest {DETAIL:.0f} s in full:</p>"
        + _curves(report, start, start + DETAIL)
    )


def _curves(report: Report, start: float, end: float) -> str:
    """Seen and wanted opening from `start` to `end` s as SVG."""
    width, height, left, bottom, top = 1000.0, 260.0, 44.0, 34.0, 18.0
    a, b = round(start * report.fps), max(round(end * report.fps), round(start * report.fps) + 2)
    curves = (report.reference[a:b], report.seen[a:b])
    high = max([0.05, *(float(np.nanmax(c)) for c in curves if np.isfinite(c).any())]) * 1.06
    low = min([0.0, *(float(np.nanmin(c)) for c in curves if np.isfinite(c).any())])

    def x(t: float) -> float:
        return left + (width - left - 6) * (t - start) / (end - start)

    def y(value: float) -> float:
        return top + (height - top - bottom) * (1 - (value - low) / (high - low))

    out = [
        f"<svg class=plot viewBox='0 0 {width:.0f} {height:.0f}' data-start={start:.3f} data-end={end:.3f}"
    ]
    out.append(
        f" data-left={left / width:.4f} data-right={1 - 6 / width:.4f} role=img"
        " aria-label='opening over time'>"
    )
    dense = end - start <= DETAIL + 1
    written: list[tuple[float, float]] = []  # places of labels, which must not run into each other
    for event in sorted(report.events, key=lambda event: not event.closes):
        if event.end < start or event.start > end:
            continue
        x0, x1 = x(max(event.start, start)), x(min(event.end, end))
        if event.closes:
            out.append(
                f"<rect class=shut x={x0:.1f} y={top} width={max(x1 - x0, 1.5):.1f} "
                f"height={height - top - bottom} />"
            )
        label = event.label.strip("ˈˌ")
        centre, half = (x0 + x1) / 2, 3.2 * len(label) + 1
        if label and dense and all(abs(centre - c) > half + h for c, h in written):
            written.append((centre, half))
            out.append(f"<text class=event x={centre:.1f} y=12>{_text(label)}</text>")
    for value in _ticks(low, high):
        out.append(f"<line class=grid x1={left} x2={width - 6} y1={y(value):.1f} y2={y(value):.1f} />")
        out.append(f"<text class=tick x={left - 6} y={y(value) + 4:.1f} text-anchor=end>{value:g}</text>")
    for value in _ticks(start, end, 8):
        out.append(f"<text class=tick x={x(value):.1f} y={height - 14} text-anchor=middle>{value:g} s</text>")
    for name, curve in zip(("wanted", "seen"), curves):
        times = start + np.arange(len(curve)) / report.fps
        for line in _lines(times, curve):
            out.append(
                f"<path class={name} d='M" + "L".join(f"{x(t):.1f} {y(v):.1f}" for t, v in line) + "'/>"
            )
    out.append(f"<line class=cursor x1={left} x2={left} y1={top} y2={height - bottom} /></svg>")
    legend = "<p class=legend><span class=k-seen>seen</span><span class=k-wanted>wanted</span></p>"
    return f"<div class=scroll>{''.join(out)}</div>{legend}"


def _lines(times: Floats, values: Floats) -> list[list[tuple[float, float]]]:
    """A curve as lines without its unknown parts, thinned to an envelope of at most `BINS` bins."""
    if len(values) > 2 * BINS:
        edges = np.linspace(0, len(values), BINS + 1).astype(int)
        picked = []
        for i, j in itertools.pairwise(edges):
            piece = values[i:j]
            if np.isfinite(piece).any():
                ends = sorted((i + int(np.nanargmin(piece)), i + int(np.nanargmax(piece))))
                picked += [(float(times[k]), float(values[k])) for k in ends]
        return [picked] if picked else []
    lines: list[list[tuple[float, float]]] = [[]]
    for t, v in zip(times.tolist(), values.tolist()):
        if math.isfinite(v):
            lines[-1].append((t, v))
        elif lines[-1]:
            lines.append([])
    return [line for line in lines if len(line) > 1]


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / most))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= most)
    return [
        round(k * step, 6) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def _table(table: Table) -> str:
    best: list[float | None] = []
    for column, end in enumerate(table.best):
        known = [
            value for _, row in table.rows if (value := row[column]) is not None and math.isfinite(value)
        ]
        best.append((max(known) if end == "high" else min(known)) if known and end else None)
    head = "".join(f"<th>{_text(column)}</th>" for column in table.columns)
    body = []
    for k, (name, row) in enumerate(table.rows):
        cells = "".join(
            f"<td{' class=best' if value is not None and value == best[column] else ''}>{_number(value)}</td>"
            for column, value in enumerate(row)
        )
        body.append(f"<tr{' class=ours' if k == 0 else ''}><th>{_text(name)}</th>{cells}</tr>")
    return (
        f"<div class=scroll><table><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _motors(report: Report) -> str:
    if not len(report.sent):
        return ""
    times = np.arange(len(report.sent)) / report.rate
    width, height = 480.0, 40.0
    end = max(float(times[-1]), 1e-6)
    rows, group = [], None
    for k, name in enumerate(report.motors):
        if report.groups[k] != group:
            group = report.groups[k]
            rows.append(f"<h3>{_text(group)}</h3>")
        paths = []
        differs = bool(np.nanmax(np.abs(report.asked[:, k] - report.sent[:, k])) > 0.005)
        for css, values in (("asked", report.asked[:, k]), ("sent", report.sent[:, k])):
            if css == "asked" and not differs:
                continue
            for line in _lines(times, values):
                points = "L".join(f"{width * t / end:.1f} {2 + (height - 4) * (1 - v):.1f}" for t, v in line)
                paths.append(f"<path class={css} d='M{points}'/>")
        rows.append(
            f"<div class=motor><span>{_text(name)}</span><svg viewBox='0 0 {width:.0f} {height:.0f}' "
            f"preserveAspectRatio=none>{''.join(paths)}</svg></div>"
        )
    return f"<div class=motors>{''.join(rows)}</div>"


def _facts(report: Report) -> str:
    rows = "".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in report.facts)
    return f"<dl>{rows}</dl>" if rows else ""


def _jpeg(image: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    text = (
        f"{value:.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.3f}"
        if size >= 0.1
        else f"{value:.4f}"
    )
    return text.replace("-", "−")


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


_STYLE = """
:root { color-scheme:light dark; --ink:#1c2230; --soft:#5d6678; --line:#dde1e8; --paper:#fbfbfc;
  --card:#fff; --seen:#2463c9; --wanted:#d2691e; --shut:#2463c91c; --best:#0b7a4b }
@media(prefers-color-scheme:dark){:root{--ink:#e7eaf0;--soft:#9aa3b5;--line:#313745;--paper:#14171d;
  --card:#1b1f27;--seen:#7ab0ff;--wanted:#ffb066;--shut:#7ab0ff26;--best:#5fd39a}}
* { box-sizing:border-box }
body { margin:0 auto; max-width:1080px; padding:28px 20px 60px; background:var(--paper);
  color:var(--ink); font:15px/1.5 system-ui,sans-serif }
h1 { font-size:26px; margin:0 0 4px }
h2 { font-size:18px; margin:0 0 2px }
h3 { font-size:12px; text-transform:uppercase; letter-spacing:.06em; color:var(--soft);
  margin:10px 0 2px; grid-column:1/-1 }
.said { font-size:18px; margin:4px 0 }
.synthetic,.lead,.notes { color:var(--soft); margin:2px 0 10px }
.notes { padding-left:18px }
section { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:16px 18px;
  margin:16px 0 }
.film { padding:0; overflow:hidden; text-align:center; background:#000 }
video { display:block; max-width:100%; max-height:480px; margin:0 auto }
.moments { display:grid; grid-template-columns:repeat(auto-fill,minmax(150px,1fr)); gap:12px }
figure { margin:0; cursor:pointer }
img { width:100%; border-radius:6px; display:block }
figcaption { font-size:13px }
figcaption span { color:var(--soft); display:block; font-size:12px }
.scroll { overflow-x:auto }
.plot { width:100%; min-width:640px; display:block }
path { fill:none; stroke-width:1.8; stroke-linejoin:round; vector-effect:non-scaling-stroke }
.seen,.sent { stroke:var(--seen) }
.wanted { stroke:var(--wanted) }
.asked { stroke:var(--wanted); stroke-dasharray:3 3; stroke-width:1.2 }
.grid { stroke:var(--line) }
.cursor { stroke:var(--ink); opacity:0 }
.tick { fill:var(--soft); font-size:12px }
.event { fill:var(--soft); font-size:11px; text-anchor:middle }
.shut { fill:var(--shut) }
.legend { margin:4px 0 0; font-size:13px }
.legend span { margin-right:18px }
.legend span::before { content:''; display:inline-block; width:18px; height:3px; margin-right:6px;
  vertical-align:middle }
.k-seen::before { background:var(--seen) }
.k-wanted::before { background:var(--wanted) }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums }
th,td { padding:5px 10px; text-align:right; border-bottom:1px solid var(--line); white-space:nowrap }
thead th { color:var(--soft); font-weight:500; font-size:13px; white-space:normal; vertical-align:bottom }
tbody th { text-align:left; font-weight:400 }
.ours th,.ours td { font-weight:650 }
.best { color:var(--best) }
.motors { display:grid; grid-template-columns:repeat(auto-fill,minmax(300px,1fr)); gap:4px 18px }
.motor { display:flex; align-items:center; gap:8px }
.motor span { width:120px; font-size:12px; flex:none }
.motor svg { flex:1; height:32px; min-width:0;
  background:linear-gradient(var(--line),var(--line)) 0 50%/100% 1px no-repeat }
dl { display:grid; grid-template-columns:max-content 1fr; gap:3px 16px; margin:0; font-size:14px }
dt { color:var(--soft) }
dd { margin:0; overflow-wrap:anywhere }
"""

_SCRIPT = """
const film = document.querySelector('video');
document.querySelectorAll('figure').forEach(figure => figure.onclick = () => {
  if (!film) return;
  film.pause();
  film.currentTime = +figure.dataset.t;
  film.scrollIntoView({behavior: 'smooth', block: 'center'});
});
const plots = [...document.querySelectorAll('.plot')].map(plot => ({
  plot, start: +plot.dataset.start, end: +plot.dataset.end, left: +plot.dataset.left,
  right: +plot.dataset.right, cursor: plot.querySelector('.cursor'),
}));
for (const q of plots) q.plot.onclick = event => {
  const box = q.plot.getBoundingClientRect();
  const share = ((event.clientX - box.left) / box.width - q.left) / (q.right - q.left);
  if (!film) return;
  film.currentTime = q.start + Math.max(0, Math.min(1, share)) * (q.end - q.start);
  film.play();
};
function follow() {
  for (const q of plots) {
    const share = (film.currentTime - q.start) / (q.end - q.start);
    const x = q.plot.viewBox.baseVal.width * (q.left + share * (q.right - q.left));
    q.cursor.style.opacity = share >= 0 && share <= 1 ? 0.5 : 0;
    q.cursor.setAttribute('x1', x);
    q.cursor.setAttribute('x2', x);
  }
  requestAnimationFrame(follow);
}
if (film) follow();
"""
