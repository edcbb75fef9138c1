"""Inverse in three ways, compared: what commands of each show of the same references, motors standing still.

``python benchmarks/inverses.py --data out/val --align grid_s1/align --clips 20``

Every answer is looked at through `LipCamera`, posture by posture: no servo, no safety layer, so that the
inverse alone is measured; ``facetwin bench lipsync`` executes them on a rig. References are the ideal robot
saying clips of people that nothing was trained on. One table, and each figure's ratio to the gradient's.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from facetwin.cli.bench_contest import encode_ms
from facetwin.cli.bench_reference import Studio
from facetwin.cli.progress import track
from facetwin.policies.action_transformer import ActionController
from facetwin.policies.closed_loop import KEPT, Seen
from facetwin.policies.controllers import NAMES, Controller, controller
from facetwin.policies.lipsync_clips import people
from facetwin.policies.lipsync_score import BY_NAME, Counts, Shown, Wanted, count, estimate, late_by, quotient
from facetwin.policies.vae import Vae
from facetwin.twin.lip_camera import LipCamera, LipViews
from facetwin.twin.spec import load_rig

FIGURES = (
    "latent distance", "D-P", "closure - control, geometry", "closure, geometry", "gap at bilabials", "jerk",
    "compute",
)  # fmt: skip
LOOKING = ("transformer",)  # methods whose compute includes the encoder


@dataclass(frozen=True)
class Options:
    """Compare inverses on the same references."""

    data: Path
    """dataset of tracked people that took no part in any training"""
    align: Path | None = None
    """their word alignments"""
    clips: int = 20
    """how many of them"""
    methods: tuple[str, ...] = NAMES
    """controllers by name"""
    store: Path = Path("out/inverses")
    """where the references are kept"""
    weights: tuple[str, ...] = ()
    """other weights than those that ship: NAME=FILE, NAME a method"""
    rig: str = "face26"
    """rig table"""
    vae: Path | None = None
    """encoder; default: the shipped one"""
    json: bool = False
    """print figures as JSON"""


def main(options: Options) -> None:
    """Make references, ask, look, score, print."""
    torch.set_num_threads(1)
    spec = load_rig(options.rig)
    vae = Vae.load(options.vae or spec)
    files = dict(pair.split("=", 1) for pair in options.weights)
    counts: dict[str, list[Counts]] = {}
    extra = encode_ms(vae)
    with ExitStack() as stack:
        studio = Studio(spec, vae, "geometry", stack)
        camera = stack.enter_context(LipCamera(spec))
        clips = people(options.data, options.align, options.clips)
        ideals = [
            studio.ideal(clip, options.store / clip.name) for clip in track(clips, description="ideal robot")
        ]
        still = camera.see(spec.rest[None])
        for name in options.methods:
            if name in files:
                one: Controller = ActionController.load(
                    spec, files[name], inputs="speech" if name.endswith("speech") else "latents"
                )
            else:
                one = controller(name, spec)
            for ideal in track(ideals, description=name):
                begin = time.process_time()
                commands = one.commands(ideal.reference)
                spent = 1e3 * (time.process_time() - begin) / len(commands)
                views = camera.see(commands)
                seen = Seen(
                    still.landmarks[0], views.landmarks[:, KEPT], np.ones(len(commands), bool), views.gap_mm
                )
                shown = Shown(
                    seen, vae.standard(vae.encode(views.crops)), commands=commands, asked=commands,
                    compute=spent + (extra if name in LOOKING else 0.0),
                )  # fmt: skip
                counts.setdefault(name, []).append(count(shown, ideal.wanted))
        for ideal in ideals:
            counts.setdefault("rest face", []).append(count(_rest(ideal.wanted, still, vae), ideal.wanted))
            counts.setdefault("one frame late", []).append(count(late_by(ideal.wanted, 1), ideal.wanted))
    rows = {name: {f: estimate(every, BY_NAME[f]) for f in FIGURES} for name, every in counts.items()}
    if options.json:
        print(json.dumps({m: {f: vars(e) for f, e in row.items()} for m, row in rows.items()}))
        return
    print(f"{len(ideals)} clips, {sum(map(len, ideals))} pictures; [95 % by bootstrap over clips]")
    print(f"{'':22}" + "".join(f"{name:>30}" for name in FIGURES))
    for name, row in rows.items():
        cells = [f"{row[f].value:.4g} [{row[f].low:.3g}, {row[f].high:.3g}]" for f in FIGURES]
        print(f"{name:22}" + "".join(f"{cell:>30}" for cell in cells))
    if "gradient" in counts:
        for name in options.methods:
            ratio = quotient(counts[name], counts["gradient"], BY_NAME["D-P"])
            print(f"D-P {name} / gradient: {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]")


def _rest(wanted: Wanted, still: LipViews, vae: Vae) -> Shown:
    """A face that does not move."""
    pictures = len(wanted)
    points = np.repeat(still.landmarks[:, KEPT], pictures, 0)
    seen = Seen(still.landmarks[0], points, np.ones(pictures, bool), np.repeat(still.gap_mm, pictures))
    return Shown(seen, np.repeat(vae.standard(vae.encode(still.crops)), pictures, 0))


if __name__ == "__main__":
    main(tyro.cli(Options))
