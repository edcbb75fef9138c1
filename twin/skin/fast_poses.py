"""Solved poses that the fast skin learns from: drawn elsewhere, solved here by `ExactSkin`, kept as shards.

Every pose is solved from rest, so that the shape is a function of the motors and not of the way there. A
folder holds ``poses.json`` (whose poses these are) and ``shard-00000.safetensors`` and so on. Which part of
the data a shard belongs to, training, validation or test, is decided by its number alone, before anything
is fitted. Not here: which poses to draw (the caller's), and the fit (`fast_train`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import Face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.skin.exact import ExactSkin
from facetwin.twin.spec import RigSpec

#: poses a file: what a killed run loses at most, and the unit of the split
SHARD = 20
#: m, tolerance of the solves: at the twin's own 1e-4 single vertices stop up to 3 mm early
TOLERANCE = 2e-5
#: poses that are solved again before those of a solver of other source are taken over
CHECKED = 20
#: m, how far they may differ then: rounding of float32
SAME = 1e-7


@dataclass(frozen=True)
class Poses:
    """Solved poses, n of them.

    Attributes
    ----------
    positions : float64 [shape=(n, motors)], in command units
    vertices : float32 [shape=(n, N, 3), m], in the skull's frame
    converged : bool [shape=(n,)], the solve came under its tolerance
    shard : int64 [shape=(n,)], number of the file
    """

    positions: NDArray[np.float64]
    vertices: NDArray[np.float32]
    converged: NDArray[np.bool_]
    shard: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: Any) -> Poses:
        return Poses(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def split(self) -> tuple[Poses, Poses, Poses]:
        """Training, validation and test poses, 8 : 1 : 1 by shard number, the same however many there are."""
        place = self.shard % 10
        parts = self[place < 8], self[place == 8], self[place == 9]
        if not all(len(part) for part in parts):
            raise UsageError(
                "too few poses to split", found=f"{len(self)}", expected=f"{10 * SHARD} or more",
                hint="ask for more with --poses",
            )  # fmt: skip
        return parts


def solve_poses(
    exact: ExactSkin, kinematics: Kinematics, positions: ArrayLike, tolerance: float = TOLERANCE
) -> Poses:
    """Solve motor positions [shape=(n, motors)], each from rest; a pose that cannot be solved is left out."""
    rows: list[tuple[NDArray[np.float64], NDArray[np.float32], bool]] = []
    for at in np.asarray(positions, dtype=np.float64):
        try:
            vertices, report = exact.solve_report(
                kinematics.goals(at), poses=kinematics.seats(at), tolerance=tolerance
            )
        except FaceTwinError:
            continue
        rows.append((at, vertices.astype(np.float32), report.converged))
    n = len(exact.rest)
    return Poses(
        positions=np.array([r[0] for r in rows]).reshape(-1, kinematics.spec.size),
        vertices=np.array([r[1] for r in rows], np.float32).reshape(-1, n, 3),
        converged=np.array([r[2] for r in rows], bool),
        shard=np.zeros(len(rows), np.int64),
    )


def save_shard(folder: Path, number: int, poses: Poses) -> None:
    """Write one shard; it has its final name only when it is whole."""
    part = shard_path(folder, number).with_suffix(".part")
    save_file(
        {f.name: np.ascontiguousarray(getattr(poses, f.name)) for f in fields(poses) if f.name != "shard"},
        part,
    )
    os.replace(part, shard_path(folder, number))


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"shard-{number:05d}.safetensors"


def load_poses(folder: Path, shards: Iterable[int]) -> Poses:
    """The poses of some shards of a folder."""
    pieces = []
    for number in shards:
        file = shard_path(folder, number)
        try:
            a = load_file(file)
            pieces.append(Poses(**a, shard=np.full(len(a["positions"]), number, np.int64)))
        except (SafetensorError, TypeError, KeyError, OSError) as why:
            raise FaceTwinError(
                "not a shard of solved poses", where=file, found=str(why), hint="delete it and run again"
            ) from None
    if not pieces:
        raise UsageError("no solved poses", where=folder, hint="facetwin train skin solves them")
    return Poses(**{f.name: np.concatenate([getattr(p, f.name) for p in pieces]) for f in fields(Poses)})


def adopt(folder: Path, old: Path, exact: ExactSkin, kinematics: Kinematics) -> float:
    """Take over the shards of another folder if this solver gives the same for `CHECKED` of their poses.

    A solver whose source was only rearranged solves as before. Returns the largest difference in m; above
    `SAME` nothing is taken over. The shards are linked, not copied, where the disk can do that.
    """
    files = sorted(old.glob("shard-*.safetensors"))
    rng = np.random.default_rng(0)
    worst = 0.0
    for file in rng.choice(np.array(files), min(CHECKED, len(files)), replace=False):
        before = load_poses(old, [int(re.sub(r"\D", "", Path(file).stem))])
        row = int(rng.integers(len(before)))
        again = solve_poses(exact, kinematics, before.positions[row : row + 1])
        if not len(again):
            return float("inf")
        worst = max(worst, float(np.abs(again.vertices[0] - before.vertices[row]).max()))
        if worst > SAME:
            return worst
    for file in files:
        try:
            os.link(file, folder / file.name)
        except FileExistsError:
            continue
        except OSError:
            part = (folder / file.name).with_suffix(".part")
            shutil.copyfile(file, part)
            os.replace(part, folder / file.name)
    return worst


def skin_hash(spec: RigSpec) -> str:
    """Sha256 (hex) of what the shape of the skin depends on: pulls, anchors, angles and the material.

    Servo (`scale` and `trim` of a horn too), camera, couplings and names may differ, the skin be the same.

    >>> from facetwin.twin.spec import load_rig
    >>> spec = load_rig("face26")
    >>> skin_hash(spec) == skin_hash(spec.with_({"camera.mirror.noise": 4.0, "servo.latency": 0.03}))
    True
    >>> skin_hash(spec) == skin_hash(spec.with_({"material.young": 9e4}))
    False
    """
    content = spec.to_dict()
    keys = ("lower", "upper", "rest", "part", "pull")
    kept = {
        "motors": [{key: motor[key] for key in keys} for motor in content["motors"]],
        "anchors": content["anchors"],
        "material": {key: content["material"][key] for key in ("young", "thickness", "foundation")},
    }
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), default=float)
    return hashlib.sha256(text.encode()).hexdigest()


def mesh_hash(face: Face) -> str:
    """Sha256 (hex) of the skin's mesh: rest shape, triangles and what they are, border, jaw's share."""
    digest = hashlib.sha256()
    for array, kind in (
        (face.rest, "<f8"), (face.triangles, "<i4"), (face.labels, "<i1"),
        (face.border, "<i4"), (face.jaw_share, "<f8"),
    ):  # fmt: skip
        digest.update(np.ascontiguousarray(array, dtype=kind).tobytes())
    return digest.hexdigest()


def solver_hash(kinematics: Kinematics) -> str:
    """Sha256 (hex) of the exact solver and of what it is asked: what another version solved is not mixed in.

    Of the solver the source is taken, of the kinematics the goals of a few poses.
    """
    from facetwin.twin import twin

    here = Path(__file__).parent
    wanted, seen = ["exact"], {}
    while wanted:
        name = wanted.pop()
        text = (here / f"{name}.py").read_text("utf-8")
        seen[name] = text
        for more in re.findall(r"^from facetwin\.twin\.skin\.(\w+) import", text, re.MULTILINE):
            if more not in seen:
                wanted.append(more)
    parts = [seen[name] for name in sorted(seen)]
    parts.append(inspect.getsource(twin.build_skin))
    at = np.random.default_rng(0).uniform(size=(3, kinematics.spec.size))
    goals = np.array([kinematics.goals(position) for position in at])
    parts.append(hashlib.sha256((np.round(goals * 1e8) + 0.0).astype("<i8").tobytes()).hexdigest())
    parts.append(hashlib.sha256(kinematics.anchored.astype("<i8").tobytes()).hexdigest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
