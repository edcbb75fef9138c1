"""The nets of the fast skin, and their work on batches in memory that is kept (see `fast`)."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facetwin.twin.skin.fast_features import Features

#: m; the gap is the widest place between the lips' margins plus sinh of what the head says, in this unit
GAP_SCALE = 1e-3
#: places on a half mouth where the margins are compared
LIPS = 5
#: m, error that the head gives as 0
ERROR_SCALE = 1e-4


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of SiLU."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
    )


class FastNet(nn.Module):
    """Commands -> the right half of the face in S slots of vertices, gap and error.

    Slots are the vertices of the half face, block after block, each block padded to the largest. ``basis`` is
    (blocks, modes, 3 slots of a block), ``linear`` (F, blocks x modes) the linear skin in it, ``margins``
    (blocks x modes, L) and ``shut`` (L,) how far the lips' margins are apart at L places, in `GAP_SCALE`.
    """

    def __init__(
        self, features: Features, blocks: int, modes: int, slots: int, hidden: int, head: int
    ) -> None:
        super().__init__()
        m = len(features.motors)
        self.features = features
        self.shape = mlp(m, hidden, blocks * modes)
        self.heads = mlp(m + 2 * LIPS, head, 2)
        self.basis: Tensor
        self.linear: Tensor
        self.margins: Tensor
        self.shut: Tensor
        self.register_buffer("basis", torch.zeros(blocks, modes, 3 * slots))
        self.register_buffer("linear", torch.zeros(features.count, blocks * modes))
        self.register_buffer("margins", torch.zeros(blocks * modes, LIPS))
        self.register_buffer("shut", torch.zeros(LIPS))
        self._mirror: Tensor
        self.register_buffer("_mirror", torch.from_numpy(features.mirror), persistent=False)

    def both(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (2 B, m) and features (2 B, F) of the poses, then of their mirror images."""
        x = 2 * position[:, self.features._motors] - 1
        return self.features.of_inputs(torch.cat([x, x[:, self._mirror]]))

    def coefficients(self, x: Tensor, features: Tensor) -> Tensor:
        """Coefficients of the bases, (2 B, blocks x modes)."""
        return torch.addmm(self.shape(x), features, self.linear)

    def halves(self, coefficients: Tensor) -> Tensor:
        """Displacements of the half face, (blocks, 2 B, 3 slots), m."""
        blocks, modes, _ = self.basis.shape
        return torch.bmm(coefficients.view(-1, blocks, modes).transpose(0, 1), self.basis)

    def told(self, x: Tensor, coefficients: Tensor) -> Tensor:
        """What the heads are told, (2 B, m + 2 L): inputs, and the margins of the lips on both sides."""
        margins = torch.addmm(self.shut, coefficients, self.margins)  # (2 B, L)
        return torch.cat([x, margins, margins.roll(len(x) // 2, 0)], 1)

    def say(self, x: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Gap and expected error in m, (B,) each: what a pose and its mirror image say, in the middle."""
        told = self.told(x, coefficients)
        out = self.heads(told)  # (2 B, 2)
        out = out.view(2, -1, 2).mean(0)
        widest = told[: len(out), -2 * LIPS :].amax(1)
        return GAP_SCALE * (widest + torch.sinh(out[:, 0])), ERROR_SCALE * torch.exp(out[:, 1])


class Scratch:
    """A net's work on chunks of poses in memory that is kept: fresh memory costs as much as the work."""

    def __init__(self, net: FastNet, rows: int) -> None:
        self.rows = rows
        self._net = net
        (self._first, self._second, (last, self._bias)), self._heads = (
            _linears(net.shape),
            _linears(net.heads),
        )
        self._last = torch.cat([last, net.linear])  # the features go in beside the deepest units
        blocks, modes, wide = net.basis.shape
        m, hidden = self._first[0].shape
        sizes = {
            "x": m, "first": hidden, "deep": hidden + net.features.count, "z": blocks * modes, "apart": LIPS,
            "told": m + 2 * LIPS, "one": len(self._heads[0][1]), "two": len(self._heads[1][1]), "said": 2,
            "halves": blocks * wide,
        }  # fmt: skip
        self._all = {name: torch.empty(rows, size) for name, size in sizes.items()}
        self._cut: dict[int, SimpleNamespace] = {}

    def of(self, rows: int) -> SimpleNamespace:
        """The buffers for so many rows."""
        if rows not in self._cut:
            cut = SimpleNamespace(**{name: buffer[:rows] for name, buffer in self._all.items()})
            cut.halves = cut.halves.reshape(len(self._net.basis), rows, -1)
            if len(self._cut) > 8:
                self._cut.clear()
            self._cut[rows] = cut
        return self._cut[rows]

    def shape(self, b: SimpleNamespace) -> None:
        """From inputs and features to halves and margins."""
        net, hidden = self._net, len(self._first[1])
        _layer(b.x, self._first, b.first, silu=True)
        second = torch.addmm(self._second[1], b.first, self._second[0])
        b.deep[:, :hidden] = nn.functional.silu(second, inplace=True)
        torch.addmm(self._bias, b.deep, self._last, out=b.z)
        torch.addmm(net.shut, b.z, net.margins, out=b.apart)
        blocks, modes, _ = net.basis.shape
        torch.bmm(b.z.view(-1, blocks, modes).transpose(0, 1), net.basis, out=b.halves)

    def heads(self, b: SimpleNamespace) -> None:
        """What the heads say of what they are told."""
        _layer(b.told, self._heads[0], b.one, silu=True)
        _layer(b.one, self._heads[1], b.two, silu=True)
        _layer(b.two, self._heads[2], b.said)


def _linears(net: nn.Module) -> list[tuple[Tensor, Tensor]]:
    # Weight (in, out) and bias of each layer of an `mlp`.
    return [(layer.weight.T, layer.bias) for layer in net.children() if isinstance(layer, nn.Linear)]


def _layer(x: Tensor, layer: tuple[Tensor, Tensor], out: Tensor, silu: bool = False) -> None:
    torch.addmm(layer[1], x, layer[0], out=out)
    if silu:
        nn.functional.silu(out, inplace=True)


def layers(net: nn.Module) -> tuple[NDArray[np.float32], ...]:
    """Weights (in, out) and biases (1, out) of the layers of an `mlp`, for the kernels."""
    return tuple(array(a) for weight, bias in _linears(net) for a in (weight, bias[None]))


def array(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor as a float32 array in C order."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
