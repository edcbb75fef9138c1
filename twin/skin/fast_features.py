"""What the goals of the skin are linear in: ways of the motors, turns of the jaw, and their products.

The jaw turns rigidly and a pull may bend along an arc, so goals are no linear function of the commands; but
they are one of these features, exactly. With it the linear skin is one small matrix, and nothing that
kinematics knows has to be learned. The neck, eyes and lids move nothing in the skull's frame. Not here: the
matrix itself (`fast_train` makes it).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import Face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.spec import RigSpec

#: m, how far goals may lie from what the features say: rounding only
ROUNDING = 1e-8
#: m, how far goals (all of them together) may lie from what motors make
STRAY = 1e-5
SIDES = (("right_", "left_"), ("left_", "right_"), ("r_", "l_"), ("l_", "r_"))


class Features(nn.Module):
    """Features of motor positions [shape=(B, n)] in command units: inputs (B, m) and features (B, F).

    Inputs are the commands of the m motors that move the skin, in [-1, 1]. Features are d^p, and for what
    rides on the jaw d^p sin(t) and d^p (1 - cos(t)), where d is a command less its rest and t the jaw's turn.

    Attributes
    ----------
    motors : intp [shape=(m,)], the motors that move the skin
    mirror : intp [shape=(m,)], place in `motors` of each one's left-right partner
    """

    def __init__(self, spec: RigSpec) -> None:
        super().__init__()
        names = spec.names
        jaws = [i for i, m in enumerate(spec.motors) if m.part is not None and m.part.name == "jaw"]
        self.motors = np.array(
            sorted({*jaws, *(i for i, m in enumerate(spec.motors) if m.pull is not None)}), np.intp
        )
        place = {int(motor): k for k, motor in enumerate(self.motors)}
        self.mirror = np.array([place.get(_partner(names, i), -1) for i in self.motors], np.intp)
        self.angle = np.zeros(len(self.motors))  # rad of the jaw per unit of each command
        for i in jaws:
            part = spec.motors[i].part
            assert part is not None
            self.angle[place[i]] = part.gain * spec.motors[i].span
        #: columns (motor of `motors` or -1, power, 0 | 1 sin | 2 one less cos)
        table = [(-1, 0, 1), (-1, 0, 2)] if jaws else []
        for i in self.motors:
            pull = spec.motors[i].pull
            if pull is None:
                continue
            rides = bool(jaws) and pull.carrier == "jaw" and pull.share > 0
            for power in range(1, 2 if pull.arc is None else len(pull.arc)):
                table += [(place[int(i)], power, kind) for kind in range(3 if rides else 1)]
        self.table = np.array(table, np.int64)
        self.powers = int(self.table[:, 1].max())
        column = np.where(
            self.table[:, 0] < 0, 0, 1 + (self.table[:, 1] - 1) * len(self.motors) + self.table[:, 0]
        )
        self._motors: Tensor
        self._column: Tensor
        self._kind: Tensor
        self._rest: Tensor
        self._angle: Tensor
        for name, value in (
            ("_motors", self.motors), ("_column", column), ("_kind", self.table[:, 2].copy()),
            ("_rest", spec.rest[self.motors]), ("_angle", self.angle),
        ):  # fmt: skip
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)), persistent=False)

    @property
    def count(self) -> int:
        """Number of features, F."""
        return len(self.table)

    def forward(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Positions [shape=(B, n)] -> inputs (B, m), features (B, F)."""
        return self.of_inputs(2 * position[:, self._motors] - 1)

    def of_inputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [shape=(B, m)] in [-1, 1] -> the same, and features (B, F)."""
        d = (x + 1) / 2 - self._rest.to(x.dtype)  # (B, m)
        turn = d @ self._angle.to(x.dtype)  # (B,), rad
        one = torch.ones_like(turn)
        ways = [one[:, None], d]
        for _ in range(self.powers - 1):
            ways.append(ways[-1] * d)
        jaw = torch.stack([one, torch.sin(turn), 1 - torch.cos(turn)], 1)  # (B, 3)
        return x, torch.cat(ways, 1)[:, self._column] * jaw[:, self._kind]

    def array(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Features of positions [shape=(B, n)], float64 [shape=(B, F)]."""
        with torch.no_grad():
            out: NDArray[np.float64] = self(torch.as_tensor(np.asarray(positions, np.float64)))[1].numpy()
        return out


