"""What a comparison of twin and rig shows: plots and tables in one HTML file that loads nothing."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facetwin.cli.calibration_report import _figure, _png
from facetwin.cli.report import _STYLE, Table, _section, _table, _text

if TYPE_CHECKING:
    from facetwin.cli.compare_record import Played
    from facetwin.twin.calibration.compare import Comparison, MotorResult
    from facetwin.twin.calibration.probes import Program

    Pair = tuple[Comparison, dict[str, Any] | None]

RIG, TWIN, AGAIN = "#1c2230", "#d2691e", "#2463c9"
#: motors whose traces are drawn
DRAWN = 8


def write_report(
    folder: Path, result: dict[str, Any], first: Pair, second: Pair | None, twin: Played, rig: Played,
    played: Program,
) -> list[str]:  # fmt: skip
    """Write ``report.html``, ``comparison.json`` and the plots beside them; returns their paths."""
    plots = {
        "latency.png": _latency(first[0]),
        "motors.png": _motors(first[0]),
        "traces.png": _traces(first[0]),
    }
    if first[0].groups:
        plots["landmarks.png"] = _groups(first[0], None if second is None else second[0])
        plots["clip.png"] = _clip(first[0], None if second is None else second[0])
    if first[1] is not None:
        plots["controllers.png"] = _ranks(first[1], None if second is None else second[1])
    files = [_write(folder / name, data) for name, data in plots.items()]
    files.append(_write(folder / "comparison.json", (json.dumps(result, indent=1) + "\n").encode()))
    files.append(_write(folder / "report.html", _html(result, plots).encode()))
    return files


def print_result(result: dict[str, Any]) -> None:
    """The comparison for people."""
    pictures = f"{result['pictures']['rig']} pictures"
    print(f"{result['rig']} against its twin, {result['seconds']:.0f} s, {pictures}")
    for title, key in (("", "compared"), ("after calibration", "calibrated")):
        part = result[key]
        if part is None:
            continue
        if title:
            print(f"\n{title}")
        heads = (
            "latency ms",
            "twin ms",
            "gain",
            "face gain",
            "dead band rad",
            "play rad",
            "left",
            "unaligned",
        )
        print(f"{'motor':<22}{'by':>8}" + "".join(f"{head:>14}" for head in heads))
        for name, m in part["motors"].items():
            row = _row(m)
            print(f"{name:<22}{m['by']:>8}" + "".join(f"{_said(x):>14}" for x in row) + f"  {m['note']}")
        if part["camera_s"] is not None:
            print(f"camera later than its times say: {1e3 * part['camera_s']:.1f} ms "
                  f"(sd {1e3 * part['camera_sd_s']:.1f})")  # fmt: skip
        for name, g in part["groups"].items():
            print(f"{name:<22}{g['aligned_u']:.4f} u apart, {g['distance_u']:.4f} with the delay left in; "
                  f"motion {g['motion_u']:.4f}, scatter {g['scatter_u']:.4f}")  # fmt: skip
        for metric, r in (part["ranks"] or {}).items():
            line = f"{metric}: Pearson {_said(r['pearson'])}, mean maximum rank violation {_said(r['mmrv'])}"
            print(f"{line} {r['unit']} of {_said(r['spread_on_rig'])} between the controllers")
            for name, s in r["scores"].items():
                print(f"    {name:<24}twin {s['twin']:7.3f}   rig {s['rig']:7.3f}")
    print(f"\n{result['kept_time']}")
    for note in result["notes"]:
        print(f"note: {note}")
    print(f"report: {result['files'][-1]}")


def _row(m: Mapping[str, Any]) -> tuple[float | None, ...]:
    best, twin, mirror = m["sensor"] or m["mirror"], m["twin"], m["mirror"]

    def of(fit: Mapping[str, Any] | None, key: str, scale: float = 1.0) -> float | None:
        value = None if fit is None or key not in fit else fit[key]["value"]
        return None if value is None else scale * value

    return (of(best, "latency", 1e3), of(twin, "latency", 1e3), m["gain"], m["face_gain"],
            of(best, "dead_band"), of(mirror, "backlash"), m["residual"], m["unaligned"])  # fmt: skip


def _said(x: float | None) -> str:
    return "–" if x is None else f"{x:.4g}" if abs(x) < 10 else f"{x:.1f}"


def _write(path: Path, data: bytes) -> str:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return str(path)


# --- page -----------------------------------------------------------------------------------------------


def _html(result: dict[str, Any], plots: dict[str, bytes]) -> str:
    images = {
        name: f"<img alt='{name}' src='data:image/png;base64,{base64.b64encode(data).decode()}'>"
        for name, data in plots.items()
    }
    parts = [
        _section(
            "Latency",
            "From a command to the motor's first motion. Bars: standard deviation of the estimate. "
            + _camera_said(result),
            images["latency.png"],
        ),
        _section(
            "Motors",
            "Gain: motion of the rig for motion of the twin, of the shaft where sensors tell; face gain: the "
            "same as the mirror shows it, horn and skin included. Left: root mean square between both in "
            "commands, delay and gain taken out. A dead band or a play is only as good as its standard "
            "deviation in comparison.json.",
            images["motors.png"] + _motor_table(result),
        ),
        _section(
            "Traces",
            "Where each motor stood in its turn: steps, slow ramp, small steps, chirp; by the servo's sensor "
            "or by the mirror. The servo that was fitted is drawn over what was seen.",
            images["traces.png"],
        ),
    ]
    if "landmarks.png" in images:
        parts.append(_section(
            "Landmarks",
            "Mean distance of twin and rig, each from its own rest face, the delay taken out, in u.",
            images["landmarks.png"] + _group_table(result) + images["clip.png"],
        ))  # fmt: skip
    if "controllers.png" in images:
        parts.append(_section(
            "Controllers",
            "The same commands on both. The twin is of use for choosing between controllers if it ranks them "
            "as the rig does: r near 1, and a mean maximum rank violation that is small against the spread.",
            images["controllers.png"] + _rank_tables(result),
        ))  # fmt: skip
    if result["calibration"] is not None:
        changed = result["calibration"]["changed"]
        rows = tuple((key, (value,)) for key, value in changed.items())
        lead = f"{len(rows)} numbers differ: {result['calibration']['rig']}"
        table = _table(Table("Changed", ("value",), rows, ("",)))
        parts.append(_section("Calibrated table", _text(lead), table))
    notes = "".join(f"<li>{_text(note)}</li>" for note in result["notes"])
    title = f"{result['rig']} against its twin"
    lead = (
        f"table {result['table']}, {result['seconds']:.0f} s, {result['pictures']['rig']} pictures of the "
        f"rig, {result['pictures']['twin']} of the twin; {result['kept_time']}; lengths in {result['unit']}"
    )
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f"<header><h1>{_text(title)}</h1><p class=lead>{_text(lead)}</p>"
        + (f"<ul class=notes>{notes}</ul>" if notes else "")
        + "</header>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _camera_said(result: dict[str, Any]) -> str:
    part = result["compared"]
    if part["camera_s"] is not None:
        return (
            f"By the servos' own sensors; pictures are {1e3 * part['camera_s']:.1f} ms "
            f"(sd {1e3 * part['camera_sd_s']:.1f}) later than their times say, which is the camera's."
        )
    if result["measures"]:
        return "By the servos' own sensors; no mirror tells the camera's share."
    return "By the mirror: servo, pulse and what the camera's times do not say are in it together."


def _motor_table(result: dict[str, Any]) -> str:
    columns = (
        "latency, ms", "twin, ms", "gain", "face gain", "dead band, rad", "play, rad", "left", "unaligned",
    )  # fmt: skip
    out = []
    for title, key in (("Motors", "compared"), ("Motors, calibrated twin", "calibrated")):
        if result[key] is not None:
            rows = tuple((f"{name} ({m['by']})", _row(m)) for name, m in result[key]["motors"].items())
            out.append(f"<p class=lead>{title}</p>" + _table(Table(title, columns, rows, ("",) * 8)))
    return "".join(out)


def _group_table(result: dict[str, Any]) -> str:
    columns = ("aligned, u", "with the delay, u", "scatter at rest, u", "motion, u")
    keys = ("aligned_u", "distance_u", "scatter_u", "motion_u")
    rows = [(name, tuple(g[k] for k in keys)) for name, g in result["compared"]["groups"].items()]
    if result["calibrated"] is not None:
        rows += [
            (f"{name}, calibrated", tuple(g[k] for k in keys))
            for name, g in result["calibrated"]["groups"].items()
        ]
    return _table(Table("Landmarks", columns, tuple(rows), ("low", "", "", "")))


def _rank_tables(result: dict[str, Any]) -> str:
    out = []
    for title, key in (("twin", "compared"), ("calibrated twin", "calibrated")):
        part = result[key]
        for metric, r in ((part or {}).get("ranks") or {}).items():
            rows = tuple((name, (s["twin"], s["rig"])) for name, s in r["scores"].items())
            said = (
                f"{metric}: Pearson {_said(r['pearson'])}, mean maximum rank violation {_said(r['mmrv'])} "
                f"{r['unit']}, spread on the rig {_said(r['spread_on_rig'])}"
            )
            table = Table(metric, (title, "rig"), rows, (r["better"],) * 2)
            out.append(f"<p class=lead>{_text(said)}</p>" + _table(table))
    return "".join(out)


# --- plots ------------------------------------------------------------------------------------------------


def _latency(comparison: Comparison) -> bytes:
    motors = comparison.motors
    at = np.arange(len(motors))
    figure = _figure(9.5, 3.6)
    axes = figure.add_subplot()
    for shift, pick, colour, label in (
        (0.12, lambda m: m.best, RIG, "rig"), (-0.12, lambda m: m.twin_best, TWIN, "twin"),
    ):  # fmt: skip
        fits = [pick(m) for m in motors]
        known = [k for k, f in enumerate(fits) if f is not None]
        axes.errorbar(
            at[known] + shift, [1e3 * fits[k].latency for k in known],
            [1e3 * fits[k].spread[0] for k in known], fmt="o", ms=4, color=colour, label=label,
        )  # fmt: skip
    axes.set_xticks(at, [m.name for m in motors], rotation=60, ha="right", fontsize=7)
    axes.set_ylabel("latency, ms")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def _motors(comparison: Comparison) -> bytes:
    motors = comparison.motors
    at = np.arange(len(motors))
    figure = _figure(9.5, 5.0)
    gains, left = figure.subplots(2, 1, sharex=True)
    gains.bar(at, [m.gain for m in motors], 0.6, color=AGAIN)
    gains.axhline(1.0, color="0.5", lw=0.8, ls=":")
    gains.set_ylabel("gain")
    left.bar(at - 0.2, [m.raw for m in motors], 0.38, color=TWIN, label="as played")
    left.bar(at + 0.2, [m.residual for m in motors], 0.38, color=AGAIN, label="delay and gain taken out")
    left.set_ylabel("rms, commands")
    left.set_xticks(at, [m.name for m in motors], rotation=60, ha="right", fontsize=7)
    left.legend(frameon=False, fontsize=8)
    return _png(figure)


def _traces(comparison: Comparison) -> bytes:
    shown = [m for m in comparison.motors if m.best is not None]
    # the ones that differ most
    picked = sorted(shown, key=lambda m: -m.raw)[:DRAWN]
    picked = [m for m in comparison.motors if m in picked]
    figure = _figure(9.5, 1.6 * max(len(picked), 1))
    for k, motor in enumerate(picked):
        axes = figure.add_subplot(len(picked), 1, k + 1)
        _trace(axes, motor)
    if picked:
        figure.axes[0].legend(frameon=False, fontsize=7, ncols=3, loc="upper right")
        figure.axes[-1].set_xlabel("s", fontsize=8)
    return _png(figure)


def _trace(axes: Any, motor: MotorResult) -> None:
    twin, rig = motor.twin_best, motor.best
    if twin is not None:
        axes.plot(twin.time, twin.seen, color=TWIN, lw=1, label="twin")
    if rig is not None:
        axes.plot(rig.time, rig.seen, ".", color=RIG, ms=2.5, label="rig")
        axes.plot(rig.time, rig.fitted, color=AGAIN, lw=0.9, label="servo fitted to the rig")
    axes.set_title(f"{motor.name}, by {motor.by}", fontsize=8, loc="left")
    axes.tick_params(labelsize=7)


def _groups(first: Comparison, second: Comparison | None) -> bytes:
    at = np.arange(len(first.groups))
    figure = _figure(9.5, 3.0)
    axes = figure.add_subplot()
    wide = 0.28 if second is None else 0.2
    bars = [("as played", [g.raw for g in first.groups], TWIN),
            ("delay taken out", [g.aligned for g in first.groups], AGAIN)]  # fmt: skip
    if second is not None:
        bars.append(("calibrated, delay taken out", [g.aligned for g in second.groups], "#2e8b57"))
    bars.append(("scatter at rest", [g.scatter for g in first.groups], "0.7"))
    for k, (label, values, colour) in enumerate(bars):
        axes.bar(at + (k - (len(bars) - 1) / 2) * wide, values, wide, color=colour, label=label)
    axes.set_xticks(at, [g.name for g in first.groups])
    axes.set_ylabel("mean distance, u")
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def _clip(first: Comparison, second: Comparison | None) -> bytes:
    figure = _figure(9.5, 5.6)
    grid = figure.subplots(3, 2, sharex=True)
    for k, (axes, group) in enumerate(zip(grid.ravel(), first.groups)):
        axes.plot(first.time, first.rig_curves[:, k], color=RIG, lw=1.2, label="rig")
        axes.plot(first.time, first.twin_curves[:, k], color=TWIN, lw=1, label="twin")
        if second is not None:
            axes.plot(second.time, second.twin_curves[:, k], color=AGAIN, lw=1, label="calibrated twin")
        axes.set_title(f"{group.name}: displacement in the expression clip, u", fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
    grid[0, 0].legend(frameon=False, fontsize=7)
    return _png(figure)


def _ranks(first: dict[str, Any], second: dict[str, Any] | None) -> bytes:
    figure = _figure(9.5, 4.2)
    for k, (metric, r) in enumerate(first.items()):
        axes = figure.add_subplot(1, len(first), k + 1)
        for ranks, colour, label in ((first, TWIN, "twin"), (second, AGAIN, "calibrated twin")):
            if ranks is not None:
                pairs = ranks[metric]["scores"].values()
                own, theirs = ([s[key] for s in pairs] for key in ("rig", "twin"))
                axes.plot(own, theirs, "o", color=colour, label=label)
        for name, s in r["scores"].items():
            axes.annotate(name, (s["rig"], s["twin"]), fontsize=6, xytext=(4, 3), textcoords="offset points")
        ends = [v for s in r["scores"].values() for v in s.values()]
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color="0.6", lw=0.8, ls=":")
        axes.set_xlabel(f"{metric} on the rig {r['unit']}", fontsize=8)
        axes.set_ylabel("on the twin", fontsize=8)
        axes.set_title(f"r = {_said(r['pearson'])}, MMRV = {_said(r['mmrv'])}", fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
        axes.legend(frameon=False, fontsize=7)
    return _png(figure)
