"""`facetwin train skin`: solve poses with the exact skin, fit the fast skin to them, certify it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing as mp
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty
from typing import Annotated, Any

import numpy as np
import tyro

from facetwin.cli.progress import Progress
from facetwin.twin.errors import FaceTwinError, UsageError

DREAMT = 100  # dreams in a run of the babbler
DREAMS_FROM = 1_000_000  # their first shard number


@dataclass(frozen=True)
class TrainSkin:
    """Fit the fast skin: poses as the babbler draws them, solved exactly, then learned and certified."""

    poses: int = 8000
    """poses to solve; a tenth is for validation and a tenth for the test"""
    rig: str = "face26"
    """rig table: a shipped name or a TOML file"""
    folder: Path | None = None
    """solved poses; default: below .cache/skin_poses, one folder for each rig, solver and seed"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """weights to write; default: the shipped ones of this rig"""
    steps: int = 20_000
    """optimiser steps of each net"""
    dreams: int = 40_000
    """poses that are drawn but not solved: the mean of several nets says what they look like"""
    workers: int = 0
    """processes that solve; 0: one a core"""
    seed: int = 0
    """of everything random"""
    json: bool = False
    """print the certificate as JSON"""


def run(options: TrainSkin) -> int:
    """Solve what is not solved yet, fit, certify, write."""
    import torch

    from facetwin import assets
    from facetwin.policies.weights import provenance
    from facetwin.twin.face import load_face
    from facetwin.twin.kinematics import Kinematics
    from facetwin.twin.skin.fast_poses import SHARD, TOLERANCE, load_poses
    from facetwin.twin.skin.fast_train import Recipe, certify, fit, save
    from facetwin.twin.spec import load_rig
    from facetwin.twin.twin import build_skin

    least = 10 * SHARD
    if options.poses < least:
        raise UsageError("too few poses", where="--poses", found=options.poses, expected=f"{least} or more")
    if options.steps < 1 or options.dreams < 0:
        raise UsageError(
            "nothing to do", found=f"--steps {options.steps} --dreams {options.dreams}",
            expected="1 or more steps, 0 or more dreams",
        )  # fmt: skip
    spec = load_rig(options.rig)
    path = options.out or assets.path("skins", f"fast_{spec.name}.safetensors")
    if path.suffix != ".safetensors":
        raise UsageError("weights are written as .safetensors", where=path, found=path.suffix or "no suffix")
    kinematics = Kinematics(spec, load_face())
    folder = _folder(options, kinematics)
    shards = range(-(-options.poses // SHARD))
    _solve(options, spec, folder, shards)
    poses = load_poses(folder, shards)
    train, check, test = poses.split()
    torch.set_num_threads(1)  # such small nets only wait for each other, and one thread gives the same bits
    exact = build_skin(spec, kinematics.face, kinematics)
    recipe = Recipe(steps=options.steps, seed=options.seed)
    # shards that nobody solves; far behind those that anybody will
    runs = range(-(-options.dreams // DREAMT))
    dreams = [draw(spec, DREAMS_FROM + k, options.seed, DREAMT) for k in runs]
    with Progress("fitting the fast skin", total=recipe.work) as bar:
        skin = fit(
            train,
            check,
            np.array(dreams).reshape(-1, spec.size),
            kinematics,
            exact,
            recipe,
            lambda: bar.advance(1),
        )
    table = certify(skin, test, exact)
    save(
        path,
        skin,
        {
            "data": f"{len(poses)} poses of the babbler mixed, solved by the exact skin, each from rest",
            "licence": "Apache-2.0",
            **provenance(),
            "seed": options.seed,
            "poses": {
                "asked": len(shards) * SHARD,
                "solved": len(poses),
                "train": len(train),
                "validation": len(check),
                "test": len(test),
                "not_converged": int((~poses.converged).sum()),
                "tolerance_m": TOLERANCE,
            },
            "recipe": asdict(recipe),
            "scores": table,
        },
    )
    if options.json:
        print(json.dumps({"weights": str(path), "scores": table}))
    else:
        print("\n".join(_report(table)))
        print(f"wrote {path}")
    return 0


def _report(table: dict[str, Any]) -> list[str]:
    lines = [f"{table['poses']} poses that were not fitted; mm, and % of the motion"]
    head = f"{'':24}{'mean':>8}{'p99':>8}{'max':>8}{'%':>8}{'linear mean':>14}{'p99':>8}{'%':>8}"
    lines.append(head)
    for name, row in table["fast"].items():
        other = table["linear"][name]
        lines.append(
            f"  {name:22}{row['mean']:8.3f}{row['p99']:8.3f}{row['max']:8.2f}{row['percent'] or 0:8.1f}"
            f"{other['mean']:14.3f}{other['p99']:8.3f}{other['percent'] or 0:8.1f}"
        )
    for part, note in (("fast_trusted", "trusted"), ("flagged_by_exact", "mended")):
        for name, row in table[part].items():
            lines.append(
                f"  {f'{name}, {note}':22}{row['mean']:8.3f}{row['p99']:8.3f}{row['max']:8.2f}"
                f"{row['percent'] or 0:8.1f}"
            )
    gap, trust = table["gap"], table["trust"]
    lines.append(
        f"gap: {gap['head_mean']:.3f} mm off, {gap['head_mean_where_shut'] or 0:.3f} where shut; "
        f"flagged {100 * table['flagged']:.1f} %, precision {trust['precision']}, recall {trust['recall']}"
    )
    return lines


def draw(spec: Any, shard: int, seed: int, count: int) -> np.ndarray:
    """Positions of one shard [shape=(count, motors)]: babbled, within the soft limits, couplings obeyed."""
    from facetwin.policies.babble import babbler
    from facetwin.twin.couplings import Couplings

    source = babbler("mixed", spec, np.random.default_rng((seed, shard)))
    return Couplings(spec).project([next(source) for _ in range(count)], *spec.soft_limits)


def _folder(options: TrainSkin, kinematics: Any) -> Path:
    # The folder of solved poses, made or checked: poses of another rig, solver or seed are not mixed in.
    from facetwin.twin.skin.fast_poses import SHARD, TOLERANCE, mesh_hash, skin_hash, solver_hash

    spec = kinematics.spec
    meta = {
        "kind": "facetwin skin poses",
        "rig": spec.name,
        "skin_hash": skin_hash(spec),
        "mesh_hash": mesh_hash(kinematics.face),
        "solver_hash": solver_hash(kinematics),
        "limits": hashlib.sha256(repr((spec.couplings, spec.limits)).encode()).hexdigest(),
        "babbler": "mixed",
        "seed": options.seed,
        "tolerance": TOLERANCE,
        "shard": SHARD,
    }
    key = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:12]
    folder = options.folder or Path(".cache", "skin_poses", f"{spec.name}-{key}")
    file = folder / "poses.json"
    if file.exists():
        before = json.loads(file.read_text("utf-8"))
        for name, value in meta.items():
            if before.get(name) != value:
                raise UsageError(
                    f"the folder holds other poses ({name})", where=folder, found=before.get(name),
                    expected=value, hint="take another folder, or none",
                )  # fmt: skip
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if options.folder is None:
        meta |= _taken_over(folder, meta, kinematics)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(meta, indent=1) + "\n", "utf-8")
    os.replace(part, file)
    return folder


def _taken_over(folder: Path, meta: dict[str, Any], kinematics: Any) -> dict[str, Any]:
    # Poses of a solver whose source differs but which solves alike; what is noted about them.
    from facetwin.twin.skin.fast_poses import CHECKED, SAME, adopt
    from facetwin.twin.twin import build_skin

    exact = None
    for old in sorted(folder.parent.glob(f"{meta['rig']}-*/poses.json"), key=os.path.getmtime, reverse=True):
        before = json.loads(old.read_text("utf-8"))
        if any(before.get(name) != value for name, value in meta.items() if name != "solver_hash"):
            continue
        if not any(old.parent.glob("shard-*.safetensors")):
            continue
        exact = exact or build_skin(kinematics.spec, kinematics.face, kinematics)
        worst = adopt(folder, old.parent, exact, kinematics)
        told = f"{CHECKED} poses of {old.parent.name} solved again: {worst:.1e} m off"
        print(f"{told}, {'taken over' if worst <= SAME else 'not taken over'}", file=sys.stderr)
        if worst <= SAME:
            return {"taken_over": {"solver_hash": before["solver_hash"], "largest_difference_m": worst}}
    return {}


def _solve(options: TrainSkin, spec: Any, folder: Path, shards: range) -> None:
    from facetwin.twin.skin.fast_poses import SHARD, shard_path

    missing = [k for k in shards if not shard_path(folder, k).exists()]
    if not missing:
        return
    workers = max(1, min(options.workers or os.cpu_count() or 1, len(missing)))
    context = mp.get_context("spawn")
    jobs: Any = context.Queue()
    done: Any = context.Queue()
    for shard in [*missing, *[None] * workers]:
        jobs.put(shard)
    crew = [
        context.Process(target=_work, args=(spec, folder, options.seed, jobs, done), daemon=True)
        for _ in range(workers)
    ]
    kept = {k: os.environ.get(k) for k in ("OMP_NUM_THREADS", "LP_NUM_THREADS")}
    os.environ.update(OMP_NUM_THREADS="1", LP_NUM_THREADS="1")
    left = len(missing)
    try:
        for process in crew:
            process.start()
        with Progress("solving poses", total=left * SHARD) as bar:
            while left > 0:
                try:
                    message = done.get(timeout=1.0)
                except Empty:
                    if not any(p.is_alive() for p in crew):
                        raise FaceTwinError(
                            "the solving processes died", hint="run again; it goes on"
                        ) from None
                    continue
                if isinstance(message, str):
                    raise FaceTwinError(message)
                bar.advance(SHARD)
                left -= 1
    finally:
        for process in crew:
            if process.is_alive():
                process.terminate()
            if process.pid is not None:
                process.join()
        for key, value in kept.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _work(spec: Any, folder: Path, seed: int, jobs: Any, done: Any) -> None:
    from facetwin.twin.face import load_face
    from facetwin.twin.kinematics import Kinematics
    from facetwin.twin.skin.fast_poses import SHARD, save_shard, solve_poses
    from facetwin.twin.twin import build_skin

    try:
        face = load_face()
        kinematics = Kinematics(spec, face)
        exact = build_skin(spec, face, kinematics)
        while (shard := jobs.get()) is not None:
            save_shard(folder, shard, solve_poses(exact, kinematics, draw(spec, shard, seed, SHARD)))
            done.put(shard)
    except Exception as error:
        done.put(f"solving poses failed: {error}")
