"""Controllers of different quality on twin and rig, and whether both rank them alike."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.cli.backlog import Backlog
from facetwin.cli.progress import Progress
from facetwin.cli.take import Take, play
from facetwin.cli.watcher import Watcher
from facetwin.hardware.rig import Rig
from facetwin.policies.closed_loop import KEPT, Seen
from facetwin.twin.calibration.agreement import mean_maximum_rank_violation, pearson
from facetwin.twin.errors import FaceTwinError, UsageError
from facetwin.twin.landmarks import indices, opening
from facetwin.twin.spec import RigSpec

Floats = NDArray[np.float32]

#: what controllers are ranked by: unit, and which end is good
METRICS = {"opening correlation": ("", "high"), "lip distance": ("u", "low")}


@dataclass(frozen=True)
class Contest:
    """What all controllers are asked to show, and their commands.

    Attributes
    ----------
    wish : float32 [shape=(T, 63, 2), u], displacement of the speech points from rest
    commands : name -> float32 [shape=(T, n)]
    """

    wish: Floats
    commands: dict[str, Floats]


def prepare(spec: RigSpec, sound: Path, seconds: float, *, seed: int = 0) -> Contest:
    """Wish and commands for the first seconds of a recording.

    Raises `UsageError` where no weights ship for this rig.
    """
    import torch

    from facetwin.policies import audio
    from facetwin.policies.baselines import loudness
    from facetwin.policies.controller import SpeechController
    from facetwin.policies.rivals import rivals
    from facetwin.policies.speech import STEP, SpeechModel

    torch.set_num_threads(1)
    pictures = round(seconds * 25)
    blocks = []
    for block in audio.stream(sound, seconds):
        blocks.append(block)
        break
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    pictures = min(pictures, len(samples) // STEP)
    if pictures < 25:
        raise UsageError(
            "too short to rank controllers by", where=sound, found=f"{len(samples) / 16000:.1f} s",
            expected="at least 1 s",
        )  # fmt: skip
    wish = SpeechModel.load(80)(samples)[:pictures]
    commands = rivals(SpeechController(spec), wish, loudness(samples, pictures), seed=seed)
    return Contest(wish, commands)


def play_contest(
    rig: Rig, watcher: Watcher, contest: Contest, *, name: str, seed: int = 0
) -> dict[str, Seen]:
    """Play every controller on an activated rig, one after the other; what the mirror showed of each."""
    seen = {}
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(f"{name}: controllers", total=len(contest.commands)))
        look = watcher if rig.clock.simulated else stack.enter_context(Backlog(watcher))
        for key, commands in contest.commands.items():
            rig.home(seed)
            take = Take()
            play(rig, look, iter([commands]), take)
            if not any(take.found):
                raise FaceTwinError("no face in the mirror", where=f"{name}: {key}")
            seen[key] = take.seen()
            bar.advance(1)
    return seen


def scores(contest: Contest, seen: dict[str, Seen]) -> dict[str, dict[str, float]]:
    """Each controller by `METRICS`, against the wish put on the robot's face at rest."""
    lips = np.searchsorted(KEPT, indices("lips40"))
    speech = list(indices("speech63"))
    at = [speech.index(p) for p in indices("lips40")]
    up, low = speech.index(13), speech.index(14)
    out = {}
    for name, take in seen.items():
        n = min(len(take), len(contest.wish))
        wish, found = contest.wish[:n], take.found[:n]
        shown = take.points[:n, lips, :2] - take.rest[indices("lips40"), :2]
        far = np.linalg.norm(shown - wish[:, at], axis=-1).mean(1)[found]
        a = np.asarray(opening(take.faces(slice(0, n))), np.float64)[found]
        b = (wish[:, up, 1] - wish[:, low, 1]).astype(np.float64)[found]
        r = 0.0 if a.std() < 1e-6 or b.std() < 1e-6 else float(np.corrcoef(a, b)[0, 1])
        out[name] = {"opening correlation": r, "lip distance": float(far.mean())}
    return out


def agreement(twin: dict[str, dict[str, float]], rig: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Per metric: Pearson's r, mean maximum rank violation in its unit, and the scores of both."""
    out: dict[str, Any] = {}
    names = list(twin)
    for metric, (unit, better) in METRICS.items():
        a, b = ([side[name][metric] for name in names] for side in (twin, rig))
        out[metric] = {
            "unit": unit, "better": better, "pearson": r if np.isfinite(r := pearson(a, b)) else None,
            "mmrv": mean_maximum_rank_violation(a, b), "spread_on_rig": float(np.ptp(b)),
            "scores": {name: {"twin": x, "rig": y} for name, x, y in zip(names, a, b)},
        }  # fmt: skip
    return out
