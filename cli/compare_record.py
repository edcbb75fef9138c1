"""Play a program on a rig in its own time and keep what was sent, read and seen, for `rig compare`."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.backlog import Backlog
from facetwin.cli.progress import Progress
from facetwin.cli.watcher import Watcher
from facetwin.hardware.pace import Pace, Paced
from facetwin.hardware.recording import RecordingWriter
from facetwin.hardware.rig import Rig
from facetwin.hardware.underway import pulses, under_way
from facetwin.twin.calibration.compare import Side
from facetwin.twin.calibration.observed import Observed, check_frozen
from facetwin.twin.calibration.probes import RATE, Program
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.grain import measured_grain
from facetwin.twin.landmarks import POINTS, align, fit_unit, head_turn

Floats = NDArray[np.float64]

LOOKS = 5  #: pictures of the face at rest that its unit is taken from
FPS = 25.0  #: pictures a second at most
STALE = 4.0  #: s without a new picture, after which a camera counts as frozen


@dataclass(frozen=True)
class Played:
    """What came of a program: the recording as arrays, the unit of its landmarks, how time was kept."""

    side: Side
    unit: float
    paced: Paced


def play_program(
    rig: Rig,
    watcher: Watcher,
    program: Program,
    folder: Path,
    *,
    fps: float = FPS,
    name: str = "",
    seed: int = 0,
    size: tuple[int, int] | None = None,
    look: bool = True,
) -> Played:
    """Play `program` on an activated rig and record it into `folder`, as `rig calibrate` wants it.

    Parameters
    ----------
    rig : Rig, activated; one without a camera is played and read only
    fps : float
        Pictures a second at most; a camera that is slower is taken as it comes.
    look : bool
        False: servos only, also where there is a camera.

    Raises
    ------
    FaceTwinError
        No face at rest, or a camera that shows the same picture while motors move.
    """
    looks = look and rig.capabilities.camera is not None
    clock, n = rig.clock, rig.spec.size
    unit, noise = _at_rest(rig, watcher, name) if looks else (1.0, 0.0)
    _hold(rig, rig.spec.rest, 0.5)
    later = under_way(rig)
    commands = program.commands
    sent_at, sent, read_at, measured = np.empty(len(commands)), [], np.empty(len(commands)), []
    picture_at: list[float] = []
    seen: list[NDArray[np.float32] | None] = []
    turns: list[NDArray[np.float32] | None] = []
    meta = {"kind": "facetwin comparison", "unit": unit, "seed": seed}
    if looks:
        meta["noise"] = round(noise, 3)
    every = 1 / fps
    with (
        Backlog(watcher) as backlog,
        RecordingWriter(folder, rig.spec, fps=fps, seed=seed, size=size, meta=meta) as recording,
        Progress(name or "playing", total=len(commands)) as bar,
    ):
        numbers: deque[int] = deque()

        def learn(answers: Iterator[NDArray[np.float32] | None]) -> None:
            for pixels in answers:
                shape = None if pixels is None else align(pixels, unit=unit)
                turn = None if pixels is None else head_turn(pixels)
                seen.append(shape)
                turns.append(turn)
                recording.landmarks(numbers.popleft(), shape, turn)

        with Pace(clock, RATE) as pace:
            zero, last = pace.start, -np.inf
            for k, asked in enumerate(commands):
                pace.wait()
                sent_at[k] = clock.now() - zero + later
                sent.append(rig.write(asked))
                asked_at = clock.now() - zero
                state = rig.read()
                # servos looked some time between question and last answer
                read_at[k] = (asked_at + max(asked_at, state.time - zero)) / 2
                measured.append(state.measured)
                recording.write(sent_at[k], asked, sent[-1], state)
                if looks:
                    frame = rig.capture()
                    if clock.now() - max(frame.time, zero) > STALE:
                        raise FaceTwinError(
                            "the camera is frozen", where=name, found=f"the same picture for {STALE:g} s",
                            hint="check its cable",
                        )  # fmt: skip
                    # a little less than a period, or a camera's jitter costs every other picture
                    if frame.time - last > 0.8 * every and frame.time >= zero:
                        last = frame.time
                        picture_at.append(last - zero)
                        gap = frame.truth["gap_mm"] if frame.truth else None
                        numbers.append(recording.picture(picture_at[-1], frame.image, gap_mm=gap))
                        (backlog if not clock.simulated else watcher).put(frame.image, frame.mirrored)
                if clock.simulated:
                    learn(watcher.ready())
                elif k % 10 == 9:
                    learn(backlog.ready())
                bar.advance(1)
            paced = pace.report()
        learn((backlog if not clock.simulated else watcher).finish())
        _settle(rig)
    faces = np.full((len(seen), POINTS, 3), np.nan)
    heads = np.full((len(seen), 3), np.nan)
    for k, (shape, turn) in enumerate(zip(seen, turns)):
        if shape is not None and turn is not None:
            faces[k], heads[k] = shape, turn
    data = Observed(
        sent_at, np.array(sent), np.array(measured).reshape(len(commands), n),
        np.array(picture_at), faces, heads,
    )  # fmt: skip
    if looks and not len(picture_at):
        raise FaceTwinError(
            "the camera gave no picture", where=name, found=f"{program.seconds:.0f} s of waiting",
            hint="is it plugged in, is another program using it?",
        )  # fmt: skip
    if len(picture_at):
        check_frozen(data, name or folder)
    return Played(Side(rig.spec, data, read_at, zero, later, pulses(rig)), unit, paced)


def save_side(played: Played, program: Program, folder: Path) -> None:
    """Beside the recording: when servos were read, and which motor had its turn when."""
    facts: dict[str, Any] = {
        "turns": [[t.start, t.end, list(t.motors)] for t in program.turns],
        "clip": list(program.clip),
        "babble": list(program.babble),
        "read_time": [None if not np.isfinite(t) else round(float(t), 6) for t in played.side.read_time],  # type: ignore[union-attr]
    }
    (folder / "program.json").write_text(json.dumps(facts) + "\n")


def _at_rest(rig: Rig, watcher: Watcher, name: str) -> tuple[float, float]:
    # The unit of the face at rest, and the camera's noise.
    images = []
    for _ in range(LOOKS):
        _hold(rig, rig.spec.rest, 0.3)
        frame = rig.capture()
        images.append(np.array(frame.image))
        watcher.put(frame.image, frame.mirrored)
    _settle(rig)
    still = [points for points in watcher.finish() if points is not None]
    if not still:
        raise FaceTwinError("no face in the mirror", where=name, hint="light, distance, aim of the camera")
    return fit_unit(np.array(still)), measured_grain(np.array(images))


def _hold(rig: Rig, command: Floats, seconds: float) -> None:
    until = rig.clock.now() + seconds
    while rig.clock.now() < until:
        rig.write(command)
        rig.clock.sleep(0.02)


def _settle(rig: Rig) -> None:
    # the watchdog would have to stop a face that nobody writes to while pictures are looked at
    if rig.status.state == "active":
        rig.hold()
