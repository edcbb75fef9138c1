"""``facetwin train family``: every speech model of the seeds' family, and ours, in one table."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetwin.cli.progress import Progress
from facetwin.policies.weights import provenance
from facetwin.twin.errors import UsageError

#: the six of the report, then what they do not see
COLUMNS = (
    "D-P", "D-V", "D-PL", "D-VL", "D-AL", "D-AE", "opening correlation", "closure - control", "pucker",
    "offset", "visemes",
)  # fmt: skip

#: share of the clips that says when a network was best: looking at them is processor time, too
HELD_OUT = 0.02


@dataclass
class TrainFamily:
    """Train all variants of Audio2Landmark with the same data and processor time, and score them.

    No APC or APC; LSTM, mean, max, sum; no attention, Luong's, a transformer; slices of .26 and .5 s; losses;
    standardisation; opening gain. A variant that is done lies in --out and is not trained again.
    """

    data: tuple[Path, ...]
    """Training datasets made by facetwin track or synth."""
    score: tuple[Path, ...]
    """Datasets of talkers that training does not see; their clips know their phonemes, or --align does."""
    apc: Path
    """Weights that facetwin train apc made."""
    out: Path = Path("out/family")
    """A json and weights for each variant, table.json and table.md."""
    align: Path | None = None
    """Folder of GRID word alignments, for scored clips without phonemes."""
    seconds: float = 75.0
    """Processor time for each variant."""
    only: str = ""
    """Only variants whose name holds this."""
    full: bool = False
    """The report's widths (LSTM 256) instead of 64."""
    limit: int | None = None
    """Use only the first so many clips of each dataset (a trial)."""
    clips: int = 100
    """Clips of each scored dataset, taken evenly."""
    fit: int = 400
    """Clips of each training dataset that baselines are fitted on, taken evenly."""
    seed: int = 0
    rescore: bool = False
    """Score again the variants that lie in --out."""
    json: bool = False
    """Print one JSON object."""


def run(options: TrainFamily) -> int:
    """Train what is not there yet, then print and write the table."""
    import torch

    from facetwin.policies.a2l_train import VARIANTS, train_variant
    from facetwin.policies.apc import APC
    from facetwin.policies.dataset import load_clips
    from facetwin.policies.speech import SpeechModel
    from facetwin.policies.speech_shape import Shape
    from facetwin.policies.speech_train import Training, split
    from facetwin.policies.talker_score import Talkers

    if options.seconds <= 0:
        raise UsageError("no time to train", where="--seconds", found=options.seconds, expected="above 0")
    chosen = [v for v in VARIANTS if options.only in v.name]
    if not chosen:
        names = ", ".join(v.name for v in VARIANTS)
        raise UsageError("no such variant", where="--only", found=options.only, expected=names)
    torch.set_num_threads(1)
    apc = APC.load(options.apc)
    options.out.mkdir(parents=True, exist_ok=True)
    waiting = [v for v in chosen if not (options.out / f"{_file(v.name)}.json").exists()]
    done = [v for v in chosen if v not in waiting] if options.rescore else []
    scored = [_talkers(folder, options) for folder in options.score] if waiting or done else []
    training = [load_clips(folder, options.limit) for folder in options.data] if waiting or done else []
    said = [c for clips in training for c in _evenly(clips, options.fit) if c.phonemes]
    known = Talkers.of(said) if said else None
    with Progress("training", total=len(chosen), unit="variants") as progress:
        progress.update(len(chosen) - len(waiting))
        if waiting:
            _, parts = split(
                training, Shape(leveled=True), Training(augment=0.8, seed=options.seed), HELD_OUT
            )
            _baselines(training, scored, options)
        for variant in waiting:
            rows: list[dict[str, float]] = []
            model = train_variant(
                variant, parts, apc, options.seconds, options.seed, full=options.full, report=rows.append
            )
            _keep(variant, model, rows[-1]["step"], scored, known, options)
            progress.advance()
        for variant in done:
            name = options.out / _file(variant.name)
            steps = json.loads(name.with_suffix(".json").read_text("utf-8"))["steps"]
            _keep(variant, SpeechModel.load(name.with_suffix(".safetensors")), steps, scored, known, options)
    table = _table(options.out, [v.name for v in VARIANTS], [folder.name for folder in options.score])
    _write(options.out / "table.json", json.dumps(table, indent=1) + "\n")
    text = _markdown(table)
    _write(options.out / "table.md", text)
    print(json.dumps(table) if options.json else text)
    return 0


