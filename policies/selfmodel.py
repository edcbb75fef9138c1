"""The self-model: command → landmarks in the mirror, and the gap of the lips; differentiable.

Learned from babble alone. The tracker is blind to the last millimetre of a closing mouth (DESIGN section
10), so the gap, which the twin knows, is learned beside the landmarks; on a rig that cannot know it that
head is left untrained. Not a physics model: it repeats what the tracker says, quirks included.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from facetwin import assets
from facetwin.policies import weights
from facetwin.policies.mirror import Mirror
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import indices, mirror_index
from facetwin.twin.spec import RigSpec

POINTS = 113
HIDDEN = 512
#: gaps above this (mm) are all the same to speech; the head learns the range below best
GAP_SCALE = 3.0


class SelfNet(nn.Module):
    """26 → 512 → 512 → 113 x 2 landmarks and a squashed gap; outputs are standardised."""

    def __init__(self, motors: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(motors, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, POINTS * 2 + 1),
        )  # fmt: skip
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(POINTS * 2))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, command: Tensor) -> tuple[Tensor, Tensor]:
        """Command (B, n) in [0, 1] -> landmarks (B, 113, 2) in u, gap (B,) in mm."""
        out = self.body(2 * command - 1)  # (B, 227)
        face = out[:, :-1] * self.scale + self.mean
        return face.view(-1, POINTS, 2), stretch(out[:, -1])


def squash(gap: Tensor) -> Tensor:
    """Gap in mm to what the net regresses: fine near zero, coarse far out."""
    return torch.asinh(gap / GAP_SCALE)


def stretch(value: Tensor) -> Tensor:
    """Inverse of `squash`."""
    return GAP_SCALE * torch.sinh(value)


class SelfModel:
    """Fitted self-model of one rig: `predict` for arrays, `net` for gradients.

    Attributes
    ----------
    static : float32 [shape=(113, 2), u], the face at the rest command as predicted
    low, high : float32 [shape=(113, 2), u], the reachable set: 0.5 and 99.5 percentiles of the babble
    """

    def __init__(self, net: SelfNet, low: ArrayLike, high: ArrayLike, sidecar: dict[str, Any]) -> None:
        self.net = net.eval()
        self.low = np.asarray(low, np.float32)
        self.high = np.asarray(high, np.float32)
        self.sidecar = sidecar

    @classmethod
    def fit(
        cls,
        train: Mirror,
        check: Mirror,
        *,
        spec: RigSpec,
        epochs: int = 150,
        batch: int = 256,
        rate: float = 1e-3,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> SelfModel:
        """Fit on `train`; the epoch that does best on `check` is kept. Mirror images double the data."""
        torch.manual_seed(seed)
        both = with_mirror_images(train, spec)
        commands, face, gap = _tensors(both)
        _, face_check, _ = _tensors(check)
        net = SelfNet(commands.shape[1])
        flat = face.flatten(1)
        net.mean.copy_(flat.mean(0))
        net.scale.copy_(flat.std(0).mean())
        known = torch.isfinite(gap)
        goal = torch.cat([(flat - net.mean) / net.scale, squash(torch.nan_to_num(gap))[:, None]], 1)
        weight = torch.ones(goal.shape)
        lips = 2 * len(indices("lips40"))
        weight[:, :lips] = 2.0
        weight[:, -1] = 20.0 * known * (1 + 3.0 * (gap.nan_to_num(99) < 3))  # closures count most
        optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=1e-4)
        steps = max(1, -(-len(commands) // batch)) * epochs
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        best, kept = np.inf, None
        for epoch in range(epochs):
            net.train()
            for rows in torch.randperm(len(commands)).split(batch):
                out = net.body(2 * commands[rows] - 1)
                loss = (
                    weight[rows] * nn.functional.smooth_l1_loss(out, goal[rows], reduction="none", beta=0.2)
                ).mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
            net.eval()
            with torch.no_grad():
                error = (net(torch.from_numpy(check.commands))[0] - face_check).norm(dim=-1).mean().item()
            if error < best:
                best, kept = error, {k: v.clone() for k, v in net.state_dict().items()}
            if progress:
                progress(epoch)
        assert kept is not None
        net.load_state_dict(kept)
        low, high = np.quantile(both.face, (0.005, 0.995), axis=0)
        return cls(net, low, high, {})

    @property
    def static(self) -> NDArray[np.float32]:
        """The face at rest, as the mirror shows it: float32 [shape=(113, 2), u]."""
        return self.predict(np.array(self.sidecar["rest"], np.float32)[None])[0][0]

    def predict(self, commands: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Commands [shape=(n, motors)] -> landmarks (n, 113, 2) in u and gaps (n,) in mm."""
        with torch.no_grad():
            face, gap = self.net(torch.as_tensor(np.asarray(commands, np.float32)))
        return face.numpy(), gap.numpy()

    def save(self, path: str | Path, sidecar: dict[str, Any]) -> None:
        """Write weights and sidecar (`facetwin.policies.weights`)."""
        self.sidecar = sidecar
        tensors = {k: v.numpy() for k, v in self.net.state_dict().items()}
        weights.save_weights(path, {**tensors, "low": self.low, "high": self.high}, sidecar)

    @classmethod
    def load(cls, source: RigSpec | str | Path) -> SelfModel:
        """From a file, or the weights that ship for a rig."""
        path = shipped("self", source)
        tensors, sidecar = weights.load_weights(path)
        motors = len(motors_of(path, sidecar))
        net = SelfNet(motors)
        expect = {k: tuple(v.shape) for k, v in net.state_dict().items()}
        weights.check_shapes(tensors, {**expect, "low": (POINTS, 2), "high": (POINTS, 2)}, path)
        net.load_state_dict({k: torch.from_numpy(tensors[k]) for k in expect})
        return cls(net, tensors["low"], tensors["high"], sidecar)


