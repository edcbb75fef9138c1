"""A face on Dynamixel servos of the X series, Protocol 2.0.

A cycle is one sync write of all goals and one fast sync read of load, velocity, position, voltage and
temperature; older firmware is asked by sync read. Servos stop by themselves when the line falls silent (bus
watchdog).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facetwin.hardware import dynamixel_codec as dx
from facetwin.hardware.dynamixel_bus import DynamixelBus, alerts
from facetwin.hardware.dynamixel_setup import Servos, find_all, meet
from facetwin.hardware.rig import OPEN, RigFault, RigState
from facetwin.hardware.servo_bus import Answers, Bytes, Register, ask_at
from facetwin.hardware.servo_rig import ServoRig
from facetwin.hardware.wire import Wire
from facetwin.hardware.wiring import Ints
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec

if TYPE_CHECKING:
    from facetwin.hardware.eye import Eye


class DynamixelRig(ServoRig):
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
    bus: DynamixelBus
    TORQUE, GOAL, PLACE = dx.TORQUE_ENABLE, dx.GOAL_POSITION, dx.PRESENT_POSITION

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
        self._goals = dx.SyncWrite(self.ids.tolist())
        self._ticks = 0 if bus_watchdog is None else round(bus_watchdog / 0.02)  # of the watchdog
        self._paused = False  # we were silent for so long that the servos have stopped
        self._anew: set[int] = set()  # places of servos that started anew while they were on

    def reboot(self, motors: Sequence[str] | None = None) -> None:
        """Start servos anew, all by default: clears their hardware errors. Only while the rig is open.

        Motors are off afterwards, and a servo that counts turns starts from the turn it is in.
        """
        with self._lock:
            self._need("reboot()", OPEN)
            for name in self.spec.names if motors is None else motors:
                self.bus.reboot(int(self.ids[self.spec.index(name)]))
            self.clock.sleep(0.5)

    # --- hooks ---------------------------------------------------------------------------------

    def _make_bus(self) -> DynamixelBus:
        names = {int(k): name for k, name in zip(self.ids, self.spec.names, strict=True)}
        return DynamixelBus(self.wire, names)

    def _greet(self) -> None:
        self.servos = meet(self.bus, self.ids, self.wiring)
        self.fast = self.servos.fast

    def _get(self, ids: Bytes, register: Register) -> Answers:
        return self.bus.get(ids, register, self.fast)

    def _refusal(self, answers: Answers) -> str:
        wrong = answers.errors & ~np.uint8(dx.ALERT)
        if not wrong.any():
            return ""
        i = int(np.flatnonzero(wrong)[0])
        return f"{dx.status_error(int(wrong[i]))} error from {self.bus.name(int(self.ids[i]))}"

    def _prepare(self) -> None:
        bits = self._whole(dx.HARDWARE_ERROR).values()
        if bits.any():
            i = int(np.flatnonzero(bits)[0])
            raise RigFault("hardware error", where=self.bus.where(self.ids[i]),
                           found=", ".join(dx.hardware_errors(int(bits[i]))),
                           hint="see to the cause, then reboot() or switch its power off and on")  # fmt: skip
        self._anew.clear()
        self._hurry()
        self.bus.set(self.ids.tolist(), dx.BUS_WATCHDOG, 0)  # clears one that has tripped, too
        self._limit_speed()

    def _bounds(self) -> tuple[Ints, Ints]:
        assert self.servos is not None
        return self.servos.lowest, self.servos.highest

    def _send_goals(self, units: Ints) -> None:
        self._notice_pause()
        if self._ticks and (self._paused or self._troubles):
            self._arm()
        self.bus.send(self._goals.frame(units))

    def _arm(self) -> None:
        """Start the bus watchdogs, tripped or not."""
        numbers = self.ids.tolist()
        self.bus.set(numbers, dx.BUS_WATCHDOG, 0)
        if self._ticks:
            self.bus.set(numbers, dx.BUS_WATCHDOG, self._ticks)
        self._troubles, self._paused, self.bus.pause = (), False, 0.0

    def _read(self) -> RigState:
        self._mend()
        with self._noticing():
            self._notice_pause()
            start = self.clock.now()
            answers = self._whole(dx.STATE)
            middle = (start + self.clock.now()) / 2  # servos look between question and answer
            faults = (*self._errors(answers), *self._health())
        state = np.ascontiguousarray(answers.rows).view(dx.STATE_TYPE)[:, 0]
        assert self.servos is not None
        return RigState(
            middle,
            self._commanded.copy(),
            self.wiring.commands(state["position"]),
            self._sign * state["load"] * self.servos.load_unit,
            state["temperature"].astype(np.float64),
            state["voltage"] * 0.1,
            faults,
        )

    def _release(self) -> None:
        super()._release()
        if self.wire.is_open:
            with self._noticing():
                self.bus.set(self.ids.tolist(), dx.BUS_WATCHDOG, 0)

    # --- inside ----------------------------------------------------------------------------------

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
        of_shaft = speed * np.abs(self.wiring.per_rad) * (np.pi / 2048)  # rad/s
        value = np.clip(np.ceil(of_shaft / dx.VELOCITY_UNIT), 1, np.maximum(self.servos.fastest, 1))
        value = np.where(self.servos.drive & dx.TIME_PROFILE, 0, value).astype(np.int64)
        self.bus.set(self.ids.tolist(), dx.PROFILE_ACCELERATION, 0)
        self.bus.set(self.ids.tolist(), dx.PROFILE_VELOCITY, value.tolist())

    def _errors(self, answers: Answers) -> list[str]:
        """What the hardware error registers say, of servos that raise the alert bit."""
        alert = alerts(answers)
        if not len(alert):
            return []
        said = []
        bits = self.bus.get(self.ids[alert], dx.HARDWARE_ERROR)
        for k, value, heard in zip(alert, bits.values(), bits.heard, strict=True):
            names = ", ".join(dx.hardware_errors(int(value))) if heard and value else "hardware error"
            said.append(f"{self.bus.name(int(self.ids[k]))}: {names}")
        return said

    def _look(self) -> list[str]:
        """A bus watchdog tells more than that it tripped: it is off in a servo that has started anew."""
        register = dx.BUS_WATCHDOG if self._ticks else dx.TORQUE_ENABLE
        answers = self._get(self.ids, register)
        values = answers.values()
        self._anew.update(np.flatnonzero(answers.heard & (values == 0)).tolist())
        said = [f"{self.bus.name(int(self.ids[i]))}: started anew, its motor is off (brown-out?)"
                for i in sorted(self._anew)]  # fmt: skip
        if self._ticks and not self._paused:
            tripped = np.flatnonzero(answers.heard & (values == dx.TRIPPED))
            said += [f"{self.bus.name(int(self.ids[i]))}: bus watchdog tripped" for i in tripped]
        return said

    def _notice_pause(self) -> None:
        """Whether nothing was sent for so long that watchdogs have tripped, or are about to."""
        silent = max(time.monotonic() - self.bus.last, self.bus.pause)
        self._paused |= silent > 0.8 * self._ticks * 0.02


def scan(port: str, bauds: Sequence[int] = dx.BAUDS) -> list[dict[str, Any]]:
    """Dynamixel servos on a port, at any of these rates; about a second each, moves nothing.

    Returns
    -------
    list of dict
        kind, id, model, number, firmware, baud; sometimes a note.
    """
    return ask_at(DynamixelBus, Wire, port, bauds, find_all)