def _talkers(folder: Path, options: TrainFamily) -> Any:
    """A scored dataset; GRID's clips get their onsets from word alignments."""
    from facetwin.policies.dataset import load_clips
    from facetwin.policies.speech_data import by_talker, resting
    from facetwin.policies.speech_score import reference
    from facetwin.policies.talker_score import Talkers

    clips = _evenly(load_clips(folder), options.clips)
    if any(clip.phonemes for clip in clips) or options.align is None:
        return Talkers.of(clips)
    rests = {name: resting(own) for name, own in by_talker(clips).items()}
    return Talkers(clips, [reference(clip, options.align) for clip in clips], rests)


def _baselines(training: list[Any], scored: list[Any], options: TrainFamily) -> None:
    """The rows that need no network: baselines at full strength, and the person."""
    from facetwin.policies.baselines import Baselines
    from facetwin.policies.talker_score import makers, talker_table

    path = options.out / "baselines.json"
    if path.exists():
        return
    fitted = Baselines.fit_talkers([c for clips in training for c in _evenly(clips, options.fit)], 2)
    found: dict[str, dict[str, Any]] = {}
    for folder, talkers in zip(options.score, scored):
        made = makers(lambda samples: samples, fitted)
        del made["model"]
        for name, row in talker_table(talkers, made)[0].items():
            found.setdefault(name, {})[folder.name] = _plain(row)
    _write(path, json.dumps(found, indent=1) + "\n")


def _keep(
    variant: Any, model: Any, steps: float, scored: list[Any], known: Any, options: TrainFamily
) -> None:
    """Weights, then the json that says the variant is done."""
    from facetwin.policies.a2l_train import score_variant

    found: dict[str, Any] = {"gain": {}, "no gain": {}}
    for folder, talkers in zip(options.score, scored):
        for kind, row in score_variant(model, talkers, known).items():
            found[kind][folder.name] = _plain(row)
    facts = {
        "variant": variant.name,
        "offline": model.shape.offline,
        "parameters": model.parameters,
        "steps": steps,
        "opening gain": round(model.shape.gain, 3),
        "scores": found,
    }
    sidecar = {
        "model": "speech",
        "data": ", ".join(folder.name for folder in options.data),
        "licence": "as the data's",
        **provenance(),
        "seed": options.seed,
        "seconds": options.seconds,
        "scores": found,
    }
    model.save(options.out / f"{_file(variant.name)}.safetensors", sidecar)
    _write(
        options.out / f"{_file(variant.name)}.json", json.dumps({**model.sidecar, **facts}, indent=1) + "\n"
    )


def _table(out: Path, names: list[str], scored: list[str]) -> list[dict[str, Any]]:
    """Rows of what lies in the folder: {"name", "data", "parameters", …, figures}."""
    rows: list[dict[str, Any]] = []
    for name in names:
        path = out / f"{_file(name)}.json"
        if not path.exists():
            continue
        facts = json.loads(path.read_text("utf-8"))
        about = {k: facts[k] for k in ("parameters", "steps", "opening gain", "offline")}
        for data in scored:
            if data in facts["scores"]["no gain"]:
                rows.append({"name": name, "data": data, **about, **facts["scores"]["no gain"][data]})
        if name == "LSTM":
            for data in scored:
                if data in facts["scores"]["gain"]:
                    rows.append(
                        {"name": "LSTM, opening gain", "data": data, **about, **facts["scores"]["gain"][data]}
                    )
    path = out / "baselines.json"
    if path.exists():
        for name, by_data in json.loads(path.read_text("utf-8")).items():
            rows += [{"name": name, "data": data, **row} for data, row in by_data.items() if data in scored]
    return rows


def _markdown(table: list[dict[str, Any]]) -> str:
    lines = []
    for data in dict.fromkeys(row["data"] for row in table):
        lines += [f"**{data}**", "", "| | weights, k | steps | " + " | ".join(COLUMNS) + " |"]
        lines += ["|---|" + "---|" * (len(COLUMNS) + 2)]
        for row in (row for row in table if row["data"] == data):
            size = f"{row['parameters'] / 1000:.0f}" if "parameters" in row else ""
            cells = [size, f"{row['steps']:.0f}" if "steps" in row else ""]
            for name in COLUMNS:
                value = row.get(name)
                digits = 0 if name == "offset" else 4 if name.startswith("D-") else 3
                cells.append("" if value is None else f"{value:.{digits}f}")
            lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _evenly(clips: list[Any], count: int) -> list[Any]:
    """So many of a list, from all over it."""
    return clips if len(clips) <= count else [clips[k * len(clips) // count] for k in range(count)]


def _plain(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {n: round(float(s.value), 5) if math.isfinite(s.value) else None for n, s in row.items()}


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).strip("_").lower()


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, "utf-8")
    os.replace(part, path)
