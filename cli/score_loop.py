"""``facetwin score loop``: the whole loop on tracked people it never saw, sound to mirror, with baselines.

Each clip's sound is spoken by the rig, the mirror is looked at, and what was seen is scored against the
person of the clip, all clips pooled into one table; a second one says what is lost between the landmarks
asked for and those seen, a third which motors stood on a limit meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from facetwin.cli.progress import Progress
from facetwin.cli.tables import plain, print_scores
from facetwin.twin.errors import UsageError

if TYPE_CHECKING:
    from facetwin.policies.alignment import Onsets
    from facetwin.policies.dataset import Clip
    from facetwin.policies.played import Played


@dataclass
class ScoreLoop:
    """Speak every clip of a dataset on a rig and score what the mirror shows against the person."""

    data: tyro.conf.Positional[Path]
    """Dataset made by facetwin track or synth, of clips that training did not see."""
    align: Path | None = None
    """Folder of GRID word alignments, NAME.align; default: the phonemes in the dataset, if it has them."""
    train: Path | None = None
    """Dataset of the talkers' other clips: rest faces and the lip reader come from it."""
    rig: str = "sim:"
    """Rig that speaks."""
    lookahead: int = 80
    """Shipped weights, ms: 0, 40 or 80."""
    weights: Path | None = None
    """Other weights of the speech model."""
    window: int = 1
    """Pictures before and after an onset within which a closure counts."""
    skip: int = 0
    """Leave out so many clips at the beginning."""
    limit: int | None = None
    """Only so many clips."""
    takes: Path | None = None
    """Folder that keeps what was seen of each clip: a run that stops goes on there."""
    alive: bool = False
    """Blinks, gaze and head motion too, as speak has them; by default the mouth alone."""
    size: int = 256
    """Side of the pictures, px (of a simulated rig)."""
    seed: int = 0
    """Of the camera noise; clip k uses seed + k."""
    json: bool = False
    """Print one JSON object."""


def run(options: ScoreLoop) -> int:
    """Play, score, print."""
    if options.window < 0:
        raise UsageError(
            "no such window", where="--window", found=options.window, expected="0 or more frames"
        )
    if options.skip < 0 or (options.limit is not None and options.limit < 1):
        raise UsageError("no clip left", where="--skip, --limit", found=f"{options.skip}, {options.limit}",
                         expected="from 0, from 1")  # fmt: skip
    from facetwin.policies.baselines import loudness
    from facetwin.policies.closed_loop import closed_table, stages
    from facetwin.policies.dataset import load_clips
    from facetwin.twin.landmarks import indices
    from facetwin.twin.spec import RigSpec

    last = None if options.limit is None else options.skip + options.limit
    clips = load_clips(options.data, last)[options.skip :]
    if not clips:
        raise UsageError("no clip left", where="--skip", found=options.skip, expected="fewer than there are")
    other = load_clips(options.train) if options.train else []
    rests = rest_faces(clips, other)
    onsets = [_onsets(clip, options.align) for clip in clips]
    rig: RigSpec
    played, rig = _play(options, clips)
    ids = indices("speech63")
    wanted = [clip.landmarks[:, ids, :2] - rests[clip.talker][ids, :2] for clip in clips]
    table = closed_table(
        [one.seen for one in played],
        wanted,
        onsets,
        trusted=[clip.seen for clip in clips],
        target=[one.target for one in played],
        loudness=[loudness(clip.samples, len(clip)) for clip in clips],
        window=options.window,
    )
    steps = stages(table)
    stops = at_limits(rig, [one.commands for one in played], onsets)
    scores = plain(table)
    lost = int(sum(len(one.seen) - np.sum(one.seen.found) for one in played))
    facts = {
        "clips": len(clips),
        "pictures": sum(len(one.seen) for one in played),
        "face_lost": lost,
        "window": options.window,
        "rig": f"{options.rig} {rig.hash[:12]}",
        "seed": options.seed,
        "unit": "u, distance of the outer eye corners",
        "onsets": {k: sum(len(getattr(o, k)) for o in onsets) for k in KINDS},
        "cut_by_reach_u": round(float(np.concatenate([one.lost for one in played]).mean()), 6),
    }
    read = _visemes(clips, other, wanted, played)
    if options.json:
        found = {name: {"landmarks": a, "tracker": b, "geometry": c} for name, a, b, c in steps}
        print(
            json.dumps(_known({**facts, "scores": scores, "stages": found, "limits": stops, "visemes": read}))
        )
        return 0
    title = f"{len(clips)} clips of {options.data.name} on {options.rig}, closures within {options.window}"
    print_scores(scores, f"{title} frames of the onset, seed {options.seed}")
    _print_stages(steps, table["reference itself"])
    for score in table["seen in the mirror"].values():
        if score.unit == "mm" and np.isfinite(score.value):
            print(f"{score.name}, median: {score.value:.2f} mm")
    _print_limits(stops)
    for name, value in read.items():
        print(f"{name}: {value:.3f}")
    print(f"face lost in {lost} of {facts['pictures']} pictures; lengths in u; shut: .02 u, .5 mm")
    return 0


