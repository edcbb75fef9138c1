"""The image latent: a variational autoencoder of the lip crop, 128 x 128 x 3 to 16 numbers and back.

Residual convolutions without normalisation layers, so that a crop's latent depends on nothing but the crop.
Beside the convolutions of either half runs a linear map: the decoder's is the mean picture and 16 principal
components of 64 x 64 px (fixed), the encoder's starts as the regression onto them: the convolutions have the
rest to learn. Encoding gives the posterior's mean.

Latents are compared after standardisation: `distance` is the root mean square, over the active dimensions, of
the difference in units of that dimension's standard deviation over held-out babble (1.41 for two unrelated
faces). A dimension is active where its mean varies by more than .01 (Burda et al., 2016). Not here: training
(`vae_train`), and the crop itself (`lip_image`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from facetwin import assets
from facetwin.policies.weights import check_shapes, load_weights, save_weights
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.lip_crop import SIZE
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float32]

LATENT = 16
#: channels at 32 x 32, 16 x 16, 8 x 8 and 4 x 4 px
ENCODER, DECODER = (32, 48, 96, 128), (32, 48, 64, 80)
#: pictures enter and leave the net folded: this many px in each direction are channels of one place
FOLD = 4
#: log variance of the posterior before anything is learned
START = -3.0
#: variance of a dimension's mean over faces, above which it is active
ACTIVE = 0.01
CHUNK = 64


class Block(nn.Module):
    """Two convolutions beside a shortcut; the second one starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for part in self.second.parameters():
            nn.init.zeros_(part)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + self.second(F.relu(self.first(F.relu(x))))


