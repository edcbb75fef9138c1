"""The rules of the rig contract, each a function that tries to break it; run by `facetwin.hardware.check`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from facetwin.hardware.rig import ACTIVE, CLOSED, HELD, OPEN, Floats, Frame, Rig, RigFault, RigState
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import FaceTwinError

STILL = 0.01  # commands: what counts as no motion


class Skip(Exception):
    """This rule can't be asked of this rig."""


class Broken(Exception):
    """This rule does not hold: what was found, and what should have been."""

    def __init__(self, found: Any, expected: str) -> None:
        super().__init__(expected)
        self.found, self.expected = found, expected


def _must(holds: object, found: Any, expected: str) -> None:
    if not holds:
        raise Broken(found, expected)


def _raises(call: Callable[[], Any], what: str) -> FaceTwinError:
    try:
        call()
    except FaceTwinError as error:
        return error
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error}", f"a FaceTwinError: {what}") from error
    raise Broken("no error", f"a FaceTwinError: {what}")


def _bare(rig: Rig) -> Rig:
    """The rig at the very back of its safety layers."""
    while isinstance(inner := getattr(rig, "inner", None), Rig):
        rig = inner
    return rig


def _place(rig: Rig) -> Floats:
    """Where the motors really stand, if anything tells: servos, or the twin."""
    measured = rig.read().measured
    if np.isfinite(measured).any():
        return measured
    if rig.capabilities.truth:
        rig.clock.sleep(0.2)
        truth = rig.capture().truth
        if truth is not None and "position" in truth:
            return np.asarray(truth["position"])
    raise Skip("nothing tells where the motors stand")


def _same(a: Floats, b: Floats) -> bool:
    return bool(np.nanmax(np.abs(a - b)) <= STILL)


def _ready(rig: Rig) -> Rig:
    rig.open()
    return rig.activate()


def _nudged(rig: Rig) -> Floats:
    """A command a little away from rest, within limits and couplings, of brows if it has any."""
    rest = rig.spec.rest
    low, high = rig.spec.soft_limits
    rules = Couplings(rig.spec)
    brows = rig.spec.group("brows")
    command = rest.copy()
    for i in brows if len(brows) else range(rig.spec.size):
        for way in (0.1, -0.1) if rest[i] < 0.5 else (-0.1, 0.1):
            moved = command.copy()
            moved[i] += way
            if low[i] <= moved[i] <= high[i] and rules.allowed(moved):
                command = moved
                break
    if np.array_equal(command, rest):
        raise Skip("limits and couplings leave no motor room to move")
    return command


def _travel(rig: Rig, command: Floats, time: float = 0.5) -> Floats:
    """Write at 50 Hz for a while; returns what was sent last."""
    sent = rig.write(command)
    for _ in range(int(time * 50)):
        rig.clock.sleep(0.02)
        sent = rig.write(command)
    return sent


@contextlib.contextmanager
def _undisturbed(rig: Rig) -> Iterator[None]:
    """No safety layer reads by itself meanwhile: on a real clock it would meet the fault before we do."""
    layers = []
    while isinstance(inner := getattr(rig, "inner", None), Rig):
        layers.append(rig)
        rig = inner
    before = [getattr(layer, "polls", True) for layer in layers]
    for layer in layers:
        layer.polls = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for layer, polls in zip(layers, before):
            layer.polls = polls  # type: ignore[attr-defined]


def _obeys(rig: Rig) -> None:
    if not rig.capabilities.obeys:
        raise Skip("it does not go where it is told")


@contextlib.contextmanager
def _hook(rig: Rig, name: str, call: Callable[..., Any]) -> Iterator[None]:
    setattr(rig, name, call)
    try:
        yield
    finally:
        delattr(rig, name)


def _starts_closed(rig: Rig) -> None:
    _must(rig.status.state == CLOSED, rig.status.state, "closed")
    for what in ("read", "capture", "activate"):
        _raises(getattr(rig, what), f"{what} of a closed rig")


def _capabilities(rig: Rig) -> None:
    told = rig.capabilities
    _must(rig.status.state == CLOSED, rig.status.state, "still closed")
    _must(told.camera is None or len(told.camera) == 3, told.camera, "(H, W, 3) or None")
    _must(told.simulated == rig.clock.simulated, told.simulated, "simulated as its clock")
    _must(rig.spec.rest.shape == (rig.spec.size,), rig.spec.rest.shape, "one rest command per motor")


