"""``facetwin score speech``: the speech model against tracked people it never saw, with all baselines."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetwin.cli.progress import Progress
from facetwin.policies import weights as weight_files
from facetwin.twin.errors import UsageError

COLUMNS = (
    ("D-P", "{:.4f}"),
    ("D-V", "{:.4f}"),
    ("D-AL", "{:.4f}"),
    ("opening correlation", "{:.3f}"),
    ("lag out", "{:.3f}"),
    ("closure", "{:.3f}"),
    ("control", "{:.3f}"),
    ("closure - control", "{:.3f}"),
    ("pucker", "{:.3f}"),
    ("offset", "{:.0f}"),
    ("jerk", "{:.0f}"),
)


@dataclass
class ScoreSpeech:
    """Score sound → landmarks on a dataset that training did not see."""

    data: Path
    """Dataset made by facetwin track, of clips that training did not see."""
    train: Path | None = None
    """Dataset that the model was trained on: baselines are fitted on it, and the rest face comes from it."""
    align: Path | None = None
    """Folder of GRID word alignments, NAME.align; without it there is no closure."""
    lookahead: int = 80
    """Shipped weights to score, ms: 0, 40 or 80."""
    weights: Path | None = None
    """Other weights."""
    window: int = 1
    """Pictures before and after an onset within which a closure counts."""
    limit: int | None = None
    """Score only the first so many clips."""
    record: bool = False
    """Write the model's figures into the sidecar of its weights."""
    json: bool = False
    """Print one JSON object."""


def run(options: ScoreSpeech) -> int:
    """Print the table."""
    from facetwin.policies.baselines import Baselines
    from facetwin.policies.dataset import load_clips
    from facetwin.policies.speech import SpeechModel
    from facetwin.policies.speech_score import reference, speech_table
    from facetwin.policies.speech_train import rest_face

    if options.window < 0:
        raise UsageError(
            "no such window", where="--window", found=options.window, expected="0 or more frames"
        )
    model = SpeechModel.load(options.weights or options.lookahead)
    clips = load_clips(options.data, options.limit)
    references = [reference(clip, options.align) for clip in clips]
    baselines = None
    if options.train is not None:
        training = load_clips(options.train)
        rest = rest_face(training)
    else:
        rest = rest_face(clips)
        print(
            "no --train: the rest face is that of the scored clips, and no baseline is fitted",
            file=sys.stderr,
        )
    with Progress("scoring", total=10 if options.train else 5, unit="rows") as progress:
        if options.train is not None:
            baselines = Baselines.fit(training, rest, model.shape.ahead)
            del training
        table = speech_table(
            model,
            rest,
            clips,
            references,
            baselines,
            window=options.window,
            tell=lambda name: progress.advance(),
        )
    figures = {maker: {n: s.as_dict() for n, s in row.items()} for maker, row in table.items()}
    if options.record:
        path = options.weights or SpeechModel.shipped(options.lookahead)
        _record(path, options, {name: s.value for name, s in table["model"].items()}, len(clips))
    if options.json:
        print(json.dumps({"clips": len(clips), "window": options.window, "table": figures}))
    else:
        _print(table, len(clips), options)
    return 0


def _record(path: Path, options: ScoreSpeech, values: dict[str, float], clips: int) -> None:
    tensors, sidecar = weight_files.load_weights(path)
    figures = {name: round(value, 4) for name, value in values.items() if value == value}
    sidecar["scores"][f"{options.data.name}, {clips} clips, window {options.window}"] = figures
    weight_files.save_weights(path, tensors, sidecar)


def _print(table: dict[str, dict[str, Any]], clips: int, options: ScoreSpeech) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(
        title=f"{clips} clips of {options.data.name}, closures within {options.window} frames of the onset"
    )
    shown.add_column("")
    for name, _ in COLUMNS:
        shown.add_column(f"{name}\n{table['model'][name].unit}", justify="right")
    for maker, row in table.items():
        shown.add_row(maker, *(form.format(row[name].value) for name, form in COLUMNS))
    Console(width=160 if not sys.stdout.isatty() else None).print(shown)
