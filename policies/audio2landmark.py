"""Audio2Landmark (Wang 2022, section 2.4): a slice of sound and the static face to displacement.

Around each picture a slice of features (log-mel, or APC's) is squeezed into one vector, by three LSTM
layers (the state at its end) or by its mean, maximum or sum. Without attention, three hidden layers with
batch norm turn that vector and the static face into displacement. With it, two do, after Luong attention
over the last second (causal) or one transformer layer of 16 heads over the whole clip (offline).

Two things differ from the report: widths are an option (it has 256 for the LSTM and 512 for APC), and APC
hears the recording once from its beginning, not every slice anew, which is what a stream can do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from facetwin.policies.speech_shape import POINTS, SCALE, Shape

#: pictures that Luong attention looks back over, the present one included
SPAN = 25
HEADS = 16


class SliceNet(nn.Module):
    """One member of the family; which one is said by pool, attention and standard of its shape."""

    mean: Tensor
    spread: Tensor

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        wide = shape.hidden
        self.squeeze: nn.Module
        if shape.pool == "lstm":
            self.squeeze = nn.LSTM(shape.features, wide, shape.layers, batch_first=True)
        else:
            self.squeeze = nn.Linear(shape.features, wide)
        if shape.attention == "luong":
            self.score = nn.Linear(wide, wide, bias=False)
            self.join = nn.Linear(2 * wide, wide)
        if shape.attention == "transformer":
            self.encoder = nn.TransformerEncoderLayer(wide, HEADS, 2 * wide, dropout, batch_first=True)
        layers: list[nn.Module] = []
        size = wide + POINTS * 2
        for _ in range(3 if shape.attention == "none" else 2):
            layers += [nn.Linear(size, wide), nn.ReLU(), nn.BatchNorm1d(wide), nn.Dropout(dropout)]
            size = wide
        self.head = nn.Sequential(*layers, nn.Linear(wide, POINTS * 2))
        self.register_buffer("mean", torch.zeros(POINTS, 2))
        self.register_buffer("spread", torch.full((POINTS, 2), SCALE))

    def standardise(self, mean: Tensor, spread: Tensor) -> None:
        """Set what the outputs are multiplied by and added to, u [shape=(63, 2)]."""
        self.mean.copy_(mean)
        self.spread.copy_(spread)

    def forward(
        self, windows: Tensor, state: Tensor | None = None, face: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Windows (B, T, context * F) and static face (B, 63, 2) -> (B, T, 63, 2) in u, and the state."""
        count, steps, _ = windows.shape
        slices = windows.reshape(count * steps, self.shape.context, self.shape.features)
        x = self._squeezed(slices).view(count, steps, -1)  # (B, T, hidden)
        if self.shape.attention == "luong":
            x, state = self._luong(x, state)
        if self.shape.attention == "transformer":
            x = self.encoder(x + _positions(steps, x.shape[-1]))
        static = windows.new_zeros((count, POINTS, 2)) if face is None else face
        joined = torch.cat([x, static.flatten(1)[:, None].expand(-1, steps, -1)], -1)
        out = self.head(joined.flatten(0, 1)).view(count, steps, POINTS, 2)
        return out * self.spread + self.mean, state

    def _squeezed(self, slices: Tensor) -> Tensor:
        """(N, context, F) -> (N, hidden)."""
        if self.shape.pool == "lstm":
            squeezed: Tensor = self.squeeze(slices)[0][:, -1]
            return squeezed
        x = torch.relu(self.squeeze(slices))
        if self.shape.pool == "mean":
            return x.mean(1)
        return x.amax(1) if self.shape.pool == "max" else x.sum(1)

    def _luong(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Global attention with the general score (Luong et al. 2015) over the last `SPAN` slices."""
        past = x.new_zeros((len(x), SPAN - 1, x.shape[-1])) if state is None else state
        long = torch.cat([past, x], 1)  # (B, SPAN - 1 + T, hidden)
        keys = long.unfold(1, SPAN, 1)  # (B, T, hidden, SPAN)
        weight = torch.softmax(torch.einsum("bth,bths->bts", self.score(x), keys) / x.shape[-1] ** 0.5, -1)
        context = torch.einsum("bts,bths->bth", weight, keys)
        return torch.tanh(self.join(torch.cat([context, x], -1))), long[:, 1 - SPAN :]


def _positions(steps: int, width: int) -> Tensor:
    """Absolute positions as sines and cosines (Vaswani et al. 2017): (steps, width)."""
    at = torch.arange(steps)[:, None]
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.cat([torch.sin(at * rate), torch.cos(at * rate)], -1)[:, :width]
