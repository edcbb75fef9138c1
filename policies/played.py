"""Takes on disk: what the mirror showed of each clip, so that a long score can stop and go on.

One safetensors file a clip, with a key of everything that decides its content (rig, weights, tuning, seed,
size); a file of another key counts as absent.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from facetwin.policies.closed_loop import Seen

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Played:
    """One clip, spoken.

    Attributes
    ----------
    seen : what the mirror showed
    target : float32 [shape=(T, 63, 2), u], what the speech model asked for
    commands : float32 [shape=(T, motors)], what the controller answered, at 25 a second
    lost : float32 [shape=(T,), u], how far the robot's reach cut the wish
    """

    seen: Seen
    target: Floats
    commands: Floats
    lost: Floats


def save_played(path: str | Path, played: Played, key: dict[str, Any]) -> None:
    """Write one clip; it has its name only when whole."""
    path = Path(path)
    seen = played.seen
    arrays = {"rest": seen.rest, "points": seen.points, "found": seen.found.astype(np.uint8)}
    arrays |= {"target": played.target, "commands": played.commands, "lost": played.lost}
    if seen.gap is not None:
        arrays["gap"] = seen.gap
    arrays |= {f"lips.{name}": value for name, value in (seen.lips or {}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    plain = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    save_file(plain, part, metadata={"key": json.dumps(key, sort_keys=True)})
    os.replace(part, path)


def load_played(path: str | Path, key: dict[str, Any]) -> Played | None:
    """Read one clip back; None where there is none, or one of another key, or a broken one."""
    try:
        with safe_open(path, "np") as file:
            if (file.metadata() or {}).get("key") != json.dumps(key, sort_keys=True):
                return None
            a = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        lips = {name[5:]: value for name, value in a.items() if name.startswith("lips.")}
        seen = Seen(a["rest"], a["points"], a["found"].astype(bool), a.get("gap"), lips or None)
        return Played(seen, a["target"], a["commands"], a["lost"])
    except (OSError, SafetensorError, KeyError):
        return None
