"""The simulated rig: servos and skin of the twin, seen in its mirror, on a simulated clock.

Servos are stepped on a fixed grid of ticks; skin and picture are worked out only when someone looks, the
creep of the skin along the way that the motors went since (`facetwin.twin.moving`). Same seed and same
calls give the same bits. It does not run in real time: time passes when someone sleeps on `rig.clock`.
"""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.clock import SimClock
from facetwin.hardware.rig import Capabilities, Floats, Frame, Rig, RigState
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.grain import add_grain
from facetwin.twin.servo import ServoBank
from facetwin.twin.spec import RigSpec, load_rig

if TYPE_CHECKING:
    from facetwin.twin.moving import MovingFace

#: the creep of what happened so many time constants ago is forgotten (less than .3 % of it is left)
REMEMBERED = 6.0


class Twin(Protocol):
    """What a simulated rig asks of a face (`facetwin.twin.twin.FaceTwin` is one)."""

    def move(self, position: Floats) -> Any:
        """Posture at motor positions [shape=(n,)]: has `vertices` (m) and `gap` (m)."""

    def picture(self, state: Any) -> NDArray[np.uint8]:
        """Noise-free picture of a posture, uint8 [shape=(H, W, 3)]."""

    def reset(self) -> None:
        """Forget the last posture."""

    def close(self) -> None:
        """Free the camera; the next `picture` makes another."""


