"""Phonemes to the motion of lips, jaw and cheeks: dominance functions, and closures that close.

After Cohen and Massaro (1993), "Modeling coarticulation in synthetic visual speech": each sound has, for
each channel of motion, a target, a strength, and a reach before and after it. At any time the channel is
the mean of all targets, weighted by dominance

    D(t) = strength · exp(-(d / reach) ^ c),    d = how far t lies before the sound's start or after its end

so that sounds in haste do not reach their targets, and lips round ahead of a vowel. On top, what averages
cannot do: /p b m/ bring the lips together, at the right time and for a minimal hold, and /f v/ bring the
lower lip to the upper teeth. Stops are shut *before* their time, which is that of the burst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetwin.policies.espeak import Phoneme
from facetwin.policies.visemes_table import (
    CLOSES,
    PAUSE,
    TEETH,
    THROAT,
    Segment,
    Table,
    segments,
    shipped,
)
from facetwin.twin.landmarks import LOWER_INNER, LOWER_OUTER, SETS, UPPER_INNER, UPPER_OUTER

Floats = NDArray[np.float32]

POINTS = len(SETS["speech63"])
#: lips nearer than this at a closure, u
TOUCH = 0.004
#: between the lips while the lower one is at the upper teeth, u
TEETH_GAP = 0.012
#: how long lips take to meet and to part, s
RAMP = 0.045
#: shortest closure, s: a picture at 25 fps falls into it
HOLD = 0.045
#: share of a gap that the upper lip closes; the lower lip and jaw do the rest
UPPER_SHARE = 0.3
#: a pause shorter than this (s) keeps only part of its dominance: between words nobody goes to rest
SHORT_PAUSE = 0.25


#: what `Style.firm` rounds
FIRM = frozenset("uʊoɔyʏøœɵʉʃʒʂʐ")


@dataclass(frozen=True)
class Style:
    """How one talker moves; the default is the talker of the table."""

    gains: tuple[float, ...] = ()
    """Gain of each channel; missing ones are 1."""
    amplitude: float = 1.0
    rounding: float = 1.0
    """Gain of motion along rounding."""
    firm: float = 0.0
    """Rounding beyond that of the table's English, whose /u/ and /tʃ/ are hardly rounded any more."""
    reach: float = 1.0
    """Above 1 sounds reach further over each other: a lazy mouth."""
    lead: float = 0.0
    """How much earlier than usual the mouth moves, s."""
    asymmetry: float = 0.0
    """Part by which the left side moves more than the right."""
    hold: float = HOLD
    """Shortest closure, s."""


def articulate(
    phonemes: Sequence[Phoneme],
    frames: int,
    *,
    fps: float = 25.0,
    style: Style | None = None,
    rest: Floats | None = None,
    table: Table | None = None,
) -> Floats:
    """Displacement of `speech63` from rest while the phonemes are said: float32 [shape=(frames, 63, 3), u].

    Parameters
    ----------
    phonemes : with their times in s; picture k is at k / fps
    rest : float [shape=(63, 2|3), u] the talker's mouth at rest; default: lips that just touch. Closures
        close this mouth.
    """
    table = table or shipped()
    style = style or Style()
    times = torch.arange(frames) / fps + style.lead + table.scalars.get("lead", 0.0)
    sounds = segments(phonemes)
    if not sounds or not frames:
        return np.zeros((frames, POINTS, 3), np.float32)
    motion = blend(times, _tensors(sounds, table, style), table.scalars["exponent"])  # (T, K)
    motion = _in_style(motion, table, style)
    moved = (motion @ torch.from_numpy(table.basis).flatten(1)).unflatten(1, (POINTS, 3)).numpy()
    moved = _personal(moved, style)
    rest_gap = gaps(rest) if rest is not None else np.full(len(_PAIRS[0]), TOUCH, np.float32)
    lips = torch.arange(frames) / fps + style.lead  # what closes is not fitted: no lead of the table's
    shut, pressed = closures(sounds, lips.numpy(), style.hold)
    parts = (torch.from_numpy(part) for part in (moved, rest_gap, shut, pressed))
    return bring_together(*parts).numpy()


class Sounds(NamedTuple):
    """Sounds as numbers: start and end (N,) in s, and rows (N, K): see `Table`."""

    start: Tensor
    end: Tensor
    target: Tensor
    strength: Tensor
    before: Tensor
    after: Tensor


def blend(times: Tensor, sounds: Sounds, exponent: Tensor | float) -> Tensor:
    """Channels at times (T,) by dominance of sounds: (T, K)."""
    early = (sounds.start - times[:, None]).clamp_min(0)[..., None] / sounds.before  # (T, N, K)
    late = (times[:, None] - sounds.end).clamp_min(0)[..., None] / sounds.after
    distance = (early + late).clamp_min(1e-4)  # one of them is 0
    dominance = torch.exp(sounds.strength - distance**exponent)  # (T, N, K)
    return (dominance * sounds.target).sum(1) / (dominance.sum(1) + 1e-6)


