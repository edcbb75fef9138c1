"""A 50 Hz loop on an emulated rig for minutes: missed deadlines, lateness, drift.

    python benchmarks/loop.py --rig emulated:maestro --minutes 10
    python benchmarks/loop.py --rig emulated:dynamixel --minutes 10 --no-camera

Each tick writes all motors through the safety layer, reads all servos, and takes the newest picture. A
deadline is missed when a tick's work is not done by the next one. Beside it a thread a core notes when the
machine itself gave no core (a virtual machine whose host takes them away), and deadlines missed meanwhile
are told apart. Where real-time priority is allowed (`facetwin.hardware.priority`) other programs matter less,
but the kernel's own threads, which carry a pty's bytes, are ordinary ones: an idle machine is best.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time

import numpy as np
from stalls import Stalls

from facetwin.hardware.names import make_rig
from facetwin.hardware.pace import Pace
from facetwin.hardware.safety import SafetyLayer

RATE = 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rig", default="emulated:maestro")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--no-camera", action="store_true", help="wire and servos only")
    parser.add_argument("--ordinary", action="store_true", help="do not ask for real-time priority")
    parser.add_argument("--may-move", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    name = options.rig
    if options.no_camera and name.startswith("emulated:") and "camera=" not in name:
        name += ("&" if "?" in name else "?") + "camera=false"
    rig = SafetyLayer(make_rig(name))
    if not (rig.capabilities.harmless or options.may_move):
        raise SystemExit(f"{name} moves: clear the space around it, then --may-move")
    spec, looks = rig.spec, rig.capabilities.camera is not None
    ticks = round(options.minutes * 60 * RATE)
    phase = np.linspace(0, 2 * np.pi, spec.size, endpoint=False)
    reach = 0.15 * np.minimum(spec.rest, 1 - spec.rest) + 0.02
    driver, spent, begun = np.zeros(ticks), np.zeros((ticks, 3)), np.zeros(ticks)
    pictures, last = 0, -np.inf
    with rig, Stalls() as stalls:
        rig.activate()
        rig.home(0)
        before = rig.inner.status.retries
        with Pace(rig.clock, RATE, urgent=not options.ordinary) as pace:
            for k in range(ticks):
                now = pace.wait()
                goal = np.clip(spec.rest + reach * np.sin(2 * np.pi * 0.5 * now + phase), 0, 1)
                used, at = time.thread_time(), time.monotonic()
                begun[k] = at
                rig.write(goal)
                spent[k, 0] = time.monotonic() - at
                rig.read()
                spent[k, 1] = time.monotonic() - at - spent[k, 0]
                driver[k] = time.thread_time() - used
                if looks:
                    frame = rig.capture()
                    pictures += frame.time > last
                    last = frame.time
                spent[k, 2] = time.monotonic() - at - spent[k, :2].sum()
            report = pace.report()
            took = report.late_last + (ticks - 1) / RATE
        retries = rig.inner.status.retries - before
        health = rig.inner.emulator.health() if hasattr(rig.inner, "emulator") else {}
        fault = rig.fault
    if hasattr(rig.inner, "emulator"):
        rig.inner.emulator.stop()
    due = np.array([pace.due(k) for k in range(ticks)])
    done = begun + spent.sum(1)
    over = np.flatnonzero(done > due + 1 / RATE)
    still = [k for k in over if stalls.during(due[k], done[k])]
    worst = spent.sum(1).argsort()[::-1][:5]
    result = {
        "rig": name, "minutes": options.minutes, "machine": f"{platform.machine()}, {platform.system()}",
        "ticks": report.ticks, "missed": report.missed, "share_missed": report.share_missed,
        "late_ms": {"p50": 1e3 * report.late_p50, "p99": 1e3 * report.late_p99, "max": 1e3 * report.late_max},
        "work_ms": {"p50": 1e3 * report.work_p50, "p99": 1e3 * report.work_p99, "max": 1e3 * report.work_max},
        "priority": report.priority,
        "machine_stood_still": None if stalls.spans is None else {
            "times": len(stalls.spans),
            "longest_ms": 1e3 * max((b - a for a, b in stalls.spans), default=0.0),
            "missed_meanwhile": len(still), "missed_otherwise": len(over) - len(still),
        },
        "drift_ms": 1e3 * report.drift, "last_late_ms": 1e3 * report.late_last,
        "driver_cpu_ms": {f"p{p}": 1e3 * float(np.percentile(driver, p)) for p in (50, 99)},
        "load": os.getloadavg()[1],
        "longest": [{"tick": int(k), **dict(zip(("write_ms", "read_ms", "picture_ms"), 1e3 * spent[k]))}
                    for k in worst],
        "retries": retries, "fault": fault, "pictures_per_s": pictures / max(took, 1e-9),
        "emulator": {k: health[k] for k in ("bad", "strange", "late") if k in health},
    }  # fmt: skip
    if options.json:
        print(json.dumps(result))
        return
    print(f"{name}, {options.minutes:g} min: {report}")
    print(f"the last tick began {result['last_late_ms']:.2f} ms after its deadline")
    print(f"write + read, CPU of this thread: p50 {result['driver_cpu_ms']['p50']:.2f}, "
          f"p99 {result['driver_cpu_ms']['p99']:.2f} ms; {retries} retries; "
          f"{result['pictures_per_s']:.1f} pictures/s; {fault or 'no fault'}; "
          f"{result['emulator']}; load of the machine {result['load']:.1f}")  # fmt: skip
    if (stood := result["machine_stood_still"]) is not None:
        print(
            f"the machine stood still {stood['times']} times, at most {stood['longest_ms']:.0f} ms; "
            f"deadlines missed meanwhile {stood['missed_meanwhile']}, otherwise {stood['missed_otherwise']}"
        )
    for tick in result["longest"]:
        print(
            "tick {tick}: write {write_ms:.1f}, read {read_ms:.1f}, picture {picture_ms:.1f} ms".format(
                **tick
            )
        )


if __name__ == "__main__":
    main()
