"""What lines of smart servos have in common, whatever they speak: answers, their errors, the roll call."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.ports import no_answer
from facetwin.hardware.rig import RigFault
from facetwin.hardware.wire import Wire
from facetwin.twin.errors import FaceTwinError

Bytes = NDArray[np.uint8]

PING_TIME = 0.03  # s, how long a ping may take: more than the 16 ms that USB adapters may sit on bytes
_SAME_ID = "give each servo an id of its own, connecting them one by one; check cable and rate"


class Register(NamedTuple):
    """A value in a servo's memory: address and size in bytes, little-endian."""

    address: int
    size: int


class Status(NamedTuple):
    """An answer: who, what went wrong, what was asked for."""

    id: int
    error: int
    data: bytes


class Damaged(RigFault):
    """What came back is no frame: noise, or two servos that talk at once."""


class Silent(RigFault):
    """Nothing came back."""


class Answers(NamedTuple):
    """What many servos answered.

    Attributes
    ----------
    rows : uint8 [shape=(n, size)]
        Their registers; zeros where `heard` is False.
    errors : uint8 [shape=(n,)]
        The error byte of each status.
    heard : bool [shape=(n,)]
        Who answered.
    damaged : bool
        Something came that is no frame.
    """

    rows: Bytes
    errors: Bytes
    heard: NDArray[np.bool_]
    damaged: bool

    def values(self) -> NDArray[np.int64]:
        """The registers as whole numbers [shape=(n,)], signed where they have four bytes."""
        kind = {1: "u1", 2: "<u2", 4: "<i4"}[self.rows.shape[1]]
        return np.ascontiguousarray(self.rows).view(kind)[:, 0].astype(np.int64)


def gather(frames: Sequence[Status], ids: Bytes, size: int, damaged: bool) -> Answers:
    """Frames sorted by who was asked; those of others are left out, and a second one is damage."""
    place = {int(k): i for i, k in enumerate(ids)}
    rows, errors = np.zeros((len(ids), size), np.uint8), np.zeros(len(ids), np.uint8)
    heard = np.zeros(len(ids), bool)
    for status in frames:
        i = place.get(status.id)
        if i is None or len(status.data) != size:
            continue
        damaged |= bool(heard[i])
        rows[i] = np.frombuffer(status.data, np.uint8)
        errors[i], heard[i] = status.error, True
    return Answers(rows, errors, heard, damaged)


class ServoBus(ABC):
    """Servos on one wire.

    Parameters
    ----------
    wire : Wire
        Open.
    names : dict
        id -> what to call it in messages.

    Attributes
    ----------
    delay : float, s
        How long a servo waits before it answers; the factory's setting until told otherwise.
    last, pause : float, s
        When something was last sent (`time.monotonic`), and the longest silence of ours before that.
    """

    maker = ""  #: of the servos, for messages
    bauds: tuple[int, ...] = ()  #: rates that they know, the likely ones first
    delay = 500e-6

    def __init__(self, wire: Wire, names: Mapping[int, str] | None = None) -> None:
        self.wire = wire
        self.names = names or {}
        self.last, self.pause = time.monotonic(), 0.0

    @abstractmethod
    def ping(self, number: int) -> None:
        """Raise `Silent` or `Damaged` unless this servo answers."""

    @abstractmethod
    def doubled(self, number: int) -> bool:
        """Whether more than one answer comes to one question."""

    @abstractmethod
    def read(self, number: int, register: Register) -> int:
        """A register of one servo, unsigned; raises `Silent`, `Damaged` or `RigFault`."""

    @abstractmethod
    def write(self, number: int, register: Register, value: int) -> None:
        """Write a register of one servo, which confirms it; raises as `read` does."""

    @abstractmethod
    def set(self, numbers: Sequence[int], register: Register, values: int | Sequence[int]) -> None:
        """Write to many servos at once, which nobody confirms: one value for all, or one each."""

    @abstractmethod
    def get(self, ids: Bytes, register: Register) -> Answers:
        """Registers of many servos at once, `ids` uint8 [shape=(n,)]."""

    def send(self, data: bytes) -> None:
        """Send a frame that nobody answers."""
        self.wire.write(data)
        self._spoke()

    def _spoke(self) -> None:
        now = time.monotonic()
        self.pause = max(self.pause, now - self.last)
        self.last = now

    def answers(self, number: int) -> bool:
        """Whether anything comes back from a servo."""
        try:
            self.ping(number)
        except Silent:
            return False
        except RigFault:
            return True
        return True

    def name(self, number: int) -> str:
        """What to call a servo."""
        return f"{self.names[number]} (id {number})" if number in self.names else f"id {number}"

    def where(self, number: int) -> str:
        """A servo and its port, for messages."""
        return f"{self.wire.port}: {self.name(int(number))}"

    def listed(self, numbers: Sequence[int], most: int = 6) -> str:
        """What to call some servos."""
        shown = ", ".join(self.name(int(k)) for k in numbers[:most])
        return shown + (f" and {len(numbers) - most} more" if len(numbers) > most else "")

    def silence(self, number: int, what: str) -> Silent:
        """The error of a servo that does not answer."""
        return Silent("no answer", where=self.where(number), found=f"silence to {what}",
                      hint="check its power and cable")  # fmt: skip

    def damage(self, number: int, what: str, found: str) -> Damaged:
        """The error of an answer that cannot be read."""
        return Damaged("damaged answer", where=self.where(number), found=f"{found} to {what}",
                       hint="check the cable, or a second servo with this id")  # fmt: skip

    def get_all(self, ids: Bytes, register: Register) -> Answers:
        """As `get`, asked up to three times; raises `RigFault` unless everybody answers."""
        for _ in range(3):
            answers = self.get(ids, register)
            if answers.heard.all():
                return answers
        raise incomplete(self, ids, answers)


