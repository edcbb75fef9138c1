"""Three skins on the same poses: exact, bullet and, as a third opinion, MuJoCo's flex.

    python benchmarks/solvers_compare.py                 # 100 poses, half an hour of a core
    python benchmarks/solvers_compare.py --poses 5 --json out/compare.json

Poses are babbled (`mixed`, seed 0) and projected onto what the rig's couplings allow; every skin starts from
rest. Differences are taken at the MediaPipe points that nothing clamps, in the skull's frame, so the neck
does not count. Shown too, to say where a difference comes from: the exact skin without contact and with lips
as thin as cheeks (`plain`, what the others model), that one started from bullet's or flex's shape (`nearest`,
`fold`: what is left when both have chosen the same fold), and the linear skin. Flex needs MuJoCo (extra
`bench`). Times are CPU times; PyBullet, which does not give its memory back, runs ten poses a process.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from flex import FlexSkin, patch

from facetwin.policies.babble import babbler
from facetwin.twin.couplings import Couplings
from facetwin.twin.face import Face, load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import MESH_POINTS
from facetwin.twin.skin.base import Material
from facetwin.twin.skin.bullet import BulletSkin
from facetwin.twin.skin.exact import ExactSkin
from facetwin.twin.skin.linear import LinearSkin
from facetwin.twin.spec import RigSpec, load_rig
from facetwin.twin.twin import build_skin

DOCS = Path(__file__).resolve().parent.parent / "docs"
SNAP = 3e-3  # m: a landmark that differs by more has folded the other way


def poses(spec: RigSpec, count: int, seed: int) -> np.ndarray:
    """Allowed commands [shape=(count, n)] as the babbler draws them."""
    drawn = itertools.islice(babbler("mixed", spec, np.random.default_rng(seed)), count)
    return Couplings(spec).project(np.array(list(drawn)))


_bullet: BulletSkin | None = None  # of a process that solves with it


def bullet_pose(goals: np.ndarray) -> tuple[np.ndarray, bool, int, float, float]:
    """One pose in PyBullet: shape, whether it stands, steps, CPU seconds, length of a step in s."""
    global _bullet
    if _bullet is None:
        spec, face = load_rig(), load_face()
        _bullet = BulletSkin(*sheet_parts(spec, face)[0], foundation=sheet_parts(spec, face)[1])
    begin = time.process_time()
    shape = _bullet.solve(goals)
    spent = time.process_time() - begin
    return shape, _bullet.report.converged, _bullet.report.iterations, spent, _bullet.dt


def sheet_parts(spec: RigSpec, face: Face) -> tuple[tuple, np.ndarray]:
    """What a skin of one thickness without contact is made of, and the tissue under it."""
    k, m = Kinematics(spec, face), spec.material
    sheet = Material(young=m.young, thickness=m.thickness, density=m.density)
    return (face.rest, face.triangles, k.anchored, k.stiffness, sheet), m.foundation * (1 - face.jaw_share)


class Bench:
    """The skins of one rig, and what they said."""

    def __init__(self, spec: RigSpec, face: Face) -> None:
        self.spec, self.face = spec, face
        self.kinematics = Kinematics(spec, face)
        k = self.kinematics
        parts, tissue = sheet_parts(spec, face)
        self.exact = build_skin(spec, face, k)
        self.plain = ExactSkin(*parts, foundation=tissue)
        self.linear = LinearSkin(self.exact)
        self.flex = FlexSkin(*parts, foundation=tissue)
        # a process of its own, a new one each ten poses: PyBullet does not give its memory back
        self.bullet = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=10)
        self.bullet_dt = 0.0
        clamped = k.anchored[np.isinf(k.stiffness)]
        self.points = np.setdiff1d(np.arange(MESH_POINTS), clamped)
        self.seconds: dict[str, list[float]] = {}
        self.shapes: dict[str, list[np.ndarray]] = {}
        self.standing: dict[str, list[bool]] = {k: [] for k in ("exact", "bullet", "flex", "nearest")}
        self.steps: list[int] = []

    def pose(self, command: np.ndarray) -> None:
        """Solve one pose with everything."""
        goals = self.kinematics.goals(command)
        self._timed("exact", lambda: self.exact.solve(goals, None, self.kinematics.seats(command)))
        self.standing["exact"].append(self.exact.report.converged)
        self._timed("plain", lambda: self.plain.solve(goals))
        self._timed("linear", lambda: self.linear.solve(goals))
        shape, stands, steps, spent, self.bullet_dt = self.bullet.apply(bullet_pose, (goals,))
        self._keep("bullet", shape, spent)
        self.standing["bullet"].append(stands)
        self.steps.append(steps)
        self._timed("nearest", lambda: self.plain.solve(goals, shape))
        self.standing["nearest"].append(self.plain.report.converged)
        bent = self._timed("flex", lambda: self.flex.settle(goals, self._soften))
        self.standing["flex"].append(self.flex.report.converged)
        self._timed("fold", lambda: self.plain.solve(goals, bent))

    def _soften(self, force: np.ndarray) -> np.ndarray:
        """Steps for forces [shape=(3 N,)] by the plain skin's stiffness at rest."""
        free = self.plain._free
        return self.plain.factor.solve(force * free) * free

    def _timed(self, name: str, solve: Callable[[], np.ndarray]) -> np.ndarray:
        begin = time.process_time()
        shape = solve()
        return self._keep(name, shape, time.process_time() - begin)

    def _keep(self, name: str, shape: np.ndarray, spent: float) -> np.ndarray:
        self.seconds.setdefault(name, []).append(spent)
        self.shapes.setdefault(name, []).append(shape)
        return shape

    def apart(self, one: str, other: str) -> np.ndarray:
        """Differences of two skins at the points, m [shape=(poses, points)]."""
        a, b = np.array(self.shapes[one]), np.array(self.shapes[other])
        return np.linalg.norm((a - b)[:, self.points], axis=2)

    def motion(self) -> np.ndarray:
        """How far the exact skin's points are from rest, m [shape=(poses, points)]."""
        x = np.array(self.shapes["exact"])
        return np.linalg.norm((x - self.face.rest)[:, self.points], axis=2)


