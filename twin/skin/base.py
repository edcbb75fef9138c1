"""What every skin solver is, what it is made of, and what it says about a solve (DESIGN section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: contacts: vertices and shares (m, 4), normals (m, 3), stiffness (m,), and where asked overlaps (m,)
Contacts = tuple[NDArray[Any], ...]
#: numba: reassociation is allowed, infinities and NaN keep their meaning
FAST = {"reassoc", "contract", "arcp", "nsz"}


@runtime_checkable
class Skin(Protocol):
    """A soft skin that follows its anchored vertices.

    Attributes
    ----------
    rest : float64 [shape=(N, 3), m]
        The shape that nothing pulls.
    anchored : int64 [shape=(M,)]
        The vertices that motors and bones pull, in the order of the goals.
    """

    rest: Floats
    anchored: Ints

    def solve(
        self,
        goals: ArrayLike,
        start: ArrayLike | None = None,
        poses: Mapping[str, ArrayLike] | None = None,
    ) -> Floats:
        """Shape for goals of the anchored vertices [shape=(M, 3), m]: vertices [shape=(N, 3), m].

        ``start`` is a shape to begin from, usually the last one; ``poses``, link -> [shape=(4, 4)], where
        rigid parts are in the frame of the skin, for skins that touch them. Raises `FaceTwinError` for a
        wrong shape or a number that is not finite.
        """
        ...


@dataclass(frozen=True)
class Material:
    """An incompressible rubber sheet: Young's modulus (Pa), thickness (m), density (kg/m3).

    Ecoflex 00-30 is 70 to 130 kPa, Dragon Skin 10 200 to 300 kPa; skins are 1.5 to 4 mm thick.

    >>> Material(young=100e3, thickness=2e-3).shear
    33333.333333333336
    """

    young: float = 100e3
    thickness: float = 2e-3
    density: float = 1070.0

    def __post_init__(self) -> None:
        for name in ("young", "thickness", "density"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise FaceTwinError(
                    "not a material", where=f"Material.{name}", found=value, expected="a number above 0"
                )

    @property
    def shear(self) -> float:
        """Shear modulus in Pa: a third of Young's, since rubber keeps its volume."""
        return self.young / 3

    @property
    def bending(self) -> float:
        """Bending stiffness of the plate, E h^3 / 12 (1 - 1/4), in N m."""
        return self.young * self.thickness**3 / 9


@dataclass(frozen=True)
class SolveReport:
    """How a solve went.

    Attributes
    ----------
    iterations : int
        Minimiser steps, all load steps together.
    step : float
        The last preconditioned step, its largest component, in m: how far from equilibrium it may still be.
    converged : bool
        Whether ``step`` came under the tolerance.
    energy : float
        Energy at the end, in J.
    contacts : int
        Points pressed at the end, on the other lip or on hard parts.
    penetration : float
        How deep the deepest of them lies inside, in m; 0 where they only touch.
    depths : dict
        The same by pair: "lips", and each hard part by its name. Where the rest shape already lies in a part,
        only what is deeper counts.
    load_steps : int
        In how many parts the motion was made; more than one only where lips might have jumped through.
    trace : float64 [shape=(iterations + load_steps,), J], or empty
        Energies after each step, if asked for; each load step begins anew with the energy of its goals.
    """

    iterations: int
    step: float
    converged: bool
    energy: float
    contacts: int = 0
    penetration: float = 0.0
    depths: dict[str, float] = field(default_factory=dict)
    load_steps: int = 1
    trace: list[list[float]] = field(default_factory=list, repr=False)


#: m, two solutions farther apart than this are two equilibria
APART = 3e-4


@dataclass(frozen=True)
class Branches:
    """One set of goals reached by two ways.

    Attributes
    ----------
    by_path, from_rest : float64 [shape=(N, 3), m]
        The two shapes.
    farthest, mean : float
        How far they are apart, in m.
    path, rest : SolveReport
        How the solves went.
    """

    by_path: Floats
    from_rest: Floats
    farthest: float
    mean: float
    path: SolveReport
    rest: SolveReport

    @property
    def buckled(self) -> bool:
        """Whether they are two equilibria (farther apart than `APART`), not one."""
        return self.farthest > APART


def check_points(value: ArrayLike, count: int, where: str) -> Floats:
    """Finite float64 [shape=(count, 3)]; raises `FaceTwinError` saying what is wrong with it.

    >>> check_points([[0, 0, 0]], 1, "goals")
    array([[0., 0., 0.]])
    """
    try:
        points = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise FaceTwinError("not numbers", where=where, found=type(value).__name__) from None
    if points.shape != (count, 3):
        raise FaceTwinError("wrong shape", where=where, found=points.shape, expected=(count, 3))
    if not np.isfinite(points).all():
        bad = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise FaceTwinError(
            "not finite", where=f"{where}[{bad}]", found=points[bad].tolist(), expected="finite metres"
        )
    return np.ascontiguousarray(points)


def check_mesh(rest: ArrayLike, triangles: ArrayLike) -> tuple[Floats, Ints]:
    """Points float64 [shape=(N, 3)] and triangles int64 [shape=(T, 3)] of them, or a `FaceTwinError`."""
    v = np.ascontiguousarray(rest, dtype=np.float64)
    f = np.ascontiguousarray(triangles, dtype=np.int64)
    if v.ndim != 2 or v.shape[1] != 3 or not np.isfinite(v).all():
        raise FaceTwinError("not finite points", where="skin rest", found=v.shape, expected="(N, 3)")
    if f.ndim != 2 or f.shape[1] != 3 or not len(f):
        raise FaceTwinError("not triangles", where="skin triangles", found=f.shape, expected="(T, 3)")
    if f.min() < 0 or f.max() >= len(v):
        raise FaceTwinError(
            "vertex out of range", where="skin triangles", found=int(f.max()), expected=f"below {len(v)}"
        )
    return v, f
