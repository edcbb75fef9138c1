"""Training of the speech models on tracked talkers.

The loss is the mean distance of points itself (its optimum is the median, which keeps a mouth shut that is
more often shut than not), more for the lips, plus velocity, plus the opening: its logarithm, so that a small
gap weighs as much as a wide one, and a margin around what counts as shut. The seeds' loss, the mean square
of (standardised) displacement, is the other choice. Data and augmentation: `speech_data`, `augment`.
"""

from __future__ import annotations

import copy
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from facetwin.policies import logmel
from facetwin.policies.apc import APC
from facetwin.policies.audio2landmark import SliceNet
from facetwin.policies.checkpoint import load_state, save_state
from facetwin.policies.dataset import Clip
from facetwin.policies.speech import SpeechModel, make_net
from facetwin.policies.speech_data import Batch, Material, Sampler, prepare
from facetwin.policies.speech_data import rest_face as rest_face
from facetwin.policies.speech_nets import ConvNet
from facetwin.policies.speech_shape import POINTS, ROWS, Shape, standardised, windows
from facetwin.policies.visemes_table import SOUNDS
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import indices

#: index of the middle of the upper and lower inner lip (points 13, 14) in speech63
UPPER = int(np.flatnonzero(indices("speech63") == 13)[0])
LOWER = int(np.flatnonzero(indices("speech63") == 14)[0])
#: a gap of this weighs half as much as none, u
GAP = 0.02

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Training:
    """How one member of the ensemble is trained."""

    epochs: int = 50
    """Times that as many pictures as there are were drawn."""
    seconds: float = 0.0
    """Processor time after which training ends, whatever the epochs; 0: no such end."""
    batch: int = 24
    """Sequences a step."""
    length: int = 150
    """Pictures of a sequence."""
    rate: float = 2.5e-3
    decay: float = 0.02
    dropout: float = 0.2
    smooth: float = 0.995
    """Decay of the moving average of weights that is kept in the end."""
    squares: bool = False
    """The seeds' loss: mean square of displacement in the network's own units."""
    parts: bool = True
    """Lips weigh more than the jaw, and that more than the cheeks."""
    velocity: float = 0.5
    opening: float = 0.3
    """Weight of the distance of openings, small gaps counting most."""
    squared: float = 6.0
    closure: float = 1.0
    """Extra loss where the lips part in a closure or shut in an opening."""
    closing: float = 1.0
    """How much the former counts against the latter: closures are rare, and everybody sees a missed one."""
    sounds: float = 0.0
    """Weight of telling which sound is said, from what motion is made of (conv; clips that know it)."""
    augment: float = 0.8
    """How much is changed in level, noise, tempo, room and voice."""
    silence: float = 0.12
    """Share of sequences without speech."""
    seed: int = 0


