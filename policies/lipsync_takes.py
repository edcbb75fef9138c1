"""What a rig showed of each clip by each method, on disk, so that a long benchmark can stop and go on.

One safetensors file a take, with a key of everything that decides its content (rig, commands, weights of the
latents, seed, way of looking); a file of another key counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from facetwin.policies.closed_loop import Seen
from facetwin.policies.lipsync_score import Shown


def take_key(**facts: Any) -> str:
    """A short key of facts; arrays count by their bytes."""
    plain = {
        name: hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        if isinstance(value, np.ndarray)
        else value
        for name, value in facts.items()
    }
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:20]


def save_take(path: str | Path, shown: Shown, key: str) -> None:
    """Write one take; it has its name only when whole."""
    path, seen = Path(path), shown.seen
    arrays: dict[str, NDArray[Any]] = {
        "rest": seen.rest, "points": seen.points, "found": seen.found.astype(np.uint8),
        "latents": shown.latents, "commands": shown.commands, "asked": shown.asked,
        "compute": np.array([shown.compute]),
    }  # fmt: skip
    if seen.gap is not None:
        arrays["gap"] = seen.gap
    arrays |= {f"lips.{name}": value for name, value in (seen.lips or {}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, part, metadata={"key": key})
    os.replace(part, path)


def load_take(path: str | Path, key: str) -> Shown | None:
    """Read one take; None where there is none, or one of another key, or a broken one."""
    try:
        with safe_open(path, "np") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            a = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        lips = {name[5:]: value for name, value in a.items() if name.startswith("lips.")}
        seen = Seen(a["rest"], a["points"], a["found"].astype(bool), a.get("gap"), lips or None)
        return Shown(seen, a["latents"], a["commands"], a["asked"], float(a["compute"][0]))
    except (OSError, SafetensorError, KeyError, IndexError):
        return None
