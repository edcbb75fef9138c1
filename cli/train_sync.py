"""``facetwin train sync``: the net that hears whether sound and lips belong together, from clips."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from facetwin.cli.progress import Progress
from facetwin.twin.errors import UsageError


@dataclass
class TrainSync:
    """Train the sync net of facetwin track on datasets of clips whose sound fits their lips.

    Held-out clips of each dataset are scored with their own sound and with another clip's.
    """

    data: tyro.conf.Positional[list[Path]]
    """Datasets, as facetwin track or facetwin synth write them."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Weights to write; default: the shipped ones."""
    epochs: int = 25
    held: int = 40
    """Clips of each dataset that are only scored."""
    source: str = ""
    """What the data is, for the sidecar; default: the datasets' names."""
    licence: str = "CC BY 4.0"
    """Licence of the data, for the sidecar."""
    seed: int = 0
    json: bool = False
    """Print one JSON object."""


def run(options: TrainSync) -> int:
    """Train, score, write the weights."""
    import numpy as np
    import torch

    from facetwin.policies import av_offset, sync_net
    from facetwin.policies.dataset import load_clips
    from facetwin.policies.sync_train import Training, train
    from facetwin.policies.weights import provenance

    if options.epochs < 1 or options.held < 2:
        raise UsageError("epochs is at least 1, held at least 2", where="train sync")
    torch.set_num_threads(1)
    random = np.random.default_rng(options.seed)
    learnt, held = [], {}
    for folder in options.data:
        clips = load_clips(folder)
        order = random.permutation(len(clips))
        held[str(folder)] = [clips[k] for k in order[: options.held]]
        learnt += [clips[k] for k in order[options.held :]]
    began = time.monotonic()
    with Progress("training", total=options.epochs, unit="epochs") as progress:
        net = train(
            learnt,
            Training(epochs=options.epochs, seed=options.seed),
            report=lambda epoch, loss: progress.update(epoch + 1),
        )
    scores = {folder: av_offset.figures(clips, net) for folder, clips in held.items()}
    path = options.out or sync_net.shipped()
    names = ", ".join(f"{folder.resolve().parent.name}/{folder.name}" for folder in options.data)
    sidecar = {
        "model": "sync net",
        "data": options.source or names,
        "licence": options.licence,
        **provenance(),
        "seed": options.seed,
        "clips": len(learnt),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "parameters": sum(p.numel() for p in net.parameters()),
        "scores": {Path(folder).name: row for folder, row in scores.items()},
    }
    sync_net.save(net, path, sidecar)
    if options.json:
        print(json.dumps({"weights": str(path), **sidecar}))
        return 0
    print(f"{path}: {sidecar['parameters']} weights from {len(learnt)} clips in {sidecar['minutes']} minutes")
    for name_of, row in scores.items():
        print(f"  {name_of}: " + ", ".join(f"{name} {value:g}" for name, value in row.items()))
    return 0
