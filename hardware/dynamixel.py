"""A face on Dynamixel servos of the X series, Protocol 2.0.

A cycle is one sync write of all goals and one fast sync read of load, velocity, position, voltage and
temperature; older firmware is asked by sync read. Servos stop by themselves when the line falls silent (bus
watchdog), and no motor is switched on before its servo has confirmed that its goal is where it stands.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facetwin.hardware import dynamixel_codec as dx
from facetwin.hardware.dynamixel_bus import Answers, Bus, alerts
from facetwin.hardware.dynamixel_setup import Servos, find_all, incomplete, meet
from facetwin.hardware.rig import ACTIVE, HELD, OPEN, Floats, RigFault, RigState
from facetwin.hardware.serial_rig import SerialRig
from facetwin.hardware.wire import Wire
from facetwin.hardware.wiring import Ints
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec

if TYPE_CHECKING:
    from facetwin.hardware.eye import Eye

_NEAR = 24  # ticks, 2 degrees: how far a goal may be from a shaft that someone touches
_HEALTH = 0.5  # s, how often the bus watchdogs are looked at


class DynamixelRig(SerialRig):
    """Dynamixel servos on one line; ids are the motors' places in the table, from 1, unless wired otherwise.

    Parameters
    ----------
    port : str
        e.g. ``/dev/ttyUSB0``.
    table : RigSpec, name or path of a rig table
    baud : int
        57,600 from the factory; a face of 26 motors needs 1,000,000 or more.
    camera : str or Eye, optional
    wiring : dict, optional
        Motor -> changes, see `facetwin.hardware.wiring.wiring_of`.
    timeout : float, s
        How long an answer may take beside its time on the wire.
    bus_watchdog : float, s, or None
        Without any instruction for so long the servos stop; .02 to 2.54, None: off.
    quick : bool
        At activation set Return Delay Time(9) to 0 where it is not: one write to the servo's EEPROM.

    Attributes
    ----------
    servos : Servos or None
        What they said of themselves, once opened.
    fast : bool
        They are read by fast sync read.
    """

    kind = "dynamixel"
    feedback = True

    def __init__(
        self,
        port: str,
        *,
        table: RigSpec | str | Path = "face26",
        baud: int = 1_000_000,
        camera: str | Eye | None = None,
        wiring: Mapping[str, Mapping[str, float]] | None = None,
        timeout: float = 0.05,
        bus_watchdog: float | None = 1.0,
        quick: bool = True,
    ) -> None:
        super().__init__(port, table=table, baud=baud, camera=camera, wiring=wiring, timeout=timeout)
        if bus_watchdog is not None and not 0.02 <= bus_watchdog <= 2.54:
            raise UsageError("bad setting", where=f"{port}: bus_watchdog", found=bus_watchdog,
                             expected="0.02 to 2.54 s, or None")  # fmt: skip
        self.bus_watchdog, self.quick = bus_watchdog, quick
        self.servos: Servos | None = None
        self.fast = False
        self.ids = self.wiring.channel.astype(np.uint8)
        self.bus = self._make_bus()
        self._goals = dx.SyncWrite(self.ids.tolist())
        self._ticks = 0 if bus_watchdog is None else round(bus_watchdog / 0.02)  # of the watchdog
        self._failed = 0  # reads in a row
        self._looked = 0.0  # when the watchdogs were last looked at
        self._troubles: tuple[str, ...] = ()  # what they showed
        self._sign = np.sign(self.wiring.per_rad)

    def reboot(self, motors: Sequence[str] | None = None) -> None:
        """Start servos anew, all by default: clears their hardware errors. Only while the rig is open.

        Motors are off afterwards, and a servo that counts turns starts from the turn it is in.
        """
        with self._lock:
            self._need("reboot()", OPEN)
            which = self.spec.names if motors is None else motors
            for name in which:
                self.bus.reboot(int(self.ids[self.spec.index(name)]))
            self.clock.sleep(0.5)

    # --- hooks ---------------------------------------------------------------------------------

    def _meet(self) -> None:
        self._troubles = ()
        self.bus = self._make_bus()  # the wire may be another one
        self.servos = meet(self.bus, self.ids, self.wiring)
        self.fast = self.servos.fast

    def _activate(self, present: Floats) -> None:
        with self._noticing():
            self._refuse_errors()
            self._hurry()
            numbers = self.ids.tolist()
            self.bus.set(numbers, dx.BUS_WATCHDOG, 0)  # clears one that has tripped, too
            self._limit_speed()
            place = self._whole(dx.PRESENT_POSITION).values()
            # the shaft's own place, not `present`: it may stand outside of its range
            assert self.servos is not None
            goal = np.clip(place, self.servos.lowest, self.servos.highest)
            self.bus.send(self._goals.frame(goal))
            self._same_place(np.abs(goal - place))
            self.bus.set(numbers, dx.TORQUE_ENABLE, 1)
            self._all_are(dx.TORQUE_ENABLE, 1, "the motor does not switch on")
            self._arm()
        self._looked = time.monotonic()
        self._troubles = ()

    def _write(self, command: Floats) -> Floats:
        units = self.wiring.units(command)
        with self._noticing():
            late = time.monotonic() - self.bus.last
            if self._ticks and (self._troubles or late > 0.8 * self._ticks * 0.02):
                self._arm()  # they have stopped, or may have
            self.bus.send(self._goals.frame(units))
        return self.wiring.sent(units, command)

    def _read(self) -> RigState:
        self._mend()
        with self._noticing():
            start = self.clock.now()
            answers = self._whole(dx.STATE)
            time_ = (start + self.clock.now()) / 2  # servos look at themselves between question and answer
            faults = self._faults(answers)
        state = np.ascontiguousarray(answers.rows).view(dx.STATE_TYPE)[:, 0]
        assert self.servos is not None
        return RigState(
            time_,
            self._commanded.copy(),
            self.wiring.commands(state["position"]),
            self._sign * state["load"] * self.servos.load_unit,
            state["temperature"].astype(np.float64),
            state["voltage"] * 0.1,
            faults,
        )

    def _release(self) -> None:
        if not self.wire.is_open or self.servos is None:
            return
        with self._noticing():
            numbers = self.ids.tolist()
            self.bus.set(numbers, dx.TORQUE_ENABLE, 0)
            answers = self.bus.get(self.ids, dx.TORQUE_ENABLE)
            on = self.ids[answers.heard & (answers.values() != 0)].tolist()
            for number in on:
                self.bus.write(number, dx.TORQUE_ENABLE, 0)
            silent = self.ids[~answers.heard].tolist()
            if silent:  # they may have missed it
                self.bus.set(numbers, dx.TORQUE_ENABLE, 0)
            self.bus.set(numbers, dx.BUS_WATCHDOG, 0)
        if silent:
            said = f"released, not confirmed by {self.bus.listed(silent)}"
            self.status.reason = f"{self.status.reason}; {said}" if self.status.reason else said

    # --- inside ----------------------------------------------------------------------------------

    def _make_bus(self) -> Bus:
        return Bus(self.wire, {int(k): name for k, name in zip(self.ids, self.spec.names, strict=True)})

    def _whole(self, register: dx.Register) -> Answers:
        """Registers of all servos; raises when one is missing, by the third time saying who is silent."""
        answers = self.bus.get(self.ids, register, self.fast)
        wrong = answers.errors & ~np.uint8(dx.ALERT)
        if answers.heard.all() and not wrong.any():
            self._failed = 0
            return answers
        self._failed += 1
        if answers.heard.all():
            i = int(np.flatnonzero(wrong)[0])
            raise RigFault("the servo refused", where=f"{self.port}: {self.bus.name(int(self.ids[i]))}",
                           found=f"{dx.status_error(int(wrong[i]))} error "
                           f"to read of {register.address}")  # fmt: skip
        silent = self._silent(answers) if self._failed > self.retries else None
        raise incomplete(self.bus, self.ids, answers, silent)

    def _silent(self, answers: Answers) -> list[int]:
        """Who does not answer a ping either, as far as a tenth of a second goes."""
        end = time.monotonic() + 0.1
        missing = self.ids[~answers.heard].tolist()
        return [k for k in missing if time.monotonic() < end and not self.bus.answers(k)]

    def _all_are(self, register: dx.Register, value: int, what: str) -> None:
        found = self._whole(register).values()
        if (other := found != value).any():
            i = int(np.flatnonzero(other)[0])
            raise RigFault(what, where=f"{self.port}: {self.bus.name(int(self.ids[i]))}",
                           found=f"{found[i]} at {register.address}", expected=str(value))  # fmt: skip

    def _refuse_errors(self) -> None:
        bits = self._whole(dx.HARDWARE_ERROR).values()
        if bits.any():
            i = int(np.flatnonzero(bits)[0])
            raise RigFault("hardware error", where=f"{self.port}: {self.bus.name(int(self.ids[i]))}",
                           found=", ".join(dx.hardware_errors(int(bits[i]))),
                           hint="see to the cause, then reboot() or switch its power off and on")  # fmt: skip

    def _hurry(self) -> None:
        """Return Delay Time 0, where the motor is off: it is in the EEPROM."""
        assert self.servos is not None
        slow = np.flatnonzero(self.servos.delay > 0)
        if not self.quick or not len(slow):
            return
        on = self._whole(dx.TORQUE_ENABLE).values()
        for i in slow:
            if not on[i]:
                self.bus.write(int(self.ids[i]), dx.RETURN_DELAY, 0)
                self.servos.delay[i] = 0.0
        self.bus.delay = float(self.servos.delay.max())

    def _limit_speed(self) -> None:
        """The table's speeds as the servos' own limit, so that a wrong goal cannot make them slam."""
        assert self.servos is not None
        speed = np.array([m.max_speed for m in self.spec.motors])
        by_scale = speed * np.abs(self.wiring.per_rad) * (np.pi / 2048)  # rad/s of the servo's shaft
        value = np.clip(np.ceil(by_scale / dx.VELOCITY_UNIT), 1, np.maximum(self.servos.fastest, 1))
        value = np.where(self.servos.drive & dx.TIME_PROFILE, 0, value).astype(np.int64)
        numbers = self.ids.tolist()
        self.bus.set(numbers, dx.PROFILE_ACCELERATION, 0)
        self.bus.set(numbers, dx.PROFILE_VELOCITY, value.tolist())

    def _same_place(self, outside: Ints) -> None:
        """Goals are where the shafts are, or nothing is switched on."""
        goal = self._whole(dx.GOAL_POSITION).values()
        place = self._whole(dx.PRESENT_POSITION).values()
        away = np.abs(goal - place) - outside
        if (away > _NEAR).any():
            i = int(np.argmax(away))
            raise RigFault("the goal is not where the servo stands",
                           where=f"{self.port}: {self.bus.name(int(self.ids[i]))}",
                           found=f"goal {goal[i]}, at {place[i]}", expected=f"within {_NEAR} ticks",
                           hint="leave the face alone while it is switched on")  # fmt: skip

    def _arm(self) -> None:
        """Start the bus watchdogs, tripped or not."""
        numbers = self.ids.tolist()
        self.bus.set(numbers, dx.BUS_WATCHDOG, 0)
        if self._ticks:
            self.bus.set(numbers, dx.BUS_WATCHDOG, self._ticks)
        self._troubles = ()

    def _faults(self, answers: Answers) -> tuple[str, ...]:
        said = []
        alert = alerts(answers)
        if len(alert):
            bits = self.bus.get(self.ids[alert], dx.HARDWARE_ERROR)
            for k, value, heard in zip(alert, bits.values(), bits.heard, strict=True):
                names = ", ".join(dx.hardware_errors(int(value))) if heard and value else "hardware error"
                said.append(f"{self.bus.name(int(self.ids[k]))}: {names}")
        now = time.monotonic()
        if self._ticks and self.status.state in (ACTIVE, HELD) and now - self._looked > _HEALTH:
            self._looked = now
            self._look()
        return (*said, *self._troubles)

    def _look(self) -> None:
        """A bus watchdog tells more than that it tripped: it is off in a servo that has started anew."""
        answers = self.bus.get(self.ids, dx.BUS_WATCHDOG, self.fast)
        values = answers.values()
        said = []
        for i in np.flatnonzero(answers.heard & (values != self._ticks)):
            what = "started anew, its motor is off (brown-out?)" if values[i] == 0 else "bus watchdog tripped"
            said.append(f"{self.bus.name(int(self.ids[i]))}: {what}")
        self._troubles = tuple(said)


def scan(port: str, bauds: Sequence[int] = dx.BAUDS) -> list[dict[str, Any]]:
    """Dynamixel servos on a port, at any of these rates; about a second each, moves nothing.

    Returns
    -------
    list of dict
        kind, id, model, number, firmware, baud; sometimes a note.
    """
    out: list[dict[str, Any]] = []
    for baud in bauds:
        wire = Wire(port, baud=baud)
        wire.open()
        try:
            out += find_all(Bus(wire), baud)
        finally:
            wire.close()
    return out
