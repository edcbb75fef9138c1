"""Play a score of commands on a rig in time, and look into the mirror while it plays.

Commands come at 25 a second, in pieces, as they are made; the rig gets them at its control rate, each
motor ahead of time by its own latency, so that what is seen is in time with the sound. Time is the
rig's own clock: a simulated rig is not waited for.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetwin.hardware.rig import Frame, Rig, RigState
from facetwin.twin.spec import RigSpec

FPS = 25  #: commands and pictures a second
CONTROL_RATE = 50  #: writes a second
TICKS = CONTROL_RATE // FPS  #: writes a picture
SETTLE, REST, EASE = 0.4, 0.4, 0.4  #: s before the sound: come to rest, be looked at, take the first pose

Command = NDArray[np.floating]


@dataclass(frozen=True)
class Tick:
    """One write: time (s of the sound), command asked for, command sent, and the state read back."""

    time: float
    asked: Command
    sent: Command
    state: RigState


@dataclass(frozen=True)
class Shot:
    """The picture due at `time` (s of the sound; negative: the face at rest, before it).

    `exposed` is when it was really taken, `ticks` are the writes since the last one.
    """

    time: float
    exposed: float
    frame: Frame
    ticks: tuple[Tick, ...]


class Track:
    """Commands over time, pulled from an iterator as far as they are needed.

    >>> track = Track(iter([np.array([[0.0], [1.0]])]))
    >>> [track.at(np.array([t])).item() for t in (-1.0, 0.02, 0.04, 9.0)]
    [0.0, 0.5, 1.0, 1.0]
    """

    def __init__(self, pieces: Iterator[Command]) -> None:
        self._pieces = pieces
        self._rows: Command = np.zeros((0, 0))
        self._first = 0  # number of the first row held
        self._ended = False

    def at(self, times: Command) -> Command:
        """Command [shape=(n,)] whose motor i is taken at `times[i]` s; the ends are held.

        Times may not go back by more than what `forget` left.
        """
        place = np.maximum(np.asarray(times) * FPS, 0.0)  # (n,)
        low = np.floor(place).astype(int)
        self._pull(int(low.max()) + 2)
        last = self._first + len(self._rows) - 1
        motors = np.arange(len(place))
        a = self._rows[np.clip(low, self._first, last) - self._first, motors]
        b = self._rows[np.clip(low + 1, self._first, last) - self._first, motors]
        return a + (b - a) * (place - low)

    def steer(self, times: Command, first: Command, second: Command) -> Command:
        """As `at` on a smooth curve (Catmull-Rom), plus `first` x its slope and `second` x its bend.

        With first = 2 zeta / omega and second = 1 / omega^2 this is what a second-order servo must be told
        for it to stand on the curve: quick closures would otherwise come out small.

        >>> track = Track(iter([np.arange(5)[:, None] / 10]))
        >>> round(track.steer(np.array([0.06]), np.array([0.04]), np.array([1.0])).item(), 6)
        0.25
        """
        place = np.maximum(np.asarray(times) * FPS, 0.0)  # (n,)
        low = np.floor(place).astype(int)
        self._pull(int(low.max()) + 3)
        last = self._first + len(self._rows) - 1
        motors = np.arange(len(place))
        a, b, c, d = (
            self._rows[np.clip(low + k, self._first, last) - self._first, motors] for k in (-1, 0, 1, 2)
        )
        s = place - low
        one, two, three = (c - a) / 2, a - 2.5 * b + 2 * c - 0.5 * d, (d - a) / 2 + 1.5 * (b - c)
        value = b + s * (one + s * (two + s * three))
        slope = one + s * (2 * two + 3 * s * three)
        bend = 2 * two + 6 * s * three
        out: Command = np.clip(value + first * FPS * slope + second * FPS**2 * bend, 0.0, 1.0)
        return out

    def has(self, frame: int) -> bool:
        """Whether there is a command for picture `frame`."""
        self._pull(frame + 1)
        return frame < self._first + len(self._rows)

    def forget(self, time: float) -> None:
        """Let go of what lies before `time`."""
        drop = min(int(time * FPS) - self._first, len(self._rows) - 2)
        if drop > 0:
            self._rows = self._rows[drop:]
            self._first += drop

    def _pull(self, until: int) -> None:
        while not self._ended and self._first + len(self._rows) < until:
            piece = next(self._pieces, None)
            if piece is None:
                self._ended = True
            elif len(piece):
                self._rows = piece if not self._rows.size else np.concatenate([self._rows, piece])


def prefetch(pieces: Iterator[Command], ahead: int = 1) -> Iterator[Command]:
    """The same pieces, the next one made in a thread while this one is played: a real rig does not wait.

    >>> [piece.tolist() for piece in prefetch(iter([np.zeros(1), np.ones(1)]))]
    [[0.0], [1.0]]
    """
    box: queue.Queue[Command | BaseException | None] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: Command | BaseException | None) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                box.put(item, timeout=0.2)
                return

    def work() -> None:
        try:
            for piece in pieces:
                put(piece)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # raised again where the pieces are wanted
            put(error)

    thread = threading.Thread(target=work, name="facetwin pieces", daemon=True)
    thread.start()
    try:
        while (item := box.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def lead_times(spec: RigSpec) -> Command:
    """How much earlier than seen each motor must be told, float64 [shape=(n,), s].

    Latency and half a write; the servo's lag is undone by `Track.steer`.
    """
    return np.array([m.latency for m in spec.motors]) + 0.5 / CONTROL_RATE


def lags(spec: RigSpec) -> tuple[Command, Command]:
    """2 zeta / omega (s) and 1 / omega^2 (s2) of each servo, two float64 [shape=(n,)]."""
    omega = 2 * np.pi * np.array([m.natural_frequency for m in spec.motors])
    zeta = np.array([m.damping_ratio for m in spec.motors])
    return 2 * zeta / omega, 1 / omega**2


def perform(rig: Rig, pieces: Iterator[Command], timing: RigSpec | None = None) -> Iterator[Shot]:
    """Play `pieces` on an activated rig; yields pictures of the rest face, then one for each 40 ms.

    Parameters
    ----------
    rig : Rig, activated
    pieces : commands float [shape=(k, n), 0..1] at 25 a second
    timing : RigSpec, optional
        Whose latency and lag motors are told ahead by; by default the rig's own table's.
    """
    timing = timing or rig.spec
    track = Track(pieces)
    if not track.has(0):
        return
    if not rig.clock.simulated:
        yield from _perform_live(rig, track, timing)
        return
    rest, lead, clock = np.asarray(rig.spec.rest), lead_times(timing), rig.clock
    first, second = lags(timing)
    delay = max((camera.delay for camera in rig.spec.cameras.values()), default=0.0)
    start = -SETTLE - REST - EASE
    zero = clock.now() - start  # rig time at which the sound begins
    tick, due = round(start * CONTROL_RATE), round((start + SETTLE) * FPS)
    ticks: list[Tick] = []
    while due < 0 or track.has(due):
        time = tick / CONTROL_RATE
        clock.sleep_until(zero + time)
        if time >= due / FPS + delay - 1e-6:
            frame = rig.capture()
            yield Shot(due / FPS, frame.time - zero, frame, tuple(ticks))
            ticks.clear()
            due += 1
            if -EASE * FPS <= due < 0:  # no longer at rest, not yet speaking
                due = 0
        share = np.clip((time + EASE) / EASE, 0.0, 1.0)
        asked = (1 - share) * rest + share * track.steer(time + lead, first, second)
        sent = rig.write(asked)
        ticks.append(Tick(time, asked, sent, rig.read()))
        track.forget(time - 2 / FPS)
        tick += 1


def _perform_live(rig: Rig, track: Track, timing: RigSpec) -> Iterator[Shot]:
    """The same in real time: writes at absolute deadlines, pictures by the camera's time stamps."""
    from facetwin.cli.live import Nearest
    from facetwin.hardware.pace import Pace
    from facetwin.hardware.underway import under_way

    rest, lead, clock = np.asarray(rig.spec.rest), lead_times(timing) + under_way(rig), rig.clock
    first, second = lags(timing)
    start = -SETTLE - REST - EASE
    due = round((start + SETTLE) * FPS)
    ticks: list[Tick] = []
    pictures = Nearest()
    with Pace(clock, CONTROL_RATE) as pace:
        zero = pace.start - start
        while due < 0 or track.has(due):
            time = pace.wait() + start
            share = np.clip((time + EASE) / EASE, 0.0, 1.0)
            asked = (1 - share) * rest + share * track.steer(time + lead, first, second)
            sent = rig.write(asked)
            ticks.append(Tick(time, asked, sent, rig.read()))
            track.forget(time - 1.0)  # pictures come later than their commands
            pictures.put(rig.capture())
            while (due < 0 or track.has(due)) and (
                frame := pictures.at(zero + due / FPS, clock.now())
            ) is not None:
                yield Shot(due / FPS, frame.time - zero, frame, tuple(ticks))
                ticks.clear()
                due += 1
                if -EASE * FPS <= due < 0:
                    due = 0
        paced = pace.report()
    rig.hold()  # what follows takes its time
    if paced.share_missed > 0.01:
        print(f"facetwin: the loop was late: {paced}", file=sys.stderr)
