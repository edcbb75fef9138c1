"""APC: speech features by autoregressive predictive coding (Chung and Glass 2020; Audio2Landmark, 2.3).

GRUs read log-mel row by row and guess the row three steps ahead; what they hold in mind while doing so
are the features, and the guessing layer is thrown away. 3 layers of 512 are the report's 4 M weights.
Training is in `apc_train`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facetwin.policies import logmel, weights
from facetwin.twin.errors import FaceTwinError, UsageError

#: rows between the last one heard and the one that is guessed
AHEAD = 3


@dataclass(frozen=True)
class APCShape:
    """Sizes; they travel in the sidecar of the weights."""

    layers: int = 3
    width: int = 512

    def __post_init__(self) -> None:
        if min(self.layers, self.width) < 1:
            raise UsageError("layers and width are at least 1", where="APC", found=(self.layers, self.width))


class APC(nn.Module):
    """Rows of levelled log-mel (`speech_shape.standardised`) in, features out, causally."""

    def __init__(self, shape: APCShape) -> None:
        super().__init__()
        self.shape = shape
        self.width = shape.width
        self.gru = nn.GRU(logmel.BANDS, shape.width, shape.layers, batch_first=True)
        self.guess = nn.Linear(shape.width, logmel.BANDS)

    def forward(self, rows: Tensor) -> Tensor:
        """Guess of row t + 3 at row t: (B, R, 80) -> (B, R, 80)."""
        guess: Tensor = self.guess(self.gru(rows)[0])
        return guess

    @torch.no_grad()
    def hear(self, rows: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, R, 80) -> (B, R, width), -1..1, and the state after the last row."""
        features, state = self.gru(rows, state)
        return features, state

    def save(self, path: str | Path, sidecar: dict[str, Any]) -> None:
        """Write weights and sidecar."""
        tensors = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        weights.save_weights(path, tensors, {**sidecar, "model": "apc", "shape": asdict(self.shape)})

    @classmethod
    def load(cls, path: str | Path) -> APC:
        """From a weights file; raises one line for anything else."""
        tensors, sidecar = weights.load_weights(path)
        try:
            net = cls(APCShape(**sidecar["shape"]))
        except (KeyError, TypeError) as why:
            raise FaceTwinError(
                "not weights of an APC", where=path, found=f"sidecar without {why}", hint="facetwin train apc"
            ) from None
        expect = {name: tuple(value.shape) for name, value in net.state_dict().items()}
        weights.check_shapes(tensors, expect, path)
        net.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
        return net.eval()
