"""Landmark datasets on disk: clips of aligned landmarks and sound, written whole, read back at 25 fps.

A dataset is a folder:

    meta.json                  format, units, source, counts
    manifest.jsonl             a line a clip: kept or dropped and why, talker, language, facts
    clips/NAME.safetensors     landmarks float32 [shape=(T, 478, 3), u], aligned (twin.landmarks)
                               times float64 [shape=(T,), s] from the first picture
                               seen uint8 [shape=(T,)], 0 where no face was found (interpolated)
                               pcm int16 [shape=(n,)], mono, 16 kHz, sample 0 at the first picture
                               head_rotation, head_translation, head_scale where known (metric_face.Head)
    phonemes/NAME.json         where known: [{"name": "b", "start": 0.10, "end": 0.16}, …]: IPA, s

Each file appears under its name only when whole, a clip's line in the manifest after the clip: whatever
a killed run leaves behind opens, and the run can go on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from facetwin.policies.espeak import Phoneme
from facetwin.policies.metric_face import Head
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import POINTS

#: pictures a second of the speech model (DESIGN section 9)
FPS = 25.0
RATE = 16_000
FORMAT = "facetwin landmarks 2"
#: folders that say nothing about who talks
_NOBODY = ("mp4", "aac", "dev", "test", "train", "val")


@dataclass(frozen=True)
class Clip:
    """One clip; as it is read, at 25 fps.

    Attributes
    ----------
    name : str
    landmarks : float32 [shape=(T, 478, 3), u]
    seen : bool [shape=(T,)], False where the landmarks are interpolated
    samples : float32 [shape=(640 T,)], mono 16 kHz, sample 0 at the first picture
    talker : str, who talks
    language : str, as espeak-ng calls it ("en-us"); "" where nobody said
    phonemes : sounds and their times in s from sample 0, None where they are not known
    head : pose of the head, which `landmarks` do not hold any more; None where it is not known
    """

    name: str
    landmarks: NDArray[np.float32]
    seen: NDArray[np.bool_]
    samples: NDArray[np.float32]
    talker: str = ""
    language: str = ""
    phonemes: tuple[Phoneme, ...] | None = None
    head: Head | None = None

    def __len__(self) -> int:
        return len(self.landmarks)


class DatasetWriter:
    """Write a dataset clip by clip, or add to one; `close` (or the end of ``with``) writes meta.json.

    Parameters
    ----------
    folder : made where it is absent
    meta : what meta.json says besides format, units and counts, e.g. {"source": "…", "seed": 0}

    >>> import tempfile
    >>> face = np.zeros((25, 478, 3), np.float32)
    >>> clip = Clip("hello", face, np.ones(25, bool), np.zeros(16_000, np.float32), "ann", "en")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with DatasetWriter(folder, {"source": "made up"}) as out:
    ...         row = out.add(clip, seed=3)
    ...     [(each.name, each.talker, len(each)) for each in load_clips(folder)]
    [('hello', 'ann', 25)]
    """

    def __init__(self, folder: str | Path, meta: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        if self.folder.is_file():
            raise UsageError("is a file", where=folder, expected="a folder for the dataset")
        self._said = dict(meta or {})
        self.meta: dict[str, Any] = {}
        (self.folder / "clips").mkdir(parents=True, exist_ok=True)
        self._rows = {row["name"]: row for row in read_manifest(self.folder)}
        manifest = self.folder / "manifest.jsonl"
        _end_line(manifest)
        self._log = manifest.open("a", encoding="utf-8")

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Manifest rows by name, those of earlier runs included."""
        return dict(self._rows)

    def holds(self, name: str) -> bool:
        """Whether that clip was kept and is whole."""
        row = self._rows.get(name)
        return bool(row and row["kept"]) and clip_path(self.folder, name).exists()

    def add(
        self, clip: Clip, *, times: ArrayLike | None = None, fps: float = FPS, **facts: Any
    ) -> dict[str, Any]:
        """Write a clip and its row, which is returned; `facts` go into the row. A clip of that name goes."""
        row = write_clip(self.folder, clip, times=times, fps=fps)
        return self.log({**row, **facts})

    def drop(self, name: str, reason: str, **facts: Any) -> dict[str, Any]:
        """A row that says why there is no such clip."""
        return self.log({"name": name, "kept": False, "reason": reason, **facts})

    def log(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Append a row as it is (the clip was written by another process)."""
        whole = dict(row)
        line = json.dumps(whole, ensure_ascii=False, allow_nan=False)
        self._log.write(line + "\n")
        self._log.flush()
        self._rows[whole["name"]] = whole
        return whole

    def close(self) -> dict[str, Any]:
        """Write meta.json and return it."""
        self._log.close()
        rows = list(self._rows.values())
        kept = [row for row in rows if row["kept"]]
        reasons: dict[str, int] = {}
        for row in rows:
            if not row["kept"]:
                reason = str(row["reason"]).split(";")[0]
                reasons[reason] = reasons.get(reason, 0) + 1
        self.meta = {
            "format": FORMAT,
            "points": POINTS,
            "unit": "u (distance of the outer eye corners)",
            "sound": {"rate": RATE, "type": "int16"},
            "kept": len(kept),
            "dropped": dict(sorted(reasons.items())),
            "frames": sum(int(row["frames"]) for row in kept),
            "talkers": sorted({talker_of(row, self.folder) for row in kept}),
            "languages": sorted({str(row.get("language", "")) for row in kept} - {""}),
            **self._said,
        }
        write_json(self.folder / "meta.json", self.meta)
        return self.meta

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_clip(
    folder: str | Path, clip: Clip, *, times: ArrayLike | None = None, fps: float = FPS
) -> dict[str, Any]:
    """Write one clip's files, each under its final name only when whole; returns its manifest row.

    Parameters
    ----------
    times : float [shape=(T,), s] of the pictures from the first one; default: k / fps
    fps : pictures a second where it is not 25
    """
    count = len(clip.landmarks)
    when = np.arange(count) / fps if times is None else np.asarray(times, np.float64)
    if clip.landmarks.shape != (count, POINTS, 3) or len(clip.seen) != count or when.shape != (count,):
        raise FaceTwinError(
            "not a clip",
            where=clip.name,
            found=f"landmarks {clip.landmarks.shape}, seen {clip.seen.shape}, times {when.shape}",
            expected=f"(T, {POINTS}, 3), (T,), (T,)",
        )
    if not count or not np.isfinite(clip.landmarks).all() or not np.isfinite(clip.samples).all():
        raise FaceTwinError("a clip that is empty or not finite", where=clip.name)
    tensors: dict[str, NDArray[Any]] = {
        "landmarks": np.ascontiguousarray(clip.landmarks, np.float32),
        "times": when,
        "seen": clip.seen.astype(np.uint8),
        "pcm": np.round(np.clip(clip.samples, -1, 1) * 32767).astype(np.int16),
    }
    if clip.head is not None:
        tensors |= {f"head_{name}": value for name, value in clip.head.tensors().items()}
    path, sounds = clip_path(folder, clip.name), phoneme_path(folder, clip.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if clip.phonemes is None:
        sounds.unlink(missing_ok=True)
    else:
        sounds.parent.mkdir(parents=True, exist_ok=True)
        said = [{"name": p.name, "start": round(p.start, 5), "end": round(p.end, 5)} for p in clip.phonemes]
        write_json(sounds, said)
    part = path.with_name(path.name + ".part")
    try:
        save_file(tensors, part, metadata={"fps": repr(float(fps))})
        part.chmod(0o644)  # safetensors leaves it to the owner alone
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    row: dict[str, Any] = {"name": clip.name, "kept": True, "frames": count, "fps": round(float(fps), 4)}
    if clip.talker:
        row["talker"] = clip.talker
    if clip.language:
        row["language"] = clip.language
    return row


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
    rows = sorted((row for row in read_manifest(folder) if row["kept"]), key=lambda row: row["name"])
    if not rows:
        raise FaceTwinError("the dataset holds no clip", where=folder, hint="see its manifest.jsonl for why")
    for row in rows[:limit]:
        yield read_clip(
            clip_path(folder, row["name"]),
            talker=talker_of(row, folder),
            language=str(row.get("language", "")),
        )


def read_manifest(folder: str | Path) -> list[dict[str, Any]]:
    """Rows of a dataset's manifest, the last one of each name; a line cut short by a kill is ignored."""
    rows: dict[str, dict[str, Any]] = {}
    try:
        lines = (Path(folder) / "manifest.jsonl").read_text("utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
            if isinstance(row["name"], str) and isinstance(row["kept"], bool):
                rows[row["name"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return list(rows.values())


def read_clip(path: str | Path, *, talker: str = "", language: str = "") -> Clip:
    """One clip file (and the phonemes beside it), resampled to 25 fps where it has another rate."""
    path = Path(path)
    try:
        with safe_open(path, "np") as f:
            points, times = f.get_tensor("landmarks"), f.get_tensor("times")
            seen, pcm = f.get_tensor("seen").astype(bool), f.get_tensor("pcm")
            fps = float(json.loads((f.metadata() or {}).get("fps", "25")))
            names = set(f.keys())
            head = None
            if "head_rotation" in names:
                head = Head(*(f.get_tensor(f"head_{k}") for k in ("rotation", "translation", "scale")))
    except (OSError, SafetensorError, ValueError) as why:
        raise FaceTwinError(
            "clip does not open", where=path, found=str(why), hint="track the video again"
        ) from None
    count = max(1, round(len(times) / fps * FPS))
    grid = np.arange(count) / FPS
    if count != len(times) or np.abs(grid - times).max() > 0.002:
        at = np.clip(np.searchsorted(times, grid, "right") - 1, 0, max(0, len(times) - 2))
        nxt = np.minimum(at + 1, len(times) - 1)
        share = np.clip((grid - times[at]) / np.maximum(times[nxt] - times[at], 1e-6), 0, 1)  # (count,)
        points = between(points, at, nxt, share)
        seen = seen[at] & seen[nxt]
        head = head.between(at, nxt, share) if head is not None else None
    wanted = round(count / FPS * RATE)
    samples = np.zeros(wanted, np.float32)
    have = min(wanted, len(pcm))
    samples[:have] = pcm[:have] / np.float32(32767)
    phonemes = read_phonemes(phoneme_path(path.parent.parent, path.stem))
    return Clip(path.stem, points, seen, samples, talker, language, phonemes, head)


def read_phonemes(path: str | Path) -> tuple[Phoneme, ...] | None:
    """Sounds and times of a clip, None where there is no such file; one-line errors for other files."""
    path = Path(path)
    try:
        listed = json.loads(path.read_text("utf-8"))
        sounds = tuple(Phoneme(str(p["name"]), float(p["start"]), float(p["end"])) for p in listed)
        if any(not 0 <= p.start <= p.end < float("inf") for p in sounds):
            raise ValueError("an end before its start")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as why:
        raise FaceTwinError(
            "not phonemes",
            where=path,
            found=str(why),
            expected='[{"name": "b", "start": 0.1, "end": 0.2}, …]',
        ) from None
    return sounds


def clip_path(folder: str | Path, name: str) -> Path:
    """File of a clip; raises `UsageError` for a name that would lead out of the folder."""
    if not name or name.startswith(".") or any(c in name for c in "/\\\0"):
        raise UsageError("no name for a clip", where=folder, found=name, expected="a plain file name")
    return Path(folder) / "clips" / f"{name}.safetensors"


def phoneme_path(folder: str | Path, name: str) -> Path:
    """File of a clip's phonemes."""
    return Path(folder) / "phonemes" / f"{name}.json"


def talker_of(row: Mapping[str, Any], folder: str | Path) -> str:
    """Who talks: as the row says, else VoxCeleb2's idNNNNN or the top folder in its name, else the set."""
    if row.get("talker"):
        return str(row["talker"])
    whole = Path(folder).resolve()
    otherwise = whole.parent.name if whole.name in _NOBODY else whole.name  # grid_s1/val -> grid_s1
    return talker_name(str(row["name"]).split("__")[:-1], otherwise)


def talker_name(folders: list[str], otherwise: str) -> str:
    """Who talks, as far as the folders above a clip tell.

    >>> talker_name(["mp4", "id00012", "21Uxsk56VDQ"], "set"), talker_name(["ann", "day 1"], "set")
    ('id00012', 'ann')
    """
    for part in folders:
        if part.startswith("id") and part[2:].isdigit():
            return part
    return next((part for part in folders if part not in _NOBODY), otherwise)


def between(
    values: NDArray[Any], at: NDArray[np.intp], nxt: NDArray[np.intp], share: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Values a share of the way from rows `at` to rows `nxt`, float32 [shape=(len(at), ...)]."""
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return (values[at] * (1 - share) + values[nxt] * share).astype(np.float32)


def write_json(path: Path, value: Any) -> None:
    """A JSON file that is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    os.replace(part, path)


def _end_line(manifest: Path) -> None:
    """End a line that a killed run left open."""
    if manifest.exists() and manifest.stat().st_size:
        with manifest.open("rb+") as f:
            f.seek(-1, os.SEEK_END)
            if f.read(1) != b"\n":
                f.write(b"\n")