KINDS = ("bilabial", "rounded", "labiodental", "control")


def rest_faces(clips: Sequence[Clip], other: Sequence[Clip]) -> dict[str, NDArray[np.float32]]:
    """Rest face of every talker in `clips`, from his `other` clips where there are any."""
    from facetwin.policies.speech_train import rest_face

    faces = {}
    for talker in sorted({clip.talker for clip in clips}):
        own = [clip for clip in other if clip.talker == talker] or [c for c in clips if c.talker == talker]
        faces[talker] = rest_face(own)
    return faces


def at_limits(
    rig: Any, commands: Sequence[NDArray[np.floating]], onsets: Sequence[Onsets], near: float = 0.02
) -> dict[str, dict[str, float]]:
    """Motors of jaw and lips that stand within `near` of a limit at sounds of a kind, and how often.

    By kind of sound, the share of onsets (the picture of the onset and one on either side) by "MOTOR low"
    or "MOTOR high", those of a tenth and more, the most frequent first.
    """
    from facetwin.policies.scores import FPS

    low, high = rig.soft_limits
    out: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        rows = [
            command[max(0, round(t * FPS) - 1) : round(t * FPS) + 2]
            for command, times in zip(commands, onsets)
            for t in getattr(times, kind)
        ]
        rows = [row for row in rows if len(row)]
        if not rows:
            continue
        share = {}
        for motor in np.concatenate([rig.group("jaw"), rig.group("lips")]):
            name = rig.names[motor]
            share[f"{name} low"] = float(np.mean([(r[:, motor] <= low[motor] + near).any() for r in rows]))
            share[f"{name} high"] = float(np.mean([(r[:, motor] >= high[motor] - near).any() for r in rows]))
        ranked = sorted(share.items(), key=lambda item: -item[1])
        out[kind] = {name: round(value, 3) for name, value in ranked if value >= 0.1}
    return out


def _onsets(clip: Clip, align: Path | None) -> Onsets:
    from facetwin.policies.alignment import Onsets, read_align, word_onsets
    from facetwin.policies.espeak import phoneme_onsets

    if align is not None:
        return word_onsets(read_align(align / f"{clip.name}.align"))
    return phoneme_onsets(clip.phonemes) if clip.phonemes else Onsets()


