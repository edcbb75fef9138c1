"""From a talking-head video to a clip of metric landmarks and sound: one video, measured and judged.

Pictures are tracked in order, the head's motion is taken out (`metric_face`), what the Audio2Landmark report
cleans by is measured (`cleaning`), sound and lips are brought together (`av_offset`). Folders of videos are
done by `tracking_folder`; the files are described in `dataset`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.policies import audio, av_offset, cleaning, video
from facetwin.policies.cleaning import Limits, Smoothing
from facetwin.policies.dataset import Clip
from facetwin.policies.metric_face import metric_face
from facetwin.twin import landmarks
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.tracker import Tracker

#: how often a second face is looked for, s
SECOND_FACE_EVERY = 0.2
#: a second face counts when its eyes are at least this far apart, in those of the first
SECOND_FACE_SIZE = 0.35
#: an offset between sound and lips below this is left alone: a picture's length, and what viewers accept
CORRECT_FROM_MS = 40.0
SYNCS = ("correct", "measure", "off")
SOUND_SUFFIXES = (".wav", ".m4a", ".flac", ".mp3", ".aac", ".ogg")

Rows = list[NDArray[np.float32] | None]


@dataclass(frozen=True)
class Options:
    """How videos are tracked and which are kept."""

    limits: Limits = field(default_factory=Limits)
    smooth: Smoothing = field(default_factory=Smoothing)
    sync: str = "correct"
    """correct: sound is moved to fit the lips, clips where that can't be told are dropped; measure: the
    offset is only noted; off."""
    talker: str = ""
    language: str = ""

    def __post_init__(self) -> None:
        if self.sync not in SYNCS:
            raise UsageError("no such way", where="sync", found=self.sync, expected=" | ".join(SYNCS))

    @property
    def made(self) -> dict[str, str]:
        """What changes a clip's files, for its row: with another answer it must be tracked again."""
        return {"smooth": str(self.smooth), "sync": self.sync}


#: for one video that a user asked for: lost pictures are interpolated, sound stays where it is
LENIENT = Options(Limits(missing=0.25, doubles=0.34, face=0, jump=2.0), sync="off")


@dataclass(frozen=True)
class Tracked:
    """One clip at the video's own rate, the pictures' times (T,) in s, its facts, and why it is dropped."""

    clip: Clip
    times: NDArray[np.float64]
    fps: float
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None


def track_clip(
    path: str | Path, options: Options | None = None, *, tracker: Tracker | None = None
) -> Tracked:
    """Track one video with its sound; raises `FaceTwinError` in one line where it would be dropped."""
    tracked = examine(path, options, tracker=tracker)
    if tracked.reason is not None:
        raise FaceTwinError(tracked.reason, where=path)
    return tracked


def examine(path: str | Path, options: Options | None = None, *, tracker: Tracker | None = None) -> Tracked:
    """Track one video and judge it: what can be measured is, `reason` says why it should be dropped.

    Raises `FaceTwinError` only for what can't be measured: unreadable, no picture, no sound, no face.
    """
    path, options = Path(path), options or Options()
    sound = audio.load(sound_file(path))
    info = video.probe(path)
    rows, times, doubles = _watch(path, tracker, options.limits.longest)
    seen = np.array([row is not None for row in rows])
    if not seen.any():
        raise FaceTwinError("no face in it", where=path, found=f"none in {len(rows)} pictures")
    pixels = _fill(rows, seen)  # (T, 478, 3)
    face, head = metric_face(pixels)
    angle = cleaning.front_angle(head)  # (T,)
    facts: dict[str, Any] = {
        "seconds": round(len(times) / info.fps, 3),
        "missing": round(float((~seen).mean()), 4),
        "doubles": round(doubles, 4),
        "bitrate_kbps": round(info.bitrate, 1),
        "centerness_deg": round(cleaning.centerness(angle), 2),
        "shakiness_deg": round(cleaning.shakiness(angle, times), 3),
        "jump_u": round(cleaning.largest_jump(head, times), 3),
        "eye_distance_px": round(float(np.median(landmarks.eye_distance(pixels))), 2),
        "silent": sound.silent,
        "notes": list(sound.notes),
    }
    if info.promised:
        facts["decoded"] = round(min(1.0, len(times) / info.promised), 4)
    samples, kept = sound.samples, slice(0, len(times))
    reason = cleaning.verdict(facts, options.limits, sync=False)
    if reason is None and options.sync != "off":
        samples, kept = _in_step(facts, samples, face, times, options)
        reason = cleaning.verdict(facts, options.limits, sync=options.sync == "correct")
    face, head = options.smooth(face[kept]), head[kept]
    clip = Clip(
        path.stem, face, seen[kept], samples, talker=options.talker, language=options.language, head=head
    )
    return Tracked(clip, times[kept] - times[kept.start], info.fps, {**facts, "made": options.made}, reason)


