"""The nets of the fast skin, and their weights as its kernels take them (see `fast`)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

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


def mlp(inputs: int, hidden: int, outputs: int, layers: int = 2) -> nn.Sequential:
    """So many hidden layers of SiLU."""
    sizes = [inputs, *[hidden] * layers]
    inner = [module for pair in pairwise(sizes) for module in (nn.Linear(*pair), nn.SiLU())]
    return nn.Sequential(*inner, nn.Linear(hidden, outputs))


class FastNet(nn.Module):
    """Commands -> the right half of the face in S slots of vertices, gap and error.

    Slots are the vertices of the half face, block after block, each block padded to the largest. ``basis`` is
    (blocks, modes, 3 slots of a block), ``linear`` (F, blocks x modes) the linear skin in it, ``margins``
    (blocks x modes, L) and ``shut`` (L,) how far the lips' margins are apart at L places, in `GAP_SCALE`.
    """

    def __init__(
        self,
        features: Features,
        blocks: int,
        modes: int,
        slots: int,
        hidden: int,
        head: int,
        layers: int,
    ) -> None:
        super().__init__()
        m = len(features.motors)
        self.features = features
        self.shape = mlp(m, hidden, blocks * modes, layers)
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


def arrays(net: FastNet, rest: NDArray[np.floating]) -> tuple[Any, Any, NDArray[np.float32], Any]:
    """A net as the kernels take it: hidden layers, heads, the last layer (out, in) and the basis.

    ``rest`` (blocks, 3 slots), m, is where the slots are at rest: one mode more, whose coefficient is 1. The
    last layer takes the deepest units, the features and a one; it gives the coefficients, block after block,
    and the lips' margins.
    """
    *hidden, end = [m for m in net.shape.children() if isinstance(m, nn.Linear)]
    blocks, modes, _ = net.basis.shape
    last = torch.cat([end.weight.T, net.linear, end.bias[None]])  # (hidden + F + 1, blocks x modes)
    margins = last @ net.margins
    margins[-1] += net.shut
    one = torch.zeros(len(last), blocks, 1)
    one[-1] = 1
    last = torch.cat([torch.cat([last.view(-1, blocks, modes), one.to(last)], 2).flatten(1), margins], 1)
    basis = torch.cat([net.basis, torch.from_numpy(rest).to(net.basis)[:, None]], 1)
    heads = _layers(m for m in net.heads.children() if isinstance(m, nn.Linear))
    return _layers(hidden), heads, array(last.T), array(basis)


def flipped(layers: Any) -> Any:
    """Layers with weights (in, out)."""
    return tuple(np.ascontiguousarray(w.T) for w in layers[0]), layers[1]


def _layers(modules: Iterable[nn.Linear]) -> Any:
    pairs = [(array(m.weight), array(m.bias)) for m in modules]
    return tuple(w for w, _ in pairs), tuple(b for _, b in pairs)


def array(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor as a float32 array in C order."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
