"""Gradient descent through the differentiable skin: the commands that come nearest to what is wanted.

No learning and no haste: Adam on all pictures of a clip together, through `FastSkin`, on the landmarks that
are wanted, on the lips' gap where it is known, and on smoothness. It is the ceiling that learned controllers
are measured by. Its body is its own idea of the rig: on a rig that is another one it is wrong like everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetwin.policies.controllers import Floats, Pieces, ReferenceClip, Stream
from facetwin.policies.felt_face import Felt, FeltFace
from facetwin.twin.couplings import Couplings
from facetwin.twin.landmarks import SETS
from facetwin.twin.spec import RigSpec

LIPS = len(SETS["lips40"])
JAW = len(SETS["jaw11"])
INNER = [SETS["speech63"].index(p) for p in (13, 14)]
#: u, errors of landmarks are counted in these
SCALE = 0.004
#: lips nearer than this are meant to be shut, mm by geometry and u by landmarks (DESIGN section 10)
SHUT_MM, SHUT = 0.5, 0.02


@dataclass(frozen=True)
class Descent:
    """What the descent weighs."""

    steps: int = 150
    """Adam steps"""
    rate: float = 0.05
    """their size at first, in commands"""
    lips: float = 1.0
    """weight of the 40 lip points' mean squared error"""
    jaw: float = 0.1
    """of the 11 jaw points"""
    opening: float = 1.0
    """of the opening's own squared error"""
    gap: float = 20.0
    """of a gap (mm, squared) where the lips are meant to be shut, and of a missing one where they are not"""
    press: float = 0.05
    """gap that counts as shut, mm: so much nearer than `SHUT_MM`"""
    shut: float = SHUT
    """u; where no gap is told, wanted openings below this are closures"""
    smooth: float = 2.0
    """of the second difference of commands, squared, in hundredths"""
    stay: float = 0.002
    """pull towards rest, squared, in hundredths"""


class GradientInverse:
    """The descent as a controller; a clip at a time, or clips side by side (`many`)."""

    name = "gradient"
    ahead = 0

    def __init__(
        self, spec: RigSpec, descent: Descent | None = None, *, face: FeltFace | None = None
    ) -> None:
        self.spec, self.descent = spec, descent or Descent()
        self.face = face or FeltFace(spec)
        self._couplings = Couplings(spec)

    def commands(self, reference: ReferenceClip) -> Floats:
        """As `Controller` has it: all pictures of the clip at once."""
        return self.many([reference])[0]

    def stream(self) -> Stream:
        """Each piece is a clip of its own, smooth from the last command of the piece before."""
        before: list[Floats] = []

        def answer(piece: ReferenceClip) -> Floats:
            out = self.many([piece], before[-1][-2:] if before else None)[0]
            before[:] = [np.concatenate([*before, out])[-2:]]
            return out

        return Pieces(answer, self.spec.size)

    def many(self, references: Sequence[ReferenceClip], before: Floats | None = None) -> list[Floats]:
        """Commands of each clip, float32 [each shape=(T, n)].

        `before`: up to two commands that the first clip goes on from.
        """
        lengths = [len(one) for one in references]
        if not sum(lengths):
            return [np.zeros((0, self.spec.size), np.float32) for _ in references]
        goal = torch.cat([torch.from_numpy(one.displacement()) for one in references])  # (T, 63, 2)
        shut = self.descent.shut
        told = [
            one.gap_mm if one.gap_mm is not None else guessed_gap(one.displacement(), shut)
            for one in references
        ]
        gap = torch.from_numpy(np.concatenate(told).astype(np.float32))
        begins = torch.zeros(sum(lengths), dtype=torch.bool)
        begins[np.cumsum([0, *lengths[:-1]])[np.array(lengths) > 0]] = True
        x = self._descend(goal, gap, begins, before)
        rows = self._allowed(self.face.whole(x).numpy())
        return [part.copy() for part in np.split(rows, np.cumsum(lengths)[:-1])]

    def _descend(self, goal: Tensor, gap: Tensor, begins: Tensor, before: Floats | None) -> Tensor:
        d, face = self.descent, self.face
        low, high = face.low[face.mouth], face.high[face.mouth]
        rest = torch.tensor(self.spec.rest, dtype=torch.float32)[face.mouth]
        x = rest.repeat(len(goal), 1).requires_grad_()
        past = rest[None] if before is None else torch.from_numpy(before)[:, face.mouth]
        past = torch.cat([past[:1], past])[-2:]
        inside = ~begins[2:] & ~begins[1:-1]  # second differences within one clip
        optimiser = torch.optim.Adam([x], d.rate, betas=(0.8, 0.95))
        for step in range(d.steps):
            optimiser.param_groups[0]["lr"] = d.rate * (0.02 + 0.49 * (1 + np.cos(np.pi * step / d.steps)))
            error = mismatch(face(face.whole(x)), face.rest + goal, gap, d)
            bend = torch.diff(x, n=2, dim=0).square().mean(1) * inside
            loss = (
                error.sum() + d.smooth * 1e2 * bend.sum() + d.stay * 1e2 * (x - rest).square().mean(1).sum()
            )
            if before is not None:
                joint = torch.diff(torch.cat([past, x[:2]]), n=2, dim=0)
                loss = loss + d.smooth * 1e2 * joint.square().mean(1).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                x.copy_(torch.maximum(torch.minimum(x, high), low))
                if step % 25 == 24:
                    x.copy_(torch.from_numpy(self._allowed(face.whole(x).numpy()))[:, face.mouth])
        return x.detach()

    def _allowed(self, rows: Floats) -> Floats:
        return within_couplings(rows, self.spec, self._couplings)