def sound_file(path: Path) -> Path:
    """Where a video's sound is: in itself, in VoxCeleb2's aac folder, or in a file of its name beside it."""
    if audio.has_sound(path):
        return path
    parts = list(path.absolute().parts)
    for k in range(len(parts) - 1, -1, -1):
        if parts[k] == "mp4":
            other = Path(*parts[:k], "aac", *parts[k + 1 :]).with_suffix(".m4a")
            if other.exists():
                return other
    beside = (path.with_suffix(suffix) for suffix in SOUND_SUFFIXES)
    return next((other for other in beside if other.exists()), path)


def _in_step(
    facts: dict[str, Any],
    samples: NDArray[np.float32],
    face: NDArray[np.float32],
    times: NDArray[np.float64],
    options: Options,
) -> tuple[NDArray[np.float32], slice]:
    """Measure the offset into `facts`; where it is to be corrected and can be, the moved sound."""
    whole = slice(0, len(times))
    found = av_offset.estimate(samples, face, times)
    if found is None:  # silence, or a mouth that never moves
        found = av_offset.Offset(0.0, 0.0)
    facts["sound_late_ms"] = round(found.late_ms, 1)
    facts["sync_confidence"] = round(max(0.0, found.confidence), 3)
    wanted = options.sync == "correct" and abs(found.late_ms) >= CORRECT_FROM_MS
    if not wanted or cleaning.verdict(facts, options.limits):
        return samples, whole
    samples, kept = av_offset.bring_together(samples, times, found.late_ms)
    facts["sound_moved_ms"] = facts["sound_late_ms"]
    facts["pictures_cut"] = [kept.start, len(times) - kept.stop]
    return samples, kept


def _watch(path: Path, tracker: Tracker | None, longest: float) -> tuple[Rows, NDArray[np.float64], float]:
    """Landmarks of every picture (or None), their times, and the share of looks that saw a second face."""
    own = tracker or Tracker(video=True)
    own.reset()
    rows: Rows = []
    times: list[float] = []
    looks, doubles, next_look = 0, 0, 0.0
    try:
        for when, image in video.read(path):
            if when > longest:
                raise FaceTwinError(
                    "too long", where=path, found=f"over {longest:g} s", hint="cut it into clips"
                )
            rows.append(own.detect(image))
            times.append(when)
            if when >= next_look and rows[-1] is not None:
                next_look = when + SECOND_FACE_EVERY - 1e-6
                looks += 1
                doubles += _second_face(image)
    finally:
        if tracker is None:
            own.close()
    return rows, np.array(times), doubles / max(1, looks)


_pair: list[Tracker] = []


def _second_face(image: NDArray[np.uint8]) -> bool:
    """Whether a second face, about as large as the first, is in the picture."""
    if not _pair:
        _pair.append(Tracker(max_faces=2, second_try=False))
    faces = _pair[0].detect_all(image)
    if len(faces) < 2:
        return False
    sizes = landmarks.eye_distance(faces)  # (2,)
    apart = np.linalg.norm(faces[0].mean(0) - faces[1].mean(0))
    return bool(sizes.min() > SECOND_FACE_SIZE * sizes.max() and apart > sizes.min())


def _fill(rows: Rows, seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """All pictures' landmarks, missing ones interpolated in time: float64 [shape=(T, 478, 3), px]."""
    known = np.stack([row for row in rows if row is not None]).astype(np.float64)
    if seen.all():
        return known
    frames, at = np.arange(len(rows)), np.flatnonzero(seen)
    flat = known.reshape(len(at), -1)
    return np.stack([np.interp(frames, at, c) for c in flat.T], 1).reshape(-1, *known.shape[1:])


def named(tracked: Tracked, name: str, talker: str) -> Clip:
    """The clip under the name, and with the talker, that it has in a dataset."""
    return replace(tracked.clip, name=name, talker=tracked.clip.talker or talker)
