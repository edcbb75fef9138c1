"""Training of the image latent: reconstruction, KL and perceptual loss.

The perceptual loss compares features of a net of the same build as the encoder, which learned before to tell
from a crop where the lips are, how far they are apart, and which command made them: what it looks at is what
matters to a mouth, the dark slit above all. (Its labels are landmarks by geometry: a tracker takes half an
hour, and is blind to the slit.) With VGG-16 weights in a file of the user's, their features serve instead.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from facetwin.policies.lip_data import LipData
from facetwin.policies.vae import (
    ACTIVE,
    FOLD,
    LATENT,
    SIZE,
    Convolutions,
    Vae,
    VaeNet,
    from_net,
    halved,
    small,
    to_net,
)
from facetwin.twin.errors import UsageError

#: layers of VGG-16 that are compared (relu1_2, 2_2, 3_3), and what makes them about 1
VGG_LAYERS = {3: 0.5, 8: 0.2, 15: 0.1}
#: pictures that the linear part is fitted to, and the ridge of its regression
LINEAR, RIDGE = 2500, 1e-3
Features = Callable[[Tensor], list[Tensor]]
Told = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Training:
    """How the latent is trained."""

    steps: int = 6000
    batch: int = 24
    rate: float = 1.5e-3
    decay: float = 1e-3
    reader_steps: int = 1500
    """Steps of the net whose features the perceptual loss compares."""
    perceptual: float = 0.5
    """Weight of the perceptual loss beside that of the pixels."""
    kl: float = 2e-4
    """Weight of the KL divergence (nats a picture) beside the loss of a pixel."""
    smooth: float = 0.998
    """Decay of the moving average of weights that is kept in the end."""
    seed: int = 0


class Reader(nn.Module):
    """Folded crop (B, 48, 32, 32) to lips (80, u), gap and commands: features for the perceptual loss."""

    def __init__(self, motors: int) -> None:
        super().__init__()
        self.net = Convolutions(80 + 1 + motors)
        self.scales = [1.0, 1.0, 1.0]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 48, 32, 32) to (B, 107)."""
        return self.net(x)

    def settle(self, x: Tensor) -> None:
        """Remember how large the features of pictures are."""
        with torch.no_grad():
            self.scales = [1 / float(f.std()) for f in self.net.features(x)[:3]]

    def features(self, x: Tensor) -> list[Tensor]:
        """At 32, 16 and 8 px, each scaled to about 1."""
        return [f * scale for f, scale in zip(self.net.features(x), self.scales)]


def gap_code(gap: NDArray[np.floating]) -> NDArray[np.float32]:
    """Gap in mm to a number near 0 .. 1.5 that is fine where it is small."""
    return (np.log1p(np.clip(gap, -1, None) + 1) / 2).astype(np.float32)


def labels(data: LipData) -> NDArray[np.float32]:
    """What a `Reader` is to say, float32 [shape=(n, 107)]: each about as important as the others."""
    lips = (data.lips - data.lips.mean(0)).reshape(len(data), -1) / 0.06
    return np.concatenate([lips, 2 * gap_code(data.gap)[:, None], data.commands - 0.5], 1).astype(np.float32)


def train_reader(data: LipData, options: Training, told: Told = lambda _: None) -> Reader:
    """The net whose features say what matters; learns from both pictures of each posture."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng((options.seed, 1))
    said = labels(data)
    net = Reader(data.commands.shape[1]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weight = torch.ones(said.shape[1])
    weight[80], weight[81:] = 10.0, 0.5
    best = _optimiser(net, options)
    for step in range(options.reader_steps):
        rows = np.sort(rng.choice(len(data), options.batch, replace=False))
        source = data.seen if rng.uniform() < 0.5 else data.own
        with torch.autocast("cpu", torch.bfloat16):
            answer = net(to_net(source[rows]))
        loss = (
            F.smooth_l1_loss(answer.float(), torch.from_numpy(said[rows]), reduction="none") * weight
        ).mean()
        _step(best, loss, net, step / options.reader_steps)
        if step % 50 == 49:
            told({"step": step + 1, "loss": loss.item()})
    net.eval().requires_grad_(False).settle(to_net(data.own[:64]))
    return net


def unfolded(x: Tensor) -> Tensor:
    """Folded pictures (B, 48, 32, 32) as (B, 3, 128, 128)."""
    b, side = len(x), SIZE // FOLD
    return x.view(b, FOLD, FOLD, 3, side, side).permute(0, 3, 4, 1, 5, 2).reshape(b, 3, SIZE, SIZE)


def vgg_features(path: Path) -> Features:
    """Features of VGG-16 from a state dict of torchvision's, saved as safetensors by the user."""
    from facetwin.policies.weights import load_weights

    tensors, _ = load_weights(path)
    layers: list[nn.Module] = []
    wide, number = 3, 0
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256):
        if not width:
            layers, number = [*layers, nn.MaxPool2d(2)], number + 1
            continue
        conv = nn.Conv2d(wide, width, 3, padding=1)
        try:
            state = {k: torch.from_numpy(tensors[f"features.{number}.{k}"]) for k in ("weight", "bias")}
            conv.load_state_dict(state)
        except (KeyError, RuntimeError) as why:
            raise UsageError("not the weights of VGG-16", where=path, found=str(why)) from None
        layers, wide, number = [*layers, conv, nn.ReLU()], width, number + 2
    net = nn.Sequential(*layers).eval().requires_grad_(False)
    centre = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    scale = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def features(x: Tensor) -> list[Tensor]:
        out, x = [], (unfolded(x) + 0.5 - centre) / scale
        for k, layer in enumerate(net):
            x = layer(x)
            if k in VGG_LAYERS:
                out.append(x * VGG_LAYERS[k])
        return out

    return features


