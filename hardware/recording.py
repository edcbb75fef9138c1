"""Recordings: a folder that says what a rig was asked, what it did, and what its camera saw.

::

    meta.json           rig table and its hash, versions, seed, fps, whether it is complete
    rows.parquet        one row a command: time, asked, sent, measured (n each), faults
    frames.parquet      one row a picture: number, time, gap_mm (simulated rigs, else null)
    landmarks.parquet   number of the picture, landmarks (478 x 3, u; NaN: no face was found), turn (rotation
                        vector that turns the seen head back upright, rad; the landmarks are upright)
    camera.mp4          the pictures, h264, in the order of their numbers

While it is being written, tables are files of `parts/`, each under its final name only when whole, and
the film is `camera.mp4.part` in short fragments. A killed run loses at most a second of either, and
`Recording` opens what is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import time as wall
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from facetwin.hardware.film import SYNTHETIC, Film, film_pictures, film_size
from facetwin.hardware.rig import RigState
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import POINTS
from facetwin.twin.spec import RigSpec

FORMAT = 1
_MERGE = 64  # parts that become one row group


def _schemas(motors: int) -> dict[str, pa.Schema]:
    command = pa.list_(pa.float32(), motors)
    return {
        "rows": pa.schema(
            [("time", pa.float64()), ("asked", command), ("sent", command), ("measured", command),
             ("faults", pa.list_(pa.string()))]
        ),
        "frames": pa.schema([("number", pa.int64()), ("time", pa.float64()), ("gap_mm", pa.float32())]),
        "landmarks": pa.schema(
            [("number", pa.int64()), ("landmarks", pa.list_(pa.float32(), POINTS * 3)),
             ("turn", pa.list_(pa.float32(), 3))]
        ),
    }  # fmt: skip


class RecordingWriter:
    """Write a recording, in pieces of at most a second.

    Parameters
    ----------
    folder : path
        Made if need be; it may not hold a recording already.
    spec : RigSpec
        Of the rig that is recorded.
    fps : float, pictures/s
        Nominal; pictures carry their own times.
    seed : int, optional
    size : (width, height), px, optional
        Of the pictures; default: that of the first one.
    meta : mapping, optional
        More facts for `meta.json`.
    chunk : float, s, at most 1
        How much is kept in memory.
    """

    def __init__(
        self,
        folder: str | Path,
        spec: RigSpec,
        *,
        fps: float = 25.0,
        seed: int | None = None,
        size: tuple[int, int] | None = None,
        meta: Mapping[str, Any] | None = None,
        chunk: float = 0.5,
    ) -> None:
        self.folder = Path(folder)
        if not (0 < chunk <= 1):
            raise UsageError(
                "bad chunk", where="RecordingWriter", found=chunk, expected="more than 0, at most 1 s"
            )
        if not (np.isfinite(fps) and fps > 0):
            raise UsageError("bad rate", where="RecordingWriter", found=fps, expected="fps > 0")
        if (self.folder / "meta.json").exists():
            raise UsageError("there is a recording already", where=self.folder,
                             hint="remove the folder or name another one")  # fmt: skip
        self.spec, self.fps, self.size = spec, float(fps), size
        self._chunk = chunk
        self._schemas = _schemas(spec.size)
        self._waiting: dict[str, list[dict[str, Any]]] = {key: [] for key in self._schemas}
        self._parts = dict.fromkeys(self._schemas, 0)
        self._first: dict[str, float] = {}  # time of the oldest row that waits
        self._flushed = wall.monotonic()
        self._film: Film | None = None
        self._pictures = 0
        self._open = True
        self._meta = {
            "format": FORMAT,
            "complete": False,
            "rig": spec.name,
            "rig_hash": spec.hash,
            "rig_table": spec.to_dict(),
            "motors": list(spec.names),
            "fps": self.fps,
            "seed": seed,
            "versions": _versions(),
            "note": SYNTHETIC,
            **(meta or {}),
        }
        (self.folder / "parts").mkdir(parents=True, exist_ok=True)
        self._save_meta()

    def write(self, time: float, asked: ArrayLike, sent: ArrayLike, state: RigState | None = None) -> None:
        """Add a command: when (s), as asked, as sent [shape=(n,)], and the state read with it."""
        n = self.spec.size
        measured = np.full(n, np.nan) if state is None else state.measured
        row = {
            "time": float(time),
            "asked": _vector(asked, n, "asked"),
            "sent": _vector(sent, n, "sent"),
            "measured": _vector(measured, n, "measured"),
            "faults": list(state.faults) if state is not None else [],
        }
        self._add("rows", row, float(time))

    def picture(self, time: float, image: NDArray[np.uint8], *, gap_mm: float | None = None) -> int:
        """Add a picture, uint8 [shape=(H, W, 3)], exposed at `time` (s); returns its number, from 0."""
        self._needs_open()
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise FaceTwinError("not a picture", where="recording", found=f"{image.dtype} {image.shape}",
                                expected="uint8 (H, W, 3)")  # fmt: skip
        self.size = self.size or (image.shape[1], image.shape[0])
        if (image.shape[1], image.shape[0]) != self.size:
            raise FaceTwinError("a picture of another size", where="recording", found=image.shape,
                                expected=f"({self.size[1]}, {self.size[0]}, 3)")  # fmt: skip
        if self._film is None:
            self._meta["size"] = list(self.size)  # an odd side has one more pixel in the film
            self._save_meta()
            self._film = Film(self.folder / "camera.mp4.part", self.fps, self.size, self._chunk)
        self._film.write(time, image)
        number = self._pictures
        self._pictures += 1
        gap = None if gap_mm is None or not np.isfinite(gap_mm) else float(gap_mm)
        self._add("frames", {"number": number, "time": float(time), "gap_mm": gap}, float(time))
        return number

    def landmarks(self, number: int, landmarks: ArrayLike | None, turn: ArrayLike | None = None) -> None:
        """Add what was seen in picture `number`, in any order, once each.

        Landmarks [shape=(478, 3), u], aligned, or None; and how the head was turned [shape=(3,), rad], as
        `facetwin.twin.landmarks.head_turn` says.
        """
        seen = np.full((POINTS, 3), np.nan) if landmarks is None else landmarks
        flat = np.asarray(seen, dtype=np.float32)
        if flat.shape != (POINTS, 3):
            raise FaceTwinError(
                "not landmarks", where="recording", found=flat.shape, expected=f"({POINTS}, 3)"
            )
        way = _vector(np.full(3, np.nan) if turn is None else turn, 3, "turn")
        row = {"number": int(number), "landmarks": flat.reshape(-1), "turn": way}
        self._add("landmarks", row, number / self.fps)

    def flush(self) -> None:
        """Put everything that waits on the disk."""
        for key in self._waiting:
            self._flush(key)
        self._flushed = wall.monotonic()

    def close(self, *, complete: bool = True, reason: str = "") -> None:
        """Finish: join the parts, name the film, mark it complete. Closing twice is fine."""
        if not self._open:
            return
        self._open = False
        try:
            self.flush()
        finally:
            if self._film is not None:
                self._film.close()
                os.replace(self.folder / "camera.mp4.part", self.folder / "camera.mp4")
        for key, schema in self._schemas.items():
            _merge(_part_files(self.folder, key), schema, self.folder / f"{key}.parquet")
        self._meta["complete"] = complete
        if reason:
            self._meta["reason"] = reason
        self._save_meta()
        shutil.rmtree(self.folder / "parts", ignore_errors=True)

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is None:
            self.close()
        else:
            self.close(complete=False, reason=f"{type(value).__name__}: {value}")

    def _needs_open(self) -> None:
        if not self._open:
            raise FaceTwinError("the recording is closed", where=self.folder)

    def _add(self, key: str, row: dict[str, Any], time: float) -> None:
        self._needs_open()
        self._waiting[key].append(row)
        first = self._first.setdefault(key, time)
        if abs(time - first) >= self._chunk or len(self._waiting[key]) >= 4096:
            self._flush(key)
        # Slow runs too: at most a second of real time waits.
        if wall.monotonic() - self._flushed >= 1.0:
            self.flush()

    def _flush(self, key: str) -> None:
        rows, self._waiting[key] = self._waiting[key], []
        self._first.pop(key, None)
        if rows:
            name = self.folder / "parts" / f"{key}-{self._parts[key]:06d}.parquet"
            self._parts[key] += 1
            part = name.with_suffix(".part")
            pq.write_table(pa.Table.from_pylist(rows, schema=self._schemas[key]), part)
            os.replace(part, name)

    def _save_meta(self) -> None:
        part = self.folder / "meta.json.part"
        with open(part, "w") as file:
            file.write(json.dumps(self._meta, indent=1, default=str) + "\n")
            file.flush()
            os.fsync(file.fileno())  # without it nothing of the recording opens
        os.replace(part, self.folder / "meta.json")


class Recording:
    """Read a recording, complete or not.

    Parameters
    ----------
    folder : path

    Attributes
    ----------
    meta : dict
    complete : bool
        It was closed, not killed.
    motors : tuple of str
    lost : tuple of str
        Pieces of an unfinished recording that could not be read and were left out, as far as it was read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.lost: tuple[str, ...] = ()
        try:
            self.meta = json.loads((self.folder / "meta.json").read_text())
        except FileNotFoundError:
            raise UsageError("not a recording", where=self.folder, found="no meta.json",
                             expected="a folder written by facetwin") from None  # fmt: skip
        except (OSError, ValueError) as error:
            raise UsageError("meta.json cannot be read", where=self.folder, found=str(error)) from None
        if not isinstance(self.meta, dict) or self.meta.get("format") != FORMAT:
            found = self.meta.get("format") if isinstance(self.meta, dict) else self.meta
            raise UsageError(
                "another kind of recording", where=self.folder, found=found, expected=f"format {FORMAT}"
            )
        if missing := [key for key in ("complete", "motors", "rig", "rig_hash") if key not in self.meta]:
            raise UsageError("meta.json lacks something", where=self.folder, found=f"no {missing[0]}",
                             expected="a folder written by facetwin")  # fmt: skip
        self.complete = bool(self.meta["complete"])
        self.motors = tuple(self.meta["motors"])
        self._schemas = _schemas(len(self.motors))

    def check_rig(self, spec: RigSpec) -> None:
        """Raise `UsageError` unless it was made with exactly this rig table."""
        if self.meta["rig_hash"] != spec.hash:
            raise UsageError("recorded with another rig table", where=self.folder,
                             found=f"{self.meta['rig']} {self.meta['rig_hash'][:12]}",
                             expected=f"{spec.name} {spec.hash[:12]}")  # fmt: skip

    def rows(self) -> dict[str, Any]:
        """All commands: time (T,), asked, sent, measured (T, n) float32, faults (list of T lists)."""
        table = self._table("rows")
        out = {key: _matrix(table[key], len(self.motors)) for key in ("asked", "sent", "measured")}
        return {"time": table["time"].to_numpy(), **out, "faults": table["faults"].to_pylist()}

    def frames(self) -> dict[str, NDArray[Any]]:
        """All pictures' times (F,) and gap_mm (F,), NaN where unknown."""
        table = self._table("frames")
        gap = table["gap_mm"].to_numpy(zero_copy_only=False).astype(np.float32)
        return {"time": table["time"].to_numpy(), "gap_mm": gap}

    def landmarks(self) -> NDArray[np.float32]:
        """Landmarks of every picture, float32 [shape=(F, 478, 3), u]; NaN where no face was found."""
        return self._seen("landmarks", POINTS * 3).reshape(-1, POINTS, 3)

    def turns(self) -> NDArray[np.float32]:
        """How the head was turned, float32 [shape=(F, 3), rad]; NaN where that is not known."""
        return self._seen("turn", 3)

    def _seen(self, column: str, wide: int) -> NDArray[np.float32]:
        count = self._table("frames").num_rows
        out = np.full((count, wide), np.nan, np.float32)
        for file in self._files("landmarks"):
            try:
                for batch in pq.ParquetFile(file).iter_batches(512):
                    numbers = batch["number"].to_numpy()
                    known = numbers < count
                    values = batch[column].flatten().to_numpy().reshape(-1, wide)
                    out[numbers[known]] = values[known]
            except (pa.ArrowException, KeyError, OSError, ValueError) as error:
                if file.parent.name == "parts":
                    self._lost(file)
                    continue
                where = f"{self.folder}: landmarks"
                raise FaceTwinError("cannot be read", where=where, found=str(error)) from None
        return out

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """The pictures one after another, uint8 [shape=(H, W, 3)]; ends where the film was torn."""
        path, size = self._film(), self.meta.get("size")
        if path is not None:
            yield from film_pictures(path, size)

    def picture_shape(self) -> tuple[int, int, int] | None:
        """(H, W, 3) of the pictures, from the film's head; None where there is none to be seen."""
        path = self._film()
        size = None if path is None else film_size(path)
        if size is None:
            return None
        wide, high = self.meta.get("size") or size
        return int(high), int(wide), 3

    def _film(self) -> Path | None:
        paths = (self.folder / name for name in ("camera.mp4", "camera.mp4.part"))
        return next((path for path in paths if path.exists()), None)

    def _lost(self, file: Path) -> None:
        if file.name not in self.lost:
            self.lost += (file.name,)

    def _files(self, key: str) -> list[Path]:
        whole = self.folder / f"{key}.parquet"
        return [whole] if whole.exists() else _part_files(self.folder, key)

    def _table(self, key: str) -> pa.Table:
        tables = []
        for file in self._files(key):
            try:
                tables.append(_load(file, self._schemas[key]))
            except (pa.ArrowException, OSError, ValueError) as error:
                if file.parent.name == "parts":  # half a second that the disk had not got yet
                    self._lost(file)
                    continue
                where = f"{self.folder}: {key}"
                raise FaceTwinError("cannot be read", where=where, found=str(error)) from None
        return pa.concat_tables(tables) if tables else self._schemas[key].empty_table()


