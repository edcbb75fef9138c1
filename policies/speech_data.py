"""Clips made ready for training: log-mel in several voices, displacement from each talker's own rest.

A training sequence is some seconds of one talker, clips and pauses in turn, in one of his voices, a little
faster or slower; some sequences are sound without speech, for which the right answer is the rest face.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetwin.policies import augment, logmel, nonspeech
from facetwin.policies.dataset import Clip
from facetwin.policies.speech_shape import POINTS, ROWS, STEP, Shape
from facetwin.policies.visemes_table import spoken
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import indices, opening

#: sound whose loudest band is below this is a pause (dB)
QUIET = -45.0
#: a talker of a dataset with so few of them is also heard with other pitches
FEW = 4
PITCHES = (0.85, 1.18)

#: sounds of each kind without speech that training draws from
BANK = 24

Floats = NDArray[np.float32]


@dataclass
class Material:
    """Clips made ready, and their talkers.

    Attributes
    ----------
    rows : per clip its voices, each log-mel float32 [shape=(R, 80), dB]
    targets : per clip float32 [shape=(T, 63, 2), u]; seen : float32 [shape=(T,)], 0 or 1
    spoken : per clip int64 [shape=(T,)], the sound of each picture (`visemes_table.spoken`), -1 unknown
    talker : intp [shape=(clips,)]; dataset : intp [shape=(talkers,)]
    rests : float32 [shape=(talkers, 63, 2), u]; openings : float32 [shape=(talkers,), u], at rest
    """

    rows: list[list[Tensor]]
    targets: list[Tensor]
    seen: list[Tensor]
    spoken: list[Tensor]
    talker: NDArray[np.intp]
    dataset: NDArray[np.intp]
    rests: Tensor
    openings: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pictures(self) -> int:
        """Of all clips together."""
        return sum(len(target) for target in self.targets)

    def part(self, chosen: Sequence[int] | NDArray[np.intp]) -> Material:
        """Some of the clips."""
        rows = [self.rows[k] for k in chosen]
        targets, seen = [self.targets[k] for k in chosen], [self.seen[k] for k in chosen]
        said, talker = [self.spoken[k] for k in chosen], self.talker[np.asarray(chosen, np.intp)]
        return Material(rows, targets, seen, said, talker, self.dataset, self.rests, self.openings)


def rest_face(clips: Sequence[Clip]) -> Floats:
    """The talker at rest: median of the pictures that are silent and shut, float32 [shape=(478, 3), u]."""
    faces = []
    for clip in clips:
        rows = logmel.other_voice(clip.samples, 1.0)
        loud = rows.max(1)[: ROWS * len(clip)].reshape(-1, ROWS).max(1)  # (T,)
        still = (loud < QUIET) & (opening(clip.landmarks)[: len(loud)] < 0.02) & clip.seen[: len(loud)]
        faces.append(clip.landmarks[: len(loud)][still])
    joined = np.concatenate(faces)
    if len(joined) < 5:
        raise FaceTwinError(
            "the talker is never silent with shut lips",
            where=clips[0].talker or clips[0].name,
            found=f"{len(joined)} pictures",
        )
    return np.median(joined, axis=0).astype(np.float32)


def resting(clips: Sequence[Clip]) -> Floats:
    """The same, or the median of the twentieth of pictures that are most shut where nobody is ever silent."""
    try:
        return rest_face(clips)
    except FaceTwinError:
        faces = np.concatenate([clip.landmarks[clip.seen] for clip in clips])
        if not len(faces):
            raise FaceTwinError("no face in any picture", where=clips[0].talker or clips[0].name) from None
        order = np.argsort(opening(faces))
        return np.median(faces[order[: max(1, len(faces) // 20)]], axis=0).astype(np.float32)


def by_talker(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Clips by who talks, in the order of their first."""
    talkers: dict[str, list[Clip]] = {}
    for clip in clips:
        talkers.setdefault(clip.talker, []).append(clip)
    return talkers


def prepare(
    datasets: Sequence[Sequence[Clip]], floor: float = logmel.FLOOR, voices: bool = False
) -> Material:
    """Log-mel and displacement of datasets, each talker's from his own rest; `voices`: other pitches too."""
    ids = indices("speech63")
    rows, targets, seen, said, talker, dataset = [], [], [], [], [], []
    rests: list[Floats] = []
    for number, clips in enumerate(datasets):
        talkers = by_talker(clips)
        pitches = (1.0, *PITCHES) if voices and len(talkers) <= FEW else (1.0,)
        for own in talkers.values():
            rest = resting(own)
            for clip in own:
                sound = clip.samples[: len(clip) * STEP]
                heard = [
                    logmel.log_mel(sound, floor),
                    *(logmel.other_voice(sound, p, floor) for p in pitches),
                ]
                rows.append([torch.from_numpy(each) for each in heard])
                targets.append(torch.from_numpy(clip.landmarks[:, ids, :2] - rest[ids, :2]))
                seen.append(torch.from_numpy(clip.seen.astype(np.float32)))
                known = clip.phonemes is not None
                said.append(torch.from_numpy(spoken(clip.phonemes or (), len(clip)) - (not known)))
                talker.append(len(rests))
            rests.append(rest)
            dataset.append(number)
    return Material(
        rows,
        targets,
        seen,
        said,
        np.array(talker, np.intp),
        np.array(dataset, np.intp),
        torch.from_numpy(np.stack([rest[ids, :2] for rest in rests])),
        torch.tensor([float(opening(rest)) for rest in rests]),
    )


@dataclass
class Batch:
    """Sequences: rows (B, R, 80) dB, target (B, T, 63, 2) u, weight (B, T), the sounds said (B, T), and the
    talkers' face and opening.
    """

    rows: Tensor
    target: Tensor
    weight: Tensor
    spoken: Tensor
    face: Tensor
    opening: Tensor


