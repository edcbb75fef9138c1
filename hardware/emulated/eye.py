"""The camera of an emulated robot, for its own rig and for anybody who knows its socket.

``emulator:FOLDER/eye?width=256&height=256`` looks at a robot that another program runs.
"""

from __future__ import annotations

import json
import os
import socket
import time

from facetwin.hardware.emulated.shared import Film
from facetwin.hardware.eye import Eye
from facetwin.hardware.rig import Frame
from facetwin.twin.errors import FaceTwinError

#: s without a new picture: the camera is gone; a busy machine may need seconds for one
GONE = 10.0


class EmulatorEye(Eye):
    """Looks at an emulated robot through shared memory; pictures have the camera's own delay and rate.

    Parameters
    ----------
    path : str
        Socket of the robot.
    width, height : int, px
        Of its pictures.
    """

    def __init__(self, path: str, *, width: int = 256, height: int = 256) -> None:
        self.path = path
        self.shape = (int(height), int(width), 3)
        self._film: Film | None = None
        self._mirror = True

    def open(self) -> None:
        """Ask the robot for its film."""
        if self._film is not None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(5.0)
            try:
                s.connect(self.path)
                told, fds, _, _ = socket.recv_fds(s, 4096, 1)
                setup = json.loads(told)
            except (OSError, ValueError) as error:
                raise FaceTwinError("no emulated camera here", where=f"emulator:{self.path}",
                                    found=str(error) or type(error).__name__,
                                    hint="is the robot running, with camera=true?") from None  # fmt: skip
        if not fds:
            raise FaceTwinError("this emulated robot has no camera", where=f"emulator:{self.path}",
                                hint="open it with camera=true")  # fmt: skip
        try:
            shape = tuple(setup["shape"])
            if shape != self.shape:
                raise FaceTwinError("pictures of another size", where=f"emulator:{self.path}",
                                    found=f"{shape[1]}x{shape[0]}", hint="give width and height",
                                    expected=f"{self.shape[1]}x{self.shape[0]}")  # fmt: skip
            self._film, self._mirror = Film(fds[0], self.shape, setup["n"]), bool(setup["mirror"])
        finally:
            os.close(fds[0])

    def look(self) -> Frame:
        """The newest picture whose delay is over."""
        film = self._film
        if film is None:
            raise FaceTwinError("the eye is closed", where="emulator:", hint="open() it first")
        end = time.monotonic() + 0.25
        while (got := film.get()) is None:
            if time.monotonic() > end:
                raise TimeoutError("no picture yet from the emulated camera")
            time.sleep(0.002)
        image, exposed, _, _ = got
        if (age := time.monotonic() - exposed) > GONE:
            raise TimeoutError(f"no picture from the emulated camera for {age:.1f} s")
        return Frame(image, self._mirror, exposed)

    def close(self) -> None:
        """Let the film go."""
        self._film = None
