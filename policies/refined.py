"""The transformer's answer brought nearer: a short descent through what commands are known to look like.

The net answers at once, but with what it could learn for all speech together. From there a few steps of Adam
go down what is seen to be wrong in this very clip: latents through the self-model of pictures, landmarks and
gap through the fast skin. Bends that motors cannot follow cost much, all others little, since a closure is a
quick thing: quadratic smoothing alone keeps lips from meeting.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetwin import assets
from facetwin.policies.action_transformer import ActionController, check_vae
from facetwin.policies.controllers import LATENTS, Floats, ReferenceClip, Stream
from facetwin.policies.felt_face import FeltFace
from facetwin.policies.gradient_inverse import Descent, guessed_gap, mismatch, within_couplings
from facetwin.policies.image_self import ImageSelf, restore
from facetwin.policies.weights import load_weights
from facetwin.twin.couplings import Couplings
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec


@dataclass(frozen=True)
class Refinement:
    """What the descent weighs."""

    steps: int = 40
    """Adam steps"""
    rate: float = 0.03
    """their size at first, in commands"""
    latent: float = 8.0
    """weight of the latents' mean squared error, in standard deviations over babble"""
    felt: float = 0.6
    """of landmarks and gap (`gradient_inverse.mismatch`)"""
    smooth: float = 0.7
    """of the second difference of commands, squared, in hundredths"""
    bend: float = 80.0
    """the same of what is beyond `quick`"""
    quick: float = 0.12
    """commands; second differences from picture to picture that servos follow"""


