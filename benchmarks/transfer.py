"""What lip sync learned on the twin keeps of its advantage on bodies that it never saw.

    python benchmarks/transfer.py --bodies 4 --out out/transfer --weights plain=FILE.safetensors

Each body is a draw of every range of the rig file (material, gains, speeds, latency, creep, camera, light)
from a seed that no training uses, hidden behind the nominal rig table: methods plan with its table, the
body's exact skin moves, its camera looks, the tracker sees. transformer-acquainted has first moved for a
minute before the body's mirror (`policies/acquainted.py`). Advantage over the frozen face = score of the
frozen face less that of the method, each executed and looked at again; kept = advantage on the bodies by that
on the twin. `--weights NAME=FILE` adds a transformer with other weights, e.g. one trained without
randomisation.
"""

from __future__ import annotations

import argparse
import json
import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from facetwin.cli.bench_body import ACQUAINTED, look_in_mirror
from facetwin.cli.bench_contest import Answer, answers, execute, look_bank, shipped_vae, spoken_poses
from facetwin.cli.bench_reference import make_ideals
from facetwin.cli.recapture import open_eye
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig
from facetwin.policies.action_transformer import ActionController, vae_hash
from facetwin.policies.lipsync_clips import people, spoken
from facetwin.policies.lipsync_score import BY_NAME, Counts, Shown, count, figure_values, resamples
from facetwin.policies.vae import Vae
from facetwin.twin.randomise import draw
from facetwin.twin.spec import RigSpec, load_rig

#: seeds of bodies begin here; training draws from small ones
UNSEEN = 90_000
SCORES = ("latent distance", "D-P", "closure - control, geometry", "closure - control, tracker")
METHODS = ("transformer", "transformer-refined", "transformer-acquainted", "transformer-speech", "inverse",
           "gradient", "frozen")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bodies", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument(
        "--weights",
        nargs="*",
        default=[],
        help="NAME=FILE of further transformers; with speech in NAME, from sound",
    )
    parser.add_argument("--vae", type=Path, help="other weights of the VAE")
    parser.add_argument("--data", type=Path, help="dataset of tracked people")
    parser.add_argument("--align", type=Path)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--languages", nargs="*", default=["en-us", "fr-fr"])
    parser.add_argument("--poses", type=int, default=20_000)
    parser.add_argument("--minute", type=int, default=1500, help="pictures before the mirror, 25 a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("LP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    spec, store = load_rig(), options.out / "takes"
    vae_file = options.vae or shipped_vae(spec)
    vae = Vae.load(vae_file)
    clips = people(options.data, options.align, options.clips) if options.data else []
    clips += spoken(options.languages)
    with ExitStack() as stack:
        ideals = make_ideals(clips, spec, vae, "tracker", store, stack, vae_hash(vae_file))
    bank = look_bank(spec, vae, options.poses, options.seed, store)
    names = list(dict.fromkeys([*options.methods, "frozen"]))
    told = answers([n for n in names if n != ACQUAINTED], ideals, spec, vae, bank, options.seed)
    if ACQUAINTED in names:  # at home there is nothing to learn
        told[ACQUAINTED] = (
            told.get("transformer-refined")
            or answers(["transformer-refined"], ideals, spec, vae, bank, options.seed)["transformer-refined"]
        )
    for text in options.weights:
        name, _, file = text.partition("=")
        inputs = "speech" if "speech" in name else "latents"
        other = ActionController.load(spec, file, inputs=inputs)
        told[name] = [Answer(other.commands(one.reference), float("nan")) for one in ideals]

    said = spoken_poses(spec) if ACQUAINTED in told else None

    def played(body: RigSpec | None, name: str) -> dict[str, list[Shown]]:
        with ExitStack() as stack:
            rig = stack.enter_context(SafetyLayer(SimRig(spec, body=body, renderer="fast")))
            eye = open_eye("tracker", rig, stack)
            rig.activate()
            facts = {"rig": name, "table": spec.hash, "body": (body or spec).hash, "landmarks": "tracker"}
            here = dict(told)
            if body is not None and said is not None:
                known = look_in_mirror(
                    rig, said, vae, "tracker", store, name=name, body=body.hash, pictures=options.minute
                )
                print(f"{name}: {known.known.told()}", flush=True)
                here |= answers([ACQUAINTED], ideals, spec, vae, bank, options.seed, body=known)
            return execute(
                rig, eye, here, ideals, vae, store / name, facts=facts, seed=options.seed, films=False
            )

    wanted = [one.wanted for one in ideals]

    def counted(shown: dict[str, list[Shown]]) -> dict[str, list[Counts]]:
        return {name: [count(a, b) for a, b in zip(takes, wanted)] for name, takes in shown.items()}

    home = counted(played(None, "twin"))
    away = []
    for k in range(options.bodies):
        body, _ = draw(spec, np.random.default_rng(UNSEEN + options.seed + k))
        away.append(counted(played(body, f"body-{k}")))
    result = {
        name: {score: kept(score, name, home, away, options.seed) for score in SCORES}
        for name in told
        if name != "frozen"
    }
    about = {"bodies": options.bodies, "clips": len(ideals), "seed": options.seed, "rig": spec.hash[:12]}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "transfer.json").write_text(json.dumps({**about, "methods": result}, indent=1) + "\n")
    if options.json:
        print(json.dumps({**about, "methods": result}))
        return
    print(f"{len(ideals)} clips on {options.bodies} unseen bodies, exact skin, seed {options.seed}")
    print(f"{'':<22}{'score':<30}{'twin':>9}{'bodies':>9}{'frozen':>9}{'frozen':>9}{'kept':>8}  95 %")
    print(f"{'':<52}{'':>9}{'':>9}{'twin':>9}{'bodies':>9}")
    for name, scores in result.items():
        for score, r in scores.items():
            ends = f"{r['kept_low']:.2f} to {r['kept_high']:.2f}"
            print(f"{name:<22}{score:<30}{r['twin']:>9.4f}{r['bodies']:>9.4f}{r['frozen_twin']:>9.4f}"
                  f"{r['frozen_bodies']:>9.4f}{r['kept']:>8.2f}  {ends}")  # fmt: skip