def _open_is_still(rig: Rig) -> None:
    bare, sent = _bare(rig), []
    write = bare._write

    def spy(command: Floats) -> Floats | None:
        sent.append(command)
        return write(command)

    with _hook(bare, "_write", spy):
        rig.open()
        _must(rig.status.state == OPEN, rig.status.state, "open")
        _must(rig.open() is rig, "something else", "opening twice to do nothing")
        _must(not sent, f"{len(sent)} commands sent", "none")
        with contextlib.suppress(Skip):
            before = _place(rig)
            rig.clock.sleep(0.3)
            after = _place(rig)
            _must(_same(before, after), f"moved by {np.nanmax(np.abs(after - before)):.3f}", "no motion")


def _no_write_before_activate(rig: Rig) -> None:
    rig.open()
    before = rig.status.writes
    _raises(lambda: rig.write(rig.spec.rest), "write before activate")
    _must(rig.status.writes == before, f"{rig.status.writes - before} writes", "none")


def _activate_takes_present_pose(rig: Rig) -> None:
    _obeys(rig)
    # Somewhere else than rest, so that a rig which snaps to rest is caught.
    _ready(rig)
    _travel(rig, _nudged(rig))
    rig.release()
    _must(rig.status.state == OPEN, rig.status.state, "open after release")
    before = rig.read()
    place = None
    with contextlib.suppress(Skip):
        place = _place(rig)
    rig.activate()
    _must(rig.status.state == ACTIVE, rig.status.state, "active")
    target = rig.read().commanded
    if np.isfinite(before.measured).any():
        _must(_same(target, before.measured), target, "a target where the servos stood")
    if place is None:
        raise Skip("nothing tells where the motors stand")
    rig.clock.sleep(0.3)
    after = _place(rig)
    _must(_same(after, place), f"moved by {np.nanmax(np.abs(after - place)):.3f}", "no motion")


def _bad_commands(rig: Rig) -> None:
    _ready(rig)
    _travel(rig, rig.spec.rest, 0.1)
    before, writes = rig.read().commanded, rig.status.writes
    n = rig.spec.size
    nan, inf = rig.spec.rest.copy(), rig.spec.rest.copy()
    nan[0], inf[-1] = np.nan, np.inf
    wrong: dict[str, Any] = {
        "one motor too few": np.zeros(n - 1), "a row of commands": np.zeros((1, n)), "NaN": nan, "inf": inf,
        "text": ["a"] * n, "nothing": None,
    }  # fmt: skip
    for what, command in wrong.items():
        _raises(partial(rig.write, command), f"write of {what}")
        same = not rig.capabilities.obeys or np.array_equal(rig.read().commanded, before)
        _must(same, "another command", f"no change by {what}")
        _must(rig.status.writes == writes, f"{rig.status.writes - writes} writes", f"nothing sent for {what}")


def _clips(rig: Rig) -> None:
    _ready(rig)
    # The motor that rests nearest to an end, over that end: clipped, it hardly moves.
    rest = rig.spec.rest
    i = int(np.minimum(rest, 1 - rest).argmin())
    command, name = rest.copy(), rig.spec.names[i]
    command[i] = -0.7 if rest[i] < 0.5 else 1.7
    sent = rig.write(command)
    _must((sent >= 0).all() and (sent <= 1).all(), sent, "a command in [0, 1]")
    _must(name in rig.status.clipped, rig.status.clipped, f"{name} in status.clipped")
    rig.write(rig.spec.rest)
    _must(not rig.status.clipped, rig.status.clipped, "nothing clipped next time")


def _sent_is_told(rig: Rig) -> None:
    _ready(rig)
    command = _nudged(rig)
    sent = _travel(rig, command, 0.1)
    _obeys(rig)
    told = rig.read().commanded
    _must(np.allclose(sent, told, atol=1e-9), told, "what write returned")
    keep = command.copy()
    sent[:] = 0.123
    _must(not np.allclose(rig.read().commanded, 0.123), "the caller's array", "a copy")
    _must(np.array_equal(keep, command), "changed", "the caller's command unchanged")
    _must(np.allclose(_travel(rig, command, 1.0), command, atol=1e-6), rig.read().commanded, "to arrive")


