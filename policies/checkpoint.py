"""State of a training that was cut off, so that it goes on where it was: safetensors, nothing unpickled.

Held are networks, Adam's moments, random generators and some numbers. A run that goes on gives the same
weights as one that was never cut off (processor-time budgets apart, which no two runs spend alike).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn


def save_state(
    path: Path,
    nets: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    numpy_random: np.random.Generator,
    torch_random: torch.Generator,
    facts: Mapping[str, Any],
) -> None:
    """Write all of it; `facts` are JSON. The file appears whole or not at all."""
    tensors = {"random": torch_random.get_state(), "random.global": torch.get_rng_state()}
    for name, net in nets.items():
        tensors |= {
            f"net.{name}.{key}": value.contiguous().clone() for key, value in net.state_dict().items()
        }
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    said = {"facts": json.dumps(dict(facts)), "numpy": json.dumps(numpy_random.bit_generator.state)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        save_file(tensors, part, metadata=said)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_state(
    path: Path,
    nets: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    numpy_random: np.random.Generator,
    torch_random: torch.Generator,
    expect: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Put it all back and return the facts; None, nothing changed, where there is none or of another run.

    `expect` are the facts that must be the same.
    """
    try:
        with safe_open(path, "pt") as f:
            said = f.metadata() or {}
            facts: dict[str, Any] = json.loads(said.get("facts", "{}"))
            if any(facts.get(key) != value for key, value in expect.items()):
                return None
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError):
        return None
    for name, net in nets.items():
        head = f"net.{name}."
        net.load_state_dict({k[len(head) :]: v for k, v in tensors.items() if k.startswith(head)})
    states: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, field = key.split(".", 2)
            states.setdefault(int(index), {})[field] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": states, "param_groups": groups})
    numpy_random.bit_generator.state = json.loads(said["numpy"])
    torch_random.set_state(tensors["random"])
    torch.set_rng_state(tensors["random.global"])
    return facts
