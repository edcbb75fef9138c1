"""Every kind of fault on every emulated driver: what is sent, what is done, what the rig says.

    python benchmarks/faults.py             # 6 runs of each, 216 in all, ten minutes; --json for machines
    python benchmarks/faults.py --runs 200 --driver maestro --kind corrupt

One run: a rig behind its safety layer is driven at 50 Hz, one fault is switched on (its size and place drawn
from the run's seed), then cleared, and the rig has to move again. `wrong`: goals on the wire that nobody had
told the driver to send. `let through`: goals that servos took although nobody had sent them, because a
damaged frame had the right checksum (7 bits on a Maestro, 8 on Feetech servos, 16 on Dynamixels).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict

from facetwin.hardware.emulated import emulated_rig
from facetwin.hardware.emulated.kinds import KINDS
from facetwin.hardware.emulated.trial import TRIALS, Outcome, trial

HEAD = ("driver", "fault", "runs", "went on", "held", "released", "wrong", "let through", "crashed",
        "longest s", "moved again", "as it should")  # fmt: skip


def row(driver: str, kind: str, outcomes: list[Outcome]) -> tuple:
    states = Counter(o.state for o in outcomes)
    return (
        driver, kind, len(outcomes), states["active"], states["held"], states["open"],
        sum(o.wrong for o in outcomes), sum(o.strange for o in outcomes),
        sum(bool(o.crashed) for o in outcomes), round(max(o.longest for o in outcomes), 2),
        sum(o.recovered for o in outcomes), sum(not o.troubles for o in outcomes),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=6, help="of each kind on each driver")
    parser.add_argument("--driver", choices=[*KINDS], action="append")
    parser.add_argument("--kind", choices=TRIALS, action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    start, rows, all_of = time.time(), [], []
    if not options.json:
        print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    for driver in options.driver or KINDS:
        rig = emulated_rig(driver, camera=False, body=1 + options.seed)
        for kind in options.kind or TRIALS:
            outcomes = [trial(rig, kind, options.seed + k) for k in range(options.runs)]
            all_of += [{"seed": options.seed + k, **asdict(o)} for k, o in enumerate(outcomes)]
            rows.append(row(driver, kind, outcomes))
            if not options.json:
                print("| " + " | ".join(str(x) for x in rows[-1]) + " |", flush=True)
                for k, o in enumerate(outcomes):
                    for trouble in o.troubles:
                        print(f"    run {options.seed + k}: {trouble}; {o.state}: {o.reason}", flush=True)
        rig.emulator.stop()
    if options.json:
        print(json.dumps({"head": HEAD, "rows": rows, "runs": all_of}, indent=1))
    else:
        good = sum(r[-1] for r in rows)
        print(f"\n{good} of {sum(r[2] for r in rows)} as they should be, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
