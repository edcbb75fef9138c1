"""How fast the exact skin follows speech, contacts on, one core (issue: 150 solves/s to 0.1 mm).

    facetwin speak assets/speech/sample.wav --out out/demo      # what `make demo` does
    python benchmarks/skin_speed.py --recording out/demo/recording [--mesh graded]

Where the servos stood while a recorded rig spoke, 50 times a second; without a recording the motion is made:
key poses of speech, four a second, joined smoothly. The rows of 25 Hz take every second of these, those of
100 Hz stand between them. Each solve starts from the last. Meshes: the face's own (`exact`) and the one of
half the vertices (`graded`). CPU time of the process: medians over repeats of the mean time of a run, their
range, and, since neighbours on a shared machine slow caches and clock, by each solve's least time of all
repeats, which do the very same work. The error is that of the shape in which a solve ends, against the same
solve carried on to 1e-7 m. Nothing is asserted: it is a table, not a test.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numba
import numpy as np
import scipy

from facetwin.hardware.recording import Recording
from facetwin.policies.babble import key_pose
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.skin import ExactSkin
from facetwin.twin.spec import RigSpec, load_rig
from facetwin.twin.twin import build_graded, build_skin

SPOKEN = ("neutral", "ah", "press", "ee", "oh", "press", "oo", "lip to teeth", "eh")
TIGHT = 1e-7  # m
CHECKED = 20  # frames whose error is measured


def made(spec: RigSpec, frames: int) -> np.ndarray:
    """Smooth motion through the key poses of speech, float64 [shape=(frames, n)], 50 a second."""
    keys = np.array([spec.rest + 0.6 * (key_pose(spec, name) - spec.rest) for name in SPOKEN])
    at = np.arange(frames) * 4 / 50
    k, share = np.floor(at).astype(int), at % 1
    share = (share * share * (3 - 2 * share))[:, None]
    return keys[k % len(keys)] * (1 - share) + keys[(k + 1) % len(keys)] * share


def spoken(folder: Path, start: int, frames: int) -> np.ndarray:
    """Where a recorded rig's servos stood, float64 [shape=(frames, n)], 50 a second."""
    rows = Recording(folder).rows()
    at = rows["time"][0] + np.arange(start, start + frames) / 50
    return np.stack([np.interp(at, rows["time"], m) for m in rows["measured"].T], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recording", type=Path, help="of a rig that speaks")
    parser.add_argument("--mesh", choices=("exact", "graded", "both"), default="both")
    parser.add_argument("--start", type=int, default=100, help="first frame of the recording")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tolerance", type=float, nargs="+", default=[1e-4], help="m")
    options = parser.parse_args()
    spec, face = load_rig(), load_face()
    kinematics = Kinematics(spec, face)
    n = options.frames
    usual = spoken(options.recording, options.start, n) if options.recording else made(spec, n)
    between = np.stack([np.interp(np.arange(2 * n - 1) / 2, np.arange(n), m) for m in usual.T], axis=1)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()},", end=" ")
    print(
        f"numpy {np.__version__}, scipy {scipy.__version__}, numba {numba.__version__}; CPU time, one thread"
    )
    print(f"{n} frames of {options.recording or 'key poses'}, {options.repeats} repeats")
    print(
        "| mesh | free vertices | rate | tolerance | solves/s (range) | by least times | ms median | p90"
        " | iterations | factored | not converged | error mm: mean, worst vertex (median, p90) |"
    )
    print("|" + "---|" * 12)
    for mesh in ("exact", "graded") if options.mesh == "both" else (options.mesh,):
        place: np.ndarray | slice = slice(None)
        if mesh == "exact":
            skin = build_skin(spec, face, kinematics)
        else:
            graded = build_graded(spec, face, kinematics)
            skin, place = graded.exact, graded.driven
        free = len(skin.rest) - int(np.isinf(skin.stiffness).sum())
        for rate, positions in ((25, usual[::2]), (50, usual), (100, between)):
            ways = [(kinematics.goals(p)[place], kinematics.seats(p)) for p in positions]
            for tolerance in options.tolerance:
                runs = [run(skin, ways, tolerance) for _ in range(options.repeats)]
                rates = sorted(1 / times.mean() for times, *_ in runs)
                _, iterations, factored, failed = runs[0]
                times = np.min([one for one, *_ in runs], axis=0)
                mean, worst = errors(skin, ways, tolerance)
                print(
                    f"| {mesh} | {free} | {rate} Hz | {tolerance:.0e} m | {np.median(rates):.0f}"
                    f" ({rates[0]:.0f} to {rates[-1]:.0f}) | {1 / times.mean():.0f} |"
                    f" {np.median(times) * 1e3:.1f} |"
                    f" {np.percentile(times, 90) * 1e3:.1f} | {np.mean(iterations):.1f} |"
                    f" {factored / len(ways):.2f} a solve | {failed} | {mean.mean():.3f},"
                    f" {np.median(worst):.2f}, {np.percentile(worst, 90):.2f} |",
                    flush=True,
                )


def run(skin: ExactSkin, ways: list, tolerance: float) -> tuple[np.ndarray, list[int], int, int]:
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


def errors(skin: ExactSkin, ways: list, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Of some solves: mean and largest distance (mm) of the vertices from where they lead in the end."""
    checked = set(np.linspace(5, len(ways) - 1, CHECKED).astype(int).tolist())
    limit, skin.limit = skin.limit, 1000
    x, mean, worst = None, [], []
    for k, (goals, poses) in enumerate(ways):
        x, _ = skin.solve_report(goals, x, poses=poses, tolerance=tolerance)
        if k in checked:
            there, _ = skin.solve_report(goals, x, poses=poses, tolerance=TIGHT)
            apart = np.linalg.norm(there - x, axis=1) * 1e3
            mean.append(apart.mean())
            worst.append(apart.max())
    skin.limit = limit
    return np.array(mean), np.array(worst)


if __name__ == "__main__":
    main()
