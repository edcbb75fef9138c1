"""Forbidden combinations of commands, and the nearest allowed command.

DESIGN section 4. The allowed set is what is left of the cube [0, 1]^n after open boxes and half-spaces
are cut away. The nearest allowed point is found exactly: best-first search over "which face does the
command leave this box by", where each node is a projection onto a box (clipping) and, if linear rules
are broken, onto a polyhedron (least distance programming: Lawson and Hanson, *Solving Least Squares
Problems*, 1974, chapter 23). Where no two linear rules share motors the compiled search of
`facetwin.twin.coupling_kernels` gives the same answer a hundred times sooner.
"""

from __future__ import annotations

import heapq
import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from facetwin.twin.coupling_kernels import TOLERANCE, allowed_rows, pack, project_rows
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import BoxRule, LinearRule, RigSpec

Floats = NDArray[np.float64]
_SEARCH_LIMIT = 20_000


class Couplings:
    """The rules of one rig, ready to be asked.

    Parameters
    ----------
    spec : RigSpec

    >>> from facetwin.twin.spec import load_rig
    >>> spec = load_rig("face26")
    >>> Couplings(spec).violations(spec.rest)
    ()
    """

    def __init__(self, spec: RigSpec) -> None:
        self.rules = spec.couplings
        self.size = spec.size
        self._boxes: list[tuple[BoxRule, NDArray[np.intp], Floats, Floats]] = []
        self._lines: list[tuple[LinearRule, Floats, float]] = []
        for rule in spec.couplings:
            if isinstance(rule, BoxRule):
                motors = np.array([spec.index(n) for n, _ in rule.when], dtype=np.intp)
                low = np.array([lo if lo > 0 else -np.inf for _, (lo, _) in rule.when])
                high = np.array([hi if hi < 1 else np.inf for _, (_, hi) in rule.when])
                self._boxes.append((rule, motors, low, high))
            else:
                weights = np.zeros(spec.size)
                for name, weight in rule.weights:
                    weights[spec.index(name)] = weight
                norm = float(np.linalg.norm(weights))
                self._lines.append((rule, weights / norm, rule.at_most / norm))
        self.packed = pack(
            [(m.astype(np.int64), lo, hi) for _, m, lo, hi in self._boxes],
            [(w, b) for _, w, b in self._lines],
            spec.size,
        )

    def violations(self, command: ArrayLike) -> tuple[str, ...]:
        """Names of the rules that a command [shape=(n,)] breaks, in the order of the rig file."""
        c = np.asarray(command, dtype=np.float64)
        bad = {r.name for r, m, lo, hi in self._boxes if np.all((c[m] > lo) & (c[m] < hi))}
        bad |= {r.name for r, w, b in self._lines if w @ c > b + TOLERANCE}
        return tuple(r.name for r in self.rules if r.name in bad)

    def allowed(self, commands: ArrayLike) -> NDArray[np.bool_]:
        """Whether commands [shape=(..., n)] break no rule, bool [shape=(...)]."""
        c = np.asarray(commands, dtype=np.float64)
        ok = np.ones(c.shape[:-1], dtype=bool)
        if self.packed is not None:
            allowed_rows(np.ascontiguousarray(c).reshape(-1, self.size), self.packed.arrays, ok.reshape(-1))
            return ok
        for _, m, lo, hi in self._boxes:
            ok &= ~np.all((c[..., m] > lo) & (c[..., m] < hi), axis=-1)
        for _, w, b in self._lines:
            ok &= c @ w <= b + TOLERANCE
        return ok

    def project(
        self, commands: ArrayLike, lower: ArrayLike | None = None, upper: ArrayLike | None = None
    ) -> Floats:
        """The nearest allowed command (Euclidean, in commands); the command itself where it is allowed.

        Parameters
        ----------
        commands : float [shape=(..., n)]
            Finite; outside of the limits it is clipped first.
        lower, upper : float [shape=(n,)], optional
            Limits to stay within, default 0 and 1.

        Returns
        -------
        float64 [shape=(..., n)]

        Raises
        ------
        FaceTwinError
            No command within the limits is allowed.
        """
        low = np.zeros(self.size) if lower is None else np.asarray(lower, dtype=np.float64)
        high = np.ones(self.size) if upper is None else np.asarray(upper, dtype=np.float64)
        out = np.clip(np.asarray(commands, dtype=np.float64), low, high)
        flat = out.reshape(-1, self.size)  # a view: np.clip made a fresh array
        if self.packed is None:
            for i in np.flatnonzero(~self.allowed(flat)):
                flat[i] = self._nearest(flat[i], low, high)
        elif (row := project_rows(flat, low, high, self.packed.arrays)) >= 0:
            raise self._no_room(flat[row])
        return out

    def _nearest(self, c: Floats, low: Floats, high: Floats) -> Floats:
        # The distance of a node bounds that of all its children from below, so the first point popped
        # that is in no box is nearest. Equal distances: the rule and face that comes first in the file.
        order = itertools.count()
        point = self._onto(c, low, high)
        heap = []
        if point is not None:
            heap.append((float(((point - c) ** 2).sum()), next(order), low, high, point))
        for _ in range(_SEARCH_LIMIT):
            if not heap:
                break
            _, _, low, high, point = heapq.heappop(heap)
            box = self._first_box(point)
            if box is None:
                return point
            _, motors, lo, hi = box
            for k, m in enumerate(motors):
                for side, value in ((high, lo[k]), (low, hi[k])):
                    if not low[m] <= value <= high[m]:
                        continue
                    bound = side.copy()
                    bound[m] = value
                    child = (low, bound) if side is high else (bound, high)
                    point = self._onto(c, *child)
                    if point is not None:
                        heapq.heappush(heap, (float(((point - c) ** 2).sum()), next(order), *child, point))
        raise self._no_room(c)

    def _no_room(self, c: Floats) -> FaceTwinError:
        return FaceTwinError(
            "no allowed command within the limits",
            where="couplings",
            found=", ".join(self.violations(c)),
            expected="limits that leave room beside the rules",
            hint="check [limits] and [[coupling]] of the rig file",
        )

    def _first_box(self, c: Floats) -> tuple[BoxRule, NDArray[np.intp], Floats, Floats] | None:
        for box in self._boxes:
            _, m, lo, hi = box
            if np.all((c[m] > lo) & (c[m] < hi)):
                return box
        return None

    def _onto(self, c: Floats, low: Floats, high: Floats) -> Floats | None:
        """Nearest point to `c` within the limits that obeys the linear rules; None if there is none."""
        x = np.clip(c, low, high)
        if all(w @ x <= b + TOLERANCE for _, w, b in self._lines):
            return x
        # Only motors that a linear rule touches can differ from the clipped command.
        used = np.flatnonzero(np.any([w != 0 for _, w, _ in self._lines], axis=0))
        n, eye = len(used), np.eye(len(used))
        rows = np.vstack([eye, -eye, *[-w[used] for _, w, _ in self._lines]])
        sides = np.concatenate([low[used], -high[used], [-b for _, _, b in self._lines]])
        h = sides - rows @ c[used]  # min |z| with rows @ z >= h
        e = np.vstack([rows.T, h])
        target = np.zeros(n + 1)
        target[n] = 1.0
        dual, residual = nnls(e, target)
        if residual < 1e-9:
            return None
        active = np.flatnonzero(dual > 0)
        z = np.linalg.lstsq(rows[active], h[active], rcond=None)[0]  # the polished least-norm solution
        x[used] = np.clip(c[used] + z, low[used], high[used])
        return x if all(w @ x <= b + TOLERANCE for _, w, b in self._lines) else None
