"""``facetwin train vae``: the image latent of lips, from babble before the simulated mirror.

All that takes time lies in a work folder: pictures, the net of the perceptual loss, a checkpoint every few
minutes. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from facetwin.cli.progress import Progress
from facetwin.policies.weights import provenance, save_weights
from facetwin.twin.errors import UsageError

CHECK = 100  # steps between checkpoints
PARTS = ("train", "held", "test")
SHOWN = 10  # pictures of a row of the panel


@dataclass
class TrainVae:
    """Learn the image latent: 128 x 128 crops of lips to 16 numbers and back."""

    work: Path
    """Folder for pictures and checkpoints; an interrupted run is taken up where it stopped."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Weights to write; default: vae_RIG.safetensors in the work folder."""
    rig: str = "face26"
    """Rig table that babbles."""
    frames: int = 20_000
    """Babbled postures to learn from; a twenty-fifth more each to watch and to test with."""
    speech: Path | None = None
    """Commands of speech (.npy, frames x motors): two of five postures lie around them."""
    vgg: Path | None = None
    """VGG-16 weights (torchvision's, as safetensors) for the perceptual loss, instead of our own net's."""
    steps: int = 6000
    """Batches of the training."""
    batch: int = 24
    """Pictures a batch."""
    reader_steps: int = 1500
    """Batches of the net whose features the perceptual loss compares."""
    kl: float = 2e-4
    """Weight of the KL divergence."""
    minutes: float = 0
    """Stop after so long, to be taken up again; 0: never."""
    seed: int = 0
    """Of everything random."""
    json: bool = False
    """Print one JSON object."""


def run(options: TrainVae) -> int:
    """Train, judge on pictures that nothing was fitted to, write weights and a panel of reconstructions."""
    import torch

    from facetwin.policies.lip_data import LipData
    from facetwin.policies.vae_train import Training, begin, finish, judge, train
    from facetwin.twin.spec import load_rig

    started = time.monotonic()
    if min(options.frames, options.steps, options.batch, options.reader_steps) < 1:
        raise UsageError("frames, steps, batch and reader steps are at least 1", where="train vae")
    spec = load_rig(options.rig)
    torch.set_num_threads(1)
    data: dict[str, LipData] = _pictures(options, spec)
    settings = Training(
        steps=options.steps, batch=options.batch, reader_steps=options.reader_steps, kl=options.kl,
        seed=options.seed,
    )  # fmt: skip
    features, judged_by = _features(options, data["train"], settings)
    work = begin(data["train"], settings)
    kept = options.work / "checkpoint.safetensors"
    if not work.load(kept):
        work.save(kept)
    last: dict[str, float] = {}
    with Progress("training the latent", total=options.steps, unit="steps") as bar:
        bar.update(work.step)
        while work.step < options.steps:
            train(work, data["train"], features, work.step + CHECK, last.update)
            work.save(kept)
            bar.update(work.step)
            if options.minutes and time.monotonic() - started > 60 * options.minutes:
                break
    sources = {k: int((data["train"].kind == i).sum()) for i, k in enumerate(_sources())}
    vae = finish(work, data["held"], {
        "model": "vae", "rig": spec.name, "rig_hash": spec.hash,
        "data": f"{len(data['train'])} babbled crops of the simulated mirror, by source: {sources}"
        + (f"; speech: commands in {options.speech.name}" if options.speech else ""),
        "licence": "Apache-2.0", **provenance(), "seed": options.seed, "perceptual": judged_by,
        "last": {k: round(v, 5) for k, v in last.items()},
        "distance": "root mean square over active dimensions, in standard deviations over held-out babble",
    })  # fmt: skip
    vae.sidecar["scores"] = judge(vae, data["test"])
    path = options.out or options.work / f"vae_{spec.name}.safetensors"
    vae.save(path)
    _panel(vae, data["test"], path.with_suffix(".png"))
    result = {"weights": str(path), "steps": work.step, "parameters": vae.parameters, **vae.sidecar["scores"]}
    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{key}: {value}" for key, value in result.items()))
        if work.step < options.steps:
            print(f"stopped at step {work.step} of {options.steps}: run again to go on")
    return 0


def _pictures(options: TrainVae, spec: Any) -> dict[str, Any]:
    """Pictures to learn from, to watch and to test with: babbled apart, around different speech."""
    from facetwin.policies.lip_data import make

    rows = _speech(options.speech, spec.size)
    counts = (options.frames, max(1, options.frames // 25), max(1, options.frames // 25))
    ends = (0.0, 0.8, 0.9, 1.0)
    out = {}
    with Progress("babbling", total=sum(counts), unit="postures") as bar:
        for k, (part, count) in enumerate(zip(PARTS, counts)):
            some = None if rows is None else rows[int(ends[k] * len(rows)) : int(ends[k + 1] * len(rows))]
            seed = 3 * options.seed + k
            out[part] = make(options.work / part, spec, count, seed, some, progress=bar.advance)
    return out


def _speech(path: Path | None, motors: int) -> NDArray[np.float32] | None:
    if path is None:
        return None
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as why:
        raise UsageError("commands of speech do not open", where=path, found=str(why)) from None
    if rows.ndim != 2 or rows.shape[1] != motors or len(rows) < 100 or not np.isfinite(rows).all():
        raise UsageError("not commands of speech", where=path, found=rows.shape,
                         expected=f"finite (100 or more, {motors})")  # fmt: skip
    return rows.astype(np.float32)


def _features(options: TrainVae, data: Any, settings: Any) -> tuple[Any, str]:
    """What the perceptual loss compares, and its name for the sidecar."""
    import torch
    from safetensors.torch import load_file

    from facetwin.policies.vae import to_net
    from facetwin.policies.vae_train import Reader, train_reader, vgg_features

    if options.vgg:
        return vgg_features(options.vgg), "VGG-16, relu1_2, relu2_2, relu3_3"
    kept = options.work / f"reader_{options.seed}_{options.reader_steps}.safetensors"
    if kept.exists():
        net = Reader(data.commands.shape[1])
        net.load_state_dict(load_file(kept))
        net.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
        net.settle(to_net(data.own[:64]))
    else:
        with Progress("learning to read lips", total=options.reader_steps, unit="steps") as bar:
            net = train_reader(data, settings, lambda row: bar.update(row["step"]))
        note = {"data": "as the latent's", "licence": "Apache-2.0", **provenance(), "seed": 0, "scores": {}}
        save_weights(kept, {k: v.contiguous().numpy() for k, v in net.state_dict().items()}, note)
    return net.features, (
        "features at 32, 16 and 8 px of our own net, built as the encoder, that tells lips40 and gap (by "
        f"geometry) and commands from the same crops, {options.reader_steps} batches"
    )


def _sources() -> Any:
    from facetwin.policies.lip_data import SOURCES

    return SOURCES


def _panel(vae: Any, test: Any, path: Path) -> None:
    """Test crops by gap, from shut to open: as some camera saw them, as the own one did, and as decoded."""
    import cv2

    order = np.argsort(test.gap)
    rows = np.sort(order[np.linspace(0, len(order) - 1, SHOWN).astype(int)])
    rows = rows[np.argsort(test.gap[rows])]
    seen, own = np.asarray(test.seen[rows]), np.asarray(test.own[rows])
    shown = [seen, own, vae.decode(vae.encode(seen)), vae.decode(vae.encode(own))]
    panel = np.concatenate([np.concatenate(list(each), 1) for each in shown])
    cv2.imwrite(str(path), panel[:, :, ::-1])
