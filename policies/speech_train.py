"""Training of the speech model on a tracked dataset (one talker).

A sequence is two clips with silence between. A third of them are made louder or softer, noisier, faster
or slower; one in ten is nothing but noise, hum, clicks or silence, for which the right answer is the rest
face: so silence gives a shut, still mouth at any level. The loss is the mean distance of points itself
(its optimum is the median, which keeps a mouth shut that is more often shut than not), more for the
lips, plus velocity, plus the opening with a margin around what counts as shut.
"""

from __future__ import annotations

import copy
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from facetwin.policies import logmel
from facetwin.policies.dataset import Clip
from facetwin.policies.speech import POINTS, ROWS, STEP, Shape, SpeechModel, SpeechNet, windows
from facetwin.twin.errors import FaceTwinError
from facetwin.twin.landmarks import indices, opening

#: index of the middle of the upper and lower inner lip (points 13, 14) in speech63
UPPER = int(np.flatnonzero(indices("speech63") == 13)[0])
LOWER = int(np.flatnonzero(indices("speech63") == 14)[0])
#: sound whose loudest band is below this is a pause (dB)
QUIET = -45.0


@dataclass(frozen=True)
class Training:
    """How one member of the ensemble is trained."""

    epochs: int = 50
    batch: int = 12
    """Pairs of clips a step."""
    rate: float = 2.5e-3
    decay: float = 0.02
    dropout: float = 0.35
    smooth: float = 0.995
    """Decay of the moving average of weights that is kept in the end."""
    velocity: float = 0.5
    opening: float = 0.1
    """Weight of the distance of openings, and of their square."""
    squared: float = 6.0
    closure: float = 1.0
    """Extra loss where the lips part in a closure or shut in an opening."""
    augment: float = 0.3
    """Share of sequences that are changed in level, noise, tempo and voice."""
    silence: float = 0.12
    """Share of sequences without speech."""
    seed: int = 0


@dataclass
class Material:
    """Clips made ready: log-mel (150, 80) dB, target displacement (75, 63, 2) u, weight (75,)."""

    rows: list[Tensor]
    targets: list[Tensor]
    seen: list[Tensor]
    rest: NDArray[np.float32]
    rest_opening: float

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, chosen: Sequence[int] | NDArray[np.intp]) -> Material:
        """Some of the clips."""
        pick = [[values[k] for k in chosen] for values in (self.rows, self.targets, self.seen)]
        return Material(pick[0], pick[1], pick[2], self.rest, self.rest_opening)


def rest_face(clips: Sequence[Clip]) -> NDArray[np.float32]:
    """The talker at rest: median of the pictures that are silent and shut, float32 [shape=(478, 3), u]."""
    faces = []
    for clip in clips:
        rows = logmel.log_mel(clip.samples)
        loud = rows.max(1)[: ROWS * len(clip)].reshape(-1, ROWS).max(1)  # (T,)
        still = (loud < QUIET) & (opening(clip.landmarks)[: len(loud)] < 0.02) & clip.seen[: len(loud)]
        faces.append(clip.landmarks[: len(loud)][still])
    joined = np.concatenate(faces)
    if len(joined) < 5:
        raise FaceTwinError("the talker is never silent with shut lips", found=f"{len(joined)} pictures")
    return np.median(joined, axis=0).astype(np.float32)


def prepare(clips: Sequence[Clip], rest: NDArray[np.float32]) -> Material:
    """Log-mel and displacement of clips; `rest` is a whole face (478, 3)."""
    ids = indices("speech63")
    rows, targets, seen = [], [], []
    for clip in clips:
        mel = logmel.log_mel(clip.samples[: len(clip) * STEP])
        rows.append(torch.from_numpy(mel))
        targets.append(torch.from_numpy(clip.landmarks[:, ids, :2] - rest[ids, :2]))
        seen.append(torch.from_numpy(clip.seen.astype(np.float32)))
    return Material(rows, targets, seen, rest[ids, :2].copy(), float(opening(rest)))


