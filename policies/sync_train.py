"""Training of `sync_net`: of all lags, and of another clip's lips, pick those that belong to the sound.

Loss: cross entropy over the correlations at lags within 400 ms and, as wrong answers, another clip's, minus
the correlation at lag 0. Augmentation as for the speech model: voice, room, noise, codec (`augment`), and
other pitches of the sound itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetwin.policies import augment, logmel
from facetwin.policies.av_offset import MOST, lip_speed
from facetwin.policies.dataset import Clip
from facetwin.policies.sync_net import ROWS, SyncNet, curves
from facetwin.twin.errors import FaceTwinError

PITCHES = (0.8, 1.0, 1.25)


@dataclass(frozen=True)
class Training:
    """Options of a training run."""

    epochs: int = 25
    batch: int = 32
    seconds: float = 2.2
    """Length of what a step hears of a clip."""
    rate: float = 4e-3
    dropout: float = 0.2
    sharpness: float = 14.0
    """Correlations times this are the logits."""
    augment: float = 0.5
    """How often voice, room and noise are changed."""
    seed: int = 0


@dataclass(frozen=True)
class Material:
    """Clips made ready: log-mel by pitch, and speed of the lips, of equal length each."""

    rows: list[list[Tensor]]
    speeds: list[Tensor]

    @classmethod
    def of(cls, clips: Sequence[Clip], pitches: Sequence[float] = PITCHES) -> Material:
        """From clips at 25 fps."""
        rows, speeds = [], []
        for clip in clips:
            voices = [
                logmel.log_mel(clip.samples)
                if pitch == 1
                else logmel.other_voice(clip.samples, pitch, logmel.FLOOR)
                for pitch in pitches
            ]
            rows.append([torch.from_numpy(voice) for voice in voices])
            speeds.append(torch.from_numpy(lip_speed(clip.landmarks, np.arange(len(clip)) / 25)))
        return cls(rows, speeds)

    def batch(
        self, chosen: NDArray[np.intp], length: int, random: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """A piece of each clip: (B, length, 80) in dB, (B, length)."""
        heard, seen = [], []
        for k in chosen:
            voice = self.rows[k][int(random.integers(len(self.rows[k])))]
            start = int(random.integers(min(len(voice), len(self.speeds[k])) - length + 1))
            heard.append(voice[start : start + length])
            seen.append(self.speeds[k][start : start + length])
        return torch.stack(heard), torch.stack(seen)


def train(
    clips: Sequence[Clip],
    training: Training | None = None,
    *,
    report: Callable[[int, float], None] | None = None,
) -> SyncNet:
    """A net from clips of people, or synthetic ones, whose sound fits their lips; `report` (epoch, loss)."""
    t = training or Training()
    torch.manual_seed(t.seed)
    random = np.random.default_rng(t.seed)
    dice = torch.Generator().manual_seed(t.seed)
    length = round(t.seconds * ROWS)
    usable = [clip for clip in clips if len(clip) * 2 >= length and clip.seen.all()]
    if len(usable) < 2 * t.batch:
        raise FaceTwinError(
            "too few clips to train on", found=len(usable), expected=f"{2 * t.batch} of {t.seconds} s or more"
        )
    material = Material.of(usable)
    net = SyncNet(dropout=t.dropout)
    steps = len(usable) // t.batch
    optimiser = torch.optim.AdamW(net.parameters(), t.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, t.rate, total_steps=max(2, t.epochs * steps))
    lags = torch.arange(-MOST, MOST + 1)
    near = torch.softmax(-0.5 * lags**2, 0)  # clips are not known to be in step to a row
    for epoch in range(t.epochs):
        order = random.permutation(len(usable))
        total = 0.0
        for k in range(steps):
            rows, seen = material.batch(order[k * t.batch : (k + 1) * t.batch], length, random)
            heard = net(augment.vary(rows, rows.roll(1, 0), t.augment, dice))
            own, other = curves(heard, seen, MOST), curves(heard, seen.roll(1, 0), MOST)  # (B, lags)
            logits = torch.log_softmax(torch.cat([own, other], 1) * t.sharpness, 1)
            loss = -(near * logits[:, : len(lags)]).sum(1).mean() - own[:, MOST].mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
        if report is not None:
            report(epoch, total / steps)
    return net.eval()
