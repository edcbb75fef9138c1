"""The coverage-seeking babbler: it goes where the mirror has shown little yet.

What a mouth shows is put into a grid over four numbers: opening, width, protrusion, smile. For each cell the
commands that led there are remembered. The next command is a change of one that led to a cell seldom seen
(the archive of Go-Explore, Ecoffet et al. 2021, Nature 590, 580), or, now and then, any at all. Nothing
but commands and landmarks is used, so a rig can do it, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies.babble import symmetrise
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import POINTS, opening, width
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

#: names, lower and upper end (u) of what is looked at, and cells in each; what lies outside counts at the end
SHOWN = ("opening", "width", "protrusion", "smile")
LOW = np.array((0.0, 0.46, -0.14, -0.05))
HIGH = np.array((0.46, 0.68, 0.06, 0.12))
CELLS = 8
#: share of commands that are drawn anew, and how far others are changed
ANEW, SPREADS = 0.1, (0.05, 0.35)
#: of remembered commands a cell
KEPT = 4


def shown(landmarks: ArrayLike) -> Floats:
    """Opening, width, protrusion and smile of aligned landmarks (..., 478, 3): float64 [shape=(..., 4), u].

    Protrusion is how far forward the middles of both lips' outer edges stand, smile how high the corners
    stand above them; both are 0 for the canonical face.
    """
    from facetwin.twin.landmarks import canonical

    p = np.asarray(landmarks, dtype=np.float64)
    if p.shape[-2:] != (POINTS, 3):
        raise FaceTwinError("not landmarks", where="babble", found=p.shape, expected=f"(..., {POINTS}, 3)")

    def forward(q: Floats) -> Floats:
        return (q[..., 0, 2] + q[..., 17, 2]) / 2

    def raised(q: Floats) -> Floats:
        return (q[..., 61, 1] + q[..., 291, 1]) / 2 - (q[..., 0, 1] + q[..., 17, 1]) / 2

    rest = canonical()
    return np.stack([opening(p), width(p), forward(p) - forward(rest), raised(p) - raised(rest)], axis=-1)


def cells(numbers: ArrayLike) -> NDArray[np.int64]:
    """Cell, 0 .. 4095, of each row of `shown` (..., 4)."""
    share = (np.asarray(numbers) - LOW) / (HIGH - LOW)
    place = np.clip((share * CELLS).astype(np.int64), 0, CELLS - 1)
    return place @ (CELLS ** np.arange(4))


class Seeker:
    """Next commands from what was seen of earlier ones.

    Parameters
    ----------
    spec : RigSpec
    rng : numpy Generator
    symmetric : bool
        Both sides do the same.
    """

    def __init__(self, spec: RigSpec, rng: np.random.Generator, *, symmetric: bool = False) -> None:
        self.spec, self.rng, self.symmetric = spec, rng, symmetric
        self.visits = np.zeros(CELLS**4, np.int64)
        self._known: dict[int, list[Floats]] = {}
        self._mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])

    def next(self) -> Floats:
        """A command, float64 [shape=(n,)]."""
        if not self._known or self.rng.uniform() < ANEW:
            command = self.rng.uniform(size=self.spec.size)
        else:
            places = np.fromiter(self._known, np.int64)
            weight = 1.0 / (1.0 + self.visits[places]) ** 2
            kept = self._known[int(self.rng.choice(places, p=weight / weight.sum()))]
            command = kept[self.rng.integers(len(kept))].copy()
            some = self._mouth[self.rng.uniform(size=len(self._mouth)) < 0.5]
            command[some] += self.rng.normal(0, self.rng.uniform(*SPREADS), len(some))
            command = np.clip(command, 0, 1)
        return symmetrise(self.spec, command) if self.symmetric else command

    def look(self, command: ArrayLike, landmarks: ArrayLike) -> int:
        """Learn what a command looked like, aligned (478, 3); its cell."""
        cell = int(cells(shown(landmarks)))
        self.visits[cell] += 1
        kept = self._known.setdefault(cell, [])
        if len(kept) < KEPT:
            kept.append(np.array(command, dtype=np.float64))
        elif self.rng.uniform() < 0.2:
            kept[self.rng.integers(KEPT)] = np.array(command, dtype=np.float64)
        return cell

    def batches(self, size: int) -> Iterator[Floats]:
        """Commands (size, n) for ever; `look` at each batch before the next."""
        while True:
            yield np.array([self.next() for _ in range(size)])
