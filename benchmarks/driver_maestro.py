"""What a write of 26 motors to two Maestros costs this machine, and the wire (issue: p99 <= 1 ms CPU time).

    python benchmarks/driver_maestro.py [--cycles 10000] [--seed 0]

Each cycle is `rig.write` of another command through the whole contract (checks, units, frames), without the
safety layer; CPU time of the calling thread, so that neighbours count little. Against a wire that only
counts, and a pty whose far end a thread empties. Wire time is what a UART needs for the same bytes, 10 bits
each. Nothing is asserted: it is a table, not a test.
"""

from __future__ import annotations

import argparse
import os
import platform
import threading
import time
import tty

import numpy as np

from facetwin.hardware.maestro import MaestroRig
from facetwin.hardware.pca9685 import Pca9685Rig
from facetwin.hardware.wire import Wire

BAUDS = (115_200, 200_000)


class Counter(Wire):
    """Takes everything; answers every question of the driver with zeros."""

    is_open = True

    def open(self) -> None:
        pass

    close = open

    def write(self, data: bytes) -> None:
        self.sent += len(data)

    def read(self, size: int, timeout: float | None = None) -> bytes:
        self.received += size
        return bytes(size)

    def discard(self) -> bytes:
        return b""


class FarEnd:
    """A pty; a thread empties it, and answers error registers and pulses with zeros."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self.bytes = 0
        threading.Thread(target=self.drain, daemon=True).start()

    def drain(self) -> None:
        tail = b""
        while True:
            data = os.read(self.master, 4096)
            self.bytes += len(data)
            *frames, tail = (tail + data).split(b"\xaa")
            ends = 2 if tail[1:2] == b"\x21" else 3
            if tail[1:2] in (b"\x21", b"\x10") and len(tail) >= ends:
                frames, tail = [*frames, tail], b""
            for frame in frames:
                if frame[1:2] in (b"\x21", b"\x10"):
                    os.write(self.master, b"\0\0")


def timed(rig: MaestroRig, commands: np.ndarray) -> tuple[np.ndarray, float]:
    """CPU time of each write (s), and bytes per write."""
    took = np.empty(len(commands))
    for command in commands[:200]:
        rig.write(command)
    before = sum(w.sent for w in rig.wires)
    for i, command in enumerate(commands):
        start = time.thread_time_ns()
        rig.write(command)
        took[i] = time.thread_time_ns() - start
    return took * 1e-9, (sum(w.sent for w in rig.wires) - before) / len(commands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy", end=" ")
    print(f"{np.__version__}; {options.cycles} cycles, seed {options.seed}; CPU time of the calling thread")
    print(
        "| driver | wire | median us | p99 us | most us | bytes | "
        + " | ".join(f"ms at {b}" for b in BAUDS)
        + " |"
    )
    print("|--" * (6 + len(BAUDS)) + "|")
    rigs = [
        ("maestro, CRC off", MaestroRig, {}),
        ("maestro, CRC on", MaestroRig, {"crc": True}),
        ("pca9685 (23 motors)", Pca9685Rig, {}),
    ]
    for name, driver, more in rigs:
        for kind in ("counts", "pty"):
            if kind == "pty" and more:
                continue  # the far end does not speak CRC
            rig = driver(FarEnd().port if kind == "pty" else "/dev/null", **more)
            if kind == "counts":
                rig.wires = [Counter("/dev/null", baud=115200)]
                for board in rig.boards:
                    board.wire = rig.wires[0]
                rig._meet = rig._pack
            elif driver is Pca9685Rig:
                continue  # nor who it is
            rig.open()
            rig.activate()
            took, size = timed(rig, rng.random((options.cycles, rig.spec.size)))
            rig.close()
            wire = " | ".join(f"{size * 10 / baud * 1e3:.2f}" for baud in BAUDS)
            p50, p99 = np.percentile(took, [50, 99]) * 1e6
            print(
                f"| {name} | {kind} | {p50:.0f} | {p99:.0f} | {took.max() * 1e6:.0f} | {size:.0f} | {wire} |"
            )


if __name__ == "__main__":
    main()
