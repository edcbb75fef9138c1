"""Who is on a Feetech line, and whether the servos suit the rig table: asked before anything may move."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware import feetech_codec as ft
from facetwin.hardware.feetech_bus import FeetechBus
from facetwin.hardware.rig import Floats, RigFault
from facetwin.hardware.servo_bus import Bytes, roll_call
from facetwin.hardware.wiring import Ints, Wiring
from facetwin.twin.errors import FaceTwinError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Servos:
    """What the servos of a rig said of themselves; arrays are [shape=(n,)].

    Attributes
    ----------
    model : int64
        Model number.
    firmware : list of str
    lowest, highest : int64, steps
        Goals that they take.
    speed_unit : int64, steps/s
        What a unit of their goal speed is.
    delay : float64, s
        How long they wait before they answer.
    sync : bool
        They know sync read.
    """

    model: Ints
    firmware: list[str]
    lowest: Ints
    highest: Ints
    speed_unit: Ints
    delay: Floats
    sync: bool


def meet(bus: FeetechBus, ids: Bytes, wiring: Wiring) -> Servos:
    """Make sure that the servos of the rig table are there, each once, and can do what is asked of them.

    Writes nothing. Raises `FaceTwinError` in one line.
    """
    roll_call(bus, ids)
    all_of = np.array([list(_settings(bus, number)) for number in ids.tolist()], dtype=np.int64)
    model = all_of[:, 3] | all_of[:, 4] << 8
    lowest, highest = all_of[:, 9] | all_of[:, 10] << 8, all_of[:, 11] | all_of[:, 12] << 8
    turns = (lowest == 0) & (highest == 0)
    lowest, highest = np.where(turns, wiring.low, lowest), np.where(turns, wiring.high, highest)
    for i, row in enumerate(all_of):
        _suits(bus, int(ids[i]), row, int(model[i]))
        _reaches(bus, int(ids[i]), wiring, i, int(lowest[i]), int(highest[i]))
    delay = all_of[:, 7] * 2e-6
    bus.delay = float(delay.max())
    sync = _sync(bus, ids)
    _stand(bus, ids, wiring, sync)
    return Servos(model, [f"{row[0]}.{row[1]}" for row in all_of], lowest, highest,
                  np.where(all_of[:, 18] & ft.SPEED_FINE, 1, 50), delay, sync)  # fmt: skip


def find_all(bus: FeetechBus, baud: int, last: int = 253) -> list[dict[str, Any]]:
    """Every servo that answers, as dicts: id, model, number, firmware, baud."""
    numbers = range(last + 1) if bus.anybody() else range(11)  # some do not answer to all
    out: list[dict[str, Any]] = []
    for number in numbers:
        note = {}
        try:
            data = bus.read_bytes(number, ft.Register(0, 5))
        except RigFault as error:
            if "damaged" not in str(error):
                continue
            note, data = {"note": "damaged answers: two servos may have the same id"}, bytes(5)
        kind = int.from_bytes(data[3:5], "little")
        out.append({"kind": "feetech", "id": number, "model": ft.model_name(kind) if kind else "unknown",
                    "number": kind, "firmware": f"{data[0]}.{data[1]}", "baud": baud, **note})  # fmt: skip
    return out


# --- inside ------------------------------------------------------------------------------------------


def _settings(bus: FeetechBus, number: int) -> bytes:
    for attempt in range(3):
        try:
            return bus.read_bytes(number, ft.IDENTITY)
        except RigFault:
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def _suits(bus: FeetechBus, number: int, row: NDArray[np.int64], model: int) -> None:
    where = bus.where(number)
    if row[2] or model & 0xFF not in ft.DRIVEN:
        raise FaceTwinError("a servo of another series", where=where, found=ft.model_name(model),
                            expected="STS or SMS, as STS3215",
                            hint="SCS and HLS have other memory tables")  # fmt: skip
    if row[33] != ft.POSITION_MODE:
        raise FaceTwinError("wrong operating mode", where=where,
                            found=f"{row[33]} ({ft.MODES.get(int(row[33]), 'unknown')})",
                            expected="0 (position)",
                            hint="set register 33 to 0 with Feetech's FD program")  # fmt: skip


def _reaches(bus: FeetechBus, number: int, wiring: Wiring, i: int, lowest: int, highest: int) -> None:
    ends = wiring.units(np.stack([np.zeros(wiring.size), np.ones(wiring.size)]))[:, i]
    if ends.min() < lowest or ends.max() > highest:
        raise FaceTwinError(
            "position limits of the servo are narrower than the motor's range", where=bus.where(number),
            found=f"{lowest} to {highest} steps", expected=f"{ends.min()} to {ends.max()}",
            hint="widen its angle limits (registers 9, 11), or change the wiring",
        )  # fmt: skip


def _sync(bus: FeetechBus, ids: Bytes) -> bool:
    """Whether sync read works; says so once if it does not."""
    works = any(bus.get(ids, ft.PRESENT_POSITION).heard.all() for _ in range(3))
    if not works:
        _log.warning("%s: not all servos know sync read: they are read one by one, which takes longer",
                     bus.wire.port)  # fmt: skip
    return works


def _stand(bus: FeetechBus, ids: Bytes, wiring: Wiring, sync: bool) -> None:
    """A servo that counts turns must not stand a turn away: it would wind itself back."""
    for _ in range(3):
        answers = bus.get(ids, ft.PRESENT_POSITION, sync)
        if answers.heard.all():
            break
    place = ft.signed(answers.values())
    far = answers.heard & ((place < wiring.low - 2048) | (place > wiring.high + 2048))
    if far.any():
        i = int(np.flatnonzero(far)[0])
        raise FaceTwinError("the servo stands a turn away", where=bus.where(ids[i]),
                            found=f"{place[i]} steps", expected=f"{wiring.low[i]} to {wiring.high[i]}",
                            hint="switch its power off and on, or turn it back by hand")  # fmt: skip