def shipped(kind: str, source: RigSpec | str | Path) -> Path:
    """Path of weights: as given; those beside a rig's table that were made for it; or those that ship
    (`self_face26.safetensors`)."""
    if not isinstance(source, RigSpec):
        return Path(source)
    beside = Path(source.source).with_name(f"{kind}_{source.name}.safetensors")
    if beside.is_file() and weights.load_weights(beside)[1].get("rig_hash") == source.hash:
        return beside
    path = assets.path("weights", f"{kind}_{source.name}.safetensors")
    if not path.is_file():
        raise UsageError(
            f"no {kind} model for this rig", where=source.name, expected=path.name,
            hint=f"facetwin babble --rig sim:{source.name} --out FOLDER, then facetwin train {kind} FOLDER",
        )  # fmt: skip
    return path


def motors_of(path: Path, sidecar: dict[str, Any]) -> list[str]:
    """Names of the motors that weights are for; raises if the sidecar does not say."""
    motors = sidecar.get("motors")
    if not isinstance(motors, list) or not motors:
        raise FaceTwinError("sidecar does not name the motors", where=path, hint="train again")
    return motors


def with_mirror_images(data: Mirror, spec: RigSpec) -> Mirror:
    """The data and its left-right mirror images: a symmetric face is worth two."""
    motor, flip = mirror_motors(spec)
    commands = data.commands[:, motor].copy()
    commands[:, flip] = 1 - commands[:, flip]
    points = indices("face113")
    place = {int(p): k for k, p in enumerate(points)}
    partner = np.array([place[int(mirror_index()[p])] for p in points])
    face = data.face[:, partner] * np.array((-1, 1), np.float32)
    turn = data.turn * np.array((1, -1, -1), np.float32)
    return Mirror(
        commands=np.concatenate([data.commands, commands]),
        face=np.concatenate([data.face, face]),
        turn=np.concatenate([data.turn, turn]),
        gap=np.tile(data.gap, 2),
        found=np.tile(data.found, 2),
        run=np.tile(data.run, 2),
    )


def mirror_motors(spec: RigSpec) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Each motor's left-right partner, and the motors whose command turns over (yaw and roll)."""
    partner, turned = np.arange(spec.size), []
    for i, name in enumerate(spec.names):
        for a, b in (("right_", "left_"), ("left_", "right_"), ("r_", "l_"), ("l_", "r_")):
            if name.startswith(a) and b + name[len(a) :] in spec.names:
                partner[i] = spec.index(b + name[len(a) :])
                break
        if name.endswith(("yaw", "_roll")) and "lip" not in name:
            turned.append(i)
    return partner, np.array(turned, np.intp)


def _tensors(data: Mirror) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in (data.commands, data.face, data.gap))  # type: ignore[return-value]
