"""`facetwin train inverse`: the inverse model, landmarks → command, from babble."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from facetwin.cli.progress import Progress
from facetwin.twin.errors import UsageError

DREAMING = 150  # epochs of the self-model that dreams


@dataclass(frozen=True)
class TrainInverse:
    """Learn which command makes a face, from folders of babble; prints the error of every motor."""

    babble: tyro.conf.Positional[list[Path]]
    """folders made by `facetwin babble`"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """weights to write; default: the shipped ones of this rig"""
    rig: str = "face26"
    """rig table that was babbled"""
    epochs: int = 15
    """passes over the data"""
    dreams: int = 120000
    """poses that a self-model of the same babble adds to the training poses; 0: none (then --epochs 150)"""
    members: int = 6
    """nets that answer together, each with dreams and a seed of its own"""
    combine: float = 0.3
    """share of pairs whose eyes and brows come from another pose"""
    seed: int = 0
    """of everything random"""
    json: bool = False
    """print the scores as JSON"""


def run(options: TrainInverse) -> int:
    """Train, score on held-out babble, write the weights."""
    import numpy as np

    from facetwin import assets
    from facetwin.cli.babbled import load_babble
    from facetwin.cli.learned import babble_sidecar
    from facetwin.policies.dream import dream, together
    from facetwin.policies.inverse import InverseModel, command_errors
    from facetwin.policies.selfmodel import SelfModel
    from facetwin.twin.spec import load_rig

    spec = load_rig(options.rig)
    data, meta = load_babble(*options.babble)
    train, check, test = data.split()
    if options.members < 1:
        raise UsageError("no net to train", where="--members", found=options.members, expected="from 1")
    models = []
    with Progress("training the inverse model", total=options.members * (options.epochs + DREAMING)) as bar:
        for seed in range(options.seed, options.seed + options.members):
            lived = train
            if options.dreams:
                own = SelfModel.fit(train, check, spec=spec, seed=seed, epochs=DREAMING,
                                    progress=lambda _: bar.advance(1))  # fmt: skip
                dreamt = dream(own, train, check, spec, poses=options.dreams, seed=seed)
                lived = together(train, train, train, dreamt)
            models.append(
                InverseModel.fit(lived, check, spec=spec, epochs=options.epochs, combine=options.combine,
                                 seed=seed, progress=lambda _: bar.advance(1))
            )  # fmt: skip
    model = InverseModel.join(models)
    errors = command_errors(model, train, test, seed=options.seed)
    moving = np.array([m.group != "neck" for m in spec.motors])
    means = {name: float(e[moving].mean()) for name, e in errors.items()}
    ratio = means["inverse model"] / means["nearest"]
    scores = {
        "mean_over_motors_that_move_the_face": means,
        "ratio_to_nearest": ratio,
        "per_motor": {m: {k: float(e[i]) for k, e in errors.items()} for i, m in enumerate(spec.names)},
    }
    path = options.out or assets.path("weights", f"inverse_{spec.name}.safetensors")
    parts = (train, check, test)
    sidecar = babble_sidecar("inverse model", spec, meta, options.seed, parts, scores)
    model.save(path, {**sidecar, "dreams": options.dreams})
    if options.json:
        print(json.dumps({"weights": str(path), "scores": scores}))
        return 0
    names = list(errors)
    print(f"held-out babble, {len(test)} poses; mean absolute error of the command, range 0..1")
    print(f"  {'motor':24}" + "".join(f"{n:>15}" for n in names))
    for i, motor in enumerate(spec.names):
        print(f"  {motor:24}" + "".join(f"{errors[n][i]:15.4f}" for n in names))
    print(f"  {'motors that move the face':24}" + "".join(f"{means[n]:15.4f}" for n in names))
    print(f"  ratio to nearest neighbour {ratio:.3f}")
    print(f"wrote {path}")
    return 0
