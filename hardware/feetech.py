"""A face on Feetech servos of the STS and SMS series, as the STS3215.

A cycle is one sync write of all goals and one sync read of position, speed, load, voltage and temperature;
each servo answers in a frame of its own, with its errors. They have no watchdog: if the program is killed
(`kill -9`) they hold where they were told to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facetwin.hardware import feetech_codec as ft
from facetwin.hardware.feetech_bus import FeetechBus
from facetwin.hardware.feetech_setup import Servos, find_all, meet
from facetwin.hardware.rig import RigFault, RigState
from facetwin.hardware.servo_bus import Answers, Bytes, Register, ask_at
from facetwin.hardware.servo_rig import ServoRig
from facetwin.hardware.wire import Wire
from facetwin.hardware.wiring import Ints
from facetwin.twin.spec import RigSpec

if TYPE_CHECKING:
    from facetwin.hardware.eye import Eye


class FeetechRig(ServoRig):
    """Feetech servos on one line; ids are the motors' places in the table, from 1, unless wired otherwise.

    Parameters
    ----------
    port : str
        e.g. ``/dev/ttyACM0``.
    table : RigSpec, name or path of a rig table
    baud : int
        1,000,000 from the factory (STS), 115,200 (SMS).
    camera : str or Eye, optional
    wiring : dict, optional
        Motor -> changes, see `facetwin.hardware.wiring.wiring_of`.
    timeout : float, s
        How long an answer may take beside its time on the wire.
    quick : bool
        At activation set the return delay (7) to 0 where it is not: one write to the servo's EEPROM.

    Attributes
    ----------
    servos : Servos or None
        What they said of themselves, once opened.
    """

    kind = "feetech"
    bus: FeetechBus
    TORQUE, GOAL, PLACE = ft.TORQUE_ENABLE, ft.GOAL_POSITION, ft.PRESENT_POSITION

    def __init__(
        self,
        port: str,
        *,
        table: RigSpec | str | Path = "face26",
        baud: int = 1_000_000,
        camera: str | Eye | None = None,
        wiring: Mapping[str, Mapping[str, float]] | None = None,
        timeout: float = 0.05,
        quick: bool = True,
    ) -> None:
        super().__init__(port, table=table, baud=baud, camera=camera, wiring=wiring, timeout=timeout)
        self.quick = quick
        self.servos: Servos | None = None

    # --- hooks ---------------------------------------------------------------------------------

    def _make_bus(self) -> FeetechBus:
        names = {int(k): name for k, name in zip(self.ids, self.spec.names, strict=True)}
        return FeetechBus(self.wire, names)

    def _greet(self) -> None:
        self.servos = meet(self.bus, self.ids, self.wiring)

    def _get(self, ids: Bytes, register: Register) -> Answers:
        return self.bus.get(ids, register, self.servos is None or self.servos.sync)

    def _refusal(self, answers: Answers) -> str:
        return ""  # errors of these servos are states, not answers to a question

    def _signed(self, values: Ints) -> Ints:
        return ft.signed(values)

    def _bounds(self) -> tuple[Ints, Ints]:
        assert self.servos is not None
        return self.servos.lowest, self.servos.highest

    def _prepare(self) -> None:
        answers = self._whole(ft.TORQUE_ENABLE)
        if answers.errors.any():
            i = int(np.flatnonzero(answers.errors)[0])
            raise RigFault("the servo reports an error", where=self.bus.where(self.ids[i]),
                           found=", ".join(ft.error_names(int(answers.errors[i]))),
                           hint="see to the cause, or switch its power off and on")  # fmt: skip
        self._hurry(answers.values())
        self._limit_speed()

    def _send_goals(self, units: Ints) -> None:
        goals = ft.rows_of(ft.magnitude(units), 2)
        self.bus.send(ft.sync_write(self.ids, ft.GOAL_POSITION, goals))

    def _read(self) -> RigState:
        self._mend()
        with self._noticing():
            start = self.clock.now()
            answers = self._whole(ft.STATE)
            middle = (start + self.clock.now()) / 2  # servos look between question and answer
            health = self._health()
        state = np.ascontiguousarray(answers.rows).view(ft.STATE_TYPE)[:, 0]
        faults = [
            f"{self.bus.name(int(self.ids[i]))}: {', '.join(ft.error_names(int(answers.errors[i])))}"
            for i in np.flatnonzero(answers.errors)
        ]
        return RigState(
            middle,
            self._commanded.copy(),
            self.wiring.commands(ft.signed(state["position"])),
            self._sign * ft.signed(state["load"], ft.LOAD_SIGN) * 1e-3,
            state["temperature"].astype(np.float64),
            state["voltage"] * 0.1,
            (*faults, *health),
        )

    # --- inside ----------------------------------------------------------------------------------

    def _hurry(self, on: Ints) -> None:
        """Return delay 0, where the motor is off: it is in the EEPROM, behind a lock."""
        assert self.servos is not None
        for i in np.flatnonzero(self.servos.delay > 0) if self.quick else ():
            if not on[i]:
                number = int(self.ids[i])
                self.bus.write(number, ft.LOCK, 0)
                self.bus.write(number, ft.RETURN_DELAY, 0)
                self.bus.write(number, ft.LOCK, 1)
                self.servos.delay[i] = 0.0
        self.bus.delay = float(self.servos.delay.max())

    def _limit_speed(self) -> None:
        """The table's speeds and accelerations as the servos' own, with goals where they stand."""
        assert self.servos is not None
        scale = np.abs(self.wiring.per_rad)  # steps/rad
        speed = np.array([m.max_speed for m in self.spec.motors]) * scale / self.servos.speed_unit
        push = np.array([m.max_acceleration for m in self.spec.motors]) * scale / 100
        place = ft.signed(self._whole(ft.PRESENT_POSITION).values())
        motion = np.zeros(len(self.ids), ft.MOTION_TYPE)
        motion["acceleration"] = np.where(push > 254, 0, np.ceil(push))  # 0: as quickly as it can
        motion["goal"] = ft.magnitude(np.clip(place, *self._bounds()))
        motion["speed"] = np.clip(np.ceil(speed), 1, 32766)
        rows = motion.view(np.uint8).reshape(len(self.ids), -1)
        self.bus.send(ft.sync_write(self.ids, ft.MOTION, rows))

    def _look(self) -> list[str]:
        """A motor that went off by itself: its servo started anew, or protects itself."""
        answers = self._get(self.ids, ft.TORQUE_ENABLE)
        off = np.flatnonzero(answers.heard & (answers.values() == 0))
        return [f"{self.bus.name(int(self.ids[i]))}: its motor is off (brown-out?)" for i in off]


def scan(port: str, bauds: Sequence[int] = ft.BAUDS) -> list[dict[str, Any]]:
    """Feetech servos on a port, at any of these rates; moves nothing.

    A rate at which nobody answers takes a third of a second, one with servos up to ten.

    Returns
    -------
    list of dict
        kind, id, model, number, firmware, baud; sometimes a note.
    """
    return ask_at(FeetechBus, Wire, port, bauds, find_all)
