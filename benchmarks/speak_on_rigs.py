"""The same `speak` on the twin and on emulated rigs: scores side by side, nothing changed but the name.

    python benchmarks/speak_on_rigs.py
    python benchmarks/speak_on_rigs.py --clips DATA/grid_s1/val --align DATA/grid_s1/align --limit 5
    python benchmarks/speak_on_rigs.py --table out/compared/calibrated/face26.toml

Each rig is run as `facetwin speak FILE --rig NAME` in a process of its own, one after the other. The last
columns are shares of the twin's opening correlation; what is asked is .8. With --table the emulated rigs go
by another table, such as one that `facetwin rig compare --calibrate` wrote.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

RIGS = ("sim:", "emulated:maestro", "emulated:dynamixel")
FIGURES = ("opening correlation", "D-P", "offset", "closure", "control", "jerk")


def speak(file: Path, rig: str, out: Path, align: Path | None, size: int) -> dict:
    words = ["speak", str(file), "--rig", rig, "--out", str(out), "--json", "--size", str(size)]
    words += ["--align", str(align)] if align is not None else []
    done = subprocess.run(
        [sys.executable, "-m", "facetwin.cli.main", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{rig}: {done.stderr.strip().splitlines()[-1] if done.stderr else done.stdout}")
    for line in done.stderr.splitlines():
        if "late" in line:
            print(f"{rig}: {line}", file=sys.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rigs", nargs="+", default=list(RIGS), help="the first one is the twin")
    parser.add_argument("--clips", type=Path, help="folder of videos to speak, beside the sample")
    parser.add_argument("--align", type=Path, help="folder of their word alignments")
    parser.add_argument("--limit", type=int, default=5)
    parser.add_argument("--table", type=Path, help="rig table for the emulated rigs")
    parser.add_argument("--size", type=int, default=256, help="side of the twin's pictures, px")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sample = Path(__file__).resolve().parents[1] / "assets" / "speech" / "sample.wav"
    files: list[tuple[Path, Path | None]] = [(sample, None)]
    if options.clips is not None:
        for clip in sorted(options.clips.glob("*.mp4"))[: options.limit]:
            known = options.align / f"{clip.stem}.align" if options.align is not None else None
            files.append((clip, known if known is not None and known.exists() else None))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for file, align in files:
            for rig in options.rigs:
                name = rig
                if options.table is not None and rig.startswith("emulated:"):
                    name += ("&" if "?" in rig else "?") + f"table={options.table}"
                result = speak(file, name, Path(folder) / "out", align, options.size)
                seen = result["scores"]["seen in the mirror"]
                rows.append({"file": file.name, "rig": rig, "face_lost": result["face_lost"],
                             "worst_picture_ms": result["worst_picture_ms"],
                             **{k: seen.get(k) for k in FIGURES}})  # fmt: skip
                if not options.json:
                    print(line(rows[-1]), flush=True)
    shares = {}
    for rig in options.rigs[1:]:
        twin = {r["file"]: r["opening correlation"] for r in rows if r["rig"] == options.rigs[0]}
        own = {r["file"]: r["opening correlation"] for r in rows if r["rig"] == rig}
        each = [own[f] / twin[f] for f in twin if twin[f]]
        shares[rig] = {"sample": each[0], "mean": float(np.mean(each)), "worst": float(np.min(each))}
    if options.json:
        print(json.dumps({"rows": rows, "share_of_twin": shares}))
        return
    print()
    for rig, share in shares.items():
        print(f"{rig:<22} opening correlation / twin's: sample {share['sample']:.3f}, "
              f"mean of {len(files)} {share['mean']:.3f}, worst {share['worst']:.3f}")  # fmt: skip


def line(row: dict) -> str:
    figures = (f"{k} {row[k]:.4g}" if row[k] is not None else f"{k} –" for k in FIGURES)
    return f"{row['file']:<14} {row['rig']:<22} " + "  ".join(figures) + f"  lost {row['face_lost']}"


if __name__ == "__main__":
    main()
