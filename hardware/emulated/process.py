"""The wire process: pty, boards and servos; started by `facetwin.hardware.emulated.robot`, not by hand.

``python -m facetwin.hardware.emulated.process CONTROL MOTION [FILM]`` with descriptors: a socket for orders
from the program (JSON; see `facetwin.hardware.emulated.control`), the shared motion, and the camera's film,
which it hands to whoever asks at the eye's socket. It ends when the control socket closes or its parent is
gone, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from facetwin.hardware.emulated.boards import make_bus
from facetwin.hardware.emulated.bus import Bus, Horns, Log
from facetwin.hardware.emulated.faults import Fault, Faults
from facetwin.hardware.emulated.line import HalfDuplexLine, Line
from facetwin.hardware.emulated.servos import Servos
from facetwin.hardware.emulated.shared import Motion
from facetwin.hardware.emulated.tables import read_table
from facetwin.hardware.priority import BOARDS, Urgent

#: s: at least so often motors are stepped and published
STEP = 4e-3


class Robot:
    """The robot at the end of the cable."""

    def __init__(self, setup: dict[str, Any], motion_fd: int) -> None:
        self.setup = setup
        self.body = read_table(setup["body"])
        n = self.body.size
        self.faults = Faults(setup["seed"])
        self.line = (HalfDuplexLine if setup["half_duplex"] else Line)(
            setup["path"], setup["baud"], self.faults
        )
        self.motion = Motion(motion_fd, n)
        self.log = Log(n)
        self.servos = Servos(
            self.body, self.motion, time.monotonic(), supply=setup["supply"], seed=setup["seed"]
        )
        self.horns = Horns(**setup["horns"])
        self.bus: Bus = make_bus(setup, self.servos, self.horns, self.log, self.faults, self.line.say)
        self.servos.advance(time.monotonic())  # compiles, before anybody waits for it
        self.linger = float("inf")  # ends by itself at this time
        self.late = 0.0  # longest time between two turns, s
        self._turn = time.monotonic()

    # --- turns -----------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """Everything that is due by `now` (s)."""
        self.late = max(self.late, now - self._turn)
        self._turn = now
        self.line.settle(now)
        for fault in self.faults.over(now):
            self._end(fault, now)
        for byte, end in self.line.heard(now):
            self.bus.tap(byte, end)
            spoilt = self.faults.spoil(byte, "robot")
            if spoilt is not None:
                self.bus.hear(spoilt, end)
        self.bus.run(now)
        self.line.speak(now)

    def wait(self, now: float) -> float:
        """How long nothing is due, s."""
        due = min(self.line.next(), self.faults.next, self.linger, now + STEP)
        return max(due - now, 0.0)

    def _end(self, fault: Fault, now: float) -> None:
        if fault.kind == "unplug":
            self.line.plug()
        elif fault.kind == "brownout":
            self.servos.sag = sum(f.depth for f in self.faults.of("brownout"))
            self.bus.restart(now)
        elif fault.kind == "stall":
            self.servos.block(fault.motor, False, now)
        elif fault.kind == "hot":
            self.servos.heater[fault.motor] = 0.0

    # --- orders of the program ---------------------------------------------------------------------

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what the program asks; returns the answer."""
        now = time.monotonic()
        self.turn(now)
        what = order.pop("do")
        if what == "fault":
            self._fault(order, now)
        elif what == "clear":
            for fault in self.faults.on:
                self._end(fault, now)
            self.faults.on = []
            self.line.plug()
            self.bus.clear()
            cool = self.servos.temperature
            cool[:] = np.minimum(cool, 45.0)
        elif what == "linger":
            self.linger = now + float(order["time"])
        elif what == "health":
            return self.health()
        elif what == "truth":
            return self.truth()
        elif what == "goals":
            log = self.log.asked if order["which"] == "asked" else self.log.done
            since = float(order["since"])
            return {"goals": [g for g in log if g[0] > since], "time": now}
        return {}

    def _fault(self, order: dict[str, Any], now: float) -> None:
        kind, duration = order.pop("kind"), order.pop("duration", None)
        until = float("inf") if duration is None else now + float(duration)
        fault = Fault(kind, until, **{k: v for k, v in order.items() if v is not None})
        if kind == "plug":
            self.faults.on = [f for f in self.faults.on if f.kind != "unplug"]
            self.line.plug()
            return
        if kind == "latched":
            self.bus.latch(fault.motor)
            return
        self.faults.add(fault)
        if kind == "unplug":
            self.line.unplug()
        elif kind == "brownout":
            self.servos.sag = sum(f.depth for f in self.faults.of("brownout"))
            if self.bus.down:
                self.bus.restart(now)
        elif kind == "stall":
            self.servos.block(fault.motor, True, now)
        elif kind == "hot":
            self.servos.heater[fault.motor] = fault.rate

    def health(self) -> dict[str, Any]:
        """Counters since the start."""
        line, log, bus = self.line, self.log, self.bus
        return {
            "received": line.received, "sent": line.sent, "frames": bus.frames, "bad": bus.bad,
            "framing": line.framing, "collisions": line.collisions, "dropped": self.faults.dropped,
            "flipped": self.faults.flipped, "asked": log.count_asked, "done": log.count_done,
            "strange": log.count_strange, "late": self.late, "plugged": line.plugged,
            "faults": [f.kind for f in self.faults.on], "cpu": time.process_time(),
        }  # fmt: skip

    def truth(self) -> dict[str, Any]:
        """What it hides, as it is now."""
        servos = self.servos
        return {
            "time": servos.time, "position": servos.position.tolist(), "goal": servos.goal.tolist(),
            "shaft": [servos.shaft(i) for i in range(servos.n)], "on": servos.on.tolist(),
            "blocked": servos.blocked.tolist(), "temperature": servos.temperature.tolist(),
            "load": servos.load.tolist(), "voltage": servos.voltage,
        }  # fmt: skip


