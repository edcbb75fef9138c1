"""The body process: skin and camera of the emulated robot, started by `facetwin.hardware.emulated.robot`.

``python -m facetwin.hardware.emulated.body CONTROL MOTION FILM``. It takes the motors' way from the wire
process, solves the skin with its creep, draws what the camera sees, and publishes each picture with the
time at which it was exposed. Its rate is the camera's, or as much of it as the machine can do; motion does
not wait for it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from facetwin.hardware.emulated.servos import placed
from facetwin.hardware.emulated.shared import Film, Motion
from facetwin.hardware.emulated.tables import read_table
from facetwin.twin.errors import FaceTwinError

#: s: the way of the motors between two pictures is taken in such steps
STEP = 5e-3
#: Hz of a camera that exposes whenever it is asked
FREE_RATE = 60.0
#: it computes all the time, and gives way to the program and to the kernel, which carries a pty's bytes
NICE = 5


class Body:
    """Skin and camera of the hidden body."""

    def __init__(self, setup: dict[str, Any], motion: Motion, film: Film) -> None:
        from facetwin.twin.moving import MovingFace
        from facetwin.twin.twin import FaceTwin

        self.spec, self.seed = read_table(setup["body"]), int(setup["seed"])
        self.motion, self.film = motion, film
        self.camera = self.spec.cameras["mirror"]
        height, width, _ = film.shape
        self.twin = FaceTwin(
            self.spec, solver=setup["solver"], renderer=setup["renderer"], size=(width, height)
        )
        self.moving = MovingFace(self.twin)
        self.rate = self.camera.rate or FREE_RATE
        self.seen = motion.now
        self.number = math.floor(self.seen * self.rate)
        self.failures = 0
        self.interval = 0.0  # between pictures, s, smoothed
        way, _ = motion.between(self.seen, self.seen)
        self.moving.reset(placed(self.spec, way[-1]))

    def step(self) -> bool:
        """Expose and publish the next picture; False if it is not time for one."""
        now = self.motion.now
        number = math.floor(now * self.rate)
        if number <= self.number:
            return False
        exposed = number / self.rate
        way, times = self.motion.between(self.seen, exposed, STEP)
        way = placed(self.spec, way)
        start = time.monotonic()
        try:
            state = self.moving.move(way, np.diff(np.r_[self.seen, times]))
        except FaceTwinError:  # no posture of skin there: the camera goes on seeing the last one
            self.failures += 1
            self.twin.reset()
            self.moving.reset(way[-1])
            self.number, self.seen = number, exposed
            return True
        solved = time.monotonic()
        image = np.array(self.twin.picture(state))
        if self.camera.noise:
            from facetwin.twin.grain import add_grain

            image = add_grain(image, self.camera.noise, self.seed, number % 2**31)
        done = time.monotonic()
        self.film.put(image, exposed, max(done, exposed + self.camera.delay), state.gap, way[-1])
        gap, told = exposed - self.seen, self.film.state
        if self.film.newest[0] > 1:
            self.interval += 0.1 * (gap - self.interval) if self.interval else gap
            told[1] = 1 / self.interval
        told[0] = done
        told[2:] = solved - start, done - solved
        self.number, self.seen = number, exposed
        return True

    def wait(self) -> float:
        """How long until the next exposure, s."""
        return min(max((self.number + 1) / self.rate - time.monotonic(), 5e-4), 0.02)


def main() -> None:
    """Run until the program is gone."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICE)
    control, parent = Connection(int(sys.argv[1])), os.getppid()
    setup = json.loads(control.recv_bytes())
    linger = [math.inf]

    def listen() -> None:
        # The socket is the leash: it closes however the program ends.
        try:
            while True:
                if control.poll(0.5):
                    order = json.loads(control.recv_bytes())
                    linger[0] = time.monotonic() + float(order["time"])
                    control.send_bytes(b"{}")
                if os.getppid() != parent or time.monotonic() > linger[0]:
                    os._exit(0)
        except Exception:
            os._exit(0)

    shape = tuple(setup["shape"])
    n = len(setup["horns"]["bus"])
    motion, film = Motion(int(sys.argv[2]), n), Film(int(sys.argv[3]), shape, n)
    try:
        while motion.head[1] == 0.0:  # the wire process starts, too
            if os.getppid() != parent:
                return
            time.sleep(0.01)
        body = Body(setup, motion, film)
        while not body.step():
            time.sleep(body.wait())
        control.send_bytes(b"{}")
    except Exception as error:
        with contextlib.suppress(OSError):
            control.send_bytes(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        raise
    threading.Thread(target=listen, daemon=True).start()
    while True:
        if not body.step():
            time.sleep(body.wait())


if __name__ == "__main__":
    main()
