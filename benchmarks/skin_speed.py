"""How fast the exact skin follows speech, contacts on, one core (issue: 150 solves/s to 0.1 mm).

    python benchmarks/skin_speed.py [--commands FILE.npy] [--frames 100] [--repeats 3]

`FILE.npy` holds commands of spoken motion, float [shape=(n, 26)], at 25 a second; without it the motion is
made: key poses of speech, four a second, joined smoothly. The 50 Hz rows are the same motion at the rig's
control rate. Each solve starts from the last. CPU time of the process, so that neighbours count little;
medians over repeats of the mean time of a run. Nothing is asserted: it is a table, not a test.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numba
import numpy as np
import scipy

from facetwin.policies.babble import key_pose
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.spec import RigSpec, load_rig
from facetwin.twin.twin import build_skin

SPOKEN = ("neutral", "ah", "press", "ee", "oh", "press", "oo", "lip to teeth", "eh")


def made(spec: RigSpec, frames: int) -> np.ndarray:
    """Smooth motion through the key poses of speech, float64 [shape=(frames, n)], 25 a second."""
    keys = np.array([spec.rest + 0.6 * (key_pose(spec, name) - spec.rest) for name in SPOKEN])
    at = np.arange(frames) * 4 / 25
    k, share = np.floor(at).astype(int), at % 1
    share = (share * share * (3 - 2 * share))[:, None]
    return keys[k % len(keys)] * (1 - share) + keys[(k + 1) % len(keys)] * share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=Path)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    spec, face = load_rig(), load_face()
    kinematics = Kinematics(spec, face)
    slow = np.load(options.commands)[: options.frames] if options.commands else made(spec, options.frames)
    n = len(slow)
    fast = np.stack([np.interp(np.arange(2 * n - 1) / 2, np.arange(n), c) for c in slow.T], axis=1)
    skin = build_skin(spec, face, kinematics)
    free = len(skin.rest) - int(np.isinf(skin.stiffness).sum())
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()},", end=" ")
    print(f"numpy {np.__version__}, scipy {scipy.__version__}, numba {numba.__version__}")
    print(f"{free} free vertices, contacts: lips, {', '.join(skin.walls.names)}; {n} frames of ", end="")
    print(f"{options.commands.name if options.commands else 'key poses'}; CPU time, one thread")
    print("| rate | tolerance | solves/s | ms median | ms p90 | iterations | factored | not converged |")
    print("|---|---|---|---|---|---|---|---|")
    for rate, commands in ((25, slow), (50, fast)):
        ways = [(kinematics.goals(c), kinematics.seats(c)) for c in commands]
        for tolerance in (1e-4, 1e-5):
            runs = [run(skin, ways, tolerance) for _ in range(options.repeats)]
            cpu = np.median([times.mean() for times, *_ in runs])
            times, iterations, factored, failed = runs[0]
            print(
                f"| {rate} Hz | {tolerance:.0e} m | {1 / cpu:.0f} | {np.median(times) * 1e3:.1f} |"
                f" {np.percentile(times, 90) * 1e3:.1f} | {np.mean(iterations):.1f} |"
                f" {factored / len(ways):.2f} a solve | {failed} |",
                flush=True,
            )


def run(skin, ways, tolerance) -> tuple[np.ndarray, list[int], int, int]:
    """CPU time (s) and iterations of each solve, factorisations, solves that did not converge."""
    x, _ = skin.solve_report(ways[0][0], poses=ways[0][1], tolerance=tolerance)
    before, times, iterations, failed = skin.refreshes, [], [], 0
    for goals, poses in ways:
        start = time.process_time()
        x, report = skin.solve_report(goals, x, poses=poses, tolerance=tolerance)
        times.append(time.process_time() - start)
        iterations.append(report.iterations)
        failed += not report.converged
    return np.array(times), iterations, skin.refreshes - before, failed


if __name__ == "__main__":
    main()
