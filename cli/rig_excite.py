"""`facetwin rig excite`: move every motor in ways that show what it is like, and record what was seen.

Steps, small steps, slow ramps and chirps for each motor, then babble, all through the safety layer. The
recording is what `facetwin rig calibrate` fits a rig table to.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from facetwin.cli.progress import Progress
from facetwin.twin.errors import FaceTwinError, UsageError

LOOKS = 5  #: pictures of the face at rest that its unit is taken from


@dataclass(frozen=True)
class RigExcite:
    """Move every motor of a rig by itself, then all at random, and record it for `facetwin rig calibrate`."""

    rig: tyro.conf.Positional[str] = "sim:"
    """Rig: sim:, sim:emo23, a rig table, …"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out/excited")
    """Folder of the recording."""
    seconds: float = 0.0
    """Length; 0: the shortest that gives every motor its turn, about a minute."""
    fps: float = 12.5
    """Pictures a second: 50, 25, 12.5, 10 or 5."""
    size: int = 256
    """Side of the pictures, px (of a simulated rig)."""
    may_move: bool = False
    """Needed for a rig that is not simulated: yes, it may move now."""
    seed: int = 0
    """Of everything random."""
    json: bool = False
    """Print one JSON object."""


def run(options: RigExcite) -> int:
    """Excite and record."""
    from facetwin.cli.sized import open_sized
    from facetwin.cli.watcher import Watcher
    from facetwin.hardware.recording import RecordingWriter
    from facetwin.twin.calibration.excitation import RATE, excitation
    from facetwin.twin.grain import measured_grain
    from facetwin.twin.landmarks import align, fit_unit, head_turn

    every = RATE / options.fps if options.fps > 0 else 0.0
    if every < 1 or every != round(every):
        raise UsageError(
            "no such rate", where="--fps", found=options.fps, expected=f"{RATE} divided by 1, 2, …"
        )
    if (options.out / "meta.json").exists():
        raise UsageError("there is a recording already", where=options.out,
                         hint="remove the folder or name another one")  # fmt: skip
    with open_sized(options.rig, options.size, may_move=options.may_move) as rig, Watcher() as watcher:
        camera = rig.capabilities.camera
        if camera is None:
            raise UsageError("this rig has no camera", where=options.rig, hint="name a rig that can look")
        commands = excitation(rig.spec, options.seconds, options.seed)
        clock = rig.clock
        rig.activate()
        images = []
        for _ in range(LOOKS):
            _hold(rig, rig.spec.rest, 0.3)
            frame = rig.capture()
            images.append(np.array(frame.image))
            watcher.put(frame.image, frame.mirrored)
        still = [points for points in watcher.finish() if points is not None]
        if not still:
            raise FaceTwinError(
                "no face in the mirror", where=options.rig, hint="light, distance, aim of the camera"
            )
        unit = fit_unit(np.array(still))
        meta = {
            "kind": "facetwin excitation",
            "unit": unit,
            "seed": options.seed,
            "noise": round(measured_grain(np.array(images)), 3),  # the film is pressed and tells less
        }
        waiting: deque[int] = deque()
        found = 0
        with RecordingWriter(
            options.out, rig.spec, fps=options.fps, seed=options.seed, meta=meta
        ) as recording, Progress("exciting", total=len(commands)) as bar:  # fmt: skip

            def learn(answers: Iterator[NDArray[np.float32] | None]) -> int:
                seen = 0
                for pixels in answers:
                    number = waiting.popleft()
                    if pixels is None:
                        recording.landmarks(number, None)
                    else:
                        recording.landmarks(number, align(pixels, unit=unit), head_turn(pixels))
                        seen += 1
                return seen

            zero, last = clock.now(), -np.inf
            for k, asked in enumerate(commands):
                clock.sleep_until(zero + k / RATE)
                now = clock.now()
                sent = rig.write(asked)
                recording.write(now - zero, asked, sent, rig.read())
                if k % round(every) == 0:
                    frame = rig.capture()
                    if frame.time > last and frame.time >= zero:
                        last = frame.time
                        gap = frame.truth["gap_mm"] if frame.truth else None
                        waiting.append(recording.picture(frame.time - zero, frame.image, gap_mm=gap))
                        watcher.put(frame.image, frame.mirrored)
                found += learn(watcher.ready())
                bar.advance(1)
            total = found + len(waiting)
            found += learn(watcher.finish())
            total = max(total, 1)
    result = {
        "recording": str(options.out),
        "seconds": len(commands) / RATE,
        "pictures": total,
        "found": found / total,
    }
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{result['seconds']:.0f} s of {rig.spec.name} in {options.out}, {total} pictures, "
              f"face found in {100 * found / total:.1f} %")  # fmt: skip
    return 0


def _hold(rig: Any, command: Any, seconds: float) -> None:
    until = rig.clock.now() + seconds
    while rig.clock.now() < until:
        rig.write(command)
        rig.clock.sleep(0.02)
