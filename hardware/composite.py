"""A face over several buses: one rig made of several, each of which moves some of the motors.

The parts are plain drivers (no safety layer), and the composite is their only state machine: it calls
their hooks, repeats what fails, and holds or releases all of them together when one does not answer. One
bus is served after the other, so that a write takes as long as all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.rig import (
    ACTIVE,
    CLOSED,
    HELD,
    OPEN,
    Capabilities,
    Floats,
    Frame,
    Rig,
    RigFault,
    RigState,
)
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import RigSpec

if TYPE_CHECKING:
    from facetwin.hardware.eye import Eye


def part_of(spec: RigSpec, motors: Iterable[str]) -> RigSpec:
    """The table of some motors only, in the given order: what the driver of one bus needs to know.

    It has no skin, no couplings and no ranges. Raises `UsageError` for an unknown motor.
    """
    chosen = tuple(spec.motors[spec.index(name)] for name in motors)
    names = {m.name for m in chosen}
    limits = {name: pair for name, pair in spec.limits.items() if name in names}
    return dataclasses.replace(spec, motors=chosen, anchors=(), couplings=(), limits=limits, ranges={})


class CompositeRig(Rig):
    """Several rigs that are one face.

    Parameters
    ----------
    spec : RigSpec
        Of the whole face.
    parts : dict of str to Rig
        Name of a bus, as faults call it -> its driver, closed, made with `part_of(spec, motors)`. Each motor
        of `spec` belongs to exactly one of them.
    eye : Eye, optional
        What looks at the face; without it the one part that has a camera.

    Attributes
    ----------
    parts : dict of str to Rig
    where : dict of str to int array [shape=(k,)]
        Places of a part's motors in a command of the whole face.
    """

    def __init__(self, spec: RigSpec, parts: Mapping[str, Rig], eye: Eye | None = None) -> None:
        self.parts = dict(parts)
        clocks = {id(p.clock): p.clock for p in self.parts.values() if p.clock.simulated}
        real = [n for n, p in self.parts.items() if not p.clock.simulated]
        if not self.parts:
            raise UsageError("no buses", where="CompositeRig", found=0, expected="at least one")
        if len(clocks) > 1 or (clocks and real):
            raise UsageError("parts in different times", where="CompositeRig",
                             found=", ".join(real) or "several simulated clocks",
                             expected="one clock for all", hint="give them the same clock=")  # fmt: skip
        super().__init__(spec, next(iter(self.parts.values())).clock)
        self.where: dict[str, NDArray[np.intp]] = _places(spec, self.parts)
        self.eye = eye
        looking = [name for name, part in self.parts.items() if part.capabilities.camera is not None]
        if eye is None and len(looking) > 1:
            raise UsageError("several cameras", where="CompositeRig", found=", ".join(looking),
                             expected="one that looks at the face")  # fmt: skip
        self._looking = looking[0] if eye is None and looking else None

    @property
    def capabilities(self) -> Capabilities:
        """Measures if any part does; simulated or harmless only if all are."""
        told = [part.capabilities for part in self.parts.values()]
        camera = self.eye.shape if self.eye is not None else None
        if self._looking is not None:
            camera = self.parts[self._looking].capabilities.camera
        return Capabilities(
            simulated=all(c.simulated for c in told),
            measures=any(c.measures for c in told),
            camera=camera,
            emulated=all(c.harmless for c in told) and not all(c.simulated for c in told),
            obeys=all(c.obeys for c in told),
        )

    # --- hooks ---------------------------------------------------------------------------------

    def _open(self) -> None:
        for name, part in self.parts.items():
            with _named(name):
                part._open()
            part.status.state = OPEN
        if self.eye is not None:
            self.eye.open()

    def _ready(self, what: str) -> None:
        for name, part in self.parts.items():
            with _named(name):
                part._ready(what)

    def _activate(self, present: Floats) -> None:
        for name, part in self.parts.items():
            mine = present[self.where[name]]
            with _named(name):
                part._activate(mine.copy())
            part._commanded = mine
            part.status.state = ACTIVE

    def _write(self, command: Floats) -> Floats:
        sent = command.copy()
        for name, part in self.parts.items():
            mine = command[self.where[name]]
            with _named(name):
                told = part._write(mine.copy())
                part._whole_command(told)
            part._commanded = mine if told is None else np.array(told, dtype=np.float64)
            part.status.state = ACTIVE
            sent[self.where[name]] = part._commanded
        return sent

    def _read(self) -> RigState:
        n = self.spec.size
        merged = {k: np.full(n, np.nan) for k in ("measured", "load", "temperature", "voltage")}
        commanded, times, faults = self._commanded.copy(), [], []
        for name, part in self.parts.items():
            with _named(name):
                state = part._read()
                part._whole_state(state)
            for key, values in merged.items():
                values[self.where[name]] = getattr(state, key)
            if part.status.state == OPEN or not part.capabilities.obeys:  # what the bus itself knows
                commanded[self.where[name]] = state.commanded
            times.append(state.time)
            faults += [f"{name}: {fault}" for fault in state.faults]
        return RigState(min(times), commanded, **merged, faults=tuple(faults))

    def _capture(self) -> Frame:
        if self.eye is not None:
            return self.eye.look()
        if self._looking is None:
            return super()._capture()
        with _named(self._looking):
            frame = self.parts[self._looking]._capture()
        return dataclasses.replace(frame, truth=None)  # a part knows only its own motors

    def _hold(self) -> None:
        self._each("hold", lambda part: part._hold(), HELD)

    def _release(self) -> None:
        self._each("release", lambda part: part._release(), OPEN)

    def _close(self) -> None:
        try:
            self._each("close", lambda part: part._close(), CLOSED)
        finally:
            if self.eye is not None:
                self.eye.close()

    def _home(self, seed: int | None) -> bool:
        if not self.capabilities.simulated or not all(p._home(seed) for p in self.parts.values()):
            return False
        for part in self.parts.values():
            part._commanded = part.spec.rest.copy()
            part.status.state = ACTIVE
        return True

    def _each(self, what: str, call: Callable[[Rig], None], state: str) -> None:
        """Do it to every part, also to those after one that fails; then raise the first error."""
        first: BaseException | None = None
        for name, part in self.parts.items():
            if state == HELD and part.status.state not in (ACTIVE, HELD):
                continue
            try:
                with _named(name):
                    call(part)
                if part.status.state != CLOSED:
                    part.status.state = state
            except BaseException as error:
                first = first or error
        if first is not None:
            raise first


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Say which bus a failure is of; what may be tried again still may."""
    try:
        yield
    except RigFault as error:
        raise RigFault(f"{name}: {error}") from error
    except FaceTwinError as error:
        raise type(error)(f"{name}: {error}") from error
    except TimeoutError as error:
        raise TimeoutError(f"{name}: {error or 'no answer'}") from error
    except OSError as error:
        raise OSError(f"{name}: {error or type(error).__name__}") from error


