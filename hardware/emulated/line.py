"""The serial line of the emulated robot: a pty, at the pace and the speed of a real wire.

A byte takes ten bits. What the driver writes reaches the boards no sooner than the wire would bring it,
and answers reach the driver in pieces of a millisecond at most, as an adapter hands them over. A pty keeps
the speed that the driver asked for: where it is not the boards' own, each side samples the other's
wave at the wrong places and hears garbage, which is computed bit by bit.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import pty
import sys
import tty
from collections import deque
from collections.abc import Iterator

from facetwin.hardware.emulated.faults import Faults

#: s: answers are handed over in pieces of this length, as by an adapter's latency timer
PIECE = 1e-3
#: bytes that wait in the adapter; more, and the driver's write blocks
ADAPTER = 4096
#: a difference of speeds that ten bits forgive
TOLERANCE = 0.03
_TCGETS2 = 0x802C542A


class Line:
    """One end of a wire: the boards' side.

    Parameters
    ----------
    path : str
        Symbolic link to the driver's side; its folder exists.
    baud : int
        Of the boards.
    """

    def __init__(self, path: str, baud: int, faults: Faults) -> None:
        self.path, self.baud, self.faults = path, baud, faults
        self.byte_time = 10.0 / baud
        self.master = -1
        self.received = self.sent = self.collisions = self.framing = 0
        self._in: deque[tuple[float, int]] = deque()  # end on the wire, byte as the driver sent it
        self._out: deque[tuple[float, bytes]] = deque()  # end on the wire, piece
        self._in_free = self._out_free = self._left = 0.0
        self._alone = 0.0  # until then nobody has the other end open

    # --- cable -----------------------------------------------------------------------------------

    @property
    def plugged(self) -> bool:
        """Whether there is a cable."""
        return self.master >= 0

    def plug(self) -> None:
        """Make a pty under the path."""
        if self.plugged:
            return
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        other = f"{self.path}.new"
        os.symlink(os.ttyname(slave), other)
        os.replace(other, self.path)
        os.close(slave)  # a port that nobody has open must be free: TIOCEXCL goes with the last one
        self.master = master

    def unplug(self) -> None:
        """Pull the cable: whoever has the port open gets errors, and the port is gone."""
        if not self.plugged:
            return
        os.unlink(self.path)
        os.close(self.master)
        self.master = -1
        self._in.clear()
        self._out.clear()

    def speed(self) -> int:
        """What the driver set its port to, baud; 0 if nothing."""
        if not sys.platform.startswith("linux"):
            return self.baud
        buffer = array.array("i", [0] * 11)  # struct termios2: four flags, line and 19 control characters
        try:
            fcntl.ioctl(self.master, _TCGETS2, buffer, True)
        except OSError:
            return self.baud
        return buffer[10]

    # --- bytes in ----------------------------------------------------------------------------------

    def listen(self, now: float) -> bool:
        """Take what the driver wrote; returns whether to ask the descriptor again by `select`."""
        if not self.plugged or now < self._alone:
            return False
        if (self._in_free - now) / self.byte_time > ADAPTER:
            return False
        try:
            data = os.read(self.master, ADAPTER)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._alone = now + 0.002  # nobody at the other end: ask again in a moment
            self._out.clear()
            return False
        if not data:
            return True
        self.received += len(data)
        theirs = self.speed()
        end = max(now, self._in_free)
        if self._out and end < self._out[-1][0] and self._half_duplex:
            self.collisions += 1
            self._out.clear()
            self._out_free = self._left = end
        if abs(theirs - self.baud) > TOLERANCE * self.baud:
            data, errors = resampled(data, theirs, self.baud)
            self.framing += errors
            for byte in data:
                end += self.byte_time
                self._in.append((end, byte))
        else:
            step = 10.0 / theirs
            for byte in data:
                end += step
                self._in.append((end, byte))
        self._in_free = end
        return True

    _half_duplex = False

    def heard(self, now: float) -> Iterator[tuple[int, float]]:
        """The bytes whose last bit has come by `now` (s), each with that time."""
        while self._in and self._in[0][0] <= now:
            end, byte = self._in.popleft()
            yield byte, end

    # --- bytes out ---------------------------------------------------------------------------------

    def say(self, data: bytes, start: float) -> float:
        """Answer from a time (s) on; returns when the last bit has left the boards.

        The fault "delay" is the adapter's: boards do not notice it, and it does not add up.
        """
        left = max(start, self._left) + len(data) * self.byte_time
        self._left = left
        begin = max(start + self.faults.delay(), self._out_free)
        whole = []
        for byte in data:
            spoilt = self.faults.spoil(byte, "driver")
            if spoilt is not None:
                whole.append(spoilt)
        sent = bytes(whole)
        theirs = self.speed()
        if abs(theirs - self.baud) > TOLERANCE * self.baud:
            sent, _ = resampled(sent, self.baud, theirs)
        size = max(int(PIECE / self.byte_time), 1)
        for k in range(0, len(sent), size):
            piece = sent[k : k + size]
            self._out.append((begin + (k + len(piece)) * self.byte_time, piece))
        self._out_free = begin + len(data) * self.byte_time
        return left

    def speak(self, now: float) -> None:
        """Hand over what has left the boards by `now` (s)."""
        while self._out and self._out[0][0] <= now:
            _, piece = self._out.popleft()
            if not self.plugged or now < self._alone:
                continue
            try:
                self.sent += os.write(self.master, piece)
            except (BlockingIOError, OSError):  # nobody reads: an adapter's buffer runs over, too
                continue

    def next(self) -> float:
        """When something is due next, s."""
        due = self._alone if self._alone else float("inf")
        if self._in:  # a chunk is handled at its end: boards act on whole frames
            due = min(due, max(self._in[0][0], min(self._in[-1][0], self._in[0][0] + PIECE)))
        if self._out:
            due = min(due, self._out[0][0])
        return due

    def settle(self, now: float) -> None:
        """Forget that nobody was there, once that time is over."""
        if self._alone and now >= self._alone:
            self._alone = 0.0


class HalfDuplexLine(Line):
    """A bus of one data wire: who talks while another talks spoils the answer."""

    _half_duplex = True


def resampled(data: bytes, baud: float, other: float) -> tuple[bytes, int]:
    """What a receiver at speed `other` hears of bytes sent back to back at `baud`.

    Bits are sampled in their middles, from the edge of each start bit on (8N1). Returns the bytes and how
    often the stop bit was missing; such a byte is kept, as most adapters keep it.
    """
    if baud <= 0 or other <= 0:
        return b"", 0
    bits: list[int] = []
    for byte in data:
        bits += [0, *((byte >> k) & 1 for k in range(8)), 1]

    def level(time: float) -> int:
        place = int(time * baud)
        return bits[place] if place < len(bits) else 1

    out, errors, time, length = bytearray(), 0, 0.0, len(bits) / baud
    step = min(1 / baud, 1 / other) / 16
    while time < length:
        if level(time):
            time = (int(time * baud + 1e-6) + 1) / baud + 1e-12  # idle: on to the next bit
            continue
        value = 0
        for k in range(8):
            value |= level(time + (k + 1.5) / other) << k
        out.append(value)
        time += 9.5 / other
        if not level(time):
            errors += 1
            while time < length and not level(time):
                time += step
    return bytes(out), errors


__all__ = ["ADAPTER", "PIECE", "HalfDuplexLine", "Line", "resampled"]
