"""The picture beside a dataset's manifest: how its videos' scores are spread, and where the limits lie."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from facetwin.policies.cleaning import Limits


class Panel(NamedTuple):
    """One histogram: fact of the manifest, its title, and the limits drawn into it."""

    fact: str
    title: str
    limits: tuple[float, ...]
    hold: str = "below"


def panels(limits: Limits) -> tuple[Panel, ...]:
    """What is drawn, for these limits."""
    return (
        Panel("bitrate_kbps", "bitrate of the pictures, kbit/s", (limits.bitrate,), "above"),
        Panel("centerness_deg", "centerness, degrees", (limits.centerness,)),
        Panel("shakiness_deg", "shakiness, degrees a picture", (limits.shakiness,)),
        Panel("eye_distance_px", "eye corners apart, px", (limits.face,), "above"),
        Panel("sound_late_ms", "sound late, ms", (-limits.offset, limits.offset)),
        Panel("sync_confidence", "confidence in that", (limits.confidence,), "above"),
        Panel("missing", "share of pictures without a face", (limits.missing,)),
        Panel("jump_u", "largest move between pictures, u", (limits.jump,)),
    )


def draw(rows: Sequence[Mapping[str, Any]], limits: Limits, path: Path) -> bool:
    """Write the picture; False where nothing was measured. It is there whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not any("centerness_deg" in row for row in rows):
        return False
    kept = sum(bool(row["kept"]) for row in rows)
    figure = Figure(figsize=(13, 6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(2, 4).flat, panels(limits)):
        values = {
            name: [
                float(row[panel.fact]) for row in rows if panel.fact in row and bool(row["kept"]) == is_kept
            ]
            for name, is_kept in (("kept", True), ("dropped", False))
        }
        if any(values.values()):
            axes.hist(
                list(values.values()), bins=30, stacked=True, label=list(values), color=["#3a7ca5", "#d1603d"]
            )
        for limit in panel.limits:
            if limit > 0 or len(panel.limits) == 2 or panel.hold == "below":
                axes.axvline(limit, color="#b00020", linestyle="--", linewidth=1)
        axes.set_title(panel.title, fontsize=10)
        axes.set_ylabel("videos", fontsize=8)
        axes.tick_params(labelsize=8)
    figure.axes[0].legend(fontsize=8)
    figure.suptitle(f"{len(rows)} videos, {kept} kept; dashed: limits")
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=110)
    os.replace(part, path)
    return True
