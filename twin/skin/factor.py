"""One factorisation of the stiffness, many back-substitutions: the skin's linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from facetwin.twin.errors import FaceTwinError
from facetwin.twin.skin.base import Floats


class Factor:
    """Factor of a symmetric positive definite matrix [shape=(n, n)].

    cholespy (the extra ``fast``) where it is installed, about twice as quick as SciPy's SuperLU, which
    serves everywhere else. ``backend`` is ``"cholespy"``, ``"splu"``, or None for the best one at hand.
    Raises `FaceTwinError` when the matrix is singular: too little holds the skin.
    """

    def __init__(self, matrix: sp.csc_matrix, backend: str | None = None) -> None:
        self._size = matrix.shape[0]
        self._cholespy: Any = None
        if backend not in (None, "cholespy", "splu"):
            raise FaceTwinError(
                "unknown solver", where="Factor.backend", found=backend, expected="cholespy or splu"
            )
        if backend != "splu":
            self._cholespy = _cholespy(matrix, required=backend == "cholespy")
        if self._cholespy is None:
            try:
                options = {"SymmetricMode": True}
                self._lu = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
            except RuntimeError as e:
                raise FaceTwinError(
                    "the skin is not held",
                    where="stiffness",
                    found=str(e),
                    hint="anchor three vertices or more",
                ) from e
        probe = self.solve(np.ones(self._size))
        if not np.isfinite(probe).all():
            raise FaceTwinError(
                "the skin is not held",
                where="stiffness",
                found="singular",
                hint="anchor three vertices or more",
            )

    @property
    def backend(self) -> str:
        """Which library factored: ``"cholespy"`` or ``"splu"``."""
        return "splu" if self._cholespy is None else "cholespy"

    def solve(self, right: Floats) -> Floats:
        """Solution for a right-hand side [shape=(n,) or (n, k)], a new array."""
        if self._cholespy is None:
            return self._lu.solve(right)
        out = np.empty_like(right)
        if right.ndim == 1:
            self._cholespy.solve(np.ascontiguousarray(right), out)
            return out
        for k in range(right.shape[1]):
            column = np.empty(self._size)
            self._cholespy.solve(np.ascontiguousarray(right[:, k]), column)
            out[:, k] = column
        return out


def _cholespy(matrix: sp.csc_matrix, required: bool) -> Any:
    try:
        from cholespy import CholeskySolverD, MatrixType
    except ImportError:
        if required:
            raise FaceTwinError("not installed", where="cholespy", hint="pip install cholespy") from None
        return None
    m = matrix.tocoo()
    rows, columns = m.row.astype(np.int32), m.col.astype(np.int32)
    return CholeskySolverD(matrix.shape[0], rows, columns, m.data.astype(np.float64), MatrixType.COO)
