"""What a rig showed of each clip by each method, on disk, so that a long benchmark can stop and go on.

One safetensors file a take, with a key of everything that decides what was seen (rig, commands, seed, way of
looking); a file of another key counts as absent. Lip crops are kept whole, so that another VAE needs no rig.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from facetwin.policies.closed_loop import Seen
from facetwin.twin.lip_crop import SIZE

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Capture:
    """What was seen of one performance, at 25 pictures a second.

    Attributes
    ----------
    seen : Seen
    crops : uint8 [shape=(T, 128, 128, 3)]
    asked, sent : float32 [shape=(N, motors)], before and after the safety layer
    """

    seen: Seen
    crops: NDArray[np.uint8]
    asked: Floats
    sent: Floats

    def __len__(self) -> int:
        return len(self.crops)


def take_key(**facts: Any) -> str:
    """A short key of facts; arrays count by their bytes."""
    plain = {
        name: hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        if isinstance(value, np.ndarray)
        else value
        for name, value in facts.items()
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:20]


def save_take(path: str | Path, take: Capture, key: str) -> None:
    """Write one take; it has its name only when whole."""
    path, seen = Path(path), take.seen
    packed = zlib.compress(np.ascontiguousarray(take.crops).tobytes(), 1)
    arrays: dict[str, NDArray[Any]] = {
        "rest": seen.rest, "points": seen.points, "found": seen.found.astype(np.uint8),
        "crops": np.frombuffer(packed, np.uint8), "sent": take.sent, "asked": take.asked,
    }  # fmt: skip
    if seen.gap is not None:
        arrays["gap"] = seen.gap
    arrays |= {f"lips.{name}": value for name, value in (seen.lips or {}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, part, metadata={"key": key})
    os.replace(part, path)


def load_take(path: str | Path, key: str) -> Capture | None:
    """Read one take; None where there is none, or one of another key, or a broken one."""
    try:
        with safe_open(path, "np") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            a = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        lips = {name[5:]: value for name, value in a.items() if name.startswith("lips.")}
        seen = Seen(a["rest"], a["points"], a["found"].astype(bool), a.get("gap"), lips or None)
        flat = np.frombuffer(zlib.decompress(a["crops"].tobytes()), np.uint8)
        return Capture(seen, flat.reshape(len(seen), SIZE, SIZE, 3), a["asked"], a["sent"])
    except (OSError, SafetensorError, KeyError, ValueError, zlib.error):
        return None
