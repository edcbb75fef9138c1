"""The tracker's response on our face: true opening and width against what it sees (DESIGN section 10).

    python benchmarks/tracker_response.py    # about two minutes; draws docs/pictures/tracker_response.png

The twin is posed at known openings of 0 to .25 u in 25 steps (jaw) and known widths (corners), each looked
at in `LOOKS` pictures with a little neck motion and camera noise. True: the distance of the skin's own
points 13 and 14 (61 and 291) in the skull's frame, over the eye-corner distance. Seen: the tracker's,
aligned, in u.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from facetwin.cli.progress import track
from facetwin.twin.landmarks import align, fit_unit, opening, width
from facetwin.twin.spec import load_rig
from facetwin.twin.tracker import Tracker
from facetwin.twin.twin import FaceTwin

STEPS, LOOKS, SEED = 25, 8, 0
DOCS = Path(__file__).resolve().parent.parent / "docs"
REST_GAP = 0.0003  # m between the points of the shut mouth


def main() -> None:
    """Measure, print the table, draw the plot, write the figures."""
    spec = load_rig()
    noise = spec.cameras["mirror"].noise
    jaw = spec.index("jaw")
    stretch = [i for i, n in enumerate(spec.names) if n.endswith("corner_stretch")]
    neck = spec.group("neck")
    with FaceTwin(spec) as twin, Tracker(looks=4) as tracker:  # as `speak` looks
        u = twin.face.metres_per_u

        def true_opening(v: np.ndarray) -> float:
            return float(v[13, 1] - v[14, 1] - REST_GAP) / u

        def true_width(v: np.ndarray) -> float:
            return float(np.linalg.norm(v[61, :2] - v[291, :2])) / u

        def look(command: np.ndarray) -> np.ndarray:
            found = []
            rng = np.random.default_rng(SEED)  # the same sway and noise at every step
            for _ in range(LOOKS):
                at = command.copy()
                at[neck] += rng.normal(0, 0.06, len(neck))
                picture = twin.picture(twin.move(at)) + rng.normal(0, noise, (1, 1, 1))
                picture = picture + rng.normal(0, noise, picture.shape)
                points = tracker.detect(np.clip(picture, 0, 255).astype(np.uint8), mirrored=True)
                if points is not None:
                    found.append(points)
            return np.array(found)

        unit = fit_unit(look(spec.rest))
        grid = np.linspace(0, 0.9, 31)
        ways = []
        for value in grid:
            command = spec.rest.copy()
            command[jaw] = value
            ways.append(true_opening(twin.move(command).vertices))
        rows = []
        for wanted in track(np.linspace(0, 0.25, STEPS), description="openings"):
            command = spec.rest.copy()
            command[jaw] = np.interp(wanted, ways, grid)
            seen = opening(align(look(command), unit=unit))
            rows.append((true_opening(twin.move(command).vertices), seen.mean(), seen.std()))
        twin.reset()
        wide = []
        for value in track(np.linspace(0, 1, 11), description="widths"):
            command = spec.rest.copy()
            command[stretch] = value
            seen = width(align(look(command), unit=unit))
            wide.append((true_width(twin.move(command).vertices), seen.mean(), seen.std()))
    openings, widths = np.array(rows), np.array(wide)
    report(openings, widths)


def report(openings: np.ndarray, widths: np.ndarray) -> None:
    """Print and draw; rows are true, seen mean, seen spread, all in u."""
    error = openings[:, 1] - openings[:, 0]
    # blind: what is not seen apart from a shut mouth, by five times the spread of its looks
    shut = openings[0, 1] + max(0.01, 5 * openings[0, 2])
    blind = float(openings[openings[:, 1] < shut, 0].max(initial=0.0))
    beyond = openings[:, 0] > blind
    facts = {
        "unit": "u (outer eye corners = 1)",
        "looks_per_step": LOOKS,
        "seed": SEED,
        "monotone": bool((np.diff(openings[:, 1]) >= 0).all()),
        "blind_below": blind,
        "largest_error_above": float(np.abs(error[beyond]).max()),
        "spread_of_one_look": float(openings[:, 2].mean()),
        "openings": openings.round(4).tolist(),
        "widths": widths.round(4).tolist(),
    }
    for a, b, s in openings:
        print(f"opening true {a:.3f}  seen {b:.3f} ± {s:.3f}  {b - a:+.3f}")
    for a, b, s in widths:
        print(f"width   true {a:.3f}  seen {b:.3f} ± {s:.3f}  {b - a:+.3f}")
    print({k: v for k, v in facts.items() if k not in ("openings", "widths")})
    (DOCS / "tracker_response.json").write_text(json.dumps(facts, indent=1) + "\n")

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.3))
    for axis, data, name in ((axes[0], openings, "opening"), (axes[1], widths, "width")):
        low, high = data[:, 0].min(), data[:, 0].max()
        axis.plot([low, high], [low, high], color="0.6", lw=1, label="true")
        axis.fill_between(data[:, 0], data[:, 0] - 0.03, data[:, 0] + 0.03, color="0.9", label="± .03 u")
        axis.errorbar(data[:, 0], data[:, 1], data[:, 2], fmt="o-", ms=3, lw=1.2, capsize=2, label="seen")
        axis.set_xlabel(f"true {name}, u")
        axis.set_ylabel(f"seen {name}, u")
        axis.legend(frameon=False)
    figure.suptitle("FaceMesh on the twin's face, mean and spread over 8 looks")
    figure.tight_layout()
    figure.savefig(DOCS / "pictures" / "tracker_response.png", dpi=110)


if __name__ == "__main__":
    main()