def _play(options: ScoreLoop, clips: Sequence[Clip]) -> tuple[list[Played], Any]:
    """Every clip spoken and seen, from `--takes` where it was before; and the rig's table."""
    os.environ.setdefault("LP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    import torch

    from facetwin.cli.live import looker
    from facetwin.cli.speak import simulated_options
    from facetwin.cli.take import Take, play
    from facetwin.hardware.names import open_rig
    from facetwin.policies.controller import SpeechController
    from facetwin.policies.nonverbal import Alive, Nonverbal
    from facetwin.policies.played import Played, load_played, save_played
    from facetwin.policies.speech import SpeechModel

    torch.set_num_threads(1)
    source = options.weights or SpeechModel.shipped(options.lookahead)
    model = SpeechModel.load(source)
    played = []
    with ExitStack() as stack:
        rig = stack.enter_context(open_rig(options.rig, **simulated_options(options)))
        watcher = looker(rig, stack)
        controller = SpeechController(rig.spec)
        key = {
            "rig": f"{options.rig} {rig.spec.hash}", "size": options.size, "alive": options.alive,
            "weights": hashlib.sha256(Path(source).read_bytes()).hexdigest(),
            "tuning": asdict(controller.tuning),
        }  # fmt: skip
        rig.activate()
        with Progress("speaking", total=len(clips), unit="clips") as progress:
            for k, clip in enumerate(clips, options.skip):
                mine = {**key, "seed": options.seed + k, "pictures": len(clip)}
                file = None if options.takes is None else options.takes / f"{clip.name}.safetensors"
                one = None if file is None else load_played(file, mine)
                if one is None:
                    rig.home(options.seed + k)
                    controller.reset()
                    target = model(clip.samples)[: len(clip)]
                    commands = controller.commands(target)
                    if options.alive:
                        beside = Alive(rig.spec, Nonverbal(seed=options.seed + k))
                        beside.push(clip.samples)
                        commands = beside.on(commands)
                    take = Take()
                    play(rig, watcher, iter([commands]), take)
                    one = Played(take.seen(), target, commands, controller.lost["lips"])
                    if file is not None:
                        save_played(file, one, mine)
                played.append(one)
                progress.advance()
    return played, rig.spec


def _visemes(
    clips: Sequence[Clip],
    other: Sequence[Clip],
    wanted: Sequence[NDArray[np.floating]],
    played: Sequence[Played],
) -> dict[str, float]:
    """Sounds read off the mirror and off the target, as shares of those read off the person."""
    from facetwin.policies.closed_loop import KEPT
    from facetwin.policies.visemes import read_visemes, sounds
    from facetwin.twin.landmarks import indices

    ids = indices("speech63")
    taught = [clip for clip in other if clip.phonemes]
    if not taught or not all(clip.phonemes for clip in clips):
        return {}
    rests = rest_faces(taught, taught)
    train = sounds(
        [clip.landmarks[:, ids, :2] - rests[clip.talker][ids, :2] for clip in taught],
        [clip.phonemes or () for clip in taught], seen=[clip.seen for clip in taught],
    )  # fmt: skip
    place = np.searchsorted(KEPT, ids)
    mirror = [one.seen.points[:, place, :2] - one.seen.rest[ids, :2] for one in played]
    said = [clip.phonemes or () for clip in clips]
    known = [clip.seen & one.seen.found for clip, one in zip(clips, played)]
    cut = [sounds(moves, said, seen=known) for moves in (wanted, [one.target for one in played], mirror)]
    out = {}
    for name, data in (("landmark stage", cut[1]), ("closed loop", cut[2])):
        for score in read_visemes(train, data, cut[0]).scores().values():
            if "ratio" in score.name:
                out[f"{score.name}, {name}"] = round(score.value, 4)
    return out


def _print_stages(steps: Sequence[tuple[str, float, float, float]], person: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    grid = Table(title="what comes through the loop, each minus its control")
    for name in ("", "the person", "landmark stage", "mirror, by tracker", "by geometry", "lost at most"):
        grid.add_column(name, justify="left" if not name else "right")
    for name, asked, seen, shape in steps:
        lost = asked - float(np.fmin(seen, shape))  # NaN only where both are
        figures = (person[name].value, asked, seen, shape, lost)
        grid.add_row(name, *("–" if not np.isfinite(v) else f"{v:.3f}" for v in figures))
    Console().print(grid)


def _print_limits(stops: Mapping[str, Mapping[str, float]]) -> None:
    for kind, share in stops.items():
        if kind != "control" and share:
            control = stops.get("control", {})
            rows = [f"{name} {value:.0%} ({control.get(name, 0):.0%})" for name, value in share.items()]
            print(f"on a limit at {kind} sounds (at controls): " + ", ".join(rows[:6]))


def _known(value: Any) -> Any:
    """JSON knows no NaN: what cannot be said is null."""
    if isinstance(value, Mapping):
        return {key: _known(each) for key, each in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