T = TypeVar("T", bound=ServoBus)


def roll_call(bus: ServoBus, ids: Bytes) -> None:
    """Ask all; `FaceTwinError` says who is missing, who is there twice, or which rate is right."""
    silent: list[int] = []
    for number in ids.tolist():
        for attempt in range(3):
            try:
                bus.ping(number)
            except Silent:
                if attempt == 2 or len(silent) >= 3:  # an empty line need not be asked so often
                    silent.append(number)
                    break
            except RigFault as error:
                if attempt == 2:
                    raise FaceTwinError("damaged answers: two servos may have the same id",
                                        where=bus.where(number), found=str(error),
                                        expected="one servo an id", hint=_SAME_ID) from error  # fmt: skip
            else:
                if bus.doubled(number) and bus.doubled(number):
                    raise FaceTwinError("two servos have the same id", where=bus.where(number),
                                        found="two answers to one question", hint=_SAME_ID)  # fmt: skip
                break
    if len(silent) == len(ids):
        raise _nobody(bus, ids.tolist())
    if silent:
        raise FaceTwinError("servos are missing", where=bus.wire.port,
                            found=f"no answer from {bus.listed(silent)}", expected=f"{len(ids)} servos",
                            hint="check the first one's cable; facetwin rig scan tells ids")  # fmt: skip


def ask_at(
    bus_class: type[T],
    open_wire: Callable[..., Wire],
    port: str,
    bauds: Sequence[int],
    find: Callable[[T, int], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """What `find` finds at each rate; raises only if the adapter can do none of them."""
    out: list[dict[str, Any]] = []
    refused: list[FaceTwinError] = []
    for baud in bauds:
        wire = open_wire(port, baud=baud)
        try:
            wire.open()
            out += find(bus_class(wire), baud)
        except RigFault:
            raise
        except FaceTwinError as error:
            refused.append(error)
        finally:
            wire.close()
    if refused and len(refused) == len(bauds):
        raise refused[0]
    return out


def incomplete(bus: ServoBus, ids: Bytes, answers: Answers, silent: Sequence[int] | None = None) -> RigFault:
    """The error of an answer that is not whole; `silent`: who does not answer a ping either."""
    missing = ids[~answers.heard].tolist()
    heard = f"{int(answers.heard.sum())} of {len(ids)} servos"
    if silent:
        return Silent("servos are silent", where=bus.wire.port,
                      found=f"{heard}, nothing from {bus.listed(silent)}",
                      hint="check power and cable of the first of them")  # fmt: skip
    if silent is not None:
        return Damaged("partial answer", where=bus.wire.port,
                       found=f"{heard}, though {bus.listed(missing)} answer a ping",
                       hint="check the cable, try a lower rate; two servos may have the same id")  # fmt: skip
    kind = Damaged if answers.damaged else Silent
    return kind("partial answer", where=bus.wire.port,
                found=f"{heard}{', damaged' if answers.damaged else ''}; first missing: "
                f"{bus.name(missing[0])}", hint="check power and cable")  # fmt: skip


def _nobody(bus: ServoBus, ids: Sequence[int]) -> FaceTwinError:
    """Nobody answers: try other rates, so that the message can say which one is right."""
    wire = bus.wire
    for baud in bus.bauds:
        if baud == wire.baud:
            continue
        other = Wire(wire.port, baud=baud, timeout=wire.timeout)
        wire.close()
        try:
            other.open()
            asked = type(bus)(other)
            number = next((k for k in dict.fromkeys([*ids[:2], 1]) if _well(asked, k)), None)
        except (OSError, FaceTwinError):
            continue
        finally:
            other.close()
        if number is not None:
            return FaceTwinError("wrong rate", where=wire.port,
                                 found=f"silence at {wire.baud} baud, id {number} answers at {baud}",
                                 hint=f"add ?baud={baud} to the name of the rig")  # fmt: skip
    return no_answer(wire.port, wire.baud, f"{len(ids)} {bus.maker} servos",
                     "power of the servos, cable, ids (facetwin rig scan)")  # fmt: skip


def _well(bus: ServoBus, number: int) -> bool:
    try:
        bus.ping(number)
    except RigFault:
        return False
    return True
