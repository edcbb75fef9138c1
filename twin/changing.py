"""A twin that can become another one: only what changed is built anew (for randomised episodes)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from facetwin.twin.errors import UsageError
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.spec import CameraSpec, RigSpec
from facetwin.twin.twin import FaceTwin


class ChangingTwin(FaceTwin):
    """A `FaceTwin` (same parameters) whose rig table may change while it lives."""

    def __init__(self, spec: RigSpec, **options: Any) -> None:
        self._options = options
        self._eye: str = options.get("camera", "mirror")
        super().__init__(spec, **options)

    def become(self, spec: RigSpec) -> bool:
        """Take another table of the same motors; returns whether the skin had to be built anew.

        The skin is kept where its material and what holds it are the same, the camera where its optics are.
        Forgets the last posture. Raises `UsageError` for other motors or a picture of another size, and what
        `FaceTwin` raises, a learned skin where it was not fitted to such a one; then nothing has changed.
        """
        check_alike(self.spec, spec)
        kinematics = Kinematics(spec, self.face)
        same = (
            spec.material == self.spec.material
            and np.array_equal(kinematics.anchored, self.kinematics.anchored)
            and np.array_equal(kinematics.stiffness, self.kinematics.stiffness)
        )
        if self._learned:  # it knows how motors pull, too
            same = same and pulls(spec) == pulls(self.spec)
        if not same:
            anew = FaceTwin(spec, **{**self._options, "face": self.face})
            self.close()
            self.__dict__.update(anew.__dict__)
            return True
        eye = spec.cameras[self._eye]
        if optics(eye) != optics(self._camera_spec):
            self.close()
        self.spec, self.kinematics, self._camera_spec = spec, kinematics, eye
        self.reset()
        return False


def optics(camera: CameraSpec) -> CameraSpec:
    """A camera without what does not change its noise-free picture: delay, rate and noise."""
    return replace(camera, delay=0.0, rate=0.0, noise=0.0)


def pulls(spec: RigSpec) -> list[Any]:
    """What the motors of a rig do to skin and parts, to be compared."""
    return [(m.pull, m.part, m.lower, m.upper, m.rest) for m in spec.motors]


def check_alike(old: RigSpec, new: RigSpec) -> None:
    """Raise `UsageError` unless both have the same motors and pictures of the same size."""
    if new.names != old.names:
        raise UsageError("other motors", where=new.source or new.name, found=f"{new.size} of {new.name}",
                         expected=f"those of {old.name}")  # fmt: skip
    for name, camera in old.cameras.items():
        other = new.cameras.get(name)
        size = (camera.width, camera.height, camera.mirror)
        if other is None or (other.width, other.height, other.mirror) != size:
            raise UsageError("another camera", where=f"{new.source or new.name}: camera.{name}",
                             expected="the same width, height and mirror")  # fmt: skip
