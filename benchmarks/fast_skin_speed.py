"""How many poses a second the fast skin gives on one core (issue: one at a time 10,000, 64 at once 100,000).

    python benchmarks/fast_skin_speed.py [--weights FILE.safetensors] [--repeats 400]

CPU time of the thread, so that neighbours count little, though they still cost cache: medians and minima
over repeats, after a warm-up. Batches are written into memory that is kept (``out=``). Nothing is asserted:
it is a table, not a test.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before any BLAS is loaded
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import torch

from facetwin.policies.babble import babbler
from facetwin.twin.face import load_face
from facetwin.twin.landmarks import indices
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.spec import load_rig

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--repeats", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec, face = load_rig(), load_face()
    whole = FastSkin.load(spec, face, path=options.weights)
    source = babbler("mixed", spec, np.random.default_rng(0))
    poses = np.array([next(source) for _ in range(BATCH)])
    batch = torch.from_numpy(poses)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()},", end=" ")
    print(f"numpy {np.__version__}, numba {numba.__version__}, torch {torch.__version__}; one core, CPU time")
    print("| points | poses at once | us median | us least | poses/s median | poses/s best |")
    print("|---|---|---|---|---|---|")
    for name, points in (
        (f"all {len(whole.rest)} vertices", np.arange(len(whole.rest))),
        ("468 landmarks", np.arange(468)),
        ("40 lips", indices("lips40")),
    ):
        skin = whole.only(points)
        out = torch.empty(BATCH, len(points), 3)
        calls: list[tuple[int, Callable[[], object]]] = [
            (1, lambda skin=skin: skin.shape(poses[0])),  # type: ignore[misc]
            (BATCH, lambda skin=skin, out=out: skin(batch, out=out)),  # type: ignore[misc]
        ]
        for count, call in calls:
            times = timed(call, options.repeats)
            middle, least = np.median(times), times.min()
            print(
                f"| {name} | {count} | {middle:.1f} | {least:.1f} | {count / middle * 1e6:,.0f} |"
                f" {count / least * 1e6:,.0f} |",
                flush=True,
            )


def timed(call: Callable[[], object], repeats: int) -> np.ndarray:
    """CPU times of a call in us, float64 [shape=(repeats,)]."""
    for _ in range(20):
        call()
    times = np.empty(repeats)
    for k in range(repeats):
        start = time.thread_time_ns()
        call()
        times[k] = (time.thread_time_ns() - start) * 1e-3
    return times


if __name__ == "__main__":
    main()
