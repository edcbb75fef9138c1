"""Controllers behind one small interface: what the robot is to look like → commands.

A `ReferenceClip` is the *ideal robot* saying something: the twin's skin deformed without motors, as
landmarks by geometry and, where a method looks at pictures, as latents of its lip crops. A `Controller`
answers with one command a picture: **where the motors are to stand when that picture is seen**. Whoever
plays them tells each motor earlier, by its latency and lag (`facetwin.cli.perform` does, on the simulated rig
and on real ones); `told_early` is for rigs that are a known number of whole pictures late.

Whole clips go through `commands`; in real time `stream` takes pieces of any size, also single pictures, and
answers `ahead` pictures later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies.controller import SpeechController
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import load_face
from facetwin.twin.geometry import GeometricLandmarks
from facetwin.twin.landmarks import POINTS, indices
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float32]
LATENTS = 16
FPS = 25.0
#: samples of sound a second
RATE = 16_000
#: pictures that `controller` hands to the landmark inverse at once
PIECE = 750


@dataclass(frozen=True)
class ReferenceClip:
    """What the robot is to look like, picture by picture, and the sound that goes with it.

    Attributes
    ----------
    name : str
    landmarks : float32 [shape=(T, 478, 3), u], of the ideal robot, by geometry (`GeometricLandmarks.aligned`)
    latents : float32 [shape=(T, 16)], of its lip crops, or None
    samples : float32 [shape=(n,)], mono 16 kHz, sample 0 at the first picture, or None
    gap_mm : float32 [shape=(T,), mm], the ideal robot's lip gap by geometry, or None
    fps : float, pictures a second
    vae : str, sha-256 of the weights of the encoder that made the latents; "" where that is not known
    """

    name: str
    landmarks: Floats
    latents: Floats | None = None
    samples: Floats | None = None
    gap_mm: Floats | None = None
    fps: float = FPS
    vae: str = ""

    def __post_init__(self) -> None:
        _check(self.landmarks, (POINTS, 3), None, self.name, "landmarks")
        pictures = len(self.landmarks)
        if self.latents is not None:
            _check(self.latents, (LATENTS,), pictures, self.name, "latents")
        if self.gap_mm is not None:
            _check(self.gap_mm, (), pictures, self.name, "gap_mm")
        if self.samples is not None:
            _check(self.samples, (), None, self.name, "samples")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise FaceTwinError("bad rate of pictures", where=self.name, found=self.fps, expected="above 0")

    def __len__(self) -> int:
        return len(self.landmarks)

    def __getitem__(self, part: slice) -> ReferenceClip:
        """Pictures of a slice without a step, and their sound."""
        start, stop, step = part.indices(len(self))
        if step != 1:
            raise UsageError("a clip is cut without a step", where=self.name, found=step)
        a, b = (round(k / self.fps * RATE) for k in (start, max(start, stop)))

        def cut(rows: Floats | None) -> Floats | None:
            return None if rows is None else rows[start:stop]

        sound = None if self.samples is None else self.samples[a : None if stop == len(self) else b]
        return ReferenceClip(
            self.name, self.landmarks[start:stop], cut(self.latents), sound, cut(self.gap_mm), self.fps,
            self.vae,
        )  # fmt: skip

    def displacement(self) -> Floats:
        """Motion of the 63 speech points from the robot's rest, float32 [shape=(T, 63, 2), u]."""
        ids = indices("speech63")
        out: Floats = self.landmarks[:, ids, :2] - rest_face()[ids, :2]
        return out

    def need(self, part: str) -> Floats:
        """`latents`, `samples` or `gap_mm`; raises one line where the clip has none."""
        found: Floats | None = getattr(self, part)
        if found is None:
            raise FaceTwinError(
                f"a reference without {part}", where=self.name, hint="make the reference with them"
            )
        return found


@cache
def rest_face() -> Floats:
    """The twin's face at rest by geometry, float32 [shape=(478, 3), u]: where displacement counts from."""
    face = load_face()
    out = GeometricLandmarks(face).aligned(face.rest, {})
    out.flags.writeable = False
    return out


class Stream(Protocol):
    """A controller at work in real time."""

    def push(self, piece: ReferenceClip) -> Floats:
        """The next pictures of the reference -> the commands they complete, float32 [shape=(k, n)]."""
        ...

    def finish(self) -> Floats:
        """The last `ahead` commands, when the reference is over."""
        ...


