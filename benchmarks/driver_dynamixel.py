"""CPU time of a cycle of the Dynamixel and Feetech drivers, and the time of its bytes on the wire.

    python benchmarks/driver_dynamixel.py            # 26 motors, 10,000 cycles each; --json for machines

A cycle is `write` of a new random command and `read` of all motors, on the bare rig. The bus is in this
process and answers at once with frames that were made before, so that nearly all that is measured is the
driver: its frames, checks and conversions (CPU time of the thread; asking for that time is in it). System
calls of a port come on top: see the column of the pty. Beside it the sdk's own sync write and fast sync read
on the same bus, without commands and states, and without alerts and partial answers.
Wire time is bytes x 10 / baud, both ways, without what adapter and servos add.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from dynamixel_sdk import GroupSyncRead, GroupSyncWrite, Protocol2PacketHandler

from facetwin.hardware.dynamixel import DynamixelRig
from facetwin.hardware.dynamixel_bus import WirePort
from facetwin.hardware.feetech import FeetechRig
from facetwin.hardware.wire import Wire

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "hardware"))
from scripted_servos import DynamixelLine, FeetechLine, dynamixel, feetech, on

BAUDS = (57_600, 1_000_000, 3_000_000)
WATCHED = ("fast sync read", "sync read", "Feetech")


class Canned:
    """A wire that answers a question which it has heard before as it was answered then."""

    def __init__(self, line: Any) -> None:
        self.line, self.known, self.waiting = line, {}, b""
        self.port, self.baud, self.timeout, self.is_open = line.port, line.baud, line.timeout, True
        self.sent = self.received = 0

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        answer = self.known.get(data)
        if answer is None:
            self.line.write(data)
            answer = self.line.discard()
            if len(self.known) < 4096:
                self.known[data] = answer
        self.waiting = answer

    def read(self, size: int, timeout: float | None = None) -> bytes:
        out, self.waiting = self.waiting[:size], self.waiting[size:]
        self.received += len(out)
        return out

    def discard(self) -> bytes:
        out, self.waiting = self.waiting, b""
        return out

    def open(self) -> None: ...

    def close(self) -> None: ...


class Pty(Canned):
    """The same through a pty: real system calls, the answers by another thread."""

    def __init__(self, line: Any) -> None:
        super().__init__(line)
        import tty

        self._far, near = os.openpty()
        tty.setraw(self._far)
        tty.setraw(near)
        self._wire = Wire(os.ttyname(near), baud=1_000_000)
        self._wire.open()
        self._own = Canned(line)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while data := os.read(self._far, 4096):
            self._own.write(data)
            if answer := self._own.discard():
                os.write(self._far, answer)

    def write(self, data: bytes) -> None:
        self._wire.write(data)

    def read(self, size: int, timeout: float | None = None) -> bytes:
        return self._wire.read(size, timeout)

    def discard(self) -> bytes:
        return self._wire.discard()


def rig_of(kind: str, wire: type[Canned]) -> tuple[Any, Canned]:
    """An active rig on a line that answers."""
    line: Any
    if kind == "Feetech":
        line, rig = FeetechLine([feetech(k + 1) for k in range(26)]), FeetechRig("bench")
    else:
        new = 50 if kind == "fast sync read" else 44
        line = DynamixelLine([dynamixel(k + 1, firmware=new) for k in range(26)])
        rig = DynamixelRig("bench")
    on(rig, line).open().activate()
    canned = wire(line)
    on(rig, canned)  # type: ignore[arg-type]
    rig.bus.delay = 0.0
    return rig, canned


def spent(rig: Any, cycles: int) -> np.ndarray:
    """CPU time of each cycle, s."""
    commands = np.random.default_rng(0).uniform(size=(256, rig.spec.size))
    out = np.empty(cycles)
    for k in range(-200, cycles):
        command = commands[k % 256]
        start = time.thread_time()
        rig.write(command)
        rig.read()
        out[max(k, 0)] = time.thread_time() - start
    return out


def by_sdk(cycles: int) -> np.ndarray:
    """The same frames by the sdk alone, without making states and commands of them."""
    line = Canned(DynamixelLine([dynamixel(k + 1) for k in range(26)]))
    port, sdk = WirePort(line), Protocol2PacketHandler()  # type: ignore[arg-type]
    read = GroupSyncRead(port, sdk, 126, 21)
    for k in range(26):
        read.addParam(k + 1)
    goals = np.random.default_rng(0).integers(0, 4096, size=(256, 26)).tolist()
    out = np.empty(cycles)
    for k in range(-5, cycles):
        start = time.thread_time()
        write = GroupSyncWrite(port, sdk, 116, 4)
        for i, goal in enumerate(goals[k % 256]):
            write.addParam(i + 1, list(goal.to_bytes(4, "little")))
        write.txPacket()
        port.is_using = False
        assert read.fastSyncRead() == 0
        [read.getData(i + 1, 132, 4) for i in range(26)]
        out[max(k, 0)] = time.thread_time() - start
    return out


def main() -> None:
    """Measure, print the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("--json", action="store_true")
    ask.add_argument("--cycles", type=int, default=10_000)
    given = ask.parse_args()
    rows: dict[str, dict[str, float]] = {}

    def row(what: str, seconds: np.ndarray) -> dict[str, float]:
        ms = np.array([np.median(seconds), np.quantile(seconds, 0.99), seconds.max()]) * 1e3
        rows[what] = dict(zip(("median", "p99", "max"), ms.tolist(), strict=True))
        return rows[what]

    for kind in WATCHED:
        rig, wire = rig_of(kind, Canned)
        figures = row(kind, spent(rig, given.cycles))
        wire.sent = wire.received = 0
        rig._looked = time.monotonic()
        rig.write(rig.spec.rest)
        rig.read()
        figures["bytes"] = wire.sent + wire.received
        for baud in BAUDS:
            figures[f"wire_{baud}"] = figures["bytes"] * 10 / baud * 1e3
        far, _ = rig_of(kind, Pty)
        figures["pty_p99"] = float(np.quantile(spent(far, max(given.cycles // 10, 1)), 0.99) * 1e3)
    row("sdk: sync write + fast sync read", by_sdk(max(given.cycles // 20, 1)))
    if given.json:
        print(json.dumps({"cycles": given.cycles, "machine": platform.machine(), "ms": rows}))
        return
    print(f"26 motors, {given.cycles} cycles of write + read, CPU time of the thread in ms, "
          f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}")  # fmt: skip
    print(
        "| | median | p99 | max | p99 on a pty | bytes | "
        + " | ".join(f"wire at {b:,}" for b in BAUDS)
        + " |"
    )
    print("|" + "--|" * (7 + len(BAUDS)))
    for what, f in rows.items():
        cells = [f"{f[k]:.2f}" for k in ("median", "p99", "max")]
        if "bytes" in f:
            cells += [f"{f['pty_p99']:.2f}", f"{f['bytes']:.0f}"]
            cells += [f"{f[f'wire_{b}']:.1f}" for b in BAUDS]
        else:
            cells += [""] * (2 + len(BAUDS))
        print(f"| {what} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
