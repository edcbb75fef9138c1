"""Trained weights: safetensors and a JSON beside them that says where they come from. Never pickle.

The sidecar ``NAME.json`` of ``NAME.safetensors`` holds at least: data, licence, command, commit, seed,
scores; models add what they need to be built again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from facetwin.twin.errors import FaceTwinError, UsageError

Tensors = dict[str, NDArray[Any]]
SIDECAR_KEYS = ("data", "licence", "command", "commit", "seed", "scores")


def save_weights(path: str | Path, tensors: Mapping[str, NDArray[Any]], sidecar: Mapping[str, Any]) -> None:
    """Write weights and sidecar; a killed run leaves no half of them under the final name.

    Raises `FaceTwinError` when the sidecar lacks one of `SIDECAR_KEYS` or a tensor is not finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UsageError("weights are written as .safetensors", where=path, found=path.suffix or "no suffix")
    lacking = [key for key in SIDECAR_KEYS if key not in sidecar]
    if lacking:
        raise FaceTwinError("sidecar is not complete", where=path, found="no " + ", ".join(lacking))
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise FaceTwinError("weights are not finite", where=path, found=name, hint="train again")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    note = sidecar_path(path).with_name(sidecar_path(path).name + ".part")
    try:
        save_file({name: np.asarray(value, order="C") for name, value in tensors.items()}, part)
        part.chmod(0o644)  # safetensors leaves it to the owner alone
        note.write_text(json.dumps(dict(sidecar), indent=1, ensure_ascii=False) + "\n", "utf-8")
        os.replace(part, path)
        os.replace(note, sidecar_path(path))
    finally:
        part.unlink(missing_ok=True)
        note.unlink(missing_ok=True)


def load_weights(
    path: str | Path, expect: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[Tensors, dict[str, Any]]:
    """Weights and sidecar; `expect` maps tensor names to shapes.

    Raises one line for: missing, truncated, pickle or another format, no sidecar, other names or shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError("no such weights", where=path, hint="train them, or check the path")
    with path.open("rb") as f:
        head = f.read(16)
    # a safetensors file begins with the length of its header, which may end in a pickle's first byte
    if head[8:9] != b"{" and (head[:2] == b"PK" or head[:1] == b"\x80"):
        raise FaceTwinError(
            "a pickle or torch archive, which could run code, is not loaded",
            where=path,
            expected="safetensors",
            hint="convert it where you trust it",
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as why:
        raise FaceTwinError(
            "weights do not open: truncated, or not safetensors",
            where=path,
            found=f"{path.stat().st_size} bytes, {why}",
            hint="copy or train them again",
        ) from None
    try:
        sidecar = json.loads(sidecar_path(path).read_text("utf-8"))
        if not isinstance(sidecar, dict):
            raise ValueError("no object")
    except FileNotFoundError:
        raise FaceTwinError(
            "weights without their sidecar", where=path, expected=sidecar_path(path).name, hint="copy both"
        ) from None
    except ValueError as why:
        raise FaceTwinError("sidecar is not JSON", where=sidecar_path(path), found=str(why)) from None
    if expect is not None:
        check_shapes(tensors, expect, path)
    return tensors, sidecar


def check_shapes(tensors: Tensors, expect: Mapping[str, tuple[int, ...]], path: str | Path) -> None:
    """Raise `FaceTwinError` at the first tensor that is missing, unknown or of another shape."""
    for name, shape in expect.items():
        if name not in tensors:
            raise FaceTwinError(
                "weights of another model", where=path, found=f"no {name}", expected=tuple(shape)
            )
        if tuple(tensors[name].shape) != tuple(shape):
            raise FaceTwinError(
                "weights of another shape",
                where=f"{path}: {name}",
                found=tuple(tensors[name].shape),
                expected=tuple(shape),
                hint="use weights of this version",
            )
    unknown = sorted(set(tensors) - set(expect))
    if unknown:
        raise FaceTwinError("weights of another model", where=path, found=", ".join(unknown[:3]))


def sidecar_path(path: str | Path) -> Path:
    """The JSON beside a weights file."""
    return Path(path).with_suffix(".json")


def provenance() -> dict[str, str]:
    """What was run and from which commit, for a sidecar: {"command": …, "commit": …}."""
    name = Path(sys.argv[0]).name or "python"
    try:
        commit = subprocess.run(
            ["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = "unknown"
    return {"command": " ".join([name, *sys.argv[1:]]), "commit": commit}
