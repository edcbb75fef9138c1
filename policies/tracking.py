"""From a talking-head video to aligned landmarks and sound: one clip, or a resumable folder of them.

A dataset is a folder: ``meta.json`` (set, units, versions), ``manifest.jsonl`` (a line a video: kept or
dropped, and why) and ``clips/NAME.safetensors``, each with

    landmarks  float32 [shape=(T, 478, 3), u], aligned (twin.landmarks)
    times      float64 [shape=(T,), s] from the first picture
    seen       uint8 [shape=(T,)], 0 where no face was found and the landmarks are interpolated
    pcm        int16 [shape=(n,)], mono, 16 kHz, sample 0 at the first picture

Folders of any depth are walked; in VoxCeleb2's layout (``mp4/id/video/00001.mp4`` with the sound in
``aac/id/video/00001.m4a``) sound is taken from its own file where the video has none. Cleaning by
centerness and shakiness follows the Audio2Landmark report, section 2.1.4.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from facetwin.policies import audio, video
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


@dataclass
class Tracked:
    """One clip: landmarks [shape=(T, 478, 3), u], times (T,), seen (T,), pcm (n,), and its facts."""

    landmarks: NDArray[np.float32]
    times: NDArray[np.float64]
    seen: NDArray[np.uint8]
    pcm: NDArray[np.int16]
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
    pcm = np.round(np.clip(sound.samples, -1, 1) * 32767).astype(np.int16)
    return Tracked(
        landmarks.align(pixels),
        np.array(times),
        seen.astype(np.uint8),
        pcm,
        info.fps,
        {
            "frames": len(times),
            "fps": round(info.fps, 4),
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
    (out / "clips").mkdir(parents=True, exist_ok=True)
    manifest = out / "manifest.jsonl"
    rows = {row["name"]: row for row in read_manifest(out)}
    todo, done = [], 0
    for path in videos:
        name = clip_name(path, root)
        row = rows.get(name)
        stamp = _stamp(path)
        whole = (out / "clips" / f"{name}.safetensors").exists()
        if row is not None and row["stamp"] == stamp and (whole if row["kept"] else not retry):
            done += 1
        else:
            todo.append((str(path), name, str(out), asdict(limits), stamp))
    _trim(manifest)
    with manifest.open("a", encoding="utf-8") as log:
        for row in _work(todo, workers or os.cpu_count() or 1):
            rows[row["name"]] = row
            log.write(json.dumps(row) + "\n")
            log.flush()
            done += 1
            if report is not None:
                report(done, len(videos), row)
    names = {clip_name(path, root) for path in videos}
    return _write_meta(out, root, limits, [row for name, row in rows.items() if name in names])


def track_single(path: str | Path, out: str | Path, *, limits: Limits | None = None) -> dict[str, Any]:
    """Track one video into the dataset `out` (made, or added to); what a folder would drop raises here."""
    path, out = Path(path), Path(out)
    clip = track_clip(path, limits=limits)
    save_clip(clip, out / "clips" / f"{path.stem}.safetensors")
    row = {"name": path.stem, "source": str(path), "stamp": _stamp(path), "kept": True, **clip.facts}
    _trim(out / "manifest.jsonl")
    with (out / "manifest.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(row) + "\n")
    return _write_meta(out, path, limits or Limits(), read_manifest(out))


def read_manifest(out: str | Path) -> list[dict[str, Any]]:
    """Rows of a dataset's manifest, the last one of each name; a line cut short by a kill is ignored."""
    rows: dict[str, dict[str, Any]] = {}
    try:
        lines = (Path(out) / "manifest.jsonl").read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
            rows[row["name"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return list(rows.values())


def save_clip(clip: Tracked, path: Path) -> None:
    """Write one clip under its final name only when it is whole."""
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, NDArray[Any]] = {
        "landmarks": clip.landmarks,
        "times": clip.times,
        "seen": clip.seen,
        "pcm": clip.pcm,
    }
    save_file(tensors, part, metadata={"fps": repr(clip.fps), "facts": json.dumps(clip.facts)})
    os.replace(part, path)


def clip_name(path: Path, root: Path) -> str:
    """Name of a clip in the dataset: its path below the root without suffix, '/' as '__'."""
    relative = path.relative_to(root).with_suffix("")
    return "__".join(relative.parts)


def talker_name(path: Path, root: Path) -> str:
    """Who talks, as far as folders tell: VoxCeleb2's idNNNNN, else the first folder below the root."""
    for part in path.relative_to(root).parts[:-1]:
        if part.startswith("id") and part[2:].isdigit():
            return part
    folders = [p for p in path.relative_to(root).parts[:-1] if p not in ("mp4", "dev", "test")]
    return folders[0] if folders else root.name


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
    path, name, out, limits, stamp = job
    row: dict[str, Any] = {"name": name, "source": path, "stamp": stamp}
    try:
        clip = track_clip(path, limits=Limits(**limits), tracker=_tracker())
    except FaceTwinError as why:
        return {**row, "kept": False, "reason": str(why).removeprefix(f"{path}: ")}
    save_clip(clip, Path(out) / "clips" / f"{name}.safetensors")
    return {**row, "kept": True, **clip.facts}


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


def _trim(manifest: Path) -> None:
    """End a line that a killed run left open."""
    if manifest.exists() and manifest.stat().st_size:
        with manifest.open("rb+") as f:
            f.seek(-1, os.SEEK_END)
            if f.read(1) != b"\n":
                f.write(b"\n")


def _write_meta(out: Path, root: Path, limits: Limits, rows: list[dict[str, Any]]) -> dict[str, Any]:
    kept = [row for row in rows if row["kept"]]
    reasons: dict[str, int] = {}
    for row in rows:
        if not row["kept"]:
            reason = str(row["reason"]).split(";")[0]
            reasons[reason] = reasons.get(reason, 0) + 1
    meta = {
        "format": "facetwin landmarks 1",
        "source": root.name,
        "points": landmarks.POINTS,
        "unit": "u (distance of the outer eye corners)",
        "sound": {"rate": audio.RATE, "type": "int16"},
        "kept": len(kept),
        "dropped": dict(sorted(reasons.items())),
        "frames": sum(int(row["frames"]) for row in kept),
        "limits": asdict(limits),
        "tracker": "mediapipe FaceMesh 0.10.21",
    }
    part = out / "meta.json.part"
    part.write_text(json.dumps(meta, indent=1) + "\n", "utf-8")
    os.replace(part, out / "meta.json")
    return meta