def within_couplings(rows: Floats, spec: RigSpec, couplings: Couplings) -> Floats:
    """Commands [shape=(T, n)], those that a rig's couplings forbid projected to the nearest allowed."""
    low, high = spec.soft_limits
    wide = rows.astype(np.float64)
    for k in np.flatnonzero(~couplings.allowed(wide)):
        wide[k] = couplings.project(wide[k], low, high)
    return wide.astype(np.float32)


def guessed_gap(displacement: Floats, shut: float = SHUT) -> Floats:
    """Gap (mm) by motion alone, float32 [shape=(T,)]: 0 where the opening is below `shut` (u), else open."""
    opening = displacement[:, INNER[0], 1] - displacement[:, INNER[1], 1]
    return np.where(opening < shut, 0.0, 1.0).astype(np.float32)


def mismatch(felt: Felt, points: Tensor, gap: Tensor, d: Descent) -> Tensor:
    """How far a face is from the one wanted, float32 [shape=(B,)], 1 where lips are off by `SCALE`.

    Parameters
    ----------
    felt : Felt
    points : float32 [shape=(B, 63, 2), u], wanted
    gap : float32 [shape=(B,), mm], wanted; what is open by more than 1 mm only has to stay open
    """
    apart = ((felt.points - points) / SCALE).square().sum(-1)  # (B, 63)
    error = d.lips * apart[:, :LIPS].mean(1) + d.jaw * apart[:, LIPS : LIPS + JAW].mean(1)
    upper, lower = INNER
    opening = (felt.points - points)[:, upper, 1] - (felt.points - points)[:, lower, 1]
    error = error + d.opening * (opening / SCALE).square()
    shut = gap < SHUT_MM
    over = (felt.gap - d.press).clamp_min(0).square()
    under = (gap.clamp_max(1.0) - felt.gap).clamp_min(0).square()
    return error + d.gap * torch.where(shut, over, under)


def mouth_error(a: NDArray[np.floating], b: NDArray[np.floating], spec: RigSpec) -> float:
    """Mean absolute difference of two sets of commands [shape=(..., n)] over jaw and lips."""
    mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])
    return float(np.abs(a[..., mouth] - b[..., mouth]).mean())
