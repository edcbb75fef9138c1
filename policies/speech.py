"""The speech model: sound to the displacement of lips, jaw and cheeks, causally, at 25 fps.

A small ensemble of recurrent networks, each: the last 200 ms of log-mel -> two linear layers -> GRU ->
displacement of the 63 points of `speech63` from the talker's rest, in u. Its outputs are averaged.
Not here: head, eyes and brows (they do not come from sound), and the rest face itself, which a caller
adds. With look-ahead L, picture k, shown from k / 25 s on, is made of the sound up to k / 25 s + L.

Training is in `speech_train`, the file format in `weights`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from facetwin import assets
from facetwin.policies import logmel, weights
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import indices

FPS = 25
#: samples of sound a picture
STEP = logmel.RATE // FPS
ROWS = STEP // logmel.HOP
POINTS = len(indices("speech63"))
#: log-mel is shifted and scaled by these before the network, dB
CENTRE, SPREAD = -55.0, 20.0
#: the network's outputs are in units of this, u
SCALE = 0.05
LOOKAHEADS = (0, 40, 80)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Sizes of the ensemble; they travel in the sidecar of the weights."""

    lookahead: int = 80
    """Sound known beyond a picture's time, ms: 0, 40 or 80."""
    members: int = 1
    hidden: int = 192
    layers: int = 2
    context: int = 10
    """Rows of log-mel (20 ms each) that a step sees at once."""
    front: int = 160

    def __post_init__(self) -> None:
        if self.lookahead not in LOOKAHEADS:
            raise UsageError("no such look-ahead", found=self.lookahead, expected="0, 40 or 80 ms")

    @property
    def ahead(self) -> int:
        """Look-ahead in pictures."""
        return self.lookahead * FPS // 1000


class SpeechNet(nn.Module):
    """One member. Input: windows of log-mel; output: displacement in u."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Linear(shape.context * logmel.BANDS, shape.front),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(shape.front, shape.front),
            nn.GELU(),
            nn.Dropout(dropout),
        )
        self.gru = nn.GRU(
            shape.front,
            shape.hidden,
            shape.layers,
            batch_first=True,
            dropout=dropout if shape.layers > 1 else 0,
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(shape.hidden, POINTS * 2))

    def forward(self, windows: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, context * 80) -> (B, T, 63, 2) in u, and the state after the last step."""
        x = self.front(windows)  # (B, T, front)
        x, state = self.gru(x, state)  # (B, T, hidden)
        return self.head(x).unflatten(-1, (POINTS, 2)) * SCALE, state


def windows(rows: Tensor, context: int) -> Tensor:
    """Log-mel in dB (B, R, 80) to network input (B, (R - context) // 2 + 1, context * 80), one a picture.

    The caller puts the history (or silence) of `context` - 2 rows in front.
    """
    x = (rows - CENTRE) / SPREAD
    x = x.unfold(1, context, ROWS)  # (B, T, 80, context)
    return x.transpose(2, 3).flatten(2)  # (B, T, context * 80)