@runtime_checkable
class Controller(Protocol):
    """A way from what is to be seen to commands.

    Attributes
    ----------
    name : str, as in tables
    ahead : int, pictures of the reference that must be known beyond the one answered
    """

    name: str
    ahead: int

    def commands(self, reference: ReferenceClip) -> Floats:
        """Where the motors are to stand at each picture, float32 [shape=(T, n), 0..1], from rest anew."""
        ...

    def stream(self) -> Stream:
        """The same, fed in pieces."""
        ...


class LandmarkInverse:
    """The landmark inverse model, refined through the self-model (`facetwin.policies.controller`).

    Its nets know what the tracker sees of the face; what is wanted reaches it as displacement from rest.
    """

    name = "landmark inverse"
    ahead = 0

    def __init__(self, spec: RigSpec, controller: SpeechController | None = None) -> None:
        self.spec = spec
        self.controller = controller or SpeechController(spec)

    def commands(self, reference: ReferenceClip) -> Floats:
        """As `Controller` has it, in pieces of 30 s."""
        stream = self.stream()
        starts = range(0, len(reference), PIECE)
        pieces = [stream.push(reference[k : k + PIECE]) for k in starts]
        return np.concatenate([np.zeros((0, self.spec.size), np.float32), *pieces])

    def stream(self) -> Stream:
        """Piece by piece; the last command of one is what the next is smooth from."""
        self.controller.reset()
        return Pieces(lambda piece: self.controller.commands(piece.displacement()), self.spec.size)


class Pieces:
    """A stream that answers each piece at once."""

    def __init__(self, answer: Callable[[ReferenceClip], Floats], size: int) -> None:
        self._answer, self._size = answer, size

    def push(self, piece: ReferenceClip) -> Floats:
        """Commands of this piece."""
        return self._answer(piece) if len(piece) else self.finish()

    def finish(self) -> Floats:
        """Nothing is left."""
        return np.zeros((0, self._size), np.float32)


def told_early(commands: ArrayLike, pictures: int) -> Floats:
    """Commands [shape=(T, n)] so many pictures earlier, the last one held: for a rig that is that much late.

    >>> told_early([[0.0], [1.0], [2.0]], 1)[:, 0].tolist()
    [1.0, 2.0, 2.0]
    """
    rows = np.asarray(commands, np.float32)
    if pictures < 0:
        raise UsageError("commands are told early, not late", where="told_early()", found=pictures)
    if not len(rows):
        return rows
    return rows[np.minimum(np.arange(len(rows)) + pictures, len(rows) - 1)]


#: controllers by name: what `controller` knows
NAMES = ("transformer", "transformer-refined", "transformer-speech", "inverse", "gradient")


def controller(name: str, spec: RigSpec) -> Controller:
    """A controller of a rig by name, one of `NAMES`, with the weights that ship for it."""
    if name == "inverse":
        return LandmarkInverse(spec)
    if name == "gradient":
        from facetwin.policies.gradient_inverse import GradientInverse

        return GradientInverse(spec)
    if name == "transformer-refined":
        from facetwin.policies.refined import RefinedTransformer

        return RefinedTransformer(spec)
    if name in ("transformer", "transformer-speech"):
        from facetwin.policies.action_transformer import ActionController

        return ActionController.load(spec, inputs="speech" if name.endswith("speech") else "latents")
    raise UsageError("no such controller", found=name, expected="one of " + ", ".join(NAMES))


def _check(array: Floats, shape: tuple[int, ...], pictures: int | None, name: str, what: str) -> None:
    found = getattr(array, "shape", None)
    good = isinstance(array, np.ndarray) and found is not None and len(found) == 1 + len(shape)
    good = good and array.shape[1:] == shape and (pictures is None or len(array) == pictures)
    if not good or not np.issubdtype(array.dtype, np.floating):
        raise FaceTwinError(
            "not a reference", where=f"{name}: {what}", found=found,
            expected=("T" if pictures is None else pictures, *shape),
        )  # fmt: skip
    if not np.isfinite(array).all():
        raise FaceTwinError("not finite", where=f"{name}: {what}", hint="fill in pictures without a face")
