"""The table of the speech model on tracked clips that it never saw, with every baseline beside it.

A generated face is the rest face of the model's talker (from its training clips) with `speech63` moved;
nothing of the clip that is scored goes into it but its sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.policies.alignment import Onsets, read_align, word_onsets
from facetwin.policies.baselines import Baselines, late, shuffled
from facetwin.policies.dataset import Clip
from facetwin.policies.scores import FPS, Reference, Score, offset, score_faces
from facetwin.policies.speech import SpeechModel
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import indices, opening

Faces = list[NDArray[np.floating]]


def reference(clip: Clip, align: str | Path | None) -> Reference:
    """A tracked clip as the reference of a score, with word onsets where the folder `align` has them."""
    onsets = Onsets()
    if align is not None:
        onsets = word_onsets(read_align(Path(align) / f"{clip.name}.align"))
    return Reference(clip.name, clip.landmarks, clip.seen, onsets)


def face_of(rest: NDArray[np.floating], displacement: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rest face (478, 3) with `speech63` displaced (T, 63, 2): float32 [shape=(T, 478, 3), u]."""
    face = np.repeat(rest[None].astype(np.float32), len(displacement), 0)
    face[:, indices("speech63"), :2] += displacement
    return face


def speech_table(
    model: SpeechModel,
    rest: NDArray[np.float32],
    clips: Sequence[Clip],
    references: Sequence[Reference],
    baselines: Baselines | None = None,
    *,
    window: int = 1,
    tell: Callable[[str], None] = lambda name: None,
) -> dict[str, dict[str, Score]]:
    """Scores by maker: the model, the baselines, and the person, in step and late.

    `rest` (478, 3) is the face that all displacements are added to.
    """
    if not clips:
        raise FaceTwinError("no clip to score")
    references = [r if r.rest is not None else replace(r, rest=rest) for r in references]
    table: dict[str, dict[str, Score]] = {}

    def add(name: str, faces: Any) -> None:
        table[name] = with_lag(faces, references, window)
        tell(name)

    add("model", [face_of(rest, model(clip.samples)[: len(clip)]) for clip in clips])
    if baselines is not None:
        for name in baselines.names:
            add(
                name,
                [face_of(rest, baselines.displacement(name, clip.samples, len(clip))) for clip in clips],
            )
    people: Faces = [clip.landmarks for clip in clips]
    add("shuffled clip", shuffled(people))
    add("person, one frame late", [late(face, 1) for face in people])
    add("person, fifteen frames late", [late(face, 15) for face in people])
    add("person", people)
    return table


def with_lag(
    faces: Sequence[NDArray[np.floating]], references: Sequence[Reference], window: int
) -> dict[str, Score]:
    """All figures, and the correlation of openings with each clip's own lag taken out."""
    value = lag_corrected(faces, references)
    scores = score_faces(faces, references, window=window)
    return {**scores, "lag out": Score("lag out", value, "", "high", "correlation, each clip moved to fit")}


def lag_corrected(faces: Sequence[NDArray[np.floating]], references: Sequence[Reference]) -> float:
    """Correlation of openings after each clip was moved by its own best lag, of at most two pictures.

    What is left when a clip's sound and picture do not fit: GRID's clips are some tens of ms off, each by
    another amount, which no model can know.
    """
    gapes, true = [], []
    for face, reference in zip(faces, references):
        lag = offset([face], [reference], 2) / 1000 * FPS
        gape = opening(face)
        at = np.arange(len(gape)) + (lag if np.isfinite(lag) else 0.0)
        gapes.append(np.interp(at, np.arange(len(gape)), gape)[reference.seen])
        true.append(opening(reference.face)[reference.seen])
    a, b = np.concatenate(gapes), np.concatenate(true)
    return float(np.corrcoef(a, b)[0, 1]) if min(a.std(), b.std()) > 1e-9 else 0.0
