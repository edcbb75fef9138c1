"""Human → robot: equation (1) of the summer 2022 report, section 4.3.

    (H_frame − H_static) · α + Robot_static = Robot_frame

and what lies outside the robot's reach goes to the nearest face inside. H is the person's (or the speech
model's) `speech63` in u; the robot's face is as the mirror shows it, so that both sides speak of what is
seen. What the robot can reach is what its self-model answers to allowed commands: `Hull` is a quick picture
of that set, the controller finds the nearest face of the set itself, and `lost_parts` says what was cut.
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


#: what of a face reach can cut, in this order: see `lost_parts`
PARTS = ("lips", "corners", "opening", "width", "jaw")
_CORNERS = [SETS["face113"].index(p) for p in (61, 291)]


@dataclass(frozen=True)
class Hull:
    """The faces that a robot can show, about: a box in the principal components of many of them.

    Coordinates of a face are not free of one another (both corners ride on one jaw), so a box per
    coordinate would let through faces that no command makes. The last word is the self-model's; this is where
    its search starts.

    Attributes
    ----------
    mean : float32 [shape=(102,), u], the 51 shared points of the mean face
    ways : float32 [shape=(k, 102)], orthonormal components
    low, high : float32 [shape=(k,), u], where they end
    """

    mean: Floats
    ways: Floats
    low: Floats
    high: Floats

    @classmethod
    def fit(cls, faces: ArrayLike, *, kept: float = 0.999, tail: float = 0.002) -> Hull:
        """Of `face113` [shape=(n, 113, 2), u]: components for a share `kept` of the variance."""
        x = np.asarray(faces, np.float64)[:, INTO_FACE].reshape(len(np.asarray(faces)), -1)  # (n, 102)
        mean = x.mean(0)
        _, size, ways = np.linalg.svd(x - mean, full_matrices=False)
        share = np.cumsum(size**2) / max(float((size**2).sum()), 1e-30)
        ways = ways[: int(np.searchsorted(share, kept)) + 1]
        place = (x - mean) @ ways.T
        low, high = np.quantile(place, (tail, 1 - tail), axis=0)
        return cls(*(a.astype(np.float32) for a in (mean, ways, low, high)))

    def nearest(self, faces: ArrayLike) -> Floats:
        """Nearest faces of the box: the shared points of `face113` [shape=(T, 113, 2), u] are moved."""
        out = np.array(faces, np.float32)
        x = out[:, INTO_FACE].reshape(len(out), -1) - self.mean
        place = np.clip(x @ self.ways.T, self.low, self.high)
        out[:, INTO_FACE] = (self.mean + place @ self.ways).reshape(len(out), -1, 2)
        return out


@dataclass(frozen=True)
class Retarget:
    """Equation (1) for one robot.

    Attributes
    ----------
    static : float32 [shape=(113, 2), u], the robot's face at rest
    hull : Hull, what it can reach
    alpha : float, the reduction rate
    """

    static: Floats
    hull: Hull
    alpha: float = 1.0

    def wish(self, displacement: ArrayLike) -> Floats:
        """Displacement from rest [shape=(T, 63, 2), u] -> `face113` (T, 113, 2) in u, reachable or not."""
        moves = np.asarray(displacement, np.float32)
        wish = np.repeat(self.static[None], len(moves), 0)
        wish[:, INTO_FACE] += self.alpha * moves[:, FROM_SPEECH]
        return wish

    def __call__(self, displacement: ArrayLike) -> Floats:
        """The same, put on the edge of the hull where it lies outside."""
        return self.hull.nearest(self.wish(displacement))


def lost_parts(wish: ArrayLike, reached: ArrayLike) -> dict[str, Floats]:
    """What reach cuts of a wish, by part, each float32 [shape=(T,), u]; both `face113` (T, 113, 2).

    Of lips, corners and jaw the mean distance of their points; of opening and width of the mouth what is
    missing of the wish: positive where the robot opens less, or is wider, than it should.
    """
    a, b = (np.asarray(f, np.float32) for f in (wish, reached))
    distance = np.linalg.norm(a - b, axis=2)  # (T, 113)
    jaw = len(SETS["face113"]) - len(SETS["jaw11"])
    wide = [np.linalg.norm(f[:, _CORNERS[0]] - f[:, _CORNERS[1]], axis=1) for f in (a, b)]
    return {
        "lips": distance[:, : len(SETS["lips40"])].mean(1),
        "corners": distance[:, _CORNERS].mean(1),
        "opening": face_opening(a) - face_opening(b),
        "width": wide[1] - wide[0],
        "jaw": distance[:, jaw:].mean(1),
    }


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
