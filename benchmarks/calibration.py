"""Calibration of rigs that are not what their table says: error of the twin after over before, held out.

    python benchmarks/calibration.py                        # three hidden twins, one hidden PyBullet body
    python benchmarks/calibration.py --sim 1 --bullet 0     # six minutes of a core

A hidden rig is face26 put together badly: each horn on another tooth (trim within .12 rad), linkages of
another length (scale .8 to 1.2), the rest drawn from the table's own ranges. It is excited and recorded as
`facetwin rig excite` does, calibrated from the shipped table as `facetwin rig calibrate` does, and neither
is told what it is. The score is of held-out pictures: the twin by the table before and after, played the
commands that the rig was sent and seen by the same tracker, against what was seen of the rig; u is the
distance of the outer eye corners.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import numpy as np

from facetwin.cli.main import main as facetwin
from facetwin.twin.calibration.rig_file import source_of, write_rig
from facetwin.twin.randomise import draw
from facetwin.twin.spec import load_rig
from facetwin.twin.spec_change import to_tables

SCALE, TRIM = (0.8, 1.2), 0.12  # of a rig put together badly; rad
SECONDS, FPS = {"sim": 70, "bullet": 58}, {"sim": 10, "bullet": 5}


def hide(folder: Path, seed: int, time: bool = True) -> Path:
    """A rig table [file] that nobody is shown; without `time` its skin takes none."""
    spec, rng = load_rig(), np.random.default_rng(seed)
    _, drawn = draw(spec, rng)
    for motor in spec.motors:
        drawn[f"motor.{motor.name}.scale"] = float(rng.uniform(*SCALE))
        drawn[f"motor.{motor.name}.trim"] = float(rng.uniform(-TRIM, TRIM))
    if not time:
        drawn["skin_time.creep_share"] = 0.0
    was, now = (dict(numbers(to_tables({f.name: getattr(s, f.name) for f in fields(s)})))
                for s in (spec, spec.with_(drawn)))  # fmt: skip
    file = folder / f"hidden_{seed}.toml"
    write_rig(file, source_of("face26"), {key: value for key, value in now.items() if value != was.get(key)})
    return file


def numbers(table: object, key: str = "") -> Iterator[tuple[str, float]]:
    """Dotted keys of all numbers in a table, each motor and anchor by its name."""
    if isinstance(table, dict):
        for name, value in table.items():
            if name != "ranges":
                yield from numbers(value, f"{key}.{name}" if key else name)
    elif isinstance(table, (list, tuple)):
        for k, value in enumerate(table):
            yield from numbers(value, f"{key}.{value['name'] if isinstance(value, dict) else k}")
    elif isinstance(table, (int, float)) and not isinstance(table, bool):
        yield key, float(table)


def calibrate(kind: str, seed: int, keep: Path | None = None) -> dict:
    """Record and calibrate one hidden rig; what `rig calibrate --json` says. `keep` gets all files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if keep is None else keep / f"{kind}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        hidden = hide(folder, seed, time=kind == "sim")
        excite = [
            "rig",
            "excite",
            f"{kind}:?body={hidden}",
            "--out",
            str(folder / "seen"),
            "--seed",
            str(seed),
        ]
        _ask([*excite, "--seconds", str(SECONDS[kind]), "--fps", str(FPS[kind])])
        said = _ask(["rig", "calibrate", str(folder / "seen"), "--out", str(folder / "found")])
        found = json.loads(said)
    return {"rig": kind, "seed": seed, "cpu_s": found["cpu_s"], **found["closed"]}


def _ask(words: list[str]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = facetwin([*words, "--json"])
    if code:
        raise SystemExit(f"facetwin {' '.join(words)}: exit code {code}")
    return out.getvalue()


def main() -> None:
    """Hide, calibrate, print the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ask.add_argument("--sim", type=int, default=3, help="hidden twins")
    ask.add_argument("--bullet", type=int, default=1, help="hidden PyBullet bodies, half an hour each")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--keep", type=Path, help="folder for hidden rigs, recordings and reports")
    ask.add_argument("--json", type=Path, help="where to write the figures")
    given = ask.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores; facetwin {version('facetwin')}, "
          f"torch {version('torch')}, pybullet {version('pybullet')}")  # fmt: skip
    print("| rig | seed | pictures | before, u | after, u | after / before | asked | CPU s to calibrate |")
    print("|" + "--|" * 8)
    rows = []
    for kind, count, goal in (("sim", given.sim, 0.35), ("bullet", given.bullet, 0.6)):
        for seed in range(given.seed, given.seed + count):
            row = calibrate(kind, seed, given.keep)
            rows.append(row)
            print(f"| {kind}: | {seed} | {row['pictures']} | {row['before_u']:.4f} | {row['after_u']:.4f} | "
                  f"{row['ratio']:.3f} | {goal} | {row['cpu_s']:.0f} |", flush=True)  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
