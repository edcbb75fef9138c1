"""Folders of talking-head video to a dataset: in parallel, going on after an interruption.

Folders of any depth are walked; in VoxCeleb2's layout (``mp4/id/video/00001.mp4``, sound in
``aac/id/video/00001.m4a``) the folder idNNNNN is the talker. A row of the manifest says of each video why it
was kept or dropped, with all that was measured, so that other limits are applied without tracking again.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from facetwin.policies import cleaning, video
from facetwin.policies.dataset import DatasetWriter, clip_path, talker_of, write_clip
from facetwin.policies.tracking import Options, examine, named, track_clip
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.tracker import Tracker

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv")

Row = dict[str, Any]


class Job(NamedTuple):
    """One video to track, as it is handed to a process."""

    path: str
    name: str
    out: str
    stamp: str
    talker: str
    options: Options

    @property
    def row(self) -> Row:
        """What its row begins with."""
        row = {"name": self.name, "source": self.path, "stamp": self.stamp, "talker": self.talker}
        return {**row, "language": self.options.language} if self.options.language else row


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
    options: Options | None = None,
    *,
    workers: int | None = None,
    retry: bool = False,
    report: Callable[[int, int, Row], None] | None = None,
) -> dict[str, Any]:
    """Track every video below `root` into the dataset `out`; finished ones are not done again.

    Parameters
    ----------
    workers : processes, default the number of cores
    retry : do videos again that could not be read or tracked
    report : called with (done, total, manifest row) after each video

    Returns
    -------
    dict: the dataset's ``meta.json``, with counts of kept and dropped clips by reason.
    """
    root, out = Path(root), Path(out)
    options = options or Options()
    videos = find_videos(root)
    names = _names(videos, root)
    todo: list[Job] = []
    done = 0
    with DatasetWriter(out, _meta(root, options)) as writer:
        blurred = _beyond_the_top(videos, options)
        for path, name in zip(videos, names):
            folders = {"name": name, "talker": options.talker}
            job = Job(str(path), name, str(out), _stamp(path), talker_of(folders, root), options)
            row = writer.rows.get(name)
            if path in blurred:
                judged: Row | None = {
                    **job.row, "kept": False, "bitrate_kbps": blurred[path],
                    "reason": f"not among the {options.limits.top} highest bitrates",
                }  # fmt: skip
            else:
                judged = _judge_again(row, job, writer, retry)
            if judged is None:
                todo.append(job)
                continue
            done += 1
            if judged is not row:
                writer.log(judged)
        for row in _work(todo, workers or os.cpu_count() or 1):
            writer.log(row)
            done += 1
            if report is not None:
                report(done, len(videos), row)
    return writer.meta


def track_single(path: str | Path, out: str | Path, options: Options | None = None) -> dict[str, Any]:
    """Track one video into the dataset `out` (made, or added to); what a folder would drop raises here."""
    path, out = Path(path), Path(out)
    options = options or Options()
    tracked = track_clip(path, options)
    with DatasetWriter(out, _meta(path, options)) as writer:
        talker = talker_of({"name": path.stem, "talker": options.talker}, path.absolute().parent)
        row = write_clip(out, named(tracked, path.stem, talker), times=tracked.times, fps=tracked.fps)
        writer.log({**row, "source": str(path), "stamp": _stamp(path), **tracked.facts})
    return writer.meta


def clip_name(path: Path, root: Path) -> str:
    """Name of a clip in the dataset: its path below the root without suffix, '/' as '__'."""
    return "__".join(path.relative_to(root).with_suffix("").parts).lstrip(".")


def _names(videos: Sequence[Path], root: Path) -> list[str]:
    """Names of clips; of videos that differ in their suffix alone, all but the first keep it."""
    names: list[str] = []
    for path in videos:
        name = clip_name(path, root)
        names.append(f"{name}{path.suffix}" if name in names[-len(SUFFIXES) :] else name)
    return names


def _judge_again(row: Row | None, job: Job, writer: DatasetWriter, retry: bool) -> Row | None:
    """The row of a video done before, judged by the limits of today; None: it must be tracked."""
    if row is None or row.get("stamp") != job.stamp:
        return None
    if "made" not in row:  # it could not be measured at all
        return None if retry or row["kept"] else row
    if row["made"] != job.options.made or row.get("language", "") != job.options.language:
        return None
    if job.options.talker and row.get("talker") != job.options.talker:
        return None
    why = cleaning.verdict(row, job.options.limits, sync=job.options.sync == "correct")
    if why is None:
        there = "frames" in row and clip_path(writer.folder, job.name).exists()
        if not there:
            return None
        kept = {key: value for key, value in row.items() if key != "reason"}
        return row if row["kept"] else {**kept, "kept": True}
    if row["kept"] or row["reason"] != why:
        return {**row, "kept": False, "reason": why}
    return row


def _beyond_the_top(videos: Sequence[Path], options: Options) -> dict[Path, float]:
    """The videos that are not among the `top` highest bitrates, and theirs in kbit/s."""
    top = options.limits.top
    if not top or len(videos) <= top:
        return {}
    rates = {}
    for path in videos:
        try:
            rates[path] = round(video.probe(path).bitrate, 1)
        except FaceTwinError:  # said when it is tracked
            rates[path] = float("inf")
    best = sorted(videos, key=lambda path: -rates[path])
    return {path: rates[path] for path in best[top:]}


def _work(todo: Sequence[Job], workers: int) -> Iterator[Row]:
    if not todo:
        return
    if min(workers, len(todo)) == 1:
        yield from map(_one, todo)
        return
    lost: list[Job] = []
    yield from _pool(todo, min(workers, len(todo)), lost)
    for job in lost:  # a process died with these in hand: one at a time, who kills his own is dropped
        dead: list[Job] = []
        yield from _pool([job], 1, dead)
        if dead:
            yield {**job.row, "kept": False, "reason": "the tracker died of it"}


def _pool(todo: Sequence[Job], workers: int, lost: list[Job]) -> Iterator[Row]:
    """Rows as they are finished; jobs that a dying process left undone go into `lost`."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start) as pool:
        waiting = iter(todo)
        pending: dict[Future[Row], Job] = {
            pool.submit(_one, j): j for _, j in zip(range(2 * workers), waiting)
        }
        try:
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    job = pending.pop(future)
                    try:
                        row = future.result()
                        following = next(waiting, None)
                        if following is not None:
                            pending[pool.submit(_one, following)] = following
                    except BrokenProcessPool:
                        lost += [job, *pending.values(), *waiting]
                        return
                    yield row
        except BaseException:  # interrupted: clips in hand are done again
            for process in list(pool._processes.values()):
                process.terminate()
            raise


