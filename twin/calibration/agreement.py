"""Whether a twin ranks controllers as the rig does: Pearson's r and mean maximum rank violation.

Both as X. Li, K. Hsu et al., "Evaluating Real-World Robot Manipulation Policies in Simulation" (SIMPLER,
CoRL 2024) define them: r may be high although two controllers that differ on the rig are changed over in the
twin; the violation is in the score's own unit, and 0 where no pair is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.twin.errors import FaceTwinError

Floats = NDArray[np.float64]


def pearson(twin: ArrayLike, rig: ArrayLike) -> float:
    """Correlation of the scores of N controllers; NaN where all are the same on a side.

    >>> round(pearson([1.0, 2.0, 3.0], [2.0, 4.1, 6.0]), 3)
    1.0
    """
    a, b = _pair(twin, rig)
    if a.std() < 1e-12 or b.std() < 1e-12:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def rank_violations(twin: ArrayLike, rig: ArrayLike) -> Floats:
    """How much on the rig lies between pairs that the twin orders otherwise, float64 [shape=(N, N)]."""
    a, b = _pair(twin, rig)
    other = (a[:, None] < a[None]) != (b[:, None] < b[None])
    out: Floats = np.where(other, np.abs(b[:, None] - b[None]), 0.0)
    return out


def mean_maximum_rank_violation(twin: ArrayLike, rig: ArrayLike) -> float:
    """Mean over controllers of the worst rank violation that each takes part in, in the score's unit.

    >>> mean_maximum_rank_violation([1.0, 2.0, 3.0], [0.1, 0.5, 0.9])
    0.0
    >>> round(mean_maximum_rank_violation([1.0, 3.0, 2.0], [0.1, 0.5, 0.9]), 3)
    0.267
    """
    return float(rank_violations(twin, rig).max(1).mean())


def _pair(twin: ArrayLike, rig: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(twin, np.float64), np.asarray(rig, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise FaceTwinError("scores do not pair", where="rank agreement", found=f"{a.shape}, {b.shape}",
                            expected="two or more controllers, the same for both")  # fmt: skip
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise FaceTwinError("scores are not finite", where="rank agreement", found=[*a, *b])
    return a, b
