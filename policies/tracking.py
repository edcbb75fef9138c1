"""From a talking-head video to aligned landmarks and sound: one clip, or a resumable folder of them.

The files it writes are described in `dataset`.

Folders of any depth are walked; in VoxCeleb2's layout (``mp4/id/video/00001.mp4`` with the sound in
``aac/id/video/00001.m4a``) sound is taken from its own file where the video has none. Cleaning by
centerness and shakiness follows the Audio2Landmark report, section 2.1.4.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.policies import audio, video
from facetwin.policies.dataset import Clip, DatasetWriter, talker_name, write_clip
from facetwin.twin import landmarks
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.tracker import Tracker

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv")
#: how often a second face is looked for, s
SECOND_FACE_EVERY = 1.0
#: a second face counts when its eyes are at least this far apart, in those of the first
SECOND_FACE_SIZE = 0.35


@dataclass(frozen=True)
class Limits:
    """What a clip must satisfy to be kept."""

    missing: float = 0.25
    """Largest share of pictures without a face (they are interpolated)."""
    centerness: float = 30.0
    """Largest mean angle between nose and camera, degrees."""
    shakiness: float = 2.0
    """Largest mean change of that angle from picture to picture, degrees."""
    seconds: float = 0.4
    """Shortest clip, s."""


@dataclass(frozen=True)
class Tracked:
    """One clip at the video's own rate, the pictures' times (T,) in s, and its facts for the manifest."""

    clip: Clip
    times: NDArray[np.float64]
    fps: float
    facts: dict[str, Any] = field(default_factory=dict)


def track_clip(path: str | Path, *, limits: Limits | None = None, tracker: Tracker | None = None) -> Tracked:
    """Track one video with its sound.

    Raises `FaceTwinError` in one line for: unreadable, no picture, no sound, no face, two faces, a face
    that looks away or shakes too much for `limits`.
    """
    limits = limits or Limits()
    sound = audio.load(_sound_file(Path(path)))
    info = video.probe(path)
    own = tracker or Tracker(video=True)
    own.reset()
    rows: list[NDArray[np.float32] | None] = []
    times: list[float] = []
    looks, doubles, next_look = 0, 0, 0.0
    try:
        for when, image in video.read(path):
            rows.append(own.detect(image))
            times.append(when)
            if when >= next_look:
                next_look = when + SECOND_FACE_EVERY
                looks += 1
                doubles += _second_face(image)
    finally:
        if tracker is None:
            own.close()
    seen = np.array([row is not None for row in rows])
    if not seen.any():
        raise FaceTwinError("no face in it", where=path, found=f"none in {len(rows)} pictures")
    if doubles > looks / 3:
        raise FaceTwinError(
            "two faces in it", where=path, found=f"in {doubles} of {looks} pictures looked at", expected="one"
        )
    if (~seen).mean() > limits.missing:
        raise FaceTwinError(
            "the face is lost too often",
            where=path,
            found=f"{(~seen).mean():.0%} of the pictures without a face",
            expected=f"at most {limits.missing:.0%}",
        )
    pixels = _fill(rows, seen)  # (T, 478, 3)
    nose = landmarks.head_rotation(pixels)[:, 2, 2]  # cosine between nose and camera
    angle = np.degrees(np.arccos(np.clip(nose, -1, 1)))
    center = float(angle.mean())
    shake = float(np.abs(np.diff(angle)).mean()) if len(angle) > 1 else 0.0
    for name, value, most in (
        ("looks away from the camera", center, limits.centerness),
        ("the head moves too much", shake, limits.shakiness),
    ):
        if value > most:
            raise FaceTwinError(name, where=path, found=f"{value:.1f} deg", expected=f"at most {most:g}")
    seconds = len(times) / info.fps
    if seconds < limits.seconds:
        raise FaceTwinError("too short", where=path, found=f"{seconds:.2f} s", expected=f"{limits.seconds} s")
    return Tracked(
        Clip(Path(path).stem, landmarks.align(pixels), seen, sound.samples),
        np.array(times),
        info.fps,
        {
            "missing": round(float((~seen).mean()), 4),
            "centerness_deg": round(center, 2),
            "shakiness_deg": round(shake, 3),
            "eye_distance_px": round(float(np.median(landmarks.eye_distance(pixels))), 2),
            "silent": sound.silent,
            "notes": list(sound.notes),
        },
    )


def find_videos(root: str | Path) -> list[Path]:
    """All video files below a folder, sorted; raises `UsageError` where there is none."""
    root = Path(root)
    if not root.exists():
        raise UsageError("no such file or folder", where=root, hint="check the path")
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise UsageError("no video in it", where=root, expected="files that end in " + " ".join(SUFFIXES))
    return found


def track_folder(
    root: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    retry: bool = False,
    report: Callable[[int, int, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Track every video below `root` into the dataset `out`; finished ones are not done again.

    Parameters
    ----------
    workers : processes, default the number of cores
    retry : do dropped clips again (other limits, say)
    report : called with (done, total, manifest row) after each video

    Returns
    -------
    dict: the dataset's ``meta.json``, with counts of kept and dropped clips by reason.
    """
    root, out = Path(root), Path(out)
    limits = limits or Limits()
    videos = find_videos(root)
    writer = DatasetWriter(out, _meta(root, limits))
    todo, done = [], 0
    for path in videos:
        name, stamp = clip_name(path, root), _stamp(path)
        row = writer.rows.get(name)
        if row is not None and row["stamp"] == stamp and (writer.holds(name) if row["kept"] else not retry):
            done += 1
        else:
            folders = list(path.relative_to(root).parts[:-1])
            todo.append((str(path), name, str(out), asdict(limits), stamp, talker_name(folders, root.name)))
    try:
        for row in _work(todo, workers or os.cpu_count() or 1):
            writer.log(row)
            done += 1
            if report is not None:
                report(done, len(videos), row)
    finally:
        meta = writer.close()
    return meta


