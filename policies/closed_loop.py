"""The closed score: what the mirror showed against what was wanted, with its baselines.

Both are displacements from their own rest face, and both are put on the rest face of the robot *as it was
seen*: the wanted face is the person's motion on the robot's face (DESIGN section 9, "human → robot
normalisation" with alpha 1, not clipped). Long recordings are scored in blocks spread evenly over them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.policies.alignment import Onsets
from facetwin.policies.baselines import late, shuffled
from facetwin.policies.scores import FPS, NARROW, Reference, Score, score_faces
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import indices

#: points that the scores read; the others need not be kept
KEPT = np.unique(np.concatenate([indices(s) for s in ("speech63", "right_eye16", "left_eye16")]))
#: lips nearer than this by geometry are shut; the lower one nearer to the teeth's edge is on them, mm
SHUT_MM = ON_TEETH_MM = 0.5
#: what must come through the loop: score of the landmarks, and the same by geometry where there is one
STAGES = {
    "closure - control": "closure - control, geometry",
    "pucker": "pucker, geometry",
    "lip-teeth": "lip-teeth, geometry",
}
BLOCK, BLOCKS = 30.0, 20  #: s, and how many at most

Floats = NDArray[np.floating]
Table = dict[str, dict[str, Score]]


@dataclass(frozen=True)
class Seen:
    """What the mirror showed, at 25 fps.

    Attributes
    ----------
    rest : float32 [shape=(478, 3), u], the face at rest
    points : float32 [shape=(T, len(KEPT), 3), u]
    found : bool [shape=(T,)], False where no face was found and the points are those before
    gap : float32 [shape=(T,), mm] or None, lip gap by geometry, where the rig knows it
    lips : the other lengths of `facetwin.twin.skin.lip_teeth.Lips`, each float32 [shape=(T,), mm], or None
    """

    rest: Floats
    points: Floats
    found: NDArray[np.bool_]
    gap: Floats | None = None
    lips: Mapping[str, Floats] | None = None

    def __len__(self) -> int:
        return len(self.points)

    def faces(self, part: slice = slice(None)) -> Floats:
        """Whole faces [shape=(t, 478, 3), u]: the kept points on the rest face."""
        whole = np.repeat(self.rest[None], len(self.points[part]), 0)
        whole[:, KEPT] = self.points[part]
        return whole


def closed_table(
    takes: Sequence[Seen],
    wanted: Sequence[Floats],
    onsets: Sequence[Onsets],
    *,
    trusted: Sequence[NDArray[np.bool_]] | None = None,
    target: Sequence[Floats] | None = None,
    loudness: Sequence[Floats] | None = None,
    window: int = 1,
) -> Table:
    """Scores by maker, the seen face first.

    Parameters
    ----------
    takes : what was seen, one a recording
    wanted : displacement of `speech63` from rest, float [each (T, 63, 2), u]
    onsets : when the lips must be shut, in s of each recording
    trusted : bool [each (T,)], False where `wanted` is not known
    target : what the speech model asked for, where `wanted` is something else (a person)
    loudness : float [each (T, 1)], for the amplitude baseline, whose gain is fitted to `wanted` itself
    window : pictures before and after an onset within which a closure counts
    """
    if not (len(takes) == len(wanted) == len(onsets)):
        raise FaceTwinError("takes do not pair", found=f"{len(takes)}, {len(wanted)}, {len(onsets)}")
    for take, aim in zip(takes, wanted):
        if len(take) != len(aim):
            raise FaceTwinError(
                "a take and its reference differ", found=len(take), expected=f"{len(aim)} pictures"
            )
    parts = [(k, part) for k, take in enumerate(takes) for part in blocks(len(take), len(takes))]
    if not any(takes[k].found[part].any() for k, part in parts):
        raise FaceTwinError("the face was never found in the mirror", hint="look at face.mp4")

    def on_rest(moves: Sequence[Floats]) -> list[Floats]:
        faces = []
        for k, part in parts:
            face = np.repeat(takes[k].rest[None], part.stop - part.start, 0)
            face[:, indices("speech63"), :2] += moves[k][part]
            faces.append(face)
        return faces

    wished = on_rest(wanted)
    references = [
        Reference(
            f"{k}:{part.start}",
            face,
            takes[k].found[part] & (trusted[k][part] if trusted is not None else True),
            _within(onsets[k], part),
            takes[k].rest,
        )
        for (k, part), face in zip(parts, wished)
    ]
    seen = [takes[k].faces(part) for k, part in parts]
    frozen = [np.repeat(takes[0].rest[None], part.stop - part.start, 0) for _, part in parts]
    rows: list[tuple[str, Callable[[], list[Floats]]]] = [("seen in the mirror", lambda: seen)]
    if target is not None:
        rows.append(("speech model, not executed", lambda: on_rest(target)))
    rows.append(("frozen face", lambda: frozen))
    if len(parts) > 1:
        rows.append(("shuffled", lambda: shuffled(seen)))
    if loudness is not None:
        rows.append(("amplitude, gain fitted here", lambda: on_rest(_amplitude(loudness, wanted))))
    rows += [
        ("reference, one frame late", lambda: [late(face, 1) for face in wished]),
        ("reference, fifteen frames late", lambda: [late(face, 15) for face in wished]),
        ("reference itself", lambda: wished),
    ]
    table = {name: score_faces(make(), references, window=window) for name, make in rows}
    gaps = [takes[k].gap for k, _ in parts]
    if all(gap is not None for gap in gaps):
        shut = [gap[part] < SHUT_MM for gap, (_, part) in zip(gaps, parts) if gap is not None]
        table["seen in the mirror"] |= geometric_closure(shut, [r.onsets for r in references], window)
    lips = [(takes[k].lips, part) for k, part in parts]
    if all(one is not None for one, _ in lips):
        known = [{name: each[part] for name, each in one.items()} for one, part in lips if one is not None]
        table["seen in the mirror"] |= geometric_lips(known, [r.onsets for r in references], window)
    return table


def stages(table: Table) -> list[tuple[str, float, float, float]]:
    """What the loop loses: (score, landmark stage, closed loop by tracker, by geometry); NaN is not known.

    The landmark stage is what the speech model asked for, on the robot's face at rest.
    """
    asked = table.get("speech model, not executed", table["reference itself"])
    seen = table["seen in the mirror"]
    nan = Score("", float("nan"), "")
    return [
        (name, asked[name].value, seen[name].value, seen.get(geometric, nan).value)
        for name, geometric in STAGES.items()
    ]


def geometric_closure(
    shut: Sequence[NDArray[np.bool_]], onsets: Sequence[Onsets], window: int
) -> dict[str, Score]:
    """Share of bilabials and of controls with shut lips, bool [each (T,)], and the difference."""
    bilabial = _share(shut, onsets, "bilabial", window)
    control = _share(shut, onsets, "control", window)
    return {
        score.name: score
        for score in (
            Score("closure, geometry", bilabial, "share", "high", f"gap below {SHUT_MM} mm"),
            Score("control, geometry", control, "share"),
            Score("closure - control, geometry", bilabial - control, "share", "high"),
        )
    }


def geometric_lips(
    lips: Sequence[Mapping[str, Floats]], onsets: Sequence[Onsets], window: int
) -> dict[str, Score]:
    """Pucker and lip on teeth by geometry, and the lengths behind them.

    `lips`: `edge`, `touch`, `width`, `forward` in mm, float [each (T,)], one mapping a part.
    """

    def difference(name: str, kind: str, hit: Sequence[NDArray[np.bool_]], reach: int, note: str) -> Score:
        value = _share(hit, onsets, kind, reach) - _share(hit, onsets, "control", reach)
        return Score(name, value, "share", "high", note)

    def length(name: str, key: str, kind: str, reach: int, most: bool) -> Score:
        near = _near([one[key] for one in lips], onsets, kind, reach)
        found = [float(np.max(part) if most else np.min(part)) for part in near]
        return Score(name, float(np.median(found)) if found else float("nan"), "mm")

    narrow = [one["width"] < NARROW * np.median(one["width"]) for one in lips]
    met = [one["edge"] < ON_TEETH_MM for one in lips]
    every = [
        difference("pucker, geometry", "rounded", narrow, 2, "skin's corners, below .96 of the median width"),
        difference("lip-teeth, geometry", "labiodental", met, window, f"edge below {ON_TEETH_MM} mm"),
        length("protrusion at /w u/", "forward", "rounded", 2, True),
        length("protrusion at controls", "forward", "control", 2, True),
        length("lip below the teeth's edge at /f v/", "edge", "labiodental", window, False),
        length("lip below the teeth's edge at controls", "edge", "control", window, False),
        length("lip to teeth at /f v/", "touch", "labiodental", window, False),
    ]
    return {score.name: score for score in every}


def _near(
    values: Sequence[NDArray[Any]], onsets: Sequence[Onsets], kind: str, window: int
) -> list[NDArray[Any]]:
    """The values within `window` pictures of each onset of a kind."""
    found = []
    for row, times in zip(values, onsets):
        for onset in getattr(times, kind):
            at = round(onset * FPS)
            near = row[max(0, at - window) : at + window + 1]
            if len(near):
                found.append(near)
    return found


def _share(hits: Sequence[NDArray[np.bool_]], onsets: Sequence[Onsets], kind: str, window: int) -> float:
    """Share of onsets of a kind with a hit within `window` pictures; NaN without any."""
    near = _near(hits, onsets, kind, window)
    return float(np.mean([part.any() for part in near])) if near else float("nan")


def blocks(frames: int, recordings: int = 1) -> list[slice]:
    """Parts of a recording that are scored, in order.

    Of a single one at least a few, so that they can be shuffled; all of it up to ten minutes.

    >>> blocks(100), blocks(75, recordings=4)
    ([slice(0, 50, None), slice(50, 100, None)], [slice(0, 75, None)])
    """
    seconds = frames / FPS
    count = (
        1
        if recordings > 1 and seconds <= BLOCK
        else int(np.clip(np.ceil(seconds / BLOCK), min(6, seconds // 2), None))
    )
    edges = np.linspace(0, frames, max(count, 1) + 1).astype(int)
    parts = [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]
    chosen = np.linspace(0, len(parts) - 1, min(BLOCKS, len(parts))).round().astype(int)
    return [parts[k] for k in chosen]


def loudness(energy: Floats) -> Floats:
    """Loudness of each picture with its neighbours [shape=(T, 1)], from sums of squares [shape=(T,)]."""
    padded = np.concatenate([[0.0], energy, [0.0]])
    return np.sqrt(np.convolve(padded, np.ones(3), "valid"))[:, None]


def _within(onsets: Onsets, part: slice) -> Onsets:
    """Onsets inside of a part, counted from its start."""
    start, stop = part.start / FPS, part.stop / FPS
    return Onsets(
        **{
            kind: tuple(t - start for t in getattr(onsets, kind) if start <= t < stop)
            for kind in ("bilabial", "rounded", "labiodental", "control")
        }
    )


def _amplitude(loudness: Sequence[Floats], wanted: Sequence[Floats]) -> list[Floats]:
    """Loudness times the gain that suits `wanted` best, plus a constant."""
    x = np.concatenate([np.column_stack([np.ravel(one), np.ones(len(one))]) for one in loudness])  # (N, 2)
    y = np.concatenate([aim.reshape(len(aim), -1) for aim in wanted])  # (N, 126)
    gain = np.linalg.lstsq(x, y, rcond=None)[0]  # (2, 126)
    return [
        (np.column_stack([np.ravel(one), np.ones(len(one))]) @ gain).reshape(aim.shape).astype(np.float32)
        for one, aim in zip(loudness, wanted)
    ]
