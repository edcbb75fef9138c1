"""Fit the viseme table on tracked recordings of one talker whose phonemes are known.

``python -m facetwin.policies.articulation_fit TRAIN --align DIR --out visemes.json`` aligns the phonemes
(within the words of GRID's alignments), takes the principal channels of the talker's motion, and fits
targets, strengths and reaches by gradient descent on the distance of the points. Units that the talker
hardly says stay near the mean of their class.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetwin.policies.alignment import read_align
from facetwin.policies.articulation import POINTS, SHORT_PAUSE, Sounds, blend, bring_together, closures, gaps
from facetwin.policies.dataset import Clip, load_clips
from facetwin.policies.espeak import Phoneme
from facetwin.policies.forced_alignment import align
from facetwin.policies.visemes_table import (
    CLASSES,
    LIKE,
    PAUSE,
    ROUND,
    THROAT,
    UNITS,
    Segment,
    Table,
    segments,
    write_table,
)  # fmt: skip
from facetwin.policies.weights import provenance
from facetwin.twin.landmarks import SETS, indices, opening

Floats = NDArray[np.float32]

GRID = (
    "GRID audiovisual sentence corpus, talker s1 (M. Cooke, J. Barker, S. Cunningham, X. Shao, 2006, "
    "J. Acoust. Soc. Am. 120, 2421), CC BY 4.0"
)
UPPER, LOWER = SETS["speech63"].index(13), SETS["speech63"].index(14)
#: letters of GRID's alphabet as espeak must read them
LETTERS = {"a": "eigh"}


@dataclass(frozen=True)
class Fit:
    """How the table is fitted."""

    channels: int = 8
    steps: int = 400
    rate: float = 0.03
    opening: float = 1.0
    """Weight of the opening's error beside the mean distance of points."""
    to_class: float = 0.02
    """Pull of a unit's target to the mean of its class."""
    seed: int = 0


def said_in(clip: Clip, folder: str | Path, language: str = "en-gb") -> tuple[Phoneme, ...]:
    """Phonemes of a GRID clip, aligned within the words of `folder`/NAME.align."""
    words = [w for w in read_align(Path(folder) / f"{clip.name}.align") if w.text not in ("sil", "sp")]
    text = " ".join(LETTERS.get(w.text, w.text) for w in words)
    return align(clip.samples, text, language, words=words).phonemes


def fit(
    clips: Sequence[Clip],
    phonemes: Sequence[Sequence[Phoneme]],
    options: Fit | None = None,
    report: Callable[[int, float], None] | None = None,
) -> Table:
    """The table of one talker; `report` hears of (step, loss in .01 u)."""
    options = options or Fit()
    torch.manual_seed(options.seed)
    rest = rest_face(clips)
    ids = indices("speech63")
    moved = [clip.landmarks[:, ids] - rest[ids] for clip in clips]  # each (T, 63, 3)
    basis = _basis(np.concatenate(moved), options.channels)
    batch = _pack(clips, phonemes, moved)
    model = _Unknowns(options.channels)
    with torch.no_grad():
        flat = torch.linalg.pinv(torch.from_numpy(basis).flatten(1))
        model.start(batch, batch.moved.flatten(2) @ flat)
    space = torch.from_numpy(basis).flatten(1).clone().requires_grad_(True)
    groups: list[dict[str, Any]] = [
        {"params": model.parameters()},
        {"params": [space], "lr": options.rate * 0.02},
    ]
    optimizer = torch.optim.Adam(groups, lr=options.rate)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    rest_gap = torch.from_numpy(gaps(rest[ids]))
    for step in range(options.steps):
        chosen = torch.randperm(len(clips))[:64]
        part = batch.part(chosen)
        guess = (model(part) @ space).unflatten(-1, (POINTS, 3))
        guess = bring_together(guess, rest_gap, part.shut, 0 * part.shut)
        loss = _loss(guess, part, options) + options.to_class * model.spread()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        plan.step()
        model.limit()
        if report is not None and (step % 50 == 0 or step + 1 == options.steps):
            report(step, float(loss.detach()))
    return model.table(space.detach().unflatten(1, (POINTS, 3)).numpy(), len(clips), options)


def rest_face(clips: Sequence[Clip]) -> Floats:
    """The talker at rest, shut and silent: median face of the first 200 ms of clips whose lips are shut."""
    faces = np.concatenate([clip.landmarks[:5][opening(clip.landmarks[:5]) < 0.02] for clip in clips])
    return np.median(faces, axis=0).astype(np.float32)


