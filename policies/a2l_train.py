"""The seeds' family of speech models, each trained with the same data and processor time, in one table.

A variant is a name, a shape and a way of training; `VARIANTS` changes one thing at a time around the
report's own: APC, LSTM, slices of .5 s, mean square. Widths are scaled down to what a minute of one core can
train (`WIDTH`); `full` gives the report's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetwin.policies.apc import APC
from facetwin.policies.scores import Score
from facetwin.policies.speech import SpeechModel
from facetwin.policies.speech_data import Material
from facetwin.policies.speech_shape import Shape
from facetwin.policies.speech_train import Training, gapes, network_input, train_member
from facetwin.policies.talker_score import Talkers, talker_table, visemes

#: units of the LSTM (three layers), and of all else; the report has 256
WIDTH = 64
#: slices of .26 and .5 s in rows of 20 ms
SHORT, LONG = 13, 26

_SLICE = Shape(80, 1, WIDTH, 3, LONG, net="slice", leveled=True)
_SEEDS = Training(squares=True, parts=False, augment=0.0, dropout=0.1, rate=2e-3, silence=0.0, batch=12)
_OURS = Training(augment=0.8, dropout=0.2)


@dataclass(frozen=True)
class Variant:
    """One row of the table; `apc` says whether it hears through APC."""

    name: str
    shape: Shape
    training: Training
    apc: bool = True


def _variants() -> tuple[Variant, ...]:
    def slices(name: str, *, apc: bool = True, training: Training = _SEEDS, **shape: Any) -> Variant:
        return Variant(name, replace(_SLICE, **shape), training, apc)

    whole = replace(_SEEDS, batch=8)
    return (
        slices("LSTM"),
        slices("LSTM, no APC", apc=False),
        slices("LSTM, slices of .26 s", context=SHORT),
        slices("mean", pool="mean"),
        slices("max", pool="max"),
        slices("sum", pool="sum"),
        slices("LSTM, Luong attention", attention="luong"),
        slices("mean, Luong attention", pool="mean", attention="luong"),
        slices("LSTM, transformer (offline)", attention="transformer", training=whole),
        slices("mean, transformer (offline)", pool="mean", attention="transformer", training=whole),
        slices("LSTM, part-weighted loss", training=replace(_SEEDS, parts=True)),
        slices("LSTM, standardised", standard=True),
        slices("LSTM, our loss", training=replace(_SEEDS, squares=False, parts=True)),
        slices("LSTM, our loss and augmentation", training=replace(_OURS, batch=12)),
        Variant("GRU", Shape(leveled=True), replace(_OURS, squares=True, parts=False), False),
        Variant("GRU, our loss", Shape(leveled=True), _OURS, False),
        Variant(
            "convolutions, our loss", Shape(80, 1, 192, 6, net="conv", leveled=True), _OURS, False
        ),
        slices(
            "mean, transformer, our loss (offline)", pool="mean", attention="transformer",
            training=replace(_OURS, batch=8),
        ),
    )  # fmt: skip


VARIANTS = _variants()


def train_variant(
    variant: Variant,
    parts: tuple[Material, Material],
    apc: APC,
    seconds: float,
    seed: int,
    *,
    full: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
) -> SpeechModel:
    """Train one variant with that much processor time, its opening gain fitted on the held-out part."""
    shape = variant.shape
    if full and shape.net == "slice":
        shape = replace(shape, hidden=256)
    heard = apc if variant.apc else None
    if heard is not None:
        shape = replace(shape, apc=(apc.shape.layers, apc.shape.width))
    training = replace(variant.training, seconds=seconds, epochs=10**6, seed=seed)
    net, _ = train_member(shape, training, *parts, report, heard)
    gain = opening_gain(net, shape, parts[1], heard)
    rest = parts[0].rests[0].numpy()
    return SpeechModel(replace(shape, gain=gain), [net], rest, apc=heard)


def opening_gain(net: Any, shape: Shape, data: Material, apc: APC | None = None) -> float:
    """What displacements are to be multiplied by so that the mouth opens as far as people's, .5 to 2.

    Ratio of the standard deviations of the opening on clips held out; a net that guesses the mean of what
    it cannot know moves too little.
    """
    import torch

    with torch.no_grad():
        guessed, true = [], []
        for voices, aim, talker in zip(data.rows, data.targets, data.talker):
            face = data.rests[talker][None]
            out = net(network_input(voices[0][None], shape, apc), None, face)[0]
            count = min(out.shape[1], len(aim))
            none = torch.zeros(1)
            guessed.append(gapes(out[:, :count], none)[0].numpy())
            true.append(gapes(aim[None, :count], none)[0].numpy())
    ratio = np.concatenate(true).std() / max(float(np.concatenate(guessed).std()), 1e-6)
    return float(np.clip(ratio, 0.5, 2.0))


def score_variant(
    model: SpeechModel, talkers: Talkers, known: Talkers | None = None
) -> dict[str, dict[str, Score]]:
    """Scores of a model as it is ("gain"), and without its opening gain ("no gain").

    With `known`, talkers who teach a classifier to read sounds from lips, also "visemes": the share of sounds
    read from what the model makes by that from the true motion (`visemes.Reading`).
    """
    moved: dict[str, NDArray[np.float32]] = {}
    for clip in talkers.clips:
        model.rest = talkers.statics[clip.talker]  # the family sees the talker's static face
        moved[clip.name] = model(clip.samples)
    made = {
        "gain": lambda clip: moved[clip.name],
        "no gain": lambda clip: moved[clip.name] / np.float32(model.shape.gain),
    }
    table = talker_table(talkers, made, people=False)[0]
    if known is not None and any(clip.phonemes for clip in talkers.clips):
        for name, maker in made.items():
            table[name]["visemes"] = visemes(talkers, talkers.faces(maker), known).scores()["viseme ratio"]
    return table
