"""What was recorded of a rig, checked before anything is fitted, and split into blocks of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.twin.errors import UsageError
from facetwin.twin.landmarks import POINTS
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

#: s, a recording shorter than this is not split
SHORTEST = 12.0
#: commands, a motor that moved less is not fitted
LEAST = 0.08
#: s and commands: landmarks that stay the same to the bit for so long, while commands go so far, are frozen
FROZEN, MOVED = 1.0, 0.1
#: s: how long a command may take to show: latency, lag, pulses, camera
SHOWN = 0.3
#: s of each block, and which of every four is held out
BLOCK, HELD, EVERY = 4.0, 2, 4
#: s after a change of blocks that neither side uses: the face still remembers
GUARD = 0.3


@dataclass(frozen=True)
class Observed:
    """A recording as arrays.

    Attributes
    ----------
    time : float64 [shape=(T,), s], of each command
    sent : float64 [shape=(T, n), 0..1]
    measured : float64 [shape=(T, n), commands], the servos' own sensors; NaN where there is none
    picture_time : float64 [shape=(F,), s], exposure of each picture on the same clock
    landmarks : float64 [shape=(F, 478, 3), u], aligned; NaN where no face was found
    turn : float64 [shape=(F, 3), rad], turns the seen head back upright; NaN where unknown
    """

    time: Floats
    sent: Floats
    measured: Floats
    picture_time: Floats
    landmarks: Floats
    turn: Floats

    def moved(self) -> Floats:
        """How far each motor was sent, float64 [shape=(n,)], commands."""
        return np.ptp(self.sent, axis=0)

    def found(self) -> NDArray[np.bool_]:
        """Pictures in which a face was found, bool [shape=(F,)]."""
        return np.isfinite(self.landmarks).all((1, 2))

    def split(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Pictures to fit and pictures held out, two bool [shape=(F,)]: blocks of time."""
        since = self.picture_time - self.picture_time[0]
        block = np.floor(since / BLOCK).astype(int)
        held = block % EVERY == HELD
        changed = (block % EVERY == HELD) | (block % EVERY == HELD + 1)
        guard = changed & (since - block * BLOCK < GUARD)
        ok = self.found() & ~guard
        return ok & ~held, ok & held

    def held_out_at(self, time: Floats) -> NDArray[np.bool_]:
        """Whether times (s) fall into held-out blocks, bool [shape=time's]."""
        block = np.floor((np.asarray(time) - self.picture_time[0]) / BLOCK).astype(int)
        return block % EVERY == HELD


def check(data: Observed, spec: RigSpec, where: object = "recording") -> Observed:
    """The same data, or a `UsageError` that says in one line what is wrong with it."""
    n, rows, pictures = spec.size, len(data.time), len(data.picture_time)
    for name, shape in (
        ("time", (rows,)), ("sent", (rows, n)), ("measured", (rows, n)), ("picture_time", (pictures,)),
        ("landmarks", (pictures, POINTS, 3)), ("turn", (pictures, 3)),
    ):  # fmt: skip
        found = np.shape(getattr(data, name))
        if found != shape:
            raise UsageError("wrong shape", where=f"{where}: {name}", found=found, expected=shape)
    if rows < 2 or pictures < 2:
        raise UsageError(
            "nothing to calibrate with", where=where, found=f"{rows} commands, {pictures} pictures",
            hint="facetwin rig excite makes a recording",
        )  # fmt: skip
    for name, what in (("time", "commands"), ("picture_time", "pictures")):
        times = getattr(data, name)
        if not np.isfinite(times).all():
            raise UsageError("not finite", where=f"{where}: time of the {what}", found=float("nan"))
        back = np.flatnonzero(np.diff(times) < 0)
        if len(back):
            at = int(back[0]) + 1
            raise UsageError(
                f"the time of the {what} runs backwards", where=f"{where}: row {at}",
                found=f"{times[at]:.4f} s after {times[at - 1]:.4f} s", hint="record again",
            )  # fmt: skip
    if not np.isfinite(data.sent).all() or data.sent.min() < -1e-6 or data.sent.max() > 1 + 1e-6:
        raise UsageError("not commands", where=f"{where}: sent", expected="finite numbers in [0, 1]")
    overlap = min(data.time[-1], data.picture_time[-1]) - max(data.time[0], data.picture_time[0])
    if overlap < SHORTEST:
        raise UsageError(
            "too short", where=where, found=f"{max(overlap, 0):.1f} s with commands and pictures",
            expected=f"at least {SHORTEST:g} s", hint="facetwin rig excite records enough",
        )  # fmt: skip
    share = float(data.found().mean())
    if share < 0.5:
        raise UsageError(
            "a face was found too seldom", where=f"{where}: landmarks", found=f"{100 * share:.0f} %",
            expected="at least 50 % of the pictures", hint="light, distance, aim of the camera",
        )  # fmt: skip
    check_frozen(data, where)
    if not (data.moved() >= LEAST).any():
        raise UsageError("no motor moved", where=f"{where}: sent", found=f"{data.moved().max():.3f}",
                         expected=f"more than {LEAST:g} of a range", hint="facetwin rig excite")  # fmt: skip
    return data


def check_frozen(data: Observed, where: object) -> None:
    """Raise `UsageError` where landmarks stay the same to the bit while motors move."""
    seen = np.flatnonzero(data.found())
    if len(seen) < 2:
        return
    same = (data.landmarks[seen[1:]] == data.landmarks[seen[:-1]]).all((1, 2))
    start = 0
    for k, still in enumerate([*same, False]):
        if still:
            continue
        first, last = data.picture_time[seen[start]], data.picture_time[seen[k]]
        if last - first >= FROZEN:
            during = data.sent[(data.time >= first) & (data.time <= last - SHOWN)]
            if len(during) and np.ptp(during, axis=0).max() > MOVED:
                raise UsageError(
                    "the camera was frozen", where=where,
                    found=f"the same landmarks from {first:.2f} to {last:.2f} s while motors moved",
                    hint="check the camera and record again",
                )  # fmt: skip
        start = k + 1
