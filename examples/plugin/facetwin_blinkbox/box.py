"""The blinkbox itself, as a program: ``python -m facetwin_blinkbox.box`` waits for packets on UDP port 7707.

It stands in for hardware, in the tests and at a desk: two servos that take their time, and faults.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time

from facetwin_blinkbox.wire import PORT, pack, unpack

SPEED = 4000.0  # tenths of a degree a second


class Box:
    """A box that answers packets in a thread of its own, until `close`.

    `drop` so many answers, spoil so many (`spoil`), or complain (`fault`): for tests of the driver.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, firmware: int = 2) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, port))
        self.address = "{}:{}".format(*self.socket.getsockname())
        self.firmware = firmware
        self.place, self.target, self.on = [150.0, 1650.0], [150.0, 1650.0], False
        self.drop = self.spoil = 0
        self.fault = "-"
        self.heard: list[list[str]] = []
        self._then = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Fall silent."""
        self.socket.close()

    def _run(self) -> None:
        while True:
            try:
                data, sender = self.socket.recvfrom(512)
                packet = unpack(data)
                if packet is None:
                    continue
                number, words = packet
                self.heard.append(words)
                answer = pack(number, *self._answer(*words))
                if self.drop > 0:
                    self.drop -= 1
                    continue
                if self.spoil > 0:
                    self.spoil -= 1
                    answer = answer[:-4] + b"9" + answer[-3:]
                self.socket.sendto(answer, sender)
            except OSError:  # closed
                return

    def _answer(self, verb: str, *words: str) -> list[object]:
        self._move()
        if verb == "ID":
            return ["OK", "BLINKBOX", self.firmware]
        if verb == "OFF":
            self.on = False
            return ["OK"]
        if verb == "SEE":
            return ["OK", *map(round, self.place), 3, 4, 31, 32, 5020, self.fault]
        if verb in ("ON", "GO") and len(words) == 2:
            if verb == "GO" and not self.on:
                return ["NO", "off"]
            self.target, self.on = [float(w) for w in words], True
            return ["OK"]
        return ["NO", "what"]

    def _move(self) -> None:
        now = time.monotonic()
        step, self._then = SPEED * (now - self._then), now
        if self.on:
            for i, target in enumerate(self.target):
                way = target - self.place[i]
                self.place[i] += max(-step, min(step, way))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=PORT)
    box = Box(port=parser.parse_args().port)
    print(f"blinkbox:{box.address}", flush=True)
    box._thread.join()
