"""The exact skin: equilibrium of the hyperelastic shell, the truth of the twin (DESIGN section 6).

The stiffness at rest, springs included, is factored once. A solve makes the linear prediction from the
start, then minimises the energy by L-BFGS, preconditioned by that factor, with an Armijo line search.
Touching lips add their stiffness to the preconditioner (Woodbury), so a closure costs few steps more.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import ArrayLike

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import Floats, Ints, Material, SolveReport, check_points
from facetwin.twin.skin.contact import LipContact
from facetwin.twin.skin.factor import Factor
from facetwin.twin.skin.shell import FAST, build_shell

MEMORY = 20  # pairs that L-BFGS keeps
ARMIJO = 1e-4
LONGEST = 4e-3  # m, the longest step of a vertex in one iteration
STRIDE = 1.5e-3  # m, the longest step of a lip while the lips are near each other
PARTS = 16  # load steps at most


class ExactSkin:
    """Equilibrium shapes of a soft skin.

    Parameters
    ----------
    rest, triangles : float64 [shape=(N, 3), m], int64 [shape=(T, 3)]
        The mesh in the shape that nothing pulls.
    anchored, stiffness : int64 [shape=(M,)], float64 [shape=(M,), N/m]
        Pulled vertices and the springs that pull them to their goals; inf puts a vertex on its goal.
    material : Material
    upper_lip, lower_lip : int64 [shape=(n, 3)], optional
        Triangles of the lips, the rolled-in rims included: they will not pass through each other.
    foundation : float, N/m per m2
        Springs to rest under the whole skin, like tissue; 0 leaves it free. With it a rigid motion of the
        anchors is no longer a rigid motion of the skin.
    tolerance : float, m
        A solve ends when the largest preconditioned step of any vertex is below this; 1e-4 for speed,
        1e-5 for calibration.
    limit : int
        Iterations at most in each load step.
    backend : str, optional
        See `Factor`.

    The same goals and start give the same bits. Raises `FaceTwinError` for bad arrays or a loose skin.
    """

    def __init__(
        self,
        rest: ArrayLike,
        triangles: ArrayLike,
        anchored: ArrayLike,
        stiffness: ArrayLike,
        material: Material | None = None,
        *,
        upper_lip: ArrayLike | None = None,
        lower_lip: ArrayLike | None = None,
        foundation: float = 0.0,
        tolerance: float = 1e-4,
        limit: int = 100,
        backend: str | None = None,
    ) -> None:
        self.material = material or Material()
        self.shell = build_shell(rest, triangles, self.material)
        self.rest = self.shell.rest
        self.triangles = self.shell.triangles
        n = len(self.rest)
        self.anchored, self.stiffness = _anchors(anchored, stiffness, n)
        self.tolerance, self.limit = float(tolerance), int(limit)
        held = np.isinf(self.stiffness)
        self._held = self.anchored[held]
        self._pulled = self.anchored[~held]
        self._is_held, self._spring = held, self.stiffness[~held]
        self._tissue = foundation * self.shell.areas()

        diagonal = self._tissue.copy()
        np.add.at(diagonal, self._pulled, self._spring)
        self._matrix = (self.shell.stiffness() + sp.diags(np.repeat(diagonal, 3))).tocsr()
        free = np.ones(n)
        free[self._held] = 0
        self._free = np.repeat(free, 3)
        keep = sp.diags(self._free)
        # held rows become the identity, so that every vector keeps its full length
        self.factor = Factor((keep @ self._matrix @ keep + sp.diags(1 - self._free)).tocsc(), backend)
        self.contact: LipContact | None = None
        if upper_lip is not None and lower_lip is not None:
            self.contact = LipContact(self.rest, upper_lip, lower_lip)
            self.contact.soften(self.factor.solve, self._free)
        self.report = SolveReport(0, 0.0, True, 0.0)

    def solve(self, goals: ArrayLike, start: ArrayLike | None = None) -> Floats:
        """Equilibrium for goals [shape=(M, 3), m] of the anchored vertices: vertices [shape=(N, 3), m].

        ``start`` [shape=(N, 3), m] is the shape to begin from, the last frame's for a smooth motion; the
        rest shape without one. How it went is in `report`, also when it did not converge.
        Raises `FaceTwinError` for wrong shapes and numbers that are not finite.
        """
        return self.solve_report(goals, start)[0]

    def solve_report(
        self,
        goals: ArrayLike,
        start: ArrayLike | None = None,
        *,
        tolerance: float | None = None,
        trace: bool = False,
    ) -> tuple[Floats, SolveReport]:
        """As `solve`, with the report, at another tolerance (m), and with the energies if ``trace``."""
        target = check_points(goals, len(self.anchored), "goals")
        x = self.rest.copy() if start is None else check_points(start, len(self.rest), "start").copy()
        tolerance = self.tolerance if tolerance is None else tolerance
        begin = x[self.anchored]
        parts = self._parts(x, target)
        iterations, traces = 0, []
        part = 0
        while part < parts:
            part += 1
            goal = target if part == parts else begin + (target - begin) * (part / parts)
            fine = tolerance if part == parts else max(tolerance, 2e-4)
            moved, done, step, energies = self._equilibrium(x, goal, fine)
            if moved is None:
                if parts >= PARTS:
                    raise FaceTwinError(
                        "the skin cannot follow", where="goals", found="a triangle squashed flat",
                        hint="ask for a smaller motion, or start nearer",
                    )  # fmt: skip
                begin, part, parts = x[self.anchored], 0, min(PARTS, 2 * (parts - part + 1))
                continue
            x = moved
            iterations += done
            traces.append(energies)
        depth = self.contact.penetration(x) if self.contact else 0.0
        self.report = SolveReport(
            iterations=iterations,
            step=step,
            converged=step < tolerance,
            energy=energies[-1],
            contacts=self.contact.count if self.contact else 0,
            penetration=depth,
            load_steps=parts,
            trace=traces if trace else [],
        )
        return x, self.report

    def energy(self, x: Floats, goals: Floats, gradient: Floats) -> float:
        """Energy in J of a shape [shape=(N, 3)] under goals; its gradient (N) replaces ``gradient``."""
        gradient[:] = 0
        e = self.shell.energy(x, gradient)
        e += pull(x, goals[~self._is_held], self._pulled, self._spring, gradient)
        if self._tissue.any():
            u = x - self.rest
            gradient += self._tissue[:, None] * u
            e += 0.5 * float((self._tissue * (u * u).sum(1)).sum())
        if self.contact is not None and np.isfinite(e):
            e += self.contact.energy(x, gradient)
        gradient[self._held] = 0
        return e

    def respond(self, motion: Floats) -> Floats:
        """Linear response at rest: motion of vertices [shape=(N, 3)] to that of goals [shape=(M, 3)]."""
        shift, force = np.zeros_like(self.rest), np.zeros_like(self.rest)
        shift[self._held] = motion[self._is_held]
        force[self._pulled] = self._spring[:, None] * motion[~self._is_held]
        flat = force.ravel() - self._matrix @ shift.ravel()
        return shift + self.factor.solve(self._free * flat).reshape(-1, 3)

    def _predict(self, x: Floats, goals: Floats) -> Floats:
        # The step of the skin, linear about rest, that follows goals from shape x.
        shift = np.zeros_like(x)
        shift[self._held] = goals[self._is_held] - x[self._held]
        right = np.zeros_like(x)
        self.energy(x, goals, right)
        flat = right.ravel() + self._matrix @ shift.ravel()
        return shift - self._precondition(self._free * flat).reshape(-1, 3)

    def _parts(self, x: Floats, goals: Floats) -> int:
        # Load steps such that lips near each other cannot jump through each other.
        if self.contact is None:
            return 1
        lips = self.contact.vertices
        reach = np.abs(self._predict(x, goals)[lips]).max()
        if reach <= STRIDE or self.contact.apart(x) > 2 * reach:
            return 1
        return min(PARTS, int(np.ceil(reach / STRIDE)))

    def _equilibrium(
        self, x: Floats, goals: Floats, tolerance: float
    ) -> tuple[Floats | None, int, float, list[float]]:
        # Minimise from x: shape or None if no start had finite energy, iterations, last step, energies.
        old, g = x, np.empty_like(x)
        x = old + self._predict(old, goals)
        e = self.energy(x, goals, g)
        if not np.isfinite(e):
            x = old.copy()
            x[self._held] = goals[self._is_held]
            e = self.energy(x, goals, g)
            if not np.isfinite(e):
                return None, 0, np.inf, []
        n = x.size
        steps, turns, inverse = np.zeros((MEMORY, n)), np.zeros((MEMORY, n)), np.zeros(MEMORY)
        alpha = np.zeros(MEMORY)
        kept, energies, size = 0, [e], np.inf
        trial, other = np.empty_like(x), np.empty_like(x)
        for iteration in range(self.limit + 1):
            q = g.ravel().copy()
            first_loop(q, steps, turns, inverse, alpha, kept)
            p = self._precondition(q)
            second_loop(p, steps, turns, inverse, alpha, kept)
            size = np.abs(p).max()
            if size < tolerance or iteration == self.limit:
                return x, iteration, size, energies
            slope = -(g.ravel() @ p)
            a = min(1.0, LONGEST / size)
            if self.contact is not None and self.contact.count:
                a = min(1.0, STRIDE / max(np.abs(p.reshape(-1, 3)[self.contact.vertices]).max(), 1e-12), a)
            while True:
                np.subtract(x, a * p.reshape(-1, 3), out=trial)
                after = self.energy(trial, goals, other)
                if after <= e + ARMIJO * a * slope:
                    break
                a *= 0.5
                if a < 1e-6:
                    return x, iteration, size, energies
            p *= -a
            turn = (other - g).ravel()
            curvature = p @ turn
            if curvature > 1e-10 * np.sqrt((p @ p) * (turn @ turn)):
                slot = kept % MEMORY
                steps[slot], turns[slot], inverse[slot] = p, turn, 1 / curvature
                kept += 1
            x, trial = trial, x if x is not old else np.empty_like(x)
            g, other = other, g
            e = after
            energies.append(e)
        raise AssertionError("the loop returns")

    def _precondition(self, q: Floats) -> Floats:
        z = self.factor.solve(q)
        if self.contact is None or not self.contact.count:
            return z
        back = self.contact.relieve(z)  # the share of the force that the touching lips bear
        return z if back is None else self.factor.solve(q - self._free * back)


def _anchors(anchored: ArrayLike, stiffness: ArrayLike, count: int) -> tuple[Ints, Floats]:
    index = np.ascontiguousarray(anchored, dtype=np.int64)
    spring = np.ascontiguousarray(np.broadcast_to(np.asarray(stiffness, dtype=np.float64), index.shape))
    if index.ndim != 1 or not len(index):
        raise FaceTwinError("no anchored vertices", where="anchored", found=index.shape, expected="(M,)")
    if index.min() < 0 or index.max() >= count:
        raise FaceTwinError(
            "vertex out of range", where="anchored", found=int(index.max()), expected=f"below {count}"
        )
    if len(np.unique(index)) < len(index):
        twice = int(np.sort(index)[:-1][np.diff(np.sort(index)) == 0][0])
        raise FaceTwinError(
            "vertex anchored twice", where="anchored", found=twice, expected="each vertex once"
        )
    if np.isnan(spring).any() or (spring <= 0).any():
        bad = spring[np.isnan(spring) | (spring <= 0)][0]
        raise FaceTwinError(
            "not a spring", where="stiffness", found=float(bad), expected="above 0 N/m, or inf"
        )
    return index, spring


@njit(cache=True, fastmath=FAST)
def pull(x, goals, pulled, spring, gradient):
    """Energy in J of the anchor springs; adds its gradient (N) to ``gradient`` [shape=(N, 3)]."""
    e = 0.0
    for i in range(pulled.shape[0]):
        v = pulled[i]
        for n in range(3):
            d = x[v, n] - goals[i, n]
            gradient[v, n] += spring[i] * d
            e += 0.5 * spring[i] * d * d
    return e


@njit(cache=True, fastmath=FAST)
def first_loop(q, steps, turns, inverse, alpha, kept):
    """L-BFGS from the newest pair to the oldest: what is left of the gradient, in place."""
    memory = steps.shape[0]
    for k in range(kept - 1, max(-1, kept - memory - 1), -1):
        s = k % memory
        a = 0.0
        for i in range(q.shape[0]):
            a += steps[s, i] * q[i]
        a *= inverse[s]
        alpha[s] = a
        for i in range(q.shape[0]):
            q[i] -= a * turns[s, i]


@njit(cache=True, fastmath=FAST)
def second_loop(z, steps, turns, inverse, alpha, kept):
    """L-BFGS from the oldest pair to the newest: the direction, in place."""
    memory = steps.shape[0]
    for k in range(max(0, kept - memory), kept):
        s = k % memory
        b = 0.0
        for i in range(z.shape[0]):
            b += turns[s, i] * z[i]
        b = alpha[s] - b * inverse[s]
        for i in range(z.shape[0]):
            z[i] += b * steps[s, i]
