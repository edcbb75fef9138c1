"""A body learned before the mirror: what a minute of motion shows of a robot that is not quite the table's.

Horns sit askew, skin is stiffer, servos are later, the camera hangs elsewhere. The same motion is played on
the rig and on the table's twin, both looked at by the same tracker. First the servos' timing is found:
factors on latency, natural frequency and largest speed, by which the rest is explained best. Then what
differs between the faces is laid on the self-model of pictures by its last layer, a ridge regression on its
own hidden units. What the tracker makes of shapes is on both sides and drops out.

`AcquaintedFace` gives the same to what descends through the fast skin. Nothing here knows the body's numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetwin.policies.action_data import ways
from facetwin.policies.closed_loop import KEPT
from facetwin.policies.felt_face import Felt, FeltFace
from facetwin.policies.image_self import ImageSelf
from facetwin.policies.lipsync_takes import Capture
from facetwin.policies.vae import Vae
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.face import load_face
from facetwin.twin.landmarks import indices
from facetwin.twin.servo import ServoBank
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float64]
FPS, RATE = 25, 50  # pictures and writes a second
#: factors on the table's delay (latency and lag), natural frequency and largest speed that are tried
DELAY = np.arange(0.5, 2.21, 0.1)
QUICKNESS = np.arange(0.7, 1.35, 0.1)
SPEED = np.array([0.6, 0.7, 0.8, 0.9, 1.0, 1.2])
PASSES = 2
LEAST = 0.1  # of latency
RIDGES = 10.0 ** np.arange(-1.0, 5.0)
FOLDS = 6
#: pictures at first that are not learned from: the servos come from somewhere
WARM = 10
JOINT = 6  # pictures from one way to the next
FEWEST = 200  # pictures that must show a face
_ROWS = np.searchsorted(KEPT, indices("speech63"))
_UPPER, _LOWER = (indices("speech63").tolist().index(p) for p in (13, 14))


@dataclass(frozen=True)
class Acquainted:
    """What was learned of a body.

    Attributes
    ----------
    image : ImageSelf
        The self-model of pictures, of this body before this camera.
    latency, quickness, speed : float
        Factors on the table's latency, natural frequency and largest speed.
    left : (float, float)
        Share of the variance of pictures (latents and points) that neither knew, on parts of the minute held
        out: of the table's model with the table's timing, and of this one.
    pictures : int, that showed a face
    """

    image: ImageSelf
    latency: float
    quickness: float
    speed: float
    left: tuple[float, float]
    pictures: int

    def told(self) -> str:
        """All of it in a line."""
        return (
            f"latency x {self.latency:.2f}, natural frequency x {self.quickness:.2f}, "
            f"speed x {self.speed:.2f}; of what {self.pictures} pictures show, the table's model "
            f"does not know {self.left[0]:.1%}, this one {self.left[1]:.1%}"
        )

    def timed(self, spec: RigSpec) -> RigSpec:
        """The table with this body's timing, to tell motors early enough."""
        return timed(spec, self.latency, self.quickness, self.speed)


def minute(
    spec: RigSpec, pictures: int, *, spoken: Sequence[NDArray[np.float32]] = (), seed: int = 0
) -> NDArray[np.float32]:
    """Commands float32 [shape=(pictures, n)] at 25 a second that show what a mouth can do: babble that moves.

    `spoken`: commands of clips, of which a part is made.
    """
    out: list[NDArray[np.float32]] = []
    here = np.asarray(spec.rest, np.float32)
    still = np.setdiff1d(np.arange(spec.size), np.concatenate([spec.group("jaw"), spec.group("lips")]))
    s = np.arange(1, JOINT + 1)[:, None] / (JOINT + 1)
    for rows, _, _ in ways(spec, np.random.default_rng((seed, 21)), spoken):
        rows[:, still] = here[still]
        out += [(1 - s) * here + s * rows[:1], rows]
        here = rows[-1]
        if sum(map(len, out)) >= pictures:
            return np.concatenate(out)[:pictures].astype(np.float32)
    raise AssertionError("ways do not end")


