"""What the transformer must beat: ways to commands that learn nothing of the past or of the rig.

Each is a `Controller` (`facetwin.policies.controllers`), given every advantage: nearest neighbours search the
*whole* set of babbled poses, with landmarks by geometry and latents without noise; the amplitude's gain is
fitted to the best commands known for the very clips that are scored; the frozen face is the constant command
that does best on each clip, known only afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies.baselines import loudness
from facetwin.policies.controllers import Pieces, ReferenceClip, Stream
from facetwin.policies.lip_data import postures
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import indices
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float32]
#: a set of poses as large as the published one
POSES = 20_000
CHUNK = 2000


@dataclass(frozen=True)
class Bank:
    """Babbled poses and what they look like.

    Attributes
    ----------
    commands : float32 [shape=(N, motors)]
    lips : float32 [shape=(N, 80), u], `lips40` by geometry
    latents : float32 [shape=(N, 16)]
    """

    commands: Floats
    lips: Floats
    latents: Floats

    def __len__(self) -> int:
        return len(self.commands)

    def joined(self, other: Bank) -> Bank:
        """Both as one."""
        return Bank(*(np.concatenate([getattr(self, k), getattr(other, k)]) for k in vars(self)))


#: latents as they are compared, `Vae.standard`
Standard = Callable[[Floats], Floats]
#: what commands [shape=(N, motors)] look like: landmarks float [shape=(N, 478, 3), u] and latents (N, 16)
Look = Callable[[Floats], tuple[NDArray[np.floating], NDArray[np.floating]]]


def babbled(spec: RigSpec, count: int = POSES, *, speech: Floats | None = None, seed: int = 0) -> Floats:
    """Poses as latents are learned from (`lip_data.postures`), mouth only: float32 [shape=(N, motors)].

    Half of them symmetric; `speech`, spoken commands [shape=(n, motors)], has its share where it is given.
    Eyes, lids, brows and neck rest.
    """
    if count < 1:
        raise UsageError("a set without a pose", where="babbled()", found=count, expected="1 or more")
    source = postures(spec, np.random.default_rng((seed, 8)), speech)
    poses = np.array([next(source)[0] for _ in range(count)])
    still = np.repeat(np.asarray(spec.rest)[None], count, 0)
    mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])
    still[:, mouth] = np.clip(poses, *spec.soft_limits)[:, mouth]
    return still.astype(np.float32)


def bank_of(commands: ArrayLike, look: Look, tell: Callable[[int], object] = lambda done: None) -> Bank:
    """Look at poses [shape=(N, motors)], piece by piece; `tell` hears how many are done."""
    rows = np.asarray(commands, np.float32)
    lips, latents = [], []
    for k in range(0, len(rows), CHUNK):
        landmarks, codes = look(rows[k : k + CHUNK])
        lips.append(flat_lips(landmarks))
        latents.append(np.asarray(codes, np.float32))
        tell(min(k + CHUNK, len(rows)))
    return Bank(rows, np.concatenate(lips), np.concatenate(latents))


def flat_lips(landmarks: ArrayLike) -> Floats:
    """`lips40` of landmarks [shape=(N, 478, 3), u] in a row: float32 [shape=(N, 80), u]."""
    points = np.asarray(landmarks)[:, indices("lips40"), :2]
    return np.ascontiguousarray(points.reshape(len(points), -1), np.float32)


class Nearest:
    """The pose of the whole set that looks most like each picture, by landmarks or by latents."""

    ahead = 0

    def __init__(self, bank: Bank, by: str, standard: Standard) -> None:
        self.name, self.bank = f"nearest neighbour, {by}", bank
        self._known, self._goal = likeness(bank, by, standard)

    def commands(self, reference: ReferenceClip) -> Floats:
        """Of each picture by itself, float32 [shape=(T, motors)]."""
        return self.bank.commands[nearest(self._known, self._goal(reference))]

    def stream(self) -> Stream:
        """Each picture at once."""
        return Pieces(self.commands, self.bank.commands.shape[1])


def likeness(bank: Bank, by: str, standard: Standard) -> tuple[Floats, Callable[[ReferenceClip], Floats]]:
    """What a set is searched by, (N, d), and the same of a reference, (T, d): landmarks or latents."""
    if by == "landmarks":
        return bank.lips, lambda reference: flat_lips(reference.landmarks)
    if by == "latents":
        return standard(bank.latents), lambda reference: standard(reference.need("latents"))
    raise UsageError("no such likeness", where="baselines", found=by, expected="landmarks or latents")


def nearest(known: Floats, goal: Floats) -> NDArray[np.intp]:
    """Row of `known` (N, d) nearest to each of `goal` (T, d), searched over all: intp [shape=(T,)]."""
    middle = known.mean(0)  # keeps the squares below small
    a, b = known - middle, goal - middle
    length = (a**2).sum(1)
    rows = [
        (length[None] - 2 * b[k : k + 64] @ a.T).argmin(1) for k in range(0, len(b), 64)
    ]  # (64, N) at a time
    return np.concatenate([np.zeros(0, np.intp), *rows])


class Random:
    """A random pose of the set for each picture."""

    name, ahead = "random", 0

    def __init__(self, bank: Bank, seed: int = 0) -> None:
        self.bank, self.seed = bank, seed

    def commands(self, reference: ReferenceClip) -> Floats:
        """Drawn anew for each clip, the same for the same seed and name."""
        rng = np.random.default_rng([self.seed, *reference.name.encode()])
        return self.bank.commands[rng.integers(len(self.bank), size=len(reference))]

    def stream(self) -> Stream:
        """Each picture at once."""
        return Pieces(self.commands, self.bank.commands.shape[1])


class Frozen:
    """The one pose that is nearest to a whole clip on average, known only afterwards."""

    ahead = 0

    def __init__(self, bank: Bank, by: str, standard: Standard) -> None:
        self.name, self.bank = f"frozen best face, {by}", bank
        self._known, self._goal = likeness(bank, by, standard)
        self._points = 40 if by == "landmarks" else 1

    def commands(self, reference: ReferenceClip) -> Floats:
        """The same command for all pictures, float32 [shape=(T, motors)]."""
        known, goal = self._known, self._goal(reference)
        if not len(goal):
            return np.zeros((0, self.bank.commands.shape[1]), np.float32)
        total = np.zeros(len(known))
        for one in goal:  # mean distance of each point, as it is scored
            apart = (known - one).reshape(len(known), self._points, -1)
            total += np.sqrt((apart**2).sum(2)).mean(1)
        return np.repeat(self.bank.commands[int(total.argmin())][None], len(goal), 0)

    def stream(self) -> Stream:
        """There is none: it must know the whole clip."""
        raise FaceTwinError("the best frozen face is known only afterwards", where=self.name)


class Amplitude:
    """Loudness times a gain, plus a constant, for jaw and lips.

    Parameters
    ----------
    gain : float64 [shape=(2, motors)], of loudness and of one
    """

    name, ahead = "audio amplitude", 0

    def __init__(self, gain: NDArray[np.floating]) -> None:
        self.gain = np.asarray(gain, np.float64)

    @classmethod
    def fit(cls, references: Iterable[ReferenceClip], commands: Sequence[Floats], spec: RigSpec) -> Amplitude:
        """Gain and constant that suit known good commands best (least squares), the other motors at rest."""
        sound = np.concatenate([_loud(one) for one in references])
        x = np.column_stack([sound, np.ones(len(sound))])
        gain = np.linalg.lstsq(x, np.concatenate(commands).astype(np.float64), rcond=None)[0]  # (2, motors)
        mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])
        rest = np.zeros_like(gain)
        rest[1] = spec.rest
        rest[:, mouth] = gain[:, mouth]
        return cls(rest)

    def commands(self, reference: ReferenceClip) -> Floats:
        """From the sound alone, float32 [shape=(T, motors)]."""
        loud = _loud(reference)
        rows = np.column_stack([loud, np.ones(len(loud))]) @ self.gain
        return np.clip(rows, 0, 1).astype(np.float32)

    def stream(self) -> Stream:
        """Each picture at once; its neighbours' sound is that of the piece."""
        return Pieces(self.commands, self.gain.shape[1])


def _loud(reference: ReferenceClip) -> NDArray[np.float64]:
    """Root mean square of each picture's sound and its neighbours', float64 [shape=(T,)]."""
    return loudness(reference.need("samples"), len(reference))[:, 0].astype(np.float64)
