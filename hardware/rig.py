"""The rig contract: what every face, simulated or real, can be asked (DESIGN section 8).

`Rig` enforces the states; a driver fills the hooks `_open`, `_activate`, `_write`, `_read`, `_capture`,
`_hold`, `_release`, `_close` and nothing else. States::

    closed --open--> open --activate--> active <--write / hold--> held
       ^--------------- close ------------|-- release --> open

This is not a safety layer: limits of speed, couplings and the watchdog are in `facetwin.hardware.safety`.
`facetwin.hardware.check.check_rig` tests any rig against the rules below.
"""

from __future__ import annotations

import contextlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from facetwin.hardware.clock import Clock, RealClock
from facetwin.hardware.release import handle_signals, unwatch, watch
from facetwin.hardware.rig_types import (
    ACTIVE,
    CLOSED,
    HELD,
    OPEN,
    Capabilities,
    Floats,
    Frame,
    RigFault,
    RigState,
    Status,
)
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import RigSpec

T = TypeVar("T")


class Rig(ABC):
    """A face with motors and, perhaps, a camera.

    Constructing and opening never move anything. Public methods are the same for every rig and are not
    overridden; drivers fill the hooks.

    Parameters
    ----------
    spec : RigSpec
    clock : Clock, optional
        Default: real time.

    Attributes
    ----------
    retries : int
        How often a driver call that fails (`OSError`, `TimeoutError`, `RigFault`) is repeated.
    """

    retries = 2
    #: settings for the safety layer in front of it, as its face file has them
    safety: Mapping[str, Any] = MappingProxyType({})
    _FINAL = ("open", "activate", "write", "read", "capture", "hold", "release", "close", "home")

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for name in Rig._FINAL:
            if name in cls.__dict__:
                raise FaceTwinError("a driver fills hooks only", where=cls.__name__, found=name,
                                    expected="_" + name, hint=f"rename {name} to _{name}")  # fmt: skip

    def __init__(self, spec: RigSpec, clock: Clock | None = None) -> None:
        self.spec = spec
        self.clock = clock or RealClock()
        self.status = Status()
        self._lock = threading.RLock()
        self._commanded = np.full(spec.size, np.nan)
        self._failures: dict[str, int] = {}  # of each hook in a row, once it was retried in vain
        self._owner = 0  # process that opened it

    # --- hooks ---------------------------------------------------------------------------------

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this rig can do; known before it is opened."""

    @abstractmethod
    def _open(self) -> None:
        """Connect; move nothing."""

    @abstractmethod
    def _activate(self, present: Floats) -> None:
        """Make `present` [shape=(n,)] the target, then switch the motors on."""

    @abstractmethod
    def _write(self, command: Floats) -> Floats | None:
        """Send a finite command in [0, 1]; return what was really sent if that differs."""

    @abstractmethod
    def _read(self) -> RigState:
        """Ask the servos."""

    @abstractmethod
    def _release(self) -> None:
        """Switch the motors off; may be called again."""

    @abstractmethod
    def _close(self) -> None:
        """Disconnect; may be called again, and after an `_open` that failed."""

    def _ready(self, what: str) -> None:  # noqa: B027
        """Raise if there is a reason not to move; asked before `activate` and `write`."""

    def _after_write(self) -> None:  # noqa: B027
        """A `write` has worked, and there is time until the next."""

    def _capture(self) -> Frame:
        raise FaceTwinError("this rig has no camera", where=type(self).__name__)

    def _hold(self) -> None:
        """Stop where it stands; here: repeat the last command."""
        if np.isfinite(self._commanded).all():
            self._write(self._commanded)

    def _home(self, seed: int | None) -> bool:
        """Jump to rest, if this rig can jump; False: it has to travel."""
        return False

    # --- what everybody may call -----------------------------------------------------------------

    def open(self) -> Rig:
        """Connect: it can be read and can't move. Opening an open rig does nothing. Returns the rig."""
        with self._lock:
            if self.status.state == CLOSED:
                try:
                    self._open()
                except BaseException:
                    with contextlib.suppress(Exception):  # what went wrong first is what counts
                        self._close()
                    raise
                self._owner = os.getpid()
                self.status.state = OPEN
                if not self.capabilities.simulated:
                    handle_signals()  # here too: `activate` may come from another thread
            return self

    def activate(self) -> Rig:
        """Switch the motors on, where they stand; from now on `write` moves. Returns the rig."""
        with self._locked("activate()"):
            self._need("activate()", OPEN, ACTIVE, HELD)
            if self.status.state == OPEN:
                self._ready("activate()")
                self.status.reason = ""
                self._failures.clear()
                state = self._attempt("read", self._read, self._whole_state)
                present = np.where(np.isfinite(state.measured), state.measured, state.commanded)
                present = np.clip(np.where(np.isfinite(present), present, self.spec.rest), 0.0, 1.0)
                watch(self)  # from here on motors may be on
                try:
                    self._attempt("activate", lambda: self._activate(present.copy()))
                    self._commanded = present
                    self.status.state = ACTIVE
                except BaseException as error:
                    self.status.state = OPEN
                    self.status.reason = f"activate: {error or type(error).__name__}"
                    self._switch_off()
                    raise
            return self

    def write(self, command: ArrayLike) -> Floats:
        """Send a command.

        Parameters
        ----------
        command : float [shape=(n,)]
            Finite; what lies outside [0, 1] is clipped and listed in `status.clipped`.

        Returns
        -------
        float64 [shape=(n,)]
            What was really sent.

        Raises
        ------
        FaceTwinError
            Not active, wrong shape, NaN or inf: nothing was sent, nothing changed.
        RigFault
            The rig did not take it, after retries: it is held, and released if that happens again.
        """
        with self._locked("write()"):
            self._ready("write()")
            self._need("write()", ACTIVE, HELD)
            asked = self._checked(command)
            inside = np.clip(asked, 0.0, 1.0)
            self.status.clipped = {
                self.spec.names[i]: (float(asked[i]), float(inside[i]))
                for i in np.flatnonzero(asked != inside)
            }
            sent = self._attempt("write", lambda: self._write(inside.copy()), self._whole_command)
            self._commanded = inside if sent is None else np.array(sent, dtype=np.float64)
            self.status.state = ACTIVE
            self.status.writes += 1
            told = self._commanded.copy()
            self._after_write()
            return told

    def read(self) -> RigState:
        """What the rig says of itself; raises `FaceTwinError` when closed, `RigFault` after retries."""
        with self._locked("read()"):
            self._need("read()", OPEN, ACTIVE, HELD)
            return self._attempt("read", self._read, self._whole_state)

    def capture(self) -> Frame:
        """The newest picture; raises `FaceTwinError` when closed or blind, `RigFault` after retries."""
        with self._locked("capture()"):
            self._need("capture()", OPEN, ACTIVE, HELD)
            return self._attempt("capture", self._capture, self._whole_frame)

    def hold(self) -> None:
        """Stop and keep the pose, motors on; the next `write` moves again. Nothing to do unless active."""
        with self._locked("hold()"):
            self._need("hold()", OPEN, ACTIVE, HELD)
            if self.status.state == ACTIVE:
                self._attempt("hold", self._hold)
                self.status.state = HELD

    def release(self) -> None:
        """Switch the motors off; works in every state."""
        if self._foreign():
            return
        with self._lock:
            if self.status.state == CLOSED:
                return
            self.status.state = OPEN
            try:
                self._attempt("release", self._release)
            except BaseException as error:
                self.status.reason = f"release failed: {error or type(error).__name__}"
                if not isinstance(error, Exception):  # interrupted in the middle: once more
                    with contextlib.suppress(Exception):
                        self._release()
                raise  # and it stays on the list of what the end of the program switches off
            unwatch(self)

    def close(self) -> None:
        """Release and disconnect; closing twice is fine."""
        if self._foreign():
            self.status.state = CLOSED
            return
        with self._lock:
            if self.status.state == CLOSED:
                return
            try:
                self.release()
            finally:
                self.status.state = CLOSED
                self._close()
                unwatch(self)

    def home(self, seed: int | None = None, *, timeout: float = 5.0) -> None:
        """Bring an active face to rest.

        A real face travels there, within `timeout` s; a simulated one stands there at once, its clock
        at zero and its noise drawn from `seed`, so that what follows is reproducible bit for bit.
        """
        with self._locked("home()"):
            self._need("home()", ACTIVE, HELD)
            if self._home(seed):
                self._commanded = self.spec.rest.copy()
                self.status.state = ACTIVE
                return
        end = self.clock.now() + timeout
        while np.abs(self.write(self.spec.rest) - self.spec.rest).max() > 1e-3:
            if self.clock.now() > end:
                raise RigFault(
                    "did not come to rest", where="home()", found=f"{timeout:g} s", hint="check_rig"
                )
            self.clock.sleep(0.02)

    def __enter__(self) -> Rig:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is None:
            self.close()
        else:  # what ended the block is what counts; `status.reason` tells of a release that failed
            with contextlib.suppress(Exception):
                self.close()

    # --- inside ----------------------------------------------------------------------------------

    def _foreign(self) -> bool:
        """Whether it was opened by another process, of which this one is a fork."""
        if self._owner in (0, os.getpid()) or self.status.state == CLOSED:
            return False
        return not self.capabilities.simulated

    def _locked(self, what: str) -> threading.RLock:
        # In a forked child the lock may be held for ever, by a thread that is not there: ask first.
        if self._foreign():
            raise FaceTwinError("the rig was opened by another process", where=what, found=self._owner,
                                expected=os.getpid(), hint="open it where it is used")  # fmt: skip
        return self._lock

    def _need(self, what: str, *states: str) -> None:
        state = self.status.state
        if state not in states:
            steps = {CLOSED: "open() first" if what != "write()" else "open() and activate() first"}
            hint = steps.get(state, "activate() first")
            if self.status.reason:
                hint += f" (it was stopped: {self.status.reason})"
            raise FaceTwinError("the rig is " + state, where=what, expected=" or ".join(states), hint=hint)

    def _checked(self, command: ArrayLike) -> Floats:
        try:
            c = np.array(command, dtype=np.float64)
        except (TypeError, ValueError):
            raise FaceTwinError("not a command", where="write()", found=command,
                                expected=f"{self.spec.size} numbers") from None  # fmt: skip
        if c.shape != (self.spec.size,):
            raise FaceTwinError("not a command", where="write()", found=f"shape {c.shape}",
                                expected=f"({self.spec.size},)")  # fmt: skip
        if not np.isfinite(c).all():
            i = int(np.flatnonzero(~np.isfinite(c))[0])
            raise FaceTwinError("not a command", where=f"write(): {self.spec.names[i]}", found=float(c[i]),
                                expected="a finite number in [0, 1]")  # fmt: skip
        return c

    def _whole_command(self, sent: Floats | None) -> None:
        if sent is not None and not (np.shape(sent) == (self.spec.size,) and np.isfinite(sent).all()):
            raise FaceTwinError(
                "the driver does not tell what it sent", where=type(self).__name__, found=np.shape(sent),
                expected=f"({self.spec.size},), finite, or None",
            )  # fmt: skip

    def _whole_state(self, state: RigState) -> None:
        for key in ("commanded", "measured", "load", "temperature", "voltage"):
            shape = np.shape(getattr(state, key))
            if shape != (self.spec.size,):
                raise RigFault("partial answer", where=f"read: {key}", found=f"shape {shape}",
                               expected=f"({self.spec.size},)")  # fmt: skip

    def _whole_frame(self, frame: Frame) -> None:
        shape = getattr(getattr(frame, "image", None), "shape", None)
        if shape is None or shape != self.capabilities.camera or frame.image.dtype != np.uint8:
            raise RigFault("partial frame", where="capture", found=f"shape {shape}",
                           expected=f"uint8 {self.capabilities.camera}")  # fmt: skip

    def _attempt(self, what: str, call: Callable[[], T], check: Callable[[T], None] | None = None) -> T:
        """Run a hook, again if it fails for the moment; then hold, and the next time release."""
        for left in range(self.retries, -1, -1):
            try:
                result = call()
                if check is not None:
                    check(result)
            except (OSError, RigFault) as error:
                if left:
                    self.status.retries += 1
                    continue
                self._give_up(what, error)
                if not self.retries and isinstance(error, RigFault):  # a layer passes on what it got
                    raise
                raise RigFault(
                    f"{what} failed {self.retries + 1} times",
                    where=type(self).__name__,
                    found=str(error) or type(error).__name__,
                    hint=f"the rig is {self.status.state}; check power and cable, then activate() again",
                ) from error
            except BaseException as error:
                self._give_up(what, error)
                raise
            self._failures.pop(what, None)
            return result
        raise AssertionError("unreachable")

    def _give_up(self, what: str, error: BaseException) -> None:
        if self.status.state not in (ACTIVE, HELD):
            return
        failures = self._failures[what] = self._failures.get(what, 0) + 1
        self.status.reason = f"{what}: {error or type(error).__name__}"
        if failures == 1 and what != "hold":
            with contextlib.suppress(Exception):
                self._hold()
                self.status.state = HELD
                return
        self.status.state = OPEN
        self._switch_off()

    def _switch_off(self) -> None:
        """Release; if that fails, say so in the reason and keep trying at the end of the program."""
        for left in range(self.retries, -1, -1):
            try:
                self._release()
            except Exception as error:
                if not left:
                    self.status.reason += f"; release failed: {error or type(error).__name__}"
            else:
                unwatch(self)
                return


__all__ = [
    "ACTIVE", "CLOSED", "HELD", "OPEN", "Capabilities", "Floats", "Frame", "Rig", "RigFault", "RigState",
    "Status",
]  # fmt: skip