def timed(spec: RigSpec, latency: float, quickness: float, speed: float) -> RigSpec:
    """A table whose servos are later, quicker and faster by these factors."""
    return spec.with_({
        "servo.latency.factor": latency, "servo.natural_frequency.factor": quickness,
        "servo.max_speed.factor": speed,
    })  # fmt: skip


def acquaint(
    spec: RigSpec, image: ImageSelf, vae: Vae, body: Capture, twin: Capture, *, under_way: float = 0.0
) -> Acquainted:
    """What a body shows beyond the table, from the same commands seen on it and on the table's twin.

    Parameters
    ----------
    spec : RigSpec, the table that both were played by
    image : ImageSelf, of the table; left as it is
    vae : Vae, that `image` belongs to
    body, twin : Capture, of at least `FEWEST` pictures with a face
    under_way : float, s
        What is known to lie between a `write` on the body and a servo that can act (`hardware/underway.py`):
        who plays sends that much earlier anyway, so it is left out of the latency that is found.

    Raises
    ------
    FaceTwinError
        Captures of different lengths or rigs, too few pictures with a face.
    """
    if len(body) != len(twin) or body.sent.shape[1:] != (spec.size,):
        raise FaceTwinError("not the same motion", where="acquaint()", found=(len(body), len(twin)),
                            expected="captures of the same commands on body and twin")  # fmt: skip
    own, ok_own = _shown(image, vae, twin, spec)
    other, ok = _shown(image, vae, body, spec)
    fewest = int(min(ok.sum(), ok_own.sum()))
    if fewest < FEWEST:
        raise FaceTwinError("too few pictures show a face", where="acquaint()", found=fewest,
                            expected=f"{FEWEST} or more",
                            hint="look at the camera's picture; play for longer")  # fmt: skip
    x, told = _hidden(image, stood(spec, twin.sent, len(twin)))
    tracked, _ = _fit(x[ok_own], (own - told)[ok_own])  # what tracker and noise make of the twin

    def residual(latency: float, quickness: float, speed: float) -> tuple[Floats, Floats]:
        servos = timed(spec, latency + line, quickness, speed)
        x, told = _hidden(image, stood(servos, body.sent, len(body)))
        return x[ok], (other - told - x @ tracked)[ok]

    mouth = np.concatenate([spec.group("jaw"), spec.group("lips")])
    latency = float(np.median([spec.motors[k].latency for k in mouth]))  # s
    lag = float(np.median([spec.motors[k].damping_ratio / spec.motors[k].natural_frequency for k in mouth]))
    line = under_way / latency  # in latencies
    lag /= np.pi  # s, by which a second-order servo trails a slow motion: 2 zeta / omega

    def factors(at: tuple[float, float, float]) -> tuple[float, float, float]:
        # Latency and lag are hard to tell apart: what is searched is their sum, then what is the lag's.
        delay, quickness, speed = at
        net = (delay * (latency + lag) - lag / quickness) / latency - line
        return max(net, LEAST), quickness, speed

    def unknown(at: tuple[float, float, float]) -> float:
        return _held(*residual(*factors(at)), RIDGES[len(RIDGES) // 2])[0]

    at = (1.0, 1.0, 1.0)
    for _ in range(PASSES):
        at = min(((float(f), at[1], at[2]) for f in DELAY), key=unknown)
        at = min(((at[0], float(f), at[2]) for f in QUICKNESS), key=unknown)
        at = min(((at[0], at[1], float(f)) for f in SPEED), key=unknown)
    found = factors(at)
    x, y = residual(*found)
    more, held = _fit(x, y)
    net = copy.deepcopy(image)
    last: torch.nn.Linear = net.body[-1]  # type: ignore[assignment]
    with torch.no_grad():
        last.weight.add_(torch.from_numpy(more[:-1].T.astype(np.float32)))
        last.bias.add_(torch.from_numpy(more[-1].astype(np.float32)))
    whole = float(((other - other[ok].mean(0))[ok] ** 2).mean())
    before = float((residual(1.0, 1.0, 1.0)[1] ** 2).mean())
    left = before / whole, float(((y - held) ** 2).mean()) / whole
    return Acquainted(net.eval().requires_grad_(False), *found, left, int(ok.sum()))


class AcquaintedFace(FeltFace):
    """What commands do to this body: the fast skin, moved by what the mirror showed of it."""

    def __init__(self, spec: RigSpec, image: ImageSelf, known: Acquainted) -> None:
        self._shift: tuple[ImageSelf, ImageSelf] | None = None
        super().__init__(spec)
        self._mm = 1e3 * load_face().metres_per_u
        self._still = torch.zeros(1)
        rest = torch.tensor(spec.rest, dtype=torch.float32)[None]
        with torch.no_grad():
            self._still = known.image(rest)[1] - image(rest)[1]  # motion counts from each face's own rest
        self._shift = (image, known.image)

    def __call__(self, commands: Tensor) -> Felt:
        """As `FeltFace` has it."""
        felt = super().__call__(commands)
        if self._shift is None:
            return felt
        before, now = self._shift
        off = now(commands)[1] - before(commands)[1] - self._still  # (B, 63, 2)
        # a tracker is blind to small gaps: what it saw may say that lips must be pressed more, never less
        wider = (off[:, _UPPER, 1] - off[:, _LOWER, 1]).clamp_min(0)
        return Felt(felt.points + off, felt.gap + self._mm * wider, felt.trust)


def stood(spec: RigSpec, sent: NDArray[np.floating], pictures: int) -> Floats:
    """Where motors stood at each picture, float64 [shape=(T, n)], by a table's servos; sent at 50 Hz."""
    bank = ServoBank(spec, 1 / RATE)
    bank.reset(sent[0])
    every = np.empty((len(sent) + 1, spec.size))
    every[0] = bank.position
    for k, command in enumerate(sent):
        every[k + 1] = bank.step(command)
    at = np.minimum(np.arange(pictures) * RATE // FPS, len(sent))
    return every[at]


def _shown(image: ImageSelf, vae: Vae, take: Capture, spec: RigSpec) -> tuple[Floats, NDArray[np.bool_]]:
    """What was seen as the self-model would say it, standardised (T, 142), and which pictures count."""
    rest = torch.tensor(spec.rest, dtype=torch.float32)[None]
    with torch.no_grad():
        still = image(rest)[1][0].numpy()  # (63, 2)
    moved = take.seen.points[:, _ROWS, :2] - take.seen.rest[indices("speech63"), :2]
    latents = vae.encode(take.crops)
    out = np.concatenate([latents, (moved + still).reshape(len(take), -1)], 1)
    ok = take.seen.found.copy()
    ok[:WARM] = False
    standard: Floats = ((out - image.mean.numpy()) / image.scale.numpy()).astype(np.float64)
    return standard, ok


def _hidden(image: ImageSelf, at: Floats) -> tuple[Floats, Floats]:
    """Hidden units and a one (T, 385), and what the self-model says, standardised (T, 142)."""
    with torch.no_grad():
        hidden = image.body[:-1](torch.from_numpy(2 * at - 1).float())
        told = image.body[-1](hidden)
    return np.hstack([hidden.double().numpy(), np.ones((len(at), 1))]), told.double().numpy()


def _blocks(count: int) -> Sequence[NDArray[np.bool_]]:
    # neighbours in time are alike: folds are long pieces
    piece = np.arange(count) * (4 * FOLDS) // count
    return [piece % FOLDS == k for k in range(FOLDS)]


def _held(x: Floats, y: Floats, ridge: float) -> tuple[float, Floats]:
    """Mean squared error of a ridge on held-out pieces, and what it says of them."""
    held = np.zeros_like(y)
    for out in _blocks(len(x)):
        held[out] = x[out] @ _ridge(x[~out], y[~out], ridge)
    return float(((y - held) ** 2).mean()), held


def _fit(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Weights (385, 142) by the ridge that does best on held-out pieces, and what it said of them."""
    errors = [_held(x, y, float(r)) for r in RIDGES]
    k = int(np.argmin([error for error, _ in errors]))
    return _ridge(x, y, float(RIDGES[k])), errors[k][1]


def _ridge(x: Floats, y: Floats, ridge: float) -> Floats:
    # the constant is free: a camera shifts everything alike
    weight = np.full(x.shape[1], ridge)
    weight[-1] = 1e-3
    out: Floats = np.linalg.solve(x.T @ x + np.diag(weight), x.T @ y)
    return out
