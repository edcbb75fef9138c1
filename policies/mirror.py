"""What babbling leaves, as arrays: pairs of commands and what the mirror showed.

Each recording of it is a run of its own; splits are by run, so that neighbouring poses never fall on both
sides. Reading them from disk is `facetwin.cli.babbled`, since recordings belong to the hardware.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import align, head_turn, indices

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Mirror:
    """Commands and what was seen of them; n poses.

    Attributes
    ----------
    commands : float32 [shape=(n, 26)], as really sent
    face : float32 [shape=(n, 113, 2), u], `face113`, aligned
    turn : float32 [shape=(n, 3), rad], rotation vector that turns the seen head back upright
    gap : float32 [shape=(n,), mm], lip gap by geometry; NaN where the rig does not know
    found : bool [shape=(n,)], a face was found (the tracker's second try counts)
    run : int64 [shape=(n,)]
    """

    commands: Floats
    face: Floats
    turn: Floats
    gap: Floats
    found: NDArray[np.bool_]
    run: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.commands)

    def __getitem__(self, rows: Any) -> Mirror:
        return Mirror(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def split(self) -> tuple[Mirror, Mirror, Mirror]:
        """Training, validation and test poses: whole runs, 8 : 1 : 1, the same in every run."""
        runs = np.unique(self.run)
        if len(runs) < 10:
            raise UsageError(
                "too little babble to split by run", found=f"{len(runs)} runs", expected="10 or more",
                hint="facetwin babble --frames N with a larger N",
            )  # fmt: skip
        place = np.searchsorted(runs, self.run) % 10
        return self[place < 8], self[place == 8], self[place == 9]


def looked(landmarks: ArrayLike, unit: float) -> tuple[Floats, Floats]:
    """Image landmarks [shape=(n, 478, 3), px] to `face` (n, 113, 2) and `turn` (n, 3) of `Mirror`."""
    face = align(landmarks, unit=unit)[..., indices("face113"), :2]
    return np.ascontiguousarray(face, dtype=np.float32), head_turn(landmarks)
