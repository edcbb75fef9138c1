"""The self-model of pictures: command → latents of the lip crop, landmarks, gap; differentiable.

Learned from filmed babble, it says what a command will look like. The action transformer learns through it,
and dreams more babble with it than was filmed. No physics: it repeats what camera and encoder say.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from facetwin.policies import weights
from facetwin.policies.action_data import ActionData, ways
from facetwin.policies.controllers import LATENTS
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.spec import RigSpec

HIDDEN = 384
POINTS = 63


class ImageSelf(nn.Module):
    """26 → 384 → 384 → 16 latents and 63 points; outputs are standardised inside."""

    def __init__(self, motors: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        outputs = LATENTS + 2 * POINTS
        self.body = nn.Sequential(
            nn.Linear(motors, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, outputs),
        )  # fmt: skip
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("scale", torch.ones(outputs))

    def forward(self, command: Tensor) -> tuple[Tensor, Tensor]:
        """Commands (..., n) -> latents (..., 16) and points (..., 63, 2) in u."""
        out = self.body(2 * command - 1) * self.scale + self.mean
        return out[..., :LATENTS], out[..., LATENTS:].unflatten(-1, (POINTS, 2))


@dataclass(frozen=True)
class Fitted:
    """A fitted self-model, and how wrong it is on validation ways.

    Attributes
    ----------
    net : ImageSelf
    latents : float, root mean square error of a latent in its standard deviations
    points : float, u, mean error of the 40 lip points
    residuals : float32 [shape=(n, 16 + 126)], errors on validation pictures, to be dreamt with
    """

    net: ImageSelf
    latents: float
    points: float
    residuals: NDArray[np.float32]

    def save(self, path: Path) -> None:
        """Keep it; a killed run leaves no half of it under this name."""
        tensors = {f"net.{k}": v.numpy() for k, v in self.net.state_dict().items()}
        errors = np.array([self.latents, self.points])
        part = path.with_name(path.name + ".part")
        save_file({**tensors, "errors": errors, "residuals": np.ascontiguousarray(self.residuals)}, part)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Fitted:
        """What `save` kept."""
        tensors = load_file(path)
        state = {k[4:]: torch.from_numpy(v) for k, v in tensors.items() if k.startswith("net.")}
        net = ImageSelf(state["body.0.weight"].shape[1], state["body.0.weight"].shape[0])
        net.load_state_dict(state)
        latents, points = map(float, tensors["errors"])
        return cls(net.eval().requires_grad_(False), latents, points, tensors["residuals"])


def save(path: str | Path, fitted: Fitted, sidecar: dict[str, Any]) -> None:
    """Write the net alone, as weights that ship: no residuals to dream with."""
    tensors = {name: value.numpy() for name, value in fitted.net.state_dict().items()}
    weights.save_weights(path, tensors, {**sidecar, "hidden": fitted.net.body[0].out_features})


def restore(tensors: weights.Tensors, sidecar: dict[str, Any], spec: RigSpec, path: str | Path) -> ImageSelf:
    """The net of a weights file; one line for what is none, or another rig's."""
    if sidecar.get("kind") != "self-model of pictures" or not isinstance(sidecar.get("hidden"), int):
        raise FaceTwinError("not a self-model of pictures", where=path, found=sidecar.get("kind"),
                            hint="facetwin train transformer writes one")  # fmt: skip
    if sidecar.get("motors") != list(spec.names):
        raise FaceTwinError("weights of another rig", where=path, found=sidecar.get("rig"),
                            expected=spec.name, hint="facetwin train transformer")  # fmt: skip
    net = ImageSelf(spec.size, sidecar["hidden"])
    weights.check_shapes(tensors, {k: tuple(v.shape) for k, v in net.state_dict().items()}, path)
    net.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    return net.eval().requires_grad_(False)


def fit(
    train: ActionData,
    check: ActionData,
    *,
    steps: int = 6000,
    batch: int = 256,
    rate: float = 2e-3,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Fitted:
    """Fit on training ways; errors are those on `check`."""
    torch.manual_seed(seed)
    commands, goals = _flat(train)
    net = ImageSelf(commands.shape[1])
    net.mean.copy_(goals.mean(0))
    net.scale.copy_(goals.std(0).clamp_min(1e-5))
    net.scale[LATENTS:] = net.scale[LATENTS:].mean()
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, steps + 1, pct_start=0.1)
    aim = (goals - net.mean) / net.scale
    for step in range(steps):
        rows = torch.randint(len(commands), (batch,))
        off = net.body(2 * commands[rows] - 1) - aim[rows]
        loss = nn.functional.smooth_l1_loss(off, torch.zeros_like(off), reduction="none", beta=0.1)
        loss = loss[:, :LATENTS].mean() + loss[:, LATENTS:].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            progress(100)
    net.eval().requires_grad_(False)
    commands, goals = _flat(check)
    with torch.no_grad():
        latents, points = net(commands)
    off = torch.cat([latents, points.flatten(1)], 1) - goals
    lips = off[:, LATENTS : LATENTS + 80].unflatten(1, (40, 2)).norm(dim=-1).mean()
    error = (off[:, :LATENTS] / net.scale[:LATENTS]).square().mean().sqrt()
    return Fitted(net, float(error), float(lips), off.numpy())


def _flat(data: ActionData) -> tuple[Tensor, Tensor]:
    commands = torch.from_numpy(data.commands).flatten(0, 1)
    goals = torch.cat([torch.from_numpy(data.latents), torch.from_numpy(data.points).flatten(2)], 2).flatten(
        0, 1
    )
    return commands, goals


def dream(
    known: Fitted, spec: RigSpec, count: int, *, spoken: Sequence[NDArray[np.float32]] = (), seed: int = 0
) -> ActionData:
    """Ways that were never filmed, as the self-model expects them, with errors borrowed from real ones."""
    rng = np.random.default_rng((seed, 18))
    commands, kind, _ = zip(*itertools.islice(ways(spec, rng, spoken), count))
    rows = torch.from_numpy(np.stack(commands))  # (S, T, n)
    with torch.no_grad():
        latents, points = known.net(rows)
    off = known.residuals[rng.integers(len(known.residuals), size=rows.shape[:2])]  # (S, T, 142)
    return ActionData(
        commands=rows.numpy(),
        latents=latents.numpy() + off[..., :LATENTS],
        points=points.numpy(),
        gap=np.full(rows.shape[:2], np.nan, np.float32),
        kind=np.array(kind),
        part=np.zeros(count, np.int64),
    )
