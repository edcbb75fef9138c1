"""The facial action transformer: past commands and what is to be seen, now and next → commands, now and next.

Two tokens of what is to be seen (latents of the lip crop, or what the speech model makes of the sound) go
through an encoder of two layers; two tokens of past commands through a decoder of two layers that attends to
them, and become the commands of now and next. In use its own answers are its past (free rollout). Training
is in `action_train`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facetwin import assets
from facetwin.policies import weights
from facetwin.policies.controllers import LATENTS, Floats, ReferenceClip
from facetwin.policies.speech import POINTS as SPEECH_POINTS
from facetwin.policies.speech import SpeechModel
from facetwin.policies.weights import Tensors
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.spec import RigSpec

#: what a transformer may be shown, and how many numbers a picture that is
INPUTS = {"latents": LATENTS, "speech": 2 * SPEECH_POINTS}
PAST, NOW = 2, 2  # commands known, pictures known
LOOKAHEAD = 80  # ms, of the speech model that the speech variant hears through


@dataclass(frozen=True)
class ActionShape:
    """Sizes; they travel in the sidecar of the weights."""

    inputs: str = "latents"
    """"latents" or "speech" """
    motors: int = 26
    width: int = 64
    heads: int = 4
    layers: int = 2
    """of the encoder, and as many of the decoder"""

    def __post_init__(self) -> None:
        if self.inputs not in INPUTS:
            raise UsageError("a transformer of another input", found=self.inputs,
                             expected="one of " + ", ".join(INPUTS))  # fmt: skip


class Attention(nn.Module):
    """What tokens x (B, a, width) take from tokens y (B, b, width), in several heads."""

    def __init__(self, wide: int, heads: int) -> None:
        super().__init__()
        if wide % heads:
            raise ValueError(f"{wide} units in {heads} heads")
        self.heads = heads
        self.ask, self.tell, self.join = (
            nn.Linear(wide, wide),
            nn.Linear(wide, 2 * wide),
            nn.Linear(wide, wide),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        q = self.ask(x).unflatten(-1, (1, self.heads, -1))  # (B, a, 1, heads, width / heads)
        k, v = self.tell(y).unflatten(-1, (2, self.heads, -1)).unsqueeze(1).unbind(3)  # (B, 1, b, heads, ·)
        share = ((q * k).sum(-1, keepdim=True) * q.shape[-1] ** -0.5).softmax(2)  # few tokens: quicker than @
        return self.join((share * v).sum(2).flatten(2))


class Layer(nn.Module):
    """Attention among the tokens, to others where there are any, and two linear maps; norms come first."""

    def __init__(self, wide: int, heads: int, *, others: bool) -> None:
        super().__init__()
        self.own = Attention(wide, heads)
        self.other = Attention(wide, heads) if others else None
        self.norms = nn.ModuleList(nn.LayerNorm(wide) for _ in range(3 if others else 2))
        self.wide, self.narrow = nn.Linear(wide, 2 * wide), nn.Linear(2 * wide, wide)

    def forward(self, x: Tensor, others: Tensor | None = None) -> Tensor:  # noqa: D102
        y = self.norms[0](x)
        x = x + self.own(y, y)
        if self.other is not None:
            assert others is not None
            x = x + self.other(self.norms[1](x), others)
        return x + self.narrow(nn.functional.gelu(self.wide(self.norms[-1](x))))


class ActionNet(nn.Module):
    """The network; features come standardised by its own buffers."""

    def __init__(self, shape: ActionShape) -> None:
        super().__init__()
        self.shape = shape
        wide, features = shape.width, INPUTS[shape.inputs]
        self.see = nn.Linear(features, wide)
        self.move = nn.Linear(shape.motors, wide)
        self.when = nn.Parameter(0.02 * torch.randn(PAST + NOW, wide))
        self.encoder = nn.ModuleList(Layer(wide, shape.heads, others=False) for _ in range(shape.layers))
        self.decoder = nn.ModuleList(Layer(wide, shape.heads, others=True) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(wide)
        self.out = nn.Linear(wide, shape.motors)
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def forward(self, past: Tensor, shown: Tensor) -> Tensor:
        """Commands (B, 2, n) and features (B, 2, F) -> commands of now and next (B, 2, n) in [0, 1]."""
        x = self.see((shown - self.mean) / self.scale) + self.when[:NOW]  # (B, 2, width)
        for layer in self.encoder:
            x = layer(x)
        y = self.move(2 * past - 1) + self.when[NOW:]  # (B, 2, width)
        for layer in self.decoder:
            y = layer(y, x)
        return torch.sigmoid(self.out(self.norm(y)))


def rollout(net: ActionNet, shown: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Its own answers as its past: commands of now and of next (B, T, n) each, with gradients.

    Parameters
    ----------
    shown : float32 [shape=(B, T + 1, F)]
    before : float32 [shape=(B, 2, n)], the commands before the first picture
    """
    past, now, after = before, [], []
    for t in range(shown.shape[1] - 1):
        both = net(past, shown[:, t : t + NOW])
        now.append(both[:, 0])
        after.append(both[:, 1])
        past = torch.stack([past[:, 1], both[:, 0]], 1)
    return torch.stack(now, 1), torch.stack(after, 1)


