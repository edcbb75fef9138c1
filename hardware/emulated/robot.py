"""Starting and stopping the emulated robot's processes, and asking them.

Both run in sessions of their own, so that Ctrl-C stops the program and its driver can still release the
servos. They end when the program's end of their socket closes, however the program ended; all that they
share with it has no name in the file system, but for the port's link and the eye's socket, which go too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from facetwin.hardware.emulated.shared import Film, Motion, create
from facetwin.twin.errors import FaceTwinError

#: s: how long a process may take to come up; the body imports the renderer and solves the skin first
PATIENCE = {"process": 60.0, "body": 300.0}


class Child:
    """One process and the socket to it."""

    def __init__(self, module: str, fds: tuple[int, ...]) -> None:
        self.module = module
        ours, theirs = socket.socketpair()
        self._said = os.memfd_create("facetwin said")
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"facetwin.hardware.emulated.{module}",
                 *(str(fd) for fd in (theirs.fileno(), *fds))],
                pass_fds=(theirs.fileno(), *fds), stdin=subprocess.DEVNULL, stdout=self._said,
                stderr=self._said, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        except BaseException:
            os.close(self._said)
            ours.close()
            raise
        finally:
            theirs.close()
        self._control = Connection(ours.detach())
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def tell(self, order: dict[str, Any]) -> None:
        """Send an order without waiting for its answer, which `answer` takes."""
        self._control.send_bytes(json.dumps(order).encode())

    def answer(self, timeout: float) -> dict[str, Any]:
        """The next answer; raises `FaceTwinError` with what the process said if there is none."""
        try:
            if not self._control.poll(timeout):
                raise self._error(f"no answer for {timeout:g} s")
            told = json.loads(self._control.recv_bytes())
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2)
            raise self._error("it ended") from error
        if "error" in told:
            raise self._error(told["error"])
        return dict(told)

    def ask(self, order: dict[str, Any], timeout: float = 20.0) -> dict[str, Any]:
        """Send an order and wait for its answer."""
        with self._lock:
            try:
                self.tell(order)
            except OSError as error:
                raise self._error("it ended") from error
            return self.answer(timeout)

    def _error(self, what: str) -> FaceTwinError:
        size = os.fstat(self._said).st_size
        lines = os.pread(self._said, 4000, max(0, size - 4000)).decode(errors="replace").strip().splitlines()
        return FaceTwinError(f"the emulated robot's {self.module} process failed: {what}", where="emulated:",
                             found=lines[-1] if lines else None,
                             hint="its errors are above" if not lines else None)  # fmt: skip

    def stop(self) -> None:
        """Close the socket and wait for its end; kill it if it does not listen."""
        self._control.close()
        try:
            self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._said)


class Processes:
    """The robot: wire process and, if it has a camera, body process."""

    def __init__(self, setup: dict[str, Any], shape: tuple[int, int, int] | None) -> None:
        n = len(setup["horns"]["bus"])
        self._owner = os.getpid()
        self.folder = os.path.dirname(setup["path"])
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._fds = [create("motion", Motion.bytes(n))]
        self.motion = Motion(self._fds[0], n)
        self.film: Film | None = None
        self.children: list[Child] = []
        try:
            more: tuple[int, ...] = ()
            if shape is not None:
                self._fds.append(create("film", Film.bytes(shape, n)))
                self.film = Film(self._fds[1], shape, n)
                more = (self._fds[1],)
            self.wire = Child("process", (self._fds[0], *more))
            self.children.append(self.wire)
            self.wire.tell(setup)
            if shape is not None:  # its imports take as long as both together
                self.body = Child("body", (self._fds[0], *more))
                self.children.append(self.body)
                self.body.tell(setup)
            for child in self.children:
                child.answer(PATIENCE[child.module])
        except BaseException:
            self.stop()
            raise

    @property
    def alive(self) -> bool:
        """Whether all of them run."""
        return bool(self.children) and all(child.alive for child in self.children)

    def stop(self) -> None:
        """End them and take away what they left; may be called again, and does nothing in a forked child."""
        if os.getpid() != self._owner:
            return
        for child in self.children:
            child.stop()
        self.children = []
        for fd in self._fds:
            os.close(fd)
        self._fds = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def rest(self, seconds: float) -> None:
        """Let them end by themselves in so many seconds, unless asked for again."""
        for child in self.children:
            with contextlib.suppress(FaceTwinError):
                child.ask({"do": "linger", "time": seconds})


def wait_until(call: Any, timeout: float) -> bool:
    """Whether `call()` became true within `timeout` s."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if call():
            return True
        time.sleep(0.005)
    return bool(call())
