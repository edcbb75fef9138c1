"""``replay:FOLDER``: a recording played back as a rig, at the rate it was recorded with.

What is read and seen is what was read and seen then. It plays while it is active, stands while it is held or
released, and `home` rewinds. It takes every command and follows none: `write` returns what was sent at that
time of the recording, and `difference` says how far the command was from it. Pictures are decoded as they
come, one at a time; rows of commands are held in memory (a few hundred bytes each).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.clock import RealClock, SimClock
from facetwin.hardware.recording import Recording
from facetwin.hardware.rig import ACTIVE, Capabilities, Floats, Frame, Rig, RigState
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import RigSpec


class ReplayRig(Rig):
    """A rig that was.

    Parameters
    ----------
    folder : path of a recording
        Whole or left behind by a run that was killed.
    speed : float
        Of playing; 2 is twice as fast as recorded.
    time : "simulated" or "real"
        Simulated time passes when someone sleeps on `rig.clock`, real time by itself.
    loop : bool
        Start over at the end, instead of an error.

    Attributes
    ----------
    duration : float, s
        Of the recording, at speed 1.
    difference : float64 [shape=(n,)]
        The last command written, less what had been sent at that time.
    """

    #: a recording cannot come to harm, and who only watches does not write
    safety: Mapping[str, Any] = MappingProxyType(
        {"watchdog": None, "stall": "off", "overload": "off", "temperature": "off", "faults": "warn"}
    )

    def __init__(
        self, folder: str | Path, *, speed: float = 1.0, time: str = "simulated", loop: bool = False
    ) -> None:
        where = f"replay:{folder}"
        good = isinstance(speed, (int, float)) and not isinstance(speed, bool)
        if not good or not 0 < speed < np.inf:
            raise UsageError("bad speed", where=where, found=speed, expected="more than 0")
        if time not in ("simulated", "real"):
            raise UsageError("no such time", where=where, found=time, expected="simulated or real")
        if not isinstance(loop, bool):
            raise UsageError("bad setting", where=f"{where}: loop", found=loop, expected="true or false")
        self.recording = Recording(folder)
        super().__init__(_spec_of(self.recording), SimClock() if time == "simulated" else RealClock())
        self.speed, self.loop = float(speed), loop
        self._where = where
        rows, frames = self.recording.rows(), self.recording.frames()
        if not len(rows["time"]):
            raise UsageError("an empty recording", where=where, found="no commands", expected="at least one")
        begin = min([rows["time"][0], *frames["time"][:1]])
        self._rows: dict[str, Any] = {**rows, "time": rows["time"] - begin}
        self._exposed: NDArray[np.float64] = frames["time"] - begin
        steps = np.diff(self._rows["time"])
        period = float(np.median(steps)) if len(steps) else 1 / self.recording.meta["fps"]
        self.duration = float(max([self._rows["time"][-1] + period, *self._exposed[-1:]]))
        self._shape = self.recording.picture_shape() if len(self._exposed) else None
        camera = self.spec.cameras.get("mirror")
        self._mirrored = bool(self.recording.meta.get("mirrored", camera.mirror if camera else True))
        self.difference = np.full(self.spec.size, np.nan)
        self._film: Iterator[NDArray[np.uint8]] | None = None
        self._restart()

    @property
    def capabilities(self) -> Capabilities:
        """Harmless, and it does not go where it is told."""
        return Capabilities(
            simulated=self.clock.simulated,
            measures=bool(np.isfinite(self._rows["measured"]).any()),
            camera=self._shape,
            emulated=not self.clock.simulated,
            obeys=False,
        )

    @property
    def place(self) -> float:
        """Where in the recording it is, s from its start; raises `FaceTwinError` past the end."""
        place = self._base
        if self._playing:
            place += (self.clock.now() - self._since) * self.speed
        if place < self.duration:
            return place
        if self.loop:
            return place % self.duration
        raise FaceTwinError("the recording has ended", where=self._where, found=f"{place:.2f} s",
                            expected=f"less than {self.duration:.2f} s",
                            hint="home() rewinds; ?loop=true starts over")  # fmt: skip

    def _restart(self) -> None:
        self._base, self._playing, self._since = 0.0, False, self.clock.now()
        self._next = 0  # number of the picture that the film gives next
        self._image: NDArray[np.uint8] | None = None
        self._film = None

    def _pause(self) -> None:
        if self._playing:
            passed = self._base + (self.clock.now() - self._since) * self.speed
            self._base, self._playing = passed, False

    def _play(self) -> None:
        if not self._playing:
            self._since, self._playing = self.clock.now(), True

    def _row(self, place: float) -> int:
        return max(int(np.searchsorted(self._rows["time"], place + 1e-9, side="right")) - 1, 0)

    # --- hooks ---------------------------------------------------------------------------------

    def _open(self) -> None:
        self._restart()

    def _activate(self, present: Floats) -> None:
        self._play()

    def _write(self, command: Floats) -> Floats:
        self._play()
        sent = self._rows["sent"][self._row(self.place)].astype(np.float64)
        self.difference = command - sent
        return np.where(np.isfinite(sent), sent, command)

    def _read(self) -> RigState:
        row = self._row(self.place)
        sent, measured = (self._rows[key][row].astype(np.float64) for key in ("sent", "measured"))
        none = np.full(self.spec.size, np.nan)
        faults = tuple(self._rows["faults"][row] or ())
        return RigState(self.clock.now(), sent, measured, none, none.copy(), none.copy(), faults)

    def _capture(self) -> Frame:
        if self._shape is None:
            return super()._capture()
        place = self.place
        number = max(int(np.searchsorted(self._exposed, place + 1e-9, side="right")) - 1, 0)
        image = self._picture(number)
        age = max(place - float(self._exposed[number]), 0.0) / self.speed
        return Frame(image, self._mirrored, self.clock.now() - age)

    def _picture(self, number: int) -> NDArray[np.uint8]:
        """Picture `number`, decoded on the way to it; a step back starts the film again."""
        if self._film is None or number < self._next - 1:
            self._film, self._next, self._image = self.recording.pictures(), 0, None
        while self._next <= number:
            image = next(self._film, None)
            if image is None:
                raise FaceTwinError("the film ends before its recording", where=self._where,
                                    found=f"{self._next} pictures", expected=f"{len(self._exposed)}",
                                    hint="the run was killed there: what came before is whole")  # fmt: skip
            self._image = image
            self._next += 1
        assert self._image is not None
        return self._image.copy()

    def _hold(self) -> None:
        self._pause()

    def _release(self) -> None:
        self._pause()

    def _close(self) -> None:
        self._film, self._image = None, None

    def _home(self, seed: int | None) -> bool:
        if isinstance(self.clock, SimClock):
            self.clock.reset()
        playing = self.status.state == ACTIVE
        self._restart()
        if playing:
            self._play()
        return True


def _spec_of(recording: Recording) -> RigSpec:
    """The rig table that a recording was made with."""
    try:
        return RigSpec.from_dict(recording.meta["rig_table"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise UsageError("its rig table cannot be read", where=recording.folder, found=found,
                         expected="rig_table in meta.json, as facetwin writes it") from None  # fmt: skip
