"""``facetwin track VIDEO|FOLDER -o DATASET``: real talking-head video to landmarks and sound."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from facetwin.cli import track_plot
from facetwin.cli.progress import Progress
from facetwin.policies import tracking_folder
from facetwin.policies.cleaning import Limits, Smoothing
from facetwin.policies.dataset import read_manifest
from facetwin.policies.tracking import Options
from facetwin.twin.errors import FaceTwinError, UsageError


@dataclass
class Track:
    """Track a video, or every video below a folder, into a landmark dataset.

    Finished videos are not done again, so that an interrupted run goes on where it stopped, and other limits
    are applied to what was measured. DATASET/manifest.jsonl says of each video why it was kept or dropped,
    DATASET/scores.png shows how the scores are spread; a single video that would be dropped is an error.
    """

    source: tyro.conf.Positional[Path]
    """A video, or a folder of them at any depth (VoxCeleb2's layout too)."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the dataset."""
    workers: int = 0
    """Processes; 0: one a core."""
    limits: Annotated[Limits, tyro.conf.arg(name="")] = field(default_factory=Limits)
    smooth: str = "none"
    """Smoothing over time: none, mean:WINDOW (the seeds' moving average) or savgol:WINDOW:ORDER."""
    sync: str = "correct"
    """Sound against lips: correct (or drop the clip), measure (only note it), off."""
    talker: str = ""
    """Who talks, in all of them; default: as the folders say."""
    language: str = ""
    """Language spoken, as espeak-ng calls it (en-us, fr-fr, …)."""
    retry: bool = False
    """Do videos again that could not be read or tracked."""
    json: bool = False
    """Print one JSON object."""


def run(options: Track) -> int:
    """Track and print what was kept and dropped."""
    if options.workers < 0:
        raise UsageError("no such number of processes", where="--workers", found=options.workers)
    if options.out.is_file():
        raise UsageError("is a file", where=options.out, expected="a folder for the dataset")
    if not options.source.exists():
        raise UsageError("no such file or folder", where=options.source, hint="check the path")
    how = Options(
        options.limits, Smoothing.parse(options.smooth), options.sync, options.talker, options.language
    )
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the processes
    meta = _folder(options, how) if options.source.is_dir() else _single(options, how)
    picture = options.out / "scores.png"
    drawn = track_plot.draw(read_manifest(options.out), options.limits, picture)
    if options.json:
        print(json.dumps(meta))
    else:
        print(f"{options.out}: {meta['kept']} clips, {meta['frames']} pictures")
        for reason, count in meta["dropped"].items():
            print(f"  dropped {count}: {reason}")
        if drawn:
            print(f"  scores and limits: {picture}")
    if not meta["kept"]:
        raise FaceTwinError(
            "no clip was kept", where=options.source, hint=f"see {options.out}/manifest.jsonl"
        )
    return 0


def _folder(options: Track, how: Options) -> dict:
    total = len(tracking_folder.find_videos(options.source))
    with Progress("tracking", total=total, unit="videos") as progress:
        return tracking_folder.track_folder(
            options.source,
            options.out,
            how,
            workers=options.workers or None,
            retry=options.retry,
            report=lambda done, total, row: progress.update(done),
        )


def _single(options: Track, how: Options) -> dict:
    if sys.stderr.isatty():
        print(f"tracking {options.source.name}", file=sys.stderr)
    return tracking_folder.track_single(options.source, options.out, how)
