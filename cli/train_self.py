"""`facetwin train self`: the self-model, command → landmarks and gap, from babble."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from facetwin.cli.progress import Progress


@dataclass(frozen=True)
class TrainSelf:
    """Learn what the motors do to the face, from folders of babble."""

    babble: tyro.conf.Positional[list[Path]]
    """folders made by `facetwin babble`"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """weights to write; default: the shipped ones of this rig"""
    rig: str = "face26"
    """rig table that was babbled"""
    epochs: int = 150
    """passes over the data"""
    seed: int = 0
    """of everything random"""
    json: bool = False
    """print the scores as JSON"""


def run(options: TrainSelf) -> int:
    """Train, score on held-out babble, write the weights."""
    from facetwin import assets
    from facetwin.cli.babbled import load_babble
    from facetwin.cli.learned import babble_sidecar
    from facetwin.policies.inverse import _nearest
    from facetwin.policies.selfmodel import SelfModel, with_mirror_images
    from facetwin.twin.spec import load_rig

    spec = load_rig(options.rig)
    data, meta = load_babble(*options.babble)
    train, check, test = data.split()
    with Progress("training the self-model", total=options.epochs) as bar:
        model = SelfModel.fit(
            train,
            check,
            spec=spec,
            epochs=options.epochs,
            seed=options.seed,
            progress=lambda _: bar.advance(1),
        )
    face, gap = model.predict(test.commands)
    lips = slice(0, 40)

    def score(seen: np.ndarray) -> dict[str, float]:
        d = np.linalg.norm(seen - test.face, axis=2)
        return {"face113_u": float(d.mean()), "lips40_u": float(d[:, lips].mean())}

    both = with_mirror_images(train, spec)
    a = np.concatenate([both.commands, np.ones((len(both), 1))], 1)
    ridge = np.linalg.solve(a.T @ a + 1e-3 * np.eye(a.shape[1]), a.T @ both.face.reshape(len(both), -1))
    b = np.concatenate([test.commands, np.ones((len(test), 1))], 1)
    near = _nearest(train.commands.astype(float), test.commands.astype(float))
    table = {
        "self-model": score(face),
        "linear (ridge)": score((b @ ridge).reshape(len(test), -1, 2)),
        "nearest command, whole training set": score(train.face[near]),
        "mean face": score(np.repeat(train.face.mean(0)[None], len(test), 0)),
    }
    known = np.isfinite(test.gap)
    if known.any():
        small = known & (test.gap < 3)
        table["self-model"]["gap_mm"] = float(np.abs(gap - test.gap)[known].mean())
        table["self-model"]["gap_below_3mm_mm"] = (
            float(np.abs(gap - test.gap)[small].mean()) if small.any() else np.nan
        )
        table["mean face"]["gap_mm"] = float(np.abs(np.nanmedian(train.gap) - test.gap)[known].mean())
    path = options.out or assets.path("weights", f"self_{spec.name}.safetensors")
    parts = (train, check, test)
    model.save(path, babble_sidecar("self-model", spec, meta, options.seed, parts, table))
    if options.json:
        print(json.dumps({"weights": str(path), "scores": table}))
    else:
        print(f"held-out babble, {len(test)} poses; mean distance in u (outer eye corners = 1)")
        for name, row in table.items():
            print(f"  {name:38}" + "  ".join(f"{k} {v:.4f}" for k, v in row.items()))
        print(f"wrote {path}")
    return 0
