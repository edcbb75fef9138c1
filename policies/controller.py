"""Landmarks wanted → commands: the inverse model proposes, the self-model corrects.

The inverse model answers at once but cannot know the last millimetre of a closure: it sees what the
tracker sees. So its answer is refined by a few gradient steps through the self-model, which also knows the
gap: landmarks as wanted, lips really shut where they are wanted shut, small and smooth commands. Jaw and
lips only; the other motors stay where they are told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from facetwin.policies.inverse import InverseModel
from facetwin.policies.retarget import INTO_FACE, Hull, Retarget, face_opening, lost_parts
from facetwin.policies.selfmodel import SelfModel
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import SETS
from facetwin.twin.spec import RigSpec

UPPER_LIP = SETS["face113"].index(13)
LOWER_LIP = SETS["face113"].index(14)


@dataclass(frozen=True)
class Tuning:
    """What the refinement weighs; errors in u squared, scaled by `JITTER` of the tracker (0.004 u)."""

    steps: int = 100
    """Adam steps for each piece"""
    rate: float = 0.04
    """their size, in commands"""
    lips: float = 1.0
    """weight of the 40 lip points"""
    jaw: float = 0.15
    """weight of the 11 jaw points"""
    opening: float = 8.0
    """weight of the opening alone"""
    gap: float = 6.0
    """weight of a gap (mm, squared) where the mouth is wanted shut"""
    shut: float = 0.015
    """wanted openings below this (u) are closures; .015 keeps controls more open than .02 (training clips)"""
    press: float = -0.2
    """gap aimed at in a closure, mm; a little below touching"""
    stay: float = 0.02
    """pull of the commands towards rest"""
    smooth: float = 0.05
    """pull towards the frame before"""
    alpha: float = 1.0
    """reduction rate of equation (1)"""


SCALE = 0.004
HULL = 2048  #: faces that the hull is made of


class SpeechController:
    """Displacement of the speech points from rest → commands, 25 a second.

    Works piece by piece: the end of one piece is the past of the next; `reset` begins anew.
    """

    def __init__(
        self,
        spec: RigSpec,
        *,
        model: SelfModel | None = None,
        inverse: InverseModel | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        self.spec = spec
        self.model = model or SelfModel.load(spec)
        self.inverse = inverse or InverseModel.load(spec)
        for part in (self.model, self.inverse):
            if part.sidecar.get("motors") != list(spec.names):
                raise FaceTwinError(
                    "weights of another rig", where=type(part).__name__, found=part.sidecar.get("rig"),
                    expected=spec.name, hint="train on babble of this rig",
                )  # fmt: skip
        self.model.net.requires_grad_(False)  # only commands are moved
        self.tuning = tuning or Tuning()
        self._mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])
        low, high = spec.soft_limits
        self.retarget = Retarget(self.model.static, self._hull(low, high), self.tuning.alpha)
        self._low = torch.tensor(low[self._mouth], dtype=torch.float32)
        self._high = torch.tensor(high[self._mouth], dtype=torch.float32)
        self._before: Tensor | None = None
        #: what the robot's reach cut of the last piece's wishes, by part (`lost_parts`), each [shape=(T,), u]
        self.lost: dict[str, NDArray[np.float32]] = {}

    def _hull(self, low: ArrayLike, high: ArrayLike) -> Hull:
        """What jaw and lips can show, by the self-model, at random commands between soft limits."""
        rng = np.random.default_rng(0)
        commands = np.repeat(np.asarray(self.spec.rest, np.float32)[None], HULL, 0)
        least, most = (np.asarray(a, np.float64)[self._mouth] for a in (low, high))
        commands[:, self._mouth] = rng.uniform(least, most, (HULL, len(self._mouth)))
        return Hull.fit(self.model.predict(commands)[0])

    def reset(self) -> None:
        """Forget the frame before: what follows is another recording."""
        self._before = None

    def commands(self, displacement: ArrayLike) -> NDArray[np.float32]:
        """Displacement [shape=(T, 63, 2), u] -> commands float32 [shape=(T, motors)]."""
        wish = np.asarray(displacement, np.float32)
        if wish.ndim != 3 or wish.shape[1:] != (63, 2) or not np.isfinite(wish).all():
            raise FaceTwinError(
                "not a displacement of the speech points", where="commands()", found=wish.shape,
                expected="finite (T, 63, 2)",
            )  # fmt: skip
        if len(wish) == 0:
            return np.zeros((0, self.spec.size), np.float32)
        target = self.retarget.wish(wish)
        out = self.refine(target, self.inverse.predict(self.retarget.hull.nearest(target)))
        self.lost = lost_parts(target, self.model.predict(out)[0])
        return out

    def refine(self, target: ArrayLike, first: ArrayLike) -> NDArray[np.float32]:
        """Wanted `face113` [shape=(T, 113, 2), u] and a first guess (T, motors) -> commands (T, motors)."""
        t = self.tuning
        goal = torch.as_tensor(np.asarray(target, np.float32))[:, INTO_FACE]  # (T, 51, 2)
        opening = torch.as_tensor(
            np.asarray(face_opening(target) - face_opening(self.retarget.static), np.float32)
        )
        shut = (opening < t.shut).float()
        rest = torch.tensor(self.spec.rest[self._mouth], dtype=torch.float32)
        guess = torch.as_tensor(np.asarray(first, np.float32))[:, self._mouth]
        x = guess.clamp(self._low, self._high).clone().requires_grad_(True)  # (T, 11)
        whole = torch.tensor(np.repeat(self.spec.rest[None], len(x), 0), dtype=torch.float32)
        mouth = torch.from_numpy(self._mouth)
        weight = torch.full((goal.shape[1], 1), t.lips)
        weight[len(SETS["lips40"]) :] = t.jaw
        weight = weight / weight.sum()
        optimiser = torch.optim.Adam([x], t.rate)
        for step in range(t.steps):
            optimiser.param_groups[0]["lr"] = t.rate * 0.5 * (1 + np.cos(np.pi * step / t.steps))
            seen, gap = self.model.net(whole.index_copy(1, mouth, x))
            error = (((seen[:, INTO_FACE] - goal) / SCALE) ** 2).mul(weight).sum((1, 2))
            seen_opening = seen[:, UPPER_LIP, 1] - seen[:, LOWER_LIP, 1]
            error = error + t.opening * ((seen_opening - (goal_opening(target))) / SCALE / 5) ** 2
            error = error + t.gap * shut * (gap - t.press).clamp_min(0) ** 2 * 4
            error = error + t.stay / 0.01 * ((x - rest) ** 2).mean(1)
            change = torch.diff(x, dim=0, prepend=(x[:1] if self._before is None else self._before).detach())
            loss = (error + t.smooth / 0.01 * (change**2).mean(1)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                x.copy_(torch.maximum(torch.minimum(x, self._high), self._low))
        done = x.detach()
        self._before = done[-1:].clone()
        out: NDArray[np.float32] = whole.index_copy(1, mouth, done).numpy()
        return out


def goal_opening(target: ArrayLike) -> Tensor:
    """Opening of a wanted face as a tensor [shape=(T,), u]."""
    return torch.as_tensor(np.asarray(face_opening(target), np.float32))