def facts(bench: Bench, seed: int) -> dict:
    """Everything that is printed, in SI units but where the key says mm or u."""
    motion, u = bench.motion(), bench.face.metres_per_u
    pairs = [("bullet", "exact"), ("bullet", "plain"), ("bullet", "nearest")]
    pairs += [("flex", "exact"), ("flex", "plain"), ("flex", "fold"), ("bullet", "flex")]
    pairs += [("plain", "exact"), ("linear", "exact")]
    rows = {}
    for one, other in pairs:
        d = bench.apart(one, other)
        rows[f"{one} - {other}"] = {
            "mean_mm": d.mean() * 1e3,
            "median_mm": float(np.median(d)) * 1e3,
            "p95_mm": float(np.percentile(d, 95)) * 1e3,
            "mean_u": d.mean() / u,
            "p95_u": float(np.percentile(d, 95)) / u,
            "share_of_motion": d.mean() / motion.mean(),
            "poses_with_a_point_over_3_mm": int((d.max(1) > SNAP).sum()),
        }
    steps = np.array(bench.steps)
    spent = np.array(bench.seconds["bullet"])
    rate = float(np.median(steps / spent))
    return {
        "machine": f"{platform.machine()}, {_processor()}",
        "versions": {n: _version(n) for n in ("numpy", "scipy", "pybullet", "mujoco")},
        "rig": bench.spec.name,
        "poses": len(motion),
        "seed": seed,
        "points": len(bench.points),
        "mm_per_u": u * 1e3,
        "motion_mean_mm": motion.mean() * 1e3,
        "motion_p95_mm": float(np.percentile(motion, 95)) * 1e3,
        "differences": rows,
        "flex_patch": dict(zip(("tension", "shear", "bending_scaled_by"), patch())),
        "standing": {k: float(np.mean(v)) for k, v in bench.standing.items()},
        "median_cpu_s_per_pose": {k: float(np.median(v)) for k, v in bench.seconds.items()},
        "bullet_steps_per_pose": float(np.median(steps)),
        "bullet_steps_per_s": rate,
        "bullet_share_of_real_time": rate * bench.bullet_dt,
    }


