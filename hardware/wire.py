"""A serial port with deadlines: bytes out, bytes in, and never a wait without end.

pyserial opens and sets up the port; reading and writing go to the file descriptor itself where there is
one, because setting a timeout in pyserial reconfigures the port each time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from typing import Any

from facetwin.hardware.ports import explain
from facetwin.twin.errors import UsageError

_POLL = hasattr(select, "poll") and os.name == "posix"


class Wire:
    """A serial port with deadlines, 8N1, opened for us alone.

    Parameters
    ----------
    port : str
        e.g. ``/dev/ttyACM0``. Nothing is opened yet.
    baud : int
        1,200 to 10,000,000.
    timeout : float, s
        How long `read` waits by default, and `write` beyond the time that the bytes need on the wire.

    Attributes
    ----------
    sent, received : int
        Bytes so far.
    owed : int
        For drivers: bytes of answers that were given up on and may still come; `open` forgets them.
    """

    def __init__(self, port: str, *, baud: int, timeout: float = 0.05) -> None:
        if not isinstance(port, str) or not port.strip():
            raise UsageError("no port named", found=port, expected="e.g. maestro:/dev/ttyACM0",
                             hint="facetwin rig scan lists the ports")  # fmt: skip
        if isinstance(baud, bool) or not isinstance(baud, int) or not 1200 <= baud <= 10_000_000:
            raise UsageError("bad setting", where=f"{port}: baud", found=baud, expected="1200 to 10000000")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 60:
            raise UsageError(
                "bad setting", where=f"{port}: timeout", found=timeout, expected="above 0 to 60 s"
            )
        self.port, self.baud, self.timeout = port, baud, float(timeout)
        self.sent = self.received = self.owed = 0
        self._serial: Any = None
        self._fd = -1

    def __repr__(self) -> str:
        return f"Wire({self.port!r}, baud={self.baud}, {'open' if self.is_open else 'closed'})"

    @property
    def is_open(self) -> bool:
        """Whether it is open; it stays so when the cable is pulled."""
        return self._serial is not None

    def open(self) -> None:
        """Open the port for us alone and throw away what waits; opening an open one does nothing.

        Raises
        ------
        FaceTwinError
            No such port, no permission, busy, no serial device, impossible rate; with what to try next.
        """
        if self._serial is not None:
            return
        import serial

        try:
            self._serial = serial.Serial(
                self.port, self.baud, timeout=0, write_timeout=self.timeout, exclusive=True if _POLL else None
            )
        except (OSError, ValueError, OverflowError) as error:
            raise explain(error, self.port, self.baud) from None
        except Exception as error:  # termios.error is no OSError
            raise explain(error, self.port, self.baud) from None
        self.owed = 0
        if _POLL:
            self._fd = self._serial.fileno()
            self._alone(True)
            self._hurry()
            self._in, self._out = select.poll(), select.poll()
            self._in.register(self._fd, select.POLLIN)
            self._out.register(self._fd, select.POLLOUT)

    def write(self, data: bytes) -> None:
        """Send all of `data`; raises `TimeoutError` or another `OSError` if the port does not take it."""
        self._need()
        if self._fd < 0:
            self._write_slowly(data)
            return
        left = memoryview(data)
        end = 0.0
        while left:
            try:
                done = os.write(self._fd, left)
            except (BlockingIOError, InterruptedError):
                done = 0
            except OSError as error:
                raise self._vanished(error) from None
            self.sent += done
            left = left[done:]
            if left:
                now = time.monotonic()
                end = end or now + self.timeout + len(data) * 10 / self.baud
                if now >= end:
                    raise TimeoutError(f"{self.port}: {len(left)} of {len(data)} bytes not taken")
                self._out.poll((end - now) * 1e3 + 1)

    def read(self, size: int, timeout: float | None = None) -> bytes:
        """Up to `size` bytes: all of them as soon as they are there, fewer after `timeout` (s), never more.

        Raises `OSError` when the port is gone.
        """
        self._need()
        if self._fd < 0:
            return self._read_slowly(size, timeout)
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        out = b""
        while len(out) < size:
            try:
                more = os.read(self._fd, size - len(out))
            except (BlockingIOError, InterruptedError):
                more = b""
            except OSError as error:
                raise self._vanished(error) from None
            if not more and self._hung_up():
                raise self._vanished(OSError(errno.EIO, "hung up"))
            out += more
            self.received += len(more)
            if len(out) < size:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._in.poll(left * 1e3 + 0.5)
        return out

    def discard(self) -> bytes:
        """Throw away what waits to be read, and return it."""
        out = b""
        while True:
            more = self.read(4096, 0.0)
            out += more
            if len(more) < 4096 or len(out) > 1 << 20:  # a babbling port must not hold us here
                return out

    def settle(self, quiet: float | None = None) -> bytes:
        """Throw away what comes until nothing came for `quiet` s (default: the timeout), at most for 1 s."""
        end, out = time.monotonic() + 1.0, self.discard()
        while time.monotonic() < end and (more := self.read(1, self.timeout if quiet is None else quiet)):
            out += more + self.discard()
        return out

    def drain(self) -> None:
        """Wait until what was written has left the machine; for benchmarks and tests."""
        self._need()
        with contextlib.suppress(Exception):  # a pty cannot say
            self._serial.flush()

    def close(self) -> None:
        """Close; closing twice is fine, and so is closing after the cable was pulled."""
        self._alone(False)
        port, self._serial, self._fd = self._serial, None, -1
        if port is not None:
            with contextlib.suppress(Exception):
                port.close()

    # --- inside --------------------------------------------------------------------------------------

    def _alone(self, yes: bool) -> None:
        """Keep programs out that do not look at locks (pyserial's lock keeps those out that do)."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                import fcntl
                import termios

                fcntl.ioctl(self._fd, termios.TIOCEXCL if yes else termios.TIOCNXCL)

    def _hurry(self) -> None:
        """Have the adapter hand over what it has: FTDI's hold bytes back for 16 ms otherwise."""
        if hasattr(self._serial, "set_low_latency_mode"):  # Linux
            with contextlib.suppress(Exception):  # what is no such adapter, a pty too, says so
                self._serial.set_low_latency_mode(True)

    def _need(self) -> None:
        if self._serial is None:
            raise OSError(errno.EBADF, f"{self.port} is closed")

    def _hung_up(self) -> bool:
        return any(
            event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in self._in.poll(0)
        )

    def _vanished(self, error: OSError) -> OSError:
        text = error.strerror or str(error)
        return OSError(error.errno or errno.EIO, f"{self.port} has vanished ({text}): check cable and power")

    def _write_slowly(self, data: bytes) -> None:
        import serial

        try:
            self.sent += self._serial.write(data)
        except serial.SerialTimeoutException:
            raise TimeoutError(f"{self.port}: bytes not taken") from None
        except OSError as error:
            raise self._vanished(error) from None

    def _read_slowly(self, size: int, timeout: float | None) -> bytes:
        end = time.monotonic() + (self.timeout if timeout is None else timeout)
        out = b""
        while True:
            try:
                out += self._serial.read(size - len(out))
            except OSError as error:
                raise self._vanished(error) from None
            if len(out) >= size or time.monotonic() >= end:
                self.received += len(out)
                return out
            time.sleep(5e-4)
