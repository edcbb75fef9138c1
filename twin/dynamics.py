"""The skin in time: quasi-static shapes go in, the shapes that are seen come out (DESIGN section 6, time).

One Prony term: after a step of the goals free skin goes (1 - share) of the way at once and creeps the rest,
with one time constant. Optionally the lowest modes of the skin swing about that. Both are solved in closed
form between two shapes, which the equilibrium joins by a straight line, so that the answer hardly depends on
how often it is asked. The same for every solver, since only their shapes enter. This is no viscoelastic
finite element: forces do not relax, and what motors and bones hold follows them without delay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import SkinTime

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Modes:
    """Small free vibrations of a skin about its rest shape.

    Attributes
    ----------
    frequencies : float64 [shape=(K,), Hz], rising
    shapes : float64 [shape=(K, N, 3), kg^-1/2]
        Normalised so that sum(mass x shape^2) is 1; zero where the skin is held.
    mass : float64 [shape=(N,), kg]
        Of each vertex: a third of that of its triangles.
    """

    frequencies: Floats
    shapes: Floats
    mass: Floats


def skin_modes(skin: Any, count: int) -> Modes:
    """The lowest `count` modes of an `ExactSkin`: rest stiffness, springs included, and lumped mass.

    Shift-invert Lanczos on the factor that the skin has already, from a fixed start: the same skin gives
    the same modes.
    """
    shell, free = skin.shell, skin._free
    n = len(shell.rest)
    if not 0 < count <= n:
        raise FaceTwinError("bad number of modes", where="skin_modes", found=count, expected=f"1 to {n}")
    thirds = np.repeat(shell.volumes * skin.material.density / 3, 3)
    mass = np.bincount(shell.triangles.ravel(), thirds, n).astype(np.float64)  # (N,)
    inverse = LinearOperator(
        (3 * n, 3 * n), dtype=np.float64, matvec=lambda q: skin.factor.solve(np.ascontiguousarray(q.ravel()))
    )
    # held vertices have no mass here: they can't swing
    weight = sp.diags(np.repeat(mass, 3) * free)
    square, shapes = eigsh(skin._matrix, k=count, M=weight, sigma=0, OPinv=inverse, v0=np.ones(3 * n))
    order = np.argsort(square)
    modes = shapes.T[order].reshape(count, n, 3).copy()  # (K, N, 3)
    modes[:, skin.anchored] = 0.0  # springs let these swing by some hundredths: they follow their goals
    flat = modes.reshape(count, -1)
    flat *= np.sign(flat[np.arange(count), np.abs(flat).argmax(1)])[:, None]
    flat /= np.sqrt((flat**2 * np.repeat(mass, 3)).sum(1))[:, None]
    return Modes(np.sqrt(square[order]) / (2 * np.pi), modes, mass)


class SkinDynamics:
    """Creep and swing of one or many skins.

    Parameters
    ----------
    time : SkinTime
    rest : float64 [shape=(N, 3), m]
    anchored : int [shape=(M,)]
        Vertices that follow their goals: they neither creep nor swing.
    modes : Modes, optional
        Needed where `time.modes` is above 0; the lowest of them are taken.

    The same calls give the same bits, in a batch as alone.
    """

    def __init__(
        self, time: SkinTime, rest: ArrayLike, anchored: ArrayLike, modes: Modes | None = None
    ) -> None:
        self.time = time
        self.rest: Floats = np.ascontiguousarray(rest, dtype=np.float64)
        lag = np.full(len(self.rest), time.creep_share)
        lag[np.asarray(anchored, dtype=np.intp)] = 0.0
        self._lag = np.repeat(lag, 3)
        if time.modes and (modes is None or len(modes.frequencies) < time.modes):
            found = 0 if modes is None else len(modes.frequencies)
            raise FaceTwinError("too few modes", where="SkinDynamics", found=found, expected=time.modes)
        if time.modes and modes is not None:
            self._omega = 2 * np.pi * modes.frequencies[: time.modes]
            self._shapes = modes.shapes[: time.modes].reshape(time.modes, -1)  # (K, 3N)
            self._project = self._shapes * np.repeat(modes.mass, 3)
        else:
            self._omega, self._shapes = np.zeros(0), np.zeros((0, self.rest.size))
            self._project = self._shapes
        self._known: tuple[float, Floats] | None = None
        self.reset(self.rest)

    def reset(self, vertices: ArrayLike) -> Floats:
        """Stand still in an equilibrium [shape=(..., N, 3), m] as if held there for ever; returns it."""
        x = np.array(vertices, dtype=np.float64, order="C")
        if x.shape[-2:] != self.rest.shape or not np.isfinite(x).all():
            raise FaceTwinError("not a shape", where="SkinDynamics.reset", found=x.shape,
                                expected=f"(..., {len(self.rest)}, 3), finite")  # fmt: skip
        self._lead = x.shape[:-2]
        self._x = x.reshape(-1, self.rest.size)  # (B, 3N), the equilibrium
        self._memory = self._x.copy()  # what creep runs towards the equilibrium from
        self._creeping = self._x.copy()
        self._q = self._coordinates(self._x)  # (B, K), of the creeping skin
        self._away = np.zeros_like(self._q)  # how far each mode is from there
        self._speed = np.zeros_like(self._q)
        return x.copy()

    def step(self, vertices: ArrayLike, dt: float) -> Floats:
        """The shape after `dt` (s) in which the equilibrium went straight from the last one to `vertices`.

        Parameters
        ----------
        vertices : float64 [shape=(..., N, 3), m]
            Same leading shape as at `reset`.
        dt : float, s, at least 0
            0: the equilibrium jumps.

        Returns
        -------
        float64 [shape=(..., N, 3), m], a new array
        """
        x = np.ascontiguousarray(vertices, dtype=np.float64)
        if x.shape != (*self._lead, *self.rest.shape):
            raise FaceTwinError("not a shape", where="SkinDynamics.step", found=x.shape,
                                expected=(*self._lead, *self.rest.shape))  # fmt: skip
        if not (np.isfinite(dt) and dt >= 0):
            raise FaceTwinError("bad time", where="SkinDynamics.step", found=dt, expected="dt >= 0 s")
        x = x.reshape(self._x.shape)
        k = dt / self.time.creep_time
        ramp = -np.expm1(-k) / k if k > 0 else 1.0
        creep(self._x, x, self._memory, self._creeping, self._lag, np.exp(-k), ramp)
        self._x = x.copy()
        shown = self._creeping.copy()
        if len(self._omega):
            self._swing(dt)
            for b in range(len(shown)):  # row by row: the same bits in a batch as alone
                shown[b] += self._away[b] @ self._shapes
        return shown.reshape(*self._lead, *self.rest.shape)

    @property
    def energy(self) -> Floats:
        """Energy of the swinging modes [shape=(...), J]: 0 at rest, falling while nothing moves."""
        total = 0.5 * (self._speed**2 + (self._omega * self._away) ** 2).sum(-1)
        return np.asarray(total.reshape(self._lead))

    @property
    def to_come(self) -> Floats:
        """How far the skin still has to creep, its farthest vertex [shape=(...), m]."""
        way = (self._lag * (self._x - self._memory)).reshape(*self._lead, *self.rest.shape)
        return np.asarray(np.linalg.norm(way, axis=-1).max(-1))

    def _coordinates(self, x: Floats) -> Floats:
        flat = x - self.rest.ravel()
        return np.array([self._project @ row for row in flat]).reshape(len(x), len(self._omega))

    def _swing(self, dt: float) -> None:
        # e'' + 2 z w e' + w^2 e = -q_eq'', e = q - q_eq: damping acts on the motion relative to the
        # equilibrium, as rubber's own does, so that a steady motion leaves no trail.
        q = self._coordinates(self._creeping)
        way = q - self._q
        self._q = q
        if dt == 0:
            self._away = self._away - way
            self._speed = self._speed + 2 * self.time.mode_damping * self._omega * way
            return
        if self._known is None or self._known[0] != dt:
            self._known = (dt, _carry(self._omega, self.time.mode_damping, dt))
        carry = self._known[1]  # (2, 2, K)
        e, u = self._away, self._speed - way / dt
        self._away = carry[0, 0] * e + carry[0, 1] * u
        self._speed = carry[1, 0] * e + carry[1, 1] * u + way / dt


def _carry(omega: Floats, zeta: float, t: float) -> Floats:
    """How distance and speed of damped oscillators carry over a time t (s): (2, 2, K)."""
    d = omega * np.sqrt(abs(zeta**2 - 1))
    decay = np.exp(-zeta * omega * t)
    if abs(zeta - 1) < 1e-9:
        cosine, sine = np.ones_like(omega), np.full_like(omega, t)
    elif zeta < 1:
        cosine, sine = np.cos(d * t), np.sin(d * t) / d
    else:
        cosine, sine = np.cosh(d * t), np.sinh(d * t) / d
    return decay * np.array(
        [
            [cosine + zeta * omega * sine, sine],
            [-(omega**2) * sine, cosine - zeta * omega * sine],
        ]
    )


@njit(cache=True)
def creep(before, after, memory, shown, lag, decay, ramp):
    """Creep of skins [shape=(B, 3N)] whose equilibrium goes straight from ``before`` to ``after``.

    ``memory`` runs after the equilibrium, m' = (x - m) / time; ``decay`` is exp(-dt / time) and ``ramp``
    (1 - decay) time / dt. ``memory`` and ``shown`` are replaced; ``lag`` [shape=(3N,)] is the share.
    """
    for b in range(after.shape[0]):
        for i in range(after.shape[1]):
            x0, x1 = before[b, i], after[b, i]
            m = x1 + (memory[b, i] - x0) * decay - (x1 - x0) * ramp
            memory[b, i] = m
            shown[b, i] = x1 - lag[i] * (x1 - m)
