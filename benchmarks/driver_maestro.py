"""What a write of 26 motors to two Maestros costs this machine, and the wire (issue: p99 <= 1 ms CPU time).

    python benchmarks/driver_maestro.py [--cycles 10000] [--seed 0]

Each cycle is `rig.write` of another command through the whole contract (checks, units, frames), without the
safety layer, one right after the other; CPU time of the calling thread, so that neighbours count little.
Against a wire that only counts, and a pty with a board in a thread at its far end, whose answer each write
waits for here (at 50 Hz it is there). Wire time is what a UART needs for the same bytes, 10 bits each.
Nothing is asserted: it is a table, not a test.
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


#: command without its top bit -> bytes it takes, what a board at rest answers
ANSWERS = {0x21: (0, b"\0\0"), 0x10: (1, b"\x70\x17"), 0x2E: (0, b"\1")}


class Board:
    """Answers what the driver asks, in the Pololu protocol; swallows the rest."""

    def __init__(self) -> None:
        self.tail = b""

    def hear(self, data: bytes) -> bytes:
        *frames, self.tail = (self.tail + data).split(b"\xaa")
        size, _ = ANSWERS.get(self.tail[1] if len(self.tail) > 1 else -1, (1000, b""))
        if len(self.tail) >= 2 + size:
            frames, self.tail = [*frames, self.tail], b""
        return b"".join(ANSWERS[f[1]][1] for f in frames if len(f) > 1 and f[1] in ANSWERS)


class Counter(Wire):
    """Takes everything and answers at once, without a port."""

    is_open = True
    waiting = b""

    def open(self) -> None:
        self.board = Board()

    def close(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self.waiting += self.board.hear(data)

    def read(self, size: int, timeout: float | None = None) -> bytes:
        out, self.waiting = self.waiting[:size], self.waiting[size:]
        return out

    def discard(self) -> bytes:
        return b""


class FarEnd:
    """A pty with a board at its far end, in a thread."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        board = Board()
        while True:
            if answer := board.hear(os.read(self.master, 4096)):
                os.write(self.master, answer)


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