def kept(
    score: str, name: str, home: dict[str, list[Counts]], away: list[dict[str, list[Counts]]], seed: int
) -> dict[str, float]:
    """A score on the twin and, on average, on bodies, and the share of the advantage that is kept.

    The interval is of a bootstrap over bodies and clips, the same draws everywhere.
    """
    figure = BY_NAME[score]
    sign = 1.0 if figure.better == "low" else -1.0

    def at(rows: np.ndarray, places: np.ndarray) -> tuple[float, float, float, float]:
        near = [float(figure_values(home[one], figure, rows[None])[0]) for one in (name, "frozen")]
        far = [
            float(np.mean([figure_values(away[k][one], figure, rows[None])[0] for k in places]))
            for one in (name, "frozen")
        ]
        return near[0], far[0], near[1], far[1]

    def share(one: tuple[float, float, float, float]) -> float:
        advantage = one[2] - one[0]
        return (one[3] - one[1]) / advantage if sign * advantage > 0 else float("nan")

    clips, bodies = len(home[name]), len(away)
    whole = at(np.arange(clips), np.arange(bodies))
    which = np.random.default_rng([seed, 7]).integers(bodies, size=(500, bodies))
    found = [share(at(rows, places)) for rows, places in zip(resamples(clips, 500, seed), which)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    keys = ("twin", "bodies", "frozen_twin", "frozen_bodies")
    return {**dict(zip(keys, whole)), "kept": share(whole), "kept_low": float(low), "kept_high": float(high)}


if __name__ == "__main__":
    main()
