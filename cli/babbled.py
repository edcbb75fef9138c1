"""Babble on disk: a folder of recordings, `run-00000` and on, and the `meta.json` that they share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from facetwin.hardware.recording import Recording
from facetwin.policies.mirror import Mirror
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import indices


def run_folder(folder: Path, number: int) -> Path:
    """Where recording `number` of a folder of babble lies."""
    return folder / f"run-{number:05d}"


def runs(folder: Path) -> list[Path]:
    """The recordings of a folder of babble, in order."""
    return sorted(p for p in folder.glob("run-*") if (p / "meta.json").exists())


def is_whole(run: Path) -> bool:
    """Whether a recording is there and was closed, not killed."""
    return (run / "meta.json").exists() and Recording(run).complete


def clear(run: Path) -> None:
    """Take a torn recording away, so that its poses, which its seed repeats, can be tried again."""
    if run.exists():
        shutil.rmtree(run)


def mirror_of(run: Path, number: int = 0) -> Mirror:
    """Poses of one recording: each picture, and the command that had last been sent when it was taken."""
    recording = Recording(run)
    rows, frames = recording.rows(), recording.frames()
    at = np.searchsorted(rows["time"], frames["time"], side="right") - 1
    known = at >= 0
    seen, turn = recording.landmarks()[known], recording.turns()[known]
    return Mirror(
        commands=rows["sent"][at[known]],
        face=seen[:, indices("face113"), :2],
        turn=turn,
        gap=frames["gap_mm"][known],
        found=np.isfinite(seen).all((1, 2)) & np.isfinite(turn).all(1),
        run=np.full(int(known.sum()), number, np.int64),
    )


def load_babble(*folders: str | Path) -> tuple[Mirror, dict[str, Any]]:
    """All poses of one or more folders of one rig, faces found only, and the first folder's meta.

    Torn recordings give what is left of them. Raises `UsageError` for a folder without babble or of another
    rig, `FaceTwinError` for a recording that cannot be read.
    """
    pieces: list[Mirror] = []
    first: dict[str, Any] = {}
    for folder in map(Path, folders):
        try:
            meta = json.loads((folder / "meta.json").read_text("utf-8"))
            if meta.get("kind") != "facetwin babble":
                raise ValueError
        except (OSError, ValueError, AttributeError):
            raise UsageError(
                "not a folder of babble", where=folder, hint="facetwin babble --out FOLDER makes one"
            ) from None
        first = first or meta
        if meta["rig_hash"] != first["rig_hash"]:
            raise UsageError(
                "babble of another rig",
                where=folder,
                found=meta["rig_hash"][:12],
                expected=first["rig_hash"][:12],
            )
        for run in runs(folder):
            pieces.append(mirror_of(run, len(pieces)))
    if not pieces:
        raise UsageError("no babble", where=", ".join(map(str, folders)), hint="facetwin babble --out FOLDER")
    names = ("commands", "face", "turn", "gap", "found", "run")
    whole = Mirror(**{name: np.concatenate([getattr(p, name) for p in pieces]) for name in names})
    if not whole.found.any():
        raise FaceTwinError(
            "no face in all of the babble", where=", ".join(map(str, folders)), hint="look at camera.mp4"
        )
    return whole[whole.found], first
