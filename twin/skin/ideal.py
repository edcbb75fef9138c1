"""The ideal face: the twin's skin made to follow landmarks, without motors.

What a reference video of the robot shows. Shell, contact and hard parts are those of `ExactSkin` of the rig,
but what pulls is one spring at each point of `speech63` instead of the motors of lips and corners; the jaw,
and the teeth with it, turns as far as the chin goes down. How far lips come forward cannot be read off a
picture; it is what the skin of this rig does when its motors move these points like that (ridge regression on
babbled shapes). Where the talker's lips are shut, so are these: the points of both lips are pressed over each
other, and contact stops them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import Face, load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import SETS, indices
from facetwin.twin.skin.exact import ExactSkin
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.skin.gap import lip_gaps
from facetwin.twin.spec import RigSpec
from facetwin.twin.twin import build_skin

Floats = NDArray[np.float64]

#: N/m, of the spring at each point of the lips, and at those of jaw and cheeks
LIP_SPRING, CHEEK_SPRING = 250.0, 40.0
#: u, openings between which a shut mouth turns into an open one; the first is what counts as shut (DESIGN 10)
SHUT, OPEN = 0.02, 0.04
#: u, how far the lips of a shut mouth are pressed over each other
PRESS = 0.012
#: babbled shapes that tell how far lips come forward
SHAPES = 3000
_INNER = tuple(
    (SETS["speech63"].index(a), SETS["speech63"].index(b))
    for a, b in zip((191, 80, 81, 82, 13, 312, 311, 310, 415), (95, 88, 178, 87, 14, 317, 402, 318, 324))
)
_JAW = [SETS["speech63"].index(p) for p in SETS["jaw11"]]


@dataclass(frozen=True)
class IdealMotion:
    """T pictures of a face that follows landmarks.

    Attributes
    ----------
    vertices : float32 [shape=(T, N, 3), m], skin in the skull's frame
    poses : link -> float64 [shape=(T, 4, 4)]
    gap_mm : float32 [shape=(T,)], opening between the lips by geometry
    missed : float32 [shape=(T,), u], mean distance of lip points from where they were to go, from the front
    converged : bool [shape=(T,)]
    """

    vertices: NDArray[np.float32]
    poses: dict[str, Floats]
    gap_mm: NDArray[np.float32]
    missed: NDArray[np.float32]
    converged: NDArray[np.bool_]


class IdealSkin:
    """Landmarks to shapes of one rig's skin.

    Parameters
    ----------
    spec : RigSpec, for its material, what holds the skin apart from lip motors, and its jaw
    face : Face, optional
    """

    def __init__(self, spec: RigSpec, face: Face | None = None) -> None:
        self.spec, self.face = spec, face or load_face()
        if "jaw" not in spec.names:
            raise FaceTwinError("the rig has no jaw", where=spec.source or spec.name)
        bare = replace(
            spec,
            motors=tuple(replace(m, pull=None) if m.group in ("lips", "jaw") else m for m in spec.motors),
        )
        self._kinematics = Kinematics(bare, self.face)
        self._points = indices("speech63").astype(np.int64)
        held, stiff = self._kinematics.anchored.astype(np.int64), self._kinematics.stiffness
        self._kept = np.flatnonzero(~np.isin(held, self._points) | np.isinf(stiff))
        self._free = np.flatnonzero(~np.isin(self._points, held[self._kept]))  # of the 63
        springs = np.where(np.arange(63) < 40, LIP_SPRING, CHEEK_SPRING)
        holders = copy.copy(self._kinematics)
        holders.anchored = np.concatenate([held[self._kept], self._points[self._free]])
        holders.stiffness = np.concatenate([stiff[self._kept], springs[self._free]])
        self.skin: ExactSkin = build_skin(spec, self.face, holders)
        self._lips = (
            self.face.triangles_of("upper_lip", "upper_rim").astype(np.int64),
            self.face.triangles_of("lower_lip", "lower_rim").astype(np.int64),
        )

    def __call__(
        self, displacement: ArrayLike, *, progress: Callable[[], None] = lambda: None
    ) -> IdealMotion:
        """Shapes for displacements of `speech63` from rest [shape=(T, 63, 2), u], one after the other."""
        moves = np.asarray(displacement, dtype=np.float64)
        if moves.ndim != 3 or moves.shape[1:] != (63, 2) or not np.isfinite(moves).all():
            raise FaceTwinError("not displacements of landmarks", where="ideal skin", found=moves.shape,
                                expected="finite (T, 63, 2), u")  # fmt: skip
        u = self.face.metres_per_u
        jaw = self._jaw(moves)
        aims = self._aims(moves)  # (T, 63, 3), u
        position = np.tile(self.spec.rest, (len(moves), 1))
        position[:, self.spec.index("jaw")] = jaw
        goals = [self._kinematics.goals(p)[self._kept] for p in position]
        rest = self.face.rest[self._points]
        vertices = np.empty((len(moves), *self.face.rest.shape), np.float32)
        good, last = np.empty(len(moves), np.bool_), None
        seats = self._kinematics.seats(position)
        for t in range(len(moves)):
            goal = np.concatenate([goals[t], (rest + u * aims[t])[self._free]])
            here = {link: pose[t] for link, pose in seats.items()}
            try:
                shape, report = self.skin.solve_report(goal, last, poses=here)
                lost = not report.converged
            except FaceTwinError:
                if last is None:
                    raise
                lost = True
            if lost and last is not None:
                shape, report = self.skin.solve_report(goal, poses=here)
            vertices[t], good[t] = shape, report.converged
            last = shape
            progress()
        lips = self._points[:40]
        apart = (vertices[:, lips] - self.face.rest[lips])[..., :2] / u - aims[:, :40, :2]
        return IdealMotion(
            vertices, self._kinematics.poses(position),
            (1e3 * lip_gaps(vertices, *self._lips)).astype(np.float32),
            np.linalg.norm(apart, axis=2).mean(1).astype(np.float32), good,
        )  # fmt: skip

    def _jaw(self, moves: Floats) -> Floats:
        # Commands of the jaw [shape=(T,)] that take the chin as far down as its points go.
        where = self.spec.index("jaw")
        trial = np.tile(self.spec.rest, (21, 1))
        trial[:, where] = np.linspace(self.spec.rest[where], 1.0, 21)
        turn = self._kinematics.seats(trial)["jaw"]  # (21, 4, 4)
        chin = self.face.rest[self._points[_JAW]]
        down = (chin @ np.swapaxes(turn[:, :3, :3], 1, 2) + turn[:, None, :3, 3] - chin)[..., 1].mean(1)
        wanted = self.face.metres_per_u * moves[:, _JAW, 1].mean(1)
        order = np.argsort(down)
        return np.interp(wanted, down[order], trial[order, where])

    def _aims(self, moves: Floats) -> Floats:
        # Where the points should go from rest (T, 63, 3), u: shut where shut, and forward as the skin would.
        flat = moves.copy()
        middle = flat[:, _INNER[4][0], 1] - flat[:, _INNER[4][1], 1]
        share = np.clip((middle - SHUT) / (OPEN - SHUT), 0, 1)  # 0: shut, all across
        for a, b in _INNER:
            apart = flat[:, a, 1] - flat[:, b, 1]
            wanted = share * np.maximum(apart, 0) - (1 - share) * PRESS
            flat[:, a, 1] += 0.5 * (wanted - apart)
            flat[:, b, 1] -= 0.5 * (wanted - apart)
        weights, _ = self._forward
        ahead = flat.reshape(len(flat), -1) @ weights
        return np.concatenate([flat, ahead[..., None]], 2)

    @cached_property
    def _forward(self) -> tuple[Floats, float]:
        # Weights (126, 63) from motions seen from the front to motions forward, and what they leave (u).
        from facetwin.twin.skin.fast import shipped

        shipped(self.spec)
        skin = FastSkin.load(self.spec, self.face).only(self._points)
        rng = np.random.default_rng(0)
        at = np.tile(self.spec.rest, (SHAPES, 1))
        mouth = np.concatenate([self.spec.group("jaw"), self.spec.group("lips")])
        at[:, mouth] += rng.normal(0, 0.2, (SHAPES, len(mouth)))
        with torch.no_grad():
            shapes = skin(torch.from_numpy(np.clip(at, 0, 1)))
        good = shapes.trust.numpy()
        moved = (shapes.vertices.numpy()[good] - self.face.rest[self._points]) / self.face.metres_per_u
        moved = moved.astype(np.float64)
        x, y = moved[..., :2].reshape(len(moved), -1), moved[..., 2]
        weights = np.linalg.solve(x.T @ x + 1e-3 * len(x) * np.eye(x.shape[1]), x.T @ y)
        return weights, float(np.sqrt(((x @ weights - y) ** 2).mean()))
