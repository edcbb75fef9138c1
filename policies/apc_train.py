"""Training of APC: guess the log-mel three rows ahead, mean absolute error, on any speech at hand.

Rows are levelled as the speech models hear them, and half of the crops are changed in voice, room, noise and
level (`augment`). The curve is the loss on recordings that training never sees; repeating the last row heard
is the baseline that a representation must beat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from facetwin.policies import augment, logmel, nonspeech
from facetwin.policies.apc import AHEAD, APC, APCShape
from facetwin.policies.speech_shape import Shape, standardised
from facetwin.twin.errors import FaceTwinError

#: how APC hears log-mel
HEARD = Shape(leveled=True)


@dataclass(frozen=True)
class APCTraining:
    """How APC is trained."""

    seconds: float = 240.0
    """Processor time."""
    steps: int = 100_000
    """The end, if processor time has not come to it before."""
    batch: int = 24
    rows: int = 200
    """Length of a crop, 20 ms each."""
    rate: float = 1e-3
    augment: float = 0.5
    held_out: float = 0.05
    """Share of the recordings that only measure."""
    seed: int = 0


def train_apc(
    recordings: Sequence[ArrayLike],
    shape: APCShape,
    options: APCTraining,
    report: Callable[[dict[str, float]], None] | None = None,
) -> tuple[APC, list[dict[str, float]]]:
    """APC and its curve: rows of step, seconds, train, held_out and repeat (the baseline), mean |error|.

    `recordings` are float [shape=(n,)] at 16 kHz. Errors are in units of 15 dB.
    """
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    rows = [torch.from_numpy(logmel.log_mel(sound, logmel.DEEP)) for sound in recordings]
    rows = [each for each in rows if len(each) > 2 * AHEAD]
    if len(rows) < 2:
        raise FaceTwinError("too few recordings for APC", found=len(rows), expected="at least 2")
    order = random.permutation(len(rows))
    aside = max(1, round(options.held_out * len(rows)))
    held, own = [rows[k] for k in order[:aside]], [rows[k] for k in order[aside:]]
    chance = np.array([len(each) for each in own], float)
    chance /= chance.sum()
    dice = torch.Generator().manual_seed(options.seed)
    bank = torch.stack([_crop(_noise(k), options.rows, random) for k in range(28)])

    def batch(source: Sequence[Tensor], picks: Sequence[int] | np.ndarray, share: float) -> Tensor:
        heard = torch.stack([_crop(source[k], options.rows, random) for k in picks])
        if share:
            chosen = torch.rand(len(heard), generator=dice) < share
            heard[chosen] = augment.vary(heard[chosen], bank, 1.0, dice)
        return torch.from_numpy(standardised(heard.clamp_min(logmel.DEEP).numpy(), HEARD))

    test = batch(held, random.integers(len(held), size=64), 0.0)
    net = APC(shape)
    optimizer = torch.optim.Adam(net.parameters(), options.rate)
    curve: list[dict[str, float]] = []
    losses: list[float] = []
    began, step, done = time.process_time(), 0, 0.0
    while True:
        if done * 20 >= len(curve):
            net.eval()
            with torch.no_grad():
                error = float(_error(net(test), test))
            row = {
                "done": min(1.0, done),
                "step": step,
                "seconds": round(time.process_time() - began, 1),
                "train": float(np.mean(losses)) if losses else float("nan"),
                "held_out": error,
                "repeat": float(_error(test, test)),
            }
            curve.append(row)
            losses = []
            if report is not None:
                report(row)
            if done >= 1:
                return net, curve
        net.train()
        x = batch(own, random.choice(len(own), options.batch, p=chance), options.augment)
        loss = _error(net(x), x)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1.0, (step + 1) / 20) * 0.5 * (1 + np.cos(np.pi * min(done, 1)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        step += 1
        done = max(step / options.steps, (time.process_time() - began) / options.seconds)


def _error(guess: Tensor, rows: Tensor) -> Tensor:
    return (guess[:, :-AHEAD] - rows[:, AHEAD:]).abs().mean()


def _crop(rows: Tensor, length: int, random: np.random.Generator) -> Tensor:
    """So many rows from anywhere, the floor behind a recording that is shorter."""
    if len(rows) < length:
        return torch.cat([rows, rows.new_full((length - len(rows), logmel.BANDS), logmel.DEEP)])
    at = int(random.integers(0, len(rows) - length + 1))
    return rows[at : at + length]


def _noise(number: int) -> Tensor:
    kinds = sorted(nonspeech.TRAINING)
    sound = nonspeech.sound(kinds[number % len(kinds)], 1000 + number, 5.0)
    return torch.from_numpy(logmel.log_mel(sound, logmel.DEEP))