def _basis(moved: Floats, channels: int) -> Floats:
    """Principal channels: float32 [shape=(channels, 63, 3), u], each of unit spread in the data."""
    weight = np.ones((POINTS, 3), np.float32)
    weight[40:] *= 0.6  # jaw and cheeks
    weight[:, 2] *= 0.5  # depth is seen worst
    flat = (moved * weight).reshape(len(moved), -1)
    _, s, rows = np.linalg.svd(flat[:: max(1, len(flat) // 8000)].astype(np.float64), full_matrices=False)
    kept = rows[:channels] * s[:channels, None] / np.sqrt(len(flat[:: max(1, len(flat) // 8000)]))
    return (kept.reshape(-1, POINTS, 3) / weight).astype(np.float32)


@dataclass
class _Batch:
    """Clips of equal length: sounds (B, N) and motion (B, T, 63, 3); weights are 0 where padded."""

    unit: Tensor  # (B, N, U) weights of units
    throat: Tensor
    stressed: Tensor
    quiet: Tensor  # (B, N) log of a short pause's dominance
    start: Tensor
    end: Tensor
    real: Tensor  # (B, N)
    moved: Tensor
    seen: Tensor
    shut: Tensor  # (B, T)

    def part(self, chosen: Tensor) -> _Batch:
        return _Batch(*(getattr(self, name)[chosen] for name in (each.name for each in fields(self))))


def _pack(clips: Sequence[Clip], phonemes: Sequence[Sequence[Phoneme]], moved: Sequence[Floats]) -> _Batch:
    sounds = [segments(p) for p in phonemes]
    most, frames = max(map(len, sounds)), max(map(len, clips))
    count = len(clips)
    shapes = {"unit": (most, len(UNITS)), "moved": (frames, POINTS, 3), "seen": (frames,), "shut": (frames,)}
    names = [each.name for each in fields(_Batch)]
    b = _Batch(**{name: torch.zeros(count, *shapes.get(name, (most,))) for name in names})
    for k, own in enumerate(sounds):
        b.shut[k] = torch.from_numpy(closures(own, np.arange(frames) / 25)[0])
        for n, sound in enumerate(own):
            letter = _lips_of(own, n)
            recipe = {letter: 1.0} if letter in UNITS else LIKE[letter]
            parts = {unit: weight for unit, weight in recipe.items() if unit != ROUND}
            for unit, weight in parts.items():
                b.unit[k, n, UNITS.index(unit)] = weight / sum(parts.values())
            b.throat[k, n] = sound.letter in THROAT
            b.stressed[k, n] = sound.stressed
            b.start[k, n], b.end[k, n], b.real[k, n] = sound.start, sound.end, 1
            if letter == PAUSE:
                b.quiet[k, n] = 2 * np.log(min(1.0, max(sound.end - sound.start, 0.01) / SHORT_PAUSE))
        b.moved[k, : len(moved[k])] = torch.from_numpy(moved[k])
        b.seen[k, : len(moved[k])] = torch.from_numpy(clips[k].seen.astype(np.float32))
    return b


def _lips_of(sounds: Sequence[Segment], n: int) -> str:
    """Letter whose lips a sound has: its own, for those of the throat the next one's."""
    letter = sounds[n].letter
    if letter not in THROAT:
        return letter
    near = [s.letter for s in [*sounds[n + 1 : n + 2], *sounds[max(0, n - 1) : n]] if s.letter not in THROAT]
    return near[0] if near else "ə"


class _Unknowns(torch.nn.Module):
    """What is fitted; rows in the order of `UNITS`."""

    group: Tensor  # (U,), class of each unit

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = list(CLASSES.values())
        self.register_buffer(
            "group", torch.tensor([next(i for i, g in enumerate(groups) if u in g) for u in UNITS])
        )
        self.target = torch.nn.Parameter(torch.zeros(len(UNITS), channels))
        self.strength = torch.nn.Parameter(torch.zeros(len(UNITS), channels))
        self.before = torch.nn.Parameter(torch.full((len(groups), channels), np.log(0.07)))
        self.after = torch.nn.Parameter(torch.full((len(groups), channels), np.log(0.07)))
        self.exponent = torch.nn.Parameter(torch.tensor(1.3))
        self.stress = torch.nn.Parameter(torch.tensor(0.05))
        self.lead = torch.nn.Parameter(torch.tensor(0.0))
        self.limit()

    def start(self, batch: _Batch, codes: Tensor) -> None:
        """Begin with the mean of the pictures while a unit is said; `codes` (B, T, K)."""
        times = torch.arange(codes.shape[1]) / 25
        on = (times >= batch.start[..., None]) & (times < batch.end[..., None])  # (B, N, T)
        weight = torch.einsum("bnt,bnu->btu", on.float() * batch.real[..., None], batch.unit)
        weight = weight * batch.seen[..., None]
        total = torch.einsum("btu,btk->uk", weight, codes)
        self.target.copy_(total / (weight.sum((0, 1))[:, None] + 5))
        self.limit()

    @torch.no_grad()
    def limit(self) -> None:
        """A pause is rest; reaches and exponent stay where they mean something."""
        self.target[UNITS.index(PAUSE)] = 0
        self.before.clamp_(np.log(0.015), np.log(0.4))
        self.after.clamp_(np.log(0.015), np.log(0.4))
        self.strength.clamp_(-4, 4)
        self.exponent.clamp_(1.0, 2.0)
        self.stress.clamp_(-0.3, 0.3)
        self.lead.clamp_(-0.04, 0.04)

    def forward(self, b: _Batch) -> Tensor:
        target = b.unit @ self.target  # (B, N, K)
        target = target * (1 + self.stress * b.stressed[..., None])
        strength = b.unit @ self.strength - 1.5 * b.throat[..., None] + b.quiet[..., None]
        strength = strength + (b.real[..., None] - 1) * 30
        before, after = (torch.exp(b.unit @ p[self.group]) for p in (self.before, self.after))
        times = torch.arange(b.moved.shape[1]) / 25 + self.lead
        rows = [
            blend(times, Sounds(*sounds), self.exponent)
            for sounds in zip(b.start, b.end, target, strength, before, after)
        ]
        return torch.stack(rows)

    def spread(self) -> Tensor:
        """Mean square distance of targets and strengths from their class."""
        groups = int(self.group.max()) + 1
        one = torch.nn.functional.one_hot(self.group, groups).float()  # (U, G)
        own = torch.zeros(())
        for values, scale in ((self.target, 1.0), (self.strength, 0.5)):
            mean = (one.T @ values) / one.sum(0)[:, None]
            own = own + scale * ((values - mean[self.group]) ** 2).mean()
        return own + 0.02 * (self.strength**2).mean()

    def table(self, basis: Floats, clips: int, options: Fit) -> Table:
        def rows(values: Tensor) -> dict[str, Floats]:
            return {u: values[k].detach().numpy().copy() for k, u in enumerate(UNITS)}

        scalars = {"exponent": self.exponent.item(), "stress": self.stress.item(), "lead": self.lead.item()}
        about: dict[str, Any] = {
            "what": "viseme targets and dominance, displacement of speech63 in u, s",
            "data": f"{GRID}; {clips} training clips",
            "licence": "CC BY 4.0",
            **provenance(),
            "seed": options.seed,
            "made_with": "python -m facetwin.policies.articulation_fit",
        }
        return Table(
            basis, rows(self.target), rows(self.strength), rows(torch.exp(self.before)[self.group]),
            rows(torch.exp(self.after)[self.group]), {k: round(v, 5) for k, v in scalars.items()}, about,
        )  # fmt: skip


def _loss(guess: Tensor, batch: _Batch, options: Fit) -> Tensor:
    """Mean distance, lips first, and the opening's: .01 u."""
    parts = torch.ones(POINTS)
    parts[40:51], parts[51:] = 0.5, 0.3
    depth = torch.tensor([1.0, 1.0, 0.5])
    off = (guess - batch.moved) * depth
    place = torch.sqrt((off**2).sum(-1) + 1e-6) @ (parts / parts.sum())  # (B, T)
    gape = (off[..., UPPER, 1] - off[..., LOWER, 1]).abs()
    each = place + options.opening * gape
    return 100 * (each * batch.seen).sum() / batch.seen.sum()


def main() -> None:
    """Fit on the clips of a dataset and write the table."""
    parser = argparse.ArgumentParser(description="Fit the viseme table on GRID clips.")
    parser.add_argument("train", type=Path, help="dataset of tracked GRID clips")
    parser.add_argument("--align", type=Path, required=True, help="folder of GRID's word alignments")
    parser.add_argument("--out", type=Path, default=Path("assets/speech/visemes.json"))
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = load_clips(options.train, options.limit)
    phonemes = [said_in(clip, options.align) for clip in clips]
    table = fit(clips, phonemes, report=lambda step, loss: print(f"step {step}: {loss:.3f} (.01 u)"))
    write_table(table, options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
