"""What a calibration shows: curves and tables in one HTML file that loads nothing, the same plots as PNG."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.report import _STYLE, Table, _section, _table, _text

if TYPE_CHECKING:
    from facetwin.twin.calibration.fit import Fit, Fitter
    from facetwin.twin.spec import RigSpec

BEFORE, AFTER, SEEN = "#d2691e", "#2463c9", "#1c2230"


def write_report(
    folder: Path,
    spec: RigSpec,
    fitter: Fitter,
    fit: Fit,
    result: dict[str, Any],
    strip: list[list[NDArray[np.uint8]]] | None = None,
) -> list[str]:
    """Write ``report.html`` and the plots beside it; returns their paths.

    Parameters
    ----------
    strip : of the film, the twin before and the twin after: as many pictures, uint8 [shape=(H, W, 3)]
    """
    plots = {
        "motors.png": _motors(result),
        "curves.png": _curves(fitter, fit),
        "parameters.png": _parameters(fitter, fit),
    }
    if strip and strip[0] and len({len(row) for row in strip}) == 1:
        plots["film.png"] = _film(strip)
    files = []
    for name, data in plots.items():
        files.append(_write(folder / name, data))
    files.append(_write(folder / "report.html", _html(spec, result, plots).encode()))
    return files


def print_scores(result: dict[str, Any]) -> None:
    """The result for people."""
    s = result["scores"]
    print(
        f"{'landmark error':<28}{'before u':>10}{'after u':>10}{'ratio':>8}{'before mm':>11}{'after mm':>10}"
    )
    for name, key in (("fitted", "train"), ("held out", "held_out"), ("held out, lips", "held_out_lips")):
        p = s[key]
        print(f"{name:<28}{p['before_u']:>10.4f}{p['after_u']:>10.4f}{p['ratio']:>8.2f}{p['before_mm']:>11.2f}"
              f"{p['after_mm']:>10.2f}")  # fmt: skip
    if "closed" in result:
        c = result["closed"]
        name = "held out, twin in its mirror"
        print(f"{name:<28}{c['before_u']:>10.4f}{c['after_u']:>10.4f}{c['ratio']:>8.2f}"
              f"{c['before_mm']:>11.2f}{c['after_mm']:>10.2f}")  # fmt: skip
    print(f"{'scatter at rest':<28}{'':>10}{s['scatter_at_rest_u']:>10.4f}")
    print()
    print(f"{'motor':<24}{'held out u':>11}{'after':>9}{'ratio':>7}   what moved")
    for name, m in s["motors"].items():
        p = m["held_out"]
        moved = [
            f"{key} {v['before']:.3g}→{v['after']:.3g}"
            for key, v in m["parameters"].items()
            if v["left_of_prior"] < 0.5
        ]
        print(f"{name:<24}{p['before_u']:>11.4f}{p['after_u']:>9.4f}{p['ratio']:>7.2f}   {', '.join(moved)}")
    for note in result["notes"]:
        print(f"note: {note}")
    print(f"rig file: {result['rig']}")


def _write(path: Path, data: bytes) -> str:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return str(path)


def _html(spec: RigSpec, result: dict[str, Any], plots: dict[str, bytes]) -> str:
    s = result["scores"]
    columns = ("before, u", "after, u", "after / before", "before, mm", "after, mm")
    keys = ("before_u", "after_u", "ratio", "before_mm", "after_mm")
    rows = [
        (name, tuple(s[key][k] for k in keys))
        for name, key in (("held out", "held_out"), ("held out, lips", "held_out_lips"), ("fitted", "train"))
    ]
    if "closed" in result:
        c = result["closed"]
        rows.append((f"held out, the twin itself in its mirror ({c['pictures']} pictures)",
                     tuple(c.get(k) for k in keys)))  # fmt: skip
    none = ("",) * 5
    over_all = Table("Error", columns, tuple(rows), none)
    motors = Table(
        "Motors", ("fitted before, u", "after, u", "held out before, u", "after, u", "after / before"),
        tuple((name, (m["train"]["before_u"], m["train"]["after_u"], m["held_out"]["before_u"],
                      m["held_out"]["after_u"], m["held_out"]["ratio"])) for name, m in s["motors"].items()),
        none,
    )  # fmt: skip
    changed = Table(
        "Parameters", ("before", "after", "left of what was unknown"),
        tuple((f"{name}: {key}", (v["before"], v["after"], v["left_of_prior"]))
              for name, m in s["motors"].items() for key, v in m["parameters"].items()), ("",) * 3,
    )  # fmt: skip
    images = {
        name: f"<img alt='{name}' src='data:image/png;base64,{base64.b64encode(data).decode()}'>"
        for name, data in plots.items()
    }
    notes = "".join(f"<li>{_text(note)}</li>" for note in result["notes"])
    title = f"Calibration of {spec.name}"
    lead = (
        "Mean distance of the landmarks from the recorded ones, by the map that was fitted; the tracker's "
        f"scatter at rest is {s['scatter_at_rest_u']:.4f} u."
    )
    parts = [_section("Error", _text(lead), _table(over_all))]
    if "film.png" in images:
        parts.append(_section("Film", "Held-out pictures: the film; the twin before, and how it differs; "
                              "the twin after, and how it differs.", images["film.png"]))  # fmt: skip
    parts += [
        _section("Motors", "Landmarks that each motor moves, where it takes part, in u.",
                 images["motors.png"] + _table(motors)),
        _section("Curves", "What was seen, and what the table says before and after, in a held-out stretch.",
                 images["curves.png"]),
        _section("Parameters", "Left of what was unknown: 0 well seen, 1 not seen at all.",
                 images["parameters.png"] + _table(changed)),
    ]  # fmt: skip
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f"<header><h1>{_text(title)}</h1><p class=lead>{_text(result['recording'])}; skin: {result['skin']}; "
        f"landmarks: {result['landmarks']}</p>"
        + (f"<ul class=notes>{notes}</ul>" if notes else "")
        + "</header>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _film(strip: list[list[NDArray[np.uint8]]]) -> bytes:
    # Film, twin before, its difference, twin after, its difference: a row each.
    from PIL import Image

    film, before, after = (np.concatenate(row, 1).astype(np.int16) for row in strip)
    rows = [film, before, 128 + before - film, after, 128 + after - film]
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.concatenate(rows), 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _motors(result: dict[str, Any]) -> bytes:
    motors = result["scores"]["motors"]
    at = np.arange(len(motors))
    figure = _figure(9.5, 3.6)
    axes = figure.add_subplot()
    for shift, key, colour in ((-0.2, "before_u", BEFORE), (0.2, "after_u", AFTER)):
        axes.bar(
            at + shift, [m["held_out"][key] for m in motors.values()], 0.38, color=colour, label=key[:-2]
        )
    axes.axhline(result["scores"]["scatter_at_rest_u"], color="0.5", lw=0.8, ls=":", label="scatter at rest")
    axes.set_xticks(at, list(motors), rotation=60, ha="right", fontsize=7)
    axes.set_ylabel("held-out error, u")
    axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def _curves(fitter: Fitter, fit: Fit) -> bytes:
    """Landmark coordinates that some motors move most, over a held-out stretch."""
    data, face_map, spec = fitter.data, fitter.map, fitter.spec
    chosen = data.split()[1]
    when = data.picture_time[chosen]
    begin = fitter.nothing()
    seen = face_map.target(data.landmarks[chosen], data.turn[chosen])
    predicted = [fitter.predict(v, when) + fitter.offset(v) for v in (begin, fit.values)]
    _, slope = face_map.gradient(spec.rest[None], fit.values.material, np.arange(spec.size))
    strength = np.abs(slope[0, :-3, : spec.size])
    picked: list[tuple[int, int]] = []
    for motor in np.argsort(-strength.max(0) * np.ptp(fitter.positions(fit.values, when), axis=0)):
        if len(picked) < 6 and fit.fitted[motor].any():
            picked.append((int(motor), int(strength[:, motor].argmax())))
    figure = _figure(9.5, 1.7 * max(len(picked), 1))
    for k, (motor, coordinate) in enumerate(picked):
        axes = figure.add_subplot(len(picked), 1, k + 1)
        for curve, colour, label in (
            (predicted[0], BEFORE, "before"), (predicted[1], AFTER, "after"), (seen, SEEN, "seen"),
        ):  # fmt: skip
            _broken(axes, when, curve[:, coordinate], colour, label)
        axes.set_title(_coordinate(face_map, coordinate, spec.names[motor]), fontsize=8, loc="left")
        axes.tick_params(labelsize=7)
    if picked:
        axes.set_xlabel("s", fontsize=8)
        figure.axes[0].legend(frameon=False, fontsize=7, ncols=3, loc="upper right")
    return _png(figure)


def _broken(axes: Any, x: NDArray[Any], y: NDArray[Any], colour: str, label: str) -> None:
    # a line that is not drawn across what was not held out
    gap = np.flatnonzero(np.diff(x) > 1.0) + 1
    axes.plot(np.insert(x, gap, np.nan), np.insert(y, gap, np.nan), color=colour, lw=1, label=label)


def _coordinate(face_map: Any, coordinate: int, motor: str) -> str:
    point, axis = divmod(coordinate, face_map.dims)
    return f"{motor}: landmark {face_map.points[point]}, {'xyz'[axis]}, u"


def _parameters(fitter: Fitter, fit: Fit) -> bytes:
    """Each parameter of each motor: where it went, darker where the recording shows it."""
    from facetwin.twin.calibration.parameters import NAMES

    moved = fit.values.z / fitter.scale.prior
    figure = _figure(9.5, 3.4)
    axes = figure.add_subplot()
    shown = np.where(fit.fitted, np.clip(moved, -2.5, 2.5), np.nan).T
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto")
    for i in range(fitter.spec.size):
        for k in range(len(NAMES)):
            if fit.fitted[i, k] and fit.known[i, k] < 0.5:
                axes.plot(i, k, "k.", ms=3)
    axes.set_yticks(range(len(NAMES)), NAMES, fontsize=7)
    axes.set_xticks(range(fitter.spec.size), fitter.spec.names, rotation=60, ha="right", fontsize=7)
    axes.set_title(
        "way from the file's value, in prior standard deviations; dot: well seen", fontsize=8, loc="left"
    )
    figure.colorbar(image, ax=axes)
    return _png(figure)