class SpeechModel:
    """Ready to use: sound in, displacement out.

    Attributes
    ----------
    shape : Shape
    rest : float32 [shape=(63, 2), u], mouth of the talker it was trained on, shut and silent
    sidecar : dict, where the weights come from and what they scored
    """

    def __init__(
        self, shape: Shape, nets: Iterable[SpeechNet], rest: ArrayLike, sidecar: dict[str, Any] | None = None
    ) -> None:
        self.shape = shape
        self.nets = [net.eval() for net in nets]
        self.rest: Floats = np.asarray(rest, np.float32)
        self.sidecar = sidecar or {}

    @classmethod
    def load(cls, source: str | Path | int = 80) -> SpeechModel:
        """From a weights file, or the shipped weights of a look-ahead in ms."""
        path = (
            assets.path("weights", f"speech_{source}ms.safetensors")
            if isinstance(source, int)
            else Path(source)
        )
        tensors, sidecar = weights.load_weights(path)
        try:
            shape = Shape(**sidecar["shape"])
            nets = [SpeechNet(shape) for _ in range(shape.members)]
        except (KeyError, TypeError) as why:
            raise FaceTwinError(
                "not weights of a speech model", where=path, found=f"sidecar without {why}", hint="train one"
            ) from None
        expect = {"rest": (POINTS, 2)}
        for k, net in enumerate(nets):
            expect |= {f"{k}.{name}": tuple(value.shape) for name, value in net.state_dict().items()}
        weights.check_shapes(tensors, expect, path)
        for k, net in enumerate(nets):
            net.load_state_dict({name: torch.from_numpy(tensors[f"{k}.{name}"]) for name in net.state_dict()})
        return cls(shape, nets, tensors["rest"], sidecar)

    @staticmethod
    def shipped(lookahead: int = 80) -> Path:
        """Path of the shipped weights of a look-ahead in ms."""
        return assets.path("weights", f"speech_{lookahead}ms.safetensors")

    def save(self, path: str | Path, sidecar: dict[str, Any]) -> None:
        """Write weights and sidecar."""
        tensors: dict[str, NDArray[Any]] = {"rest": self.rest}
        for k, net in enumerate(self.nets):
            tensors |= {
                f"{k}.{name}": value.detach().cpu().numpy() for name, value in net.state_dict().items()
            }
        self.sidecar = {**sidecar, "shape": asdict(self.shape)}
        weights.save_weights(path, tensors, self.sidecar)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for net in self.nets for p in net.parameters())

    def __call__(self, samples: ArrayLike) -> Floats:
        """Displacement for a whole recording: float [shape=(n,)], 16 kHz -> float32 [shape=(T, 63, 2), u].

        T = ceil(n / 640): a picture begins with every 40 ms of sound.
        """
        samples = np.asarray(samples, np.float32)
        stepper = self.stream()
        pieces = [
            stepper.push(samples[k : k + 30 * logmel.RATE]) for k in range(0, len(samples), 30 * logmel.RATE)
        ]
        return np.concatenate([*pieces, stepper.finish()])

    def stream(self) -> SpeechStream:
        """The same, fed in pieces; equal to the whole to rounding."""
        return SpeechStream(self)

    def iterate(self, chunks: Iterable[ArrayLike]) -> Iterator[Floats]:
        """Displacement of chunk after chunk of sound, in bounded memory."""
        stepper = self.stream()
        for chunk in chunks:
            out = stepper.push(chunk)
            if len(out):
                yield out
        out = stepper.finish()
        if len(out):
            yield out


class SpeechStream:
    """Sound in pieces of any size in, pictures out as soon as their look-ahead has been heard."""

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample is sample 0."""
        shape = self._model.shape
        self._mel = logmel.LogMel()
        history = shape.context - ROWS * shape.ahead  # rows of silence before sample 0 that picture 0 hears
        self._rows = np.full((history, logmel.BANDS), logmel.FLOOR, np.float32)
        self._states: list[Tensor | None] = [None] * len(self._model.nets)
        self._heard = 0  # samples
        self._made = 0  # pictures

    def push(self, samples: ArrayLike) -> Floats:
        """Pictures that these samples complete, float32 [shape=(k, 63, 2), u]; k may be 0."""
        samples = np.asarray(samples, np.float32)
        self._heard += len(samples)
        return self._advance(self._mel.push(samples))

    def finish(self) -> Floats:
        """The last pictures, whose look-ahead reaches beyond the end (silence follows)."""
        missing = -(-self._heard // STEP) - self._made
        return self._advance(self._mel.push(np.zeros((missing + 3) * STEP, np.float32)))

    def _advance(self, rows: Floats) -> Floats:
        context = self._model.shape.context
        held = np.concatenate([self._rows, rows])
        begun = -(-self._heard // STEP)  # no picture before its first sample
        steps = min((len(held) - context) // ROWS + 1, begun - self._made)
        self._rows = held[max(0, steps) * ROWS :]
        if steps <= 0:
            return np.zeros((0, POINTS, 2), np.float32)
        with torch.inference_mode():
            x = windows(
                torch.from_numpy(held[None, : context + (steps - 1) * ROWS]), context
            )  # (1, steps, ·)
            total = torch.zeros(steps, POINTS, 2)
            for k, net in enumerate(self._model.nets):
                y, self._states[k] = net(x, self._states[k])
                total += y[0]
        self._made += steps
        return (total / len(self._model.nets)).numpy()
