"""How far a rig table's landmarks are from the recorded ones: over all, per motor, fitted and held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.face_map import FaceMap
from facetwin.twin.calibration.fit import FOUND, Fit, Fitter
from facetwin.twin.calibration.parameters import NAMES, Values
from facetwin.twin.landmarks import indices

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: commands from rest, beyond which a motor takes part in a picture
AWAY = 0.05


@dataclass(frozen=True)
class Pair:
    """An error before and after, in one unit; `ratio` is after / before."""

    before: float
    after: float

    @property
    def ratio(self) -> float:
        """After / before, NaN where nothing was to be seen."""
        return self.after / self.before if self.before > 0 else float("nan")


@dataclass(frozen=True)
class MotorScore:
    """One motor: mean distance of the landmarks that it moves, in the pictures that it takes part in, u."""

    name: str
    train: Pair
    held_out: Pair
    pictures: int
    found: dict[str, tuple[float, float, float]] = field(default_factory=dict)  #: key: before, after, known


@dataclass(frozen=True)
class Scores:
    """Errors of a calibration.

    Attributes
    ----------
    train, held_out : Pair, u
        Mean distance of all landmarks, in the map's dimensions.
    mouth : Pair, u
        Held out, lips only.
    metres_per_u : float
    motors : list of MotorScore
    rest : float, u
        What lies between predicted and seen even if the motors stand still: scatter of the tracker.
    """

    train: Pair
    held_out: Pair
    mouth: Pair
    metres_per_u: float
    motors: list[MotorScore]
    rest: float

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, with ratios and millimetres."""
        mm = 1e3 * self.metres_per_u

        def pair(p: Pair) -> dict[str, float]:
            return {"before_u": p.before, "after_u": p.after, "ratio": p.ratio,
                    "before_mm": mm * p.before, "after_mm": mm * p.after}  # fmt: skip

        return {
            "train": pair(self.train), "held_out": pair(self.held_out), "held_out_lips": pair(self.mouth),
            "scatter_at_rest_u": self.rest,
            "motors": {
                m.name: {"train": pair(m.train), "held_out": pair(m.held_out), "pictures": m.pictures,
                         "parameters": {k: {"before": a, "after": b, "left_of_prior": c}
                                        for k, (a, b, c) in m.found.items()}}
                for m in self.motors
            },
        }  # fmt: skip


def distances(face_map: FaceMap, left: Floats) -> Floats:
    """Residuals [shape=(F, D)] to distances of the landmarks, float64 [shape=(F, P), u]."""
    out: Floats = np.linalg.norm(left[:, :-3].reshape(len(left), -1, face_map.dims), axis=-1)
    return out


def residuals(fitter: Fitter, values: Values, chosen: Bools) -> Floats:
    """Seen less predicted in the chosen pictures, offsets taken out, float64 [shape=(F, D)]."""
    data = fitter.data
    seen = fitter.map.target(data.landmarks[chosen], data.turn[chosen])
    out: Floats = seen - fitter.predict(values, data.picture_time[chosen]) - fitter.offset(values)
    return out


def score(fitter: Fitter, fit: Fit) -> Scores:
    """Errors before and after, on the pictures fitted and on those held out."""
    data, face_map = fitter.data, fitter.map
    begin = fitter.nothing()
    begin.view = fit.values.view  # how the camera stands is not the face's error
    parts = dict(zip(("train", "held_out"), (fitter.train, data.split()[1])))
    wrong = {
        part: [distances(face_map, residuals(fitter, v, chosen)) for v in (begin, fit.values)]
        for part, chosen in parts.items()
    }

    def pair(part: str, weight: Floats | None = None, rows: Bools | None = None) -> Pair:
        out = []
        for d in wrong[part]:
            d = d if rows is None else d[rows]
            each = d.mean(1) if weight is None else d @ weight / weight.sum()
            out.append(float(each.mean()) if len(each) else float("nan"))
        return Pair(*out)

    spec = fitter.spec
    _, slope = face_map.gradient(spec.rest[None], fit.values.material, np.arange(spec.size))
    moved = np.linalg.norm(
        slope[0, :-3, : spec.size].reshape(len(face_map.points), face_map.dims, -1), axis=1
    )  # (P, n)
    table = fitter.scale.table(fit.values.z)
    active = {
        part: np.abs(fitter.positions(fit.values, data.picture_time[chosen]) - spec.rest) > AWAY
        for part, chosen in parts.items()
    }
    motors = []
    for i, name in enumerate(spec.names):
        weight = np.where(moved[:, i] > 0.25 * moved[:, i].max(), moved[:, i], 0.0)
        if weight.sum() == 0:
            weight = np.ones(len(weight))
        found = {
            key: (float(fitter.scale.nominal[i, k]), float(table[i, k]), float(fit.known[i, k]))
            for k, key in enumerate(NAMES)
            if fit.fitted[i, k]
        }
        fitted, held = (pair(part, weight, active[part][:, i]) for part in parts)
        motors.append(MotorScore(name, fitted, held, int(active["held_out"][:, i].sum()), found))
    lips = np.isin(face_map.points, indices("lips40")).astype(np.float64)
    return Scores(pair("train"), pair("held_out"), pair("held_out", lips), face_map.metres_per_u, motors,
                  _scatter(fitter))  # fmt: skip


def _scatter(fitter: Fitter) -> float:
    # Mean distance of landmarks from their own mean while nothing moves.
    data, spec = fitter.data, fitter.spec
    since = data.picture_time[0]
    first = np.flatnonzero(np.abs(data.sent - spec.rest).max(1) > AWAY / 5)
    until = data.time[first[0]] if len(first) else since
    still = data.found() & (data.picture_time < until)
    if still.sum() < 3:
        return float("nan")
    seen = fitter.map.target(data.landmarks[still], data.turn[still])
    grown = float(np.sqrt(len(seen) / (len(seen) - 1)))
    return grown * float(distances(fitter.map, seen - seen.mean(0)).mean())


__all__ = ["FOUND", "MotorScore", "Pair", "Scores", "distances", "residuals", "score"]
