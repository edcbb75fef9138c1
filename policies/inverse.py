"""The inverse model: landmarks in the mirror → command (summer 2022 report, section 4).

The report's net, 226 → 1024 → 512 → motors with batch normalisation on the first layer; beside the 113
points (x, y) goes the head's rotation as seen, since aligned points no longer show the neck. Augmented as
the report does: eyes and brows of one pose with mouth and jaw of another, both from the training set. Several
such nets, each from its own seed and its own dreams, answer as one, with the mean of their commands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from facetwin.policies import weights
from facetwin.policies.mirror import Mirror
from facetwin.policies.selfmodel import motors_of, shipped, with_mirror_images
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import SETS
from facetwin.twin.spec import RigSpec

POINTS = 113
LIPS = len(SETS["lips40"])
#: places of eyes, irises and brows in `face113`, everything between lips and jaw
UPPER = slice(LIPS, POINTS - len(SETS["jaw11"]))
#: jitter of the tracker on our face, u: added to the inputs while training
JITTER = 0.001


class InverseNet(nn.Module):
    """226 + 3 → 1024 → 512 → motors, sigmoid."""

    def __init__(self, motors: int) -> None:
        super().__init__()
        self.first = nn.Linear(POINTS * 2 + 3, 1024)
        self.norm = nn.BatchNorm1d(1024)
        self.second = nn.Linear(1024, 512)
        self.last = nn.Linear(512, motors)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(POINTS * 2 + 3))
        self.register_buffer("scale", torch.ones(POINTS * 2 + 3))

    def forward(self, face: Tensor, turn: Tensor) -> Tensor:
        """Landmarks (B, 113, 2) in u, head rotation (B, 3) in rad -> command (B, motors) in [0, 1]."""
        x = torch.cat([face.flatten(1), turn], 1)  # (B, 229)
        x = (x - self.mean) / self.scale
        x = torch.relu(self.norm(self.first(x)))  # (B, 1024)
        x = torch.relu(self.second(x))  # (B, 512)
        return torch.sigmoid(self.last(x))


class InverseModel:
    """Fitted inverse model of one rig: a committee of one or more `InverseNet`."""

    def __init__(self, nets: Sequence[InverseNet], sidecar: dict[str, Any]) -> None:
        self.nets = [net.eval() for net in nets]
        self.sidecar = sidecar

    @classmethod
    def join(cls, models: Sequence[InverseModel]) -> InverseModel:
        """One model of several; it answers with the mean of theirs."""
        return cls([net for model in models for net in model.nets], {})

    @classmethod
    def fit(
        cls,
        train: Mirror,
        check: Mirror,
        *,
        spec: RigSpec,
        epochs: int = 120,
        batch: int = 256,
        rate: float = 1e-3,
        combine: float = 0.5,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> InverseModel:
        """Fit on `train`; the epoch that does best on `check` is kept.

        `combine` is the share of training pairs whose eyes and brows come from another pose.
        """
        torch.manual_seed(seed)
        both = with_mirror_images(train, spec)
        commands, face, turn = (torch.from_numpy(a) for a in (both.commands, both.face, both.turn))
        net = InverseNet(commands.shape[1])
        inputs = torch.cat([face.flatten(1), turn], 1)
        net.mean.copy_(inputs.mean(0))
        net.scale.copy_(inputs.std(0).clamp_min(1e-4))
        eyes = torch.from_numpy(np.concatenate([spec.group(g) for g in ("eyes", "lids", "brows")]))
        optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=1e-3)
        steps = max(1, -(-len(commands) // batch)) * epochs
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3 * rate, steps + 1, pct_start=0.1)
        held = [torch.from_numpy(a) for a in (check.face, check.turn, check.commands)]
        best, kept = np.inf, None
        for epoch in range(epochs):
            net.train()
            for rows in torch.randperm(len(commands)).split(batch):
                if len(rows) < 2:  # batch normalisation needs company
                    continue
                x, y = face[rows].clone(), commands[rows].clone()
                other = torch.randint(len(commands), (len(rows),))
                swap = torch.rand(len(rows)) < combine
                x[swap, UPPER] = face[other[swap], UPPER]
                taken = commands[other[swap]]
                y[swap.nonzero(), eyes] = taken[:, eyes]
                x = x + JITTER * torch.randn_like(x)
                loss = nn.functional.smooth_l1_loss(net(x, turn[rows]), y, beta=0.05)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimiser.step()
                schedule.step()
            net.eval()
            with torch.no_grad():
                error = (net(held[0], held[1]) - held[2]).abs().mean().item()
            if error < best:
                best, kept = error, {k: v.clone() for k, v in net.state_dict().items()}
            if progress:
                progress(epoch)
        assert kept is not None
        net.load_state_dict(kept)
        return cls([net], {})

    def predict(self, face: ArrayLike, turn: ArrayLike | None = None) -> NDArray[np.float32]:
        """Landmarks [shape=(n, 113, 2), u] and head rotation [shape=(n, 3), rad] -> commands (n, motors)."""
        points = torch.as_tensor(np.asarray(face, np.float32))
        if turn is None:
            head = self.nets[0].mean[-3:].expand(len(points), 3)
        else:
            head = torch.as_tensor(np.asarray(turn, np.float32))
        with torch.no_grad():
            every = torch.stack([net(points, head) for net in self.nets])  # (members, B, motors)
        command: NDArray[np.float32] = every.mean(0).numpy()
        return command

    def save(self, path: str | Path, sidecar: dict[str, Any]) -> None:
        """Write weights and sidecar; halves are enough for weights of this size."""
        self.sidecar = {**sidecar, "members": len(self.nets)}
        tensors = {
            f"{number}.{name}": value.numpy()
            for number, net in enumerate(self.nets)
            for name, value in net.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        big = {k: v.astype(np.float16) if v.ndim == 2 else v for k, v in tensors.items()}
        weights.save_weights(path, big, self.sidecar)

    @classmethod
    def load(cls, source: RigSpec | str | Path) -> InverseModel:
        """From a file, or the weights that ship for a rig."""
        path = shipped("inverse", source)
        tensors, sidecar = weights.load_weights(path)
        motors = len(motors_of(path, sidecar))
        members = sidecar.get("members", 1)
        if not (isinstance(members, int) and members >= 1):
            raise FaceTwinError("not a committee", where=weights.sidecar_path(path), found=members,
                                expected="members: a whole number from 1")  # fmt: skip
        nets = [InverseNet(motors) for _ in range(members)]
        names = [name for name in nets[0].state_dict() if not name.endswith("num_batches_tracked")]
        shapes = {name: tuple(nets[0].state_dict()[name].shape) for name in names}
        weights.check_shapes(
            tensors, {f"{k}.{name}": shape for k in range(members) for name, shape in shapes.items()}, path
        )
        for k, net in enumerate(nets):
            values = {name: torch.from_numpy(tensors[f"{k}.{name}"].astype(np.float32)) for name in names}
            net.load_state_dict(values, strict=False)
        return cls(nets, sidecar)


def command_errors(
    inverse: InverseModel, train: Mirror, test: Mirror, *, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Mean absolute error per motor [shape=(motors,)] of the model and its baselines on held-out babble.

    "nearest": the command of the nearest training pose, searched over the *whole* training set, in the
    better of two metrics (raw u, standardised); "mean": the constant that errs least; "random": a random
    training command.
    """
    rng = np.random.default_rng(seed)
    out = {"inverse model": np.abs(inverse.predict(test.face, test.turn) - test.commands).mean(0)}
    a = np.concatenate([train.face.reshape(len(train), -1), train.turn], 1).astype(np.float64)
    b = np.concatenate([test.face.reshape(len(test), -1), test.turn], 1).astype(np.float64)
    scale = a.std(0) + 1e-9
    nearest = []
    for x, y in ((a, b), (a / scale, b / scale)):
        found = np.concatenate([_nearest(x, part) for part in np.array_split(y, max(1, len(y) // 64))])
        nearest.append(np.abs(train.commands[found] - test.commands).mean(0))
    out["nearest"] = min(nearest, key=lambda e: float(e.mean()))
    out["mean"] = np.abs(np.median(train.commands, 0) - test.commands).mean(0)
    picks = rng.integers(len(train), size=len(test))
    out["random"] = np.abs(train.commands[picks] - test.commands).mean(0)
    return {k: np.asarray(v, np.float64) for k, v in out.items()}


def _nearest(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.intp]:
    d = (x**2).sum(1)[None] - 2 * y @ x.T  # (y, x), up to a constant
    return d.argmin(1)