def _tensors(sounds: Sequence[Segment], table: Table, style: Style) -> Sounds:
    rows = []
    stress = table.scalars["stress"]
    for k, s in enumerate(sounds):
        letter = s.letter
        if letter in THROAT:  # a shadow of the next sound, else of the one before
            near = [
                t.letter
                for t in [*sounds[k + 1 : k + 2], *sounds[max(0, k - 1) : k]]
                if t.letter not in THROAT
            ]
            letter = near[0] if near else "ə"
        target = table.target(letter)
        strength, before, after = table.dominance(letter)
        if s.letter in THROAT:
            strength = strength - 1.5
        if s.stressed:
            target = target * (1 + stress)
        round_ = 0.6 * s.labialised + style.firm * (letter in FIRM)
        target = target + round_ * table.rounding
        if letter == PAUSE:
            strength = strength + np.log(min(1.0, max(s.end - s.start, 0.01) / SHORT_PAUSE)) * 2
        rows.append((target, strength, before * style.reach, after * style.reach))
    times = torch.tensor([[s.start, s.end] for s in sounds], dtype=torch.float32)
    columns = [torch.from_numpy(np.stack(c).astype(np.float32)) for c in zip(*rows)]
    return Sounds(times[:, 0], times[:, 1], *columns)


def _in_style(motion: Tensor, table: Table, style: Style) -> Tensor:
    gains = torch.ones(table.channels)
    gains[: len(style.gains)] = torch.tensor(style.gains)[: table.channels]
    motion = motion * gains
    direction = torch.from_numpy(table.rounding)
    direction = direction / direction.norm()
    return motion + (style.rounding - 1) * (motion @ direction)[:, None] * direction


def _personal(moved: Floats, style: Style) -> Floats:
    moved = moved * style.amplitude
    if style.asymmetry:
        side = np.sign(_across())[:, None]  # + on the face's left
        moved = moved * (1 + style.asymmetry * side)
    return moved.astype(np.float32)


def closures(
    sounds: Sequence[Segment], times: NDArray[np.floating], hold: float = HOLD
) -> tuple[Floats, Floats]:
    """How far the lips are shut, and the lower lip pressed to the teeth, 0..1 [each shape=(T,)]."""
    shut, pressed = np.zeros(len(times)), np.zeros(len(times))
    for sound in sounds:
        first, last = sound.start, sound.end
        if sound.letter in CLOSES:
            if last - first < hold:
                first, last = (first + last - hold) / 2, (first + last + hold) / 2
            shut = np.maximum(shut, _ramp(times, first, last, RAMP))
        elif sound.letter in TEETH:
            pressed = np.maximum(pressed, _ramp(times, first, last - 0.02, 1.2 * RAMP))
    return shut.astype(np.float32), pressed.astype(np.float32)


def _ramp(times: NDArray[np.floating], first: float, last: float, ramp: float) -> NDArray[np.floating]:
    """1 from first to last, falling to 0 within `ramp` on both sides, by a raised cosine."""
    away = np.maximum(first - times, times - last) / ramp
    return 0.5 + 0.5 * np.cos(np.pi * np.clip(away, 0, 1))


@cache
def _across() -> Floats:
    """x of `speech63` on the canonical face."""
    from facetwin.twin.landmarks import canonical

    return canonical()[list(SETS["speech63"]), 0].astype(np.float32)


def _places(points: Sequence[int]) -> list[int]:
    return [SETS["speech63"].index(p) for p in points]


#: inner lip points facing each other (corners left out), and the outer points that go with them
_PAIRS = _places(UPPER_INNER[1:-1]), _places(LOWER_INNER)
_UPPER_OUTER, _LOWER_OUTER = _places(UPPER_OUTER[1:-1]), _places(LOWER_OUTER)


def gaps(mouth: NDArray[np.floating]) -> Floats:
    """Gap between facing points of the inner lips, u: (..., 63, 2|3) -> (..., 9)."""
    return np.asarray(mouth[..., _PAIRS[0], 1] - mouth[..., _PAIRS[1], 1], np.float32)


def bring_together(moved: Tensor, rest_gap: Tensor, shut: Tensor, pressed: Tensor) -> Tensor:
    """Displacements (T, 63, 3) with closures put in, and lips that never pass through each other.

    `rest_gap` (9,) is that of the mouth at rest. `shut` (T,) 1 leaves `TOUCH` at most between the lips;
    `pressed` (T,) 1 leaves `TEETH_GAP` and a quarter of what is more, and rolls the lower lip in, under the
    upper teeth.
    """
    gap = moved[..., _PAIRS[0], 1] - moved[..., _PAIRS[1], 1] + rest_gap  # (T, 9)
    touch = rest_gap.clamp(0, TOUCH)
    shut, roll = shut[..., None], pressed[..., None]
    wanted = torch.maximum(gap, touch)
    wanted = wanted + shut * (touch - wanted)
    teeth = touch + TEETH_GAP + 0.25 * (wanted - touch - TEETH_GAP).clamp_min(0)
    wanted = wanted + roll * (teeth - wanted)
    less = gap - wanted  # (T, 9), what has to go
    share = UPPER_SHARE * (1 - 0.8 * roll)  # the teeth's lip does not come down
    none = torch.zeros_like(roll)
    shift = torch.zeros_like(moved)
    for points, up, back in (
        (_PAIRS[0], -share * less, none),
        (_UPPER_OUTER, -share * less, none),
        (_PAIRS[1], (1 - share) * less, -0.03 * roll),
        (_LOWER_OUTER, (1 - share) * less + 0.012 * roll, -0.02 * roll),  # the red of the lip goes in
    ):
        shift[..., points, 1] = up
        shift[..., points, 2] = back.expand_as(up)
    return moved + shift