def _part_files(folder: Path, key: str) -> list[Path]:
    return sorted((folder / "parts").glob(f"{key}-*.parquet"))


def _load(path: Path, schema: pa.Schema) -> pa.Table:
    return pq.ParquetFile(path).read(use_threads=False).cast(schema)


def _merge(parts: list[Path], schema: pa.Schema, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    with pq.ParquetWriter(part, schema) as writer:
        for start in range(0, len(parts), _MERGE):
            tables = [_load(p, schema) for p in parts[start : start + _MERGE]]
            writer.write_table(pa.concat_tables(tables).combine_chunks())
    os.replace(part, path)


def _vector(values: ArrayLike, n: int, what: str) -> NDArray[np.float32]:
    out = np.asarray(values, dtype=np.float32)
    if out.shape != (n,):
        raise FaceTwinError("not a command", where=f"recording: {what}", found=out.shape, expected=f"({n},)")
    return out


def _matrix(column: pa.ChunkedArray, n: int) -> NDArray[np.float32]:
    flat = column.combine_chunks()
    values = np.concatenate(
        [c.flatten().to_numpy(zero_copy_only=False) for c in _chunks(flat)] or [np.zeros(0)]
    )
    return values.astype(np.float32).reshape(-1, n)


def _chunks(column: Any) -> list[Any]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def _versions() -> dict[str, str]:
    out = {"python": platform.python_version()}
    for name in ("facetwin", "numpy", "scipy", "mediapipe", "av", "pyrender"):
        with contextlib.suppress(PackageNotFoundError):
            out[name] = version(name)
    return out
