"""An eye that is a camera of this machine, or a stream: whatever OpenCV opens.

A thread of its own takes the pictures, so that `look` never waits for one and never gets an old one out of
the driver's queue; a camera whose cable was pulled is opened again once it is back.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.eye import Eye
from facetwin.hardware.rig import Frame
from facetwin.twin.errors import FaceTwinError, UsageError

_AGAIN = 0.5  # s between attempts to open a camera that went away


class Webcam(Eye):
    """A camera.

    Parameters
    ----------
    device : int or str
        Number of the camera, its path (``/dev/video2``), a stream (``rtsp://...``) or a video file, which is
        played once at its own rate.
    width, height : int, px
        Asked of the camera; if it gives another size, opening says which.
    rate : float, pictures/s, optional
        Asked of the camera; by default it does what it likes.
    mirror : bool
        It looks into a mirror: what it shows is changed left for right.
    delay : float, s
        From exposure until the picture is here; subtracted from its time.
    crop : "x,y,width,height", px, optional
        Part of the picture that is used.
    rotate : 0, 90, 180 or 270
        Degrees clockwise that the picture is turned by, after cropping.
    code : str of 4, optional
        Pixel format asked of the camera, e.g. ``MJPG``, which many need for their full rate.
    timeout : float, s
        A camera that gave nothing for so long has failed.
    """

    def __init__(
        self,
        device: int | str = 0,
        *,
        width: int = 640,
        height: int = 480,
        rate: float | None = None,
        mirror: bool = True,
        delay: float = 0.0,
        crop: str | None = None,
        rotate: int = 0,
        code: str | None = None,
        timeout: float = 0.5,
    ) -> None:
        where = f"webcam:{device}"
        self.device = int(device) if str(device).isdigit() else str(device)
        for key, value, low in (("width", width, 16), ("height", height, 16)):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= 8192:
                raise UsageError("no such size", where=f"{where}: {key}", found=value,
                                 expected=f"a whole number of {low} to 8192 px")  # fmt: skip
        for key, number, least in (("delay", delay, 0.0), ("timeout", timeout, 0.01), ("rate", rate, 0.1)):
            if number is not None and not (_number(number) and least <= number <= 1000):
                raise UsageError("bad setting", where=f"{where}: {key}", found=number,
                                 expected=f"a number from {least:g}")  # fmt: skip
        if not isinstance(mirror, bool):
            raise UsageError("bad setting", where=f"{where}: mirror", found=mirror, expected="true or false")
        if rotate not in (0, 90, 180, 270):
            raise UsageError("bad setting", where=f"{where}: rotate", found=rotate,
                             expected="0, 90, 180 or 270")  # fmt: skip
        if code is not None and len(str(code)) != 4:
            raise UsageError("bad setting", where=f"{where}: code", found=code, expected="four letters")
        self.size, self.rate, self.mirror, self.delay = (width, height), rate, mirror, float(delay)
        self.timeout, self._turns, self._code = float(timeout), rotate // 90, code
        self._crop = _crop(crop, width, height, where)
        _, _, w, h = self._crop
        self.shape = (w, h, 3) if self._turns % 2 else (h, w, 3)
        self._where = where
        self._new = threading.Condition()
        self._frame: Frame | None = None
        self._error: str = ""
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Open the camera and wait for its first picture."""
        if self._thread is not None:
            return
        camera = self._connect()
        self._frame, self._error = None, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(camera, self._stop), name="facetwin webcam", daemon=True
        )
        self._thread.start()
        try:
            self._wait(max(5.0, self.timeout))  # cameras take a while to start
        except TimeoutError as error:
            self.close()
            raise FaceTwinError(
                "no picture", where=self._where, found=str(error),
                hint="close other programs that use the camera; try code=MJPG",
            ) from None  # fmt: skip

    def look(self) -> Frame:
        """The newest picture; waits at most `timeout` for one that is no older than that."""
        if self._thread is None:
            raise FaceTwinError("the eye is closed", where=self._where, hint="open() first")
        return self._wait(self.timeout)

    def close(self) -> None:
        """Stop the thread and let go of the camera."""
        thread, self._thread = self._thread, None
        if thread is not None and self._stop is not None:
            self._stop.set()
            thread.join(5.0)

    def _wait(self, longest: float) -> Frame:
        end = time.monotonic() + longest
        with self._new:
            while True:
                now = time.monotonic()
                if self._frame is not None and now - (self._frame.time + self.delay) <= self.timeout:
                    return self._frame
                if now >= end:
                    raise TimeoutError(self._error or f"no picture for {longest:g} s")
                self._new.wait(end - now)

    def _run(self, camera: Any, stop: threading.Event) -> None:
        """Take pictures until told to stop."""
        period = _period(camera) if self._is_file else 0.0
        due = time.monotonic()
        try:
            while not stop.is_set():
                if period and stop.wait(max(0.0, due - time.monotonic())):
                    return
                due += period
                fine, image = False, None
                with contextlib.suppress(cv2.error):
                    fine = camera.grab()
                    now = time.monotonic()
                    fine, image = camera.retrieve() if fine else (False, None)
                if not fine or image is None:
                    camera.release()
                    self._error = "the video has ended" if self._is_file else "the camera has gone"
                    if self._is_file:
                        return
                    while not stop.wait(_AGAIN):
                        with contextlib.suppress(FaceTwinError):
                            camera = self._connect()
                            break
                    continue
                frame = Frame(self._cut(image), self.mirror, now - self.delay)
                with self._new:
                    self._frame, self._error = frame, ""
                    self._new.notify_all()
        finally:
            camera.release()

    @property
    def _is_file(self) -> bool:
        return isinstance(self.device, str) and Path(self.device).is_file()

    def _cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        x, y, w, h = self._crop
        part = np.rot90(image[y : y + h, x : x + w, ::-1], -self._turns)  # BGR to RGB
        return np.ascontiguousarray(part)

    def _connect(self) -> Any:
        """Open the camera as it was asked for; raises `FaceTwinError`."""
        with _quiet():
            camera = cv2.VideoCapture(self.device)
            if not camera.isOpened():
                camera.release()
                raise _explain(self.device, self._where)
            if not self._is_file:
                if self._code:
                    camera.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*self._code))
                camera.set(cv2.CAP_PROP_FRAME_WIDTH, self.size[0])
                camera.set(cv2.CAP_PROP_FRAME_HEIGHT, self.size[1])
                if self.rate:
                    camera.set(cv2.CAP_PROP_FPS, self.rate)
                camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        got = (int(camera.get(cv2.CAP_PROP_FRAME_WIDTH)), int(camera.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        if got != self.size:
            camera.release()
            raise UsageError(
                "the camera has no such size", where=self._where, found="{} x {}".format(*got),
                expected="{} x {}".format(*self.size), hint="give width={}&height={}".format(*got),
            )  # fmt: skip
        return camera


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _period(camera: Any) -> float:
    rate = float(camera.get(cv2.CAP_PROP_FPS))
    return 1 / rate if 0.1 <= rate <= 1000 else 1 / 25


def _crop(text: str | None, width: int, height: int, where: str) -> tuple[int, int, int, int]:
    if text is None:
        return 0, 0, width, height
    try:
        x, y, w, h = (int(part) for part in str(text).split(","))
        if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
            raise ValueError
    except ValueError:
        raise UsageError("bad setting", where=f"{where}: crop", found=text,
                         expected=f"x,y,width,height within {width} x {height}") from None  # fmt: skip
    return x, y, w, h


def _explain(device: int | str, where: str) -> FaceTwinError:
    """Why a camera did not open, and what to try next."""
    path = Path(f"/dev/video{device}") if isinstance(device, int) else Path(device)
    if "://" in str(device):
        return FaceTwinError("no such stream", where=where, hint="try the address in a video player")
    if isinstance(device, str) and path.suffix and path.is_file():
        return UsageError("not a video", where=where, hint="try the file in a video player")
    cameras = sorted(p.name for p in Path("/dev").glob("video*"))
    if os.name == "posix" and not path.exists():
        found = "cameras " + ", ".join(cameras) if cameras else "no camera"
        return UsageError("no such camera", where=where, found=found, expected=str(path),
                          hint="check its cable; another number")  # fmt: skip
    if not os.access(path, os.R_OK | os.W_OK):
        return FaceTwinError("no permission", where=where, found=str(path),
                             hint="sudo usermod -aG video $USER, then log in again")  # fmt: skip
    return FaceTwinError("the camera does not open", where=where,
                         hint="close other programs that use it; another number: many have two")  # fmt: skip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV's own lines on stderr: ours say more."""
    before = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        yield
    finally:
        cv2.setLogLevel(before)
