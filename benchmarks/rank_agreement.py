"""Whether the twin ranks eight speech controllers as emulated rigs do: Pearson's r and MMRV.

    python benchmarks/rank_agreement.py --rigs emulated:maestro emulated:dynamixel --bodies 1 2 3

The same commands are played on the twin and on each rig with each hidden body. r is near 1 and the mean
maximum rank violation (SIMPLER, CoRL 2024) near 0 where the twin may choose between controllers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from facetwin.assets import path as asset
from facetwin.cli.compare_controllers import agreement, play_contest, prepare, scores
from facetwin.cli.watcher import Watcher
from facetwin.hardware.names import make_rig
from facetwin.hardware.safety import SafetyLayer
from facetwin.hardware.sim import SimRig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rigs", nargs="+", default=["emulated:maestro", "emulated:dynamixel"])
    parser.add_argument("--bodies", nargs="+", type=int, default=[1])
    parser.add_argument("--sound", type=Path)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    out: dict = {"seconds": options.seconds, "seed": options.seed, "rigs": {}}
    own, contest = None, None
    for name in options.rigs:
        for body in options.bodies:
            full = name + ("&" if "?" in name else "?") + f"body={body}"
            rig = SafetyLayer(make_rig(full))
            if not rig.capabilities.harmless:
                raise SystemExit(f"{full}: only for simulated and emulated rigs")
            if contest is None:
                sound = options.sound or asset("speech", "sample.wav")
                contest = prepare(rig.spec, sound, options.seconds, seed=options.seed)
                high, wide, _ = rig.capabilities.camera
                with Watcher() as watcher, SafetyLayer(SimRig(rig.spec, size=(wide, high))) as twin:
                    twin.activate()
                    own = scores(contest, play_contest(twin, watcher, contest, name="twin"))
            with Watcher(gentle=True) as watcher, rig:
                rig.activate()
                seen = play_contest(rig, watcher, contest, name=full)
            if hasattr(rig.inner, "emulator"):
                rig.inner.emulator.stop()
            found = agreement(own, scores(contest, seen))
            out["rigs"][full] = found
            if not options.json:
                for metric, r in found.items():
                    pearson = "–" if r["pearson"] is None else f"{r['pearson']:.3f}"
                    print(f"{full:<28} {metric:<22} r {pearson}  MMRV {r['mmrv']:.4f} {r['unit']} "
                          f"of {r['spread_on_rig']:.4f}")  # fmt: skip
                    for key, s in r["scores"].items():
                        print(f"    {key:<24} twin {s['twin']:8.4f}  rig {s['rig']:8.4f}")
    if options.json:
        print(json.dumps(out))


if __name__ == "__main__":
    main()
