"""``facetwin score talkers``: the speech model on many talkers, by language and by talker."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetwin.cli.progress import Progress
from facetwin.policies import weights as weight_files
from facetwin.twin.errors import UsageError

#: what is asked of a talker or language that was never trained on
LEAST = {"opening correlation": 0.75, "closure - control": 0.45}
OFF_BY = 40.0  #: ms


@dataclass
class ScoreTalkers:
    """Score sound → landmarks on talkers and languages that training did not see.

    The dataset's clips must know their phonemes, as those of facetwin synth do.
    """

    data: Path
    """Dataset to score."""
    train: tuple[Path, ...] = ()
    """Datasets that the model was trained on: baselines are fitted on them, and the viseme classifier."""
    lookahead: int = 80
    """Shipped weights to score, ms: 0, 40 or 80."""
    weights: Path | None = None
    """Other weights."""
    window: int = 1
    """Pictures before and after an onset within which a closure counts."""
    limit: int | None = None
    """Score only the first so many clips."""
    fit: int = 400
    """Clips of each training dataset, about, that baselines are fitted on, taken evenly."""
    record: bool = False
    """Write the figures into the sidecar of the weights."""
    json: bool = False
    """Print one JSON object."""


def run(options: ScoreTalkers) -> int:
    """Print the tables."""
    import torch

    from facetwin.policies.baselines import Baselines
    from facetwin.policies.dataset import Clip, load_clips
    from facetwin.policies.speech import SpeechModel
    from facetwin.policies.talker_score import Talkers, by_group, makers, spread, talker_table, visemes

    if options.window < 0 or options.fit < 1:
        raise UsageError("window is at least 0 and fit at least 1", where="score talkers")
    torch.set_num_threads(1)
    model = SpeechModel.load(options.weights or options.lookahead)
    talkers = Talkers.of(load_clips(options.data, options.limit))
    training: list[Clip] = []
    for folder in options.train:
        every = load_clips(folder)
        training += every[:: max(1, len(every) // options.fit)]
        del every
    with Progress("scoring", total=9 if training else 4, unit="rows") as progress:
        baselines = Baselines.fit_talkers(training, model.shape.ahead) if training else None
        table, faces = talker_table(
            talkers, makers(model, baselines), window=options.window, tell=lambda _: progress.advance()
        )
    groups = {key: by_group(talkers, faces, key, window=options.window) for key in ("language", "talker")}
    known = [clip for clip in training if clip.phonemes]
    reading = visemes(talkers, faces, Talkers.of(known)).scores() if known else {}
    facts: dict[str, Any] = {
        "clips": len(talkers.clips),
        "talkers": len(talkers.rests),
        "window": options.window,
        "table": {maker: {n: s.as_dict() for n, s in row.items()} for maker, row in table.items()},
        "languages": groups["language"],
        "spread": {key: spread(rows) for key, rows in groups.items()},
        "visemes": {name: score.as_dict() for name, score in reading.items()},
    }
    if options.record:
        _record(options, facts)
    if options.json:
        print(json.dumps(_finite(facts)))
    else:
        _print(table, facts, options)
    return 0


def _record(options: ScoreTalkers, facts: Mapping[str, Any]) -> None:
    from facetwin.policies.speech import SpeechModel

    path = options.weights or SpeechModel.shipped(options.lookahead)
    tensors, sidecar = weight_files.load_weights(path)
    values = {n: round(s["value"], 4) for n, s in facts["table"]["model"].items() if s["value"] is not None}
    values["languages"] = {
        name: {k: round(v, 3) for k, v in row.items()} for name, row in facts["languages"].items()
    }
    sidecar["scores"][f"{options.data.name}, {facts['clips']} clips, window {options.window}"] = _finite(
        values
    )
    weight_files.save_weights(path, tensors, sidecar)


def _finite(value: Any) -> Any:
    """For JSON, which knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(table: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any], options: ScoreTalkers) -> None:
    from rich.console import Console
    from rich.table import Table

    from facetwin.cli.score_speech import COLUMNS
    from facetwin.policies.talker_score import FIGURES

    console = Console(width=150 if not sys.stdout.isatty() else None)
    shown = Table(title=f"{facts['clips']} clips of {facts['talkers']} talkers of {options.data.name}")
    shown.add_column("")
    for name, _ in COLUMNS:
        shown.add_column(f"{name}\n{table['model'][name].unit}", justify="right")
    for maker, row in table.items():
        shown.add_row(maker, *(form.format(row[name].value) for name, form in COLUMNS))
    console.print(shown)
    grid = Table(title="by language")
    for name in ("language", "clips", "bilabials", *FIGURES, ""):
        grid.add_column(name, justify="left" if name == "language" else "right")
    for language, row in facts["languages"].items():
        short = [n for n, least in LEAST.items() if not row[n] >= least]
        short += ["offset"] if not abs(row["offset"]) <= OFF_BY else []
        grid.add_row(
            language or "?", f"{row['clips']:.0f}", f"{row['bilabials']:.0f}",
            *(f"{row[name]:.3f}" if name != "offset" else f"{row[name]:.0f}" for name in FIGURES),
            "short of " + ", ".join(short) if short else "",
        )  # fmt: skip
    for key, found in facts["spread"].items():
        for kind in ("mean", "sd", "least", "most"):
            grid.add_row(f"{key}s, {kind}", "", "", *(f"{found[n][kind]:.3f}" for n in FIGURES if n in found))
    console.print(grid)
    if facts["visemes"]:
        rows = facts["visemes"].items()
        console.print("; ".join(f"{name} {score['value']:.3f}" for name, score in rows if score["value"]))
