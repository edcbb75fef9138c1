"""What is measured of a talking mouth (DESIGN section 10), each figure with its unit.

Faces are aligned landmarks float [shape=(T, 478, 2|3), u] at 25 fps. `seen` marks the pictures whose
landmarks were tracked; the others count nowhere.

The six differences are those of the Audio2Landmark report, section 3.1. They reward a dead mouth, so
closures at bilabials stand beside them, and the same share at control sounds: a mouth that never opens
has 1 in both, and a difference of 0. So with narrow lips (/w u/), and with the lower lip up at the teeth
(/f v/): teeth do not move against the head, so its height tells, counted from the face at rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies.alignment import Onsets
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import indices, opening, width

FPS = 25.0
#: lips closer than this are shut, u
SHUT = 0.02
#: lower lip no further than this below its height at rest is at the teeth, u; on training clips of GRID s1
#: all of 31 /f v/ are, 24 % of controls, 32 % of bilabials
AT_TEETH = 0.02
#: mouth narrower than this share of its median is puckered
NARROW = 0.96
#: lower lip's inner edge, its middle third
LOWER_EDGE = (14, 87, 317)
#: sound may lead the picture by 45 ms or trail it by 125 (ITU-R BT.1359)
BROADCAST = (-125.0, 45.0)

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Score:
    """One figure with its unit; `better` is "low", "high" or "" (neither)."""

    name: str
    value: float
    unit: str
    better: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} {self.unit}".rstrip()

    def as_dict(self) -> dict[str, float | str | None]:
        """For JSON, which knows no NaN: what cannot be said is null."""
        value = float(self.value) if np.isfinite(self.value) else None
        return {"name": self.name, "value": value, "unit": self.unit, "better": self.better}


@dataclass(frozen=True)
class Reference:
    """A tracked person saying something: what a generated face is compared with."""

    name: str
    face: NDArray[np.float32]
    seen: NDArray[np.bool_]
    onsets: Onsets = field(default_factory=Onsets)
    rest: NDArray[np.float32] | None = None  #: the face at rest [shape=(478, 2|3), u], for lip on teeth

    def __len__(self) -> int:
        return len(self.face)


def score_faces(
    faces: Sequence[Floats], references: Sequence[Reference], *, window: int = 1, points: str = "lips40"
) -> dict[str, Score]:
    """All figures of generated faces [each (T, 478, 2|3), u] against as many references.

    Parameters
    ----------
    window : pictures before and after an onset within which a closure counts
    points : landmark set of D-P and D-V (the report took all points; here the lips)
    """
    if len(faces) != len(references) or any(len(f) != len(r) for f, r in zip(faces, references)):
        raise FaceTwinError(
            "faces and references do not pair",
            found=f"{[len(f) for f in faces][:3]}… pictures",
            expected=f"{[len(r) for r in references][:3]}…",
        )
    pairs = [(face, reference.face, reference.seen) for face, reference in zip(faces, references)]
    jaw = np.concatenate([indices("lips40"), indices("jaw11")])
    lips, inner = indices(points), indices("inner_lips20")
    scores = [
        Score("D-P", _pool(pairs, lambda a, b: _distance(a, b, lips)), "u", "low"),
        Score("D-V", _pool(pairs, lambda a, b: _distance(a, b, lips), steps=1), "u/frame", "low"),
        Score("D-PL", _pool(pairs, lambda a, b: _distance(a, b, jaw)), "u", "low", "lips and jaw"),
        Score("D-VL", _pool(pairs, lambda a, b: _distance(a, b, jaw), steps=1), "u/frame", "low"),
        Score("D-AL", _pool(pairs, lambda a, b: abs(area(a, inner) - area(b, inner))), "u2", "low"),
        Score("D-AE", _pool(pairs, _eyes), "u2", "low", "both eyes"),
        Score("opening correlation", opening_correlation(faces, references), "", "high"),
    ]
    bilabial = share(faces, references, "bilabial", closed, window)
    control = share(faces, references, "control", closed, window)
    scores += [
        Score("closure", bilabial, "share", "high", f"within {window} frames of the onset"),
        Score("control", control, "share", "", "the same at sounds that ask nothing of the lips"),
        Score("closure - control", bilabial - control, "share", "high"),
        Score("pucker", share_difference(faces, references, "rounded", puckered, 2), "share", "high"),
        Score("lip-teeth", share_difference(faces, references, "labiodental", at_teeth, 1), "share", "high"),
        Score("offset", offset(faces, references), "ms", "", "positive: the picture is late"),
        Score("jerk", jerk(faces), "u/s3", ""),
    ]
    return {score.name: score for score in scores}


def area(face: ArrayLike, points: NDArray[np.intp]) -> Floats:
    """Area of a closed outline by the shoelace formula [shape=(...), u2]; `points` in order round it.

    >>> square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    >>> float(area(square, np.arange(4)))
    1.0
    """
    p = np.asarray(face)[..., points, :2]
    q = np.roll(p, -1, axis=-2)
    return np.abs((p[..., 0] * q[..., 1] - q[..., 0] * p[..., 1]).sum(-1)) / 2


def closed(face: ArrayLike, reference: Reference | None = None) -> NDArray[np.bool_]:
    """Whether the lips are shut, picture by picture."""
    return opening(face) < SHUT


def puckered(face: ArrayLike, reference: Reference | None = None) -> NDArray[np.bool_]:
    """Whether the mouth is narrow: below .96 of its median width in the clip."""
    wide = width(face)
    return wide < NARROW * np.median(wide)


def at_teeth(face: ArrayLike, reference: Reference) -> NDArray[np.bool_]:
    """Whether the lower lip is up at the upper teeth; nowhere known without the reference's face at rest."""
    points = np.asarray(face)
    if reference.rest is None:
        return np.zeros(0, bool)
    edge = list(LOWER_EDGE)
    low: NDArray[np.bool_] = points[:, edge, 1].mean(1) > reference.rest[edge, 1].mean() - AT_TEETH
    return low


