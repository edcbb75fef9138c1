"""What a speech model is made of, and its input: sizes, the features of sound, windows of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from facetwin.policies import logmel
from facetwin.twin.errors import UsageError
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
NETS = ("gru", "conv", "slice")
POOLS = ("lstm", "mean", "max", "sum")
ATTENTIONS = ("none", "luong", "transformer")
ATTENTIVE = (("slice", "luong"), ("slice", "transformer"), ("conv", "transformer"))

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Kind and sizes of the ensemble; they travel in the sidecar of the weights."""

    lookahead: int = 80
    """Sound known beyond a picture's time, ms: 0, 40 or 80."""
    members: int = 1
    hidden: int = 192
    layers: int = 2
    context: int = 10
    """Rows of log-mel (20 ms each) that a step sees at once."""
    front: int = 160
    net: str = "gru"
    """gru, conv (`speech_nets`) or slice (`audio2landmark`)."""
    leveled: bool = False
    """The talker's running loudness is taken out of the log-mel (`logmel.Level`)."""
    apc: tuple[int, int] = (0, 0)
    """Layers and width of the APC that the networks hear through; (0, 0): none."""
    pool: str = "lstm"
    """How a slice becomes one vector: lstm (its last state), mean, max or sum."""
    attention: str = "none"
    """Over slices: none, luong (the last second) or transformer (the whole clip, also after convolutions)."""
    standard: bool = False
    """Each coordinate's displacement is standardised over the training data."""
    gain: float = 1.0
    """Opening gain: what displacements are multiplied by in the end."""

    def __post_init__(self) -> None:
        if self.lookahead not in LOOKAHEADS:
            raise UsageError("no such look-ahead", found=self.lookahead, expected="0, 40 or 80 ms")
        for name, known in (("net", NETS), ("pool", POOLS), ("attention", ATTENTIONS)):
            if getattr(self, name) not in known:
                raise UsageError(f"no such {name}", found=getattr(self, name), expected=", ".join(known))
        if self.attention != "none" and (self.net, self.attention) not in ATTENTIVE:
            raise UsageError(f"no {self.attention} attention in this net", found=self.net,
                             expected=", ".join(f"{net} with {how}" for net, how in ATTENTIVE))  # fmt: skip
        if self.context < 2 * self.ahead:
            raise UsageError(
                "slices end before they begin", found=self.context, expected=f">= {self.history}"
            )

    @property
    def ahead(self) -> int:
        """Look-ahead in pictures."""
        return self.lookahead * FPS // 1000

    @property
    def history(self) -> int:
        """Rows of silence before sample 0 that picture 0 hears."""
        return self.context - ROWS * self.ahead

    @property
    def floor(self) -> float:
        """Quietest log-mel, dB."""
        return logmel.DEEP if self.leveled else logmel.FLOOR

    @property
    def features(self) -> int:
        """What a row of input holds."""
        return self.apc[1] or logmel.BANDS

    @property
    def offline(self) -> bool:
        """Whether a picture depends on all that is said after it."""
        return self.attention == "transformer"


def standardised(rows: NDArray[np.floating], shape: Shape, level: logmel.Level | None = None) -> Floats:
    """Log-mel in dB (..., R, 80) as networks want it, of about unit size; `level` carries a stream on."""
    if shape.leveled:
        relative = (level or logmel.Level()).relative(rows)
        return np.asarray((relative + logmel.Level.USUAL - CENTRE) / SPREAD, np.float32)
    return np.asarray((rows - CENTRE) / SPREAD, np.float32)


def windows(rows: Tensor, context: int) -> Tensor:
    """Rows of features (B, R, F) to network input (B, (R - context) // 2 + 1, context * F), one a picture.

    The caller puts the history (or silence) of `context` - 2 rows in front.
    """
    x = rows.unfold(1, context, ROWS)  # (B, T, F, context)
    return x.transpose(2, 3).flatten(2)  # (B, T, context * F)
