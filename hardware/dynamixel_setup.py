"""Who is on a Dynamixel line, and whether the servos suit the rig table: asked before anything may move."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from facetwin.hardware import dynamixel_codec as dx
from facetwin.hardware.dynamixel_bus import DynamixelBus
from facetwin.hardware.rig import Floats
from facetwin.hardware.servo_bus import Bytes, Register, roll_call
from facetwin.hardware.wiring import Ints, Wiring
from facetwin.twin.errors import FaceTwinError

_log = logging.getLogger(__name__)

#: what is read of every servo before the first motion
_IDENTITY, _LIMITS = Register(0, 14), Register(44, 12)


@dataclass(frozen=True)
class Servos:
    """What the servos of a rig said of themselves; arrays are [shape=(n,)].

    Attributes
    ----------
    model, firmware, mode, drive : int64
        Model number, firmware version, operating mode, drive mode.
    lowest, highest : int64, ticks
        Goals that they take.
    fastest : int64
        Their velocity limit, in 0.229 rev/min.
    load_unit : float64
        Share of the stall torque that a unit of their load or current is.
    delay : float64, s
        How long they wait before they answer.
    fast : bool
        All of them know fast sync read.
    """

    model: Ints
    firmware: Ints
    mode: Ints
    drive: Ints
    lowest: Ints
    highest: Ints
    fastest: Ints
    load_unit: Floats
    delay: Floats
    fast: bool


def meet(bus: DynamixelBus, ids: Bytes, wiring: Wiring) -> Servos:
    """Make sure that the servos of the rig table are there, each once, and can do what is asked of them.

    Writes nothing but Status Return Level(68), so that they answer. Raises `FaceTwinError` in one line.
    """
    roll_call(bus, ids)
    bus.set(ids.tolist(), dx.STATUS_RETURN_LEVEL, 2)
    first = bus.get_all(ids, _IDENTITY).rows
    limits = np.ascontiguousarray(bus.get_all(ids, _LIMITS).rows)
    last = limits.view("<i4").astype(np.int64)  # velocity, highest, lowest position
    model = first[:, 0].astype(np.int64) | first[:, 1].astype(np.int64) << 8
    firmware, delay = first[:, 6].astype(np.int64), first[:, 9] * 2e-6
    drive, mode = first[:, 10].astype(np.int64), first[:, 11].astype(np.int64)
    turns = (mode == dx.EXTENDED_POSITION) | (mode == dx.CURRENT_POSITION)
    lowest = np.where(turns, wiring.low, last[:, 2])
    highest = np.where(turns, wiring.high, last[:, 1])
    known = [dx.MODELS.get(int(m)) for m in model]
    for i, kind in enumerate(known):
        _suits(bus, int(ids[i]), int(model[i]), kind, int(firmware[i]), int(mode[i]), int(drive[i]))
        _reaches(bus, int(ids[i]), wiring, i, int(lowest[i]), int(highest[i]))
    bus.delay = float(delay.max())
    _stand(bus, ids, wiring, turns)
    models = [k for k in known if k is not None]
    by_table = all(k.fast and f >= k.fast for k, f in zip(models, firmware, strict=True))
    return Servos(model, firmware, mode, drive, lowest, highest, last[:, 0],
                  np.array([k.load_unit for k in models]), delay, _fast(bus, ids, by_table))  # fmt: skip


def find_all(bus: DynamixelBus, baud: int) -> list[dict[str, Any]]:
    """Every servo that answers a broadcast ping, as dicts: id, model, number, firmware, baud."""
    found, damaged = bus.everybody()
    out: list[dict[str, Any]] = []
    for k, (m, f) in sorted(found.items()):
        out.append({"kind": "dynamixel", "id": k, "model": dx.model_name(m), "number": m, "firmware": f,
                    "baud": baud})  # fmt: skip
        if bus.doubled(k):
            out[-1]["note"] = "two answers to one ping: two servos have this id"
    if damaged and out:
        out[0].setdefault("note", "some answers were damaged: two servos may have the same id")
    return out


# --- inside ------------------------------------------------------------------------------------------


def _suits(
    bus: DynamixelBus, number: int, model: int, kind: dx.Model | None, firmware: int, mode: int, drive: int
) -> None:
    where = bus.where(number)
    if kind is None:
        raise FaceTwinError("a servo of an unknown model", where=where, found=f"model number {model}",
                            expected="a Dynamixel of the X series, as XL330, XL430, XM430",
                            hint="if its control table is theirs, add it to MODELS")  # fmt: skip
    if firmware < kind.oldest:
        raise FaceTwinError("firmware too old", where=where, found=f"{kind.name}, version {firmware}",
                            expected=f"{kind.oldest} or newer",
                            hint="update it with Dynamixel Wizard")  # fmt: skip
    if mode not in (dx.POSITION, dx.EXTENDED_POSITION, dx.CURRENT_POSITION):
        raise FaceTwinError("wrong operating mode", where=where,
                            found=f"{mode} ({dx.MODES.get(mode, 'unknown')})",
                            expected="3 (position), 4 or 5",
                            hint="set Operating Mode (11) to 3 with Dynamixel Wizard")  # fmt: skip
    if drive & dx.SLAVE:
        raise FaceTwinError("a slave of another servo", where=where, found=f"drive mode {drive}",
                            expected="a servo that takes goals",
                            hint="clear bit 1 of Drive Mode (10)")  # fmt: skip


def _reaches(bus: DynamixelBus, number: int, wiring: Wiring, i: int, lowest: int, highest: int) -> None:
    ends = wiring.units(np.stack([np.zeros(wiring.size), np.ones(wiring.size)]))[:, i]
    if ends.min() < lowest or ends.max() > highest:
        raise FaceTwinError(
            "position limits of the servo are narrower than the motor's range",
            where=bus.where(number),
            found=f"{lowest} to {highest} ticks", expected=f"{ends.min()} to {ends.max()}",
            hint="widen Min and Max Position Limit (52, 48), or change the wiring",
        )  # fmt: skip


def _stand(bus: DynamixelBus, ids: Bytes, wiring: Wiring, turns: Any) -> None:
    """A servo that counts turns must not stand a turn away: it would wind itself back."""
    place = bus.get_all(ids, dx.PRESENT_POSITION).values()
    far = turns & ((place < wiring.low - 2048) | (place > wiring.high + 2048))
    if far.any():
        i = int(np.flatnonzero(far)[0])
        raise FaceTwinError("the servo stands a turn away", where=bus.where(ids[i]),
                            found=f"{place[i]} ticks", expected=f"{wiring.low[i]} to {wiring.high[i]}",
                            hint="reboot it, or set Operating Mode (11) to 3")  # fmt: skip


def _fast(bus: DynamixelBus, ids: Bytes, by_table: bool) -> bool:
    """Whether fast sync read works; says so once if it does not."""
    works = by_table and any(bus.get(ids, dx.PRESENT_POSITION, fast=True).heard.all() for _ in range(3))
    if not works:
        _log.warning("%s: not all servos know fast sync read (firmware 45, or 46 for 330s): reading takes "
                     "longer", bus.wire.port)  # fmt: skip
    return works
