"""Commands executed on a rig and looked at again: landmarks, lip crops, gap and a film of what was seen.

Two ways of looking. By tracker, as on any rig: picture → landmarks → lip crop. By geometry, where the rig
knows its own skin: no picture is searched, and the crop is drawn without the camera's noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.backlog import Backlog
from facetwin.cli.live import looker
from facetwin.cli.perform import FPS, Shot, perform
from facetwin.cli.take import Take, play
from facetwin.cli.watcher import Watcher
from facetwin.hardware.rig import Rig
from facetwin.policies.closed_loop import KEPT, Seen
from facetwin.policies.lip_image import lip_crop
from facetwin.policies.lipsync_takes import Capture
from facetwin.policies.video import VideoWriter
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.face import load_face
from facetwin.twin.kinematics import Kinematics
from facetwin.twin.lip_camera import LipCamera
from facetwin.twin.skin.lip_teeth import LipRuler
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
WAYS = ("tracker", "geometry")


class Eye(Protocol):
    """A way of looking."""

    def watch(
        self, rig: Rig, commands: Floats, film: Path | None, seed: int, timing: RigSpec | None = None
    ) -> Capture:
        """Play commands [shape=(T, motors), 0..1] at 25 a second on an activated rig and look.

        `timing`: as `perform` has it.
        """
        ...


class TrackerEye:
    """Looks as one must on a rig: with the tracker."""

    def __init__(self, rig: Rig, stack: ExitStack) -> None:
        self._watcher = looker(rig, stack)

    def watch(
        self, rig: Rig, commands: Floats, film: Path | None, seed: int, timing: RigSpec | None = None
    ) -> Capture:
        """As `Eye` has it; raises `FaceTwinError` where the face was never found."""
        rig.home(seed)
        take, keep = Take(), Keeping(self._watcher)
        rows: list[int] = []
        with _film(film, rig) as write:

            def shot(one: Shot) -> None:
                rows.append(keep.puts - 1)  # a slow camera shows the same picture twice
                write(one.frame.image)

            play(rig, keep, iter([commands]), take, shot=shot, timing=timing)  # type: ignore[arg-type]
        seen = take.seen()
        if not seen.found.any():
            raise FaceTwinError("the face was never found in the mirror", hint="look at the camera's picture")
        crops = _held(keep.crops)[rows]
        return Capture(seen, crops, np.stack(take.asked), np.stack(take.sent))


class GeometryEye:
    """Looks at the skin itself, which only a simulated rig knows."""

    def __init__(self, rig: Rig, stack: ExitStack) -> None:
        if not rig.capabilities.truth:
            raise UsageError("this rig does not know its own skin", where="--landmarks",
                             found="geometry", expected="tracker")  # fmt: skip
        self._camera = stack.enter_context(LipCamera(body_of(rig), solver="fast" if _fast(rig) else "exact"))
        self._kinematics = Kinematics(rig.spec, load_face())
        self._ruler = LipRuler(load_face())

    def watch(
        self, rig: Rig, commands: Floats, film: Path | None, seed: int, timing: RigSpec | None = None
    ) -> Capture:
        """As `Eye` has it."""
        rig.home(seed)
        shapes, places, gaps, still = [], [], [], []
        asked, sent = [], []
        with _film(film, rig) as write:
            for one in perform(rig, iter([commands]), timing):
                truth = one.frame.truth or {}
                if one.time < 0:
                    still.append((truth["vertices"], truth["position"]))
                    continue
                asked += [tick.asked for tick in one.ticks if tick.time >= 0]
                sent += [tick.sent for tick in one.ticks if tick.time >= 0]
                shapes.append(truth["vertices"])
                places.append(truth["position"])
                gaps.append(truth["gap_mm"])
                write(one.frame.image)
        rest = self._camera.show(np.stack([still[-1][0]]), self._kinematics.poses(still[-1][1][None]))
        views = self._camera.show(np.stack(shapes), self._kinematics.poses(np.stack(places)))
        found = np.ones(len(shapes), bool)
        lips = [asdict(self._ruler(shape)) for shape in shapes]
        lengths = {name: np.array([1e3 * one[name] for one in lips], np.float32) for name in lips[0]}
        points = views.landmarks[:, KEPT]
        seen = Seen(rest.landmarks[0], points, found, np.array(gaps, np.float32), lengths)
        return Capture(
            seen, views.crops, np.stack(asked).astype(np.float32), np.stack(sent).astype(np.float32)
        )


def open_eye(way: str, rig: Rig, stack: ExitStack) -> Eye:
    """A way of looking by name, closed with `stack`."""
    if way not in WAYS:
        raise UsageError("no such way of looking", where="--landmarks", found=way, expected=" or ".join(WAYS))
    return TrackerEye(rig, stack) if way == "tracker" else GeometryEye(rig, stack)


def look_at(
    pictures: Iterable[Image], rest: Image, watcher: Watcher | Backlog, *, mirrored: bool
) -> tuple[Seen, Image]:
    """Pictures of a reference by the tracker: landmarks, and lip crops uint8 [shape=(T, 128, 128, 3)].

    `rest` is a picture of the face at rest. Raises `FaceTwinError` where no face is found in it.
    """
    keep, take = Keeping(watcher), Take()
    keep.put(rest, mirrored)
    take.rest_pixels = [pixels for pixels in keep.finish() if pixels is not None]
    take.settle()
    assert take.rest is not None
    for picture in pictures:
        keep.put(picture, mirrored)
        for pixels in keep.ready():
            take.see(pixels)
    for pixels in keep.finish():
        take.see(pixels)
    return Seen(take.rest, np.stack(take.points), np.array(take.found)), _held(keep.crops)[1:]


def _held(crops: Sequence[Image | None]) -> Image:
    """Crops with those that are missing taken from before: uint8 [shape=(T, 128, 128, 3)]."""
    last = next(crop for crop in crops if crop is not None)
    out = []
    for crop in crops:
        last = last if crop is None else crop
        out.append(last)
    return np.stack(out)


class Keeping:
    """A watcher that also cuts the lips out of each picture as its landmarks come.

    Attributes
    ----------
    puts : int, pictures handed over
    crops : uint8 [each shape=(128, 128, 3)] or None where no face was found, in the order of `put`
    """

    def __init__(self, watcher: Watcher | Backlog) -> None:
        self._inner = watcher
        self._waiting: list[tuple[Image, bool]] = []
        self.puts = 0
        self.crops: list[Image | None] = []

    def put(self, image: Image, mirrored: bool = False) -> None:
        """Hand over a picture."""
        self._waiting.append((image, mirrored))
        self.puts += 1
        self._inner.put(image, mirrored)

    def ready(self) -> Iterator[Floats | None]:
        """What has been seen by now."""
        return self._cut(self._inner.ready())

    def finish(self) -> Iterator[Floats | None]:
        """Wait for the rest."""
        return self._cut(self._inner.finish())

    def _cut(self, answers: Iterator[Floats | None]) -> Iterator[Floats | None]:
        for pixels in answers:
            image, mirrored = self._waiting.pop(0)
            self.crops.append(None if pixels is None else lip_crop(image, pixels, mirrored=mirrored))
            yield pixels


@contextmanager
def _film(path: Path | None, rig: Rig) -> Iterator[Callable[[Image], None]]:
    """Where pictures go: to a film under `path`, or nowhere without one."""
    if path is None:
        yield lambda image: None
        return
    assert rig.capabilities.camera is not None
    height, width, _ = rig.capabilities.camera
    with VideoWriter(path, FPS, (width, height)) as writer:
        yield writer.write


def inner(rig: Rig) -> Rig:
    """The rig behind its safety layers."""
    while hasattr(rig, "inner"):
        rig = rig.inner
    return rig


def body_of(rig: Rig) -> RigSpec:
    """The table that a simulated rig simulates; of others the table it goes by."""
    return getattr(inner(rig), "body", rig.spec)


def _fast(rig: Rig) -> bool:
    return str(getattr(inner(rig), "solver", "exact")).startswith("fast")