def _start() -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _one(job: Job) -> Row:
    try:
        tracked = examine(job.path, job.options, tracker=_tracker())
    except FaceTwinError as why:
        return {**job.row, "kept": False, "reason": str(why).removeprefix(f"{job.path}: ")}
    except Exception as why:  # no single video stops a run over a million
        return {**job.row, "kept": False, "reason": f"it failed: {type(why).__name__} {why}".split("\n")[0]}
    if tracked.reason is not None:
        return {**job.row, "kept": False, "reason": tracked.reason, **tracked.facts}
    clip = named(tracked, job.name, job.talker)
    return {**job.row, **write_clip(job.out, clip, times=tracked.times, fps=tracked.fps), **tracked.facts}


_trackers: list[Tracker] = []


def _tracker() -> Tracker:
    """One video tracker a process: building its graph costs a tenth of a second."""
    if not _trackers:
        _trackers.append(Tracker(video=True))
    return _trackers[0]


def _stamp(path: Path) -> str:
    status = path.stat()
    text = f"{path.resolve()}|{status.st_size}|{int(status.st_mtime)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _meta(root: Path, options: Options) -> dict[str, Any]:
    return {
        "source": root.absolute().name,
        "limits": asdict(options.limits),
        "made": options.made,
        "tracker": "mediapipe FaceMesh 0.10.21",
    }
