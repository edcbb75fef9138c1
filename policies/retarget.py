"""Human → robot: equation (1) of the summer 2022 report, section 4.3.

    (H_frame − H_static) · α + Robot_static = Robot_frame

and what lies outside the robot's reach is put on its edge. H is the person's (or the speech model's)
`speech63` in u; the robot's face is as the mirror shows it, so that both sides speak of what is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.landmarks import SETS

Floats = NDArray[np.float32]

#: places in `speech63` of the points that `face113` has too (lips 40, jaw 11), and their places there
SHARED = [p for p in SETS["speech63"] if p in SETS["face113"]]
FROM_SPEECH = np.array([SETS["speech63"].index(p) for p in SHARED])
INTO_FACE = np.array([SETS["face113"].index(p) for p in SHARED])


@dataclass(frozen=True)
class Retarget:
    """Equation (1) for one robot.

    Attributes
    ----------
    static : float32 [shape=(113, 2), u], the robot's face at rest
    low, high : float32 [shape=(113, 2), u], what each coordinate can reach
    alpha : float, the reduction rate
    """

    static: Floats
    low: Floats
    high: Floats
    alpha: float = 1.0

    def __call__(self, displacement: ArrayLike) -> tuple[Floats, Floats]:
        """Displacement from rest [shape=(T, 63, 2), u] -> robot's `face113` (T, 113, 2) in u, and the loss.

        The loss [shape=(T,), u] is the mean distance of the moved points by which clipping changed the wish.
        """
        wish = np.repeat(self.static[None], len(np.asarray(displacement)), 0)
        wish[:, INTO_FACE] += self.alpha * np.asarray(displacement, np.float32)[:, FROM_SPEECH]
        reached = np.clip(wish, self.low, self.high)
        lost = np.linalg.norm((wish - reached)[:, INTO_FACE], axis=2).mean(1)
        return reached.astype(np.float32), lost.astype(np.float32)


def speech_opening(displacement: ArrayLike) -> NDArray[np.floating]:
    """Opening of the mouth in u from displacement [shape=(T, 63, 2)]: points 13 and 14, 0 at rest."""
    d = np.asarray(displacement)
    upper, lower = (SETS["speech63"].index(i) for i in (13, 14))
    return d[:, upper, 1] - d[:, lower, 1]


def face_opening(face: ArrayLike) -> NDArray[np.floating]:
    """Opening in u of `face113` [shape=(T, 113, 2), u]."""
    f = np.asarray(face)
    upper, lower = (SETS["face113"].index(i) for i in (13, 14))
    return f[..., upper, 1] - f[..., lower, 1]
