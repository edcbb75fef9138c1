"""What is fitted: each motor's servo and horn, the material, the camera's clock; with what is known before.

Parameters are fitted as offsets z from the file's value, so that 0 is the file and a prior is a normal
distribution around it: of a difference for what may be 0, of a logarithm for what is a scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.face_map import MATERIAL
from facetwin.twin.calibration.traces import (
    BACKLASH,
    DAMPING,
    DEAD,
    FREQUENCY,
    LATENCY,
    NAMES,
    SCALE,
    SPEED,
    TRIM,
    table_of,
)
from facetwin.twin.spec import RigSpec
from facetwin.twin.spec_parts import SERVO

Floats = NDArray[np.float64]

LOGARITHMIC = np.array([name in ("natural_frequency", "damping_ratio", "max_speed") for name in NAMES])
#: sd of z before anything was seen: s, e-folds, rad
PRIOR = np.array([0.012, 0.3, 0.3, 0.006, 0.008, 0.3, 0.15, 0.06])
#: by how much z is changed to see what a parameter does
STEP = np.array([0.002, 0.04, 0.04, 0.001, 0.002, 0.04, 0.02, 0.01])
#: what smooth steps fit; the others are only searched
SMOOTH = np.array([name != "dead_band" for name in NAMES])
MATERIAL_PRIOR = 0.4
CLOCK_PRIOR = 0.02
#: rad: what is more is the neck's
VIEW_PRIOR = 0.02


@dataclass
class Values:
    """All parameters at once.

    Attributes
    ----------
    z : float64 [shape=(n, 8)], offsets of the motors' parameters, in the order of `traces.NAMES`
    material : float64 [shape=(q,)], logarithms of factors on `face_map.MATERIAL`
    clock : float, s, by how much pictures are older than their time says
    view : float64 [shape=(3,), rad], by how much the camera sees the head turned otherwise
    """

    z: Floats
    material: Floats
    clock: float = 0.0
    view: Floats = field(default_factory=lambda: np.zeros(3))

    def copy(self) -> Values:
        """Another one with the same numbers."""
        return Values(self.z.copy(), self.material.copy(), self.clock, self.view.copy())


@dataclass
class Scale:
    """How z becomes numbers of the rig table."""

    spec: RigSpec
    nominal: Floats = field(init=False)
    prior: Floats = field(init=False)
    step: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.nominal = table_of(self.spec)
        ones = np.ones_like(self.nominal)
        self.prior = PRIOR * ones
        ones[:, TRIM] = self.spec.span
        self.step = STEP * ones
        self._low = np.array([SERVO[name][0] for name in NAMES])
        self._high = np.array([SERVO[name][1] for name in NAMES])

    def table(self, z: Floats, motor: int | None = None) -> Floats:
        """Numbers of the table for z [shape=(..., 8)] of one motor, or [shape=(n, 8)] of all."""
        nominal = self.nominal if motor is None else self.nominal[motor]
        raw = np.where(LOGARITHMIC, nominal * np.exp(np.clip(z, -3, 3)), nominal + z)
        out: Floats = np.clip(raw, self._low, self._high)
        return out

    def changes(self, values: Values, fitted: NDArray[np.bool_], camera: str = "mirror") -> dict[str, float]:
        """Dotted keys and numbers that differ from the table, of what was fitted [shape=(n, 8)]."""
        table = self.table(values.z)
        out: dict[str, float] = {}
        for i, motor in enumerate(self.spec.names):
            for k, name in enumerate(NAMES):
                if fitted[i, k] and table[i, k] != self.nominal[i, k]:
                    out[f"motor.{motor}.{name}"] = _rounded(table[i, k])
        for key, log in zip(MATERIAL, values.material, strict=False):
            if log:
                out[f"material.{key}"] = _rounded(getattr(self.spec.material, key) * float(np.exp(log)))
        if values.clock and camera in self.spec.cameras:
            delay = self.spec.cameras[camera].delay + values.clock
            out[f"camera.{camera}.delay"] = _rounded(max(0.0, delay))
        return out


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


__all__ = [
    "BACKLASH", "CLOCK_PRIOR", "DAMPING", "DEAD", "FREQUENCY", "LATENCY", "LOGARITHMIC", "MATERIAL",
    "MATERIAL_PRIOR", "NAMES", "SCALE", "SMOOTH", "SPEED", "TRIM", "VIEW_PRIOR", "Scale", "Values",
]  # fmt: skip
