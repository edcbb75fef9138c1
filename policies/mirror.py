"""What babbling leaves: pairs of commands and what the mirror showed, as arrays on disk.

A folder of shards (safetensors) and a ``meta.json``. Each shard is a run of its own; splits are by shard,
so that neighbouring poses never fall on both sides.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import align, head_rotation, indices

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Mirror:
    """Commands and what was seen of them; n poses.

    Attributes
    ----------
    commands : float32 [shape=(n, 26)], as really sent
    face : float32 [shape=(n, 113, 2), u], `face113`, aligned
    turn : float32 [shape=(n, 3), rad], rotation vector that turns the seen head back upright
    gap : float32 [shape=(n,), mm], lip gap by geometry; NaN where the rig does not know
    found : bool [shape=(n,)], a face was found (the tracker's second try counts)
    shard : int64 [shape=(n,)]
    """

    commands: Floats
    face: Floats
    turn: Floats
    gap: Floats
    found: NDArray[np.bool_]
    shard: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.commands)

    def __getitem__(self, rows: Any) -> Mirror:
        return Mirror(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def split(self) -> tuple[Mirror, Mirror, Mirror]:
        """Training, validation and test poses: whole shards, 8 : 1 : 1, the same in every run."""
        shards = np.unique(self.shard)
        if len(shards) < 10:
            raise UsageError(
                "too little babble to split by shard", found=f"{len(shards)} shards", expected="10 or more",
                hint="facetwin babble --frames N with a larger N",
            )  # fmt: skip
        place = np.searchsorted(shards, self.shard) % 10
        return self[place < 8], self[place == 8], self[place == 9]


def looked(landmarks: ArrayLike, unit: float) -> tuple[Floats, Floats]:
    """Image landmarks [shape=(n, 478, 3), px] to `face` (n, 113, 2) and `turn` (n, 3) of `Mirror`."""
    from scipy.spatial.transform import Rotation

    face = align(landmarks, unit=unit)[..., indices("face113"), :2]
    turn = Rotation.from_matrix(head_rotation(landmarks)).inv().as_rotvec().astype(np.float32)
    return np.ascontiguousarray(face, dtype=np.float32), turn


def save_shard(folder: Path, number: int, mirror: Mirror) -> None:
    """Write one shard; it has its final name only when it is whole."""
    tensors = {
        f.name: np.ascontiguousarray(getattr(mirror, f.name)) for f in fields(mirror) if f.name != "shard"
    }
    final = folder / f"shard-{number:05d}.safetensors"
    part = final.with_suffix(".part")
    save_file(tensors, part)
    os.replace(part, final)


def load_mirror(*folders: str | Path) -> tuple[Mirror, dict[str, Any]]:
    """All poses of one or more folders of one rig, faces found only, and the first folder's meta."""
    pieces: list[Mirror] = []
    first: dict[str, Any] = {}
    for folder in map(Path, folders):
        try:
            meta = json.loads((folder / "meta.json").read_text("utf-8"))
        except (OSError, ValueError):
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
        for file in sorted(folder.glob("shard-*.safetensors")):
            try:
                a = load_file(file)
                pieces.append(Mirror(**a, shard=np.full(len(a["commands"]), len(pieces), np.int64)))
            except (SafetensorError, TypeError, KeyError, OSError) as why:
                raise FaceTwinError(
                    "not a shard of babble", where=file, found=str(why), hint="delete it"
                ) from None
    if not pieces:
        raise UsageError("no babble", where=", ".join(map(str, folders)), hint="facetwin babble --out FOLDER")
    whole = Mirror(**{f.name: np.concatenate([getattr(p, f.name) for p in pieces]) for f in fields(Mirror)})
    return whole[whole.found], first
