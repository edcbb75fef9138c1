"""A line of Feetech servos: questions and answers on a wire, with or without an echo of the questions."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from facetwin.hardware import feetech_codec as ft
from facetwin.hardware.rig import RigFault
from facetwin.hardware.servo_bus import PING_TIME, Answers, Bytes, Register, ServoBus, Silent, Status, gather


class FeetechBus(ServoBus):
    """Feetech servos of the STS and SMS series on one wire.

    Attributes
    ----------
    echo : bool
        The adapter gives back what was sent, as those do that join both lines; noticed at the first read.
    """

    maker = "Feetech"
    bauds = ft.BAUDS
    echo = False

    # --- one servo --------------------------------------------------------------------------------

    def ping(self, number: int) -> None:
        """Raise `Silent` or `Damaged` unless this servo answers.

        Asks for its id: a ping's echo cannot be told from the answer of a servo with low voltage.
        """
        found = self.read(number, ft.ID)
        if found != number:
            raise self.damage(number, "a question for its id", f"id {found}")

    def doubled(self, number: int) -> bool:
        """Whether more than one answer comes to one question."""
        self.ping(number)
        frames, _, damage = ft.find_status(self.wire.read(64, 0.002), final=True)
        return any(f.id == number for f in frames) or damage > 0

    def read(self, number: int, register: Register) -> int:
        """A register of one servo, unsigned; raises `Silent`, `Damaged` or `RigFault`."""
        return int.from_bytes(self.read_bytes(number, register), "little")

    def read_bytes(self, number: int, register: Register) -> bytes:
        """Registers of one servo, as they are."""
        question = ft.frame(number, ft.READ, bytes(register))
        return self._ask(number, question, register.size, f"read of {register.address}").data

    def write(self, number: int, register: Register, value: int) -> None:
        """Write a register of one servo, which confirms it; raises as `read` does.

        A servo whose status return level is 0 confirms nothing: it is asked what it holds now.
        """
        data = bytes([register.address]) + int(value).to_bytes(register.size, "little")
        try:
            self._ask(number, ft.frame(number, ft.WRITE, data), 0, f"write to {register.address}")
        except Silent:
            if self.read(number, register) != value:
                raise

    def anybody(self) -> bool:
        """Whether anything comes back to a broadcast ping: many servos answer it all at once."""
        question = ft.frame(ft.BROADCAST, ft.PING)
        self.wire.discard()
        self.send(question)
        data = self.wire.read(len(question) + 1, PING_TIME)
        return len(data) > 0 and data != question

    # --- many servos --------------------------------------------------------------------------------

    def set(self, numbers: Sequence[int], register: Register, values: int | Sequence[int]) -> None:
        """Write to many servos at once, which nobody confirms: one value for all, or one each."""
        each = np.broadcast_to(np.asarray(values, dtype=np.int64), len(numbers))
        ids = np.asarray(numbers, dtype=np.uint8)
        self.send(ft.sync_write(ids, register, ft.rows_of(each, register.size)))

    def get(self, ids: Bytes, register: Register, sync: bool = True) -> Answers:
        """Registers of many servos at once.

        Parameters
        ----------
        ids : uint8 [shape=(n,)]
        register : Register
        sync : bool
            By one question (0x82), otherwise by one each, for servos that do not know it.
        """
        if not sync:
            return self._one_by_one(ids, register)
        question = ft.sync_read(ids.tolist(), register)
        size = len(ids) * ft.status_size(register)
        asked = len(question) if self.echo else 0
        self.wire.discard()
        self.send(question)
        spent = (len(question) + size) * 10 / self.wire.baud + len(ids) * self.delay
        end = self.last + self.wire.timeout + spent
        data = self.wire.read(size + asked, end - time.monotonic())
        if asked and data.startswith(question):
            data = data[asked:]
        whole = ft.find_rows(data, ids, register)
        if whole is not None:
            return Answers(*whole, np.ones(len(ids), bool), False)
        answers = self._sorted(data, ids, register)
        while not answers.heard.all() and len(data) >= size and (left := end - time.monotonic()) > 0:
            more = self.wire.read(max(len(question), 16), min(left, 0.02))  # an echo, or noise, was there
            if not more:
                break
            data += more
            answers = self._sorted(data, ids, register)
        return answers

    # --- inside ----------------------------------------------------------------------------------

    def _ask(self, number: int, question: bytes, size: int, what: str) -> Status:
        """The answer of one servo, with `size` bytes in it."""
        self.wire.discard()
        self.send(question)
        expected = size + 6
        bytes_time = (len(question) + expected) * 10 / self.wire.baud
        end = self.last + PING_TIME + bytes_time + self.delay
        data = self.wire.read(expected + (len(question) if self.echo else 0), end - time.monotonic())
        reads = question[4] == ft.READ and size != 2  # no answer begins as such a question does
        alike = min(len(data), len(question))
        if alike >= 4 and data[:alike] == question[:alike] and (self.echo or reads):
            if not self.echo:
                self.echo = True
                data += self.wire.read(len(question), end - time.monotonic())
            data = data[len(question) :]
        if not data:
            raise self.silence(number, what)
        frames, _, _ = ft.find_status(data, final=True)
        for status in frames:
            if status.id == number and len(status.data) == size:
                return status
        raise self.damage(number, what, data.hex(" ") if len(data) < 20 else f"{len(data)} bytes")

    def _one_by_one(self, ids: Bytes, register: Register) -> Answers:
        frames, damaged = [], False
        for number in ids.tolist():
            question = ft.frame(number, ft.READ, bytes(register))
            try:
                frames.append(self._ask(number, question, register.size, "read"))
            except RigFault as error:
                damaged |= "damaged" in str(error)
        return gather(frames, ids, register.size, damaged)

    def _sorted(self, data: bytes, ids: Bytes, register: Register) -> Answers:
        frames, _, damage = ft.find_status(data, final=True)
        return gather(frames, ids, register.size, damage > 0)
