"""``facetwin score loop``: the whole loop on tracked people it never saw, sound to mirror, with baselines.

Each clip's sound is spoken by the rig, the mirror is looked at, and what was seen is scored against the
person of the clip, all clips pooled into one table.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from facetwin.cli.progress import Progress
from facetwin.cli.tables import plain, print_scores
from facetwin.twin.errors import UsageError


@dataclass
class ScoreLoop:
    """Speak every clip of a dataset on a rig and score what the mirror shows against the person."""

    data: tyro.conf.Positional[Path]
    """Dataset made by facetwin track, of clips that training did not see."""
    align: Path | None = None
    """Folder of GRID word alignments, NAME.align; without it there is no closure."""
    train: Path | None = None
    """Dataset of the talker's training clips: the rest face comes from it (default: the scored clips)."""
    rig: str = "sim:"
    """Rig that speaks."""
    lookahead: int = 80
    """Shipped weights, ms: 0, 40 or 80."""
    weights: Path | None = None
    """Other weights of the speech model."""
    window: int = 1
    """Pictures before and after an onset within which a closure counts."""
    limit: int | None = None
    """Only the first so many clips."""
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
    os.environ.setdefault("LP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    import torch

    from facetwin.cli.live import looker
    from facetwin.cli.speak import simulated_options
    from facetwin.cli.take import Take, play
    from facetwin.hardware.names import open_rig
    from facetwin.policies.alignment import Onsets, read_align, word_onsets
    from facetwin.policies.baselines import loudness
    from facetwin.policies.closed_loop import closed_table
    from facetwin.policies.controller import SpeechController
    from facetwin.policies.dataset import load_clips
    from facetwin.policies.speech import SpeechModel
    from facetwin.policies.speech_train import rest_face
    from facetwin.twin.landmarks import indices

    torch.set_num_threads(1)
    model = SpeechModel.load(options.weights or options.lookahead)
    clips = load_clips(options.data, options.limit)
    rest = rest_face(load_clips(options.train) if options.train else clips)
    onsets = [Onsets()] * len(clips)
    if options.align is not None:
        onsets = [word_onsets(read_align(options.align / f"{clip.name}.align")) for clip in clips]
    ids = indices("speech63")
    takes, targets = [], []
    with ExitStack() as stack:
        rig = stack.enter_context(open_rig(options.rig, **simulated_options(options)))
        watcher = looker(rig, stack)
        controller = SpeechController(rig.spec)
        rig.activate()
        with Progress("speaking", total=len(clips), unit="clips") as progress:
            for k, clip in enumerate(clips):
                rig.home(options.seed + k)
                controller.reset()
                target = model(clip.samples)[: len(clip)]
                take = Take()
                play(rig, watcher, iter([controller.commands(target)]), take)
                takes.append(take.seen())
                targets.append(target)
                progress.advance()
    table = closed_table(
        takes,
        [clip.landmarks[:, ids, :2] - rest[ids, :2] for clip in clips],
        onsets,
        trusted=[clip.seen for clip in clips],
        target=targets,
        loudness=[loudness(clip.samples, len(clip)) for clip in clips],
        window=options.window,
    )
    scores = plain(table)
    lost = int(sum(len(take) - np.sum(take.found) for take in takes))
    facts = {
        "clips": len(clips),
        "pictures": sum(map(len, takes)),
        "face_lost": lost,
        "window": options.window,
        "rig": f"{options.rig} {rig.spec.hash[:12]}",
        "seed": options.seed,
        "unit": "u, distance of the outer eye corners",
    }
    if options.json:
        print(json.dumps({**facts, "scores": scores}))
    else:
        title = (
            f"{len(clips)} clips of {options.data.name} on {options.rig}, closures within {options.window}"
        )
        print_scores(scores, f"{title} frames of the onset, seed {options.seed}")
        print(f"face lost in {lost} of {facts['pictures']} pictures; lengths in u; shut: .02 u, .5 mm")
    return 0