class Convolutions(nn.Module):
    """Folded pictures (B, 48, 32, 32) to features at four scales, and to `out` numbers."""

    def __init__(self, out: int, widths: tuple[int, ...] = ENCODER) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = nn.Conv2d(3 * FOLD**2, a, 3, padding=1)
        self.downs = nn.ModuleList(
            nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in ((a, b), (b, c), (c, d))
        )
        self.blocks = nn.ModuleList(Block(width) for width in (b, c, d))
        self.last = nn.Linear(d * 16, out)

    def features(self, x: Tensor) -> list[Tensor]:
        """At four scales: (B, 32, 32, 32), (B, 48, 16, 16), (B, 96, 8, 8), (B, 128, 4, 4)."""
        x = self.stem(x)
        out = [x]
        for down, block in zip(self.downs, self.blocks):
            x = block(down(F.relu(x)))
            out.append(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """(B, 48, 32, 32) to (B, out)."""
        return self.last(F.relu(self.features(x)[-1]).flatten(1))


class Encoder(nn.Module):
    """Folded pictures less the mean one to mean and log variance (B, 32): a linear map and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * (SIZE // FOLD) ** 2, LATENT)
        self.rest = Convolutions(2 * LATENT)
        nn.init.zeros_(self.rest.last.weight)
        nn.init.zeros_(self.rest.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 48, 32, 32) to (B, 32)."""
        straight = self.linear(small(x))  # (B, 16)
        return self.rest(x) + torch.cat([straight, torch.zeros_like(straight)], 1)


class Decoder(nn.Module):
    """Latents (B, 16) to folded pictures (B, 48, 32, 32) around 0: a linear basis and convolutions."""

    basis: Tensor

    def __init__(self, widths: tuple[int, ...] = DECODER) -> None:
        super().__init__()
        a, b, c, d = widths
        self.first = nn.Linear(LATENT, d * 16)
        self.ups = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in ((d, c), (c, b), (b, a)))
        self.blocks = nn.ModuleList(Block(width) for width in (d, c, b))
        self.last = nn.Conv2d(a, 3 * FOLD**2, 3, padding=1)
        for part in self.last.parameters():
            nn.init.zeros_(part)
        self.register_buffer("basis", torch.zeros(LATENT, 12, SIZE // FOLD, SIZE // FOLD))
        self.wide = d

    def forward(self, z: Tensor) -> Tensor:
        """(B, 16) to (B, 48, 32, 32)."""
        x = self.first(z).view(-1, self.wide, 4, 4).contiguous(memory_format=torch.channels_last)
        x = self.blocks[0](x)
        for up, block in zip(self.ups, [*list(self.blocks)[1:], nn.Identity()]):
            x = block(up(F.interpolate(F.relu(x), scale_factor=2)))  # 8, 16, 32 px
        straight = (z @ self.basis.flatten(1)).view(-1, *self.basis.shape[1:])  # (B, 12, 32, 32)
        return doubled(straight) + self.last(F.relu(x))  # (B, 48, 32, 32)


class VaeNet(nn.Module):
    """The two halves and the mean picture (48, 32, 32), folded."""

    mean_picture: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), Decoder()
        self.register_buffer("mean_picture", torch.zeros(3 * FOLD**2, SIZE // FOLD, SIZE // FOLD))

    def posterior(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each (B, 16), of folded pictures (B, 48, 32, 32)."""
        mean, log_variance = self.encoder(pictures - self.mean_picture).chunk(2, 1)
        return mean, (log_variance + START).clamp(-10, 4)

    def picture(self, z: Tensor) -> Tensor:
        """Folded pictures (B, 48, 32, 32), about -.5 .. .5."""
        return self.mean_picture + self.decoder(z)


def halved(folded: Tensor) -> Tensor:
    """Folded pictures (B, 48, 32, 32) as folded ones of 64 x 64 px (B, 12, 32, 32)."""
    b, _, h, w = folded.shape
    return folded.reshape(b, 2, 2, 2, 2, 3, h, w).mean((2, 4)).reshape(b, 12, h, w)


def doubled(half: Tensor) -> Tensor:
    """The way back, each px four times: (B, 12, 32, 32) to (B, 48, 32, 32)."""
    b, _, h, w = half.shape
    whole = half.view(b, 2, 1, 2, 1, 3, h, w).expand(b, 2, 2, 2, 2, 3, h, w)
    return whole.reshape(b, 3 * FOLD**2, h, w)


def small(folded: Tensor) -> Tensor:
    """Folded pictures (B, 48, 32, 32) as flat ones of 32 x 32 px (B, 3072)."""
    side = SIZE // FOLD
    return folded.reshape(len(folded), FOLD**2, 3, side, side).mean(1).flatten(1)


class Vae:
    """A trained one.

    Parameters
    ----------
    net : VaeNet
    sidecar : where the weights come from; its ``latents`` hold ``mean`` and ``std`` over held-out babble

    Attributes
    ----------
    mean, std : float32 [shape=(16,)], of latents over held-out babble
    active : bool [shape=(16,)], dimensions that carry something
    """

    def __init__(self, net: VaeNet, sidecar: Mapping[str, Any]) -> None:
        self.net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sidecar = dict(sidecar)
        try:
            latents = self.sidecar["latents"]
            self.mean, self.std = (np.array(latents[key], np.float32) for key in ("mean", "std"))
            if self.mean.shape != (LATENT,) or self.std.shape != (LATENT,) or not (self.std >= 0).all():
                raise ValueError(f"latents of shape {self.mean.shape}, {self.std.shape}")
        except (KeyError, TypeError, ValueError) as why:
            raise FaceTwinError(
                "a sidecar without the spread of its latents", where="vae", found=str(why),
                expected=f"latents: mean and std, {LATENT} numbers each",
            ) from None  # fmt: skip
        self.active = self.std**2 > ACTIVE

    @classmethod
    def load(cls, spec: RigSpec | str | Path = "face26") -> Vae:
        """The weights that ship for a rig (its table or name), or a file of weights (.safetensors).

        Raises `UsageError` where there are none, `FaceTwinError` where the file is not what it should be.
        """
        name = spec.name if isinstance(spec, RigSpec) else str(spec)
        path = (
            Path(name) if name.endswith(".safetensors") else assets.path("weights", f"vae_{name}.safetensors")
        )
        tensors, sidecar = load_weights(path)
        net = VaeNet()
        check_shapes(tensors, {k: tuple(v.shape) for k, v in net.state_dict().items()}, path)
        net.load_state_dict({k: torch.from_numpy(v.astype(np.float32)) for k, v in tensors.items()})
        return cls(net, sidecar)

    def save(self, path: str | Path) -> None:
        """Write weights (float16) and sidecar."""
        tensors = {k: v.contiguous().numpy().astype(np.float16) for k, v in self.net.state_dict().items()}
        save_weights(path, tensors, self.sidecar)

    @property
    def parameters(self) -> int:
        """How many numbers are learned."""
        return sum(p.numel() for p in self.net.parameters())

    def encode(self, crops: NDArray[np.uint8]) -> Floats:
        """Latents, float32 [shape=(N, 16)], of crops uint8 [shape=(N, 128, 128, 3)]."""
        given = np.asarray(crops)
        if given.dtype != np.uint8 or given.ndim != 4 or given.shape[1:] != (SIZE, SIZE, 3):
            raise FaceTwinError(
                "not lip crops", where="vae", found=f"{given.dtype} {given.shape}",
                expected=f"uint8 (N, {SIZE}, {SIZE}, 3)", hint="lip_crop makes them",
            )  # fmt: skip
        out = np.empty((len(given), LATENT), np.float32)
        with torch.inference_mode():
            for start in range(0, len(given), CHUNK):
                some = slice(start, start + CHUNK)
                out[some] = self.net.posterior(to_net(given[some]))[0].numpy()
        return out

    def decode(self, latents: ArrayLike) -> NDArray[np.uint8]:
        """Pictures, uint8 [shape=(N, 128, 128, 3)], of latents [shape=(N, 16)]."""
        given = np.asarray(latents, np.float32)
        if given.ndim != 2 or given.shape[1] != LATENT or not np.isfinite(given).all():
            raise FaceTwinError(
                "not latents", where="vae", found=given.shape, expected=f"finite (N, {LATENT})"
            )
        out = np.empty((len(given), SIZE, SIZE, 3), np.uint8)
        with torch.inference_mode():
            for start in range(0, len(given), CHUNK):
                some = slice(start, start + CHUNK)
                out[some] = from_net(self.net.picture(torch.from_numpy(given[some])))
        return out

    def standard(self, latents: ArrayLike) -> Floats:
        """Active dimensions in units of their standard deviation, 0 in the middle: (..., 16) -> (..., k)."""
        given = np.asarray(latents, np.float32)
        return ((given - self.mean) / np.where(self.active, self.std, 1))[..., self.active]

    def distance(self, one: ArrayLike, other: ArrayLike) -> Floats:
        """How far latents [shape=(..., 16)] are apart, float32 [shape=(...)], in standard deviations."""
        apart = self.standard(one) - self.standard(other)
        return np.sqrt((apart**2).mean(-1))


def to_net(crops: NDArray[np.uint8]) -> Tensor:
    """uint8 [shape=(N, 128, 128, 3)] to float32 (N, 48, 32, 32) in -.5 .. .5: each 4 x 4 px are channels."""
    side = SIZE // FOLD
    cut = crops.reshape(-1, side, FOLD, side, FOLD, 3).swapaxes(2, 3).reshape(-1, side, side, 3 * FOLD**2)
    return torch.from_numpy(np.array(cut)).permute(0, 3, 1, 2).float().div_(255).sub_(0.5)


def from_net(folded: Tensor) -> NDArray[np.uint8]:
    """The way back, rounded and clipped."""
    side = SIZE // FOLD
    whole = folded.float().add(0.5).mul(255).round().clamp(0, 255).to(torch.uint8)
    cut = whole.permute(0, 2, 3, 1).numpy().reshape(-1, side, side, FOLD, FOLD, 3)
    return np.ascontiguousarray(cut.swapaxes(2, 3)).reshape(-1, SIZE, SIZE, 3)
