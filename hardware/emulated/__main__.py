"""An emulated robot by itself: ``python -m facetwin.hardware.emulated dynamixel --body 3``.

It prints the port and the eye to give to any program, and stays until Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time

from facetwin.hardware.emulated.kinds import KINDS
from facetwin.hardware.emulated.rig import emulated_rig
from facetwin.twin.errors import FaceTwinError


def main() -> int:
    """Run until interrupted; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m facetwin.hardware.emulated",
                                     description="an emulated robot on a port of its own")  # fmt: skip
    parser.add_argument("kind", choices=[*KINDS])
    parser.add_argument("--body", type=int, default=1, help="seed of the hidden body; 0: as the table says")
    parser.add_argument("--baud", type=int, default=None)
    parser.add_argument("--table", default="face26")
    parser.add_argument("--size", type=int, default=None, help="of the pictures, px")
    parser.add_argument("--solver", default="exact")
    parser.add_argument("--no-camera", action="store_true", help="wire and servos alone: starts in a second")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        rig = emulated_rig(asked.kind, body=asked.body, baud=asked.baud, table=asked.table, size=asked.size,
                           solver=asked.solver, camera=not asked.no_camera)  # fmt: skip
        em = rig.emulator
        if not asked.no_camera:
            print("building the body, up to a minute ...", file=sys.stderr, flush=True)
        em.start()
    except FaceTwinError as error:
        print(error, file=sys.stderr)
        return 1
    options = [f"baud={rig.baud}", *(f"{k}={str(v).lower()}" for k, v in KINDS[asked.kind].options.items())]
    if em.shape is not None:
        options.append(f"camera=emulator:{em.eye_path}%3Fwidth={em.shape[1]}%26height={em.shape[0]}")
    print(f"{asked.kind}:{em.path}?{'&'.join(options)}", flush=True)
    try:
        while em.running:
            time.sleep(0.5)
        print("the robot's processes ended", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        em.stop()


if __name__ == "__main__":
    sys.exit(main())