def train_member(
    shape: Shape,
    options: Training,
    data: Material,
    held_out: Material,
    report: Report | None = None,
    apc: APC | None = None,
    share: Sequence[float] | None = None,
    state: Path | None = None,
    start: nn.Module | None = None,
) -> tuple[nn.Module, float]:
    """One network, and its best loss on the held-out clips (weights of that moment are returned).

    Training begins with the weights of `start`, a network of the same shape, or with random ones.
    Twelve times on the way all is written into the file `state`; where it is there, training goes on from it.
    """
    torch.manual_seed(options.seed)
    net = make_net(shape, options.dropout)
    if start is not None:
        begun = start.state_dict()  # of the net itself, or of the convolutions under a whole one
        net.load_state_dict({**net.state_dict(), **begun})
    if shape.standard and isinstance(net, SliceNet):
        moved = torch.cat(data.targets)
        net.standardise(moved.mean(0), moved.std(0).clamp_min(1e-3))
    mean = copy.deepcopy(net)
    reader = nn.Linear(shape.hidden, len(SOUNDS)) if options.sounds and isinstance(net, ConvNet) else None
    every = [*net.parameters(), *(reader.parameters() if reader is not None else ())]
    groups = [
        {"params": [p for p in every if p.ndim > 1], "weight_decay": options.decay},
        {"params": [p for p in every if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.98))
    sampler = Sampler(
        data, shape, length=options.length, share=share, change=options.augment, silence=options.silence,
        seed=options.seed,
    )  # fmt: skip
    per_epoch = max(1, data.pictures // (options.batch * options.length))
    total = options.epochs * per_epoch
    best_net, losses = copy.deepcopy(net), []
    held: dict[str, nn.Module] = {"net": net, "mean": mean, "best": best_net}
    if reader is not None:
        held["reader"] = reader
    run = {"shape": repr(shape), "training": repr(options), "clips": len(data)}
    facts: dict[str, Any] = {"step": 0, "done": 0.0, "best": float("inf"), "spent": 0.0}
    if state is not None:
        facts |= load_state(state, held, optimizer, sampler.random, sampler.torch_random, run) or {}
    step, done, best = int(facts["step"]), facts["done"], facts["best"]
    began, looks = time.process_time() - facts["spent"], int(done * 12)
    while done < 1:
        batch = sampler.draw(options.batch)
        for group in optimizer.param_groups:
            group["lr"] = options.rate * min(1.0, done / 0.04 + 0.01) * 0.5 * (1 + np.cos(np.pi * done))
        net.train()
        # half precision where it is all matrix products: twice as fast, and as good
        with torch.autocast("cpu", torch.bfloat16, enabled=shape.net == "conv"):
            heard = network_input(batch.rows, shape, apc)
            if reader is not None and isinstance(net, ConvNet):
                inner = net.hear(heard)[0]  # (B, T, hidden)
                guess, told = net.move(inner), reader(inner)
            else:
                guess, told = net(heard, None, batch.face)[0], None
        loss = speech_loss(guess.float(), batch, options, net)
        if told is not None:  # a sum over what is known: a batch may know none
            off = F.cross_entropy(
                told.float().flatten(0, 1), batch.spoken.flatten(), ignore_index=-1, reduction="sum"
            )
            loss = loss + options.sounds * off / batch.spoken.numel()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        _follow(mean, net, min(options.smooth, (1 + step) / (10 + step)))
        losses.append(float(loss.detach()))
        done = step / total
        if options.seconds:
            done = max(done, (time.process_time() - began) / options.seconds)
        if done * 12 >= looks + 1 or done >= 1:
            looks = int(done * 12)
            score = held_out_scores(mean, shape, held_out, options, apc)
            if score["loss"] < best:
                best = score["loss"]
                best_net.load_state_dict(mean.state_dict())
            spent = time.process_time() - began
            if state is not None and done < 1:
                now = {**run, "step": step, "done": done, "best": best, "spent": spent}
                save_state(state, held, optimizer, sampler.random, sampler.torch_random, now)
            if report is not None:
                row = {"done": min(1.0, done), "step": step, "train": float(np.mean(losses))}
                report({**row, **score, "seconds": spent})
            losses = []
    return best_net.eval(), best


@torch.no_grad()
def _follow(mean: nn.Module, net: nn.Module, keep: float) -> None:
    for mine, new in zip(mean.parameters(), net.parameters()):
        mine.lerp_(new, 1 - keep)
    for held, now in zip(mean.buffers(), net.buffers()):
        held.copy_(now)


def network_input(rows: Tensor, shape: Shape, apc: APC | None = None) -> Tensor:
    """Log-mel in dB (B, R, 80), as a stream from its very beginning, to windows (B, R // 2, context * F)."""
    before = rows.new_full((len(rows), shape.history, logmel.BANDS), shape.floor)
    after = rows.new_full((len(rows), ROWS * shape.ahead, logmel.BANDS), shape.floor)
    padded = torch.cat([before, rows, after], 1)[:, : shape.context + (rows.shape[1] // ROWS - 1) * ROWS]
    x = torch.from_numpy(standardised(padded.numpy(), shape))
    if apc is not None:
        x = apc.hear(x)[0]
    return windows(x, shape.context)


def speech_loss(guess: Tensor, batch: Batch, options: Training, net: nn.Module | None = None) -> Tensor:
    """Distance + velocity + opening, in units of .01 u; or the seeds' mean square."""
    target, weight = batch.target, batch.weight
    parts = torch.ones(POINTS)
    if options.parts:
        parts[40:51], parts[51:] = 0.5, 0.3  # jaw, cheeks
    parts = parts / parts.sum()
    off = guess - target  # (B, T, 63, 2)
    if options.squares:
        unit = net.spread if isinstance(net, SliceNet) else 0.05
        each = ((off / unit) ** 2).mean(-1) @ parts
        return (each * weight).sum() / weight.sum()
    place = _length(off) @ parts  # (B, T)
    speed = _length(off[:, 1:] - off[:, :-1]) @ parts  # (B, T - 1)
    open_g, open_t = gapes(guess, batch.opening), gapes(target, batch.opening)
    gape = (open_g - open_t).abs()
    miss = torch.where(open_t < 0.02, options.closing * F.relu(open_g - 0.012), 0.0)
    miss = miss + torch.where(open_t > 0.04, F.relu(0.04 - open_g), 0.0)
    small = GAP * (_small(open_g) - _small(open_t)).abs()
    each = place + options.opening * small + options.squared * gape**2 + options.closure * miss
    both = weight[:, 1:] * weight[:, :-1]
    total = (each * weight).sum() / weight.sum() + options.velocity * (speed * both).sum() / both.sum()
    return 100 * total


def gapes(displacement: Tensor, rest: Tensor) -> Tensor:
    """Opening (B, T) in u of displacement (B, T, 63, 2) from faces that are open by `rest` (B,)."""
    return displacement[..., UPPER, 1] - displacement[..., LOWER, 1] + rest[:, None]


def _small(gap: Tensor) -> Tensor:
    """Logarithm of a gap that is a straight line below zero: the slope is 1 / GAP there, less above."""
    return torch.log1p(gap.clamp_min(0) / GAP) + gap.clamp_max(0) / GAP


@torch.no_grad()
def held_out_scores(
    net: nn.Module, shape: Shape, data: Material, options: Training, apc: APC | None = None
) -> dict[str, float]:
    """Loss, mean lip distance (u), opening correlation and share of right closures on clean clips."""
    net.eval()
    longest = max(len(target) for target in data.targets)
    rows = torch.full((len(data), longest * ROWS, logmel.BANDS), shape.floor)
    target, weight = torch.zeros(len(data), longest, POINTS, 2), torch.zeros(len(data), longest)
    for k, (voices, aim, seen) in enumerate(zip(data.rows, data.targets, data.seen)):
        rows[k, : len(voices[0])] = voices[0]
        target[k, : len(aim)], weight[k, : len(seen)] = aim, seen
    talker = data.talker
    unsaid = torch.full(weight.shape, -1)
    batch = Batch(rows, target, weight, unsaid, data.rests[talker], data.openings[talker])
    guess = torch.cat(
        [
            net(network_input(rows[k : k + 32], shape, apc), None, batch.face[k : k + 32])[0]
            for k in range(0, len(rows), 32)
        ]
    )
    loss = float(speech_loss(guess, batch, options, net))
    lips = (_length(guess - target)[..., :40].mean(-1) * weight).sum() / weight.sum()
    open_g, open_t = gapes(guess, batch.opening)[weight > 0], gapes(target, batch.opening)[weight > 0]
    corr = float(torch.corrcoef(torch.stack([open_g, open_t]))[0, 1])
    shut = ((open_g < 0.02) == (open_t < 0.02)).float().mean()
    return {"loss": loss, "lips": float(lips), "corr": corr, "shut": float(shut)}


def train(
    datasets: Sequence[Clip] | Sequence[Sequence[Clip]],
    shape: Shape,
    options: Training,
    *,
    held_out: float = 0.05,
    workers: int = 1,
    report: Report | None = None,
    apc: APC | None = None,
    share: Sequence[float] | None = None,
    keep: Path | None = None,
    start: SpeechModel | None = None,
) -> SpeechModel:
    """An ensemble on all clips but a held-out share that decides when each member was best.

    `datasets` is one list of clips or several; sequences are drawn from each as `share` says, by default
    equally. Member k begins as member k of `start`, where there is one. The model's rest is that of the
    first talker. Members are seeded `seed`, `seed` + 1, …; `workers` processes train them side by side, with
    the same result. `report` hears of each now and then. The folder `keep` holds members that are done and
    the state of those that are not: a killed run that is started again as it was goes on from there.
    """
    if start is not None and not _alike(start.shape, shape):
        raise UsageError("weights to start from have another shape", found=start.shape, expected=shape)
    data, parts = split(datasets, shape, options, held_out)
    rest = data.rests[0].numpy()
    say = report or (lambda row: None)
    jobs = []
    for k in range(shape.members):
        own = replace(options, seed=options.seed + k)
        kept = _Kept(keep, shape, own, len(data), rest)
        first = None if start is None else start.nets[k % len(start.nets)]
        jobs.append(_Member(k, shape, own, parts, apc, share, kept, first))
    if workers == 1 or shape.members == 1:
        nets = [job.train(say) for job in jobs]
    else:
        nets = _side_by_side(jobs, workers, say)
    return SpeechModel(shape, nets, rest, apc=apc)


def _alike(a: Shape, b: Shape) -> bool:
    """Whether a network of shape `a` fits into one of shape `b`."""
    attention = b.attention if a.net == "conv" and a.attention == "none" else a.attention
    alike = {"members": 1, "leveled": True, "gain": 1.0}
    return replace(a, **alike, attention=attention) == replace(b, **alike)  # type: ignore[arg-type]


def split(
    datasets: Sequence[Clip] | Sequence[Sequence[Clip]], shape: Shape, options: Training, held_out: float
) -> tuple[Material, tuple[Material, Material]]:
    """All clips made ready, and their parts for training and for deciding when a network was best."""
    lists: list[Any] = [datasets] if datasets and isinstance(datasets[0], Clip) else list(datasets)
    count = sum(len(clips) for clips in lists)
    aside = max(1, round(held_out * count))
    if count - aside < 2:
        raise FaceTwinError("too few clips to train on", found=count, expected="at least 3")
    order = np.random.default_rng(options.seed).permutation(count)
    data = prepare(lists, shape.floor, voices=options.augment > 0 and shape.leveled)
    return data, (data.part(np.sort(order[aside:])), data.part(np.sort(order[:aside])))


@dataclass
class _Kept:
    """Where a finished member lies until all are."""

    folder: Path | None
    shape: Shape
    options: Training
    clips: int
    rest: NDArray[np.float32]

    def _path(self) -> tuple[Path | None, dict[str, Any]]:
        said = {"data": f"{self.clips} clips", "training": asdict(self.options)}
        return self.folder and self.folder / f"member_{self.options.seed}.safetensors", said

    @property
    def state(self) -> Path | None:
        return self.folder and self.folder / f"state_{self.options.seed}.safetensors"

    def find(self) -> nn.Module | None:
        path, said = self._path()
        if path is None or not path.exists():
            return None
        kept = SpeechModel.load(path)
        same = replace(self.shape, members=1, apc=(0, 0)) == replace(kept.shape, apc=(0, 0))
        return kept.nets[0] if same and all(kept.sidecar.get(k) == v for k, v in said.items()) else None

    def put(self, net: nn.Module, apc: APC | None) -> None:
        path, said = self._path()
        if path is not None:
            told = {"licence": "", "command": "", "commit": "", "seed": self.options.seed, "scores": {}}
            model = SpeechModel(replace(self.shape, members=1), [net], self.rest, apc=apc)
            model.save(path, {**said, **told})


@dataclass
class _Member:
    """All that training one member needs; goes to another process as it is."""

    number: int
    shape: Shape
    options: Training
    parts: tuple[Material, Material]
    apc: APC | None
    share: Sequence[float] | None
    kept: _Kept
    start: nn.Module | None

    def train(self, say: Report) -> nn.Module:
        net = self.kept.find()
        if net is None:
            tell = lambda row: say({"member": self.number, **row})  # noqa: E731
            net = train_member(
                self.shape, self.options, *self.parts, tell, self.apc, self.share, self.kept.state, self.start
            )[0]
            self.kept.put(net, self.apc)
        return net


def _side_by_side(members: list[_Member], workers: int, say: Report) -> list[nn.Module]:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(workers, mp_context=context) as pool:
        rows = manager.Queue()
        jobs = [pool.submit(_elsewhere, member, rows) for member in members]
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


def _elsewhere(member: _Member, rows: Any) -> nn.Module:
    torch.set_num_threads(1)
    return member.train(rows.put)


def _length(v: Tensor) -> Tensor:
    return torch.sqrt((v * v).sum(-1) + 1e-8)
