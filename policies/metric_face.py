"""The metric face: what a face does, apart from where its head is (Audio2Landmark report, section 2.1.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Head:
    """Pose of the head, picture by picture: seen = scale * R @ metric + translation.

    Attributes
    ----------
    rotation : float32 [shape=(T, 3), rad], rotation vector, upright face to seen face (x left, y up, z out)
    translation : float32 [shape=(T, 3), px] of the face's origin, in the camera's axes, y up
    scale : float32 [shape=(T,), px per u]
    """

    rotation: NDArray[np.float32]
    translation: NDArray[np.float32]
    scale: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scale)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name, for a clip file."""
        return {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in self.__annotations__}

    def between(self, at: NDArray[np.intp], nxt: NDArray[np.intp], share: NDArray[np.float64]) -> Head:
        """Poses a share of the way from pictures `at` to pictures `nxt` (rotations: shortest arc)."""
        from scipy.spatial.transform import Rotation

        first, last = Rotation.from_rotvec(self.rotation[at]), Rotation.from_rotvec(self.rotation[nxt])
        step = (first.inv() * last).as_rotvec()  # (n, 3)
        turned = first * Rotation.from_rotvec(step * share[:, None])
        move = self.translation[at] + (self.translation[nxt] - self.translation[at]) * share[:, None]
        scale = self.scale[at] + (self.scale[nxt] - self.scale[at]) * share
        return Head(turned.as_rotvec().astype(np.float32), move.astype(np.float32), scale.astype(np.float32))
