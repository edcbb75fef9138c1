"""The speech model: sound to the displacement of lips, jaw and cheeks, causally, at 25 fps.

A small ensemble of networks, each: the last rows of log-mel -> displacement of the 63 points of `speech63`
from the talker's rest, in u. Their outputs are averaged. What a network is made of is in `speech_nets` (a
recurrent one, a convolutional one) and `audio2landmark` (the seeds' family, which may hear through `apc`).
Not here: head, eyes and brows (they do not come from sound), and the rest face itself, which a caller
adds. With look-ahead L, picture k, shown from k / 25 s on, is made of the sound up to k / 25 s + L.

Training is in `speech_train`, the file format in `weights`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from facetwin import assets
from facetwin.policies import logmel, weights
from facetwin.policies.apc import APC, APCShape
from facetwin.policies.audio2landmark import SliceNet
from facetwin.policies.speech_nets import ConvNet, SpeechNet, WholeNet
from facetwin.policies.speech_shape import FPS as FPS
from facetwin.policies.speech_shape import POINTS, ROWS, STEP, Shape, standardised, windows
from facetwin.twin.errors import FaceTwinError, UsageError

#: an offline model attends over so many pictures at once, and drops so many at inner edges
BLOCK, EDGE = 750, 50

Floats = NDArray[np.float32]


def make_net(shape: Shape, dropout: float = 0.0) -> nn.Module:
    """An untrained network of that shape."""
    conv = WholeNet if shape.offline else ConvNet
    return {"gru": SpeechNet, "conv": conv, "slice": SliceNet}[shape.net](shape, dropout)


class Ears:
    """Sound in pieces of any size in, what the networks of a shape hear out: rows of features.

    Log-mel, with the talker's running loudness taken out, put through APC where the shape has one. The
    silence before sample 0 that the first picture hears comes first.
    """

    def __init__(self, shape: Shape, apc: APC | None = None) -> None:
        self._shape, self._apc = shape, apc
        self._mel = logmel.LogMel(shape.floor)
        self._level = logmel.Level()
        self._state: Tensor | None = None
        self._begun = False

    def push(self, samples: ArrayLike) -> Tensor:
        """Rows that these samples complete: (R, features)."""
        rows = self._mel.push(samples)
        if not self._begun:
            history = np.full((self._shape.history, logmel.BANDS), self._shape.floor, np.float32)
            rows, self._begun = np.concatenate([history, rows]), True
        x = torch.from_numpy(standardised(rows, self._shape, self._level))
        if self._apc is None or not len(x):
            return x if self._apc is None else x.new_zeros((0, self._apc.width))
        y, self._state = self._apc.hear(x[None], self._state)
        return y[0]


class SpeechModel:
    """Ready to use: sound in, displacement out.

    Attributes
    ----------
    shape : Shape
    rest : float32 [shape=(63, 2), u], mouth of the talker it was trained on, shut and silent
    sidecar : dict, where the weights come from and what they scored
    """

    def __init__(
        self,
        shape: Shape,
        nets: Iterable[nn.Module],
        rest: ArrayLike,
        sidecar: dict[str, Any] | None = None,
        apc: APC | None = None,
    ) -> None:
        if (apc is None) != (shape.apc == (0, 0)):
            raise FaceTwinError(
                "shape and APC do not go together", found=shape.apc, expected=apc and apc.shape
            )
        self.shape = shape
        self.nets = [net.eval() for net in nets]
        self.apc = apc
        self.rest: Floats = np.asarray(rest, np.float32)
        self.sidecar = sidecar or {}

    @classmethod
    def load(cls, source: str | Path | int = 80) -> SpeechModel:
        """From a weights file, or the shipped weights of a look-ahead in ms."""
        path = cls.shipped(source) if isinstance(source, int) else Path(source)
        tensors, sidecar = weights.load_weights(path)
        try:
            shape = Shape(**{**sidecar["shape"], "apc": tuple(sidecar["shape"].get("apc", (0, 0)))})
            nets = [make_net(shape) for _ in range(shape.members)]
            apc = APC(APCShape(*shape.apc)) if shape.apc != (0, 0) else None
        except (KeyError, TypeError, UsageError) as why:
            raise FaceTwinError(
                "not weights of a speech model", where=path, found=f"sidecar without {why}", hint="train one"
            ) from None
        expect = {"rest": (POINTS, 2)}
        for k, net in enumerate(nets):
            expect |= {f"{k}.{name}": tuple(value.shape) for name, value in net.state_dict().items()}
        if apc is not None:
            expect |= {f"apc.{name}": tuple(value.shape) for name, value in apc.state_dict().items()}
        weights.check_shapes(tensors, expect, path)
        for k, net in enumerate(nets):
            net.load_state_dict({name: torch.from_numpy(tensors[f"{k}.{name}"]) for name in net.state_dict()})
        if apc is not None:
            apc.load_state_dict({name: torch.from_numpy(tensors[f"apc.{name}"]) for name in apc.state_dict()})
        return cls(shape, nets, tensors["rest"], sidecar, apc)

    @staticmethod
    def shipped(lookahead: int = 80, talkers: str = "one") -> Path:
        """Path of the shipped weights of a look-ahead in ms.

        `talkers`: "one" (GRID s1), "many" (s1 and 4,000 synthetic talkers; 80 ms only), or "offline" (as
        many, and the whole recording, whatever the look-ahead).
        """
        if talkers == "offline":
            return assets.path("weights", "speech_offline.safetensors")
        heard = {"one": "", "many": "many_"}[talkers]
        return assets.path("weights", f"speech_{heard}{lookahead}ms.safetensors")

    def save(self, path: str | Path, sidecar: dict[str, Any], *, half: bool = False) -> None:
        """Write weights and sidecar; ``half``: matrices in half precision, at half the size."""
        tensors: dict[str, NDArray[Any]] = {"rest": self.rest}
        for k, net in enumerate(self.nets):
            tensors |= {
                f"{k}.{name}": value.detach().cpu().numpy() for name, value in net.state_dict().items()
            }
        if self.apc is not None:
            tensors |= {
                f"apc.{name}": value.detach().numpy() for name, value in self.apc.state_dict().items()
            }
        if half:
            tensors = {
                k: v.astype(np.float16) if v.ndim > 1 and k != "rest" else v for k, v in tensors.items()
            }
        self.sidecar = {**sidecar, "shape": asdict(self.shape)}
        weights.save_weights(path, tensors, self.sidecar)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(p.numel() for net in (*self.nets, self.apc) if net is not None for p in net.parameters())

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
    """Sound in pieces of any size in, pictures out as soon as their look-ahead has been heard.

    An offline model's pictures come 30 s at a time, or all at the end.
    """

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self._face = torch.from_numpy(model.rest)[None]
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample is sample 0."""
        self._ears = Ears(self._model.shape, self._model.apc)
        self._rows = torch.zeros(0, self._model.shape.features)
        self._states: list[Any] = [None] * len(self._model.nets)
        self._heard = 0  # samples
        self._made = 0  # pictures
        self._skip = 0  # pictures at the beginning of `_rows` that were given out (offline)

    def push(self, samples: ArrayLike) -> Floats:
        """Pictures that these samples complete, float32 [shape=(k, 63, 2), u]; k may be 0."""
        samples = np.asarray(samples, np.float32)
        self._rows = torch.cat([self._rows, self._ears.push(samples)])
        self._heard += len(samples)
        return self._offline(EDGE) if self._model.shape.offline else self._advance()

    def finish(self) -> Floats:
        """The last pictures, whose look-ahead reaches beyond the end (silence follows)."""
        silence = np.zeros((self._model.shape.ahead + 3) * STEP, np.float32)
        self._rows = torch.cat([self._rows, self._ears.push(silence)])
        if not self._model.shape.offline:
            return self._advance()
        return np.concatenate([self._offline(EDGE), self._offline(0)])

    def _ready(self) -> int:
        """Pictures that what is held is enough for; none before its first sample."""
        begun = -(-self._heard // STEP) - self._made + self._skip
        return max(0, min((len(self._rows) - self._model.shape.context) // ROWS + 1, begun))

    def _advance(self) -> Floats:
        steps = self._ready()
        if not steps:
            return np.zeros((0, POINTS, 2), np.float32)
        out = self._answer(steps)
        self._rows = self._rows[steps * ROWS :]
        self._made += steps
        return out

    def _offline(self, edge: int) -> Floats:
        """Blocks of pictures, each with `EDGE` more on both sides where there are any; `edge` 0: the rest."""
        done = [np.zeros((0, POINTS, 2), np.float32)]
        while self._ready() >= (BLOCK if edge else self._skip + 1):
            steps = min(self._ready(), BLOCK)
            out = self._answer(steps)[self._skip : steps - edge]
            done.append(out)
            self._made += len(out)
            keep = max(0, steps - edge - EDGE)  # pictures to forget
            self._skip = steps - edge - keep
            self._rows = self._rows[keep * ROWS :]
            if not edge:
                break
        return np.concatenate(done)

    def _answer(self, steps: int) -> Floats:
        context = self._model.shape.context
        with torch.inference_mode():
            x = windows(self._rows[None, : context + (steps - 1) * ROWS], context)  # (1, steps, ·)
            total = torch.zeros(steps, POINTS, 2)
            for k, net in enumerate(self._model.nets):
                y, self._states[k] = net(x, self._states[k], self._face)
                total += y[0]
            total *= self._model.shape.gain / len(self._model.nets)
        return total.numpy()
