"""How deep anything goes into anything in babbled poses, and what is left open when lips are commanded shut.

    python benchmarks/contact_depth.py            # 1,000 poses, two minutes of a core; --json for machines

Poses of the mixed babbler, projected by the couplings, each from the last as the babbling face moves.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice

import numpy as np

from facetwin.policies.babble import key_pose, mixed
from facetwin.twin.couplings import Couplings
from facetwin.twin.spec import load_rig
from facetwin.twin.twin import FaceTwin


def main() -> None:
    """Solve, print the deepest of each pair."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("--poses", type=int, default=1000)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--json", action="store_true")
    given = ask.parse_args()
    spec = load_rig()
    rules = Couplings(spec)
    deepest: dict[str, float] = {}
    worst, failed = [], 0
    with FaceTwin(spec) as twin:
        shut = twin.move(key_pose(spec, "press"), fresh=True).gap
        for k, command in enumerate(islice(mixed(spec, np.random.default_rng(given.seed)), given.poses)):
            report = twin.move(rules.project(command)).report
            assert report is not None
            failed += not report.converged
            worst.append(max(report.penetration, *report.depths.values(), 0.0))
            for pair, depth in {"lips": report.penetration, **report.depths}.items():
                deepest[pair] = max(deepest.get(pair, 0.0), depth)
            if k % 50 == 49:
                print(f"{k + 1} of {given.poses}, deepest {1e3 * max(worst):.3f} mm", file=sys.stderr)
    found = {
        "poses": given.poses,
        "seed": given.seed,
        "deepest_mm": {pair: 1e3 * depth for pair, depth in deepest.items()},
        "share_over_0.2_mm": float(np.mean(np.array(worst) > 2e-4)),
        "not_converged": failed,
        "gap_when_pressed_mm": 1e3 * shut,
    }
    if given.json:
        print(json.dumps(found))
        return
    print(f"{given.poses} poses, seed {given.seed}: {failed} did not converge; deepest, mm:")
    for pair, depth in found["deepest_mm"].items():
        print(f"  {pair:14} {depth:.3f}")
    print(f"poses with anything deeper than .2 mm: {100 * found['share_over_0.2_mm']:.1f} %")
    print(f"gap with the lips pressed: {found['gap_when_pressed_mm']:.2f} mm")


if __name__ == "__main__":
    main()
