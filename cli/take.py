"""A take: what is kept of a performance while it is played and looked at, small enough for an hour of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.backlog import Backlog
from facetwin.cli.perform import FPS, Command, Shot, perform
from facetwin.cli.watcher import Watcher
from facetwin.hardware.rig import Rig
from facetwin.policies.closed_loop import KEPT, Seen
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import align, fit_unit, head_turn

if TYPE_CHECKING:
    from facetwin.twin.skin.lip_teeth import LipRuler
    from facetwin.twin.spec import RigSpec

#: s: further from a real camera's pictures the face is not known: lines between them cut quick motions
NEAR = 0.03


@dataclass
class Take:
    """All that is kept of a performance, row after row."""

    rest_pixels: list[NDArray[np.float32]] = field(default_factory=list)
    rest: NDArray[np.float32] | None = None
    unit: float = 1.0
    points: list[NDArray[np.float32]] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    lips: list[dict[str, float]] = field(default_factory=list)  # mm, where the rig knows its skin
    asked: list[NDArray[np.float32]] = field(default_factory=list)
    sent: list[NDArray[np.float32]] = field(default_factory=list)
    target: list[NDArray[np.float32]] = field(default_factory=list)
    lost: list[dict[str, NDArray[np.float32]]] = field(default_factory=list)  # u, what reach cut, by part
    energy: list[NDArray[np.float64]] = field(default_factory=list)
    exposed: list[float] = field(default_factory=list)  # s of the sound, of each picture
    live: bool = False  # pictures came when the camera took them, not when they were due
    late: float = 0.0  # s, by how much the worst picture missed its time

    def __len__(self) -> int:
        return len(self.points)

    def see(self, pixels: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """Take in one picture's landmarks; returns them aligned, float32 [shape=(478, 3), u]."""
        aligned = None if pixels is None else align(pixels, unit=self.unit)
        if aligned is not None:
            self.points.append(aligned[KEPT])
        else:
            before = self.points[-1] if self.points else self.rest[KEPT]  # type: ignore[index]
            self.points.append(before)
        self.found.append(aligned is not None)
        return aligned

    def settle(self) -> None:
        """Make the rest face of the pictures taken before the sound."""
        if not self.rest_pixels:
            raise FaceTwinError(
                "no face in the mirror, though the robot is at rest",
                hint="look at the camera's picture; a larger --size may help",
            )
        still = np.stack(self.rest_pixels)
        self.unit = fit_unit(still)
        self.rest = np.median(align(still, unit=self.unit), axis=0).astype(np.float32)

    def seen(self) -> Seen:
        """What the mirror showed, for the scores."""
        if self.rest is None:
            raise FaceTwinError("nothing was played")
        gap = np.array(self.gap, np.float32)
        known = None if np.isnan(gap).any() else gap
        points, found = np.stack(self.points), np.array(self.found)
        if self.live:
            points, found = _in_time(points, found, np.array(self.exposed))
        lips = None
        if len(self.lips) == len(points):
            lips = {key: np.array([one[key] for one in self.lips], np.float32) for key in self.lips[0]}
        return Seen(self.rest, points, found, known, lips)


def _ruler(rig: Rig) -> LipRuler | None:
    """What measures the skin of a rig that knows it."""
    if not rig.capabilities.truth:
        return None
    from facetwin.twin.face import load_face
    from facetwin.twin.skin.lip_teeth import LipRuler

    return LipRuler(load_face())


def _in_time(
    points: NDArray[np.float32], found: NDArray[np.bool_], exposed: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Points [shape=(T, P, 3)] seen when they were exposed (s) → at 25 a second; found where one was near."""
    due = np.arange(len(points)) / FPS
    times, rows = np.unique(np.where(found, exposed, np.nan), return_index=True)
    rows, times = rows[np.isfinite(times)], times[np.isfinite(times)]
    if len(rows) < 2:
        return points, found
    place = np.clip(np.interp(due, times, np.arange(len(times))), 0, len(times) - 1.000001)
    low = place.astype(np.intp)
    share = (place - low)[:, None, None].astype(np.float32)
    moved = (1 - share) * points[rows[low]] + share * points[rows[low + 1]]
    apart = np.minimum(np.abs(due - times[low]), np.abs(times[low + 1] - due))
    return moved.astype(np.float32), apart < NEAR


def play(
    rig: Rig,
    watcher: Watcher | Backlog,
    pieces: Iterator[Command],
    take: Take,
    *,
    shot: Callable[[Shot], None] | None = None,
    seen: Callable[[int, NDArray[np.float32] | None, NDArray[np.float32] | None], object] | None = None,
    timing: RigSpec | None = None,
) -> None:
    """Play commands on an activated rig, look at every picture, and fill `take`.

    Parameters
    ----------
    pieces : commands float [shape=(k, n), 0..1] at 25 a second
    shot : called with each picture of the speech, as it is taken
    seen : called with the number of a picture, its landmarks [shape=(478, 3), u] and the head's turn
        [shape=(3,), rad], or None and None, as they come
    timing : as `perform` has it
    """
    waiting: deque[list[float]] = deque()  # times of the shots that show each picture
    last: NDArray[np.float32] | None = None
    newest = -np.inf
    take.live = not rig.clock.simulated
    ruler = _ruler(rig)

    def learn(answers: Iterator[NDArray[np.float32] | None]) -> None:
        nonlocal last
        for pixels in answers:
            last = pixels
            for time in waiting.popleft():
                take_in(time, pixels)

    def take_in(time: float, pixels: NDArray[np.float32] | None) -> None:
        if time < 0:
            if pixels is not None:
                take.rest_pixels.append(pixels)
            return
        if take.rest is None:
            take.settle()
        aligned = take.see(pixels)
        if seen is not None:
            seen(len(take) - 1, aligned, None if pixels is None else head_turn(pixels))

    for one in perform(rig, pieces, timing):
        if take.live and one.frame.time <= newest:  # a camera slower than 25 a second: nothing new to see
            if waiting:
                waiting[-1].append(one.time)
            else:
                take_in(one.time, last)
        else:
            newest = one.frame.time
            watcher.put(one.frame.image, one.frame.mirrored)
            waiting.append([one.time])
        if one.time >= 0:
            for tick in one.ticks:
                if tick.time >= 0:
                    take.asked.append(tick.asked.astype(np.float32))
                    take.sent.append(tick.sent.astype(np.float32))
            take.late = max(take.late, abs(one.exposed - one.time))
            take.exposed.append(one.exposed)
            truth = one.frame.truth or {}
            take.gap.append(float(truth.get("gap_mm", np.nan)))
            skin = truth.get("vertices")
            if ruler is not None and skin is not None and skin.shape == ruler.shape:
                take.lips.append({k: 1e3 * v for k, v in asdict(ruler(skin)).items()})
            if shot is not None:
                shot(one)
        if not take.live or round(one.time * FPS) % 5 == 0:
            learn(watcher.ready())
    learn(watcher.finish())