def table(found: dict) -> str:
    """The facts as text."""
    lines = [
        f"{found['machine']}; " + ", ".join(f"{k} {v}" for k, v in found["versions"].items() if v),
        f"{found['rig']}: {found['poses']} poses, seed {found['seed']}, {found['points']} points, "
        f"motion {found['motion_mean_mm']:.2f} mm mean, {found['motion_p95_mm']:.1f} mm p95",
        "",
        "| difference | mean mm | median mm | p95 mm | mean u | p95 u | of the motion | poses over 3 mm |",
        "|" + "--|" * 8,
    ]
    for name, r in found["differences"].items():
        lines.append(
            f"| {name} | {r['mean_mm']:.3f} | {r['median_mm']:.3f} | {r['p95_mm']:.2f} | {r['mean_u']:.4f} | "
            f"{r['p95_u']:.4f} | {100 * r['share_of_motion']:.0f} % | {r['poses_with_a_point_over_3_mm']} |"
        )
    spent = ", ".join(f"{k} {v:.3g} s" for k, v in found["median_cpu_s_per_pose"].items())
    lines += [
        "",
        f"median CPU time a pose: {spent}",
        f"bullet: {found['bullet_steps_per_pose']:.0f} steps a pose, {found['bullet_steps_per_s']:.0f} "
        f"steps/s, {100 * found['bullet_share_of_real_time']:.1f} % of real time",
        "flex on a flat patch, against an incompressible plate: tension {tension:.4f}, shear {shear:.4f}; "
        "bending scaled by {bending_scaled_by:.3f}".format(**found["flex_patch"]),
        "standing at the end: " + ", ".join(f"{k} {100 * v:.0f} %" for k, v in found["standing"].items()),
    ]
    return "\n".join(lines)


def draw(bench: Bench, file: Path) -> None:
    """Mean difference on the face, and difference against motion, one dot a pose."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    face = bench.face
    outer = face.triangles[face.labels <= 2]
    pairs = [("bullet", "exact"), ("flex", "exact"), ("flex", "fold")]
    figure, axes = plt.subplots(1, len(pairs) + 1, figsize=(4.2 * (len(pairs) + 1), 4.4))
    motion = bench.motion().mean(1) * 1e3
    for axis, (one, other) in zip(axes, pairs):
        x = np.array(bench.shapes[one]) - np.array(bench.shapes[other])
        mean = np.linalg.norm(x, axis=2).mean(0) * 1e3
        picture = axis.tripcolor(
            face.rest[:, 0] * 1e3, face.rest[:, 1] * 1e3, outer, mean, shading="gouraud", vmin=0, vmax=2
        )
        axis.set_aspect("equal")
        axis.set_title(f"{one} - {other}, mean mm")
        axis.set_axis_off()
        figure.colorbar(picture, ax=axis, shrink=0.7)
    for one, other in pairs:
        axes[-1].plot(motion, bench.apart(one, other).mean(1) * 1e3, "o", ms=3, label=f"{one} - {other}")
    top = motion.max()
    axes[-1].plot([0, top], [0, top], color="0.7", lw=1, label="all of the motion")
    axes[-1].set_xlabel("mean motion of a pose, mm")
    axes[-1].set_ylabel("mean difference, mm")
    axes[-1].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=100)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main() -> None:
    """Ask, solve, print."""
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--poses", type=int, default=100)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--minutes", type=float, default=60.0, help="stop after so long, with what there is")
    ask.add_argument("--json", type=Path, help="where to write the figures")
    ask.add_argument("--plot", type=Path, default=DOCS / "pictures" / "solvers.png")
    given = ask.parse_args()
    spec = load_rig()
    bench = Bench(spec, load_face())
    begin = time.monotonic()
    for number, command in enumerate(poses(spec, given.poses, given.seed), 1):
        bench.pose(command)
        apart = ", ".join(f"{k} {bench.apart(k, 'exact')[-1].mean() * 1e3:.2f}" for k in ("bullet", "flex"))
        print(f"{number}/{given.poses}: from exact, mm: {apart}", file=sys.stderr, flush=True)
        if time.monotonic() - begin > 60 * given.minutes:
            break
    found = facts(bench, given.seed)
    print(table(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    draw(bench, given.plot)
    bench.bullet.terminate()


if __name__ == "__main__":
    main()
