"""``facetwin train apc``: speech features by predicting what comes next, from any speech."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facetwin.cli.progress import Progress
from facetwin.policies.weights import provenance
from facetwin.twin.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SOUNDS = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".mp4")


@dataclass
class TrainAPC:
    """Pre-train APC (GRUs that guess the log-mel three rows ahead) on speech without any labels."""

    data: tuple[Path, ...]
    """Landmark datasets, of which only the sound is used, or folders of recordings."""
    out: Path = Path("out/apc.safetensors")
    """Weights; the curve goes beside them (.curve.json, .curve.png)."""
    layers: int = 3
    width: int = 512
    """3 x 512 are the report's 4 M weights; 2 x 128 (0.2 M) keep up with a stream anywhere."""
    minutes: float = 4.0
    """Processor time."""
    limit: int | None = None
    """Use only the first so many recordings of each (a trial)."""
    seed: int = 0
    json: bool = False
    """Print one JSON object."""


def run(options: TrainAPC) -> int:
    """Train, write weights and curve, print the errors."""
    import torch

    from facetwin.policies.apc import APCShape
    from facetwin.policies.apc_train import APCTraining, train_apc

    if options.minutes <= 0:
        raise UsageError("no time to train", where="--minutes", found=options.minutes, expected="above 0")
    torch.set_num_threads(1)
    shape = APCShape(options.layers, options.width)
    recordings = [sound for source in options.data for sound in _sounds(source, options.limit)]
    began = time.monotonic()
    with Progress("training APC", total=1.0) as progress:
        net, curve = train_apc(
            recordings,
            shape,
            APCTraining(seconds=60 * options.minutes, seed=options.seed),
            lambda row: progress.update(row["done"]),
        )
    hours = sum(len(sound) for sound in recordings) / 16_000 / 3600
    last = curve[-1]
    sidecar: dict[str, object] = {
        "data": f"{', '.join(f.name for f in options.data)}: {len(recordings)} recordings, {hours:.2f} h",
        "licence": "as the data's",
        **provenance(),
        "seed": options.seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "parameters": sum(p.numel() for p in net.parameters()),
        "scores": {
            "mean |error| on recordings held out, 15 dB": {k: last[k] for k in ("held_out", "repeat")}
        },
    }
    net.save(options.out, sidecar)
    options.out.with_suffix(".curve.json").write_text(json.dumps(curve, indent=1) + "\n", "utf-8")
    _draw(curve, options.out.with_suffix(".curve.png"), f"APC {shape.layers} x {shape.width}")
    if options.json:
        print(json.dumps({"weights": str(options.out), **sidecar, "curve": curve}))
    else:
        print(
            f"{options.out}: {sidecar['parameters']} weights, {last['step']:.0f} steps; error held out "
            f"{15 * last['held_out']:.2f} dB (repeating the last row: {15 * last['repeat']:.2f} dB)"
        )
    return 0


def _sounds(source: Path, limit: int | None) -> Iterator[NDArray[np.float32]]:
    """Sound of a dataset's clips, or of all recordings in a folder; one without sound raises."""
    from facetwin.policies import audio
    from facetwin.policies.dataset import iterate_clips

    if (source / "meta.json").exists():
        for clip in iterate_clips(source, limit):
            yield clip.samples
        return
    files = sorted(p for p in source.glob("**/*") if p.suffix.lower() in SOUNDS) if source.is_dir() else []
    if not files:
        raise UsageError(
            "neither a dataset nor a folder of recordings", where=source, expected="|".join(SOUNDS)
        )
    for path in files[:limit]:
        yield audio.load(path).samples


def _draw(curve: list[dict[str, float]], path: Path, title: str) -> None:
    """The validation loss, with its baseline."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    steps = [row["step"] for row in curve]
    for key, label in (("train", "training (augmented)"), ("held_out", "held out")):
        axes.plot(steps, [15 * row[key] for row in curve], label=label)
    axes.axhline(15 * curve[-1]["repeat"], color="grey", linestyle=":", label="last row repeated")
    axes.set(xlabel="step", ylabel="mean |error|, dB", title=title)
    axes.legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
