"""Motions by which a twin and a rig are compared: steps, slow ramps, chirps, then one expression clip.

Each motor's turn says apart what `excitation` mixes: a ramp there and back that is slower than any servo for
dead band and play, small steps for what sticks, a chirp and wide steps for time (latency, lag, speed).
Motors that move different parts of the face take their turns side by side, as in `excitation.slots`, if they
have servos of one model: a decoder sees a little of each through the others' landmarks, and a slow neck that
moves at the same time would pass for lag of a brow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.calibration.excitation import _babble, slots
from facetwin.twin.calibration.traces import models
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

#: commands a second: no divisor or multiple of a hobby servo's 50 pulses, so that commands meet pulses at
#: every phase, and a latency is the average over them
RATE = 47.0
#: s at rest before and after all, s of one motor's turn, s of the expression clip
REST, TURN, CLIP = 1.0, 8.0, 6.0
#: commands/s of the slow ramp, and how far it goes to each side
SLOW, AROUND = 0.125, 0.08
#: wide steps at a turn's end: how many, s that each lasts at least, and at most longer. None lasts as long as
#: another, so that a camera's pictures fall on every part of the way
STEPS, DWELL, LONGER = 10, 0.25, 0.15

#: expressions: parts of motor names, and how far each goes from rest: 1 to the further limit, -1 to the other
EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": {"corner_up": 0.7, "corner_stretch": 0.5, "lower_lid": 0.3},
    "surprise": {"brow": 0.8, "jaw": 0.5},
    "frown": {"inner_brow": -0.7, "corner_low": 0.5, "lower_lip_raise": 0.3},
    "kiss": {"corner_stretch": -0.6, "lip_roll": 0.4},
    "look aside": {"eye_yaw": 0.6, "neck_yaw": 0.3},
}


@dataclass(frozen=True)
class Turn:
    """When some motors were probed: seconds from the start of the program, to which motors by number."""

    start: float
    end: float
    motors: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """Commands and what they are for.

    Attributes
    ----------
    commands : float64 [shape=(T, n), 0..1], at `RATE`
    turns : one for each slot of motors
    clip, babble : (float, float), s: when the expressions and the babble are played; empty without
    """

    commands: Floats
    turns: tuple[Turn, ...]
    clip: tuple[float, float]
    babble: tuple[float, float]

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return len(self.commands) / RATE


def program(
    spec: RigSpec, motors: Sequence[str] = (), *, clip: bool = True, babble: float = 0.0, seed: int = 0
) -> Program:
    """What is played on both rigs.

    Parameters
    ----------
    spec : RigSpec
    motors : names, default: all
        Those that take a turn.
    clip : bool
        Whether the expressions are played.
    babble : float, s
        Of poses at random after them, for calibration.
    seed : int
        Of the babble.
    """
    for name in motors:
        if name not in spec.names:
            raise UsageError("no such motor", where=spec.name, found=name,
                             expected="one of " + ", ".join(spec.names))  # fmt: skip
    chosen = {spec.index(name) for name in motors} or set(range(spec.size))
    low, high = spec.soft_limits
    pieces = [np.tile(spec.rest, (round(REST * RATE), 1))]
    turns: list[Turn] = []

    def now() -> float:
        return sum(map(len, pieces)) / RATE

    for members in sharing(spec):
        active = tuple(i for i in members if i in chosen)
        if not active:
            continue
        piece = np.tile(spec.rest, (round(TURN * RATE), 1))
        for i in active:
            piece[:, i] = probe(spec.rest[i], low[i], high[i])
        start = now()
        pieces.append(piece)
        turns.append(Turn(start, now(), active))
    at = now()
    if clip:
        pieces.append(expressions(spec))
    clip_at = (at, now())
    if babble > 0:
        pieces.append(_babble(spec, round(babble * RATE), np.random.default_rng(seed)))
    babble_at = (clip_at[1], now())
    pieces.append(pieces[0])
    return Program(np.clip(np.concatenate(pieces), low, high), tuple(turns), clip_at, babble_at)


def sharing(spec: RigSpec) -> list[list[int]]:
    """Motors that take their turns side by side: the `slots`, servos of another model apart, the slots' first
    motor's first."""
    kinds = models(spec)
    return [members for slot in slots(spec) for kind in kinds if (members := [i for i in slot if i in kind])]


def probe(rest: float, low: float, high: float) -> Floats:
    """One motor's turn, float64 [shape=(TURN x RATE,)]: steps, slow ramp, small steps, chirp, wide steps."""
    far, near = (high, low) if high - rest >= rest - low else (low, high)
    up, other = far - rest, near - rest
    if abs(other) < 0.15:
        other = 0.25 * up
    sign = np.sign(up)
    n = round(TURN * RATE)
    t = np.arange(n) / RATE
    middle = 0.4 * up
    way = np.zeros(n)
    way[t >= 0.1] = middle
    # slowly: there, past where it began, and back
    ramp = (t >= 0.5) & (t < 0.5 + 4 * AROUND / SLOW)
    corners = 0.5 + np.array([0, 1, 3, 4]) * AROUND / SLOW
    way[ramp] = middle + sign * np.interp(t[ramp], corners, [0, AROUND, -AROUND, 0])
    # small steps that grow: which is the first one taken?
    for k, size in enumerate((0.004, 0.0, 0.008, 0.0, 0.016, 0.0)):
        way[t >= 3.06 + 0.04 * k] = middle + sign * size
    # chirp: from 1 to 5 Hz
    begin, long = 3.3, 1.1
    chirp = (t >= begin) & (t < begin + long)
    s = t[chirp] - begin
    phase = 2 * np.pi * (1.0 * s + (5.0 - 1.0) * s**2 / (2 * long))
    way[chirp] = middle + 0.3 * up * np.sin(phase)
    at = begin + long
    for k in range(STEPS):
        way[t >= at] = 0.8 * other if k % 2 else 0.9 * up
        at += DWELL + LONGER * (0.618 * k % 1)
    way[t >= at] = 0.0
    return np.clip(rest + way, low, high)


def expressions(spec: RigSpec) -> Floats:
    """The expression clip, float64 [shape=(CLIP x RATE, n), 0..1]: each is gone to and left smoothly."""
    n = round(CLIP * RATE)
    t = np.arange(n) / RATE
    out = np.tile(spec.rest, (n, 1))
    low, high = spec.soft_limits
    long = CLIP / len(EXPRESSIONS)
    for k, moves in enumerate(EXPRESSIONS.values()):
        s = np.clip((t - k * long) / long, 0, 1)
        swell = np.sin(np.pi * s) ** 2  # at rest, without speed, at both ends
        for part, share in moves.items():
            for i, name in enumerate(spec.names):
                if part in name:
                    up, down = high[i] - spec.rest[i], low[i] - spec.rest[i]
                    far, near = (up, down) if up >= -down else (down, up)
                    out[:, i] += swell * (share * far if share > 0 else -share * near)
    return np.clip(out, low, high)