class Progressing:
    """A training under way: net, moving average of its weights, optimiser, steps done."""

    def __init__(self, net: VaeNet, options: Training) -> None:
        self.net, self.options, self.step = net, options, 0
        self.smooth = {k: v.clone() for k, v in net.state_dict().items()}
        self.best = _optimiser(net, options)

    def save(self, path: Path) -> None:
        """Write all of it, beside, then under its name."""
        tensors = {f"net.{k}": v.contiguous() for k, v in self.net.state_dict().items()}
        tensors |= {f"smooth.{k}": v.contiguous() for k, v in self.smooth.items()}
        for k, each in self.best.state_dict()["state"].items():
            tensors |= {f"best.{k}.{name}": value.contiguous() for name, value in each.items()}
        part = path.with_suffix(".part")
        save_file(tensors, part, {"step": str(self.step), "options": json.dumps(asdict(self.options))})
        os.replace(part, path)

    def load(self, path: Path) -> bool:
        """Go on from a checkpoint; False where there is none of these options."""
        if not path.exists():
            return False
        with safe_open(path, "pt") as f:
            about = f.metadata()
            if json.loads(about["options"]) != asdict(self.options):
                return False
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        self.net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        self.smooth = {k[7:]: v for k, v in tensors.items() if k.startswith("smooth.")}
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("best."):
                _, place, name = key.split(".")
                state.setdefault(int(place), {})[name] = value
        self.best.load_state_dict({**self.best.state_dict(), "state": state})
        self.step = int(about["step"])
        return True


def begin(data: LipData, options: Training) -> Progressing:
    """A net that knows the linear part: mean picture, principal components, and the regression onto them."""
    torch.manual_seed(options.seed)
    net = VaeNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    some = np.unique(np.linspace(0, len(data) - 1, LINEAR).astype(int))
    own = to_net(data.own[some])
    net.mean_picture[:] = torch.from_numpy(own.numpy().mean(0))
    flat = (own - net.mean_picture).flatten(1)  # (n, 49152)
    size, ways = torch.linalg.eigh(flat @ flat.T)
    size, ways = size[-LATENT:].flip(0), ways[:, -LATENT:].flip(1)
    z = ways * len(some) ** 0.5  # (n, 16), each of variance 1
    net.decoder.basis[:] = halved((z.T @ flat / len(some)).view(LATENT, *net.mean_picture.shape))
    x = small(to_net(data.seen[some]) - net.mean_picture)
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    weights = torch.linalg.solve(x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1]), x.T @ z)  # (3073, 16)
    with torch.no_grad():
        net.encoder.linear.weight[:], net.encoder.linear.bias[:] = weights[:-1].T, weights[-1]
    return Progressing(net, options)