def _state_is_whole(rig: Rig) -> None:
    _ready(rig)
    state = rig.read()
    for key in ("commanded", "measured", "load", "temperature", "voltage"):
        _must(np.shape(getattr(state, key)) == (rig.spec.size,), np.shape(getattr(state, key)), f"{key} (n,)")
    _must(isinstance(state.faults, tuple), state.faults, "a tuple of faults")
    rig.clock.sleep(0.05)
    later = rig.read()
    _must(later.time > state.time, f"{state.time} then {later.time}", "time that goes on")
    _must(later.time <= rig.clock.now(), later.time, "time of the rig's clock")


def _measured_is_no_echo(rig: Rig) -> None:
    _ready(rig)
    state = rig.read()
    measures = bool(np.isfinite(state.measured).any())
    _must(measures == rig.capabilities.measures, state.measured, "NaN unless capabilities.measures")
    if not measures:
        raise Skip("it does not measure")
    _obeys(rig)
    _travel(rig, rig.spec.rest)
    echo = []
    for k in range(10):  # a servo can't be where it was told to be within the same instant, each time
        command = _nudged(rig) if k % 2 else rig.spec.rest
        rig.write(command)
        state = rig.read()
        moving = state.commanded != rig.spec.rest
        echo.append(np.array_equal(state.measured[moving], state.commanded[moving]) and moving.any())
        rig.clock.sleep(0.02)
    _must(not any(echo), "measured equal to commanded at once", "the servos' own sensors")


def _pictures(rig: Rig) -> None:
    rig.open()
    if rig.capabilities.camera is None:
        _raises(rig.capture, "capture without a camera")
        raise Skip("it has no camera")
    if not rig.capabilities.obeys:  # played back, and only while it is active
        rig.activate()
    rig.clock.sleep(0.2)
    frame = rig.capture()
    _must(frame.image.shape == rig.capabilities.camera, frame.image.shape, str(rig.capabilities.camera))
    _must(frame.image.dtype == np.uint8, frame.image.dtype, "uint8")
    _must(frame.time <= rig.clock.now(), frame.time, "a picture of the past")
    _must((frame.truth is not None) == rig.capabilities.truth, frame.truth, "truth as capabilities say")
    rig.clock.sleep(0.2)
    _must(rig.capture().time > frame.time, "the same picture", "a newer one 0.2 s later")


def _holds(rig: Rig) -> None:
    _ready(rig)
    _travel(rig, _nudged(rig))
    rig.hold()
    _must(rig.status.state == HELD, rig.status.state, "held")
    before = _place(rig)
    rig.clock.sleep(0.3)
    after = _place(rig)
    _must(_same(before, after), f"moved by {np.nanmax(np.abs(after - before)):.3f}", "no motion")
    rig.write(rig.spec.rest)
    _must(rig.status.state == ACTIVE, rig.status.state, "active after a write")