def share(
    faces: Sequence[Floats],
    references: Sequence[Reference],
    kind: str,
    test: Callable[..., NDArray[np.bool_]],
    window: int,
) -> float:
    """Share of onsets of a kind with `test` true in at least one picture within `window`; NaN without any."""
    hits = []
    for face, reference in zip(faces, references):
        true = test(face, reference)
        for onset in getattr(reference.onsets, kind):
            at = round(onset * FPS)
            near = slice(max(0, at - window), at + window + 1)
            if reference.seen[near].all() and len(true[near]):
                hits.append(bool(true[near].any()))
    return float(np.mean(hits)) if hits else float("nan")


def share_difference(
    faces: Sequence[Floats],
    references: Sequence[Reference],
    kind: str,
    test: Callable[..., NDArray[np.bool_]],
    window: int,
) -> float:
    """Share at onsets of a kind minus the share at controls."""
    return share(faces, references, kind, test, window) - share(faces, references, "control", test, window)


def opening_correlation(faces: Sequence[Floats], references: Sequence[Reference]) -> float:
    """Pearson correlation of the opening over all pictures; 0 where a mouth does not move."""
    a = np.concatenate([opening(f)[r.seen] for f, r in zip(faces, references)]).astype(float)
    b = np.concatenate([opening(r.face)[r.seen] for r in references]).astype(float)
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def offset(faces: Sequence[Floats], references: Sequence[Reference], most: int = 12) -> float:
    """By how many ms the picture is late: peak of the openings' cross-correlation, parabola through it."""
    curve = np.zeros(2 * most + 1)
    for face, reference in zip(faces, references):
        a = opening(face) - opening(face).mean()
        if a.std() < 1e-6:  # a mouth that does not move is not late
            continue
        b = opening(reference.face) - opening(reference.face).mean()
        n = len(a)
        for k, lag in enumerate(range(-most, most + 1)):
            if n > abs(lag):
                curve[k] += float(a[max(0, lag) : n + min(0, lag)] @ b[max(0, -lag) : n - max(0, lag)])
    return peak_lag(curve) * 1000 / FPS


def peak_lag(curve: ArrayLike) -> float:
    """Place of the peak of a curve, counted from its middle, by a parabola; NaN if flat."""
    c = np.asarray(curve, float)
    k = int(np.argmax(c))
    if c[k] <= 1e-12:
        return float("nan")
    shift = 0.0
    if 0 < k < len(c) - 1:
        bend = c[k - 1] - 2 * c[k] + c[k + 1]
        shift = 0.5 * (c[k - 1] - c[k + 1]) / bend if bend < 0 else 0.0
    return k - len(c) // 2 + shift


def in_broadcast_limits(offset_ms: float) -> bool:
    """Whether a viewer accepts the offset (ITU-R BT.1359: +45 / -125 ms).

    ITU counts sound early as positive; a late picture is early sound.
    """
    return BROADCAST[0] <= offset_ms <= BROADCAST[1]


def jerk(faces: Sequence[Floats]) -> float:
    """Mean length of the lips' third difference, u/s3: smooth motion is low, jitter high."""
    lips = indices("lips40")
    each = [np.linalg.norm(np.diff(f[:, lips, :2], 3, axis=0), axis=-1).ravel() for f in faces if len(f) > 3]
    return float(np.concatenate(each).mean() * FPS**3) if each else float("nan")


def clipped(commands: ArrayLike, edge: float = 1e-3) -> float:
    """Share of commands [shape=(T, n), 0..1] that sit on a limit."""
    c = np.asarray(commands)
    return float(((c <= edge) | (c >= 1 - edge)).mean())


def _distance(a: Floats, b: Floats, points: NDArray[np.intp]) -> Floats:
    return np.linalg.norm(a[:, points, :2] - b[:, points, :2], axis=-1).mean(-1)


def _eyes(a: Floats, b: Floats) -> Floats:
    right, left = indices("right_eye16"), indices("left_eye16")
    return np.abs(area(a, right) - area(b, right)) + np.abs(area(a, left) - area(b, left))


def _pool(
    pairs: Sequence[tuple[Floats, Floats, NDArray[np.bool_]]],
    measure: Callable[[Floats, Floats], Floats],
    steps: int = 0,
) -> float:
    """Mean of a measure over all seen pictures, or over the differences between successive ones."""
    values = []
    for a, b, seen in pairs:
        if steps:
            a, b, seen = np.diff(a, axis=0), np.diff(b, axis=0), seen[1:] & seen[:-1]
        values.append(np.asarray(measure(a, b))[seen])
    return float(np.concatenate(values).mean())
