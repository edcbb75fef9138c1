"""A self-model for one robot: that of the table, moved by what calibration found to be different.

Babble on a calibrated robot would teach it all anew; here the exact twin is posed by both tables at the same
commands of the mouth, and what differs between them (landmarks by geometry, the lips' gap) is laid on the
shipped self-model by its last layer. So it knows horns that sit askew, other skin and other springs, which a
controller can then undo: lips that stayed apart on the robot are pressed further. What the tracker makes of
shapes stays as it was learned. Not a calibration: it takes the table's word.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from facetwin.policies.babble import mouthing
from facetwin.policies.selfmodel import POINTS, SelfModel, squash
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.geometry import GeometricLandmarks
from facetwin.twin.landmarks import indices
from facetwin.twin.spec import RigSpec
from facetwin.twin.twin import FaceTwin

Floats = NDArray[np.float64]

#: poses of the mouth that both twins take
POSES = 240
#: ridges that are tried, of which held-out poses choose one
RIDGES = 10.0 ** np.arange(-3.0, 4.0)
FOLDS = 5
#: gaps below this (mm) are what closures are made of
NEAR = 3.0


@dataclass(frozen=True)
class Adapted:
    """How well the difference is known, on held-out poses: with the table's self-model, and adapted.

    Attributes
    ----------
    face_u : (float, float), mean distance of `face113`, u
    gap_mm : (float, float), mean error of gaps below `NEAR`, mm
    poses : int
    """

    face_u: tuple[float, float]
    gap_mm: tuple[float, float]
    poses: int


def positions(spec: RigSpec, commands: Floats) -> Floats:
    """Where motors come to stand for commands [shape=(..., n)]: horns that turn too far or sit askew."""
    scale = np.array([m.scale for m in spec.motors])
    trim = np.array([m.trim for m in spec.motors]) / spec.span
    out: Floats = scale * commands + trim + (1 - scale) * spec.rest
    return out


def adapt(
    model: SelfModel,
    learned: RigSpec,
    spec: RigSpec,
    *,
    poses: int = POSES,
    seed: int = 0,
    solver: str = "exact",
    tell: Callable[[int], object] | None = None,
) -> tuple[SelfModel, Adapted]:
    """The self-model of `spec`, from that of the table it was learned on.

    Parameters
    ----------
    model : SelfModel, of `learned`; left as it is
    learned, spec : RigSpec
        Tables of the same motors.
    poses : int, at least 50
    seed : int, of the poses
    solver : as `FaceTwin` has it
    tell : called with the number of each pose that is done

    Raises
    ------
    UsageError
        Tables of different motors, too few poses.
    FaceTwinError
        Most poses have no posture of skin.
    """
    if learned.names != spec.names or model.sidecar.get("motors") != list(spec.names):
        raise UsageError("a table of other motors", where="adapt()", found=spec.name, expected=learned.name)
    if poses < 50:
        raise UsageError("too few poses", where="adapt()", found=poses, expected="at least 50")
    commands = _commands(learned, poses, seed)
    before, after = (_posed(table, commands, solver, tell) for table in (learned, spec))
    ok = np.isfinite(before[1]) & np.isfinite(after[1])
    if ok.sum() < 0.7 * poses:
        raise FaceTwinError("the twin takes too few of the poses", where=spec.name,
                            found=f"{int(ok.sum())} of {poses}")  # fmt: skip
    x = torch.from_numpy(commands[ok].astype(np.float32))
    net = copy.deepcopy(model.net)
    with torch.no_grad():
        hidden = net.body[:-1](2 * x - 1).double().numpy()  # (N, 512)
        own = net.body(2 * x - 1).double().numpy()
    hidden = np.hstack([hidden, np.ones((len(hidden), 1))])
    face = (after[0][ok] - before[0][ok]).reshape(len(hidden), -1)  # (N, 226), u
    # the gap as such: what the table's twin says is known to the self-model, with an error of its own
    gaps = [squash(torch.from_numpy(g[1][ok])).numpy() for g in (before, after)]
    goal = np.concatenate([face / float(net.scale), (gaps[1] - gaps[0])[:, None]], 1)
    weight = np.where(np.minimum(before[1][ok], after[1][ok]) < NEAR, 3.0, 1.0)
    ridge, held = _choose(hidden, goal, weight)
    more = _ridge(hidden, goal, weight, ridge)  # (513, 227)
    last: torch.nn.Linear = net.body[-1]  # type: ignore[assignment]
    with torch.no_grad():
        last.weight.add_(torch.from_numpy(more[:-1].T.astype(np.float32)))
        last.bias.add_(torch.from_numpy(more[-1].astype(np.float32)))

    def far(left: Floats) -> float:
        return float(np.linalg.norm(left.reshape(-1, POINTS, 2), axis=2).mean()) * float(net.scale)

    near = after[1][ok] < NEAR

    def gap_error(told: Floats) -> float:
        mm = 3.0 * np.sinh(told)  # as `selfmodel.stretch`
        return float(np.abs(mm - after[1][ok])[near].mean())

    adapted = Adapted(
        (far(goal[:, :-1]), far(goal[:, :-1] - held[:, :-1])),
        (gap_error(own[:, -1]), gap_error(own[:, -1] + held[:, -1])), int(ok.sum()),
    )  # fmt: skip
    return SelfModel(net, model.low, model.high, dict(model.sidecar)), adapted


def _commands(spec: RigSpec, poses: int, seed: int) -> Floats:
    """Poses of the mouth that the robot may take, the rest of the face at rest, [shape=(N, n)]."""
    rng = np.random.default_rng(seed)
    mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])
    allowed, (low, high) = Couplings(spec), spec.soft_limits
    out = np.tile(spec.rest, (poses, 1))
    for row, pose in zip(out, mouthing(spec, rng)):
        row[mouth] = pose[mouth]
        row[:] = np.clip(allowed.project(row), low, high)
    out[0] = spec.rest
    return out


def _posed(
    spec: RigSpec, commands: Floats, solver: str, tell: Callable[[int], object] | None
) -> tuple[Floats, Floats]:
    """Landmarks (N, 113, 2) in u and gaps (N,) in mm of a twin; gaps are NaN where it found no posture."""
    faces, gaps = np.zeros((len(commands), POINTS, 2)), np.full(len(commands), np.nan)
    points = indices("face113")
    with FaceTwin(spec, solver=solver) as twin:
        by = GeometricLandmarks(twin.face)
        for k, at in enumerate(positions(spec, commands)):
            try:
                state = twin.move(at)
            except FaceTwinError:
                twin.reset()
                continue
            faces[k] = by.aligned(state.vertices, state.poses)[points, :2]
            gaps[k] = 1e3 * state.gap
            if tell is not None:
                tell(k)
    return faces, gaps


def _ridge(x: Floats, y: Floats, weight: Floats, ridge: float) -> Floats:
    # by way of the poses, which are fewer than what is regressed on
    out: Floats = x.T @ np.linalg.solve(x @ x.T + ridge * np.diag(1 / weight), y)
    return out


def _choose(x: Floats, y: Floats, weight: Floats) -> tuple[float, Floats]:
    """The ridge that does best on poses held out in turn, and what it says of them."""
    fold = np.arange(len(x)) % FOLDS
    best: tuple[float, float, Floats] | None = None
    for ridge in RIDGES:
        held = np.zeros_like(y)
        for k in range(FOLDS):
            out = fold == k
            held[out] = x[out] @ _ridge(x[~out], y[~out], weight[~out], float(ridge))
        left = (held - y) ** 2
        # landmarks count together as much as the gap
        cost = float((weight[:, None] * left[:, :-1]).mean() / max(y[:, :-1].var(), 1e-12)
                     + (weight * left[:, -1]).mean() / max(y[:, -1].var(), 1e-9))  # fmt: skip
        if best is None or cost < best[0]:
            best = cost, float(ridge), held
    assert best is not None
    return best[1], best[2]
