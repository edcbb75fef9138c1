"""Training of the action transformer: first on babble, then on its own rollouts.

Two kinds of lessons. *Babble*: what was seen, and the commands that made it; the net is unrolled over more
and more pictures with its own answers as its past, the gradient goes through all of them. *References*: what
an ideal robot looks like, which no command of this robot may reach; nobody knows the best commands, so the
answer is looked at through the self-model of pictures and the fast skin, and what is seen is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from facetwin.policies.action_data import ActionData
from facetwin.policies.action_transformer import ActionNet, ActionShape, mouth_of, rollout
from facetwin.policies.controllers import Floats, ReferenceClip
from facetwin.policies.felt_face import FeltFace
from facetwin.policies.gradient_inverse import Descent, mismatch
from facetwin.policies.image_self import ImageSelf
from facetwin.twin.errors import UsageError
from facetwin.twin.spec import RigSpec

#: pictures of a lesson by reference
PIECE = 48


@dataclass(frozen=True)
class Training:
    """How long, and what is weighed."""

    steps: int = 3000
    batch: int = 64
    rate: float = 1e-3
    unroll: tuple[int, ...] = (1, 2, 4, 7, 10)
    """pictures in a row with its own answers as its past, longer and longer; (1,): teacher-forced alone"""
    command: float = 20.0
    """weight of the commands' error"""
    latent: float = 0.3
    """of the latents' mean squared error in standard deviations, through the self-model"""
    felt: float = 0.1
    """of the landmarks' and the gap's mismatch, through the fast skin; references only"""
    smooth: float = 3.0
    """of the commands' second difference, squared; references only"""
    still: float = 0.1
    """weight of motors that a lip crop does not show, against jaw and lips"""
    noise: float = 0.05
    """added to what is shown, in standard deviations"""
    past_noise: float = 0.02
    """added to past commands at the start of a lesson"""
    references: float = 0.5
    """share of lessons by reference, where there are any, in the last two thirds"""
    seed: int = 0


@dataclass(frozen=True)
class Lessons:
    """What is shown [shape=(S, T, F)], and what should come of it.

    `commands` (S, T, n) of babble, or `points` (S, T, 63, 2) in u and `gap` (S, T) in mm of references;
    `latents` (S, T, 16), where pictures were looked at.
    """

    shown: Tensor
    commands: Tensor | None = None
    latents: Tensor | None = None
    points: Tensor | None = None
    gap: Tensor | None = None


def babble_lessons(data: ActionData, inputs: str, rest: Floats) -> Lessons:
    """Lessons of filmed or dreamt babble; `rest` (63, 2) is what displacement counts from."""
    latents = torch.from_numpy(data.latents)
    if inputs == "latents":
        return Lessons(latents, torch.from_numpy(data.commands), latents)
    moved = torch.from_numpy(data.points - rest).flatten(2)
    return Lessons(moved, torch.from_numpy(data.commands))


def reference_lessons(clips: Sequence[ReferenceClip], inputs: str, rest: Floats) -> Lessons:
    """Lessons of reference clips in pieces of `PIECE` pictures; shorter clips are left out."""
    parts = [
        clip[start : start + PIECE]
        for clip in clips
        if len(clip) >= PIECE
        for start in sorted({*range(0, len(clip) - PIECE, PIECE), len(clip) - PIECE})
    ]
    if not parts:
        raise UsageError("no reference is long enough", found=max(map(len, clips), default=0),
                         expected=f"{PIECE} pictures")  # fmt: skip
    points = torch.from_numpy(np.stack([part.displacement() + rest for part in parts]))
    gap = torch.from_numpy(np.stack([part.need("gap_mm") for part in parts]))
    if inputs == "latents":
        shown = torch.from_numpy(np.stack([part.need("latents") for part in parts]))
        return Lessons(shown, latents=shown, points=points, gap=gap)
    moved = np.stack([part.displacement().reshape(PIECE, -1) for part in parts])
    return Lessons(torch.from_numpy(moved), points=points, gap=gap)