class SimRig(Rig):
    """A face that exists only here.

    What it is told and what it is are two things: `spec` is the table that commands, limits and safety go
    by; `body` is the table that is simulated, the same until `become` gives it another.

    Parameters
    ----------
    spec : RigSpec, rig name or path of a TOML file
    body : the same, optional
        What is simulated from the start, hidden behind `spec`, as by `become`: ``sim:?body=hidden.toml``.
    solver, renderer, samples : as `facetwin.twin.twin.FaceTwin` has them
        How the skin is solved and the picture drawn: exact and GL by default; "fast" and "fast" for training.
    seed : int, at least 0
        Of the camera's noise.
    size : (width, height) or int, px, optional
        Of the pictures; the rig file's by default.
    tick : float, s
        Grid on which servos are stepped and commands take effect.
    twin : Twin, optional
        Another face than the one that ships, built for the same `spec`. Its skin takes no time.
    clock : SimClock, optional
        To share simulated time with others.
    """

    def __init__(
        self,
        spec: RigSpec | str | Path = "face26",
        *,
        body: RigSpec | str | Path | None = None,
        solver: str = "exact",
        renderer: str = "quality",
        samples: int = 4,
        seed: int = 0,
        size: tuple[int, int] | int | None = None,
        tick: float = 0.005,
        twin: Twin | None = None,
        clock: SimClock | None = None,
    ) -> None:
        rig = spec if isinstance(spec, RigSpec) else load_rig(spec)
        super().__init__(rig, clock or SimClock())
        if "mirror" not in rig.cameras:
            raise UsageError("the rig file has no camera", where=rig.source, expected="[camera.mirror]")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise UsageError("bad seed", where="SimRig", found=seed, expected="a whole number from 0")
        self.solver, self.seed = solver, int(seed)
        self._options = {"solver": solver, "renderer": renderer, "samples": int(samples)}
        self._body = rig
        self._camera = rig.cameras["mirror"]
        self._size = (size, size) if isinstance(size, int) else size
        width, height = self._size or (self._camera.width, self._camera.height)
        self._shape = (height, width, 3)
        self._tick = tick
        self._twin, self._given = twin, twin is not None
        self._moving: MovingFace | None = None
        self._prepare()
        self._restart()
        if body is not None:
            self.become(body if isinstance(body, RigSpec) else load_rig(body))

    @property
    def body(self) -> RigSpec:
        """The table that is simulated."""
        return self._body

    def become(self, body: RigSpec | None = None) -> None:
        """Simulate another table of the same motors, `spec` again without one; the face stands at rest.

        Only what changed is built anew: a skin where the material or what holds it differs, a camera where
        its optics do. Follow it with `home`, as noise and clock go on. Raises `UsageError` for other motors,
        another size of picture, or another skin on a `twin` that was given.
        """
        from facetwin.twin.changing import ChangingTwin, check_alike, optics, pulls

        wanted = self.spec if body is None else body
        check_alike(self.spec, wanted)
        if not isinstance(self._bank, ServoBank):
            raise UsageError("this rig has servos of its own", where="become()", found=type(self).__name__,
                             hint="sim: can become another body")  # fmt: skip
        with self._lock:
            old = self._body
            if wanted == old:
                return
            if isinstance(self._twin, ChangingTwin):
                anew = self._twin.become(wanted)
                if anew or wanted.skin_time != old.skin_time or pulls(wanted) != pulls(old):
                    self._moving = None
            elif self._given:
                eyes = [optics(rig.cameras["mirror"]) for rig in (old, wanted)]
                if old.material != wanted.material or eyes[0] != eyes[1]:
                    raise UsageError("a face that was given has its own skin and camera", where="become()",
                                     expected="a body that differs in servos and time only")  # fmt: skip
            self._body = wanted
            self._prepare()
            self._restart()

    def _prepare(self) -> None:
        """Servos, and room for the past, of the present body."""
        self._bank = ServoBank(self._body, self._tick)
        self._camera = self._body.cameras["mirror"]
        reach = self._camera.delay + (1 / self._camera.rate if self._camera.rate else 0.0)
        if not self._body.skin_time.still:
            reach += REMEMBERED * self._body.skin_time.creep_time
        self._past: deque[Floats] = deque(maxlen=math.ceil(reach / self._tick) + 3)  # newest last

    @property
    def capabilities(self) -> Capabilities:
        """Simulated, with a camera and the twin's own truth."""
        return Capabilities(simulated=True, measures=self.spec.feedback, camera=self._shape, truth=True)

    def _restart(self) -> None:
        self._start = self.clock.now()
        self._done = 0  # ticks stepped since then
        self._target = self.spec.rest.copy()
        self._past.clear()
        self._past.append(self._bank.reset(self._target))
        self._frame: Frame | None = None
        self._number: int | None = None
        self._looks = 0
        self._seen = self._start  # time of the last posture
        if self._twin is not None:
            self._twin.reset()
        if self._moving is not None:
            self._moving.reset(self._past[0])

    def _open(self) -> None:
        if self._twin is None:
            from facetwin.twin.changing import ChangingTwin  # brings the mesh and GL: only when needed

            self._twin = ChangingTwin(self._body, size=self._size, **self._options)
        self._restart()

    def _activate(self, present: Floats) -> None:
        self._advance()
        self._target = present

    def _write(self, command: Floats) -> None:
        self._advance()
        self._target = command

    def _read(self) -> RigState:
        self._advance()
        unknown = np.full(self.spec.size, np.nan)
        measured = self._bank.shaft if self.spec.feedback else unknown
        return RigState(
            self.clock.now(), self._commanded.copy(), measured, unknown, unknown.copy(), unknown.copy()
        )

    def _hold(self) -> None:
        self._write(self._commanded if np.isfinite(self._commanded).all() else self._bank.shaft)

    def _release(self) -> None:
        # Gears hold the face where it is.
        self._advance()
        self._target = np.clip(self._bank.shaft, 0.0, 1.0)

    def _close(self) -> None:
        # The skin stays: factoring it again would make every opening slow.
        if self._twin is not None:
            self._twin.close()
        self._frame = None

    def _home(self, seed: int | None) -> bool:
        if seed is not None:
            self.seed = int(seed)
        if isinstance(self.clock, SimClock):
            self.clock.reset()
        self._restart()
        return True

    def _advance(self) -> None:
        """Step the servos up to now."""
        until = math.floor((self.clock.now() - self._start) / self._tick + 1e-6)
        while self._done < until:
            self._past.append(self._bank.step(self._target))
            self._done += 1

    def _position_at(self, time: float) -> Floats:
        """Where the motors stood at a time of the recent past, between ticks by interpolation."""
        place = (time - self._start) / self._tick - (self._done - len(self._past) + 1)
        place = min(max(place, 0.0), len(self._past) - 1.0)
        low = min(int(place + 1e-6), len(self._past) - 1)
        share = place - low
        if share < 1e-6 or low + 1 == len(self._past):
            return self._past[low].copy()
        return (1 - share) * self._past[low] + share * self._past[low + 1]

    def _posture(self, time: float) -> tuple[Any, Floats]:
        """The face at a time not before the last one asked for, and where its motors stood."""
        assert self._twin is not None
        position = self._position_at(time)
        if self._body.skin_time.still:
            return self._twin.move(position), position
        if self._moving is None:
            from facetwin.twin.changing import ChangingTwin
            from facetwin.twin.moving import MovingFace

            if self._given or not isinstance(self._twin, ChangingTwin):  # its skin has its own time
                return self._twin.move(position), position
            self._moving = MovingFace(self._twin)
            self._moving.reset(self._past[0])
        oldest = self._done - len(self._past) + 1  # number of the tick
        ticks = self._start + self._tick * np.arange(oldest, self._done + 1)
        inner = (ticks > self._seen + 1e-9) & (ticks < time - 1e-9)
        way = [p for p, between in zip(self._past, inner, strict=True) if between]
        times = np.r_[self._seen, ticks[inner], max(time, self._seen)]
        self._seen = float(times[-1])
        return self._moving.move(np.array([*way, position]), np.diff(times)), position

    def _capture(self) -> Frame:
        self._advance()
        if self._twin is None:
            raise FaceTwinError("the rig is closed", where="capture()")
        camera = self._camera
        latest = self.clock.now() - camera.delay
        if camera.rate:
            number = math.floor(latest * camera.rate + 1e-6)
            time = number / camera.rate
        else:
            number, time = self._looks, latest
        self._looks += 1
        if self._frame is not None and number == self._number:
            return self._frame
        state, position = self._posture(time)
        image = np.array(self._twin.picture(state))  # a camera may reuse its buffer
        if camera.noise:
            # Drawn by the number of the frame, so that looking twice or seldom changes nothing.
            image = add_grain(image, camera.noise, self.seed, number + 2**20)
        truth = {"gap_mm": float(state.gap) * 1e3, "vertices": state.vertices, "position": position}
        self._frame, self._number = Frame(image, camera.mirror, time, truth), number
        return self._frame
