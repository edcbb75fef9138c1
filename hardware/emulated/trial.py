"""What a driver does when something goes wrong: one fault on an emulated rig, and what came of it.

Used by the tests and by ``benchmarks/faults.py``. A trial drives the rig behind its safety layer at 50 Hz,
lets one thing go wrong, and watches both ends of the wire: what the driver was told to send, what it sent,
what servos took. Then the fault is cleared and the rig has to move again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.emulated.rig import Emulated
from facetwin.hardware.rig import ACTIVE
from facetwin.hardware.safety import SafetyLayer
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import RigSpec

#: kinds of faults that a trial knows
TRIALS = ("drop", "corrupt", "delay", "silent", "latched", "hot", "stall", "brownout", "unplug")
#: those that no driver can notice whose servos tell nothing
BLIND = {"stall", "hot"}
#: those that a driver may get over by asking again
PASSING = {"drop", "corrupt", "delay"}
PERIOD, DRIVE, BEFORE = 0.02, 2.2, 0.3
#: ticks or quarter-microseconds: how far the goal at activation may be from what the horn's sensor said
NEAR = 30


@dataclass
class Outcome:
    """What came of one trial.

    Attributes
    ----------
    kind, driver : str
    state : "active", "held" or "open"
        Of the layer when the trial was over ("open": released).
    reason : str
        Why it is not active.
    crashed : str
        An error that was none of ours, or empty.
    wrong : int
        Goals on the wire that nobody had told the driver to send.
    strange : int
        Goals that servos took though nobody had sent them: what a checksum let through.
    longest : float, s
        Longest call.
    recovered : bool
        After the fault was cleared it moved again.
    troubles : list of str
        What is wrong with this outcome.
    """

    kind: str
    driver: str
    state: str = ""
    reason: str = ""
    crashed: str = ""
    wrong: int = 0
    strange: int = 0
    longest: float = 0.0
    recovered: bool = False
    raised: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


@dataclass
class _Told:
    """What the driver was told to send, in units of the wire, by arithmetic of our own."""

    rows: list[NDArray[np.int64]] = field(default_factory=list)


def settings(kind: str, rng: np.random.Generator, spec: RigSpec) -> dict[str, Any]:
    """How a fault of a kind is set in one trial."""
    motor = int(rng.integers(spec.size))
    free = int(rng.choice(np.r_[spec.group("neck"), spec.group("brows")]))  # no coupling holds it back
    how: dict[str, dict[str, Any]] = {
        "drop": {"rate": float(rng.choice([0.0005, 0.005, 0.1])), "where": _side(rng)},
        "corrupt": {"rate": float(rng.choice([0.0005, 0.005, 0.1])), "where": _side(rng)},
        "delay": {"delay": float(rng.choice([0.005, 0.03, 0.3]))},
        "silent": {"motor": motor},
        "latched": {"motor": motor},
        "hot": {"motor": motor, "rate": 120.0},
        "stall": {"motor": free},
        "brownout": {"duration": float(rng.choice([0.02, 0.2])), "depth": 5.0},
        "unplug": {"duration": float(rng.choice([0.05, 0.5, 30.0]))},
    }
    return how[kind]


def _side(rng: np.random.Generator) -> str:
    return str(rng.choice(["robot", "driver", "both"]))


def trial(rig: Emulated, kind: str, seed: int) -> Outcome:
    """One fault on a closed emulated rig, which is closed again afterwards."""
    rng = np.random.default_rng([seed, 5])
    out = Outcome(kind, type(rig).__name__.removeprefix("Emulated"))
    layer = SafetyLayer(rig, max_temperature=60.0)
    told = _Told()
    em, how = rig.emulator, settings(kind, rng, rig.spec)
    early = seed % 3 == 2  # it goes wrong while the motors are switched on
    try:
        with _spied(rig, told):
            layer.open()
            em.clear()
            strange, stood, start = em.health()["strange"], em.truth()["shaft"], time.monotonic()
            was = rig._commanded.copy()
            if early:
                em.fault(kind, **how)
            try:
                layer.activate()
            except FaceTwinError as error:
                out.raised.append(str(error))
                out.reason = layer.status.reason or rig.status.reason or str(error)
            since = time.monotonic()
            out.wrong = _wrong_at_start(rig, start, stood, was)
            if layer.status.state == ACTIVE:
                told.rows.append(_units(rig, rig._commanded))
                _drive(layer, rng, out, (kind, how), on=early)
                out.reason = layer.status.reason or rig.status.reason
            out.state = layer.status.state
            if out.state == ACTIVE and not _follows(rig, told, kind):
                out.troubles.append("active, but the servos do not follow")
            out.wrong += _wrong(rig, told, since)
            out.strange = em.health()["strange"] - strange
            out.recovered = _recovers(layer, rig)
    except FaceTwinError as error:
        out.troubles.append(f"outside of the fault: {error}")
    except Exception as error:
        out.crashed = f"{type(error).__name__}: {error}"
    finally:
        with contextlib.suppress(Exception):
            em.clear()
        with contextlib.suppress(Exception):
            layer.close()
    _judge(out, rig, early)
    return out


@contextlib.contextmanager
def _spied(rig: Emulated, told: _Told) -> Iterator[None]:
    write = rig._write

    def spy(command: NDArray[np.float64]) -> Any:
        told.rows.append(_units(rig, command))
        return write(command)

    rig._write = spy  # type: ignore[method-assign]
    try:
        yield
    finally:
        del rig._write


def _units(rig: Any, command: NDArray[np.float64]) -> NDArray[np.int64]:
    w = rig.wiring
    angle = rig.spec.lower + np.asarray(command) * rig.spec.span
    return np.clip(np.rint(w.zero + w.per_rad * angle), w.low, w.high).astype(np.int64)


def _drive(
    layer: SafetyLayer, rng: np.random.Generator, out: Outcome, fault: tuple[str, dict[str, Any]], on: bool
) -> None:
    rig: Any = layer.inner
    spec, start = rig.spec, time.monotonic()
    phase, speed = rng.uniform(0, 2 * np.pi, spec.size), rng.uniform(2, 6, spec.size)
    stop = start + DRIVE
    turn = 0
    while (now := time.monotonic()) < stop:
        if not on and now > start + BEFORE:
            rig.emulator.fault(fault[0], **fault[1])
            on = True
        command = spec.rest + 0.15 * np.sin(speed * (now - start) + phase)
        if on and fault[0] == "stall":  # it is asked to go somewhere
            motor = fault[1]["motor"]
            command[motor] = spec.rest[motor] + (0.45 if spec.rest[motor] < 0.5 else -0.45)
        for call in (lambda c=command: layer.write(c), layer.read):
            before = time.monotonic()
            try:
                call()
            except FaceTwinError as error:
                out.raised.append(str(error))
            if turn:  # the first one compiles the safety layer
                out.longest = max(out.longest, time.monotonic() - before)
        if layer.status.state != ACTIVE and time.monotonic() > start + BEFORE + 0.8:
            return
        turn += 1
        time.sleep(max(start + turn * PERIOD - time.monotonic(), 0.0))


def _follows(rig: Emulated, told: _Told, kind: str) -> bool:
    """Whether all motors are on and aim at what was sent within the last second: single frames get lost."""
    now, w = rig.emulator.truth(), rig.wiring
    late = w.commands(np.array(told.rows[-50:]))  # (k, n)
    near = np.abs(now["goal"] - late).min(axis=0) < 0.03
    return bool((near & now["on"]).all()) or kind in BLIND


def _wrong(rig: Emulated, told: _Told, since: float) -> int:
    """Goals on the wire, after activation, that are none of the rows that were told."""
    goals = rig.emulator.goals("asked", since)
    rows = np.array(told.rows or [_units(rig, rig.spec.rest)])  # (k, n)
    good = (goals.units[:, None] == rows[:, goals.motor].T).any(axis=1)  # (goals,)
    if rig.kind == "maestro":
        good |= goals.units == 0  # pulses off
    return int((~good).sum())


def _wrong_at_start(rig: Emulated, start: float, stood: NDArray[np.float64], was: NDArray[np.float64]) -> int:
    """Goals while it was switched on, that are not where servos stood, or were told to be last."""
    goals = rig.emulator.goals("asked", start)
    if rig.capabilities.measures:
        return int((np.abs(goals.units - _units(rig, stood)[goals.motor]) > NEAR).sum())
    here = _units(rig, np.where(np.isfinite(was), was, rig.spec.rest))
    return int(((goals.units != here[goals.motor]) & (goals.units != 0)).sum())


def _recovers(layer: SafetyLayer, rig: Emulated) -> bool:
    """All is well again: it must move, if need be after release, reset, reboot and a new opening."""
    em = rig.emulator
    em.clear()
    for attempt in range(3):
        try:
            layer.reset()
            if attempt or layer.status.state != ACTIVE:
                layer.close()
                time.sleep(0.3)
                layer.open()
                layer.activate()
            goal = rig.spec.rest.copy()
            jaw = rig.spec.index("jaw") if "jaw" in rig.spec.names else 0
            goal[jaw] = 0.5
            end = time.monotonic() + 3.0
            while time.monotonic() < end:
                layer.write(goal)
                layer.read()
                if abs(float(em.truth()["shaft"][jaw]) - 0.5) < 0.03:
                    return True
                time.sleep(PERIOD)
        except FaceTwinError:
            time.sleep(0.3)
    return False


def _judge(out: Outcome, rig: Emulated, early: bool) -> None:
    if out.crashed:
        out.troubles.append(f"crashed: {out.crashed}")
    if out.wrong:
        out.troubles.append(f"{out.wrong} wrong goals sent")
    if not out.recovered:
        out.troubles.append("did not recover")
    silent = out.kind in BLIND and not rig.capabilities.measures
    once = out.kind == "latched" and rig.kind == "maestro"  # an error register, cleared when it is read
    over = early and out.kind in ("brownout", "unplug")  # it was over before the motors were on
    if out.state == ACTIVE:
        if not (out.kind in PASSING or silent or once or over):
            out.troubles.append("went on as if nothing was wrong")
    elif not out.reason:
        out.troubles.append("stopped without a reason")
    if out.longest > 2.0:
        out.troubles.append(f"a call took {out.longest:.1f} s")