def train_member(
    shape: Shape,
    options: Training,
    data: Material,
    held_out: Material,
    report: Callable[[dict[str, float]], None] | None = None,
) -> tuple[SpeechNet, float]:
    """One network, and its best loss on the held-out clips (weights of that epoch are returned)."""
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)
    net = SpeechNet(shape, options.dropout)
    mean = copy.deepcopy(net)
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": options.decay},
        {"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98))
    per_epoch = max(1, len(data) // 2 // options.batch)
    total = options.epochs * per_epoch
    best, best_state, step = np.inf, copy.deepcopy(net.state_dict()), 0
    for epoch in range(options.epochs):
        began, losses = time.perf_counter(), []
        order = random.permutation(len(data))
        for k in range(per_epoch):
            chosen = order[k * 2 * options.batch : (k + 1) * 2 * options.batch]
            x, target, weight = make_batch(data, chosen, shape, options, random)
            warm = min(1.0, (step + 1) / (0.05 * total + 1))
            for group in optimizer.param_groups:
                group["lr"] = options.rate * warm * 0.5 * (1 + np.cos(np.pi * step / total))
            net.train()
            loss = speech_loss(net(x)[0], target, weight, data.rest_opening, options)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            step += 1
            keep = min(options.smooth, (1 + step) / (10 + step))
            with torch.no_grad():
                for a, b in zip(mean.parameters(), net.parameters()):
                    a.lerp_(b, 1 - keep)
            losses.append(float(loss.detach()))
        if epoch % 4 == 3 or epoch == options.epochs - 1:
            score = held_out_scores(mean, shape, held_out, options)
            if score["loss"] < best:
                best, best_state = score["loss"], copy.deepcopy(mean.state_dict())
            if report is not None:
                seconds = time.perf_counter() - began
                report({"epoch": epoch + 1, "train": float(np.mean(losses)), **score, "seconds": seconds})
    net.load_state_dict(best_state)
    return net.eval(), best


def make_batch(
    data: Material,
    chosen: Sequence[int] | NDArray[np.intp],
    shape: Shape,
    options: Training,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Network input (B, T, context * 80), target (B, T, 63, 2) and weight (B, T) of augmented sequences."""
    pairs = [chosen[k : k + 2] for k in range(0, len(chosen) - 1, 2)]
    length = 2 * max(len(target) for target in data.targets) + 26
    rows, targets, weights_ = [], [], []
    for pair in pairs:
        if random.random() < options.silence:
            mel, target, weight = _no_speech(length, random)
        else:
            mel, target, weight = _speech(data, pair, length, options, random)
        rows.append(mel)
        targets.append(target)
        weights_.append(weight)
    return (
        network_input(torch.stack(rows), shape),
        torch.stack(targets),
        torch.stack(weights_),
    )


def network_input(rows: Tensor, shape: Shape) -> Tensor:
    """Log-mel (B, 2 T, 80) to network input whose step k belongs to picture k: look-ahead and history."""
    history = shape.context - ROWS * shape.ahead  # rows before picture 0 that its step hears
    later = max(0, ROWS * (shape.ahead - 1))  # rows after the last picture
    whole = F.pad(rows, (0, 0, history, later), value=logmel.FLOOR)
    return windows(whole, shape.context)[:, : rows.shape[1] // ROWS]


def speech_loss(
    guess: Tensor, target: Tensor, weight: Tensor, rest_opening: float, options: Training
) -> Tensor:
    """Weighted distance + velocity + opening, in units of .01 u."""
    parts = torch.ones(POINTS)
    parts[40:51], parts[51:] = 0.5, 0.3  # jaw, cheeks
    parts /= parts.sum()
    off = guess - target  # (B, T, 63, 2)
    place = _length(off) @ parts  # (B, T)
    speed = _length(off[:, 1:] - off[:, :-1]) @ parts  # (B, T - 1)
    open_g = guess[..., UPPER, 1] - guess[..., LOWER, 1] + rest_opening  # (B, T)
    open_t = target[..., UPPER, 1] - target[..., LOWER, 1] + rest_opening
    gape = (open_g - open_t).abs()
    miss = torch.where(open_t < 0.02, F.relu(open_g - 0.012), 0.0)
    miss = miss + torch.where(open_t > 0.04, F.relu(0.04 - open_g), 0.0)
    each = place + options.opening * gape + options.squared * gape**2 + options.closure * miss
    both = weight[:, 1:] * weight[:, :-1]
    total = (each * weight).sum() / weight.sum() + options.velocity * (speed * both).sum() / both.sum()
    return 100 * total


@torch.no_grad()
def held_out_scores(net: SpeechNet, shape: Shape, data: Material, options: Training) -> dict[str, float]:
    """Loss, mean lip distance (u), opening correlation and share of right closures on clean clips."""
    net.eval()
    rows = torch.stack([r for r in data.rows if len(r) == len(data.rows[0])])
    target = torch.stack([t for t in data.targets if len(t) == len(data.targets[0])])
    weight = torch.stack([s for s in data.seen if len(s) == len(data.seen[0])])
    guess = net(network_input(rows, shape))[0]
    loss = float(speech_loss(guess, target, weight, data.rest_opening, options))
    lips = (_length(guess - target)[..., :40].mean(-1) * weight).sum() / weight.sum()
    open_g = (guess[..., UPPER, 1] - guess[..., LOWER, 1] + data.rest_opening)[weight > 0]
    open_t = (target[..., UPPER, 1] - target[..., LOWER, 1] + data.rest_opening)[weight > 0]
    corr = float(torch.corrcoef(torch.stack([open_g, open_t]))[0, 1])
    shut = ((open_g < 0.02) == (open_t < 0.02)).float().mean()
    return {"loss": loss, "lips": float(lips), "corr": corr, "shut": float(shut)}


def train(
    clips: Sequence[Clip],
    shape: Shape,
    options: Training,
    *,
    held_out: float = 0.05,
    workers: int = 1,
    report: Callable[[dict[str, float]], None] | None = None,
) -> SpeechModel:
    """An ensemble on all clips but a held-out share that decides when each member was best.

    Members are seeded `seed`, `seed` + 1, …; `workers` processes train them side by side, with the same
    result. `report` hears of each member now and then.
    """
    random = np.random.default_rng(options.seed)
    order = random.permutation(len(clips))
    aside = max(1, round(held_out * len(clips)))
    if len(clips) - aside < 2:
        raise FaceTwinError("too few clips to train on", found=len(clips), expected="at least 3")
    data = prepare(clips, rest_face(clips))
    parts = data.part(order[aside:]), data.part(order[:aside])
    members = [replace(options, seed=options.seed + k) for k in range(shape.members)]
    say = report or (lambda row: None)
    if workers == 1 or shape.members == 1:
        nets = [
            train_member(shape, own, *parts, lambda row, k=k: say({"member": k, **row}))[0]  # type: ignore[misc]
            for k, own in enumerate(members)
        ]
    else:
        nets = _side_by_side(shape, members, parts, workers, say)
    return SpeechModel(shape, nets, data.rest)


def _side_by_side(
    shape: Shape,
    members: list[Training],
    parts: tuple[Material, Material],
    workers: int,
    say: Callable[[dict[str, float]], None],
) -> list[SpeechNet]:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(workers, mp_context=context) as pool:
        rows = manager.Queue()
        jobs = [pool.submit(_member, shape, own, parts, k, rows) for k, own in enumerate(members)]
        try:
            while True:
                waiting = wait(jobs, timeout=1.0).not_done
                while not rows.empty():
                    say(rows.get())
                if not waiting:
                    return [job.result() for job in jobs]
        except BaseException:  # interrupted: a member would go on for minutes
            for process in list(pool._processes.values()):
                process.terminate()
            raise


def _member(
    shape: Shape, options: Training, parts: tuple[Material, Material], member: int, rows: Any
) -> SpeechNet:
    torch.set_num_threads(1)
    return train_member(shape, options, *parts, lambda row: rows.put({"member": member, **row}))[0]


def _length(v: Tensor) -> Tensor:
    return torch.sqrt((v * v).sum(-1) + 1e-8)


def _speech(
    data: Material,
    pair: Sequence[int] | NDArray[np.intp],
    length: int,
    options: Training,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Two clips with silence before, between and after, changed by chance."""
    changed = random.random() < options.augment
    # pauses put in are digital silence, or sound like the recording's own room
    rows = torch.full((length * ROWS, logmel.BANDS), logmel.FLOOR)
    if random.random() < 0.7:
        tone = data.rows[int(random.integers(len(data)))][:6].mean(0)
        rows = tone + torch.randn(rows.shape) * 4
    target = torch.zeros(length, POINTS, 2)
    weight = torch.ones(length)
    at = int(random.integers(0, 13))
    for k in pair:
        mel, aim, seen = data.rows[k], data.targets[k], data.seen[k]
        if changed and random.random() < 0.6:
            mel, aim, seen = _tempo(mel, aim, seen, float(random.uniform(0.88, 1.12)))
        count = min(len(aim), length - at)
        rows[at * ROWS : (at + count) * ROWS] = mel[: count * ROWS]
        target[at : at + count] = aim[:count]
        weight[at : at + count] = seen[:count]
        at += count + int(random.integers(0, 14))
        if at >= length:
            break
    if changed:
        if random.random() < 0.4:
            rows = _voice(rows, float(random.uniform(-3.5, 3.5)))
        if random.random() < 0.6:
            rows = _add(rows, _noise(len(rows), float(random.uniform(-75, -35)), random))
        if random.random() < 0.8:
            rows = rows + float(random.uniform(-25, 8))
    return rows.clamp_min(logmel.FLOOR), target, weight


def _no_speech(length: int, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Silence, noise of any colour and level, hum, clicks: the answer is the rest face."""
    rows = torch.full((length * ROWS, logmel.BANDS), logmel.FLOOR)
    if random.random() < 0.85:
        rows = _add(rows, _noise(len(rows), float(random.uniform(-92, -35)), random))
    if random.random() < 0.3:  # hum
        hum = torch.full((logmel.BANDS,), logmel.FLOOR)
        hum[: int(random.integers(1, 5))] = float(random.uniform(-75, -35))
        rows = _add(rows, hum.expand_as(rows))
    if random.random() < 0.3:  # clicks
        for _ in range(int(random.integers(1, 6))):
            at = int(random.integers(0, len(rows) - 2))
            rows[at : at + 2] = _add(
                rows[at : at + 2], torch.full((2, logmel.BANDS), float(random.uniform(-75, -40)))
            )
    return rows.clamp_min(logmel.FLOOR), torch.zeros(length, POINTS, 2), torch.ones(length)


def _noise(rows: int, level: float, random: np.random.Generator) -> Tensor:
    """Steady noise with a random tilt (dB), a power that flickers as short windows make it flicker."""
    tilt = torch.linspace(0, float(random.uniform(-30, 12)), logmel.BANDS)
    tilt = tilt - tilt.max()
    lines = np.linspace(1.2, 8, logmel.BANDS)  # of the spectrum in a band: narrow bands flicker more
    power = random.standard_gamma(lines, (rows, logmel.BANDS)) / lines
    return level + tilt + torch.from_numpy(10 * np.log10(power + 1e-6)).float()


def _add(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two powers given in dB."""
    return 10 * torch.log10(10 ** (a / 10) + 10 ** (b / 10))


def _voice(rows: Tensor, shift: float) -> Tensor:
    """Another vocal tract, roughly: the spectrum moved by some bands."""
    at = (torch.arange(logmel.BANDS) - shift).clamp(0, logmel.BANDS - 1)
    low = at.floor().long()
    high = (low + 1).clamp_max(logmel.BANDS - 1)
    return torch.lerp(rows[:, low], rows[:, high], at - low)


def _tempo(rows: Tensor, aim: Tensor, seen: Tensor, factor: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same said faster or slower (pitch kept): rows and landmarks resampled in time."""
    count = max(2, round(len(aim) * factor))

    def resample(x: Tensor, n: int) -> Tensor:
        at = torch.arange(n) * (len(x) / n)
        low = at.floor().long().clamp_max(len(x) - 1)
        high = (low + 1).clamp_max(len(x) - 1)
        share = (at - low).view(-1, *[1] * (x.ndim - 1))
        return torch.lerp(x[low], x[high], share)

    return resample(rows, count * ROWS), resample(aim, count), (resample(seen, count) > 0.99).float()
