"""``facetwin train speech``: the speech model from a tracked dataset."""

from __future__ import annotations

import json
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

    One talker a model: his rest face is what the motion counts from.
    """

    data: Path
    """Dataset made by facetwin track."""
    out: Path = Path("out/speech_80ms.safetensors")
    """Weights; a JSON with the same name says where they come from."""
    lookahead: int = 80
    """Sound known beyond a picture's time, ms: 0, 40 or 80."""
    members: int = 2
    """Networks whose answers are averaged."""
    hidden: int = 192
    epochs: int = 50
    batch: int = 12
    """Pairs of clips a step."""
    dropout: float = 0.35
    silence: float = 0.12
    """Share of sequences that are noise, hum, clicks or nothing: for them the face must rest."""
    limit: int | None = None
    """Use only the first so many clips (a trial)."""
    workers: int = 2
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
    from facetwin.policies.speech import Shape
    from facetwin.policies.speech_train import Training, train

    shape = Shape(options.lookahead, options.members, options.hidden)
    if min(options.members, options.hidden, options.epochs, options.batch, options.workers) < 1:
        raise UsageError("members, hidden, epochs, batch and workers are at least 1", where="train speech")
    if not 0 <= options.silence < 1:
        raise UsageError("bad silence", where="train speech", found=options.silence, expected="0 to below 1")
    torch.set_num_threads(1)
    training = Training(
        epochs=options.epochs, batch=options.batch, dropout=options.dropout, silence=options.silence,
        seed=options.seed,
    )  # fmt: skip
    clips = load_clips(options.data, options.limit)
    last: dict[int, dict[str, float]] = {}
    began = time.monotonic()
    with Progress("training", total=options.members * options.epochs, unit="epochs") as progress:

        def report(row: dict[str, float]) -> None:
            last[int(row["member"])] = row
            progress.update(sum(each["epoch"] for each in last.values()))

        model = train(clips, shape, training, workers=options.workers, report=report)
    held = [
        {k: round(v, 5) for k, v in row.items() if k in ("loss", "lips", "corr", "shut")}
        for row in last.values()
    ]
    sidecar: dict[str, object] = {
        "model": "speech",
        "data": f"{options.source}; {len(clips)} clips",
        "licence": options.licence,
        **provenance(),
        "seed": options.seed,
        "training": training.__dict__,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "parameters": model.parameters,
        "scores": {"held out of the training clips, each member": held},
    }
    model.save(options.out, sidecar)
    return model.sidecar


def run(options: TrainSpeech) -> int:
    """Train and say where the weights are."""
    sidecar = train_speech(options)
    if options.json:
        print(json.dumps({"weights": str(options.out), **sidecar}))
    else:
        print(f"{options.out}: {sidecar['parameters']} weights in {sidecar['minutes']} minutes")
    return 0
