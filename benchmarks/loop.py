"""A 50 Hz loop on an emulated rig for minutes: missed deadlines, lateness, drift.

    python benchmarks/loop.py --rig emulated:maestro --minutes 10
    python benchmarks/loop.py --rig emulated:dynamixel --minutes 10 --no-camera

Each tick writes all motors through the safety layer, reads all servos, and takes the newest picture. A
deadline is missed when a tick's work is not done by the next one. Run it on an idle machine: the emulated
robot wants most of one core for its skin.
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import numpy as np

from facetwin.hardware.names import make_rig
from facetwin.hardware.pace import Pace
from facetwin.hardware.safety import SafetyLayer

RATE = 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rig", default="emulated:maestro")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--no-camera", action="store_true", help="wire and servos only")
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
    driver = np.zeros(ticks)
    pictures, last = 0, -np.inf
    with rig:
        rig.activate()
        rig.home(0)
        before = rig.inner.status.retries
        with Pace(rig.clock, RATE) as pace:
            for k in range(ticks):
                now = pace.wait()
                goal = np.clip(spec.rest + reach * np.sin(2 * np.pi * 0.5 * now + phase), 0, 1)
                used = time.thread_time()
                rig.write(goal)
                rig.read()
                driver[k] = time.thread_time() - used
                if looks:
                    frame = rig.capture()
                    pictures += frame.time > last
                    last = frame.time
            report = pace.report()
            took = report.late_last + (ticks - 1) / RATE
        retries = rig.inner.status.retries - before
        health = rig.inner.emulator.health() if hasattr(rig.inner, "emulator") else {}
        fault = rig.fault
    if hasattr(rig.inner, "emulator"):
        rig.inner.emulator.stop()
    result = {
        "rig": name, "minutes": options.minutes, "machine": f"{platform.machine()}, {platform.system()}",
        "ticks": report.ticks, "missed": report.missed, "share_missed": report.share_missed,
        "late_ms": {"p50": 1e3 * report.late_p50, "p99": 1e3 * report.late_p99, "max": 1e3 * report.late_max},
        "work_ms": {"p50": 1e3 * report.work_p50, "p99": 1e3 * report.work_p99, "max": 1e3 * report.work_max},
        "drift_ms": 1e3 * report.drift, "last_late_ms": 1e3 * report.late_last,
        "driver_cpu_ms": {f"p{p}": 1e3 * float(np.percentile(driver, p)) for p in (50, 99)},
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
          f"{result['emulator']}")  # fmt: skip


if __name__ == "__main__":
    main()
