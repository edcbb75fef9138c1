"""A take: what is kept of a performance while it is played and looked at, small enough for an hour of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.perform import Command, Shot, perform
from facetwin.cli.watcher import Watcher
from facetwin.hardware.rig import Rig
from facetwin.policies.closed_loop import KEPT, Seen
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import align, fit_unit, head_turn


@dataclass
class Take:
    """All that is kept of a performance, row after row."""

    rest_pixels: list[NDArray[np.float32]] = field(default_factory=list)
    rest: NDArray[np.float32] | None = None
    unit: float = 1.0
    points: list[NDArray[np.float32]] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    asked: list[NDArray[np.float32]] = field(default_factory=list)
    sent: list[NDArray[np.float32]] = field(default_factory=list)
    target: list[NDArray[np.float32]] = field(default_factory=list)
    energy: list[NDArray[np.float64]] = field(default_factory=list)
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
        return Seen(self.rest, np.stack(self.points), np.array(self.found), known)


def play(
    rig: Rig,
    watcher: Watcher,
    pieces: Iterator[Command],
    take: Take,
    *,
    shot: Callable[[Shot], None] | None = None,
    seen: Callable[[int, NDArray[np.float32] | None, NDArray[np.float32] | None], object] | None = None,
) -> None:
    """Play commands on an activated rig, look at every picture, and fill `take`.

    Parameters
    ----------
    pieces : commands float [shape=(k, n), 0..1] at 25 a second
    shot : called with each picture of the speech, as it is taken
    seen : called with the number of a picture, its landmarks [shape=(478, 3), u] and the head's turn
        [shape=(3,), rad], or None and None, as they come
    """
    waiting: deque[float] = deque()

    def learn(answers: Iterator[NDArray[np.float32] | None]) -> None:
        for pixels in answers:
            if waiting.popleft() < 0:
                if pixels is not None:
                    take.rest_pixels.append(pixels)
                continue
            if take.rest is None:
                take.settle()
            aligned = take.see(pixels)
            if seen is not None:
                seen(len(take) - 1, aligned, None if pixels is None else head_turn(pixels))

    for one in perform(rig, pieces):
        watcher.put(one.frame.image, one.frame.mirrored)
        waiting.append(one.time)
        if one.time >= 0:
            for tick in one.ticks:
                if tick.time >= 0:
                    take.asked.append(tick.asked.astype(np.float32))
                    take.sent.append(tick.sent.astype(np.float32))
            take.late = max(take.late, abs(one.exposed - one.time))
            take.gap.append(float((one.frame.truth or {}).get("gap_mm", np.nan)))
            if shot is not None:
                shot(one)
        learn(watcher.ready())
    learn(watcher.finish())
