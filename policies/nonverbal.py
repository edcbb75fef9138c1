"""What speech does not tell: blinks, gaze, slow motion of head and brows, added to the mouth's commands.

Sound in pieces in, commands of the other motors out, one row a picture (25 a second); the same seed and
sound give the same rows, however the sound is cut. Which motor does what stands in the rig table (its
group and the part that it turns), so any rig will do; a rig without such a motor simply does less of it.
Lids follow the eyes; the eyes take back what the head does, as people's do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetwin.policies.blinks import Blinks
from facetwin.policies.gaze import Gaze
from facetwin.policies.head_motion import HeadMotion
from facetwin.policies.prosody import Beat, Prosody
from facetwin.twin.couplings import Couplings
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]

FOLLOW = {"upper": 0.7, "lower": 0.35}  #: share of the eye's pitch that a lid goes along with
LOWER_LID = 0.05  #: share of the way up that a lower lid goes in a blink; further it would meet the upper one
ROOM = 0.9  #: share of a motor's way from rest to its limit that gaze and head use


@dataclass(frozen=True)
class Nonverbal:
    """What is shown, and the seed of its chance."""

    blinks: bool = True
    gaze: bool = True
    head: bool = True
    brows: bool = True
    seed: int = 0

    @property
    def any(self) -> bool:
        """Whether anything is."""
        return self.blinks or self.gaze or self.head or self.brows


class Alive:
    """Commands beside the mouth's, for one recording.

    Attributes
    ----------
    motors : intp [shape=(k,)], those that are moved; the others are left as they are told
    """

    def __init__(self, spec: RigSpec, options: Nonverbal | None = None) -> None:
        self.spec, self.options = spec, options or Nonverbal()
        seed = self.options.seed
        self._prosody = Prosody()
        self._blinks, self._gaze, self._head = Blinks(seed), Gaze(seed), HeadMotion(seed)
        self._low, self._high = spec.soft_limits
        self._rules = Couplings(spec)  # lids must not cross
        self._links: dict[tuple[str, str], tuple[int, float]] = {}  # (part, axis): motor, command per rad
        for i, motor in enumerate(spec.motors):
            if motor.part is not None and motor.group in ("neck", "eyes", "lids"):
                self._links[motor.part.name, motor.part.axis] = (i, 1 / (motor.part.gain * motor.span))
        o, self._brows = self.options, spec.group("brows")
        groups = {"neck": o.head, "eyes": o.gaze, "lids": o.blinks or o.gaze, "brows": o.brows}
        moved = [i for i, m in enumerate(spec.motors) if groups.get(m.group, False)]
        self.motors: NDArray[np.intp] = np.array(moved, np.intp)
        self._rows: list[Floats] = []

    def push(self, samples: ArrayLike) -> None:
        """Hear 16 kHz samples [shape=(n,)]."""
        self._rows += [self._row(beat) for beat in self._prosody.push(samples)]

    def finish(self) -> None:
        """The sound is over: the picture that it ends in is made too."""
        self._rows += [self._row(beat) for beat in self._prosody.finish()]

    def on(self, commands: NDArray[np.floating]) -> NDArray[np.float32]:
        """The next rows of the mouth's commands [shape=(k, motors)] with ours in them.

        Sound must have been heard as far; beyond it the last row is held.
        """
        out = np.array(commands, np.float32)
        if not len(self.motors) or not len(out):
            return out
        ready = self._rows[: len(out)]
        self._rows = self._rows[len(ready) :] or ready[-1:]
        last = ready[-1] if ready else self.spec.rest
        rows = np.stack([*ready, *[last] * (len(out) - len(ready))])
        out[:, self.motors] = rows[:, self.motors]
        return out

    def _row(self, beat: Beat) -> Floats:
        """Commands [shape=(motors,)] of one picture; motors of the mouth at rest."""
        o = self.options
        row = np.array(self.spec.rest, np.float64)
        head = self._head.step(beat)
        gaze = self._gaze.step(beat.speaking, beat.began)
        shut = self._blinks.step(beat.speaking, beat.paused)
        if o.head:
            for axis, angle in zip(("yaw", "pitch", "roll"), head):
                self._turn(row, "neck", axis, angle)
            taken = self._angle(row, "neck", "yaw"), self._angle(row, "neck", "pitch")
        else:
            taken = 0.0, 0.0
        if o.gaze:
            for side in ("right", "left"):
                self._turn(row, f"{side}_eye", "yaw", gaze[0] - taken[0])
                self._turn(row, f"{side}_eye", "pitch", gaze[1] - taken[1])
                for lid, share in FOLLOW.items():
                    self._turn(
                        row, f"{side}_{lid}_lid", "pitch", share * self._angle(row, f"{side}_eye", "pitch")
                    )
        if o.blinks:
            for side in ("right", "left"):
                for lid, share in (("upper", 1.0), ("lower", LOWER_LID)):
                    self._close(row, f"{side}_{lid}_lid", shut * share)
        if o.brows:
            row[self._brows] += self._head.lift * (1 - row[self._brows])
        allowed: Floats = self._rules.project(np.clip(row, self._low, self._high))
        return allowed

    def _turn(self, row: Floats, part: str, axis: str, angle: float) -> None:
        """Turn a part by `angle` rad from rest, as far as there is room."""
        if (part, axis) in self._links:
            motor, rate = self._links[part, axis]
            rest = self.spec.rest[motor]
            low = rest - ROOM * (rest - self._low[motor])
            row[motor] = np.clip(rest + angle * rate, low, rest + ROOM * (self._high[motor] - rest))

    def _angle(self, row: Floats, part: str, axis: str) -> float:
        """How far from rest a part is told to turn, rad."""
        if (part, axis) not in self._links:
            return 0.0
        motor, rate = self._links[part, axis]
        return float((row[motor] - self.spec.rest[motor]) / rate)

    def _close(self, row: Floats, part: str, share: float) -> None:
        """Close a lid by a share of its way: the upper one to 0, the lower one towards 1."""
        if (part, "pitch") in self._links:
            motor, rate = self._links[part, "pitch"]
            down = part.endswith("upper_lid")
            # an upper lid shuts by turning down (positive pitch), a lower one by turning up
            end = self._high[motor] if (rate > 0) == down else self._low[motor]
            row[motor] += share * (end - row[motor])
