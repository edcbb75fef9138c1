"""Who is on a Dynamixel line, and whether the servos suit the rig table: asked before anything may move."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facetwin.hardware import dynamixel_codec as dx
from facetwin.hardware.dynamixel_bus import Answers, Bus, Damaged, Silent
from facetwin.hardware.ports import no_answer
from facetwin.hardware.rig import Floats, RigFault
from facetwin.hardware.wire import Wire
from facetwin.hardware.wiring import Ints, Wiring
from facetwin.twin.errors import FaceTwinError

_log = logging.getLogger(__name__)

#: what is read of every servo before the first motion
_IDENTITY, _LIMITS = dx.Register(0, 14), dx.Register(44, 12)
_SAME_ID = "give each servo an id of its own: connect them one by one and use Dynamixel Wizard"


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


def meet(bus: Bus, ids: dx.Bytes, wiring: Wiring) -> Servos:
    """Make sure that the servos of the rig table are there, each once, and can do what is asked of them.

    Writes nothing but Status Return Level(68), so that they answer. Raises `FaceTwinError` in one line.
    """
    _call(bus, ids)
    bus.set(ids.tolist(), dx.STATUS_RETURN_LEVEL, 2)
    first = _all(bus, ids, _IDENTITY)
    limits = _all(bus, ids, _LIMITS)
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


def find_all(bus: Bus, baud: int) -> list[dict[str, Any]]:
    """Every servo that answers a broadcast ping, as dicts: id, model, number, firmware, baud."""
    found, damaged = bus.roll_call()
    out: list[dict[str, Any]] = [
        {"kind": "dynamixel", "id": k, "model": dx.model_name(m), "number": m, "firmware": f, "baud": baud}
        for k, (m, f) in sorted(found.items())
    ]
    if damaged and out:
        out[0]["note"] = "some answers were damaged: two servos may have the same id"
    return out


# --- inside ------------------------------------------------------------------------------------------


def _call(bus: Bus, ids: dx.Bytes) -> None:
    """Ping all; say who is missing, who is there twice, or which rate is right."""
    silent = []
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
                    raise FaceTwinError("damaged answers to pings: two servos may have the same id",
                                        where=f"{bus.wire.port}: {bus.name(number)}", found=str(error),
                                        expected="one servo an id", hint=_SAME_ID) from error  # fmt: skip
            else:
                if bus.echoes(number) and bus.echoes(number):
                    raise FaceTwinError("two servos have the same id",
                                        where=f"{bus.wire.port}: {bus.name(number)}",
                                        found="two answers to a ping", hint=_SAME_ID)  # fmt: skip
                break
    if len(silent) == len(ids):
        raise _nobody(bus, ids.tolist())
    if silent:
        raise FaceTwinError("servos are missing", where=bus.wire.port,
                            found=f"no answer from {bus.listed(silent)}", expected=f"{len(ids)} servos",
                            hint="check the first one's cable; facetwin rig scan tells ids")  # fmt: skip


def _nobody(bus: Bus, ids: Sequence[int]) -> FaceTwinError:
    """Nobody answers: try other rates, so that the message can say which one is right."""
    wire = bus.wire
    for baud in dx.BAUDS:
        if baud == wire.baud:
            continue
        other = Wire(wire.port, baud=baud, timeout=wire.timeout)
        wire.close()
        try:
            other.open()
            asked = Bus(other)
            number = next((k for k in dict.fromkeys([*ids[:2], 1]) if _answers(asked, k)), None)
        except (OSError, FaceTwinError):
            continue
        finally:
            other.close()
        if number is not None:
            return FaceTwinError("wrong rate", where=wire.port,
                                 found=f"silence at {wire.baud} baud, id {number} answers at {baud}",
                                 hint=f"add ?baud={baud} to the name of the rig")  # fmt: skip
    return no_answer(wire.port, wire.baud, f"{len(ids)} Dynamixel servos",
                     "power of the servos, cable, ids (facetwin rig scan), Protocol Type 2")  # fmt: skip


def _answers(bus: Bus, number: int) -> bool:
    try:
        bus.ping(number)
    except RigFault:
        return False
    return True


def _all(bus: Bus, ids: dx.Bytes, register: dx.Register) -> dx.Bytes:
    """The same registers of all servos, asked up to three times; `FaceTwinError` if it does not come."""
    answers = bus.get(ids, register)
    for _ in range(2):
        if answers.heard.all():
            break
        answers = bus.get(ids, register)
    if not answers.heard.all():
        raise incomplete(bus, ids, answers)
    if (wrong := answers.errors & ~np.uint8(dx.ALERT) > 0).any():
        i = int(np.flatnonzero(wrong)[0])
        raise RigFault("the servo refused", where=f"{bus.wire.port}: {bus.name(int(ids[i]))}",
                       found=f"{dx.status_error(int(answers.errors[i]))} error "
                       f"to read of {register.address}")  # fmt: skip
    return answers.rows


def incomplete(bus: Bus, ids: dx.Bytes, answers: Answers, silent: Sequence[int] | None = None) -> RigFault:
    """The error of an answer that is not whole; `silent`: who does not answer a ping either."""
    missing = ids[~answers.heard].tolist()
    heard = f"{int(answers.heard.sum())} of {len(ids)} servos"
    if silent:
        return Silent("servos are silent", where=bus.wire.port,
                      found=f"{heard}, nothing from {bus.listed(silent)}",
                      hint="check power and cable of the first of them")  # fmt: skip
    if silent is not None:
        return Damaged("partial answer", where=bus.wire.port,
                       found=f"{heard}, though {bus.listed(missing)} answers a ping",
                       hint="check the cable, try a lower rate; two servos may have the same id")  # fmt: skip
    kind = Damaged if answers.damaged else Silent
    return kind("partial answer", where=bus.wire.port,
                found=f"{heard}{', damaged' if answers.damaged else ''}; first missing: "
                f"{bus.name(missing[0])}", hint="check power and cable")  # fmt: skip


def _suits(
    bus: Bus, number: int, model: int, kind: dx.Model | None, firmware: int, mode: int, drive: int
) -> None:
    where = f"{bus.wire.port}: {bus.name(number)}"
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


def _reaches(bus: Bus, number: int, wiring: Wiring, i: int, lowest: int, highest: int) -> None:
    ends = wiring.units(np.stack([np.zeros(wiring.size), np.ones(wiring.size)]))[:, i]
    if ends.min() < lowest or ends.max() > highest:
        raise FaceTwinError(
            "position limits of the servo are narrower than the motor's range",
            where=f"{bus.wire.port}: {bus.name(number)}",
            found=f"{lowest} to {highest} ticks", expected=f"{ends.min()} to {ends.max()}",
            hint="widen Min and Max Position Limit (52, 48), or change the wiring",
        )  # fmt: skip


def _stand(bus: Bus, ids: dx.Bytes, wiring: Wiring, turns: Any) -> None:
    """A servo that counts turns must not stand a turn away: it would wind itself back."""
    place = _all(bus, ids, dx.PRESENT_POSITION).view("<i4")[:, 0].astype(np.int64)
    far = turns & ((place < wiring.low - 2048) | (place > wiring.high + 2048))
    if far.any():
        i = int(np.flatnonzero(far)[0])
        raise FaceTwinError("the servo stands a turn away", where=f"{bus.wire.port}: {bus.name(int(ids[i]))}",
                            found=f"{place[i]} ticks", expected=f"{wiring.low[i]} to {wiring.high[i]}",
                            hint="reboot it, or set Operating Mode (11) to 3")  # fmt: skip


def _fast(bus: Bus, ids: dx.Bytes, by_table: bool) -> bool:
    """Whether fast sync read works; says so once if it does not."""
    works = by_table and any(bus.get(ids, dx.PRESENT_POSITION, fast=True).heard.all() for _ in range(3))
    if not works:
        _log.warning("%s: not all servos know fast sync read (firmware 45, or 46 for 330s): reading takes "
                     "longer", bus.wire.port)  # fmt: skip
    return works