class Sampler:
    """Draws batches of augmented sequences; every dataset is drawn as often as its share says."""

    def __init__(
        self,
        data: Material,
        shape: Shape,
        *,
        length: int,
        share: Sequence[float] | None = None,
        change: float = 0.8,
        silence: float = 0.12,
        seed: int = 0,
    ) -> None:
        self.data, self.floor, self.length = data, shape.floor, length
        self.change, self.silence = change, silence
        self.random = np.random.default_rng(seed)
        self.torch_random = torch.Generator().manual_seed(seed)
        weight = np.zeros(len(data))
        own = data.dataset[data.talker]
        present = np.unique(own)
        for k, number in enumerate(present):
            clips = own == number
            weight[clips] = (share[k] if share is not None else 1 / len(present)) / clips.sum()
        self._weight = weight / weight.sum()
        self._mates = [np.flatnonzero(data.talker == k) for k in range(len(data.rests))]
        bank = [_without_speech(k, length, self.floor) for k in range(BANK * len(nonspeech.TRAINING))]
        self._sounds = torch.stack(bank) if change or silence else torch.zeros(0, 0, 0)

    def draw(self, count: int) -> Batch:
        """`count` sequences."""
        starts = self.random.choice(len(self.data), count, p=self._weight)
        mute = self.random.random(count) < self.silence
        rows, target, weight, said = zip(
            *(self._mute() if m else self._speech(int(k)) for k, m in zip(starts, mute))
        )
        heard = torch.stack(rows)
        if self.change and not mute.all():
            speech = torch.from_numpy(~mute)
            heard[speech] = augment.vary(heard[speech], self._sounds, self.change, self.torch_random)
        talker = self.data.talker[starts]
        return Batch(
            heard.clamp_min(self.floor),
            torch.stack(target),
            torch.stack(weight),
            torch.stack(said),
            self.data.rests[talker],
            self.data.openings[talker],
        )

    def _speech(self, first: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A talker's clips with pauses before, between and after."""
        data, random = self.data, self.random
        mates = self._mates[data.talker[first]]
        voice = int(random.integers(len(data.rows[first]))) if random.random() < self.change else 0
        # pauses put in are digital silence, or sound like the recording's own room
        rows = torch.full((self.length * ROWS, logmel.BANDS), self.floor)
        if random.random() < 0.7:
            tone = data.rows[first][voice][:6].mean(0)
            rows = tone + torch.randn(rows.shape, generator=self.torch_random) * 4
        target, weight = torch.zeros(self.length, POINTS, 2), torch.ones(self.length)
        said = torch.zeros(self.length, dtype=torch.int64)
        at, k = int(random.integers(0, 13)), first
        while at < self.length:
            mel, aim, seen, own = data.rows[k][voice], data.targets[k], data.seen[k], data.spoken[k]
            if random.random() < 0.5 * self.change:
                mel, aim, seen = tempo(mel, aim, seen, float(random.uniform(0.85, 1.18)))
                own = own[(torch.arange(len(aim)) * (len(own) / len(aim))).long()]
            count = min(len(aim), len(mel) // ROWS)
            skip = 0
            if count > self.length:  # a long clip is begun anywhere
                skip = int(random.integers(0, count - self.length + 1))
            count = min(count - skip, self.length - at)
            rows[at * ROWS : (at + count) * ROWS] = mel[skip * ROWS : (skip + count) * ROWS]
            target[at : at + count] = aim[skip : skip + count]
            weight[at : at + count] = seen[skip : skip + count]
            said[at : at + count] = own[skip : skip + count]
            at += count + int(random.integers(0, 14))
            k = int(random.choice(mates))
        return rows, target, weight, said

    def _mute(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sound without speech at any level, over a little noise, or silence."""
        random = self.random
        rows = torch.full((self.length * ROWS, logmel.BANDS), self.floor)
        if random.random() < 0.9:
            rows = self._sounds[int(random.integers(len(self._sounds)))] + float(random.uniform(-60, 12))
            rows = rows.roll(int(random.integers(len(rows))), 0)
            if random.random() < 0.3:  # two of them at once
                other = self._sounds[int(random.integers(len(self._sounds)))] + float(random.uniform(-70, 6))
                rows = torch.maximum(rows, other.roll(int(random.integers(len(rows))), 0))
        if random.random() < 0.5:
            low = augment.hiss(len(rows), 1, self.torch_random)[0] + float(random.uniform(-110, -50))
            rows = torch.maximum(rows, low)
        target, weight = torch.zeros(self.length, POINTS, 2), torch.ones(self.length)
        return rows, target, weight, torch.zeros(self.length, dtype=torch.int64)


def tempo(rows: Tensor, aim: Tensor, seen: Tensor, factor: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same said faster or slower (pitch kept): rows and landmarks resampled in time."""
    count = max(2, round(len(aim) * factor))

    def resample(x: Tensor, n: int) -> Tensor:
        at = torch.arange(n) * (len(x) / n)
        low = at.floor().long().clamp_max(len(x) - 1)
        high = (low + 1).clamp_max(len(x) - 1)
        share = (at - low).view(-1, *[1] * (x.ndim - 1))
        return torch.lerp(x[low], x[high], share)

    return resample(rows, count * ROWS), resample(aim, count), (resample(seen, count) > 0.99).float()


@lru_cache(maxsize=512)
def _without_speech(number: int, length: int, floor: float) -> Tensor:
    """Log-mel (R, 80) of the training sound of that number, its kinds in turn."""
    kinds = sorted(nonspeech.TRAINING)
    sound = nonspeech.sound(kinds[number % len(kinds)], number, length / 25)
    return torch.from_numpy(logmel.log_mel(sound, floor))