def track_single(path: str | Path, out: str | Path, *, limits: Limits | None = None) -> dict[str, Any]:
    """Track one video into the dataset `out` (made, or added to); what a folder would drop raises here."""
    path, out = Path(path), Path(out)
    limits = limits or Limits()
    with DatasetWriter(out, _meta(path, limits)) as writer:
        tracked = track_clip(path, limits=limits)
        writer.add(
            tracked.clip, times=tracked.times, fps=tracked.fps, source=str(path), stamp=_stamp(path),
            **tracked.facts,
        )  # fmt: skip
    return writer.meta


def clip_name(path: Path, root: Path) -> str:
    """Name of a clip in the dataset: its path below the root without suffix, '/' as '__'."""
    relative = path.relative_to(root).with_suffix("")
    return "__".join(relative.parts)


def _work(todo: Sequence[tuple[Any, ...]], workers: int) -> Iterator[dict[str, Any]]:
    if not todo:
        return
    if min(workers, len(todo)) == 1:
        yield from map(_one, todo)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=context, initializer=_start) as pool:
        waiting = iter(todo)
        pending = {pool.submit(_one, job) for _, job in zip(range(2 * workers), waiting)}
        try:
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    for job in waiting:
                        pending.add(pool.submit(_one, job))
                        break
                    yield future.result()
        except BaseException:  # interrupted: clips in hand are done again
            for process in list(pool._processes.values()):
                process.terminate()
            raise


def _start() -> None:
    import cv2

    cv2.setNumThreads(1)


def _one(job: tuple[Any, ...]) -> dict[str, Any]:
    path, name, out, limits, stamp, talker = job
    row: dict[str, Any] = {"name": name, "source": path, "stamp": stamp, "talker": talker}
    try:
        tracked = track_clip(path, limits=Limits(**limits), tracker=_tracker())
    except FaceTwinError as why:
        return {**row, "kept": False, "reason": str(why).removeprefix(f"{path}: ")}
    clip = replace(tracked.clip, name=name, talker=talker)
    return {**row, **write_clip(out, clip, times=tracked.times, fps=tracked.fps), **tracked.facts}


_trackers: dict[str, Tracker] = {}


def _tracker() -> Tracker:
    """One video tracker a process: building its graph costs a tenth of a second."""
    if "video" not in _trackers:
        _trackers["video"] = Tracker(video=True)
    return _trackers["video"]


def _second_face(image: NDArray[np.uint8]) -> bool:
    """Whether a second face, about as large as the first, is in the picture."""
    if "pair" not in _trackers:
        _trackers["pair"] = Tracker(max_faces=2, second_try=False)
    faces = _trackers["pair"].detect_all(image)
    if len(faces) < 2:
        return False
    sizes = landmarks.eye_distance(faces)  # (2,)
    apart = np.linalg.norm(faces[0].mean(0) - faces[1].mean(0))
    return bool(sizes.min() > SECOND_FACE_SIZE * sizes.max() and apart > sizes.min())


def _fill(rows: list[NDArray[np.float32] | None], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """All pictures' landmarks, missing ones interpolated in time: float64 [shape=(T, 478, 3), px]."""
    known = np.stack([row for row in rows if row is not None]).astype(np.float64)
    if seen.all():
        return known
    frames, at = np.arange(len(rows)), np.flatnonzero(seen)
    flat = known.reshape(len(at), -1)
    return np.stack([np.interp(frames, at, c) for c in flat.T], 1).reshape(-1, *known.shape[1:])


def _sound_file(path: Path) -> Path:
    """The video itself, or VoxCeleb2's separate sound."""
    if not audio.has_sound(path):
        parts = list(path.parts)
        for k in range(len(parts) - 1, -1, -1):
            if parts[k] == "mp4":
                other = Path(*parts[:k], "aac", *parts[k + 1 :]).with_suffix(".m4a")
                if other.exists():
                    return other
    return path


def _stamp(path: Path) -> str:
    status = path.stat()
    return hashlib.sha256(f"{path.resolve()}|{status.st_size}|{int(status.st_mtime)}".encode()).hexdigest()[
        :16
    ]


def _meta(root: Path, limits: Limits) -> dict[str, Any]:
    return {"source": root.name, "limits": asdict(limits), "tracker": "mediapipe FaceMesh 0.10.21"}
