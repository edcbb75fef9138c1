"""A line of Dynamixel servos: the maker's sdk on our wire, and what a cycle needs in frames of our own.

The sdk (4.1) has traps that are dealt with here: it opens its own port and waits by spinning; its deadline
runs on a clock that can be set back, and never comes while bytes keep coming; its busy flag stays set after
an exception; answers shorter than asked raise IndexError; and FF FF FD in what is written is sent unstuffed,
so only small numbers may be written with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from dynamixel_sdk import (
    COMM_RX_CORRUPT,
    COMM_RX_TIMEOUT,
    COMM_SUCCESS,
    GroupSyncWrite,
    PortHandler,
    Protocol2PacketHandler,
)
from numpy.typing import NDArray

from facetwin.hardware.dynamixel_codec import (
    ALERT,
    BAUDS,
    fast_size,
    find_fast,
    find_status,
    status_error,
    status_size,
    sync_read,
)
from facetwin.hardware.rig import RigFault
from facetwin.hardware.servo_bus import PING_TIME, Answers, Bytes, Damaged, Register, ServoBus, gather
from facetwin.hardware.wire import Wire

T = TypeVar("T")


class WirePort(PortHandler):
    """The sdk's port, on a `Wire`: bytes and deadlines are ours."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire.port)
        self.wire = wire
        self.baudrate = wire.baud
        self.tx_time_per_byte = 10e3 / wire.baud
        self.is_open = True
        self.patience = PING_TIME  # s, beside the time of the bytes
        self._end = 0.0

    def openPort(self) -> bool:
        """Nothing to do: the wire is open."""
        return True

    def closePort(self) -> None:
        """Nothing to do: the wire is closed by who opened it."""

    def clearPort(self) -> None:
        """Throw away what waits."""
        self.wire.discard()

    def setBaudRate(self, baudrate: int) -> bool:
        """The wire's rate stays; whether it is this one."""
        return baudrate == self.wire.baud

    def getBytesAvailable(self) -> int:
        """The wire does not tell."""
        return 0

    def readPort(self, length: int) -> bytes:
        """Up to `length` bytes before the deadline, none after it."""
        left = self._end - time.monotonic()
        if length <= 0 or left <= 0:
            return b""
        return self.wire.read(length, left)

    def writePort(self, packet: Sequence[int]) -> int:
        """Send."""
        data = bytes(packet)
        self.wire.write(data)
        return len(data)

    def setPacketTimeout(self, packet_length: int) -> None:
        """Deadline for an answer of so many bytes; the question needs some time, too."""
        self._end = time.monotonic() + self.patience + (packet_length + 20) * 10 / self.wire.baud

    def setPacketTimeoutMillis(self, msec: float) -> None:
        """Deadline in ms from now."""
        self._end = time.monotonic() + msec * 1e-3

    def isPacketTimeout(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self._end

    def getCurrentTime(self) -> float:
        """In ms, on a clock that nobody sets."""
        return time.monotonic() * 1e3


class DynamixelBus(ServoBus):
    """Dynamixel servos on one wire; whatever is sent feeds their bus watchdogs."""

    maker = "Dynamixel"
    bauds = BAUDS

    def __init__(self, wire: Wire, names: Mapping[int, str] | None = None) -> None:
        super().__init__(wire, names)
        self._port = WirePort(wire)
        self._sdk = Protocol2PacketHandler()

    # --- one servo, by the sdk ---------------------------------------------------------------------

    def ping(self, number: int) -> None:
        """Raise `Silent` or `Damaged` unless this servo answers."""
        _, result, _ = self._ask(self._sdk.ping, number)
        self._check(number, result, "ping")

    def doubled(self, number: int) -> bool:
        """Whether more than one answer comes to a ping."""
        self._ask(self._sdk.ping, number)
        frames, _, damage = find_status(self.wire.read(64, 0.002), final=True)
        return bool(frames) or damage > 0

    def read(self, number: int, register: Register) -> int:
        """A register of one servo, unsigned; raises `Silent`, `Damaged` or `RigFault`."""
        data, result, error = self._ask(self._sdk.readTxRx, number, *register)
        self._check(number, result, f"read of {register.address}")
        if len(data) != register.size:
            raise self.damage(number, f"read of {register.address}", f"{len(data)} bytes")
        self._complain(number, error, f"read of {register.address}")
        return int.from_bytes(bytes(data), "little")

    def write(self, number: int, register: Register, value: int) -> None:
        """Write a register of one servo, which confirms it; raises as `read` does."""
        data = list(int(value).to_bytes(register.size, "little", signed=value < 0))
        result, error = self._ask(self._sdk.writeTxRx, number, *register, data)
        self._check(number, result, f"write to {register.address}")
        self._complain(number, error, f"write to {register.address}")

    def reboot(self, number: int) -> None:
        """Start a servo anew: its motor is off, its hardware error gone. It answers again after .3 s."""
        result, _ = self._ask(self._sdk.reboot, number)
        self._check(number, result, "reboot")

    def everybody(self) -> tuple[dict[int, tuple[int, int]], bool]:
        """All servos: id -> model number, firmware, by a broadcast ping of about a second.

        Also whether answers were damaged, as they are when two servos have one id.
        """
        found, result = self._ask(self._sdk.broadcastPing)
        return ({int(k): (int(m), int(f)) for k, (m, f) in found.items()}, result == COMM_RX_CORRUPT)

    # --- many servos --------------------------------------------------------------------------------

    def set(self, numbers: Sequence[int], register: Register, values: int | Sequence[int]) -> None:
        """Sync write, which nobody confirms: one value for all, or one each."""
        each = [values] * len(numbers) if isinstance(values, (int, np.integer)) else values
        group = GroupSyncWrite(self._port, self._sdk, *register)
        for number, value in zip(numbers, each, strict=True):
            data = int(value).to_bytes(register.size, "little", signed=int(value) < 0)
            group.addParam(int(number), list(data))
        result = self._ask(group.txPacket)
        if result != COMM_SUCCESS:
            raise RigFault("frame not sent", where=f"{self.wire.port}: sync write of {register.address}",
                           found=result)  # fmt: skip

    def get(self, ids: Bytes, register: Register, fast: bool = False) -> Answers:
        """Registers of many servos at once.

        Parameters
        ----------
        ids : uint8 [shape=(n,)]
        register : Register
        fast : bool
            In one frame (0x8A) instead of one each (0x82).
        """
        count = len(ids)
        asked = sync_read(ids.tolist(), register, fast)
        self.wire.discard()
        self.send(asked)
        size = fast_size(count, register) if fast else count * status_size(register)
        spent = (size + len(asked)) * 10 / self.wire.baud + count * self.delay
        end = self.last + self.wire.timeout + spent
        data = self.wire.read(size, end - time.monotonic())
        collect = _collect_fast if fast else _collect
        answers = collect(data, ids, register)
        while not answers.heard.all() and len(data) >= size and (left := end - time.monotonic()) > 0:
            # more than the answer was there: our own echo, noise, or stuffing
            more = self.wire.read(max(len(asked), 16), min(left, 0.02))
            if not more:
                break
            data += more
            answers = collect(data, ids, register)
        return answers

    # --- inside ----------------------------------------------------------------------------------

    def _ask(self, call: Callable[..., T], *arguments: Any) -> T:
        self._spoke()
        self._port.is_using = False
        self._port.patience = PING_TIME + self.delay
        plain = [int(a) if isinstance(a, (int, np.integer)) else a for a in arguments]
        try:
            if getattr(call, "__self__", None) is self._sdk:
                return call(self._port, *plain)
            return call(*plain)
        except (IndexError, TypeError, ValueError, KeyError) as error:
            raise Damaged("answer that the sdk cannot read", where=self.wire.port,
                          found=f"{type(error).__name__}: {error}") from error  # fmt: skip
        finally:
            self._port.is_using = False

    def _check(self, number: int, result: int, what: str) -> None:
        if result == COMM_SUCCESS:
            return
        if result == COMM_RX_TIMEOUT:
            raise self.silence(number, what)
        raise self.damage(number, what, self._sdk.getTxRxResult(result))

    def _complain(self, number: int, error: int, what: str) -> None:
        said = status_error(error)
        if said:
            raise RigFault("the servo refused", where=self.where(number),
                           found=f"{said} error to {what}")  # fmt: skip


def alerts(answers: Answers) -> NDArray[np.intp]:
    """Places of the servos that have a hardware error."""
    return np.flatnonzero(answers.heard & (answers.errors & ALERT > 0))


def _collect(data: bytes, ids: Bytes, register: Register) -> Answers:
    frames, _, damage = find_status(data, final=True)
    return gather(frames, ids, register.size, damage > 0)


def _collect_fast(data: bytes, ids: Bytes, register: Register) -> Answers:
    found, wrong, damaged = find_fast(data, ids, register)
    good = len(found)
    if good == len(ids):
        return Answers(found, wrong, np.ones(good, bool), False)
    rows = np.zeros((len(ids), register.size), np.uint8)
    errors = np.zeros(len(ids), np.uint8)
    rows[:good], errors[:good] = found, wrong
    return Answers(rows, errors, np.arange(len(ids)) < good, damaged)