def _places(spec: RigSpec, parts: Mapping[str, Rig]) -> dict[str, NDArray[np.intp]]:
    """Where each part's motors stand in the whole command; raises `UsageError` unless they make it up."""
    owner: dict[str, str] = {}
    where = f"CompositeRig of {spec.name}"
    for name, part in parts.items():
        if hasattr(part, "inner"):
            raise UsageError("a safety layer within a face", where=f"{where}: {name}",
                             found=type(part).__name__, expected="a bare driver",
                             hint="put one layer in front of the whole face")  # fmt: skip
        for motor in part.spec.motors:
            if motor.name in owner:
                raise UsageError("a motor on two buses", where=where, found=motor.name,
                                 expected=f"on {owner[motor.name]} or on {name}")  # fmt: skip
            if spec.motors[spec.index(motor.name)] != motor:
                raise UsageError(
                    "a motor with another table", where=f"{where}: {name}", found=motor.name,
                    expected="as the whole face's", hint="make it with part_of(spec, motors)",
                )  # fmt: skip
            owner[motor.name] = name
    if missing := [n for n in spec.names if n not in owner]:
        raise UsageError("motors on no bus", where=where, found=", ".join(missing),
                         expected="each on one", hint="name them in motors = [...] of a [[bus]]")  # fmt: skip
    return {name: np.array([spec.index(m) for m in part.spec.names], np.intp) for name, part in parts.items()}