def train(
    spec: RigSpec,
    babble: Lessons,
    references: Lessons | None,
    *,
    inputs: str,
    self_image: ImageSelf | None,
    options: Training,
    start: ActionNet | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> ActionNet:
    """A net of these lessons; `start` goes on from another one, also one of another encoder."""
    torch.manual_seed(options.seed)
    net = start or ActionNet(ActionShape(inputs, spec.size))
    net.train().requires_grad_(True)
    if start is None or inputs == "latents":  # another encoder has another spread
        flat = babble.shown.flatten(0, 1)
        net.mean.copy_(flat.mean(0))
        net.scale.copy_(flat.std(0).clamp_min(1e-4))
        if inputs == "speech":  # points move by different amounts, errors count alike
            net.scale.fill_(float(flat.std(0).mean()))
    face = FeltFace(spec) if references is not None else None
    weigh = torch.full((spec.size,), options.still)
    weigh[torch.from_numpy(mouth_of(spec))] = 1.0
    optimiser = torch.optim.AdamW(net.parameters(), options.rate, weight_decay=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.rate, options.steps + 1, pct_start=0.1)
    for step in range(options.steps):
        far = options.unroll[step * len(options.unroll) // options.steps]
        late = start is not None or step > options.steps / 3
        if references is not None and late and torch.rand(()) < options.references:
            assert face is not None
            loss = _by_reference(net, references, max(far, 2), face, self_image, options)
        else:
            loss = _by_babble(net, babble, far, weigh, self_image, options)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 20 == 19:
            progress(20)
    return net.eval().requires_grad_(False)


def _by_babble(
    net: ActionNet, lessons: Lessons, far: int, weigh: Tensor, self_image: ImageSelf | None, o: Training
) -> Tensor:
    assert lessons.commands is not None
    rows, at = _where(lessons.shown, far, o.batch)
    shown = _cut(lessons.shown, rows, at, far + 1)
    known = _cut(lessons.commands, rows, at - 2, far + 3)  # two before, `far`, one after
    before = (known[:, :2] + o.past_noise * torch.randn_like(known[:, :2])).clamp(0, 1)
    noisy = shown + o.noise * net.scale * torch.randn_like(shown[:, :1])
    now, after = rollout(net, noisy, before)
    off = nn.functional.smooth_l1_loss(now, known[:, 2:-1], reduction="none", beta=0.02)
    next_off = nn.functional.smooth_l1_loss(after, known[:, 3:], reduction="none", beta=0.02)
    loss = o.command * ((off + 0.5 * next_off) * weigh).mean()
    if self_image is not None and lessons.latents is not None:
        seen = self_image(now)[0]
        wanted = _cut(lessons.latents, rows, at, far)
        loss = loss + o.latent * ((seen - wanted) / self_image.scale[: seen.shape[-1]]).square().mean()
    return loss


def _by_reference(
    net: ActionNet, lessons: Lessons, far: int, face: FeltFace, self_image: ImageSelf | None, o: Training
) -> Tensor:
    """Rolled out for a while without a gradient, then `far` pictures with one."""
    assert lessons.points is not None
    assert lessons.gap is not None
    rows, at = _where(lessons.shown, far, o.batch)
    rest = torch.tensor(face.spec.rest, dtype=torch.float32)
    early = int(at.min())
    ramp = _cut(lessons.shown, rows, (at - 6).clamp_min(0), 7)
    past = rest.expand(len(rows), 2, -1)
    if early >= 0:
        with torch.no_grad():
            led, _ = rollout(net, ramp, past)
            past = led[:, -2:]
    now, _ = rollout(net, _cut(lessons.shown, rows, at, far + 1), past)
    whole = face.whole(now[..., face.mouth].flatten(0, 1))  # what a lip crop does not show stays at rest
    felt = face(whole)
    points = _cut(lessons.points, rows, at, far).flatten(0, 1)
    gap = _cut(lessons.gap[..., None], rows, at, far).flatten()
    # the length of the mismatch, not its square: what is out of reach must not rule
    loss = o.felt * (1 + mismatch(felt, points, gap, Descent())).sqrt().mean()
    if self_image is not None and lessons.latents is not None:
        seen = self_image(whole)[0]
        wanted = _cut(lessons.latents, rows, at, far).flatten(0, 1)
        loss = loss + o.latent * ((seen - wanted) / self_image.scale[: seen.shape[-1]]).square().mean()
    bend = torch.diff(torch.cat([past, now], 1), n=2, dim=1).square().mean()
    still = (now - rest).square()
    still = still[..., np.setdiff1d(np.arange(len(rest)), face.mouth.numpy())].mean()
    return loss + o.smooth * bend + o.still * o.command * still


def _where(shown: Tensor, far: int, batch: int) -> tuple[Tensor, Tensor]:
    """Rows and first pictures of a batch, two pictures before it and one after it known."""
    rows = torch.randint(shown.shape[0], (batch,))
    return rows, torch.randint(2, shown.shape[1] - far - 1, (batch,))


def _cut(table: Tensor, rows: Tensor, at: Tensor, far: int) -> Tensor:
    """Pieces (B, far, ...) of a table (S, T, ...), from picture `at` on."""
    return table[rows[:, None], at[:, None] + torch.arange(far)]


@torch.no_grad()
def command_errors(net: ActionNet, lessons: Lessons, spec: RigSpec, *, chunk: int = 256) -> dict[str, float]:
    """Mean absolute errors of commands on ways not trained on.

    "teacher-forced": the past is the true one in each picture; "free rollout": its own, from the third
    picture to the last; both also over all motors, and "held": the last true command before the rollout.
    """
    assert lessons.commands is not None
    mouth = torch.from_numpy(mouth_of(spec))
    total: dict[str, float] = {}
    for start in range(0, len(lessons.shown), chunk):
        shown, known = lessons.shown[start : start + chunk], lessons.commands[start : start + chunk]
        count = shown.shape[1] - 3
        past = torch.stack([known[:, :count], known[:, 1 : count + 1]], 2).flatten(0, 1)
        pairs = torch.stack([shown[:, 2 : count + 2], shown[:, 3 : count + 3]], 2).flatten(0, 1)
        forced = net(past, pairs)[:, 0].unflatten(0, (len(known), count))
        free, _ = rollout(net, shown[:, 2:], known[:, :2])
        aim = known[:, 2:-1]
        held = known[:, 1:2].expand_as(aim)
        for name, answer in (("teacher-forced", forced), ("free rollout", free), ("held", held)):
            off = (answer - aim).abs()
            total[name] = total.get(name, 0.0) + float(off[..., mouth].mean((1, 2)).sum())
            total[f"{name}, all motors"] = total.get(f"{name}, all motors", 0.0) + float(
                off.mean((1, 2)).sum()
            )
    return {name: value / len(lessons.shown) for name, value in total.items()}
