"""`facetwin babble`: move at random before the mirror and record what it looked like.

Recordings of a hundred poses each (`facetwin.hardware.recording`), beside each other in one folder: each
is made by one process from a seed of its own, so a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np

from facetwin.cli.babbled import clear, is_whole, mirror_of, run_folder, runs
from facetwin.cli.progress import Progress
from facetwin.twin.errors import FaceTwinError, UsageError

RUN = 100  # poses a recording
COMMANDS = "commands.npy"  # what speech asks, beside the recordings
CLIPS = 60  # recordings that it is taken from
CONTROL_RATE = 50


@dataclass(frozen=True)
class Babble:
    """Move at random before the mirror; what was sent and what was seen becomes a folder of recordings."""

    out: Path
    """folder to write; an interrupted run is taken up where it stopped"""
    frames: int = 4000
    """poses to look at"""
    rig: str = "sim:"
    """rig name or TOML file"""
    babbler: str = "mixed"
    """mixed, uniform, keyposes or mouthing"""
    speech: Path | None = None
    """instead of a babbler: around what speech asks of the face, from this dataset of `facetwin track`"""
    size: int = 256
    """picture size, px (of a simulated rig)"""
    looks: int = 6
    """looks of the tracker at each picture, averaged"""
    settle: float = 0.36
    """time that each pose is given, s"""
    workers: int = 0
    """processes (simulated rigs only); 0: one a core"""
    may_move: bool = False
    """needed for a rig that is not simulated: yes, it may move now"""
    seed: int = 0
    """of everything random"""
    json: bool = False
    """print the result as JSON"""


def run(options: Babble) -> int:
    """Babble; exit code 0, or an error."""
    from facetwin.cli.sized import open_sized
    from facetwin.policies.babble import babbler
    from facetwin.twin.landmarks import fit_unit
    from facetwin.twin.tracker import Tracker

    if options.frames < 1 or options.size < 64:
        raise UsageError("nothing to look at", found=f"{options.frames} frames of {options.size} px")
    folder = options.out
    started = time.perf_counter()
    with (
        open_sized(options.rig, options.size, may_move=options.may_move) as rig,
        Tracker(looks=options.looks) as tracker,
    ):
        if rig.capabilities.camera is None:
            raise UsageError("this rig has no camera", where=options.rig, hint="name a rig that can look")
        babbler(options.babbler, rig.spec, np.random.default_rng(0))
        simulated = rig.capabilities.simulated
        rig.activate()
        frames = [_look(rig, rig.spec.rest, options.settle) for _ in range(4)]
        seen = [tracker.detect(frame.image, mirrored=frame.mirrored) for frame in frames]
        if any(points is None for points in seen):
            raise FaceTwinError(
                "no face in the mirror", where=options.rig, hint="light, distance, aim of the camera"
            )
        meta = {
            "kind": "facetwin babble",
            "rig": rig.spec.name,
            "rig_hash": rig.spec.hash,
            "motors": list(rig.spec.names),
            "unit": fit_unit(np.array(seen)),
            "babbler": "around speech" if options.speech else options.babbler,
            "seed": options.seed,
            "size": options.size,
            "looks": options.looks,
        }
        folder.mkdir(parents=True, exist_ok=True)
        old = folder / "meta.json"
        if old.exists():
            before = json.loads(old.read_text("utf-8"))
            for key in ("rig_hash", "babbler", "seed", "size", "looks"):
                if before.get(key) != meta[key]:
                    what = f"the folder holds other babble ({key})"
                    hint = "take another folder"
                    raise UsageError(what, where=folder, found=before.get(key), expected=meta[key], hint=hint)
            meta = before
        if options.speech and not (folder / COMMANDS).exists():
            np.save(folder / COMMANDS, _spoken(rig.spec, options.speech))
        (folder / "meta.json.part").write_text(json.dumps(meta, indent=1) + "\n", "utf-8")
        os.replace(folder / "meta.json.part", old)
    left = [k for k in range(-(-options.frames // RUN)) if not _done(run_folder(folder, k), simulated)]
    workers = options.workers or os.cpu_count() or 1
    if not simulated:
        workers = 1
    workers = max(1, min(workers, len(left)))
    _run_all(options, float(str(meta["unit"])), left, workers)
    result = _summary(folder, time.perf_counter() - started)
    if options.json:
        print(json.dumps(result))
    else:
        print(f"{result['poses']} poses in {folder}, face found in {100 * result['found']:.2f} %")
    return 0


def _done(run: Path, repeatable: bool) -> bool:
    """Whether a recording need not be made again: what a real rig did is kept, torn or not."""
    if is_whole(run) or (not repeatable and (run / "meta.json").exists()):
        return True
    clear(run)
    return False


def _run_all(options: Babble, unit: float, numbers: list[int], workers: int) -> None:
    context = mp.get_context("spawn")
    jobs: Any = context.Queue()
    done: Any = context.Queue()
    for number in numbers:
        jobs.put(number)
    for _ in range(workers):
        jobs.put(None)
    crew = [
        context.Process(target=_work, args=(options, unit, RUN, jobs, done), daemon=True)
        for _ in range(workers)
    ]
    kept = {k: os.environ.get(k) for k in ("OMP_NUM_THREADS", "LP_NUM_THREADS")}
    os.environ.update(OMP_NUM_THREADS="1", LP_NUM_THREADS="1")
    try:
        for process in crew:
            process.start()
    finally:
        for key, value in kept.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
    left = len(numbers) * RUN
    try:
        with Progress("babbling", total=left) as bar:
            while left > 0:
                try:
                    message = done.get(timeout=1.0)
                except Empty:
                    if not any(p.is_alive() for p in crew):
                        raise FaceTwinError(
                            "the babbling processes died", hint="run again; it continues"
                        ) from None
                    continue
                if isinstance(message, str):
                    raise FaceTwinError(message)
                bar.advance(message)
                left -= message
            for process in crew:  # the last recordings are being closed
                process.join(60)
    finally:
        for process in crew:
            process.terminate()
            process.join()


def _work(options: Babble, unit: float, poses: int, jobs: Any, done: Any) -> None:
    from facetwin.cli.sized import open_sized
    from facetwin.hardware.recording import RecordingWriter
    from facetwin.policies.babble import babbler
    from facetwin.twin.landmarks import align, head_turn
    from facetwin.twin.tracker import Tracker

    try:
        with open_sized(options.rig, options.size) as rig, Tracker(looks=options.looks) as tracker:
            rig.activate()
            while (number := jobs.get()) is not None:
                rng = np.random.default_rng((options.seed, number))
                rig.home(seed=int(rng.integers(2**31)))
                if rig.status.state != "active":
                    rig.activate()
                source = (
                    _around(options.out / COMMANDS, rng)
                    if options.speech
                    else babbler(options.babbler, rig.spec, rng)
                )
                zero, meta = rig.clock.now(), {"unit": unit, "looks": options.looks}
                with RecordingWriter(
                    run_folder(options.out, number), rig.spec, fps=1.0, seed=options.seed, meta=meta
                ) as recording:
                    for _ in range(poses):
                        frame = _look(rig, next(source), options.settle, recording, zero)
                        gap = frame.truth["gap_mm"] if frame.truth else None
                        picture = recording.picture(frame.time - zero, frame.image, gap_mm=gap)
                        points = tracker.detect(frame.image, mirrored=frame.mirrored)
                        if points is None:
                            recording.landmarks(picture, None)
                        else:
                            recording.landmarks(picture, align(points, unit=unit), head_turn(points))
                        done.put(1)
    except Exception as error:
        done.put(f"babbling failed: {error}")


def _spoken(spec: Any, dataset: Path) -> Any:
    """Commands for the first recordings of a dataset, float32 [shape=(n, motors)], by the present weights."""
    from facetwin.policies.controller import SpeechController
    from facetwin.policies.dataset import load_clips
    from facetwin.policies.speech import SpeechModel

    model, controller = SpeechModel.load(), SpeechController(spec)
    rows = []
    for clip in load_clips(dataset, CLIPS):
        controller.reset()
        rows.append(controller.commands(model(clip.samples)))
    return np.concatenate(rows)


def _around(file: Path, rng: np.random.Generator) -> Iterator[Any]:
    rows = np.load(file, allow_pickle=False)
    while True:
        start = int(rng.integers(len(rows)))
        for row in rows[start : start + 5]:
            yield np.clip(row + rng.normal(0, 0.04, len(row)), 0, 1)


def _look(rig: Any, command: Any, settle: float, recording: Any = None, zero: float = 0.0) -> Any:
    """Go to a command, wait until it is reached, and take a picture; what was sent is recorded."""
    clock = rig.clock
    delay = max((camera.delay for camera in rig.spec.cameras.values()), default=0.0)

    def write() -> Any:
        now, sent = clock.now(), rig.write(command)
        if recording is not None:
            recording.write(now - zero, command, sent, rig.read())
        return sent

    end, last = clock.now() + 4.0, None
    while True:
        sent = write()
        if (last is not None and np.abs(sent - last).max() < 1e-6) or clock.now() > end:
            break
        last = sent
        clock.sleep(1 / CONTROL_RATE)
    until = clock.now() + settle + delay
    while clock.now() < until:
        clock.sleep(1 / CONTROL_RATE)
        write()
    return rig.capture()


def _summary(folder: Path, seconds: float) -> dict[str, Any]:
    found = np.concatenate([mirror_of(run).found for run in runs(folder)])
    return {"folder": str(folder), "poses": len(found), "found": float(found.mean()), "seconds": seconds}
