"""The exact skin: equilibrium of the hyperelastic shell, the truth of the twin (DESIGN section 6).

The stiffness at rest, springs included, is factored once. A solve makes the linear prediction from the
start, then minimises the energy by L-BFGS, preconditioned by that factor, with an Armijo line search.
Touching lips add their stiffness to the preconditioner (Woodbury), so a closure costs few steps more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import ArrayLike

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import FAST, Branches, Floats, Ints, Material, SolveReport, check_points
from facetwin.twin.skin.contact import LipContact
from facetwin.twin.skin.factor import Factor
from facetwin.twin.skin.memory import Memory
from facetwin.twin.skin.shell import build_shell
from facetwin.twin.skin.tangent import Tangent
from facetwin.twin.skin.walls import Wall, Walls

MEMORY = 12  # pairs that L-BFGS keeps
ARMIJO = 1e-4
ROOT = (150, 30)  # vertices that stand last in the factor: of lips, where they touch, and nearest the teeth
CAUTION = 0.2  # share of the tolerance that counts where the stiffness is not positive
STALE = 3e-3  # m, how far the skin may have moved from where the factor was made that judges it
NUDGE = 1e-5  # m, how far held vertices are moved to learn what that does
LONGEST = 4e-3  # m, the longest step of a vertex in one iteration
STRIDE = 6e-3  # m, the longest step of a lip while the lips are near each other
FARTHEST = 1.2e-2  # m, the farthest a load step goes at once
PARTS = 16  # load steps at most, as long as nothing is squashed
SMALLEST = 1 / 256  # share of the motion
CAREFUL = 1 / 8  # share of the motion, below which a stuck search is put up with
COARSE = 1e-4  # m, tolerance of the load steps before the last


class Patience(NamedTuple):
    """How long a factor serves, and what ends a solve: iterations of each solve that are free; of all beyond,
    after which the stiffness is factored anew; and how many steps on end must be small."""

    free: int
    debt: int
    small: int


FRESH = Patience(2, 6, 2)  # from rest, which is far: on the way one small step may be luck
WARM = Patience(2, 24, 1)  # from the last shape an old factor serves longer


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
    thickness : float64 [shape=(T,), m], optional
        Of each triangle, where not all are as thick as the material says: lips are thicker than cheeks.
    foundation : float or float64 [shape=(N,)], N/m per m2
        Springs to rest under the whole skin, like tissue; 0 leaves it free. With it a rigid motion of the
        anchors is no longer a rigid motion of the skin.
    openings : int, optional
        Closed borders that the mesh should have; checked where given.
    walls : sequence of Wall
        Hard parts that the skin lies on: see `walls.py`.
    tolerance : float, m
        A solve ends when the largest preconditioned step of any vertex is below this; 1e-4 for speed,
        1e-5 for calibration.
    limit : int
        Iterations at most in each load step.
    root : (int, int)
        How many vertices of the lips, and of those near the teeth, stand last in the factor: contacts there
        cost little, the factor more.
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
        thickness: ArrayLike | None = None,
        foundation: ArrayLike = 0.0,
        openings: int | None = None,
        walls: Sequence[Wall] = (),
        tolerance: float = 1e-4,
        limit: int = 200,
        root: tuple[int, int] = ROOT,
        backend: str | None = None,
    ) -> None:
        self.material = material or Material()
        self.shell = build_shell(rest, triangles, self.material, thickness, openings)
        self.rest = self.shell.rest
        self.triangles = self.shell.triangles
        n = len(self.rest)
        self.anchored, self.stiffness = _anchors(anchored, stiffness, n)
        self.tolerance, self.limit = float(tolerance), int(limit)
        held = np.isinf(self.stiffness)
        self._held = self.anchored[held]
        self._pulled = self.anchored[~held]
        self._rows = np.flatnonzero(~held)
        self._is_held, self._spring = held, self.stiffness[~held]
        self._tissue = np.asarray(foundation, dtype=np.float64) * self.shell.areas()

        diagonal = self._tissue.copy()
        np.add.at(diagonal, self._pulled, self._spring)
        self._matrix = (self.shell.stiffness() + sp.diags(np.repeat(diagonal, 3))).tocsr()
        free = np.ones(n, dtype=bool)
        free[self._held] = False
        self._free = np.repeat(free.astype(np.float64), 3)
        self._backend = backend
        self.contact: LipContact | None = None
        last = np.zeros(0, dtype=np.int64)
        if upper_lip is not None and lower_lip is not None:
            self.contact = LipContact(self.rest, upper_lip, lower_lip)
            last = self.contact.nearest(root[0])
        self.walls: Walls | None = None
        if len(walls):
            self.walls = Walls(self.rest, self.shell.areas(), tuple(walls))
            last = np.union1d(last, self.walls.nearest(root[1]))
        self._contacts: list[LipContact | Walls] = [c for c in (self.contact, self.walls) if c is not None]
        self._at = self._seats(None)
        self._tangent = Tangent(self.shell, diagonal, free, last)
        self._debt, self._patience = 0, FRESH
        self._factored = self.rest
        self._memory = Memory(MEMORY, 3 * n)
        self._last: Floats | None = None
        self.refreshes = 0
        self.report = SolveReport(0, 0.0, True, 0.0)

    @cached_property
    def factor(self) -> Factor:
        """The stiffness at rest, held vertices as identity, factored in double precision."""
        keep = sp.diags(self._free)
        return Factor((keep @ self._matrix @ keep + sp.diags(1 - self._free)).tocsc(), self._backend)

    def solve(
        self,
        goals: ArrayLike,
        start: ArrayLike | None = None,
        poses: Mapping[str, ArrayLike] | None = None,
    ) -> Floats:
        """Equilibrium for goals [shape=(M, 3), m] of the anchored vertices: vertices [shape=(N, 3), m].

        ``start`` [shape=(N, 3), m] is the shape to begin from, the last frame's for a smooth motion; the
        rest shape without one. ``poses``, link -> [shape=(4, 4)], says where the hard parts' links are in the
        frame of the skin; links that it leaves out, and all without it, are where they are at rest. How it
        went is in `report`, also when it did not converge: then the shape is the best that was found.
        Raises `FaceTwinError` for wrong shapes and numbers that are not finite.
        """
        return self.solve_report(goals, start, poses=poses)[0]

    def solve_report(
        self,
        goals: ArrayLike,
        start: ArrayLike | None = None,
        *,
        poses: Mapping[str, ArrayLike] | None = None,
        tolerance: float | None = None,
        trace: bool = False,
    ) -> tuple[Floats, SolveReport]:
        """As `solve`, with the report, at another tolerance (m), and with the energies if ``trace``."""
        target = check_points(goals, len(self.anchored), "goals")
        seats, before = self._seats(poses), self._at
        x = self.rest.copy() if start is None else check_points(start, len(self.rest), "start").copy()
        tolerance = self.tolerance if tolerance is None else tolerance
        if start is None or self._last is None or not np.array_equal(x, self._last):
            self._tangent.to_rest()
            self._factored = self.rest
            self._debt = 0
            before = seats
        self._memory.clear()  # pairs of another solve foretell the motion worse than none
        self._patience = FRESH if start is None else WARM
        begin = x[self.anchored]
        stride = 1.0
        at, iterations, parts, traces = 0.0, 0, 0, []
        while at < 1:
            to = at + stride if at + stride < 1 - 1e-9 else 1.0
            goal = target if to == 1 else begin + (target - begin) * to
            if self.walls is not None:  # half-way poses need not be quite rigid
                self.walls.poses = seats if to == 1 else before + (seats - before) * to
            fine = tolerance if to == 1 else max(tolerance, COARSE)
            motion, overlap = self._predict(x, goal)
            overlap = max(overlap, float(np.abs(motion).max()) - FARTHEST)
            if overlap > STRIDE and stride > 1 / PARTS:  # lips might jump through each other
                stride = max(stride / np.ceil(overlap / STRIDE), 1 / PARTS)
                continue
            run = self._equilibrium(x, goal, motion, fine)
            if run is None:  # a triangle is squashed
                stride /= 2
                if stride < SMALLEST:
                    raise FaceTwinError(
                        "the skin cannot follow", where="goals", found="a triangle squashed flat",
                        hint="ask for a smaller motion, or start nearer",
                    )  # fmt: skip
                continue
            if (
                run[2] >= fine and run[1] < self.limit and stride > CAREFUL
            ):  # stuck where lips fold: go slower
                stride /= 2
                continue
            x, done, step, energies = run
            at, parts, iterations = to, parts + 1, iterations + done
            traces.append(energies)
        self._last, self._at = x.copy(), seats
        # the last energy was that of x, so that contacts are known
        lips = {"lips": self.contact.penetration(x) if self.contact.count else 0.0} if self.contact else {}
        depths = lips | (self.walls.penetration(x) if self.walls else {})
        self.report = SolveReport(
            iterations=iterations,
            step=step,
            converged=step < tolerance,
            energy=energies[-1],
            contacts=sum(c.count for c in self._contacts),
            penetration=max(depths.values(), default=0.0),
            depths=depths,
            load_steps=parts,
            trace=traces if trace else [],
        )
        return x, self.report

    def branches(
        self,
        goals: ArrayLike,
        start: ArrayLike,
        poses: Mapping[str, ArrayLike] | None = None,
        *,
        tolerance: float = 1e-5,
    ) -> Branches:
        """Whether the shape for these goals depends on where one comes from: from ``start`` and from rest.

        Both are solved to ``tolerance`` (m) and compared. A skin that buckled has several equilibria; which
        one it takes is then a matter of its past, and `Branches.buckled` says so.
        """
        there, one = self.solve_report(goals, start, poses=poses, tolerance=tolerance)
        here, two = self.solve_report(goals, poses=poses, tolerance=tolerance)
        apart = np.linalg.norm(there - here, axis=1)
        return Branches(there, here, float(apart.max()), float(apart.mean()), one, two)

    def energy(self, x: Floats, goals: Floats, gradient: Floats, *, contact: bool = True) -> float:
        """Energy in J of a shape [shape=(N, 3)] under goals; its gradient (N) replaces ``gradient``.

        ``contact=False`` leaves out what the skin does to itself and to hard parts.
        """
        e = ground(x, self.rest, self._tissue, goals, self._rows, self._pulled, self._spring, gradient)
        e += self.shell.energy(x, gradient)
        if contact and np.isfinite(e):
            for each in self._contacts:
                e += each.energy(x, gradient)
        hold(gradient, self._held)
        return e

    def respond(self, motion: Floats) -> Floats:
        """Linear response at rest: motion of vertices [shape=(N, 3)] to that of goals [shape=(M, 3)]."""
        shift, force = np.zeros_like(self.rest), np.zeros_like(self.rest)
        shift[self._held] = motion[self._is_held]
        force[self._pulled] = self._spring[:, None] * motion[~self._is_held]
        flat = force.ravel() - self._matrix @ shift.ravel()
        return shift + self.factor.solve(self._free * flat).reshape(-1, 3)

    def _seats(self, poses: Mapping[str, ArrayLike] | None) -> Floats:
        # Poses of the links that hard parts ride on, [shape=(L, 4, 4)].
        links = self.walls.links if self.walls is not None else ()
        seats = np.tile(np.eye(4), (len(links), 1, 1))
        for k, link in enumerate(links):
            if poses is not None and link in poses:
                pose = np.asarray(poses[link], dtype=np.float64)
                if pose.shape != (4, 4) or not np.isfinite(pose).all():
                    raise FaceTwinError(
                        "not a pose", where=f"poses[{link}]", found=pose.shape, expected="finite (4, 4)"
                    )
                seats[k] = pose
        return seats

    def _predict(self, x: Floats, goals: Floats) -> tuple[Floats, float]:
        # The motion from shape x that follows goals, as far as the factor knows the skin, with the lips held
        # apart; and how far they would have overlapped otherwise.
        shift, right = np.zeros_like(x), np.empty_like(x)
        shift[self._held] = goals[self._is_held] - x[self._held]
        far = float(np.abs(shift).max())
        self.energy(x, goals, right, contact=False)
        if far > 0:  # what moving the held vertices does to the others, by a small part of it
            small, there = min(1.0, NUDGE / far), np.empty_like(x)
            self.energy(x + small * shift, goals, there, contact=False)
            right += (there - right) / small
        worst = 0.0

        def apart(q: Floats) -> Floats:
            nonlocal worst
            y = self._tangent.down(q)
            if not self._contacts:
                return self._tangent.up(y)
            z = self._tangent.up(y)
            back, worst = self._foresee(x, shift - z.reshape(-1, 3))
            return z if back is None else z - back

        motion = shift - self._memory.apply(right.ravel(), apart).reshape(-1, 3)
        return motion, worst

    def _foresee(self, x: Floats, motion: Floats) -> tuple[Floats | None, float]:
        # What stops a motion at the other lip and at hard parts, to add [shape=(3N,), m], None if nothing;
        # its worst overlap between the lips.
        met = [each.approach(x, motion) for each in self._contacts]
        worst = float(met[0][4].max(initial=0.0)) if self.contact is not None else 0.0
        rows, stiff, known = self._tangent.rows([part[:4] for part in met])
        overlap = np.concatenate([part[4] for part in met])[known]
        between = rows.astype(np.float64) @ rows.T + np.diag(1 / stiff)
        active, force = np.flatnonzero(overlap > 0), np.zeros(0)
        for _ in range(4):  # let go of what would have to be pulled back
            if not len(active):
                return None, worst
            force = np.linalg.solve(between[np.ix_(active, active)], overlap[active])
            if (force >= 0).all():
                break
            active, force = active[force >= 0], force[force >= 0]
        return self._tangent.from_root(force.astype(np.float32) @ rows[active]), worst

    def _equilibrium(
        self, x: Floats, goals: Floats, motion: Floats, tolerance: float
    ) -> tuple[Floats, int, float, list[float]] | None:
        # Minimise from x + motion: shape, iterations, last step, energies; None where the energy is infinite.
        g = np.empty_like(x)
        base = x.copy()
        base[self._held] = goals[self._is_held]
        motion = x + motion - base
        far = float(np.abs(motion).max())
        x = base + motion
        e = self.energy(x, goals, g)
        first = self._direction(g.ravel()) if np.isfinite(e) else None
        if first is None or largest(first) > far:
            # a prediction that makes things worse is followed part of the way only
            bar, a = self.energy(base, goals, np.empty_like(x)), 1.0
            if not e <= bar:
                first = None
                while not e <= bar and a > 0.02:
                    a *= 0.5
                    np.add(base, a * motion, out=x)
                    e = self.energy(x, goals, g)
                if not e <= bar:
                    x = base
                    e = self.energy(x, goals, g)
        if not np.isfinite(e):
            return None
        energies = [e]
        trial, other, small = np.empty_like(x), np.empty_like(x), 0
        for iteration in range(self.limit + 1):
            self._debt += iteration > self._patience.free
            if self._debt >= self._patience.debt:
                self._refresh(x)
                first = None
            p = self._direction(g.ravel()) if first is None else first
            first = None
            size = largest(p)
            if size < 1e-3 * tolerance or iteration == self.limit:
                self.energy(x, goals, g)  # the contacts are those of x, also if nothing was done
                return x, iteration, size, energies
            if size < tolerance and float(np.abs(x - self._factored).max()) > STALE:
                self._refresh(x)  # a factor of another shape is no judge
                continue
            # the step that says so is taken too; near a fold small steps may still lead far
            small = small + 1 if size < (tolerance if self._tangent.sure else CAUTION * tolerance) else 0
            last = small >= self._patience.small
            slope = -float(g.ravel() @ p)
            a = min(1.0, LONGEST / size)
            if self.contact is not None and self.contact.count:
                a = min(a, STRIDE / max(largest_at(p, self.contact.vertices), STRIDE))
            after = np.inf
            while slope < 0 and a > 1e-5:
                step_to(x.ravel(), a, p, trial.ravel())
                after = self.energy(trial, goals, other)
                if after <= e + ARMIJO * a * slope:
                    break
                a *= 0.5
            else:
                self.energy(x, goals, g)  # the contacts are those of x again
                if last or self._memory.empty:
                    return x, iteration, size, energies
                self._memory.clear()  # old pairs mislead: begin afresh from here
                continue
            self._memory.push(p, a, g.ravel(), other.ravel())
            x, trial, g, other, e = trial, x, other, g, after
            energies.append(e)
            if last:
                return x, iteration + 1, size, energies
        raise AssertionError("the loop returns")

    def _direction(self, gradient: Floats) -> Floats:
        # L-BFGS: about the inverse Hessian times the gradient.
        return self._memory.apply(gradient, self._precondition)

    def _precondition(self, q: Floats) -> Floats:
        y = self._tangent.down(q)
        self._tangent.relieve(y, [part for each in self._contacts for part in each.pressed()])
        return self._tangent.up(y)

    def _refresh(self, x: Floats) -> None:
        # Factor anew in this shape; old pairs belong to the old factor.
        if self.walls is None:
            self._tangent.refresh(x, np.zeros((0, 4)), np.zeros(0, dtype=np.int64))
        else:  # what leans on hard parts now, for the skin beyond the root
            pressed, springs = self.walls.springs()
            beyond = ~self._tangent.in_root[pressed]
            self._tangent.refresh(x, springs[beyond], pressed[beyond])
        self._memory.clear()
        self._debt = 0
        self._factored = x.copy()
        self.refreshes += 1


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
def ground(x, rest, tissue, goals, rows, pulled, spring, gradient):
    """Energy in J of tissue and anchor springs; its gradient (N) replaces ``gradient`` [shape=(N, 3)]."""
    e = 0.0
    for v in range(x.shape[0]):
        k = tissue[v]
        for n in range(3):
            d = x[v, n] - rest[v, n]
            gradient[v, n] = k * d
            e += 0.5 * k * d * d
    for i in range(pulled.shape[0]):
        v, row = pulled[i], rows[i]
        for n in range(3):
            d = x[v, n] - goals[row, n]
            gradient[v, n] += spring[i] * d
            e += 0.5 * spring[i] * d * d
    return e


@njit(cache=True)
def hold(gradient, held):
    """No force on vertices that are held."""
    for v in held:
        gradient[v, 0], gradient[v, 1], gradient[v, 2] = 0.0, 0.0, 0.0


@njit(cache=True, fastmath=FAST)
def largest(p):
    """The largest absolute value of a vector."""
    out = 0.0
    for i in range(p.shape[0]):
        out = max(out, abs(p[i]))
    return out


@njit(cache=True)
def largest_at(p, vertices):
    """The same among the three components of some vertices."""
    out = 0.0
    for v in vertices:
        out = max(out, abs(p[3 * v]), abs(p[3 * v + 1]), abs(p[3 * v + 2]))
    return out


@njit(cache=True, fastmath=FAST)
def step_to(x, share, p, out):
    """``out`` = x - share p."""
    for i in range(x.shape[0]):
        out[i] = x[i] - share * p[i]
