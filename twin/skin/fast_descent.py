"""Descent for the nets of the fast skin: one cycle of AdamW. Not here: what they learn (`fast_train`)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

#: added to a block's squared error, in the goals' variance: below it the loss is no length but a square
SOFT = 1e-4


def regress(
    net: nn.Sequential,
    inputs: Tensor,
    goals: Tensor,
    blocks: int,
    *,
    steps: int,
    batch: int,
    rate: float,
    decay: float,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Fit an `mlp` to goals [shape=(n, blocks x modes)] of inputs [shape=(n, m)], float32, in place.

    The loss is the length of the error in each block, not its square: snapped folds must not rule the fit.
    The gradient is written out: for nets this small autograd takes as long as the arithmetic. Random numbers
    are torch's.
    """
    steps = max(steps, 20)
    linears = [m for m in net.children() if isinstance(m, nn.Linear)]
    sizes = [(m.weight.numel(), m.bias.numel()) for m in linears]
    flat = torch.cat([a.detach().ravel() for m in linears for a in (m.weight, m.bias)])
    flat.grad = torch.zeros_like(flat)
    pieces = [size for pair in sizes for size in pair]

    def layers(values: Tensor) -> list[tuple[Tensor, Tensor]]:
        cut = values.split(pieces)
        return [(w.view_as(m.weight), b) for m, w, b in zip(linears, cut[::2], cut[1::2])]

    weights, slopes = layers(flat), layers(flat.grad)
    optimiser = torch.optim.AdamW([flat], rate, weight_decay=decay, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    queue: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for _ in range(steps):
            if not queue:
                order = torch.randperm(len(inputs))
                size = min(batch, len(inputs))
                queue = list(zip(inputs[order].split(size), goals[order].split(size)))
            a, goal = queue.pop()
            before, sums = [], []
            for i, (w, b) in enumerate(weights):
                before.append(a)
                sums.append(torch.addmm(b, a, w.T))
                a = nn.functional.silu(sums[-1]) if i + 1 < len(weights) else sums[-1]
            off = a.sub_(goal).view(len(goal), blocks, -1)
            long = off.square().sum(-1, keepdim=True).add_(SOFT).sqrt_()
            slope = off.div_(long.mul_(len(goal) * blocks)).view(len(goal), -1)
            for i in range(len(weights) - 1, -1, -1):
                torch.mm(slope.T, before[i], out=slopes[i][0])
                torch.sum(slope, 0, out=slopes[i][1])
                if i:
                    slope = torch.ops.aten.silu_backward(slope @ weights[i][0], sums[i - 1])
            optimiser.step()
            schedule.step()
            progress()
        for module, (w, b) in zip(linears, weights):
            module.weight.copy_(w)
            module.bias.copy_(b)


def descend(
    net: nn.Module,
    inputs: Tensor,
    goals: Tensor,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    steps: int,
    batch: int,
    rate: float,
    decay: float,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """As `regress`, for any net and any ``loss`` of what it says, the goals and the rows they are of."""
    steps = max(steps, 20)
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    rows: list[Tensor] = []
    for _ in range(steps):
        if not rows:
            rows = list(torch.randperm(len(inputs)).split(min(batch, len(inputs))))
        pick = rows.pop()
        value = loss(net(inputs[pick]), goals[pick], pick).mean()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        progress()
