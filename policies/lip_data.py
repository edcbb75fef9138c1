"""Pictures of lips to learn from: babbled postures, each seen twice by `LipCamera`.

Once as some camera sees it (light, place, noise, crop a little off as a tracker's is, head turned), and
once as the rig file's own camera sees it, the head upright and without noise. What learns to say the second
from the first learns what the mouth does, and not who looks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.policies.babble import key_poses, mouthing, symmetrise, uniform
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import indices
from facetwin.twin.lip_camera import LipCamera
from facetwin.twin.lip_crop import SIZE
from facetwin.twin.randomise import draw
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float32]

#: babblers and their shares; speech is left out where no spoken commands are given
SOURCES = {"speech": 0.4, "mouthing": 0.25, "keyposes": 0.2, "uniform": 0.15}
#: postures in a row from one source
RUN = 8
#: postures that one drawn camera sees
SHIFT = 200
#: share of postures whose first picture is the rig file's own camera's, noise and misplaced crop aside
OWN = 0.4
#: what cameras differ in
EYES = ("camera.*",)
#: u, standard deviation of a crop's misplacement; MediaPipe's stable points jitter by less
UNSTEADY = 0.006
#: share of postures with the head upright, as it is when the robot speaks
UPRIGHT = 0.6


@dataclass(frozen=True)
class LipData:
    """n postures.

    Attributes
    ----------
    seen, own : uint8 [shape=(n, 128, 128, 3)], by some camera, and by the rig file's
    commands : float32 [shape=(n, 26)]
    lips : float32 [shape=(n, 40, 2), u], `lips40` by geometry
    gap : float32 [shape=(n,), mm]
    kind : int64 [shape=(n,)], index into `SOURCES`
    """

    seen: NDArray[np.uint8]
    own: NDArray[np.uint8]
    commands: Floats
    lips: Floats
    gap: Floats
    kind: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.own)

    @classmethod
    def load(cls, folder: Path) -> LipData:
        """What `make` wrote, pictures mapped from disk; raises `UsageError` where there is none."""
        try:
            return cls(**{f.name: np.load(folder / f"{f.name}.npy", mmap_mode="r") for f in fields(cls)})
        except (OSError, ValueError) as why:
            raise UsageError("no pictures of lips", where=folder, found=str(why)) from None


def postures(
    spec: RigSpec, rng: np.random.Generator, speech: Floats | None = None
) -> Iterator[tuple[NDArray[np.float64], int]]:
    """Allowed commands and the index of their source in `SOURCES`, in runs; every second run symmetric."""
    babblers = {
        "speech": _around(speech, rng) if speech is not None else None,
        "mouthing": mouthing(spec, rng, symmetric=0.0),
        "keyposes": key_poses(spec, rng),
        "uniform": uniform(spec, rng),
    }
    names = [name for name in SOURCES if babblers[name] is not None]
    share = np.array([SOURCES[name] for name in names])
    rule, neck = Couplings(spec), spec.group("neck")
    while True:
        name = names[rng.choice(len(names), p=share / share.sum())]
        both, upright = rng.uniform() < 0.5, rng.uniform() < UPRIGHT
        source = babblers[name]
        assert source is not None
        for _ in range(RUN):
            command = np.clip(next(source), 0, 1)
            if both and name != "speech":
                command = symmetrise(spec, command)
            command[neck] = spec.rest[neck] if upright else spec.rest[neck] + rng.normal(0, 0.12, len(neck))
            yield rule.project(np.clip(command, 0, 1)), list(SOURCES).index(name)


def _around(rows: Floats, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    while True:
        start = int(rng.integers(len(rows)))
        spread = rng.uniform(0, 0.08)
        for row in rows[start : start + RUN]:
            yield np.clip(row + rng.normal(0, spread, len(row)), 0, 1)


def make(
    folder: Path,
    spec: RigSpec,
    count: int,
    seed: int,
    speech: Floats | None = None,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> LipData:
    """Babble `count` postures that the fast skin trusts and write both pictures of each into a folder.

    A folder that is complete and of the same rig, count and seed is taken as it is.
    """
    about = {"rig": spec.hash, "count": count, "seed": seed, "speech": speech is not None}
    note = folder / "meta.json"
    if note.exists() and json.loads(note.read_text("utf-8")) == about:
        progress(count)
        return LipData.load(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)

    def table(name: str, kind: Any, *shape: int) -> NDArray[Any]:
        return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (count, *shape))

    picture = (SIZE, SIZE, 3)
    data = LipData(
        table("seen", np.uint8, *picture), table("own", np.uint8, *picture),
        table("commands", np.float32, spec.size), table("lips", np.float32, 40, 2),
        table("gap", np.float32), table("kind", np.int64),
    )  # fmt: skip
    rng = np.random.default_rng((seed, 6))
    source, neck, at, shift = postures(spec, rng, speech), spec.group("neck"), 0, 0
    with LipCamera(spec) as plain:
        while at < count:
            other = spec if rng.uniform() < OWN else draw(spec, rng, EYES)[0]
            rows, kinds = zip(*(next(source) for _ in range(SHIFT)))
            commands, shift = np.array(rows), shift + 1
            level = commands.copy()
            level[:, neck] = spec.rest[neck]
            with LipCamera(other, noise=True, unsteady=UNSTEADY, seed=seed * 10_000 + shift) as eye:
                seen = eye.see(commands)
            own = plain.see(level)
            good = np.flatnonzero(own.trust)[: count - at]
            some = slice(at, at + len(good))
            data.seen[some], data.own[some] = seen.crops[good], own.crops[good]
            data.commands[some] = commands[good]
            data.lips[some] = own.landmarks[good][:, indices("lips40"), :2]
            data.gap[some], data.kind[some] = own.gap_mm[good], np.array(kinds)[good]
            at += len(good)
            progress(len(good))
    for f in fields(data):
        getattr(data, f.name).flush()
    part = folder / "meta.json.part"
    part.write_text(json.dumps(about) + "\n", "utf-8")
    os.replace(part, note)
    return data