class Motors:
    """The inverse of the goals: which motor positions pull there, for goals that motors make.

    The jaw shows in the goals by itself; once its turn is known, they are linear in the other ways.
    """

    def __init__(self, features: Features, kinematics: Kinematics) -> None:
        self._features, self._spec = features, kinematics.spec
        self._rest = kinematics.goals(kinematics.spec.rest).ravel()
        matrix = goal_matrix(features, kinematics)
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        kept = s > 1e-9 * s[0]  # ways along the jaw's axis do not feel its turn
        self._span = vt[kept]  # (r, 3 M)
        self._matrix = u[:, kept] * s[kept]  # (F, r)
        self._inverse = np.linalg.pinv(self._matrix)  # (r, F)

    def __call__(self, goals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions [shape=(n,)] for goals [shape=(M, 3), m]; motors that do not move the skin rest.

        Raises `FaceTwinError` for goals more than `STRAY` away from any that motors make.
        """
        f, spec = self._features, self._spec
        moved = goals.ravel() - self._rest
        y = self._span @ moved
        out = spec.rest.copy()
        way, power, kind = f.table.T
        jaw = np.array([1.0, 0.0, 0.0])
        bare = y
        turning = f.angle != 0
        if turning.any():
            sine, bend = (y @ self._inverse[:, :2]).tolist()
            turn = np.arctan2(sine, 1 - bend)
            jaw = np.array([1.0, np.sin(turn), 1 - np.cos(turn)])
            out[f.motors[turning]] += turn / f.angle[turning]
            bare = y - jaw[1:] @ self._matrix[:2]
        own = way >= 0
        first = own & (kind == 0)
        ways = np.zeros((int(first.sum()), len(y)))
        np.add.at(ways, np.cumsum(first)[own] - 1, jaw[kind[own], None] * self._matrix[own])
        solved = np.linalg.lstsq(ways.T, bare, rcond=None)[0]
        straight = power[first] == 1
        out[f.motors[way[first][straight]]] += solved[straight]
        again = f.array(out[None])[0] @ self._matrix
        stray = float(np.sqrt(((again - y) ** 2).sum() + ((moved - y @ self._span) ** 2).sum()))
        if stray > STRAY:
            raise FaceTwinError(
                "goals that the motors do not make", where="goals", found=f"{stray:.1e} m off",
                hint="the exact skin takes any goals",
            )  # fmt: skip
        return out


def goal_matrix(features: Features, kinematics: Kinematics) -> NDArray[np.float64]:
    """What each feature adds to the goals, float64 [shape=(F, 3 M), m].

    Raises `FaceTwinError` if the goals of this rig are no linear function of its features.
    """
    rng = np.random.default_rng(0)
    spec = kinematics.spec
    at = rng.uniform(size=(3 * features.count, spec.size))
    rest = kinematics.goals(spec.rest).ravel()
    moved = np.array([kinematics.goals(c).ravel() - rest for c in at])  # (3 F, 3 M)
    known = features.array(at)
    matrix: NDArray[np.float64] = np.linalg.lstsq(known, moved, rcond=None)[0]
    worst = float(np.abs(known @ matrix - moved).max())
    if worst > ROUNDING:
        raise FaceTwinError(
            "goals that the fast skin's features do not span", where=spec.name, found=f"{worst:.1e} m off",
            expected="at most one motor on the jaw, pulls that it or the skull carries",
        )  # fmt: skip
    return matrix


def mirror_vertices(face: Face) -> NDArray[np.intp]:
    """The left-right partner of each skin vertex, intp [shape=(N,)]; raises for a mesh that has none."""
    from scipy.spatial import cKDTree

    distance, partner = cKDTree(face.rest).query(face.rest * (-1, 1, 1))
    if distance.max() > 1e-9 or not np.array_equal(partner[partner], np.arange(len(partner))):
        raise FaceTwinError(
            "the skin's mesh is not left-right symmetric", where="face", found=f"{distance.max():.1e} m off",
            hint="the fast skin learns one half of a symmetric face",
        )  # fmt: skip
    return np.asarray(partner, np.intp)


def check_mirror(features: Features, kinematics: Kinematics) -> None:
    """Raise `FaceTwinError` unless mirrored commands pull the skin to mirrored goals."""
    spec, face = kinematics.spec, kinematics.face
    row = np.full(len(face.rest), -1)
    row[kinematics.anchored] = np.arange(len(kinematics.anchored))
    partner = row[mirror_vertices(face)[kinematics.anchored]]
    at = np.random.default_rng(1).uniform(size=spec.size)
    other = at.copy()
    if (features.mirror >= 0).all():
        other[features.motors] = at[features.motors[features.mirror]]
    mirrored = kinematics.goals(at)[partner] * (-1, 1, 1)
    if (
        (features.mirror < 0).any()
        or (partner < 0).any()
        or np.abs(kinematics.goals(other) - mirrored).max() > ROUNDING
    ):
        raise FaceTwinError(
            "the rig is not left-right symmetric", where=spec.name,
            hint="the fast skin learns one half of a symmetric face",
        )  # fmt: skip


def _partner(names: tuple[str, ...], i: int) -> int:
    for here, there in SIDES:
        if names[i].startswith(here) and there + names[i][len(here) :] in names:
            return names.index(there + names[i][len(here) :])
    return i
