"""Babble that moves: smooth ways through postures, and what the mirror shows along them.

What the action transformer learns from. Ways lead through key poses and the postures of speech, wander at
random, or follow spoken commands, changed a little; none is quicker than the motors or breaks a coupling.
Each way belongs to training, validation or test before anything is fitted, a spoken one by its clip.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from facetwin.policies.babble import key_poses, mouthing, symmetrise, uniform
from facetwin.policies.controllers import LATENTS
from facetwin.policies.felt_face import FeltFace
from facetwin.policies.selfmodel import mirror_motors
from facetwin.policies.vae import Vae
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import indices
from facetwin.twin.lip_camera import LipCamera
from facetwin.twin.randomise import draw
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float32]
FPS = 25
#: pictures of a way
LENGTH = 64
#: kinds of ways and their shares; without spoken commands the others share the rest
KINDS = {"speech": 0.4, "mouthing": 0.3, "keyposes": 0.15, "wander": 0.15}
#: share of ways on which eyes, lids, brows and neck move, too
LIVELY = 0.25
#: what other bodies and cameras differ in; the mirror's rate and delay do not matter to still postures
OTHERS = (
    "camera.mirror.light.*", "camera.mirror.background.*", "camera.mirror.*_error.*",
    "camera.mirror.exposure", "camera.mirror.distance", "camera.mirror.elevation",
    "camera.mirror.vertical_fov",
    "motor.*.scale", "motor.*.trim",
)  # fmt: skip
#: ways in a file
SHARD = 20


@dataclass(frozen=True)
class ActionData:
    """S ways of T pictures.

    Attributes
    ----------
    commands : float32 [shape=(S, T, n)]
    latents : float32 [shape=(S, T, 16)], of what was seen
    points : float32 [shape=(S, T, 63, 2), u], `speech63` by geometry
    gap : float32 [shape=(S, T), mm]
    kind : int64 [shape=(S,)], index into `KINDS`
    part : int64 [shape=(S,)], 0 training, 1 validation, 2 test
    """

    commands: Floats
    latents: Floats
    points: Floats
    gap: Floats
    kind: NDArray[np.int64]
    part: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.commands)

    def __getitem__(self, rows: Any) -> ActionData:
        return ActionData(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def split(self) -> tuple[ActionData, ActionData, ActionData]:
        """Training, validation and test ways."""
        return tuple(self[self.part == k] for k in range(3))  # type: ignore[return-value]


def join(parts: Sequence[ActionData]) -> ActionData:
    """Ways of several sets as one."""
    names = [f.name for f in fields(ActionData)]
    return ActionData(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def ways(
    spec: RigSpec, rng: np.random.Generator, spoken: Sequence[Floats] = (), length: int = LENGTH
) -> Iterator[tuple[Floats, int, int]]:
    """Ways without end: commands float32 [shape=(length, n)], index of the kind, and part (0, 1, 2).

    `spoken`: commands of clips [each shape=(T, n)]; of each ten one is for validation, one for test.
    """
    names = [name for name in KINDS if name != "speech" or len(spoken)]
    share = np.array([KINDS[name] for name in names])
    mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])
    still = np.setdiff1d(np.arange(spec.size), mouth)
    rules = Couplings(spec)
    low, high = spec.soft_limits
    quickest = np.array([m.max_speed for m in spec.motors]) / spec.span / FPS
    while True:
        name = names[rng.choice(len(names), p=share / share.sum())]
        part = int(rng.choice(3, p=(0.8, 0.1, 0.1)))
        if name == "speech":
            mine = [k for k in range(len(spoken)) if _part(k) == part] or [0]
            rows = _spoken(spec, rng, spoken[mine[rng.integers(len(mine))]], length)
        elif name == "wander":
            rows = _wander(spec, rng, length)
        else:
            rows = _through(spec, rng, name, length)
        if rng.uniform() < 0.6:
            rows = np.array([symmetrise(spec, row) for row in rows])
        if rng.uniform() < LIVELY:
            rows[:, still] = _wander(spec, rng, length)[:, still]
        else:
            rows[:, still] = spec.rest[still]
        rows = np.clip(rows, low, high)
        for k in range(1, length):
            rows[k] = np.clip(rows[k], rows[k - 1] - quickest, rows[k - 1] + quickest)
        for k in np.flatnonzero(~rules.allowed(rows)):
            rows[k] = rules.project(rows[k], low, high)
        yield rows.astype(np.float32), list(KINDS).index(name), part


def film(
    folder: Path,
    spec: RigSpec,
    count: int,
    *,
    spoken: Sequence[Floats] = (),
    bodies: int = 0,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Babble along `count` ways before `LipCamera` and keep the crops in a folder, `SHARD` ways a file.

    `bodies`: so many other bodies, cameras and lights (`OTHERS`), each for some shards, instead of the rig
    file's own. What a killed run has finished is kept, and goes with the same call only.
    """
    about = {"rig": spec.hash, "bodies": str(bodies), "seed": str(seed), "spoken": str(len(spoken))}
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, 16))
    drawn = [draw(spec, rng, OTHERS)[0] for _ in range(bodies)] or [spec]
    ids = indices("speech63")
    for shard in range(-(-count // SHARD)):
        path = folder / f"shard-{shard:05d}.safetensors"
        own = np.random.default_rng((seed, 17, shard))
        some = list(itertools.islice(ways(spec, own, spoken), min(SHARD, count - shard * SHARD)))
        if path.exists() and _about(path) == about:
            progress(len(some))
            continue
        rows = np.stack([row for row, _, _ in some])  # (s, T, n)
        with LipCamera(drawn[shard % len(drawn)]) as camera:
            seen = camera.see(rows.reshape(-1, spec.size))
        lead = rows.shape[:2]
        arrays: dict[str, NDArray[Any]] = {
            "commands": rows,
            "crops": seen.crops.reshape(*lead, *seen.crops.shape[1:]),
            "points": np.ascontiguousarray(seen.landmarks[:, ids, :2]).reshape(*lead, len(ids), 2),
            "gap": seen.gap_mm.reshape(lead),
            "kind": np.array([kind for _, kind, _ in some]),
            "part": np.array([part for _, _, part in some]),
        }
        part = path.with_name(path.name + ".part")
        save_file(arrays, part, metadata=about)
        part.replace(path)
        progress(len(some))


def feel(
    face: FeltFace,
    count: int,
    *,
    spoken: Sequence[Floats] = (),
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> ActionData:
    """Babble along `count` ways without a camera: points and gap by the fast skin, latents all zero."""
    source = ways(face.spec, np.random.default_rng((seed, 19)), spoken)
    parts: list[ActionData] = []
    while len(parts) * SHARD < count:
        rows, kinds, split = zip(*itertools.islice(source, min(SHARD, count - len(parts) * SHARD)))
        commands = np.stack(rows)  # (s, T, n)
        lead = commands.shape[:2]
        with torch.no_grad():
            felt = face(torch.from_numpy(commands).flatten(0, 1))
        parts.append(
            ActionData(
                commands,
                np.zeros((*lead, LATENTS), np.float32),
                felt.points.unflatten(0, lead).numpy(),
                felt.gap.unflatten(0, lead).numpy(),
                np.array(kinds),
                np.array(split),
            )
        )
        progress(len(rows))
    return join(parts)


def read(
    folder: Path, vae: Vae, count: int, whose: str = "", progress: Callable[[int], None] = lambda _: None
) -> ActionData:
    """Filmed ways, the first `count` of a folder, as this VAE sees them.

    With `whose`, the hash of its weights, latents are kept beside the film.
    """
    paths = sorted(folder.glob("shard-*.safetensors"))[: -(-count // SHARD)]
    if not paths:
        raise UsageError("no filmed babble", where=folder, hint="facetwin train transformer films it first")
    parts = []
    for path in paths:
        try:
            arrays = load_file(path)
            crops = arrays.pop("crops")
            kept = path.with_name(f"{path.stem}-{whose[:12]}.npy")
            if whose and kept.exists():
                latents = np.load(kept)
            else:
                latents = vae.encode(crops.reshape(-1, *crops.shape[2:])).reshape(*crops.shape[:2], -1)
                if whose:
                    np.save(part := kept.with_name(f"part-{kept.name}"), latents)
                    part.replace(kept)
            parts.append(ActionData(latents=latents, **arrays))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as why:
            raise FaceTwinError("filmed babble does not open", where=path, found=str(why),
                                hint="delete it and run again") from None  # fmt: skip
        progress(len(parts[-1]))
    return join(parts)


def _about(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def _part(clip: int) -> int:
    return {8: 1, 9: 2}.get(clip % 10, 0)


def _spoken(spec: RigSpec, rng: np.random.Generator, rows: Floats, length: int) -> NDArray[np.float64]:
    """A piece of a clip's commands, quicker or slower, each motor a little more or less and askew."""
    pace = rng.uniform(0.7, 1.3)
    span = min(len(rows) - 1.0, (length - 1) * pace)
    at = np.clip(rng.uniform(0, len(rows) - 1 - span) + np.arange(length) * pace, 0, len(rows) - 1)
    whole = np.minimum(at.astype(int), max(len(rows) - 2, 0))
    share = (at - whole)[:, None]
    piece = (1 - share) * rows[whole] + share * rows[np.minimum(whole + 1, len(rows) - 1)]
    if rng.uniform() < 0.5:
        partner, _ = mirror_motors(spec)
        piece = piece[:, partner]
    gain = 1 + rng.normal(0, 0.15, spec.size) * (rng.uniform() < 0.7)
    out: NDArray[np.float64] = spec.rest + gain * (piece - spec.rest)
    return out + rng.normal(0, 0.04, spec.size) * (rng.uniform() < 0.7)


def _through(spec: RigSpec, rng: np.random.Generator, name: str, length: int) -> NDArray[np.float64]:
    """From posture to posture, each way smooth (least jerk), 80 to 480 ms, some held."""
    postures = mouthing(spec, rng, symmetric=0.3) if name == "mouthing" else key_poses(spec, rng, steps=1)
    here = spec.rest.copy() if rng.uniform() < 0.5 else next(postures)
    out: list[NDArray[np.float64]] = []
    while len(out) < length:
        there = next(postures) if rng.uniform() < 0.97 else next(uniform(spec, rng))
        steps = int(rng.integers(2, 13))
        s = np.arange(1, steps + 1)[:, None] / steps
        out.extend(here + (there - here) * (10 * s**3 - 15 * s**4 + 6 * s**5))
        out.extend([there] * int(rng.integers(0, 4)))
        here = there
    return np.array(out[:length])


def _wander(spec: RigSpec, rng: np.random.Generator, length: int) -> NDArray[np.float64]:
    """Noise without quick parts about a posture of speech, each motor for itself."""
    centre = next(mouthing(spec, rng))
    slow = rng.uniform(0.4, 3.0)  # Hz
    times = np.arange(-12, 13) / FPS
    bell = np.exp(-0.5 * (times * 2 * np.pi * slow) ** 2)
    noise = rng.normal(size=(length + len(bell) - 1, spec.size))
    smooth = np.stack([np.convolve(one, bell / np.sqrt((bell**2).sum()), "valid") for one in noise.T], 1)
    return np.clip(centre + rng.uniform(0.05, 0.25) * smooth, 0, 1)
