"""The same speech by another voice, in another room, through another microphone: changes of log-mel.

All work on batches of rows in dB, float32 [shape=(B, R, 80)] of 20 ms each, and draw from a torch
generator. What the lips do is the same after any of them. Pitch is changed in the sound itself
(`logmel.other_voice`), tempo where clips are put together (`speech_train`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from facetwin.policies.logmel import BANDS


def vary(rows: Tensor, sounds: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Any of the changes below by chance, the more the larger `share`; `sounds` (N, R, 80) may be behind."""
    rows = rows.clone()

    def change(how: Callable[[Tensor, int], Tensor], part: float) -> None:
        chosen = (torch.rand(len(rows), generator=random) < part * share).nonzero()[:, 0]
        if len(chosen):
            rows[chosen] = how(rows[chosen], len(chosen))

    def some(low: float, high: float, n: int) -> Tensor:
        return _uniform(n, low, high, random)

    change(lambda x, n: tract(x, some(0.84, 1.19, n)), 0.8)
    change(lambda x, n: whisper(x, random), 0.12)
    change(lambda x, n: room(x, some(0.15, 0.7, n), some(-16, -5, n)), 0.35)
    change(lambda x, n: colour(x, random), 0.7)
    change(lambda x, n: behind(x, sounds, some(6, 30, n), random), 0.3)
    change(lambda x, n: behind(x, hiss(x.shape[1], n, random), some(3, 35, n), random), 0.5)
    change(lambda x, n: codec(x, random), 0.25)
    change(lambda x, n: x + some(-32, 12, n), 1.0)
    return rows


def tract(rows: Tensor, factor: Tensor) -> Tensor:
    """Another length of the vocal tract: frequencies times `factor` (B, 1, 1)."""
    mel = torch.linspace(_mel(90.0), _mel(7600.0), BANDS)
    at = _mel_of(_hertz_of(mel) / factor[:, 0]) - mel[0]  # (B, 80): where band k comes from
    at = (at / (mel[1] - mel[0])).clamp(0, BANDS - 1)
    low = at.floor().long().clamp_max(BANDS - 2)
    part = (at - low)[:, None]  # (B, 1, 80)
    low = low[:, None].expand_as(rows)
    return rows.gather(2, low) * (1 - part) + rows.gather(2, low + 1) * part


def whisper(rows: Tensor, random: torch.Generator) -> Tensor:
    """No voice: low bands gone, the tilt of a breath, the flicker of noise."""
    at = torch.linspace(0, 1, BANDS)
    tilt = -25 * (1 - at * 6).clamp_min(0) + 12 * at - 12
    return rows + tilt + _flicker(rows.shape, random)


def room(rows: Tensor, seconds: Tensor, level: Tensor) -> Tensor:
    """Reverberation that has fallen by 60 dB after `seconds`, beginning at `level` dB (B, 1, 1)."""
    keep = 10 ** (-6 * 0.02 / seconds[:, 0])  # (B, 1), power a row
    power = _power(rows)
    tail = torch.zeros_like(power[:, 0])
    late = torch.empty_like(power)
    for k in range(rows.shape[1]):
        late[:, k] = tail
        tail = keep * tail + (1 - keep) * power[:, k]
    return _decibels(power + late * 10 ** (level / 10))


def colour(rows: Tensor, random: torch.Generator) -> Tensor:
    """A microphone's or a loudspeaker's response: a smooth curve of some dB."""
    knots = torch.randn((len(rows), 1, 6), generator=random) * 4
    return rows + torch.nn.functional.interpolate(knots, BANDS, mode="linear", align_corners=True)


def behind(rows: Tensor, sounds: Tensor, below: Tensor, random: torch.Generator) -> Tensor:
    """Another sound so many dB below the speech's loud rows (B, 1, 1)."""
    pick = torch.randint(len(sounds), (len(rows),), generator=random)
    other = sounds[pick]
    times = -(-rows.shape[1] // other.shape[1])
    other = other.repeat(1, times, 1)[:, : rows.shape[1]]
    loud = _power(rows).mean(2).quantile(0.9, dim=1)[:, None, None]
    own = _power(other).mean((1, 2), keepdim=True)
    return _decibels(_power(rows) + _power(other) * (loud / own.clamp_min(1e-12)) * 10 ** (-below / 10))


def hiss(rows: int, count: int, random: torch.Generator) -> Tensor:
    """Steady noise of any tilt: (count, rows, 80) dB."""
    tilt = _uniform(count, -30, 12, random) * torch.linspace(0, 1, BANDS)
    return tilt + _flicker((count, rows, BANDS), random)


def codec(rows: Tensor, random: torch.Generator) -> Tensor:
    """A telephone or a stingy codec: no highs, perhaps no lows, steps of some dB."""
    band = torch.arange(BANDS)
    high = _uniform(len(rows), 50, 78, random)
    low = _uniform(len(rows), -8, 8, random)
    gone = (band > high) | (band < low)  # (B, 1, 80)
    step = _uniform(len(rows), 0.5, 4, random)
    return torch.where(gone, rows - 45, torch.round(rows / step) * step)


def _uniform(count: int, low: float, high: float, random: torch.Generator) -> Tensor:
    return torch.rand((count, 1, 1), generator=random) * (high - low) + low


def _flicker(shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    """By how much short windows of steady noise differ, dB: narrow bands flicker more."""
    lines = torch.linspace(1.2, 8, BANDS)  # of the spectrum in a band
    return torch.randn(shape, generator=random) * 5.6 / lines.sqrt()


def _power(rows: Tensor) -> Tensor:
    return torch.exp(rows * 0.2302585)


def _decibels(power: Tensor) -> Tensor:
    return 4.3429448 * torch.log(power.clamp_min(1e-12))


def _mel(hertz: float) -> float:
    return float(_mel_of(torch.tensor(hertz)))


def _mel_of(hertz: Tensor) -> Tensor:
    """Slaney's scale, as `logmel` has it: linear to 1 kHz, then logarithmic."""
    return torch.where(hertz < 1000, hertz / 66.6667, 15 + torch.log(hertz.clamp_min(1e-6) / 1000) * 14.5449)


def _hertz_of(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * 66.6667, 1000 * torch.exp((mel - 15) / 14.5449))
