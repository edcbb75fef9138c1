"""A face on smart servos that share one line: what Dynamixel and Feetech drivers have in common.

No motor is switched on before its servo has confirmed that its goal is where it stands; motors that were
switched off are asked whether they are.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any

import numpy as np

from facetwin.hardware.rig import ACTIVE, HELD, Floats, RigFault
from facetwin.hardware.serial_rig import SerialRig
from facetwin.hardware.servo_bus import Answers, Register, ServoBus, incomplete
from facetwin.hardware.wiring import Ints

_NEAR = 24  # ticks, 2 degrees: how far a goal may be from a shaft that someone touches
_HEALTH = 0.5  # s, how often servos are asked whether they are still on


class ServoRig(SerialRig):
    """Servos on one line; ids are the motors' places in the table, from 1, unless wired otherwise.

    Attributes
    ----------
    ids : uint8 [shape=(n,)]
    bus : ServoBus
    """

    feedback = True
    TORQUE: Register
    GOAL: Register
    PLACE: Register

    def __init__(self, port: str, **options: Any) -> None:
        super().__init__(port, **options)
        self.ids = self.wiring.channel.astype(np.uint8)
        self.bus = self._make_bus()
        self._sign = np.sign(self.wiring.per_rad)
        self._failed = 0  # reads in a row
        self._looked = 0.0  # when health was last asked for
        self._troubles: tuple[str, ...] = ()  # what it showed

    # --- what a driver fills -----------------------------------------------------------------------

    @abstractmethod
    def _make_bus(self) -> ServoBus:
        """A bus on the present wire."""

    @abstractmethod
    def _greet(self) -> None:
        """Make sure that the servos suit; move nothing."""

    @abstractmethod
    def _get(self, ids: Any, register: Register) -> Answers:
        """Registers of some servos, in the quickest way they know."""

    @abstractmethod
    def _refusal(self, answers: Answers) -> str:
        """What the first servo that refused said, by name, or empty."""

    @abstractmethod
    def _prepare(self) -> None:
        """Settings before the motors are switched on; raise if one must not be."""

    @abstractmethod
    def _send_goals(self, units: Ints) -> None:
        """Send goals [shape=(n,)], in units."""

    @abstractmethod
    def _bounds(self) -> tuple[Ints, Ints]:
        """Lowest and highest goals that the servos take."""

    def _signed(self, values: Ints) -> Ints:
        """Places as whole numbers."""
        return values

    def _arm(self) -> None:
        """Start what watches the line, if the servos have it."""

    def _look(self) -> list[str]:
        """Ask about health, while active."""
        return []

    # --- hooks ---------------------------------------------------------------------------------

    def _meet(self) -> None:
        self._troubles = ()
        self.bus = self._make_bus()  # the wire may be another one
        self._greet()

    def _activate(self, present: Floats) -> None:
        with self._noticing():
            self._prepare()
            # the shaft's own place, not `present`: it may stand outside of its range
            place = self._signed(self._whole(self.PLACE).values())
            goal = np.clip(place, *self._bounds())
            self._send_goals(goal)
            self._same_place(np.abs(goal - place))
            self.bus.set(self.ids.tolist(), self.TORQUE, 1)
            self._all_are(self.TORQUE, 1, "the motor does not switch on")
            self._arm()
        self._looked = time.monotonic()
        self._troubles = ()

    def _write(self, command: Floats) -> Floats:
        units = self.wiring.units(command)
        with self._noticing():
            self._send_goals(units)
        return self.wiring.sent(units, command)

    def _release(self) -> None:
        if not self.wire.is_open:
            return
        numbers = self.ids.tolist()
        with self._noticing():
            self.bus.set(numbers, self.TORQUE, 0)
            answers = self._get(self.ids, self.TORQUE)
            if not answers.heard.all():  # they may have missed it
                self.bus.set(numbers, self.TORQUE, 0)
                answers = self.bus.get(self.ids, self.TORQUE)
            for number in self.ids[answers.heard & (answers.values() != 0)].tolist():
                self.bus.write(number, self.TORQUE, 0)
        silent = self.ids[~answers.heard].tolist()
        if silent:
            said = f"released, not confirmed by {self.bus.listed(silent)}"
            self.status.reason = f"{self.status.reason}; {said}" if self.status.reason else said

    # --- inside ----------------------------------------------------------------------------------

    def _whole(self, register: Register) -> Answers:
        """Registers of all servos; raises when one is missing, by the third time saying who is silent."""
        answers = self._get(self.ids, register)
        refusal = self._refusal(answers)
        if answers.heard.all() and not refusal:
            self._failed = 0
            return answers
        self._failed += 1
        if answers.heard.all():
            raise RigFault("a servo refused", where=self.port,
                           found=f"{refusal} to read of {register.address}")  # fmt: skip
        silent = self._silent(answers) if self._failed > self.retries else None
        raise incomplete(self.bus, self.ids, answers, silent)

    def _silent(self, answers: Answers) -> list[int]:
        """Who does not answer a ping either, as far as a tenth of a second goes."""
        end = time.monotonic() + 0.1
        missing = self.ids[~answers.heard].tolist()
        return [k for k in missing if time.monotonic() < end and not self.bus.answers(k)]

    def _all_are(self, register: Register, value: int, what: str) -> None:
        found = self._whole(register).values()
        if (other := found != value).any():
            i = int(np.flatnonzero(other)[0])
            raise RigFault(what, where=self.bus.where(self.ids[i]),
                           found=f"{found[i]} at {register.address}", expected=str(value))  # fmt: skip

    def _same_place(self, outside: Ints) -> None:
        """Goals are where the shafts are, or nothing is switched on."""
        goal = self._signed(self._whole(self.GOAL).values())
        place = self._signed(self._whole(self.PLACE).values())
        away = np.abs(goal - place) - outside
        if (away > _NEAR).any():
            i = int(np.argmax(away))
            raise RigFault("the goal is not where the servo stands", where=self.bus.where(self.ids[i]),
                           found=f"goal {goal[i]}, at {place[i]}", expected=f"within {_NEAR} ticks",
                           hint="leave the face alone while it is switched on")  # fmt: skip

    def _health(self) -> tuple[str, ...]:
        """What `_look` showed when it was last worth while to look."""
        now = time.monotonic()
        if self.status.state in (ACTIVE, HELD) and now - self._looked > _HEALTH:
            self._looked = now
            self._troubles = tuple(self._look())
        return self._troubles
