"""Motions that show what a servo, a linkage and a skin are like: steps, small steps, ramps, chirps, babble.

Commands only; whoever plays them does so through a safety layer, and learns from what was really sent.
Motors that move different parts of the face are excited side by side, those of the mouth one by one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

#: commands a second
RATE = 50
#: s at rest before and after, s each motor is given, s that a babbled pose is held
REST, TURN, POSE = 0.8, 4.4, 0.3
#: shortest babbled part, s
BABBLE = 8.0


def slots(spec: RigSpec) -> list[list[int]]:
    """Motors that are excited side by side: in a slot one of the neck, an eye, a lid, a brow, the mouth."""
    out: list[list[int]] = []
    for groups in (("neck",), ("eyes",), ("lids",), ("brows",), ("jaw", "lips")):
        members = [int(i) for group in groups for i in spec.group(group)]
        for k, motor in enumerate(members):
            while len(out) <= k:
                out.append([])
            out[k].append(motor)
    return out


def shortest(spec: RigSpec) -> float:
    """The shortest excitation of a rig, s: a turn for each slot, two rests, some babble."""
    return 2 * REST + len(slots(spec)) * TURN + BABBLE


def excitation(spec: RigSpec, seconds: float = 0.0, seed: int = 0) -> Floats:
    """Commands at `RATE`, float64 [shape=(T, n), 0..1], of at least the shortest length.

    Parameters
    ----------
    spec : RigSpec
    seconds : float
        Length; what remains after each motor's turn is babbled. 0: the shortest.
    seed : int
        Of the babbled part.
    """
    least = shortest(spec)
    if not np.isfinite(seconds) or (seconds and seconds < least - 1e-9):
        raise UsageError("too short to excite every motor", where=spec.name, found=f"{seconds:g} s",
                         expected=f"at least {least:.0f} s, or 0 for that")  # fmt: skip
    seconds = seconds or least
    rest = np.tile(spec.rest, (round(REST * RATE), 1))
    pieces = [rest]
    low, high = spec.soft_limits
    for k, motors in enumerate(slots(spec)):
        piece = np.tile(spec.rest, (round(TURN * RATE), 1))
        for motor in motors:
            piece[:, motor] = turn(spec.rest[motor], low[motor], high[motor], mirrored=k % 2 == 1)
        pieces.append(piece)
    used = sum(map(len, pieces)) + len(rest)
    pieces += [_babble(spec, round(seconds * RATE) - used, np.random.default_rng(seed)), rest]
    return np.clip(np.concatenate(pieces), low, high)


def turn(rest: float, low: float, high: float, *, mirrored: bool = False) -> Floats:
    """One motor's turn, float64 [shape=(TURN x RATE,)]: step, small steps, slow ramp, chirp."""
    up, down = high - rest, rest - low
    if mirrored or up < 0.25:
        up, down = -down, -up
    other = -down if abs(down) > 0.15 else 0.35 * up
    n = round(TURN * RATE)
    t = np.arange(n) / RATE
    way = np.zeros(n)
    # steps: there and to the other side, each long enough to settle
    way[t >= 0.1] = 0.9 * up
    way[t >= 0.6] = 0.8 * other
    way[t >= 1.1] = 0.35 * up
    # small steps: around a dead band and a play
    for k in range(6):
        way[t >= 1.5 + 0.12 * k] = 0.35 * up + np.sign(up) * (0.012, 0.0, 0.03, 0.015, -0.02, 0.0)[k]
    # ramp: there and back, slowly
    ramp = (t >= 2.25) & (t < 3.25)
    way[ramp] = np.interp(t[ramp], (2.25, 2.65, 3.1, 3.25), (0.35 * up, 0.8 * up, 0.1 * up, 0.3 * up))
    # chirp: from 1 to 6 Hz, about a third of the way
    s = t[t >= 3.25] - 3.25
    long = TURN - 3.25
    phase = 2 * np.pi * (1.0 * s + (6.0 - 1.0) * s**2 / (2 * long))
    way[t >= 3.25] = (0.3 * up + 0.2 * up * np.sin(phase)) * np.clip((long - s) / 0.15, 0, 1)
    return np.clip(rest + way, low, high)


def _babble(spec: RigSpec, count: int, rng: np.random.Generator) -> Floats:
    """Poses about rest, jumped to and held, all motors at once, [shape=(count, n)]."""
    low, high = spec.soft_limits
    hold = round(POSE * RATE)
    rows = []
    for _ in range(-(-count // hold)):
        wide = rng.uniform(0.1, 0.3)
        rows.append(np.clip(spec.rest + rng.normal(0, wide, spec.size), low, high))
    return np.repeat(np.array(rows), hold, axis=0)[:count]
