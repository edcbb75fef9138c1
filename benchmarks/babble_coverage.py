"""What babbling shows of what a mouth can do, against pictures spent.

Three babblers (anywhere; around key poses; seeking what was seldom seen), each symmetric and not. Coverage is
the share of cells of a grid over opening x width x protrusion x smile (8 each) that were reached, of those
that any of them reaches with three times as many pictures. Shapes are the fast skin's, poses that it does not
trust are not counted; landmarks by geometry; commands are projected onto what the couplings allow.

    python benchmarks/babble_coverage.py [--frames 20000] [--seeds 3] [--out docs/babble_coverage.json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facetwin.policies.babble import key_poses, symmetrise, uniform
from facetwin.policies.babble_seek import CELLS, Seeker, cells, shown
from facetwin.twin.couplings import Couplings
from facetwin.twin.face import load_face
from facetwin.twin.geometry import GeometricLandmarks
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.spec import load_rig

AT = (100, 300, 1000, 3000, 10_000, 20_000)
BATCH = 100
MORE = 3
NAMES = {"uniform": "anywhere", "keyposes": "key poses", "seeking": "seeking"}
#: the 478 landmarks need the first 468 vertices
Eye = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def mirror(spec: Any) -> Eye:
    """Commands (n, 26) to what was seen, landmarks (n, 478, 3), and whether it counts (n,)."""
    face = load_face()
    kinematics, points = Kinematics(spec, face), GeometricLandmarks(face)
    skin = FastSkin.load(spec, face, kinematics=kinematics).only(points.skin)

    def see(commands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            shapes = skin(torch.from_numpy(commands))
        return points.aligned(shapes.vertices.numpy(), kinematics.poses(commands)), shapes.trust.numpy()

    return see


def babbled(name: str, both: bool, frames: int, seed: int, spec: Any, see: Eye) -> np.ndarray:
    """Cell of each of `frames` pictures, -1 where it is not trusted."""
    rng, rule = np.random.default_rng((seed, both)), Couplings(spec)
    seeker = Seeker(spec, rng, symmetric=both)
    source = uniform(spec, rng) if name == "uniform" else key_poses(spec, rng)
    out = np.full(frames, -1)
    for start in range(0, frames, BATCH):
        count = min(BATCH, frames - start)
        if name == "seeking":
            rows = [seeker.next() for _ in range(count)]
        else:
            rows = [next(source) for _ in range(count)]
            rows = [symmetrise(spec, row) for row in rows] if both else rows
        commands = rule.project(np.array(rows))
        seen, good = see(commands)
        found = cells(shown(seen))
        if name == "seeking":
            for k in np.flatnonzero(good):
                seeker.look(commands[k], seen[k])
        out[start : start + count] = np.where(good, found, -1)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/babble_coverage.json"))
    options = parser.parse_args()
    spec = load_rig()
    see = mirror(spec)
    reached = np.zeros(CELLS**4, bool)
    for name in NAMES:
        for both in (False, True):
            found = babbled(name, both, MORE * options.frames, 1000, spec, see)
            reached[found[found >= 0]] = True
    total = int(reached.sum())
    at = [n for n in AT if n <= options.frames]
    table: dict[str, Any] = {
        "cells_reached_by_any": total,
        "frames": at,
        "seeds": options.seeds,
        "curves": {},
    }
    for name, label in NAMES.items():
        for both in (True, False):
            curves = []
            for seed in range(options.seeds):
                found = babbled(name, both, options.frames, seed, spec, see)
                curves.append([len({*found[:n].tolist()} - {-1} & set(np.flatnonzero(reached))) for n in at])
            share = np.array(curves) / total
            key = f"{label}, {'symmetric' if both else 'asymmetric'}"
            table["curves"][key] = {
                "mean": share.mean(0).round(4).tolist(),
                "spread": np.ptp(share, 0).round(4).tolist(),
            }
            print(f"{key:24}" + "".join(f"{v:8.3f}" for v in share.mean(0)), flush=True)
    options.out.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    draw(table, options.out.parent / "pictures" / "babble_coverage.png")


def draw(table: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 3.8), dpi=110)
    colours = dict(zip(NAMES.values(), ("#888888", "#c0504d", "#2f6db3")))
    for key, row in table["curves"].items():
        label, side = key.split(", ")
        style = "--" if side == "symmetric" else "-"
        axes.plot(table["frames"], 100 * np.array(row["mean"]), style, marker="o", ms=3, color=colours[label],
                  label=key)  # fmt: skip
    axes.set(xscale="log", xlabel="pictures looked at", ylabel="cells reached, %", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
