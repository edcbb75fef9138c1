"""Fits the fast skin to solved poses and certifies it against poses that it has not seen.

Bases are POD modes of blocks of the half face; the linear map is `ExactSkin`'s own at rest. Several members
are fitted first, each without one part of the training poses: how wrong they are on that part is what the
error head learns, and their mean on poses that nobody solved (dreams) is what the one net that ships learns
beside the solved ones. Not here: the poses (`fast_poses`) and who draws them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import Face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import LOWER_INNER, UPPER_INNER
from facetwin.twin.skin.exact import ExactSkin
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.skin.fast_descent import descend, regress
from facetwin.twin.skin.fast_features import Features, check_mirror, goal_matrix, mirror_vertices
from facetwin.twin.skin.fast_net import ERROR_SCALE, GAP_SCALE, LIPS, FastNet, mlp
from facetwin.twin.skin.fast_poses import Poses, mesh_hash, skin_hash, solver_hash
from facetwin.twin.skin.gap import lip_gap
from facetwin.twin.skin.linear import LinearSkin

#: error of a pose above which a shape should not be trusted, m (99th percentile of its vertices)
WRONG = 4e-4
#: share of the poses that are flagged: of the validation poses and of the dreams
FLAGGED = 0.025
#: the net that ships learns from more poses than a member, so many times as long
LONGER = 3
#: of AdamW on the heads
HEADS_RATE = 2e-3
#: gaps below this (m) count most in the gap head
SMALL = 3e-3
Progress = Callable[[], None]


@dataclass(frozen=True)
class Recipe:
    """Sizes and lengths of a fit.

    Attributes
    ----------
    blocks, modes : of the half face (a power of two), modes of each
    hidden, head : units of each hidden layer, of the shape net and of the two heads
    layers : hidden layers of the shape net; the heads have two
    steps, batch, rate, decay : of AdamW, one cycle
    members : nets of the ensemble; 0 fits the net alone and no error head
    """

    blocks: int = 8
    modes: int = 32
    hidden: int = 128
    head: int = 32
    layers: int = 4
    steps: int = 20_000
    batch: int = 128
    rate: float = 5e-3
    decay: float = 1e-2
    members: int = 4
    seed: int = 0

    @property
    def work(self) -> int:
        """Steps in all, for a progress bar: members, the net that ships, two heads."""
        return self.steps * (self.members + (LONGER if self.members else 1)) + self.steps // 2


def fit(
    train: Poses,
    check: Poses,
    dreams: NDArray[np.float64],
    kinematics: Kinematics,
    exact: ExactSkin,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> FastSkin:
    """Fit on `train`; `check` and the dreams decide the threshold of trust alone.

    Parameters
    ----------
    dreams : float64 [shape=(D, n)]
        Positions drawn like the others, never solved; D may be 0.
    progress : called after every step of every net

    Raises `FaceTwinError` for a rig or mesh that is not left-right symmetric.
    """
    r = recipe or Recipe()
    torch.manual_seed(r.seed)
    features = Features(kinematics.spec)
    check_mirror(features, kinematics)
    face = kinematics.face
    columns = _blocks(face, r.blocks)
    slots = columns.shape[1]
    net = FastNet(features, r.blocks, r.modes, slots, r.hidden, r.head, r.layers)
    halves = _halves(train, face, columns)  # (blocks, 2 n, 3 slots), float64
    modes = min(r.modes, halves.shape[1], 3 * slots)
    basis = np.zeros((r.blocks, r.modes, 3 * slots))
    for b in range(r.blocks):
        basis[b, :modes] = np.linalg.svd(halves[b], full_matrices=False)[2][:modes]
    response = LinearSkin(exact).jacobian(
        goal_matrix(features, kinematics).reshape(features.count, -1, 3)
    )  # (F, N, 3)
    linear = np.einsum("bfs,bks->fbk", _slots(response, columns), basis).reshape(features.count, -1)
    net.basis.copy_(torch.from_numpy(basis))
    net.linear.copy_(torch.from_numpy(linear))
    _lips(net, face, columns)

    with torch.no_grad():
        x, phi = net.both(torch.from_numpy(train.positions))  # (2 n, m), float64
        goal = torch.from_numpy(np.einsum("bns,bks->nbk", halves, basis)).flatten(1) - phi @ torch.from_numpy(
            linear
        )
    scale = goal.square().mean().sqrt().clamp(min=1e-9)
    x, goal = x.float(), (goal / scale).float()
    step = progress or (lambda: None)

    def learned(inputs: Tensor, goals: Tensor, seed: int, steps: int) -> nn.Sequential:
        torch.manual_seed(seed)
        made = mlp(inputs.shape[1], r.hidden, goals.shape[1], r.layers)
        regress(
            made, inputs, goals, r.blocks,
            steps=steps, batch=r.batch, rate=r.rate, decay=r.decay, progress=step,
        )  # fmt: skip
        return made

    if r.members:
        fold = np.tile(np.searchsorted(np.unique(train.shard), train.shard) % r.members, 2)
        members = [learned(x[fold != k], goal[fold != k], r.seed + 1 + k, r.steps) for k in range(r.members)]
        with torch.no_grad():
            out = torch.empty_like(goal)
            for k, member in enumerate(members):
                out[fold == k] = member(x[fold == k])
            unseen = _pose_errors(((out - goal) * scale).double().numpy(), basis, columns)  # (n,)
            d = net.both(torch.from_numpy(dreams))[0].float()
            dreamt = torch.stack([member(d) for member in members]).mean(0)
        # a dreamt pose may well be a wrong one: solved poses come as often as all the dreams together
        times = max(1, len(d) // len(x))
        net.shape = learned(
            torch.cat([*[x] * times, d]), torch.cat([*[goal] * times, dreamt]), r.seed, LONGER * r.steps
        )
    else:
        net.shape = learned(x, goal, r.seed, r.steps)
    _fold_scale(net.shape, scale)

    with torch.no_grad():
        phi = phi.float()
        told = net.told(x, net.coefficients(x, phi))
    gaps = torch.from_numpy(np.tile(_gaps(train, face), 2)).float() / GAP_SCALE
    want = torch.asinh(gaps - told[:, -2 * LIPS :].amax(1))
    near = 1 + 4.0 * (gaps < SMALL / GAP_SCALE).float()
    wrong = torch.zeros_like(want)
    if r.members:
        wrong = torch.from_numpy(np.tile(np.log(unseen / ERROR_SCALE), 2)).float()

    def heads(out: Tensor, goals: Tensor, rows: Tensor) -> Tensor:
        gap, error = (out - goals).unbind(1)
        return near[rows] * gap.abs() + 0.3 * error.square()

    descend(
        net.heads, told, torch.stack([want, wrong], 1), heads,
        steps=r.steps // 2, batch=r.batch, rate=HEADS_RATE, decay=0.1, progress=step,
    )  # fmt: skip
    skin = FastSkin(net, kinematics, columns, float("inf"))
    if r.members:
        # shapes need not be known for a share: with the dreams it is known to a thousandth
        drawn = torch.from_numpy(np.concatenate([check.positions, dreams]))
        expected = skin(drawn).error.double().numpy()
        skin.threshold = max(WRONG, float(np.quantile(expected, 1 - FLAGGED)))
    return skin


def certify(skin: FastSkin, test: Poses, exact: ExactSkin) -> dict[str, Any]:
    """How wrong a fast skin is on poses it has not seen; lengths in mm, percentages of the motion.

    Motion is the distance of a vertex from its place at rest, in the skull's frame, so that neck and eyes
    count for nothing; a percentage is the mean error over the mean motion of the same vertices and poses.
    Means and quantiles are of all errors of the named vertices in all poses together: in ``fast`` of all
    poses, in ``fast_trusted`` and ``fast_flagged`` of those that are and are not trusted.
    """
    face = skin.kinematics.face
    shapes = skin(torch.from_numpy(test.positions))
    seen = shapes.vertices.double().numpy()
    true = test.vertices.astype(np.float64)
    linear_skin = LinearSkin(exact)
    linear = np.array([linear_skin.solve(skin.kinematics.goals(at)) for at in test.positions])
    errors, alone = (np.linalg.norm(a - true, axis=2) * 1e3 for a in (seen, linear))
    motion = np.linalg.norm(true - face.rest, axis=2) * 1e3
    trust = shapes.trust.numpy()
    expected = shapes.error.double().numpy()
    wrong = np.quantile(errors, 0.99, axis=1) > WRONG * 1e3
    low = expected > WRONG
    gaps = _gaps(test, face)
    off = np.abs(shapes.gap.double().numpy() - gaps) * 1e3
    ruled = np.abs([_gap(v, face) for v in seen] - gaps) * 1e3
    shut, small = gaps < 5e-4, gaps < SMALL
    places = {"vertices": np.arange(len(face.rest)), "landmarks": np.arange(468), **_regions(face)}
    return {
        "poses": len(test),
        "unit": "mm",
        "motion": "distance from rest in the skull's frame; percent: mean error / mean motion",
        "fast": {name: _figures(errors[:, at], motion[:, at]) for name, at in places.items()},
        "fast_trusted": {
            name: _figures(errors[trust][:, at], motion[trust][:, at])
            for name, at in list(places.items())[:2]
        },
        "fast_flagged": {
            name: _figures(errors[~trust][:, at], motion[~trust][:, at])
            for name, at in list(places.items())[:2]
            if not trust.all()
        },
        "flagged_by_exact": {  # all poses, the flagged ones solved by the exact skin
            name: _figures((errors * trust[:, None])[:, at], motion[:, at])
            for name, at in list(places.items())[:2]
        },
        "linear": {name: _figures(alone[:, at], motion[:, at]) for name, at in places.items()},
        "gap": {
            "head_mean": _round(off.mean()),
            "head_p99": _round(np.quantile(off, 0.99)),
            "of_vertices_mean": _round(ruled.mean()),
            "shut_poses": int(shut.sum()),
            "head_mean_where_shut": _round(off[shut].mean()) if shut.any() else None,
            "head_mean_below_3mm": _round(off[small].mean()) if small.any() else None,
            "shut_told_right": _round(
                ((shapes.gap.double().numpy() < 5e-4) == shut).mean() if len(shut) else None
            ),
        },
        "flagged": _round((~trust).mean()),
        "trust": {
            "threshold_mm": _round(skin.threshold * 1e3),
            "wrong": f"99th percentile of a pose's vertices above {WRONG * 1e3:g} mm",
            "wrong_poses": _round(wrong.mean()),
            "precision": _round(wrong[~trust].mean()) if not trust.all() else None,
            "recall": _round((~trust)[wrong].mean()) if wrong.any() else None,
            "flagged_had_all_wrong_been": _round(low.mean()),
            "rank_correlation": _round(_rank_correlation(expected, np.quantile(errors, 0.99, axis=1))),
        },
    }


def save(path: Path, skin: FastSkin, sidecar: Mapping[str, Any]) -> None:
    """Write weights and their sidecar; a killed run leaves no half of them under the final name."""
    tensors = {k: v.detach().cpu().numpy() for k, v in skin.net.state_dict().items()}
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise FaceTwinError("weights are not finite", where=path, found=name, hint="train again")
    spec, face = skin.spec, skin.kinematics.face
    facts = {
        "kind": "fast skin",
        "rig": spec.name,
        "rig_hash": spec.hash,
        "skin_hash": skin_hash(spec),
        "mesh_hash": mesh_hash(face),
        "solver_hash": solver_hash(skin.kinematics),
        "threshold_m": skin.threshold,
        **sidecar,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part, note = path.with_name(path.name + ".part"), path.with_name(path.stem + ".json.part")
    try:
        save_file({**{k: np.ascontiguousarray(v) for k, v in tensors.items()},
                   "columns": skin._columns.astype(np.int32)}, part)  # fmt: skip
        part.chmod(0o644)  # safetensors leaves it to the owner alone
        note.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", "utf-8")
        os.replace(part, path)
        os.replace(note, path.with_suffix(".json"))
    finally:
        part.unlink(missing_ok=True)
        note.unlink(missing_ok=True)


def _blocks(face: Face, count: int) -> NDArray[np.int64]:
    # Vertices of the half face in `count` compact blocks of one size (to one), [shape=(count, slots)].
    parts = [np.flatnonzero(face.rest[:, 0] <= 0)]
    while len(parts) < count:
        cut = []
        for part in parts:
            at = face.rest[part]
            axis = int(np.ptp(at, axis=0).argmax())
            part = part[np.argsort(at[:, axis], kind="stable")]
            cut += [part[: len(part) // 2], part[len(part) // 2 :]]
        parts = cut
    if len(parts) != count:
        raise FaceTwinError("blocks are a power of two", where="recipe", found=count)
    slots = max(map(len, parts))
    return np.array([np.pad(part, (0, slots - len(part)), constant_values=-1) for part in parts], np.int64)


def _slots(field: NDArray[np.float64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    # Field on the vertices (n, N, 3) -> in slots (blocks, n, 3 slots); 0 where padded.
    kept = np.where((columns >= 0)[None, ..., None], field[:, columns], 0.0)  # (n, blocks, slots, 3)
    return np.ascontiguousarray(kept.reshape(len(field), len(columns), -1).transpose(1, 0, 2))


def _halves(poses: Poses, face: Face, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    # Displacements of the right half, of the poses and then of their mirror images.
    moved = poses.vertices - face.rest
    mirrored = moved[:, mirror_vertices(face)] * (-1, 1, 1)
    return np.concatenate([_slots(moved, columns), _slots(mirrored, columns)], 1)


def _lips(net: FastNet, face: Face, columns: NDArray[np.int64]) -> None:
    # How far upper and lower margin are apart (y) at `LIPS` places of the right half, from the coefficients.
    blocks, modes, wide = net.basis.shape
    rows = net.basis.view(blocks, modes, wide // 3, 3)[..., 1]
    for i, (over, under) in enumerate(zip(UPPER_INNER[1 : 1 + LIPS], LOWER_INNER[:LIPS])):
        for vertex, sign in ((over, 1 / GAP_SCALE), (under, -1 / GAP_SCALE)):
            ((block, slot),) = np.argwhere(columns == vertex)
            net.margins.view(blocks, modes, LIPS)[block, :, i] += sign * rows[block, :, slot]
            net.shut[i] += sign * face.rest[vertex, 1]


def _fold_scale(net: nn.Module, scale: Tensor) -> None:
    # The standard deviation of the goals goes into the last layer.
    last = net[-1]  # type: ignore[index]
    with torch.no_grad():
        last.weight.mul_(float(scale))
        last.bias.mul_(float(scale))


def _pose_errors(
    difference: NDArray[np.float64], basis: NDArray[np.float64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    # 99th percentile of each pose's vertex errors in m, from coefficients (2 n, blocks x modes).
    blocks, modes, _ = basis.shape
    off = np.einsum("nbk,bks->nbs", difference.reshape(-1, blocks, modes), basis)
    lengths = np.linalg.norm(off.reshape(len(off), -1, 3), axis=2)[:, columns.ravel() >= 0]
    n = len(lengths) // 2
    worst: NDArray[np.float64] = np.quantile(np.concatenate([lengths[:n], lengths[n:]], 1), 0.99, axis=1)
    return np.maximum(worst, 1e-6)


def _gap(vertices: NDArray[np.float64], face: Face) -> float:
    return lip_gap(
        np.ascontiguousarray(vertices, dtype=np.float64),
        face.triangles_of("upper_lip", "upper_rim"),
        face.triangles_of("lower_lip", "lower_rim"),
    )


def _gaps(poses: Poses, face: Face) -> NDArray[np.float64]:
    return np.array([_gap(v, face) for v in poses.vertices.astype(np.float64)])


def _regions(face: Face) -> dict[str, NDArray[np.intp]]:
    lips = face.vertices_of("upper_lip", "lower_lip")
    lids = face.vertices_of("eye_rim")
    y = face.rest[:, 1]
    other = np.ones(len(y), bool)
    other[lips] = other[lids] = False
    eye, mouth = face.rest[[33, 263], 1].mean(), face.rest[[61, 291], 1].mean()
    return {
        "lips": lips.astype(np.intp),
        "chin": np.flatnonzero(other & (y < mouth - 0.01)),
        "cheeks": np.flatnonzero(other & (y >= mouth - 0.01) & (y < eye - 0.01)),
        "lids": lids.astype(np.intp),
        "brows": np.flatnonzero(other & (y >= eye - 0.01)),
    }


def _figures(errors: NDArray[np.float64], motion: NDArray[np.float64]) -> dict[str, float | None]:
    moved = float(motion.mean())
    return {
        "mean": _round(errors.mean()),
        "p99": _round(np.quantile(errors, 0.99)),
        "max": _round(errors.max()),
        "motion": _round(moved),
        "percent": _round(100 * errors.mean() / moved) if moved > 0 else None,
    }


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    ranks = [np.argsort(np.argsort(v)) for v in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _round(value: Any) -> float | None:
    return None if value is None else float(f"{float(value):.4g}")