class RefinedTransformer:
    """The transformer on latents and the descent after it, as a controller.

    Real time goes by pieces: each is answered by the transformer's stream and brought nearer by itself,
    smooth from the two commands before it. Pieces of one picture are too slow for that (93 ms each on one
    core); of 25, a second's delay, they take 8 ms a picture.

    Parameters
    ----------
    spec : RigSpec
    start : ActionController, optional
        The transformer; by default the one that ships.
    image : path or ImageSelf, optional
        The self-model of pictures or its weights; by default those that ship.
    """

    name = "transformer (latents), refined"

    def __init__(
        self,
        spec: RigSpec,
        start: ActionController | None = None,
        *,
        image: str | Path | ImageSelf | None = None,
        options: Refinement | None = None,
        face: FeltFace | None = None,
    ) -> None:
        self.spec, self.options = spec, options or Refinement()
        self.start = start or ActionController.load(spec)
        self.ahead = self.start.ahead
        if isinstance(image, ImageSelf):
            self.image, self.sidecar = image, dict(self.start.sidecar)
        else:
            file = Path(image) if image is not None else shipped(spec)
            self.image, self.sidecar = read(spec, file)
            check_vae(self.start.sidecar, str(self.sidecar.get("vae", "")), file)
        self.face = face or FeltFace(spec)
        self._couplings = Couplings(spec)
        # jaw points add nothing that lips do not say
        self._descent = Descent(jaw=0.0)

    def commands(self, reference: ReferenceClip) -> Floats:
        """As `Controller` has it: the whole clip at once."""
        check_vae(self.sidecar, reference.vae, reference.name)
        return self._nearer(self.start.commands(reference), reference, None)

    def stream(self) -> Stream:
        """Pieces of any size; rougher than `commands`; one of 1 picture costs half of one of 25."""
        return _Refining(self)

    def _nearer(self, begin: Floats, wanted: ReferenceClip, before: Floats | None) -> Floats:
        """Commands [shape=(T, n)] of pictures `wanted`, from `begin` on; `before`: the two before them."""
        if not len(begin):
            return begin
        o, d, face = self.options, self._descent, self.face
        points = face.rest + torch.from_numpy(wanted.displacement())  # (T, 63, 2)
        told = wanted.gap_mm if wanted.gap_mm is not None else guessed_gap(wanted.displacement(), d.shut)
        gap = torch.from_numpy(np.asarray(told, np.float32))
        latents, scale = torch.from_numpy(wanted.need("latents")), self.image.scale[:LATENTS]
        low, high = face.low[face.mouth], face.high[face.mouth]
        x = torch.from_numpy(begin)[:, face.mouth].clone().requires_grad_()  # (T, mouth)
        past = torch.zeros(0, x.shape[1]) if before is None else torch.from_numpy(before)[:, face.mouth]
        optimiser = torch.optim.Adam([x], o.rate, betas=(0.8, 0.95))
        for step in range(o.steps):
            optimiser.param_groups[0]["lr"] = o.rate * (0.02 + 0.49 * (1 + np.cos(np.pi * step / o.steps)))
            whole = face.whole(x)
            off = ((self.image(whole)[0] - latents) / scale).square().mean(1)
            error = o.latent * off + o.felt * mismatch(face(whole), points, gap, d)
            loss = error.sum() + self._rough(torch.cat([past, x]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            with torch.no_grad():
                x.copy_(torch.maximum(torch.minimum(x, high), low))
        rows: Floats = face.whole(x.detach()).numpy()
        return within_couplings(rows, self.spec, self._couplings)

    def _rough(self, x: Tensor) -> Tensor:
        if len(x) < 3:
            return x.new_zeros(())
        bend = torch.diff(x, n=2, dim=0)
        quick = (bend.abs() - self.options.quick).clamp_min(0)
        return 100 * (self.options.smooth * bend.square() + self.options.bend * quick.square()).mean(1).sum()


class _Refining:
    """A stream that answers each piece when the transformer has."""

    def __init__(self, owner: RefinedTransformer) -> None:
        self._owner, self._inner = owner, owner.start.stream()
        self._held: list[ReferenceClip] = []  # pieces that are not answered, or not whole
        self._before: Floats | None = None

    def push(self, piece: ReferenceClip) -> Floats:
        """The next pictures -> the commands they complete."""
        if len(piece):
            check_vae(self._owner.sidecar, piece.vae, piece.name)
            self._held.append(piece)
        return self._answer(self._inner.push(piece))

    def finish(self) -> Floats:
        """The last commands."""
        return self._answer(self._inner.finish())

    def _answer(self, begin: Floats) -> Floats:
        if not len(begin):
            return begin
        held = joined(self._held)
        wanted, rest = held[: len(begin)], held[len(begin) :]
        self._held = [rest] if len(rest) else []
        out = self._owner._nearer(begin, wanted, self._before)
        kept = out if self._before is None else np.concatenate([self._before, out])
        self._before = kept[-2:]
        return out


def joined(pieces: list[ReferenceClip]) -> ReferenceClip:
    """Pieces of one reference as one, without their sound."""
    first = pieces[0]
    gaps = [p.gap_mm for p in pieces if p.gap_mm is not None]
    return ReferenceClip(
        first.name,
        np.concatenate([p.landmarks for p in pieces]),
        np.concatenate([p.need("latents") for p in pieces]),
        None,
        np.concatenate(gaps) if len(gaps) == len(pieces) else None,
        first.fps,
        first.vae,
    )


def shipped(spec: RigSpec) -> Path:
    """Path of the self-model of pictures that ships for a rig; `UsageError` where there is none."""
    path = assets.path("weights", f"image_self_{spec.name}.safetensors")
    if not path.is_file():
        raise UsageError(
            "no self-model of pictures for this rig", where=spec.name, expected=path.name,
            hint=f"facetwin train transformer --rig {spec.name} writes one",
        )  # fmt: skip
    return path


def read(spec: RigSpec, path: Path) -> tuple[ImageSelf, dict[str, Any]]:
    """A self-model of pictures and its sidecar; weights of another rig are refused."""
    tensors, sidecar = load_weights(path)
    return restore(tensors, sidecar, spec, path), sidecar