class ActionController:
    """A trained transformer as a controller (`facetwin.policies.controllers.Controller`).

    Eyes, lids, brows and neck are no part of what it is shown: they stay at rest.

    Attributes
    ----------
    ahead : int, 1 picture; for sound as many as the speech model looks ahead
    sidecar : dict, where the weights come from and what they scored
    """

    def __init__(
        self, spec: RigSpec, net: ActionNet, sidecar: dict[str, Any], *, speech: SpeechModel | None = None
    ) -> None:
        self.spec, self.net, self.sidecar = spec, net.eval().requires_grad_(False), sidecar
        self.inputs = net.shape.inputs
        self.name = f"transformer ({self.inputs})"
        self.speech = speech
        self.ahead = 1
        if self.inputs == "speech":
            self.speech = speech or SpeechModel.load(SpeechModel.shipped(LOOKAHEAD, "many"))
            self.ahead = self.speech.shape.ahead  # a picture brings the sound up to the next one
        mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])
        still = np.setdiff1d(np.arange(spec.size), mouth)
        low, high = (np.array(side, np.float32) for side in spec.soft_limits)
        low[still] = high[still] = spec.rest[still]
        self._low, self._high = torch.from_numpy(low), torch.from_numpy(high)
        self._rest = torch.tensor(spec.rest, dtype=torch.float32)

    @classmethod
    def load(
        cls, spec: RigSpec, path: str | Path | None = None, *, inputs: str = "latents", vae: str = ""
    ) -> ActionController:
        """From a file, or the weights that ship for a rig and an input.

        `vae`: hash of the encoder that the latents will come from (`vae_hash`); with it, weights of another
        encoder are refused. Those of another rig always are.
        """
        file = Path(path) if path is not None else shipped(spec, inputs)
        tensors, sidecar = weights.load_weights(file)
        net = restore(tensors, sidecar, file)
        if sidecar.get("motors") != list(spec.names):
            raise FaceTwinError("weights of another rig", where=file, found=sidecar.get("rig"),
                                expected=spec.name, hint="facetwin train transformer")  # fmt: skip
        if path is not None and net.shape.inputs != inputs:
            raise UsageError("a transformer of another input", where=file, found=net.shape.inputs,
                             expected=inputs)  # fmt: skip
        check_vae(sidecar, vae, file)
        return cls(spec, net, {**sidecar, "file": str(file)})

    def commands(self, reference: ReferenceClip) -> Floats:
        """As `Controller` has it: the stream, fed whole."""
        stream = self.stream()
        return np.concatenate([stream.push(reference), stream.finish()])

    def stream(self) -> ActionStream:
        """The same in pieces, to the bit."""
        return ActionStream(self)

    def many(self, shown: Sequence[Floats]) -> list[Floats]:
        """Free rollouts side by side: features [each shape=(T, F)] -> commands [each shape=(T, n)]."""
        longest = max((len(one) for one in shown), default=0)
        if not longest:
            return [np.zeros((0, self.spec.size), np.float32) for _ in shown]
        held = [one[np.minimum(np.arange(longest + 1), len(one) - 1)] for one in shown]
        past = self._rest.expand(len(shown), PAST, -1)
        features, out = torch.from_numpy(np.stack(held)), []
        with torch.inference_mode():
            for t in range(longest):
                now = self._clamped(self.net(past, features[:, t : t + NOW])[:, 0])
                out.append(now)
                past = torch.stack([past[:, 1], now], 1)
        rows = torch.stack(out, 1).numpy()
        return [rows[k, : len(one)] for k, one in enumerate(shown)]

    def _clamped(self, command: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(command, self._high), self._low)


