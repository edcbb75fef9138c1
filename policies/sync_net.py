"""What the sound says about the speed of the lips: a small network that tells whether, and when, they fit.

Log-mel of a whole clip -> bands mixed -> residual convolutions over half a second, both ways in time ->
one value a row (50 a second), to be correlated with the speed of the mouth's opening. Each band's mean over
the clip is taken out first, so that neither loudness nor microphone matter; training varies voice, room and
noise. Not a lip generator: it has no unit, hears the future, and need not get the size of an opening right.

Training is in `sync_train`, the use in `av_offset`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from facetwin import assets
from facetwin.policies import logmel, weights
from facetwin.twin.errors import FaceTwinError

#: rows of log-mel a second; row j is centred at j / ROWS s
ROWS = logmel.RATE // logmel.HOP
#: nothing further below the loudest is listened to, dB
RANGE = 60.0
DILATIONS = (1, 2, 3)
HIDDEN = 64


class SyncNet(nn.Module):
    """(B, R, 80) log-mel in dB -> (B, R), as the mouth opens (> 0) and closes."""

    def __init__(self, hidden: int = HIDDEN, dropout: float = 0.0) -> None:
        super().__init__()
        self.mix = nn.Conv1d(logmel.BANDS, hidden, 1)
        self.time = nn.ModuleList(nn.Conv1d(hidden, hidden, 5, padding=2 * d, dilation=d) for d in DILATIONS)
        self.out = nn.Conv1d(hidden, 1, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        """(B, R, 80) -> (B, R)."""
        loud = rows.amax(2).quantile(0.95, dim=1)[:, None, None]
        x = torch.maximum(rows, loud - RANGE)
        x = ((x - x.mean(1, keepdim=True)) / 15).transpose(1, 2)  # (B, 80, R)
        x = self.drop(nn.functional.gelu(self.mix(x)))  # (B, hidden, R)
        for layer in self.time:
            x = x + self.drop(nn.functional.gelu(layer(x)))
        return self.out(x)[:, 0]  # (B, R)


def curves(heard: Tensor, seen: Tensor, most: int) -> Tensor:
    """Correlation at each lag from -most to most rows, (B, R), (B, R) -> (B, 2 most + 1).

    Column most + k: sound at j against lips at j + k; the peak lies at k > 0 where the lips come late.
    """
    rows = heard.shape[1]
    out = []
    for lag in range(-most, most + 1):
        x = heard[:, max(0, -lag) : rows - max(0, lag)]
        y = seen[:, max(0, lag) : rows + min(0, lag)]
        x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
        out.append((x * y).sum(1) / ((x * x).sum(1) * (y * y).sum(1) + 1e-9).sqrt())
    return torch.stack(out, 1)


def hear(samples: ArrayLike, net: SyncNet | None = None) -> NDArray[np.float32]:
    """What the lips should do with a sound, float [shape=(n,)], 16 kHz -> float32 [shape=(n // 320,)]."""
    rows = torch.from_numpy(logmel.log_mel(samples))[None]  # (1, R, 80)
    if not rows.shape[1]:
        return np.zeros(0, np.float32)
    with torch.inference_mode():
        return (net or load())(rows)[0].numpy()


@lru_cache(1)
def load(path: Path | None = None) -> SyncNet:
    """From a weights file, default the shipped ones; ready to use."""
    path = path or shipped()
    tensors, sidecar = weights.load_weights(path)
    try:
        net = SyncNet(int(sidecar["hidden"]))
    except (KeyError, TypeError, ValueError) as why:
        raise FaceTwinError("not weights of a sync net", where=path, found=f"sidecar without {why}") from None
    state = net.state_dict()
    weights.check_shapes(tensors, {name: tuple(value.shape) for name, value in state.items()}, path)
    net.load_state_dict({name: torch.from_numpy(tensors[name]) for name in state})
    return net.eval()


def save(net: SyncNet, path: str | Path, sidecar: dict[str, Any]) -> None:
    """Write weights and sidecar."""
    tensors = {name: value.detach().cpu().numpy() for name, value in net.state_dict().items()}
    weights.save_weights(path, tensors, {**sidecar, "hidden": net.mix.out_channels})


def shipped() -> Path:
    """Path of the shipped weights."""
    return assets.path("weights", "sync.safetensors")
