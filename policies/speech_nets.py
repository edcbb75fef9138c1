"""Networks of the speech model that step from picture to picture, a recurrent and a convolutional one.

Each takes windows of features (B, T, context * F), the state that its last call returned (None at the
beginning), and the static face, which these two ignore: they work for any talker by themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facetwin.policies.speech_shape import POINTS, SCALE, Shape
from facetwin.twin.errors import UsageError

State = Tensor | tuple[Tensor, ...]
#: heads over the whole clip (16 in the seeds' transformer), and how many pictures away they look
HEADS, REACH = 16, 60


class SpeechNet(nn.Module):
    """Two linear layers over a window, then GRUs. Output: displacement in u."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Linear(shape.context * shape.features, shape.front),
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

    def forward(
        self, windows: Tensor, state: Tensor | None = None, face: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, T, context * F) -> (B, T, 63, 2) in u, and the state after the last step."""
        x = self.front(windows)  # (B, T, front)
        x, state = self.gru(x, state)  # (B, T, hidden)
        return self.head(x).unflatten(-1, (POINTS, 2)) * SCALE, state


class ConvNet(nn.Module):
    """Causal dilated convolutions with gates (after van den Oord et al. 2016), in residual blocks.

    Block k looks at its own input now and 2 ** (k % 6) pictures ago: six blocks hear 2.5 s back. All of it
    is matrix products, which makes it two to three times as fast to train as the GRU at twice the size.
    """

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        wide = shape.hidden
        self.steps = [2 ** (k % 6) for k in range(shape.layers)]
        self.front = nn.Linear(shape.context * shape.features, wide)
        self.norms = nn.ModuleList(nn.LayerNorm(wide) for _ in self.steps)
        self.gates = nn.ModuleList(nn.Linear(2 * wide, 2 * wide) for _ in self.steps)
        self.outs = nn.ModuleList(nn.Linear(wide, wide) for _ in self.steps)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, POINTS * 2))

    def forward(
        self, windows: Tensor, state: tuple[Tensor, ...] | None = None, face: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, T, context * F) -> (B, T, 63, 2) in u, and the last inputs of every block."""
        x, held = self.hear(windows, state)
        return self.move(x), held

    def move(self, inner: Tensor) -> Tensor:
        """What was heard, (B, T, hidden), as motion: (B, T, 63, 2) in u."""
        return self.head(inner).unflatten(-1, (POINTS, 2)) * SCALE

    def hear(
        self, windows: Tensor, state: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The same before it becomes motion: (B, T, hidden), and the last inputs of every block."""
        x = self.drop(F.gelu(self.front(windows)))  # (B, T, hidden)
        held = []
        for k, step in enumerate(self.steps):
            y = self.norms[k](x)
            past = y.new_zeros((len(y), step, y.shape[-1])) if state is None else state[k].to(y.dtype)
            long = torch.cat([past, y], 1)  # (B, step + T, hidden)
            held.append(long[:, -step:])
            a, b = self.gates[k](torch.cat([long[:, :-step], y], -1)).chunk(2, -1)
            x = x + self.outs[k](self.drop(a * torch.sigmoid(b)))
        return x, tuple(held)


class WholeNet(ConvNet):
    """The same, then one transformer layer that looks at what comes after, too: for whole clips (offline).

    Sixteen heads over the pictures within `REACH` on both sides, each with a learned bias by distance. Its
    last layers begin at zero: started from the weights of a `ConvNet` it begins as good as that.
    """

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__(shape, dropout)
        wide = shape.hidden
        if wide % HEADS:
            raise UsageError(f"{HEADS} heads do not share this width", found=wide,
                             expected=f"a multiple of {HEADS}")  # fmt: skip
        self.before = nn.LayerNorm(wide)
        self.ask = nn.Linear(wide, 3 * wide)
        self.tell = nn.Linear(wide, wide)
        self.away = nn.Parameter(torch.zeros(HEADS, 2 * REACH + 1))
        self.inner = nn.Sequential(
            nn.LayerNorm(wide),
            nn.Linear(wide, 2 * wide),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * wide, wide),
        )
        for last in (self.tell, self.inner[-1]):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(  # type: ignore[override]
        self, windows: Tensor, state: None = None, face: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """(B, T, context * F) -> (B, T, 63, 2) in u; there is no state, each call is a clip of its own."""
        return self.move(self.hear(windows)[0]), None

    def hear(
        self, windows: Tensor, state: tuple[Tensor, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `ConvNet` has it; the state is of no use."""
        x, held = super().hear(windows)
        q, k, v = (
            self.ask(self.before(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        )  # (B, H, T, h)
        y = F.scaled_dot_product_attention(q, k, v, self._bias(x.shape[1]).to(q.dtype))
        x = x + self.drop(self.tell(y.transpose(1, 2).flatten(2)))
        return x + self.drop(self.inner(x)), held

    def _bias(self, pictures: int) -> Tensor:
        # (H, T, T): by distance, nothing beyond reach
        place = torch.arange(pictures)
        far = place[None] - place[:, None]  # (T, T)
        bias = self.away[:, far.clamp(-REACH, REACH) + REACH]
        return bias.masked_fill(far.abs() > REACH, float("-inf"))
