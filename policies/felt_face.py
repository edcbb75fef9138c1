"""The speech points and the lips' gap of the twin as differentiable functions of commands.

The fast skin gives vertices in the skull's frame; one similarity, that of the face at rest, takes them to u.
`facetwin.twin.landmarks.align` fits it anew in every picture, but what it is fitted to hardly moves when the
mouth does: on speech the two differ by .00002 u, .00008 at most. A still face is meant: no servos, no creep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetwin.twin.face import load_face
from facetwin.twin.geometry import GeometricLandmarks
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.landmarks import indices
from facetwin.twin.skin.fast import FastSkin
from facetwin.twin.spec import RigSpec


@dataclass(frozen=True)
class Felt:
    """What commands do, with gradients.

    Attributes
    ----------
    points : float32 [shape=(B, 63, 2), u], `speech63`, as `align` has them
    gap : float32 [shape=(B,), mm], below 0 where one lip lies before the other
    trust : bool [shape=(B,)], as the fast skin says
    """

    points: Tensor
    gap: Tensor
    trust: Tensor


class FeltFace:
    """Commands of one rig → `Felt`.

    Attributes
    ----------
    mouth : int64 [shape=(m,)], the motors that speech uses: jaw and lips
    rest : float32 [shape=(63, 2), u]

    Raises what `FastSkin.load` does for a rig without a fast skin.
    """

    def __init__(self, spec: RigSpec) -> None:
        self.spec = spec
        face = load_face()
        ids = indices("speech63")
        self.skin = FastSkin.load(spec, face, kinematics=Kinematics(spec, face)).only(ids)
        self.mouth = torch.from_numpy(
            np.concatenate([spec.group("jaw"), spec.group("lips")]).astype(np.int64)
        )
        seen = GeometricLandmarks(face).aligned(face.rest, {})[ids]  # (63, 3)
        way, middle = _similarity(face.rest[ids], seen)
        self._way = torch.from_numpy(way[:, :2].astype(np.float32).copy())
        self._middle = torch.from_numpy(middle[:2].astype(np.float32))
        with torch.no_grad():
            self.rest = self(torch.tensor(spec.rest, dtype=torch.float32)[None]).points[0]
        low, high = spec.soft_limits
        self.low = torch.tensor(low, dtype=torch.float32)
        self.high = torch.tensor(high, dtype=torch.float32)

    def __call__(self, commands: Tensor) -> Felt:
        """Commands float [shape=(B, n)], where the motors stand."""
        shapes = self.skin(commands)
        points = shapes.vertices @ self._way + self._middle  # (B, 63, 2)
        return Felt(points, 1e3 * shapes.gap, shapes.trust)

    def whole(self, mouth: Tensor) -> Tensor:
        """Commands (B, n) of a face at rest but for jaw and lips (B, m)."""
        rest = torch.tensor(self.spec.rest, dtype=mouth.dtype).expand(len(mouth), -1)
        return rest.index_copy(1, self.mouth, mouth)


def _similarity(
    points: NDArray[np.floating], seen: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The affine map ``x @ way + middle`` that takes points (N, 3) to those seen; exact for a similarity."""
    rows = np.column_stack([points, np.ones(len(points))])
    fitted = np.linalg.lstsq(rows, seen, rcond=None)[0]
    return fitted[:3], fitted[3]
