"""Read back what tracking wrote: clips of landmarks and sound on the 25 fps grid of the speech model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from facetwin.policies.tracking import read_manifest
from facetwin.twin.errors import FaceTwinError, UsageError

#: pictures a second of the speech model (DESIGN section 9)
FPS = 25.0


@dataclass(frozen=True)
class Clip:
    """One tracked clip at 25 fps.

    Attributes
    ----------
    name : str
    landmarks : float32 [shape=(T, 478, 3), u]
    seen : bool [shape=(T,)], False where the landmarks are interpolated
    samples : float32 [shape=(640 T,)], mono 16 kHz, sample 0 at the first picture
    """

    name: str
    landmarks: NDArray[np.float32]
    seen: NDArray[np.bool_]
    samples: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.landmarks)


def load_clips(folder: str | Path, limit: int | None = None) -> list[Clip]:
    """All kept clips of a dataset, sorted by name."""
    return list(iterate_clips(folder, limit))


def iterate_clips(folder: str | Path, limit: int | None = None) -> Iterator[Clip]:
    """The same, one at a time; raises `UsageError` where the folder is no dataset."""
    folder = Path(folder)
    if not (folder / "meta.json").exists():
        raise UsageError(
            "not a landmark dataset", where=folder, found="no meta.json", hint="make one with facetwin track"
        )
    names = sorted(row["name"] for row in read_manifest(folder) if row["kept"])
    if not names:
        raise FaceTwinError("the dataset holds no clip", where=folder, hint="see its manifest.jsonl for why")
    for name in names[:limit]:
        yield read_clip(folder / "clips" / f"{name}.safetensors")


def read_clip(path: str | Path) -> Clip:
    """One clip file, resampled to 25 fps where it has another rate."""
    path = Path(path)
    try:
        with safe_open(path, "np") as f:
            points, times = f.get_tensor("landmarks"), f.get_tensor("times")
            seen, pcm = f.get_tensor("seen").astype(bool), f.get_tensor("pcm")
            fps = float(json.loads((f.metadata() or {}).get("fps", "25")))
    except (OSError, SafetensorError, ValueError) as why:
        raise FaceTwinError(
            "clip does not open", where=path, found=str(why), hint="track the video again"
        ) from None
    count = max(1, round(len(times) / fps * FPS))
    grid = np.arange(count) / FPS
    if count != len(times) or np.abs(grid - times).max() > 0.002:
        flat = points.reshape(len(times), -1)
        at = np.clip(np.searchsorted(times, grid, "right") - 1, 0, max(0, len(times) - 2))
        nxt = np.minimum(at + 1, len(times) - 1)
        share = np.clip((grid - times[at]) / np.maximum(times[nxt] - times[at], 1e-6), 0, 1)
        points = (flat[at] * (1 - share[:, None]) + flat[nxt] * share[:, None]).astype(np.float32)
        points = points.reshape(count, -1, 3)
        seen = seen[at] & seen[nxt]
    wanted = round(count / FPS * 16_000)
    samples = np.zeros(wanted, np.float32)
    have = min(wanted, len(pcm))
    samples[:have] = pcm[:have] / np.float32(32767)
    return Clip(path.stem, points, seen, samples)