class ActionStream:
    """Free rollout in real time: a command as soon as the picture after it is known."""

    def __init__(self, owner: ActionController) -> None:
        self._owner = owner
        self._past = owner._rest.expand(1, PAST, -1)
        self._held = torch.zeros(0, INPUTS[owner.inputs])  # pictures not answered
        self._due = 0  # commands that are wanted in all
        self._made = 0
        self._ears = owner.speech.stream() if owner.speech is not None else None

    def push(self, piece: ReferenceClip) -> Floats:
        """The next pictures -> the commands they complete."""
        if not len(piece):
            return self._answer()
        self._due += len(piece)
        if self._ears is None:
            check_vae(self._owner.sidecar, piece.vae, piece.name)
            new = piece.need("latents")
        else:
            new = self._ears.push(piece.need("samples")).reshape(-1, INPUTS["speech"])
        self._held = torch.cat([self._held, torch.from_numpy(np.ascontiguousarray(new, np.float32))])
        return self._answer()

    def finish(self) -> Floats:
        """The last commands; what would come next is as the last picture."""
        if self._ears is not None:
            rest = torch.from_numpy(self._ears.finish().reshape(-1, INPUTS["speech"]))
            self._held = torch.cat([self._held, rest])
        short = self._due - self._made + 1 - len(self._held)
        if self._due and short > 0:
            last = self._held[-1:] if len(self._held) else torch.zeros(1, self._held.shape[1])
            self._held = torch.cat([self._held, last.expand(short, -1)])
        return self._answer()

    def _answer(self) -> Floats:
        owner, out = self._owner, []
        with torch.inference_mode():
            while len(self._held) >= NOW and self._made < self._due:
                both = owner.net(self._past, self._held[None, :NOW])
                now = owner._clamped(both[:, 0])  # (1, n)
                out.append(now)
                self._past = torch.stack([self._past[:, 1], now], 1)
                self._held = self._held[1:]
                self._made += 1
        return torch.cat(out).numpy() if out else np.zeros((0, owner.spec.size), np.float32)


def shipped(spec: RigSpec, inputs: str) -> Path:
    """Path of the weights that ship for a rig and an input."""
    if inputs not in INPUTS:
        raise UsageError("no such input", found=inputs, expected="one of " + ", ".join(INPUTS))
    path = assets.path("weights", f"transformer_{inputs}_{spec.name}.safetensors")
    if not path.is_file():
        raise UsageError(
            "no action transformer for this rig", where=spec.name, expected=path.name,
            hint=f"facetwin train transformer --rig {spec.name} --inputs {inputs}",
        )  # fmt: skip
    return path


def save(path: str | Path, net: ActionNet, sidecar: dict[str, Any]) -> None:
    """Write weights and sidecar; the shape goes into the sidecar."""
    tensors = {name: value.detach().cpu().numpy() for name, value in net.state_dict().items()}
    weights.save_weights(path, tensors, {**sidecar, "shape": asdict(net.shape)})


def restore(tensors: Tensors, sidecar: dict[str, Any], path: Path) -> ActionNet:
    """The network of a file; one line for what is none."""
    try:
        net = ActionNet(ActionShape(**sidecar["shape"]))
    except (KeyError, TypeError, ValueError) as why:
        raise FaceTwinError(
            "not an action transformer", where=path, found=f"sidecar without {why}",
            hint="facetwin train transformer",
        ) from None  # fmt: skip
    weights.check_shapes(tensors, {k: tuple(v.shape) for k, v in net.state_dict().items()}, path)
    net.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()})
    return net


def vae_hash(path: str | Path) -> str:
    """Sha-256 of an encoder's weights file: latents of two encoders have nothing in common."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check_vae(sidecar: dict[str, Any], vae: str, where: object) -> None:
    """Raise where latents come from another encoder than a transformer was trained on; "" is not known."""
    own = str(sidecar.get("vae", ""))
    if vae and own and vae != own:
        raise FaceTwinError(
            "latents of another VAE", where=where, found=vae[:12], expected=own[:12],
            hint="encode the reference with the VAE that the transformer was trained on, or train it again",
        )  # fmt: skip


def mouth_of(spec: RigSpec) -> NDArray[np.intp]:
    """The motors that the lips' picture tells of: jaw and lips, intp [shape=(m,)]."""
    return np.concatenate([spec.group("jaw"), spec.group("lips")]).astype(np.intp)