class EyeDoor:
    """Hands the film to `EmulatorEye`s."""

    def __init__(self, setup: dict[str, Any], fds: list[int]) -> None:
        self.path, self._fds = setup["eye"], fds
        mirror = setup["body"]["tree"]["camera"]["mirror"]["mirror"]
        told = {"shape": setup["shape"], "mirror": mirror, "n": len(setup["horns"]["bus"])}
        self._told = json.dumps(told).encode()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(self.path)
        self.socket.listen(4)
        self.socket.setblocking(False)

    def answer(self) -> None:
        """Hand out the film once."""
        with contextlib.suppress(OSError):
            guest, _ = self.socket.accept()
            with guest:
                socket.send_fds(guest, [self._told], self._fds)

    def close(self) -> None:
        """Take the socket away."""
        self.socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def main() -> None:
    """Run until the program is gone."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.ExitStack() as stack:
        # hardware does not wait for other programs; few users may ask for this
        if not stack.enter_context(Urgent(BOARDS)).granted:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, -10)
        _run()


def _run() -> None:
    control, parent = Connection(int(sys.argv[1])), os.getppid()
    robot: Robot | None = None
    door: EyeDoor | None = None
    try:
        setup = json.loads(control.recv_bytes())
        robot = Robot(setup, int(sys.argv[2]))
        door = EyeDoor(setup, [int(fd) for fd in sys.argv[3:4]])
        gc.collect()
        gc.freeze()
        gc.disable()  # the logs of goals grow, and going through all of them takes tens of ms
        robot.line.plug()
        control.send_bytes(b"{}")
        _serve(robot, door, control, parent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    except Exception as error:
        with contextlib.suppress(OSError):
            control.send_bytes(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        raise
    finally:
        if door is not None:
            door.close()
        if robot is not None:
            robot.line.unplug()
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(robot.setup["path"]))


def _serve(robot: Robot, door: EyeDoor, control: Connection, parent: int) -> None:
    listening, checked = True, time.monotonic()
    while True:
        now = time.monotonic()
        if now > checked + 0.5:
            checked = now
            if os.getppid() != parent:  # killed, and someone else holds its end of the socket
                return
        if now >= robot.linger:
            return
        watched = [control.fileno(), door.socket.fileno()]
        if listening and robot.line.plugged:
            watched.append(robot.line.master)
        ready, _, _ = select.select(watched, [], [], robot.wait(now))
        now = time.monotonic()
        listening = robot.line.listen(now)
        robot.turn(now)
        if door.socket.fileno() in ready:
            door.answer()
        if control.fileno() in ready:
            answer = robot.obey(json.loads(control.recv_bytes()))
            control.send_bytes(json.dumps(answer).encode())


if __name__ == "__main__":
    main()
