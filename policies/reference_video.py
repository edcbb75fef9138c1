"""Reference videos: the ideal robot saying something, from sound or from a video of a person.

Speech → landmarks (or a person → landmarks, tracked) → the twin's skin without motors (`IdealSkin`) → the
camera that sees the rig. What comes out is what a controller is to make the rig look like: pictures, crops of
the lips, landmarks, gap and, with a `Vae`, latents. The human → robot step is equation (1) of the summer 2022
report with α = 1: displacement from the talker's rest face is added to the robot's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies import audio, video
from facetwin.policies.speech import SpeechModel
from facetwin.policies.speech_train import rest_face
from facetwin.policies.tracking import LENIENT, track_clip
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import indices, opening
from facetwin.twin.lip_camera import LipCamera, LipViews
from facetwin.twin.raster import RasterCamera
from facetwin.twin.skin.ideal import IdealMotion, IdealSkin
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float32]

#: pictures a second of all landmarks in policies
FPS = 25.0


@dataclass(frozen=True)
class Wish:
    """What is to be said: displacement of `speech63` from rest (T, 63, 2) in u at 25 fps, and who says it."""

    displacement: Floats
    source: str


@dataclass(frozen=True)
class Reference:
    """The ideal robot's pictures at 25 fps.

    Attributes
    ----------
    wish : Wish
    motion : IdealMotion, T shapes
    views : LipViews, T crops, landmarks in u, gaps
    """

    wish: Wish
    motion: IdealMotion
    views: LipViews

    def __len__(self) -> int:
        return len(self.views)


def wish_of(path: str | Path, model: SpeechModel | None = None) -> Wish:
    """What a file asks of a face: of the person in it where it shows one, else of its sound.

    Raises `FaceTwinError` where a video shows no face, or a file holds neither.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError("no such file", where=path, hint="give a recording or a video of a person")
    if _shows_something(path):
        return Wish(person(path), f"person in {path.name}")
    sound = audio.load(path)
    model = model or SpeechModel.load(SpeechModel.shipped(80, "many"))
    return Wish(model(sound.samples), f"sound of {path.name}, speech model of {model.shape.lookahead} ms")


def person(path: str | Path) -> Floats:
    """Displacement of a person's `speech63` from rest, float32 [shape=(T, 63, 2), u], at 25 fps.

    Rest is the median face of silence with shut lips; of someone who is never silent, of the pictures in
    which the lips are nearest to shut.
    """
    tracked = track_clip(path, LENIENT)
    clip, count = tracked.clip, max(1, round(len(tracked.times) / tracked.fps * FPS))
    at = np.interp(np.arange(count) / FPS, tracked.times, np.arange(len(tracked.times)))
    low = np.floor(at).astype(int)
    high, share = np.minimum(low + 1, len(clip) - 1), (at - low)[:, None, None]
    faces = (clip.landmarks[low] * (1 - share) + clip.landmarks[high] * share).astype(np.float32)
    try:
        rest = rest_face([clip])
    except FaceTwinError:
        openings = opening(clip.landmarks)
        rest = np.median(clip.landmarks[openings <= np.quantile(openings, 0.1)], axis=0)
    ids = indices("speech63")
    return (faces[:, ids, :2] - rest[ids, :2]).astype(np.float32)


def make_reference(
    wish: Wish,
    spec: RigSpec,
    *,
    skin: IdealSkin | None = None,
    camera: LipCamera | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Reference:
    """The ideal robot doing what is wished; `skin` and `camera` of the same rig may be handed in."""
    motion = (skin or IdealSkin(spec))(wish.displacement, progress=progress)
    if camera is not None:
        return Reference(wish, motion, camera.show(motion.vertices, motion.poses))
    with LipCamera(spec) as own:
        return Reference(wish, motion, own.show(motion.vertices, motion.poses))


def pictures(reference: Reference, spec: RigSpec, size: int) -> Iterator[NDArray[np.uint8]]:
    """What the mirror camera would see, uint8 [shape=(size, size, 3)], without noise, one after another."""
    from facetwin.twin.face import load_face

    motion = reference.motion
    with RasterCamera(load_face(), spec.cameras["mirror"], size=(size, size)) as camera:
        for t in range(len(reference)):
            yield camera.render(motion.vertices[t], {link: pose[t] for link, pose in motion.poses.items()})


def closures(wish: Wish, gap_mm: ArrayLike, *, shut: float = 0.02) -> tuple[NDArray[np.bool_], Floats]:
    """Pictures in which the lips are to be shut (T,), and how far they are open there, mm."""
    ids = indices("speech63").tolist()
    apart = wish.displacement[:, ids.index(13), 1] - wish.displacement[:, ids.index(14), 1]
    asked = apart < shut
    return asked, np.asarray(gap_mm, np.float32)[asked]


def _shows_something(path: Path) -> bool:
    try:
        video.probe(path)
    except FaceTwinError:
        return False
    return True
