"""Dreamt babble: poses that were never tried, as the self-model expects to see them.

The way back, landmarks → command, is harder to learn than the way there. So the self-model, learned from the
training poses alone, imagines as many more as one likes: commands of the babbler, its landmarks for them, and
the tracker's noise, borrowed whole from the residuals of training poses and widened to their size on poses
that the self-model has not seen.
"""

from __future__ import annotations

import itertools

import numpy as np

from facetwin.policies.babble import babbler
from facetwin.policies.mirror import Mirror
from facetwin.policies.selfmodel import SelfModel, with_mirror_images
from facetwin.twin.couplings import Couplings
from facetwin.twin.spec import RigSpec


def dream(
    model: SelfModel, train: Mirror, check: Mirror, spec: RigSpec, *, poses: int, seed: int = 0
) -> Mirror:
    """Imagined babble of `poses` poses; `model` was fitted on `train`, `check` says how far it is off."""
    rng = np.random.default_rng(seed)
    real = with_mirror_images(train, spec)
    noise = real.face - model.predict(real.commands)[0]  # (n, 113, 2)
    unseen = check.face - model.predict(check.commands)[0]
    widen = np.linalg.norm(unseen, axis=2).mean() / np.linalg.norm(noise, axis=2).mean()
    rows = np.c_[real.commands, np.ones(len(real))]
    way = np.linalg.lstsq(rows, real.turn, rcond=None)[0]  # the head turns as its motors say
    sway = real.turn - rows @ way
    couplings = Couplings(spec)
    commands = np.array(list(itertools.islice(babbler("mixed", spec, rng), poses)))
    for k in np.flatnonzero(~couplings.allowed(commands)):
        commands[k] = couplings.project(commands[k])
    commands = commands.astype(np.float32)
    face, gap = model.predict(commands)
    borrowed = rng.integers(len(real), size=poses)
    turn = np.c_[commands, np.ones(poses)] @ way + sway[borrowed]
    return Mirror(
        commands=commands,
        face=(face + widen * noise[borrowed]).astype(np.float32),
        turn=turn.astype(np.float32),
        gap=gap.astype(np.float32),
        found=np.ones(poses, bool),
        run=np.full(poses, -1, np.int64),
    )


def together(*parts: Mirror) -> Mirror:
    """Poses of several sets, one after the other."""
    names = ("commands", "face", "turn", "gap", "found", "run")
    return Mirror(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