def train(work: Progressing, data: LipData, features: Features, until: int, told: Told) -> None:
    """Go on to step `until`; batches depend on seed and step alone, so that a resumed run is the same run."""
    options = work.options
    some = np.unique(np.linspace(0, len(data) - 1, 500).astype(int))
    spread = torch.from_numpy(to_net(data.own[some]).numpy().std(0))  # (48, 32, 32), where things happen
    weight = 0.3 + spread / spread.mean()
    sums: dict[str, float] = {}
    while work.step < min(until, options.steps):
        rng = np.random.default_rng((options.seed, 2, work.step))
        torch.manual_seed(int(rng.integers(2**31)))
        rows = np.sort(rng.choice(len(data), options.batch, replace=False))
        own = to_net(data.own[rows])
        with torch.autocast("cpu", torch.bfloat16):
            mean, log_variance = work.net.posterior(to_net(data.seen[rows]))
        mean, log_variance = mean.float(), log_variance.float()
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        with torch.autocast("cpu", torch.bfloat16):
            picture = work.net.picture(z)
            pairs = zip(features(picture), features(own))
            felt = torch.stack([F.l1_loss(a.float(), b.float()) for a, b in pairs]).mean()
        pixel = ((picture.float() - own).abs() * weight).mean()
        kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1).mean()
        warm = min(1.0, work.step / (0.2 * options.steps))
        loss = pixel + 0.1 * options.perceptual * felt + warm * options.kl * kl
        _step(work.best, loss, work.net, work.step / options.steps)
        keep = min(options.smooth, work.step / (work.step + 10))
        with torch.no_grad():
            for name, value in work.net.state_dict().items():
                work.smooth[name].lerp_(value, 1 - keep)
        work.step += 1
        for name, value in (("pixel", pixel), ("perceptual", felt), ("kl", kl), ("loss", loss)):
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if work.step % 50 == 0:
            told({"step": work.step} | {k: v / 50 for k, v in sums.items()})
            sums = {}


def finish(work: Progressing, held: LipData, sidecar: dict[str, Any]) -> Vae:
    """The smoothed net with the spread of its latents over held-out babble."""
    net = VaeNet()
    net.load_state_dict(work.smooth)
    bare = Vae(net, {"latents": {"mean": [0.0] * LATENT, "std": [1.0] * LATENT}})
    latents = bare.encode(np.asarray(held.own))
    told = {"mean": latents.mean(0).tolist(), "std": latents.std(0).tolist()}
    return Vae(net, {**sidecar, "training": asdict(work.options), "steps": work.step, "latents": told})


def judge(vae: Vae, test: LipData) -> dict[str, Any]:
    """Figures over pictures that training did not see."""
    began = time.perf_counter()
    seen, own = vae.encode(np.asarray(test.seen)), vae.encode(np.asarray(test.own))
    seconds = (time.perf_counter() - began) / (2 * len(test))
    shown = vae.decode(own).astype(np.float32)
    wrong = np.abs(shown - test.own).mean((1, 2, 3))
    mean = from_net(vae.net.mean_picture[None]).astype(np.float32)
    away = np.abs(mean - test.own).mean((1, 2, 3))
    return {
        "pictures": len(test),
        "active": int(vae.active.sum()),
        "least variance of 16": float(own.var(0).min()),
        "variances": [round(float(v), 4) for v in own.var(0)],
        "dark_slit": slit(shown, test.own, test.gap),
        "grey_levels": float(wrong.mean()),
        "grey_levels_mean_picture": float(away.mean()),
        "latent_error_other_camera": float(vae.distance(seen, own).mean()),
        "latent_distance_unrelated": float(vae.distance(own, np.roll(own, 997, 0)).mean()),
        "ms_a_crop": 1e3 * seconds,
        "active_above": ACTIVE,
    }


def slit(shown: NDArray[np.floating], own: NDArray[np.uint8], gap: NDArray[np.floating]) -> dict[str, float]:
    """Darkest grey between the lips (mean of the middle third's columns), of crops and of what is decoded."""

    def dark(pictures: NDArray[Any]) -> NDArray[np.floating]:
        middle = pictures[:, 40:100, 50:78].astype(np.float32).mean(3)  # (N, 60, 28)
        return middle.min(1).mean(1)

    out = {}
    truth, told = dark(own), dark(shown)
    for name, low, high in (("shut", -9, 0.5), ("1 to 3 mm", 1, 3), ("above 6 mm", 6, 99)):
        rows = (gap >= low) & (gap < high)
        if rows.any():
            out[f"{name}: crop"] = float(truth[rows].mean())
            out[f"{name}: decoded"] = float(told[rows].mean())
    if min(truth.std(), told.std()) > 0:
        out["correlation"] = float(np.corrcoef(truth, told)[0, 1])
    return out


def _optimiser(net: nn.Module, options: Training) -> torch.optim.Optimizer:
    group = {"params": list(net.parameters()), "initial": options.rate}
    return torch.optim.AdamW([group], options.rate, weight_decay=options.decay, betas=(0.9, 0.98))


def _step(best: torch.optim.Optimizer, loss: Tensor, net: nn.Module, done: float) -> None:
    # `done`: share of the training; the rate rises for a twentieth of it, then falls along a cosine.
    for group in best.param_groups:
        group["lr"] = group["initial"] * min(1.0, 20 * done + 0.02) * (0.51 + 0.49 * np.cos(np.pi * done))
    best.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    best.step()
