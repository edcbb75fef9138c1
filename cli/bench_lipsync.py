"""``facetwin bench lipsync``: ways from a reference video to commands, executed, seen again and scored.

clips → ideal robot saying them (the reference) → commands of each method → rig → mirror → landmarks and
latents → one table, one report, one video. Takes are kept in OUT/takes, so that what was cut off goes on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from facetwin.twin.errors import UsageError


@dataclass
class BenchLipsync:
    """Compare ways of lip sync on a rig: executed, seen in the mirror again, and scored against a reference.

    The reference is the ideal robot: the twin's skin moved without motors to what a person or the speech
    model does. Needs no data; with --data also tracked people are followed.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for table, report, video and takes; a run that was cut off goes on in it."""
    rig: str = "sim:?solver=fast&renderer=fast"
    """Rig that speaks: sim:, emulated:maestro, a face file; facetwin rig list shows them."""
    data: Path | None = None
    """Dataset of tracked people (facetwin track) that training did not see."""
    align: Path | None = None
    """Folder of GRID word alignments of --data, NAME.align; without it people say nothing of closures."""
    clips: int = 8
    """How many clips of --data."""
    languages: tuple[str, ...] = ("en-us", "fr-fr", "de", "es", "it", "ko", "ar", "ru", "cmn", "ja")
    """Languages of the synthetic speaker."""
    sentences: int = 1
    """Sentences in each of them, up to 13."""
    song: bool = True
    """A sung line, too."""
    methods: tuple[str, ...] = (
        "transformer", "transformer-refined", "transformer-speech", "inverse", "gradient", "amplitude",
        "nearest-landmarks", "nearest-latents", "random", "frozen", "frozen-landmarks", "late-1", "late-15",
    )  # fmt: skip
    """Which ways; the others are left out. One more, transformer-acquainted, first moves the rig for a minute
    before its mirror."""
    weights: tuple[str, ...] = ()
    """Other weights than those that ship: vae=FILE, transformer=FILE,
    transformer-speech=FILE, image-self=FILE."""
    landmarks: str = "tracker"
    """How pictures are looked at: tracker, or geometry where the rig knows its skin."""
    poses: int = 20_000
    """Size of the babbled set of the nearest neighbours, random and frozen face."""
    draws: int = 2000
    """Of the bootstrap over clips."""
    seed: int = 0
    """Of babble, camera noise and bootstrap."""
    mark: bool = True
    """Write a small "synthetic" into the video."""
    may_move: bool = False
    """Allow a rig that something can happen to."""
    json: bool = False
    """Print one JSON object."""


def run(options: BenchLipsync) -> int:
    """Execute everything, score, and write table, report and video."""
    _check(options)
    os.environ.setdefault("LP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
    import torch

    from facetwin.cli.bench_body import ACQUAINTED
    from facetwin.cli.bench_contest import (
        answers,
        execute,
        look_bank,
        read_weights,
        shipped_vae,
        with_late,
    )  # fmt: skip
    from facetwin.cli.bench_reference import make_ideals
    from facetwin.cli.bench_report import write_bench
    from facetwin.cli.bench_tables import print_bench
    from facetwin.cli.bench_video import side_by_side
    from facetwin.cli.recapture import open_eye
    from facetwin.policies.action_transformer import vae_hash
    from facetwin.policies.lipsync_verdict import all_counts, by_group, table, verdicts
    from facetwin.policies.vae import Vae

    torch.set_num_threads(1)
    out, store = options.out, options.out / "takes"
    began = time.monotonic()
    with ExitStack() as stack:
        rig = _rig(options, stack)
        other = read_weights(options.weights)
        vae_file = other.pop("vae", None) or shipped_vae(rig.spec)
        vae = Vae.load(vae_file)
        clips = _clips(options)
        store.mkdir(parents=True, exist_ok=True)
        ideals = make_ideals(clips, rig.spec, vae, options.landmarks, store, stack, vae_hash(vae_file))
        bank = look_bank(rig.spec, vae, options.poses, options.seed, store)
        eye = open_eye(options.landmarks, rig, stack)
        body = _body(options, rig, vae, other, store) if ACQUAINTED in options.methods else None
        told = answers(options.methods, ideals, rig.spec, vae, bank, options.seed, other, body)
        rig.activate()
        facts = {"rig": options.rig, "table": rig.spec.hash, "landmarks": options.landmarks}
        shown = execute(rig, eye, told, ideals, vae, store, facts=facts, seed=options.seed)
    wanted = [one.wanted for one in ideals]
    sums = all_counts(with_late(shown, wanted, options.methods), wanted)
    how = {"draws": options.draws, "seed": options.seed}
    whole = table(sums, **how)
    groups = by_group(sums, [clip.group for clip in clips], **how)
    found = verdicts(sums, whole, draws=options.draws, seed=options.seed)
    about = _about(options, rig, vae, clips, time.monotonic() - began)
    result = _plain(about, whole, groups, found)
    _write_json(out / "table.json", result)
    film = side_by_side(out / "lipsync.mp4", store, ideals, whole, mark=options.mark)
    write_bench(out / "report.html", about, whole, groups, found, ideals, shown, store, film)
    files = [str(out / name) for name in ("table.json", "report.html", "lipsync.mp4")]
    if options.json:
        print(json.dumps({**result, "files": files}, ensure_ascii=False))
    else:
        print_bench(about, whole, groups, found)
        print("\n".join(files))
    return 0


def _check(options: BenchLipsync) -> None:
    from facetwin.cli.bench_contest import check_methods, read_weights
    from facetwin.cli.recapture import WAYS

    check_methods(options.methods)
    read_weights(options.weights)
    if options.landmarks not in WAYS:
        raise UsageError("no such way of looking", where="--landmarks", found=options.landmarks,
                         expected=" or ".join(WAYS))  # fmt: skip
    for name, least in (("clips", 0), ("sentences", 1), ("poses", 1), ("draws", 100), ("seed", 0)):
        if getattr(options, name) < least:
            raise UsageError(f"no such {name}", where=f"--{name}", found=getattr(options, name),
                             expected=f"{least} or more")  # fmt: skip
    if options.out.exists() and not options.out.is_dir():
        raise UsageError("is a file", where=options.out, expected="a folder", hint="another --out")


def _rig(options: BenchLipsync, stack: ExitStack) -> Any:
    """The rig, behind its safety layer, open and not yet moving."""
    from facetwin.hardware.names import make_rig
    from facetwin.hardware.safety import SafetyLayer

    bare = make_rig(options.rig)
    if bare.capabilities.camera is None:
        raise UsageError("this rig has no camera, so nothing can be seen or scored", where=options.rig)
    if not (bare.capabilities.harmless or options.may_move):
        raise UsageError("this moves the rig", where=options.rig,
                         hint="clear the space around it, then --may-move")  # fmt: skip
    return stack.enter_context(SafetyLayer(bare))


def _body(options: BenchLipsync, rig: Any, vae: Any, weights: dict[str, Path], store: Path) -> Any:
    """What the rig shows of itself in a minute before its mirror."""
    from facetwin.cli.bench_body import look_in_mirror
    from facetwin.cli.bench_contest import spoken_poses

    rig.activate()
    body = look_in_mirror(
        rig, spoken_poses(rig.spec), vae, options.landmarks, store, name=options.rig.split(":")[0],
        body=options.rig, image=weights.get("image-self"), start=weights.get("transformer"),
    )  # fmt: skip
    rig.release()
    print(f"facetwin: {body.known.told()}", file=sys.stderr)
    return body


def _clips(options: BenchLipsync) -> list[Any]:
    """Everything that is said, people first."""
    from facetwin.policies.lipsync_clips import people, spoken, sung

    clips = [] if options.data is None else people(options.data, options.align, options.clips)
    clips += spoken(options.languages, options.sentences)
    clips += sung() if options.song else []
    if not clips:
        raise UsageError("nothing to say", where="bench lipsync",
                         hint="--languages en-us, --song, or --data with --clips")  # fmt: skip
    return clips


def _about(options: BenchLipsync, rig: Any, vae: Any, clips: list[Any], took: float) -> dict[str, Any]:
    """What was done, for table and report."""
    return {
        "rig": f"{options.rig}, {rig.spec.name}, table {rig.spec.hash[:12]}",
        "looked at by": options.landmarks,
        "clips": len(clips),
        "pictures": sum(map(len, clips)),
        "babbled set": options.poses,
        "bootstrap": f"{options.draws} draws of clips, 95 % percentile intervals, paired",
        "latents": f"{int(vae.active.sum())} active of 16, in standard deviations over babble",
        "unit": "u, distance of the outer eye corners",
        "seed": options.seed,
        "minutes": round(took / 60, 1),
    }


def _plain(about: Any, whole: Any, groups: Any, found: Any) -> dict[str, Any]:
    """Everything for machines; what is not known is null."""

    from facetwin.policies.lipsync_score import FIGURES

    def figures(row: Any) -> dict[str, Any]:
        return {name: _three(one) for name, one in row.items()}

    return {
        **about,
        "figures": {f.name: {"unit": f.unit, "better": f.better} for f in FIGURES},
        "methods": {name: figures(row) for name, row in whole.items()},
        "groups": {g: {name: figures(row) for name, row in each.items()} for g, each in groups.items()},
        "verdicts": [asdict(one) for one in found],
    }


def _three(one: Any) -> list[float | None]:
    """Value, and the ends of its interval."""
    return [round(float(v), 6) if np.isfinite(v) else None for v in (one.value, one.low, one.high)]


def _write_json(path: Path, result: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    part.replace(path)
