"""Talking to one Maestro: questions and answers, finding out who is there, and the frame of all targets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware import maestro_codec as codec
from facetwin.hardware.ports import no_answer
from facetwin.hardware.rig import RigFault
from facetwin.hardware.wire import Wire
from facetwin.twin.errors import FaceTwinError

_ON_USB = "on USB use the first of the board's two ports"
LATE = 0.1  # s, that an answer may come after it was given up on
CHECKS = f"check power, that TX goes to RX and RX to TX, and the baud rate; {_ON_USB}"


@dataclass
class Board:
    """One board on a wire.

    Attributes
    ----------
    number, device : int or None
        The number asked for, None: whatever it has; and the one it is spoken to by, None: it is alone on its
        wire and spoken to in the compact protocol.
    motors : int [shape=(k,)], channels : list of int
        Its motors, by rising channel.
    batches : bool
        It knows Set Multiple Targets.
    """

    wire: Wire
    number: int | None
    crc: bool
    motors: NDArray[np.intp]
    channels: list[int]
    batches: bool = True
    maker: str = "Maestro"
    known: int = codec.KNOWN_ERRORS  # bits that its error register may have
    device: int | None = None
    turn: int = 0  # whose pulse is looked at next

    def __post_init__(self) -> None:
        self.device = self.number

    @property
    def name(self) -> str:
        """For messages."""
        number = f" {self.device}" if self.device is not None else ""
        return f"{self.maker}{number} on {self.wire.port}"


def ask(board: Board, question: bytes, size: int, timeout: float | None = None) -> bytes:
    """Send questions and return the whole answer of `size` bytes; raises `TimeoutError` without it.

    Answers have no frame: one that comes late would be taken for the next one, whichever board that is from.
    So bytes that were given up on are waited for, a while, before the next question.
    """
    wire = board.wire
    if wire.owed:
        wire.read(wire.owed, max(LATE, 2 * wire.timeout))
        wire.discard()
    elif wire.discard():
        wire.settle()
    wire.owed = size
    wire.write(question)
    at_pace = len(question) * 10 / wire.baud + size * 10 / wire.baud
    answer = wire.read(size, (wire.timeout if timeout is None else timeout) + at_pace)
    wire.owed = size - len(answer)
    if wire.owed:
        raise TimeoutError(f"no whole answer from {board.name}: {len(answer)} of {size} bytes")
    return answer


def meet(board: Board, patience: float = 0.0) -> None:
    """Make sure that a board is there, that it is addressed right and agrees about CRC; moves nothing.

    Asks for the error register in the Pololu protocol, whose first byte, 0xAA, also shows the baud rate to a
    board that detects it. The CRC byte follows only if nobody answered without: so a board is never sent
    half a command. A board alone on its wire whose number is unknown is then asked in the compact protocol.

    Raises
    ------
    FaceTwinError
        Nobody, an echo, garbage, or CRC set differently at both ends; with what to do.
    """
    given = board.device = board.number
    known = codec.DEVICE if given is None else given
    end = time.monotonic() + patience
    while True:
        for device in [known] if given is not None else [known, None]:
            answer = greet(board, device)
            if answer is None:
                continue
            crc = answer[0]
            if crc != board.crc:
                on, off = ("on", "true") if crc else ("off", "false")
                raise FaceTwinError(
                    f"this board has CRC {on}", where=board.name, found=f"crc={str(board.crc).lower()}",
                    expected=f"crc={off}", hint=f"add crc={off} to the rig's name, or change it in the board",
                )  # fmt: skip
            board.device = device
            return
        if time.monotonic() >= end:
            break
    who = board.maker if given is None else f"{board.maker}, device {given}"
    extra = "" if given is None else "; both leave the factory as 12" if given != codec.DEVICE else ""
    raise no_answer(board.wire.port, board.wire.baud, who, CHECKS + extra)


def greet(board: Board, device: int | None) -> tuple[bool, int] | None:
    """Whether the board wants CRC, and its error register (cleared by that); None if nobody answers."""
    plain = codec.get_errors(device=device)
    for crc, question in ((False, plain), (True, bytes([codec.crc7(plain)]))):
        try:
            answer = ask(board, question, 2)
        except TimeoutError:
            continue
        if answer == plain[:2]:
            raise FaceTwinError("the port gives back what is sent", where=board.wire.port,
                                found=answer.hex(" "), expected="an answer of two bytes",
                                hint="TX and RX touch, or it is a half-duplex bus adapter")  # fmt: skip
        try:
            register = codec.errors(answer, board.name, board.known)
        except RigFault as error:
            raise FaceTwinError(
                "the answer makes no sense", where=board.name, found=answer.hex(" "),
                expected="an error register", hint="wrong baud rate, or another kind of board",
            ) from error  # fmt: skip
        return crc, register
    return None


def count_channels(board: Board) -> int | None:
    """How many channels a board has, by asking for their pulses; None if it does not answer at all."""
    have = 0
    for size in codec.SIZES:
        try:
            ask(board, codec.get_position(size - 1, device=board.device, crc=board.crc), 2)
        except TimeoutError:
            break
        have = size
    try:
        ask(board, codec.get_errors(device=board.device, crc=board.crc), 2)
    except TimeoutError:
        return None
    return have


class Packet:
    """Targets of all motors of the boards on one wire, as one string of bytes with places to fill in.

    With `looks` each board is first asked for the pulse of one channel, as it is before the new targets.
    """

    def __init__(self, wire: Wire, boards: list[Board], *, looks: bool = False) -> None:
        self.wire, self.boards = wire, boards
        self._looks: list[int] = []  # places of the channels that are looked at
        out, low, motors = bytearray(), [], []  # type: bytearray, list[int], list[int]
        self._sums: list[tuple[int, int]] = []  # from, to of what a CRC byte is about
        for board in boards:
            if looks:
                out += codec.get_position(0, device=board.device, crc=board.crc)
                self._looks.append(len(out) - 1 - board.crc)
                if board.crc:
                    self._sums.append((len(out) - (5 if board.device is not None else 3), len(out) - 1))
            for first, length in codec.runs(board.channels, multiple=board.batches):
                start, channel = len(out), board.channels[first]
                if length == 1:
                    out += codec.set_target(channel, 0, device=board.device, crc=board.crc)
                else:
                    out += codec.set_targets(channel, [0] * length, device=board.device, crc=board.crc)
                end = len(out) - board.crc
                low += range(end - 2 * length, end, 2)
                motors += [int(board.motors[first + i]) for i in range(length)]
                if board.crc:
                    self._sums.append((start, end))
        self._template = np.frombuffer(bytes(out), dtype=np.uint8)
        self._low, self._motors = np.array(low, dtype=np.intp), np.array(motors, dtype=np.intp)

    def __len__(self) -> int:
        return len(self._template)

    def fill(self, units: NDArray[Any], looks: Sequence[int] = ()) -> bytes:
        """The bytes for targets [shape=(n,), 0.25 us] of all the rig's motors, and channels to look at."""
        out = self._template.copy()
        for place, channel in zip(self._looks, looks, strict=True):
            out[place] = channel
        mine = units[self._motors]
        out[self._low] = mine & 0x7F
        out[self._low + 1] = mine >> 7
        for start, end in self._sums:
            out[end] = codec.crc7(out[start:end].tobytes())
        return out.tobytes()
