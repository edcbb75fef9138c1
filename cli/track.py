"""``facetwin track VIDEO|FOLDER -o DATASET``: real talking-head video to landmarks and sound."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from facetwin.cli.progress import Progress
from facetwin.policies import tracking
from facetwin.twin.errors import FaceTwinError, UsageError


@dataclass
class Track:
    """Track a video, or every video below a folder, into a landmark dataset.

    Finished videos are not done again, so that an interrupted run goes on where it stopped. Of a folder,
    videos with no face, two faces or no sound are dropped, and DATASET/manifest.jsonl says why; a single
    such video is an error.
    """

    source: tyro.conf.Positional[Path]
    """A video, or a folder of them at any depth (VoxCeleb2's layout too)."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the dataset."""
    workers: int = 0
    """Processes; 0: one a core."""
    missing: float = tracking.Limits.missing
    """Largest share of pictures without a face."""
    centerness: float = tracking.Limits.centerness
    """Largest mean angle between nose and camera, degrees."""
    shakiness: float = tracking.Limits.shakiness
    """Largest mean change of that angle a picture, degrees."""
    retry: bool = False
    """Do dropped videos again."""
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
    limits = tracking.Limits(options.missing, options.centerness, options.shakiness)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the processes
    if options.source.is_dir():
        meta = _folder(options, limits)
    else:
        meta = _single(options, limits)
    if options.json:
        print(json.dumps(meta))
    else:
        print(f"{options.out}: {meta['kept']} clips, {meta['frames']} pictures")
        for reason, count in meta["dropped"].items():
            print(f"  dropped {count}: {reason}")
    if not meta["kept"]:
        raise FaceTwinError(
            "no clip was kept", where=options.source, hint=f"see {options.out}/manifest.jsonl"
        )
    return 0


def _folder(options: Track, limits: tracking.Limits) -> dict:
    with Progress("tracking", total=len(tracking.find_videos(options.source)), unit="videos") as progress:
        return tracking.track_folder(
            options.source,
            options.out,
            workers=options.workers or None,
            limits=limits,
            retry=options.retry,
            report=lambda done, total, row: progress.update(done),
        )


def _single(options: Track, limits: tracking.Limits) -> dict:
    if sys.stderr.isatty():
        print(f"tracking {options.source.name}", file=sys.stderr)
    return tracking.track_single(options.source, options.out, limits=limits)
