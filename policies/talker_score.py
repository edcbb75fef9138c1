"""The speech model on many talkers: figures by language and by talker, and how far they spread.

Each talker's generated face is his own rest face with the model's displacement added; nothing else of the
clips that are scored is used but their sound. Onsets come from the phonemes of the clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.policies.baselines import Baselines, late, shuffled
from facetwin.policies.dataset import Clip
from facetwin.policies.espeak import phoneme_onsets
from facetwin.policies.scores import Reference, Score, score_faces
from facetwin.policies.speech_data import by_talker, resting
from facetwin.policies.speech_score import face_of, with_lag
from facetwin.policies.visemes import Reading, Sounds, read_visemes, sounds
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import indices

Floats = NDArray[np.float32]
Maker = Callable[[Clip], NDArray[np.floating]]
FIGURES = ("opening correlation", "closure - control", "offset")


@dataclass(frozen=True)
class Talkers:
    """Clips of many talkers with all that scoring needs."""

    clips: list[Clip]
    references: list[Reference]
    rests: dict[str, Floats]

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> Talkers:
        """Raises `FaceTwinError` where no clip has phonemes: there would be no closures to score."""
        known = [clip for clip in clips if clip.phonemes]
        if not known:
            raise FaceTwinError("no clip with phonemes", found=f"{len(clips)} clips", hint="align them first")
        rests = {name: resting(own) for name, own in by_talker(known).items()}
        references = [
            Reference(
                clip.name, clip.landmarks, clip.seen, phoneme_onsets(clip.phonemes or ()), rests[clip.talker]
            )
            for clip in known
        ]
        return cls(known, references, rests)

    @property
    def statics(self) -> dict[str, Floats]:
        """The speech points of each talker at rest [each (63, 2), u]."""
        return {name: rest[indices("speech63"), :2] for name, rest in self.rests.items()}

    def faces(self, maker: Maker) -> list[Floats]:
        """A displacement (T, 63, 2) for each clip on its talker's face."""
        return [
            np.asarray(face_of(self.rests[clip.talker], maker(clip)[: len(clip)]), np.float32)
            for clip in self.clips
        ]

    def groups(self, key: str) -> dict[str, list[int]]:
        """Numbers of clips by `key`: "language" or "talker"."""
        found: dict[str, list[int]] = {}
        for k, clip in enumerate(self.clips):
            found.setdefault(str(getattr(clip, key)), []).append(k)
        return dict(sorted(found.items()))


def makers(model: Callable[[Floats], Floats], baselines: Baselines | None) -> dict[str, Maker]:
    """The model and, where they are fitted, the baselines."""
    found: dict[str, Maker] = {"model": lambda clip: model(clip.samples)}
    if baselines is not None:
        for name in baselines.names:
            found[name] = lambda clip, name=name: baselines.displacement(name, clip.samples, len(clip))  # type: ignore[misc]
    return found


def talker_table(
    talkers: Talkers,
    made: Mapping[str, Maker],
    *,
    window: int = 1,
    people: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, dict[str, Score]], list[Floats]]:
    """Scores by maker over all clips, `people` last (shuffled, late, true), and the first maker's faces."""
    table: dict[str, dict[str, Score]] = {}
    first: list[Floats] = []
    for name, maker in made.items():
        faces = talkers.faces(maker)
        first = first or faces
        table[name] = with_lag(faces, talkers.references, window)
        tell(name)
    true: list[NDArray[np.floating]] = [clip.landmarks for clip in talkers.clips]
    every = {
        "shuffled clip": shuffled(true),
        "person, one frame late": [late(face, 1) for face in true],
        "person": true,
    }
    for name, faces_ in every.items() if people else ():
        table[name] = with_lag(faces_, talkers.references, window)
        tell(name)
    return table, first


def by_group(
    talkers: Talkers, faces: Sequence[Floats], key: str, *, window: int = 1
) -> dict[str, dict[str, float]]:
    """`FIGURES` of each language or talker, with how many clips and bilabials they rest on."""
    rows = {}
    for name, chosen in talkers.groups(key).items():
        references = [talkers.references[k] for k in chosen]
        scores = score_faces([faces[k] for k in chosen], references, window=window)
        row = {figure: float(scores[figure].value) for figure in FIGURES}
        row |= {"clips": len(chosen), "bilabials": sum(len(r.onsets.bilabial) for r in references)}
        rows[name] = row
    return rows


def spread(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation, least and most of each figure over groups, NaN left out."""
    found = {}
    for figure in FIGURES:
        values = np.array([row[figure] for row in rows.values()], float)
        values = values[np.isfinite(values)]
        if len(values):
            found[figure] = {
                "mean": float(values.mean()), "sd": float(values.std()), "least": float(values.min()),
                "most": float(values.max()),
            }  # fmt: skip
    return found


def visemes(talkers: Talkers, faces: Sequence[Floats], trained_on: Talkers) -> Reading:
    """How well sounds are read off generated lips by a classifier of other people's motion."""
    ids = indices("speech63")

    def moves(group: Talkers, made: Sequence[NDArray[np.floating]]) -> list[NDArray[np.floating]]:
        return [f[:, ids, :2] - group.rests[c.talker][ids, :2] for f, c in zip(made, group.clips)]

    def cut(group: Talkers, made: Sequence[NDArray[np.floating]]) -> Sounds:
        said = [clip.phonemes or () for clip in group.clips]
        return sounds(moves(group, made), said, seen=[clip.seen for clip in group.clips])

    return read_visemes(
        cut(trained_on, [clip.landmarks for clip in trained_on.clips]),
        cut(talkers, list(faces)),
        cut(talkers, [clip.landmarks for clip in talkers.clips]),
    )
