"""How fast pictures are drawn: OpenGL beside our own kernels, same scene, same machine, same run.

    python benchmarks/render_speed.py            # a minute; --json for machines

Every picture has a new posture (babbled, linear skin, solved beforehand). CPU seconds of one core, medians of
`ROUNDS` rounds that take turns; for OpenGL on a software driver, which may use more cores, the threads' time
counts, too. `batch` draws 64 pictures in one call. The skin solve is not in these figures.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np

from facetwin.policies.babble import mixed
from facetwin.twin.camera import Camera, NoGL
from facetwin.twin.couplings import Couplings
from facetwin.twin.raster import RasterCamera
from facetwin.twin.spec import load_rig
from facetwin.twin.twin import FaceTwin, State

SIZES, SAMPLES, BATCH, ROUNDS = (64, 128, 256), (1, 4), 64, 5


def main() -> None:
    """Measure, print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    spec = load_rig()
    lens = spec.cameras["mirror"]
    rules = Couplings(spec)
    commands = [rules.project(c) for c in islice(mixed(spec, np.random.default_rng(0)), BATCH)]
    with FaceTwin(spec, solver="linear") as twin:
        states = [twin.move(c, fresh=True) for c in commands]
        face = twin.face
    vertices = np.stack([s.vertices for s in states])
    poses = {k: np.stack([s.poses[k] for s in states]) for k in states[0].poses}
    rows = []
    for size in SIZES:
        for samples in SAMPLES:
            fast = RasterCamera(face, lens, size=(size, size), samples=samples)
            ways: dict[str, Callable[[], object]] = {
                "fast, batch": lambda c=fast: c.render_batch(vertices, poses),
                "fast, single": lambda c=fast: one_by_one(c, states),
            }
            try:
                slow = Camera(face, lens, size=(size, size), samples=samples if samples > 1 else 0)
                ways["OpenGL"] = lambda c=slow: one_by_one(c, states[:16])
            except NoGL as error:
                slow = None
                print(error, file=sys.stderr)
            costs: dict[str, list[float]] = {name: [] for name in ways}
            for draw in ways.values():
                draw()  # compiled, uploaded
            for _ in range(ROUNDS):
                for name, draw in ways.items():
                    start = time.process_time()
                    draw()
                    pictures = 16 if name == "OpenGL" else BATCH
                    costs[name].append((time.process_time() - start) / pictures)
            if slow is not None:
                slow.close()
            rate = {name: 1 / float(np.median(c)) for name, c in costs.items()}
            rows.append({"size": size, "samples": samples, **{k: round(v, 1) for k, v in rate.items()}})
            ratio = rate["fast, batch"] / rate["OpenGL"] if "OpenGL" in rate else float("nan")
            rows[-1]["ratio"] = round(ratio, 1)
    facts = {
        "machine": processor(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numba", "numpy", "pyrender")},
        "unit": "pictures per CPU second",
        "rows": rows,
    }
    if asked.json:
        print(json.dumps(facts, indent=1))
        return
    print({k: v for k, v in facts.items() if k != "rows"})
    print("| size | samples | fast, batch of 64 | fast, single | OpenGL | ratio |")
    print("|---|---|---|---|---|---|")
    for r in rows:
        cells = (
            r["size"],
            r["samples"],
            *(f"{r.get(k, float('nan')):,.0f}" for k in ways),
            f"{r['ratio']:.0f}",
        )
        print("| " + " | ".join(map(str, cells)) + " |")


def one_by_one(camera: Camera | RasterCamera, states: list[State]) -> None:
    """Draw them all."""
    for state in states:
        camera.render(state.vertices, state.poses)


def processor() -> str:
    """Name of the processor, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()