def _fails(times: int, call: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    left = [times]

    def hook(*arguments: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise error
        return call(*arguments)

    return hook


def _retries(rig: Rig) -> None:
    with _undisturbed(rig):
        _retries_alone(rig)


def _retries_alone(rig: Rig) -> None:
    _ready(rig)
    bare = _bare(rig)
    retries = bare.status.retries
    with _hook(bare, "_read", _fails(1, bare._read, TimeoutError("no answer"))):
        rig.read()
    with _hook(bare, "_write", _fails(1, bare._write, OSError("no answer"))):
        rig.write(rig.spec.rest)
    _must(rig.status.state == ACTIVE, rig.status.state, "active: both were repeated")
    _must(bare.status.retries == retries + 2, bare.status.retries - retries, "2 retries counted")


def _partial_answers(rig: Rig) -> None:
    with _undisturbed(rig):
        _partial_answers_alone(rig)


def _partial_answers_alone(rig: Rig) -> None:
    _ready(rig)
    bare = _bare(rig)

    def once(call: Callable[[], Any], spoil: Callable[[Any], Any]) -> Callable[[], Any]:
        spoils = iter([spoil])
        return lambda: next(spoils, lambda whole: whole)(call())

    def short(state: RigState) -> RigState:
        return replace(state, measured=state.measured[:-1])

    def torn(frame: Frame) -> Frame:
        return replace(frame, image=frame.image[: len(frame.image) // 2])

    with _hook(bare, "_read", once(bare._read, short)):
        state = rig.read()
    _must(state.measured.shape == (rig.spec.size,), state.measured.shape, "the whole state, retried")
    if rig.capabilities.camera is not None:
        with _hook(bare, "_capture", once(bare._capture, torn)):
            frame = rig.capture()
        _must(frame.image.shape == rig.capabilities.camera, frame.image.shape, "the whole frame, retried")
    _must(rig.status.state == ACTIVE, rig.status.state, "active: the partial answer was asked for again")


def _silence(rig: Rig) -> None:
    with _undisturbed(rig):
        _silence_alone(rig)


def _silence_alone(rig: Rig) -> None:
    _ready(rig)
    bare = _bare(rig)
    with _hook(bare, "_read", _fails(10**9, bare._read, TimeoutError("servo 3 is silent"))):
        error = _raises(rig.read, "read of a silent servo")
        _must(isinstance(error, RigFault), type(error).__name__, "RigFault")
        _must(bare.status.state == HELD, bare.status.state, "held after the first failure")
        _raises(rig.read, "read of a servo that stays silent")
        _must(bare.status.state == OPEN, bare.status.state, "released after the second failure")
    _must("servo 3 is silent" in bare.status.reason, bare.status.reason, "the reason kept")
    _raises(lambda: rig.write(rig.spec.rest), "write after it was released")
    if hasattr(rig, "reset"):
        rig.reset()
    if rig.status.state != OPEN:
        rig.release()
    _must(_ready(rig).status.state == ACTIVE, rig.status.state, "active again, once the servo answers")


def _releases_everywhere(rig: Rig) -> None:
    rig.close()
    rig.release()
    rig.open()
    rig.release()
    _must(rig.status.state == OPEN, rig.status.state, "open")
    rig.activate()
    rig.hold()
    rig.release()
    rig.release()
    _must(rig.status.state == OPEN, rig.status.state, "open")
    _raises(lambda: rig.write(rig.spec.rest), "write after release")


def _closes_twice(rig: Rig) -> None:
    _ready(rig)
    bare, released = _bare(rig), []
    release = bare._release

    def spy() -> None:
        released.append(True)
        release()

    with _hook(bare, "_release", spy):
        rig.close()
    _must(rig.status.state == CLOSED, rig.status.state, "closed")
    _must(released, "motors left on", "released before closing")
    rig.close()
    _raises(lambda: rig.write(rig.spec.rest), "write after close")
    _must(_ready(rig).status.state == ACTIVE, rig.status.state, "to open again")
    rig.close()


def _releases_on_exceptions(rig: Rig) -> None:
    bare, released = _bare(rig), []
    release = bare._release

    def spy() -> None:
        released.append(True)
        release()

    class Oops(Exception):
        pass

    with contextlib.suppress(Oops), _hook(bare, "_release", spy), rig:
        rig.activate()
        raise Oops
    _must(released, "motors left on", "released when an exception leaves the with block")
    _must(rig.status.state == CLOSED, rig.status.state, "closed")


RULES: dict[str, Callable[[Rig], None]] = {
    "starts closed": _starts_closed,
    "capabilities are known before opening": _capabilities,
    "opening does not move": _open_is_still,
    "write before activate raises": _no_write_before_activate,
    "activate takes the present pose": _activate_takes_present_pose,
    "a bad command raises and changes nothing": _bad_commands,
    "out of range is clipped and reported": _clips,
    "write returns what was sent": _sent_is_told,
    "a state is whole and timed": _state_is_whole,
    "measured is never an echo": _measured_is_no_echo,
    "pictures are whole and timed": _pictures,
    "hold stands still": _holds,
    "a failure of the moment is retried": _retries,
    "a partial answer is retried": _partial_answers,
    "a silent servo is held, then released, with the reason": _silence,
    "release works from every state": _releases_everywhere,
    "close twice is fine": _closes_twice,
    "release on exceptions": _releases_on_exceptions,
}
