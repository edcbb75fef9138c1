"""``facetwin train speech``: the speech model from tracked datasets, of one talker or many."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from facetwin.cli.progress import Progress
from facetwin.policies.weights import provenance
from facetwin.twin.errors import UsageError

#: said in the sidecar of weights trained on GRID, as its licence asks
GRID = (
    "GRID audiovisual sentence corpus, talker s1 (M. Cooke, J. Barker, S. Cunningham, X. Shao, 2006, "
    "J. Acoust. Soc. Am. 120, 2421), CC BY 4.0"
)


@dataclass
class TrainSpeech:
    """Train the model that turns sound into the motion of lips, jaw and cheeks.

    Motion counts from each talker's own rest face; the model keeps that of the first dataset's first talker.
    """

    data: tuple[Path, ...]
    """Datasets made by facetwin track or synth; each is heard equally often."""
    out: Path = Path("out/speech_80ms.safetensors")
    """Weights; a JSON with the same name says where they come from."""
    lookahead: int = 80
    """Sound known beyond a picture's time, ms: 0, 40 or 80."""
    members: int = 1
    """Networks whose answers are averaged."""
    net: str = "conv"
    """conv (convolutions) or gru (recurrent); facetwin train family has all others."""
    whole: bool = False
    """For whole clips, not for streams: over the convolutions one transformer layer that looks ahead, too;
    --start may be weights without it."""
    hidden: int = 192
    layers: int = 6
    epochs: int = 50
    minutes: float = 0.0
    """Processor time for each member, whatever the epochs; 0: no such end."""
    batch: int = 24
    """Sequences of 6 s a step."""
    dropout: float = 0.2
    silence: float = 0.12
    """Share of sequences that are noise, music, breath or nothing: for them the face must rest."""
    augment: float = 0.8
    """How much voice, room, noise, level and tempo are changed, 0 to 1."""
    sounds: float = 0.0
    """Weight of telling which sound is said, from clips that know it (conv); the weights stay as many."""
    closing: float = 1.0
    """How much lips that part in a closure count against lips that shut while open."""
    start: Path | None = None
    """Weights to begin with, of the same kind and sizes."""
    rate: float = 2.5e-3
    """Learning rate at its highest."""
    share: tuple[float, ...] = ()
    """How often each dataset is heard, in the order of --data; by default equally often."""
    limit: int | None = None
    """Use only the first so many clips of each dataset (a trial)."""
    half: bool = False
    """Write matrices in half precision: files of half the size."""
    workers: int = 1
    """Processes; each trains a network of its own."""
    seed: int = 0
    source: str = GRID
    """What the data is and who made it, for the sidecar."""
    licence: str = "CC BY 4.0"
    """Licence of the data, for the sidecar."""
    json: bool = False
    """Print one JSON object."""


def train_speech(options: TrainSpeech) -> dict[str, object]:
    """Train, save, and return the sidecar."""
    import torch

    from facetwin.policies.dataset import load_clips
    from facetwin.policies.speech import SpeechModel
    from facetwin.policies.speech_shape import Shape
    from facetwin.policies.speech_train import Training, train

    numbers = (
        options.members, options.hidden, options.layers, options.epochs, options.batch, options.workers
    )  # fmt: skip
    if min(numbers) < 1:
        raise UsageError(
            "members, hidden, layers, epochs, batch and workers are at least 1", where="train speech"
        )
    for name in ("silence", "augment"):
        value = getattr(options, name)
        if not 0 <= value <= 1 - (name == "silence") * 1e-9:
            raise UsageError(f"bad {name}", where="train speech", found=value, expected="0 to 1")
    if options.share and (len(options.share) != len(options.data) or min(options.share) <= 0):
        raise UsageError(
            "bad share", where="train speech", found=options.share, expected=f"{len(options.data)} above 0"
        )
    for name in ("sounds", "closing"):
        if not 0 <= getattr(options, name) <= 100:
            raise UsageError(
                f"bad {name}", where="train speech", found=getattr(options, name), expected="0 to 100"
            )
    shape = Shape(
        options.lookahead, options.members, options.hidden, options.layers, net=options.net, leveled=True,
        attention="transformer" if options.whole else "none",
    )  # fmt: skip
    torch.set_num_threads(1)
    training = Training(
        epochs=options.epochs, seconds=60 * options.minutes, batch=options.batch, dropout=options.dropout,
        silence=options.silence, sounds=options.sounds,
        closing=options.closing, augment=options.augment, rate=options.rate, seed=options.seed,
    )  # fmt: skip
    start = SpeechModel.load(options.start) if options.start else None
    datasets = [load_clips(folder, options.limit) for folder in options.data]
    last: dict[int, dict[str, float]] = {}
    began = time.monotonic()
    keep = options.out.with_suffix(".members")
    with Progress("training", total=options.members, unit="networks") as progress:

        def report(row: dict[str, float]) -> None:
            last[int(row["member"])] = row
            progress.update(sum(each["done"] for each in last.values()))

        model = train(
            datasets, shape, training, workers=options.workers, report=report, share=options.share or None,
            keep=keep, start=start,
        )  # fmt: skip
    held = [
        {k: round(v, 5) for k, v in row.items() if k in ("step", "loss", "lips", "corr", "shut", "seconds")}
        for row in last.values()
    ]
    heard = ", ".join(
        f"{folder.name} {len(clips)} clips of {len({clip.talker for clip in clips})} talkers"
        for folder, clips in zip(options.data, datasets)
    )
    sidecar: dict[str, object] = {
        "model": "speech",
        "data": f"{options.source}; {heard}",
        "licence": options.licence,
        **provenance(),
        "seed": options.seed,
        "training": training.__dict__,
        "started from": f"{options.start.name}: {start.sidecar['data']}" if options.start and start else "",
        "minutes": round((time.monotonic() - began) / 60, 1),
        "parameters": model.parameters,
        "scores": {"held out of the training clips, each member": held},
    }
    model.save(options.out, sidecar, half=options.half)
    shutil.rmtree(keep, ignore_errors=True)
    return model.sidecar


def run(options: TrainSpeech) -> int:
    """Train and say where the weights are."""
    sidecar = train_speech(options)
    if options.json:
        print(json.dumps({"weights": str(options.out), **sidecar}))
    else:
        print(f"{options.out}: {sidecar['parameters']} weights in {sidecar['minutes']} minutes")
    return 0
