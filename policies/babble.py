"""Babblers: where to move when all there is to do is look at oneself (DESIGN section 9).

Each babbler is an endless iterator of commands. They know the rig table and nothing of rigs: whoever drives
one sends the commands through its safety layer and learns from what was really sent.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec

Command = NDArray[np.float64]

#: key poses of the face as groups of motors to commands; what is not named rests. Names match by ending.
KEY_POSES: dict[str, dict[str, float]] = {
    "neutral": {},
    "ah": {"jaw": 0.7},
    "eh": {"jaw": 0.4, "corner_stretch": 0.7},
    "ee": {"jaw": 0.15, "corner_stretch": 0.95, "corner_up": 0.5},
    "oh": {"jaw": 0.45, "corner_stretch": 0.15, "upper_lip_roll": 0.75, "lower_lip_roll": 0.75},
    "oo": {"jaw": 0.15, "corner_stretch": 0.0, "upper_lip_roll": 0.95, "lower_lip_roll": 0.95},
    "press": {"lower_lip_raise": 0.85, "upper_lip_raise": 0.2},
    "roll in": {"upper_lip_roll": 0.2, "lower_lip_roll": 0.15, "lower_lip_raise": 0.7},
    "lip to teeth": {"lower_lip_roll": 0.2, "lower_lip_raise": 0.8, "upper_lip_raise": 0.6, "jaw": 0.1},
    "smile": {"corner_up": 0.85, "corner_stretch": 0.9},
    "frown": {"corner_low": 0.85, "corner_up": 0.1, "inner_brow": 0.85, "outer_brow": 0.3},
    "angry": {"inner_brow": 0.05, "outer_brow": 0.3, "upper_lid": 0.6, "lower_lid": 0.6},
    "surprise": {"inner_brow": 1.0, "outer_brow": 1.0, "upper_lid": 1.0, "jaw": 0.55},
    "shut eyes": {"upper_lid": 0.0, "lower_lid": 0.4},
    "disgust": {"upper_lip_raise": 0.75, "lower_lip_raise": 0.6, "inner_brow": 0.2},
}


def key_pose(spec: RigSpec, name: str) -> Command:
    """One of `KEY_POSES` as a command, float64 [shape=(n,)]."""
    command = spec.rest.copy()
    for ending, value in KEY_POSES[name].items():
        command[[i for i, motor in enumerate(spec.names) if motor.endswith(ending)]] = value
    return command


def uniform(spec: RigSpec, rng: np.random.Generator) -> Iterator[Command]:
    """Every motor anywhere in its range, all independent."""
    while True:
        yield rng.uniform(size=spec.size)


def key_poses(
    spec: RigSpec, rng: np.random.Generator, *, spread: float = 0.1, neutral: float = 2 / 17, steps: int = 4
) -> Iterator[Command]:
    """Normal noise around key poses, straight ways between them: the published robot's babbling.

    Neutral with probability 2/17, else one of the others; N(0, 0.1) on every motor; 4 interpolation steps.
    """
    others = [name for name in KEY_POSES if name != "neutral"]
    here = spec.rest.copy()
    while True:
        name = "neutral" if rng.uniform() < neutral else others[rng.integers(len(others))]
        there = np.clip(key_pose(spec, name) + rng.normal(0, spread, spec.size), 0, 1)
        for step in range(1, steps + 1):
            yield here + (there - here) * step / steps
        here = there


def mouthing(spec: RigSpec, rng: np.random.Generator, *, symmetric: float = 0.7) -> Iterator[Command]:
    """The postures of speech: jaw and lips around rest, mostly symmetric, the rest of the face alive."""
    mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])
    jaw = spec.group("jaw")
    while True:
        command = spec.rest + rng.normal(0, 0.15, spec.size)
        command[mouth] = spec.rest[mouth] + rng.normal(0, rng.uniform(0.05, 0.35), len(mouth))
        command[jaw] = spec.rest[jaw] + np.abs(rng.normal(0, 0.3)) * (rng.uniform() < 0.75)
        if rng.uniform() < symmetric:
            command = symmetrise(spec, command)
        yield np.clip(command, 0, 1)


def mixed(spec: RigSpec, rng: np.random.Generator, *, symmetric: float = 0.6) -> Iterator[Command]:
    """Half mouthing, a quarter each of the others, in runs of four so that key poses keep their ways.

    A run is symmetric with probability .6: the published robot's babble was wholly so.
    """
    mouth = mouthing(spec, rng, symmetric=0.0)
    sources = [uniform(spec, rng), key_poses(spec, rng), mouth, mouth]
    while True:
        source = sources[rng.integers(len(sources))]
        both = rng.uniform() < symmetric
        for _ in range(4):
            command = next(source)
            yield symmetrise(spec, command) if both else command


def symmetrise(spec: RigSpec, command: Command) -> Command:
    """The left side does what the right side does; the head does not turn or tilt."""
    out = command.copy()
    for i, name in enumerate(spec.names):
        if name.startswith("left_"):
            out[i] = command[spec.index("right_" + name[len("left_") :])]
    for name in ("neck_yaw", "neck_roll"):
        if name in spec.names:
            out[spec.index(name)] = spec.rest[spec.index(name)]
    return out


BABBLERS = {"mixed": mixed, "uniform": uniform, "keyposes": key_poses, "mouthing": mouthing}


def babbler(name: str, spec: RigSpec, rng: np.random.Generator) -> Iterator[Command]:
    """A babbler by name: mixed, uniform, keyposes or mouthing."""
    if name not in BABBLERS:
        raise UsageError("no such babbler", found=name, expected="one of " + ", ".join(BABBLERS))
    return BABBLERS[name](spec, rng)
