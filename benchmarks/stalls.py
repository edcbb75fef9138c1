"""When a machine stood still: times at which even a thread of the highest priority had to wait for a core.

    python benchmarks/stalls.py 60

On a virtual machine the host takes cores away (steal), and no priority helps against that. One thread a core
sleeps 2 ms at a time and notes when it came back late. Needs real-time priority; without, it says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time

from facetwin.hardware.priority import Urgent

#: of real-time priorities, above loop and boards; s between looks, and lateness that counts
RANK, EVERY, LATE = 60, 0.002, 0.003


class Stalls:
    """Watch while entered, in another process; then `spans` [(begin, end), s monotonic] on any core."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float]] | None = None

    def __enter__(self) -> Stalls:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        told, _ = self._process.communicate("")
        with contextlib.suppress(ValueError):
            self.spans = json.loads(told)

    def during(self, begin: float, end: float) -> bool:
        """Whether the machine stood still at some time between two times (s, monotonic)."""
        return any(a < end and b > begin for a, b in self.spans or [])


def watch(core: int, stop: threading.Event, spans: list[tuple[float, float]], urgent: list[bool]) -> None:
    """Note when this thread got no core."""
    os.sched_setaffinity(0, {core})
    with Urgent(RANK) as asked:
        urgent.append(asked.granted)
        last = time.monotonic()
        while not stop.is_set():
            time.sleep(EVERY)
            now = time.monotonic()
            if now - last > EVERY + LATE:
                spans.append((last + EVERY, now))
            last = now


def main() -> None:
    stop, spans, urgent = threading.Event(), [], []
    threads = [
        threading.Thread(target=watch, args=(core, stop, spans, urgent)) for core in os.sched_getaffinity(0)
    ]
    for thread in threads:
        thread.start()
    if len(sys.argv) > 1:
        time.sleep(float(sys.argv[1]))
    else:
        sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    spans.sort()
    if len(sys.argv) > 1:
        longest = max((b - a for a, b in spans), default=0.0)
        print(f"{len(spans)} stalls in {sys.argv[1]} s, the longest {1e3 * longest:.0f} ms"
              + ("" if all(urgent) else "; without real-time priority"))  # fmt: skip
    else:
        print(json.dumps(spans if all(urgent) else None))


if __name__ == "__main__":
    main()
