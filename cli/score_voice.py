"""``facetwin score voice``: does the speech model rest without speech, and move at any level and voice?"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetwin.cli.progress import Progress
from facetwin.policies import weights as weight_files
from facetwin.twin.errors import UsageError

#: largest p95 of the opening where nobody speaks, u
REST = 0.03
#: by how much the opening's spread may change with the level
LOUDNESS = 0.15


@dataclass
class ScoreVoice:
    """Score what must not matter: noise, music, breath, silence; level; whisper. And the time of a step."""

    recordings: tuple[Path, ...] = ()
    """Speech to make softer and louder; by default the sample and a whispering voice."""
    lookahead: int = 80
    """Shipped weights to score, ms: 0, 40 or 80."""
    weights: Path | None = None
    """Other weights."""
    seconds: float = 8.0
    """Length of each sound without speech."""
    record: bool = False
    """Write the figures into the sidecar of the weights."""
    json: bool = False
    """Print one JSON object."""


def run(options: ScoreVoice) -> int:
    """Print the tables."""
    import torch

    from facetwin import assets
    from facetwin.policies import audio, nonspeech
    from facetwin.policies.espeak import speak
    from facetwin.policies.speech import SpeechModel
    from facetwin.policies.voice_score import gape, levels, step_times, streamed, without_speech

    if not options.seconds >= 1:
        raise UsageError("too short", where="--seconds", found=options.seconds, expected="at least 1")
    torch.set_num_threads(1)
    model = SpeechModel.load(options.weights or options.lookahead)
    spoken = {path.name: audio.load(path).samples for path in options.recordings}
    if not spoken:
        text = "Please bring my blue boat back to the harbour before we move on."
        spoken = {
            "sample": audio.load(assets.path("speech", "sample.wav")).samples,
            "voice": speak(text, "en-us").samples,
            "whisper": speak(text, "en-us+whisper").samples,
        }
    with Progress(
        "scoring", total=len(nonspeech.TRAINING) + len(nonspeech.UNHEARD), unit="sounds"
    ) as progress:
        rest = without_speech(model, seconds=options.seconds, tell=lambda _: progress.advance())
    opens = {name: float(gape(model(sound)).std()) for name, sound in spoken.items()}
    facts: dict[str, Any] = {
        "without speech": rest,
        "level": levels(model, spoken),
        "opening, sd": opens,
        "step, ms": step_times(model) if not model.shape.offline else None,
        "streamed - whole, u": streamed(model, next(iter(spoken.values()))),
    }
    if options.record:
        path = options.weights or SpeechModel.shipped(options.lookahead)
        tensors, sidecar = weight_files.load_weights(path)
        sidecar["scores"]["voice"] = facts
        weight_files.save_weights(path, tensors, sidecar)
    if options.json:
        print(json.dumps(facts))
    else:
        _print(facts)
    return 0


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=120 if not sys.stdout.isatty() else None)
    grid = Table("without speech", "opening p95, u", "most, u", "", title=f"p95 below {REST} u is asked")
    for name, row in facts["without speech"].items():
        grid.add_row(name, f"{row['p95']:.4f}", f"{row['most']:.3f}", "" if row["p95"] < REST else "too open")
    console.print(grid)
    grid = Table("level", "sd of opening, times its own", "correlation", "")
    for name, row in facts["level"].items():
        off = abs(row["spread"] - 1) >= LOUDNESS
        grid.add_row(name, f"{row['spread']:.3f}", f"{row['correlation']:.3f}", "changed" if off else "")
    console.print(grid)
    console.print("opening, sd in u: " + ", ".join(f"{k} {v:.4f}" for k, v in facts["opening, sd"].items()))
    if facts["step, ms"]:
        console.print(
            "streaming step, ms: " + ", ".join(f"{k} {v:.2f}" for k, v in facts["step, ms"].items())
        )
    console.print(f"streamed against whole: {facts['streamed - whole, u']:.1e} u at most")
